package forwarder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// This file, kafka_admin.go and kafka_queue.go are the door to librdkafka: they translate, and decide nothing.

type librdkafka struct {
	c       *kafka.Consumer
	cfg     Config
	log     *slog.Logger
	queue   *queue // messages and events
	endLogs func()
	asking  sync.WaitGroup // calls from other goroutines that must be over before the handle goes away
}

func newClient(cfg Config, log *slog.Logger) (*librdkafka, error) {
	return newConsumer(cfg, "kpush", log)
}

func newConsumer(cfg Config, id string, log *slog.Logger) (*librdkafka, error) {
	conf := kafka.ConfigMap{"log.queue": true, "client.id": id}
	for k, v := range consumerDefaults(cfg) {
		conf[k] = v
	}
	conf["group.id"] = cfg.Group
	if cfg.InstanceID != "" {
		conf["group.instance.id"] = cfg.InstanceID
	}
	for k, v := range cfg.Kafka {
		conf[k] = v
	}
	c, err := kafka.NewConsumer(&conf)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	l := &librdkafka{c: c, cfg: cfg, log: log}
	if err := l.listen(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return l, nil
}

// listen opens the client's queues.
func (l *librdkafka) listen() error {
	q, err := hidden(l.c, "rkq")
	if err != nil {
		return err
	}
	if l.queue, err = newQueue(q); err != nil {
		return err
	}
	l.endLogs, err = logQueue(l.c, func(tag, text string, severity int) {
		level := slog.LevelInfo
		switch {
		case severity >= 7 || tag == "FAIL" || tag == "REQTMOUT": // an event says it, too
			level = slog.LevelDebug
		case severity <= 3:
			level = slog.LevelWarn // librdkafka retries what it calls an error
		}
		l.log.Log(context.Background(), level, "librdkafka: "+text, "tag", tag)
	})
	if err != nil {
		l.queue.close()
	}
	return err
}

func (l *librdkafka) subscribe(topics []string, on rebalance) error {
	return l.c.SubscribeTopics(topics, func(c *kafka.Consumer, ev kafka.Event) error {
		switch e := ev.(type) {
		case kafka.AssignedPartitions:
			on.assigned(fromKafka(e.Partitions))
		case kafka.RevokedPartitions:
			on.revoked(fromKafka(e.Partitions), c.AssignmentLost())
		}
		return nil
	})
}

func (l *librdkafka) poll(timeout time.Duration) any {
	got := l.c.Poll(0)
	if got == nil {
		l.queue.wait(timeout)
		got = l.c.Poll(0)
	}
	switch e := got.(type) {
	case *kafka.Message:
		if e.TopicPartition.Error != nil {
			return translate(e.TopicPartition.Error)
		}
		return message(e)
	case kafka.Error:
		return translate(e)
	}
	return nil
}

func message(e *kafka.Message) *Message {
	m := &Message{
		Topic:     *e.TopicPartition.Topic,
		Partition: e.TopicPartition.Partition,
		Offset:    int64(e.TopicPartition.Offset),
		Key:       e.Key,
		Value:     e.Value,
	}
	if e.TimestampType != kafka.TimestampNotAvailable {
		m.Timestamp = e.Timestamp.UnixMilli()
	}
	if len(e.Headers) > 0 {
		m.Headers = make([]Header, len(e.Headers))
		for i, h := range e.Headers {
			m.Headers[i] = Header{Name: h.Key, Value: h.Value}
		}
	}
	return m
}

// translate keeps librdkafka's sentence and adds what the forwarder has to know of it.
func translate(err error) error {
	var e kafka.Error
	if !errors.As(err, &e) {
		return err
	}
	if e.IsFatal() {
		return fatalError{e}
	}
	var kind error
	switch e.Code() {
	case kafka.ErrAutoOffsetReset, kafka.ErrOffsetOutOfRange:
		kind = errOutOfRange
	case kafka.ErrUnknownTopicOrPart, kafka.ErrUnknownTopic, kafka.ErrUnknownPartition:
		kind = errNoTopic
	case kafka.ErrAllBrokersDown:
		kind = errAllDown
	case kafka.ErrTransport, kafka.ErrResolve, kafka.ErrAuthentication, kafka.ErrSsl:
		kind = errNoBroker
	case kafka.ErrRebalanceInProgress, kafka.ErrIllegalGeneration:
		kind = errRebalancing
	case kafka.ErrUnknownMemberID, kafka.ErrFencedInstanceID:
		kind = errNotMember
	case kafka.ErrMaxPollExceeded:
		kind = errUnpolled
	case kafka.ErrOffsetMetadataTooLarge:
		kind = errMetadataSize
	case kafka.ErrTopicAuthorizationFailed, kafka.ErrInvalidCommitOffsetSize:
		kind = errNotTaken
	default:
		return e
	}
	return fmt.Errorf("%w: %s", kind, e.String())
}

func (l *librdkafka) committed(tps []tp, timeout time.Duration) ([]commit, error) {
	l.asking.Add(1)
	defer l.asking.Done()
	got, err := l.c.Committed(toKafka(tps), int(timeout/time.Millisecond))
	if err != nil {
		return nil, translate(err)
	}
	out := make([]commit, 0, len(got))
	for _, g := range got {
		if g.Error != nil {
			return nil, fmt.Errorf("%s/%d: %w", *g.Topic, g.Partition, translate(g.Error))
		}
		c := commit{tp: tp{*g.Topic, g.Partition}, offset: int64(g.Offset)}
		if g.Metadata != nil {
			c.meta = *g.Metadata
		}
		out = append(out, c)
	}
	return out, nil
}

func (l *librdkafka) commit(cs []commit) error {
	list := make([]kafka.TopicPartition, len(cs))
	for i := range cs {
		list[i] = kafka.TopicPartition{Topic: &cs[i].topic, Partition: cs[i].partition,
			Offset: kafka.Offset(cs[i].offset), Metadata: &cs[i].meta}
	}
	_, err := l.c.CommitOffsets(list) // a partition's own Error may be stale after a retry inside: the call's counts
	if err != nil {
		return translate(err)
	}
	return nil
}

func (l *librdkafka) assign(at []tpOffset) error {
	list := positions(at)
	if len(list) > 0 {
		// The pause flag of a partition outlives its revoke. Not after the assign, which librdkafka carries out on a thread of
		// its own: a resume that crosses it can be dropped, or drop the start (librdkafka #5591).
		if err := l.c.Resume(list); err != nil {
			return translate(err)
		}
	}
	return translate(l.c.IncrementalAssign(list))
}

// standIn is a consumer that never joins: what is assigned to it is no business of the group's.
func (l *librdkafka) standIn(at []tpOffset) (source, error) {
	cfg := l.cfg
	cfg.InstanceID = ""
	s, err := newConsumer(cfg, "kpush-stand-in", l.log)
	if err != nil {
		return nil, err
	}
	if err := s.c.Assign(positions(at)); err != nil {
		return nil, errors.Join(translate(err), s.close())
	}
	return s, nil
}

func (l *librdkafka) unassign(tps []tp) error { return l.c.IncrementalUnassign(toKafka(tps)) }
func (l *librdkafka) wake()                   { l.queue.wake() }
func (l *librdkafka) pause(tps []tp) error    { return l.c.Pause(toKafka(tps)) }
func (l *librdkafka) resume(tps []tp) error   { return l.c.Resume(toKafka(tps)) }
func (l *librdkafka) unsubscribe() error      { return l.c.Unsubscribe() }

func (l *librdkafka) position(tps []tp) ([]tpOffset, error) {
	got, err := l.c.Position(toKafka(tps))
	out := make([]tpOffset, 0, len(got))
	for _, g := range got {
		out = append(out, tpOffset{tp{*g.Topic, g.Partition}, int64(g.Offset)})
	}
	return out, err
}

func (l *librdkafka) close() error {
	l.asking.Wait()
	l.queue.close()
	l.endLogs()
	return l.c.Close()
}

// nudgeAfter are the moments after a rebalance at which a request is put to the brokers.
var nudgeAfter = []time.Duration{5 * time.Millisecond, 40 * time.Millisecond, 150 * time.Millisecond}

// nudge makes librdkafka look at its partitions again. During a rebalance callback it pauses all of them, and the resume
// behind it does not wake the threads of the brokers, which sleep for up to a second; any request wakes them.
func (l *librdkafka) nudge(tps []tp) {
	if len(tps) == 0 {
		return
	}
	ask := toKafka(tps)
	for i := range ask {
		ask[i].Offset = kafka.OffsetEnd
	}
	l.asking.Go(func() {
		last := time.Duration(0)
		for _, at := range nudgeAfter {
			time.Sleep(at - last)
			last = at
			_, _ = l.c.OffsetsForTimes(ask, 200) // the answer does not matter
		}
	})
}

func (l *librdkafka) end(t tp) int64 {
	if _, high, err := l.c.GetWatermarkOffsets(t.topic, t.partition); err == nil && high >= 0 {
		return high
	}
	return -1
}

func toKafka(tps []tp) []kafka.TopicPartition {
	out := make([]kafka.TopicPartition, len(tps))
	for i := range tps {
		out[i] = kafka.TopicPartition{Topic: &tps[i].topic, Partition: tps[i].partition, Offset: kafka.OffsetInvalid}
	}
	return out
}

func positions(at []tpOffset) []kafka.TopicPartition {
	out := make([]kafka.TopicPartition, len(at))
	for i := range at {
		out[i] = kafka.TopicPartition{Topic: &at[i].topic, Partition: at[i].partition, Offset: kafka.Offset(at[i].offset)}
	}
	return out
}

func fromKafka(list []kafka.TopicPartition) []tp {
	out := make([]tp, len(list))
	for i, p := range list {
		out[i] = tp{*p.Topic, p.Partition}
	}
	return out
}
