package main

import (
	"cmp"
	"errors"
	"log/slog"
	"slices"
	"strings"

	"github.com/kpush/kpush/config"
	"github.com/kpush/kpush/kafka/librdkafka"
	"github.com/kpush/kpush/offsets"
)

// withOthers is an error that ends a start, and what would end the next one: a volume that cannot be used, properties that librdkafka does not
// take. Where the variables that these come from are wrong themselves, or misspelt, that is all that is said of them.
func withOthers(cfg *config.Config, err error) error {
	all := []error{err}
	for _, more := range append(untaken(cfg, err), unusable(cfg, err)) {
		if more != nil && !slices.ContainsFunc(all, func(e error) bool { return e.Error() == more.Error() }) {
			all = append(all, more)
		}
	}
	return configError{errors.Join(all...)}
}

// unusable is why the volume that a start needs cannot be used.
func unusable(cfg *config.Config, err error) error {
	keeps := cfg.Guarantee != 1 && !cfg.PublishOnly()
	skips := cfg.CanSkip && !cfg.PublishOnly()
	if !keeps && !skips && !spools(cfg) || about(err, "KPUSH_OFFSETS_DIR") {
		return nil
	}
	_, err = offsets.Look(cfg.OffsetsDir, keeps)
	return err
}

// untaken is why librdkafka makes no clients. These have no broker, and so connect to none.
func untaken(cfg *config.Config, err error) (all []error) {
	if about(err, "KPUSH_SECURITY_", "KPUSH_SASL_", "KPUSH_SSL_", "KPUSH_CONSUMER_CONF", "KPUSH_PRODUCER_CONF") {
		return nil
	}
	log, k := slog.New(slog.DiscardHandler), producing(cfg)
	delete(k.Properties, "bootstrap.servers")
	if p, err := librdkafka.NewProducer(k, log); err == nil {
		p.Close()
	} else {
		all = append(all, err)
	}
	if cfg.PublishOnly() {
		return all
	}
	k = client(cfg, "")
	k.Fresh, k.Group = nil, cmp.Or(k.Group, "none")
	delete(k.Properties, "bootstrap.servers")
	if c, err := librdkafka.New(k, log); err == nil {
		_ = c.Close() // of a client that has joined nothing
	} else {
		all = append(all, err)
	}
	return all
}

// about tells whether an error speaks of a variable whose name begins so.
func about(err error, names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return strings.Contains(err.Error(), name) })
}
