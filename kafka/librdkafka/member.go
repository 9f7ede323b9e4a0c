package librdkafka

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	client "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/kpush/kpush/kafka"
)

// Consumer is a kafka.Consumer: a member of a group that may outlive its client.
type Consumer struct {
	*handle                        // the goroutine's that polls
	current atomic.Pointer[handle] // the same one, for the others
	cfg     Config
	topics  []string
	on      kafka.Rebalance
}

// New makes a consumer, which connects on its own. An error wraps kafka.ErrRefused.
func New(cfg Config, log *slog.Logger) (*Consumer, error) {
	l, err := newHandle(cfg, "kpush", log)
	if err != nil {
		return nil, err
	}
	m := &Consumer{handle: l, cfg: cfg}
	m.current.Store(l)
	return m, nil
}

// Subscribe joins the group.
func (m *Consumer) Subscribe(topics []string, on kafka.Rebalance) error {
	m.topics, m.on = topics, on
	return m.subscribe(topics, on)
}

// Unsubscribe leaves the group; polling goes on until the revoke is done.
func (m *Consumer) Unsubscribe() error {
	m.member.left.Store(true)
	return m.c.Unsubscribe()
}

// Renew is for a client that has lost its way for good. librdkafka takes an answer without brokers for the truth, and asks nobody any
// more (#5301); and it goes on with a coordinator at an address that was wrong, for it is told the same broker again. The old one is closed beside the new one, for as long as that takes. With a static id the group takes
// the new one for the same member.
func (m *Consumer) Renew() error {
	l, err := newHandle(m.cfg, "kpush", m.log)
	if err != nil {
		return err
	}
	old := m.handle
	close(old.given)
	m.handle = l
	m.current.Store(l)
	go func() { _ = old.Close() }() // it may never return
	return l.subscribe(m.topics, m.on)
}

// enter is the client for a question; call asking.RUnlock at its end.
func (m *Consumer) enter() (*handle, error) {
	l := m.current.Load()
	if !l.asking.TryRLock() {
		return nil, kafka.ErrRenewed
	}
	return l, nil
}

// Reach asks any broker for metadata, and the group's coordinator for a commit. What Kafka says does not matter, as long as it does:
// codes below zero are librdkafka's own.
func (m *Consumer) Reach(timeout time.Duration) error {
	l, err := m.enter()
	if err != nil {
		return err
	}
	defer l.asking.RUnlock()
	ms := int(timeout / time.Millisecond)
	_, err = l.c.GetMetadata(nil, false, ms)
	if err == nil && len(m.topics) > 0 {
		_, err = l.c.Committed([]client.TopicPartition{{Topic: &m.topics[0]}}, ms)
	}
	if e, ok := errors.AsType[client.Error](err); ok && e.Code() >= 0 {
		return nil
	}
	return translate(err)
}

// Member is the id under which the group gave what is assigned, "" once that membership has ended or the client has failed.
func (m *Consumer) Member() string {
	l := m.current.Load()
	if ended, _ := l.member.ended(); ended || l.member.failed() != nil {
		return ""
	}
	if given := l.member.given.Load(); given != nil {
		return *given
	}
	return ""
}

// TooOld is a broker that knows no static members.
func (m *Consumer) TooOld() string { return m.current.Load().tooOld() }

// Wake ends a Poll, or the next one.
func (m *Consumer) Wake() { m.current.Load().queue.wake() }

// Committed asks for the group's commits; an error of any partition is one of all.
func (m *Consumer) Committed(of []kafka.Partition, timeout time.Duration) ([]kafka.Commit, error) {
	l, err := m.enter()
	if err != nil {
		return nil, err
	}
	defer l.asking.RUnlock()
	got, err := l.c.Committed(toKafka(of), int(timeout/time.Millisecond))
	if err != nil {
		return nil, translate(err)
	}
	out := make([]kafka.Commit, 0, len(got))
	for _, g := range got {
		c := kafka.Commit{Partition: kafka.Partition{Topic: *g.Topic, Number: g.Partition}, Offset: int64(g.Offset)}
		if g.Error != nil {
			return nil, fmt.Errorf("%s: %w", c.Partition, translate(g.Error))
		}
		if g.Metadata != nil {
			c.Meta = *g.Metadata
		}
		out = append(out, c)
	}
	return out, nil
}

// Commit commits all of cs or returns an error.
func (m *Consumer) Commit(cs []kafka.Commit) error {
	list := make([]client.TopicPartition, len(cs))
	for i := range cs {
		list[i] = client.TopicPartition{Topic: &cs[i].Topic, Partition: cs[i].Number,
			Offset: client.Offset(cs[i].Offset), Metadata: &cs[i].Meta}
	}
	l, done := m.current.Load(), make(chan error, 1)
	if ended, known := l.member.ended(); ended || !known {
		// Kafka would take it for the word of the member that the client is by then, or fence that one: both share the instance id.
		return fmt.Errorf("%w: its partitions may be somebody else's", kafka.ErrNotMember)
	}
	go func() { // it may not return before the handle is closed
		_, err := l.c.CommitOffsets(list) // a partition's own Error may be stale after a retry inside: the call's counts
		done <- translate(err)
	}()
	select {
	case err := <-done:
		return err
	case <-l.given:
		return kafka.ErrRenewed
	}
}
