package librdkafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	client "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/kpush/kpush/kafka"
)

// Config is what a client is made of.
type Config struct {
	Properties map[string]string // the user's, brokers and security among them; they win over what kpush sets
	// Fresh are Properties as they are now, for a client that takes the place of another one: a password may have changed on disk.
	// nil: they never change.
	Fresh        func() map[string]string
	Group        string
	InstanceID   string        // group.instance.id; "" for a dynamic member
	Buffer       int64         // bytes, of which librdkafka's queues get half
	DrainTimeout time.Duration // how long nobody may poll while a partition is given up
}

// fresh are the properties of a new client.
func (c Config) fresh() map[string]string {
	if c.Fresh != nil {
		if now := c.Fresh(); now != nil {
			return now
		}
	}
	return c.Properties
}

// handle is one client of librdkafka's: a kafka.Reader, and with a subscription a member of a group.
type handle struct {
	c     *client.Consumer
	log   *slog.Logger
	quiet bool // nobody has asked for the client's debugging
	versions
	queue   *queue // messages and events
	member  membership
	polled  polled
	topics  map[string]string // of messages: one string for each
	on      kafka.Rebalance
	endLogs func()
	mine    map[kafka.Partition]bool // what is assigned; owned by the goroutine that polls
	asking  sync.RWMutex             // read by calls from other goroutines, which must be over before the handle goes away; written by Close, for good
	given   chan struct{}            // closed when it has been given up: nobody hears of it any more
}

// NewReader reads partitions from where at says. It never joins: what is assigned to it is no business of the group's.
func NewReader(cfg Config, at []kafka.Position, log *slog.Logger) (kafka.Reader, error) {
	cfg.InstanceID = ""
	l, err := newHandle(cfg, "kpush-reader", log)
	if err != nil {
		return nil, err
	}
	if err := l.c.Assign(positions(at)); err != nil {
		return nil, errors.Join(translate(err), l.Close())
	}
	return l, nil
}

func newHandle(cfg Config, id string, log *slog.Logger) (*handle, error) {
	if cfg.Group == "" {
		return nil, fmt.Errorf("%w: a consumer has a group", kafka.ErrRefused) // librdkafka takes it, and its close never ends
	}
	conf, theirs := client.ConfigMap{"log.queue": true, "client.id": id}, cfg.fresh()
	for k, v := range Properties(cfg) {
		conf[k] = v
	}
	conf["group.id"] = cfg.Group
	if cfg.InstanceID != "" {
		conf["group.instance.id"] = cfg.InstanceID
	}
	for k, v := range theirs {
		conf[k] = v
	}
	conf["debug"] = strings.TrimPrefix(theirs["debug"]+",feature", ",") // see versions
	c, err := client.NewConsumer(&conf)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", kafka.ErrRefused, err)
	}
	l := &handle{c: c, log: log, quiet: theirs["debug"] == "", topics: map[string]string{}, mine: map[kafka.Partition]bool{}, given: make(chan struct{}),
		member: membership{asking: make(chan struct{}, 1)}}
	if err := l.listen(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return l, nil
}

// listen opens the client's queues.
func (l *handle) listen() (err error) {
	if l.member.rk, err = hidden(l.c, "rk"); err != nil {
		return err
	}
	q, err := hidden(l.c, "rkq")
	if err != nil {
		return err
	}
	l.member.queue = q
	if l.queue, err = newQueue(q); err != nil {
		return err
	}
	l.endLogs, err = logQueue(l.c, func(tag, text string, severity int) {
		if l.versions.hear(tag, text); severity < 7 || !l.quiet {
			logLine(l.log, tag, text, severity)
		}
	})
	if err != nil {
		l.queue.close()
	}
	return err
}

// logLine is a line of librdkafka's log as one of kpush's.
func logLine(log *slog.Logger, tag, text string, severity int) {
	level := slog.LevelInfo
	switch {
	case severity >= 7 || tag == "FAIL" || tag == "REQTMOUT": // an event says it, too
		level = slog.LevelDebug
	case severity <= 3:
		level = slog.LevelWarn // librdkafka retries what it calls an error
	}
	log.Log(context.Background(), level, "librdkafka: "+text, "tag", tag)
}

// subscribe joins the group. The client calls back while it closes; else Poll does.
func (l *handle) subscribe(topics []string, on kafka.Rebalance) error {
	l.on = on
	return translate(l.c.SubscribeTopics(topics, func(_ *client.Consumer, ev client.Event) error {
		switch e := ev.(type) {
		case client.AssignedPartitions:
			l.rebalanced(true, fromKafka(e.Partitions))
		case client.RevokedPartitions:
			l.rebalanced(false, fromKafka(e.Partitions))
		}
		return nil
	}))
}

// rebalanced tells what the group has given, or takes. After each rebalance fetching of what stays goes on at once.
func (l *handle) rebalanced(given bool, tps []kafka.Partition) {
	select {
	case <-l.given: // its Close asks: whatever was assigned is gone
		_ = l.c.IncrementalUnassign(toKafka(slices.Collect(maps.Keys(l.mine)))) // nobody hears of it any more
		return
	default:
	}
	l.rebalance(given, tps, l.c.AssignmentLost())
	l.nudge()
}

// Assign adds partitions to what is fetched.
func (l *handle) Assign(at []kafka.Position) error {
	list := positions(at)
	if len(list) > 0 {
		// The pause flag of a partition outlives its revoke. Not after the assign, which librdkafka carries out on a thread of
		// its own: a resume that crosses it can be dropped, or drop the start (librdkafka #5591).
		if err := l.c.Resume(list); err != nil {
			return translate(err)
		}
	}
	for _, a := range at {
		l.mine[a.Partition] = true
	}
	return translate(l.c.IncrementalAssign(list))
}

// Unassign takes partitions from what is fetched.
func (l *handle) Unassign(gone []kafka.Partition) error {
	for _, p := range gone {
		delete(l.mine, p)
	}
	return l.c.IncrementalUnassign(toKafka(gone))
}

// Pause drops what librdkafka holds of the partitions, and fetches no more of them.
func (l *handle) Pause(of []kafka.Partition) error { return l.c.Pause(toKafka(of)) }

// Resume fetches them again, from where the last message was handed over.
func (l *handle) Resume(of []kafka.Partition) error { return l.c.Resume(toKafka(of)) }

// Positions are where the consumer reads on.
func (l *handle) Positions(of []kafka.Partition) ([]kafka.Position, error) {
	got, err := l.c.Position(toKafka(of))
	out := make([]kafka.Position, 0, len(got))
	for _, g := range got {
		out = append(out, kafka.Position{Partition: kafka.Partition{Topic: *g.Topic, Number: g.Partition}, Offset: int64(g.Offset)})
	}
	return out, err
}

// Close may block for ever, where a broker is silent.
func (l *handle) Close() error {
	l.asking.Lock() // for good
	l.queue.close()
	l.endLogs()
	if err := l.member.leave(func() { l.c.Poll(100) }); err != nil {
		return err
	}
	return l.c.Close()
}

// nudgeAfter are the moments after a rebalance at which a request is put to the brokers.
var nudgeAfter = []time.Duration{5 * time.Millisecond, 40 * time.Millisecond, 150 * time.Millisecond}

// nudge makes librdkafka look at its partitions again. During a rebalance callback it pauses all of them, and the resume
// behind it does not wake the threads of the brokers, which sleep for up to a second; any request wakes them.
func (l *handle) nudge() {
	if len(l.mine) == 0 || !l.asking.TryRLock() {
		return
	}
	ask := toKafka(slices.Collect(maps.Keys(l.mine)))
	for i := range ask {
		ask[i].Offset = client.OffsetEnd
	}
	go func() {
		defer l.asking.RUnlock()
		last := time.Duration(0)
		for _, at := range nudgeAfter {
			time.Sleep(at - last)
			last = at
			_, _ = l.c.OffsetsForTimes(ask, 200) // the answer does not matter
		}
	}()
}

// End is cheap for one partition; it looks long among many.
func (l *handle) End(p kafka.Partition) int64 {
	if _, high, err := l.c.GetWatermarkOffsets(p.Topic, p.Number); err == nil && high >= 0 {
		return high
	}
	return -1
}
