package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kpush/kpush/config"
	"github.com/kpush/kpush/forwarder"
	"github.com/kpush/kpush/forwarder/pace"
	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/kafka/librdkafka"
	"github.com/kpush/kpush/offsets"
	"github.com/kpush/kpush/publisher/spool"
	"github.com/kpush/kpush/tracing"
)

// client is what Kafka's client has to know; volume "": of one that joins nothing.
func client(c *config.Config, volume string) librdkafka.Config {
	id, _ := c.Member(volume)
	return librdkafka.Config{Properties: c.Kafka(), Fresh: freshly, Group: c.Group, InstanceID: id, Buffer: int64(c.Buffer), DrainTimeout: c.DrainTimeout}
}

// freshly are the properties for a Kafka client as the environment says now: its files may have changed.
func freshly() map[string]string {
	c, err := config.Load(os.Environ())
	if err != nil {
		return nil // a file is being written: what is known stays
	}
	return c.Kafka()
}

// credentials are the files that Kafka's clients are made of.
func credentials(c *config.Config) (files []string) {
	for name, value := range c.Kafka() {
		if (strings.HasPrefix(name, "ssl.") || strings.HasPrefix(name, "https.")) && strings.HasSuffix(name, ".location") {
			files = append(files, value)
		}
	}
	for _, variable := range []string{"KPUSH_SASL_PASSWORD_FILE", "KPUSH_CONSUMER_CONF_FILE"} {
		if file := os.Getenv(variable); file != "" {
			files = append(files, file)
		}
	}
	slices.Sort(files)
	return files
}

// service is what the sender has to know.
func service(c *config.Config) push.Config {
	most := c.Concurrency.First()
	if c.Concurrency == config.Auto {
		most = pace.AdaptiveMost
	}
	response := 0
	if c.DeadLetterTopic != "" {
		response = 1 << 10 // for the header of a dead letter
	}
	return push.Config{
		Targets: c.Targets(), Domain: c.Domain, Format: c.Format, ContentType: c.ContentType, EventType: c.EventType, Ack: c.Ack, Batch: c.BatchSize > 1, Most: most, Response: response,
		Descriptors: descriptors(),
		ConnTimeout: c.ConnTimeout, ExecTimeout: c.ExecTimeout,
		ConfirmURLs: c.ConfirmTargets(), ConfirmDomain: c.DomainOf(c.ConfirmURL),
		ReadyURLs: c.ReadyTargets(), ReadyDomain: c.DomainOf(c.ReadyURL),
		Credentials: push.Credentials{CA: c.ServiceCAFile, Cert: c.ServiceCertFile, Key: c.ServiceKeyFile,
			Token: c.ServiceToken, TokenFile: os.Getenv("KPUSH_SERVICE_TOKEN_FILE")},
	}
}

// forwarding is the part of the configuration that the forwarder needs.
func forwarding(c *config.Config, k librdkafka.Config) forwarder.Config {
	_, comesBack := c.Member("")
	return forwarder.Config{
		Brokers: k.Properties["bootstrap.servers"], Topics: c.Topics, Group: c.Group, InstanceID: k.InstanceID, MustBeStatic: c.Guarantee == 3, ComesBack: comesBack,
		Session: librdkafka.Session(k), PollInterval: librdkafka.PollInterval(k),
		Order: c.Order, Concurrency: c.Concurrency.First(), Adaptive: c.Concurrency == config.Auto, Hosts: c.HostNames(),
		BatchSize: c.BatchSize, BatchLinger: c.BatchLinger, BatchBytes: int(c.BatchBytes), ExecTimeout: c.ExecTimeout, SlowTime: c.SlowTime,
		SkipOnAny: c.SkipOn == "any", CanSkip: c.CanSkip, DeadLetterTopic: c.DeadLetterTopic, RedriveMax: c.RedriveMax, RetryNums: c.RetryNums, GiveUpInARow: c.GiveUpInARow,
		RetryInterval: c.RetryInterval, RetryMaxInterval: c.RetryMaxInterval,
		Credentials: credentials(c), CommitInterval: c.CommitInterval, Reset: c.AutoOffsetReset, TrustSaved: c.UseSavedOffsetTime,
		Buffer: int64(c.Buffer), DrainTimeout: c.DrainTimeout, RevokeTimeout: c.RevokeTimeout, SkipLog: filepath.Join(c.OffsetsDir, "skipped.jsonl"),
	}
}

// assemble makes a forwarder of its parts.
func assemble(c *config.Config, store *offsets.Store, letters *librdkafka.Producer, traces *tracing.Traces, log *slog.Logger) (*forwarder.Forwarder, error) {
	k := client(c, store.VolumeID())
	s, err := push.New(service(c))
	if err != nil {
		return nil, err
	}
	parts := forwarder.Parts{Store: store, Handler: traces.Wrap(s), Size: s.SizeInBatch, Idle: giveBack, Large: makeRoom(c),
		Reader: func(at []kafka.Position) (kafka.Reader, error) { return librdkafka.NewReader(k, at, log) }}
	if c.DeadLetterTopic != "" {
		parts.Letters = letters
	}
	if c.ConfirmURL != "" {
		parts.Confirm = s.Has
	}
	if c.ReadyURL != "" {
		parts.Ready = s.Ready
	}
	if parts.Consumer, err = librdkafka.New(k, log); err != nil {
		return nil, err
	}
	if parts.Cluster, err = librdkafka.NewCluster(k); err != nil {
		return nil, err
	}
	return forwarder.New(forwarding(c, k), parts, log)
}

// idle is what is set and has no effect, kpush's variables and those of OpenTelemetry.
func idle(c *config.Config) []string { return slices.Concat(c.Idle(), tracing.Idle()) }

// syncing is the rule for the file on the volume.
func syncing(c *config.Config) offsets.Sync {
	switch {
	case c.OffsetsSync == "always", c.OffsetsSync == "" && c.Guarantee == 3:
		return offsets.Sync{}
	case c.OffsetsSync == "never":
		return offsets.Sync{Window: -1}
	}
	window, err := time.ParseDuration(string(c.OffsetsSync))
	if err != nil {
		return offsets.DefaultSync // it is not set: Decode has looked at all else
	}
	return offsets.Sync{Window: window, Unsynced: offsets.DefaultSync.Unsynced}
}

// spools tells whether what is published goes through the volume, or has to: a life before may have left something there.
func spools(c *config.Config) bool { return c.PublishSpool > 0 || spool.Holds(c.OffsetsDir) }

// remember opens the file on the volume; guarantee 1 keeps none.
func remember(cfg *config.Config, log *slog.Logger) (*offsets.Store, error) {
	o := offsets.Options{Sync: syncing(cfg), Log: log, Group: cfg.Group, Topics: cfg.Topics}
	if cfg.Guarantee == 1 {
		s := offsets.InMemory(o)
		if spools(cfg) {
			return s, s.Lock(cfg.OffsetsDir)
		}
		return s, nil
	}
	return offsets.Open(cfg.OffsetsDir, o)
}
