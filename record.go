package main

import (
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/kpush/kpush/offsets"
)

// SyncRule is when a record reaches the disk: always, never, a duration, or "" for what the guarantee asks for.
type SyncRule string

// Decode takes always, never or a duration above zero. Envconfig calls it.
func (r *SyncRule) Decode(value string) error {
	lower := strings.ToLower(value)
	if d, err := time.ParseDuration(lower); lower != "always" && lower != "never" && (err != nil || d < time.Millisecond) {
		return errors.New("write always, never, or how long a record may stay off the disk, such as 5ms (at least 1ms)")
	}
	*r = SyncRule(lower)
	return nil
}

// Sync is the rule for the file.
func (c *Config) Sync() offsets.Sync {
	switch c.OffsetsSync {
	case "always":
		return offsets.Sync{}
	case "never":
		return offsets.Sync{Window: -1}
	case "":
		if c.Guarantee == 3 {
			return offsets.Sync{}
		}
		return offsets.DefaultSync
	}
	window, err := time.ParseDuration(string(c.OffsetsSync))
	if err != nil {
		return offsets.DefaultSync // Decode has looked
	}
	return offsets.Sync{Window: window, Unsynced: offsets.DefaultSync.Unsynced}
}

// checkGuarantee holds the guarantee against what would break it.
func (l *loader) checkGuarantee() {
	c := &l.config
	switch c.Guarantee {
	case 1:
		if !l.given("KPUSH_COMMIT_INTERVAL") {
			c.CommitInterval = 5 * time.Second
		}
		for _, name := range []string{"KPUSH_OFFSETS_SYNC", "KPUSH_USE_SAVED_OFFSET_TIME", "KPUSH_CONFIRM_URL"} {
			if l.given(name) {
				l.wrong(name, "needs KPUSH_MESSAGE_DELIVERY_GUARANTEES=2 or 3: guarantee 1 keeps no record of deliveries")
			}
		}
	case 3:
		if l.given("KPUSH_OFFSETS_SYNC") && c.OffsetsSync != "always" {
			l.wrong("KPUSH_OFFSETS_SYNC", "must be always, or unset, with KPUSH_MESSAGE_DELIVERY_GUARANTEES=3: its promise is that a record is on the disk")
		}
		if c.dynamic() {
			l.wrong("KPUSH_INSTANCE_ID", "must not be none with KPUSH_MESSAGE_DELIVERY_GUARANTEES=3, which needs a static member")
		}
	}
}

// subscribed is where a static member keeps what it subscribes to, "" with guarantee 1, which has no volume.
func (c *Config) subscribed() string {
	if c.Guarantee == 1 {
		return ""
	}
	return filepath.Join(c.OffsetsDir, "topics")
}

// remember opens the file on the volume; nil with guarantee 1, which keeps none.
func remember(cfg *Config, log *slog.Logger) (store *offsets.Store, volume string, err error) {
	if cfg.Guarantee == 1 {
		return nil, "", nil
	}
	if store, err = offsets.Open(cfg.OffsetsDir, offsets.Options{Sync: cfg.Sync(), Log: log}); err != nil {
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
