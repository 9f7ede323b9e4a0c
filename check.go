package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/kpush/kpush/api"
	"github.com/kpush/kpush/config"
	"github.com/kpush/kpush/forwarder"
	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/kafka/librdkafka"
	"github.com/kpush/kpush/offsets"
	"github.com/kpush/kpush/publisher/spool"
)

// examine is -check: the effective configuration, what of it has no effect, the volume, the service, and what Kafka says. It looks at all of
// them, whatever one of them is like; its error has the start's sentence and exit code. A service that does not answer is no error: it
// may come later, and so may the end of the process that has the volume.
func examine(ctx context.Context, cfg *config.Config, w io.Writer) error {
	for _, a := range cfg.Effective() {
		fmt.Fprintf(w, "%s=%s\n", a.Key, a.Value)
	}
	fmt.Fprintln(w)
	for _, sentence := range idle(cfg) {
		fmt.Fprintln(w, "warning:", sentence)
	}
	if cfg.PublishOnly() {
		return errors.Join(examineSpool(cfg, w), examineProducer(ctx, cfg, w))
	}
	volume := errors.Join(examineVolume(ctx, cfg, w), examineSpool(cfg, w))
	service := examineService(ctx, cfg, w)
	fmt.Fprintln(w)
	return errors.Join(volume, service, examineProducer(ctx, cfg, w), examineKafka(ctx, cfg, w))
}

// examineProducer looks at the producer's properties, and, where nothing is consumed, whether a broker answers.
func examineProducer(ctx context.Context, cfg *config.Config, w io.Writer) error {
	k := producing(cfg)
	p, err := librdkafka.NewProducer(k, slog.New(slog.DiscardHandler))
	if err != nil {
		return configError{err}
	}
	p.Close()
	if !cfg.PublishOnly() {
		return nil
	}
	cluster, err := librdkafka.NewCluster(k)
	if err != nil {
		return configError{err}
	}
	defer cluster.Close()
	ctx, end := context.WithTimeout(ctx, reachTime)
	defer end()
	id, err := cluster.ID(ctx)
	if err != nil {
		return fmt.Errorf("no broker at %s: %w", k.Properties["bootstrap.servers"], err)
	}
	fmt.Fprintf(w, "publish only\ncluster %s\n\nderived limits\n  memory to plan for: %d MiB\n", id, (idleMost+publishMemory(cfg))>>20)
	return nil
}

// examineVolume looks at what a start would open, and asks the process that has it how it is: that may wait for what only a member of the
// group is told. Guarantee 1 keeps no file: it needs the volume for the skip log, from its first line on.
func examineVolume(ctx context.Context, cfg *config.Config, w io.Writer) error {
	keeps := cfg.Guarantee != 1
	v, err := offsets.Look(cfg.OffsetsDir, keeps)
	switch {
	case err != nil && !keeps && !cfg.CanSkip && !spools(cfg):
		fmt.Fprintf(w, "warning: nothing could be skipped, by you or by the service: %v\n", err)
	case err != nil:
		return configError{err}
	default:
		fmt.Fprintf(w, "volume %s: %s\n", cfg.OffsetsDir, v)
		if v.Holder == "" {
			break
		}
		if said, err := api.Probe(ctx, cfg.HealthAddr, offsets.VolumeOf(cfg.OffsetsDir)); err != nil {
			fmt.Fprintf(w, "warning: the kpush that runs: %v\n", err)
		} else {
			fmt.Fprintf(w, "the kpush that runs: %s\n", said)
		}
	}
	for _, log := range []struct{ name, without string }{
		{"skipped.jsonl", "nothing can be skipped, by you or by the service"}, {"audit.jsonl", "no command is carried out"},
	} {
		f, err := os.OpenFile(filepath.Join(cfg.OffsetsDir, log.name), os.O_WRONLY|os.O_APPEND, 0)
		if err == nil {
			_ = f.Close() // nothing was written
		} else if !errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintf(w, "warning: %v: %s\n", err, log.without)
		}
	}
	return nil
}

// examineSpool looks at what a start would open of the spool, and at the volume where nothing else needs it.
func examineSpool(cfg *config.Config, w io.Writer) error {
	if !spools(cfg) {
		return nil
	}
	v, err := offsets.Look(cfg.OffsetsDir, false)
	if err == nil {
		err = spool.Dump(io.Discard, cfg.OffsetsDir)
	}
	if err != nil {
		return configError{err}
	}
	if v.Free >= 0 && v.Free < int64(cfg.PublishSpool) {
		fmt.Fprintf(w, "warning: KPUSH_PUBLISH_SPOOL=%v is more than the %d MiB that are free on %s\n", cfg.PublishSpool, v.Free>>20, cfg.OffsetsDir)
	}
	return nil
}

// reachTime is how long a person waits for a host, whatever KPUSH_CONN_TIMEOUT is.
const reachTime = 10 * time.Second

// examineService connects to each host, and sends nothing.
func examineService(ctx context.Context, cfg *config.Config, w io.Writer) error {
	s, err := push.New(service(cfg))
	if err != nil {
		return configError{err}
	}
	names := cfg.HostNames()
	ctx, end := context.WithTimeoutCause(ctx, reachTime, fmt.Errorf("no connection within %v", reachTime))
	defer end()
	for i, reached := range s.Reach(ctx) {
		if reached.Err != nil {
			fmt.Fprintf(w, "warning: service %s: %v; what is sent until it answers is sent again\n", names[i], reached.Err)
		} else {
			fmt.Fprintf(w, "service %s: %s\n", names[i], reached.Said)
		}
	}
	return nil
}

// examineKafka asks what Kafka knows of topics and group, and says what the client will be told.
func examineKafka(ctx context.Context, cfg *config.Config, w io.Writer) error {
	k := client(cfg, "")
	f := forwarding(cfg, client(cfg, "-")) // as which member it would be told apart does not matter
	k.InstanceID = ""
	consumer, err := librdkafka.New(k, slog.New(slog.DiscardHandler))
	if err != nil {
		return configError{err}
	}
	defer consumer.Close() // it has joined nothing, so this returns
	cluster, err := librdkafka.NewCluster(k)
	if err != nil {
		return configError{err}
	}
	defer cluster.Close()
	if err := forwarder.Check(ctx, f, consumer, cluster, w); err != nil {
		return weighed(err)
	}
	fmt.Fprintf(w, "\nderived limits\n  memory to plan for: %d MiB\n  with messages above 1 MiB: %d MiB and twice the largest one, as it is unpacked\n  and beside that, where the publish door is used: %d MiB\n  messages waiting in kpush: %d bytes\n",
		memory(cfg)>>20, largeMemory(cfg)>>20, publishMemory(cfg)>>20, cfg.Buffer/2)
	defaults := librdkafka.Properties(k)
	for _, property := range slices.Sorted(maps.Keys(defaults)) {
		if own, set := k.Properties[property]; set {
			fmt.Fprintf(w, "  %s=%s (yours)\n", property, own)
		} else {
			fmt.Fprintf(w, "  %s=%v\n", property, defaults[property])
		}
	}
	return nil
}
