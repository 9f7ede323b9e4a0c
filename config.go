package main

import (
	"log/slog"
	"path/filepath"
	"time"

	"github.com/kpush/kpush/config"
	"github.com/kpush/kpush/forwarder"
	"github.com/kpush/kpush/offsets"
)

// forwarding is the part of the configuration that the forwarder needs.
func forwarding(c *config.Config, volume string) forwarder.Config {
	id, comesBack := c.Member(volume)
	return forwarder.Config{
		Kafka: c.Kafka(), Topics: c.Topics, Group: c.Group, InstanceID: id, ComesBack: comesBack,
		Targets: c.Targets(), Domain: c.Domain, Format: c.Format, Ack: c.Ack,
		ConnTimeout: c.ConnTimeout, ExecTimeout: c.ExecTimeout, SlowTime: c.SlowTime,
		Order: c.Order, Concurrency: c.Concurrency.First(), Adaptive: c.Concurrency == config.Auto,
		ReadyURL: c.ReadyTarget(), ReadyDomain: c.DomainOf(c.ReadyURL),
		BatchSize: c.BatchSize, BatchLinger: c.BatchLinger,
		SkipOnAny: c.SkipOn == "any", CanSkip: c.CanSkip, RetryNums: c.RetryNums,
		RetryInterval: c.RetryInterval, RetryMaxInterval: c.RetryMaxInterval,
		CommitInterval: c.CommitInterval, Reset: c.AutoOffsetReset, TrustSaved: c.UseSavedOffsetTime,
		Buffer: int64(c.Buffer), DrainTimeout: c.DrainTimeout, SkipLog: filepath.Join(c.OffsetsDir, "skipped.jsonl"),
		Subscribed: subscribed(c),
		ConfirmURL: c.ConfirmTarget(), ConfirmDomain: c.DomainOf(c.ConfirmURL),
	}
}

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

// subscribed is where a static member keeps what it subscribes to, "" with guarantee 1, which has no volume.
func subscribed(c *config.Config) string {
	if c.Guarantee == 1 {
		return ""
	}
	return filepath.Join(c.OffsetsDir, "topics")
}

// remember opens the file on the volume; nil with guarantee 1, which keeps none.
func remember(cfg *config.Config, log *slog.Logger) (store *offsets.Store, volume string, err error) {
	if cfg.Guarantee == 1 {
		return nil, "", nil
	}
	if store, err = offsets.Open(cfg.OffsetsDir, offsets.Options{Sync: syncing(cfg), Log: log}); err != nil {
		return nil, "", err
	}
	return store, store.VolumeID(), nil
}

func forget(store *offsets.Store, log *slog.Logger) {
	if store == nil {
		return
	}
	if err := store.Close(); err != nil {
		log.Error("the offsets file could not be closed cleanly", "error", err)
	}
}
