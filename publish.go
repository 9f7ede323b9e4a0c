package main

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/kpush/kpush/api"
	"github.com/kpush/kpush/config"
	"github.com/kpush/kpush/forwarder"
	"github.com/kpush/kpush/kafka/librdkafka"
	"github.com/kpush/kpush/offsets"
	"github.com/kpush/kpush/publisher"
	"github.com/kpush/kpush/publisher/spool"
	"github.com/kpush/kpush/tracing"
)

// producing is what the client that produces has to know.
func producing(c *config.Config) librdkafka.Config {
	return librdkafka.Config{Properties: c.Producer(), Buffer: int64(c.Buffer)}
}

// door is the part of the configuration that the publish door needs. A body of half the buffer still fits into it beside its record.
func door(c *config.Config, k librdkafka.Config) publisher.Config {
	most := int64(librdkafka.RecordMost)
	if n, err := strconv.ParseInt(k.Properties["message.max.bytes"], 10, 64); err == nil {
		most = n
	}
	return publisher.Config{Topics: c.PublishTopics, Timeout: librdkafka.DeliveryTimeout(k), BodyMost: min(most, int64(c.Buffer)/2), Buffer: int64(c.Buffer)}
}

// openDoor makes the producer and the door to it. Neither connects before the first record.
func openDoor(c *config.Config, log *slog.Logger) (*publisher.Publisher, *librdkafka.Producer, error) {
	k := producing(c)
	producer, err := librdkafka.NewProducer(k, log)
	if err != nil {
		return nil, nil, err
	}
	cluster := func() (publisher.Cluster, error) { return librdkafka.NewCluster(k) }
	return publisher.New(door(c, k), publisher.Parts{Producer: producer, Cluster: cluster}, log), producer, nil
}

// openSpool has the door use the spool on the volume, which is this process's.
func openSpool(c *config.Config, door *publisher.Publisher, producer *librdkafka.Producer, log *slog.Logger) error {
	if !spools(c) {
		return nil
	}
	s, err := spool.Open(spool.Options{Dir: c.OffsetsDir, Limit: int64(c.PublishSpool), Buffer: int64(c.Buffer) / 2, Producer: producer, Log: log,
		Batch: door.Batch, Lacks: door.Lacks, Came: door.Spooled})
	if err == nil {
		door.Spool(s)
	}
	return err
}

// duty is what a process is there for beside the door.
type duty interface {
	api.Operator
	api.Measured
	api.Source
	Run(context.Context) error
	SkipBlocked() int
}

var (
	_ duty = (*forwarder.Forwarder)(nil)
	_ duty = publishing{}
)

// take is the duty that the configuration gives: a forwarder on its volume, or to publish only, which needs one for the spool. release is to
// be called in any case.
func take(c *config.Config, door *publisher.Publisher, letters *librdkafka.Producer, traces *tracing.Traces, log *slog.Logger) (d duty, volume string, release func(), err error) {
	if c.PublishOnly() {
		if !spools(c) {
			return publishing{door: door}, "", func() {}, nil
		}
		if release, err = offsets.Lock(c.OffsetsDir); err != nil {
			return nil, "", func() {}, err
		}
		return publishing{door: door}, "", release, nil
	}
	store, err := remember(c, log)
	if err != nil {
		return nil, "", func() {}, err
	}
	release = func() {
		if err := store.Close(); err != nil {
			log.Error("the offsets file could not be closed cleanly", "error", err)
		}
	}
	f, err := assemble(c, store, letters, traces, log)
	return f, store.VolumeID(), release, err
}

// publishing is the duty of a process that consumes nothing: to give memory back when it was busy.
type publishing struct {
	api.PublishOnly
	door *publisher.Publisher
}

const idleTick = time.Minute

func (p publishing) Run(ctx context.Context) error {
	tick := time.NewTicker(idleTick)
	defer tick.Stop()
	given, last := int64(0), int64(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		sent := p.door.Counts().Sent
		if sent == last && sent != given {
			giveBack()
			given = sent
		}
		last = sent
	}
}

// SkipBlocked has nothing to skip.
func (publishing) SkipBlocked() int { return 0 }

// serveUntil runs the duty until ctx ends, and closes the door behind it: what the service publishes while its last requests are
// answered is still taken. Of KPUSH_DRAIN_TIMEOUT the last quarter is the door's at the least. The producer outlasts both, for the last
// delivery may end as a dead letter.
func serveUntil(ctx context.Context, stop func(), d duty, door *publisher.Publisher, producer *librdkafka.Producer, drain time.Duration) error {
	over, closed := make(chan struct{}), make(chan error, 1)
	go func() {
		<-ctx.Done()
		end := time.Now().Add(drain * 9 / 10)
		select {
		case <-over:
		case <-time.After(drain * 3 / 4):
		}
		flush, cancel := context.WithDeadline(context.Background(), end)
		defer cancel()
		closed <- door.Close(flush)
	}()
	err := d.Run(ctx)
	close(over)
	stop()
	err = errors.Join(err, <-closed)
	producer.Close()
	return err
}
