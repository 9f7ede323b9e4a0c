package forwarder

import (
	"context"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// Resent is what came of sending a skipped message again.
type Resent struct {
	kafka.Position
	Delivered bool
	Reason    string // why not
}

// resentLine notes in the skip log that a message is about to be sent again, and that it was: one without the other is in doubt.
type resentLine struct {
	Time      time.Time `json:"time"`
	ID        string    `json:"id"`
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Resend    string    `json:"resend"` // begins, delivered, refused
}

// What a resentLine says. One that begins, and nothing behind it, is in doubt.
const (
	resendBegins    = "begins"
	resendDelivered = "delivered"
	resendRefused   = "refused"
)

// Skipped is a page of the skip log, oldest first: after is where an earlier one says that the next begins, 0 at first.
func (f *Forwarder) Skipped(after int64, limit int) (SkippedPage, error) {
	return f.skips.page(after, limit)
}

// SkipCounts are what the skip log holds.
func (f *Forwarder) SkipCounts() (SkipCounts, error) { return f.skips.counts() }

func (s *skipped) position() kafka.Position {
	return kafka.Position{Partition: kafka.Partition{Topic: s.Topic, Number: s.Partition}, Offset: s.Offset}
}

// Resend sends skipped messages to the service once more, outside of any order, and notes in the skip log that it did. nil: all that
// were not sent again yet.
func (f *Forwarder) Resend(ctx context.Context, who string, which []kafka.Position) ([]Resent, error) {
	select {
	case f.resending <- struct{}{}:
		defer func() { <-f.resending }()
	default:
		return nil, fmt.Errorf("another resend is under way, so this one is %w", ErrAsked)
	}
	page, err := f.skips.unsent(0, resendPage, about(which))
	if err != nil {
		return nil, err
	}
	to := "all"
	if which != nil {
		if to = fmt.Sprintf("%s/%d", which[0].Partition, which[0].Offset); len(page.Messages) < len(which) {
			return nil, refuse(ErrNotFailing, "%s is not in the skip log: kpush -skipped lists what is", to)
		}
	}
	if err := f.audit(who, "resend", to); err != nil {
		return nil, err
	}
	var out []Resent
	for {
		for _, m := range page.Messages {
			if which == nil && !m.Resent.IsZero() {
				continue
			}
			if err := f.resendable(ctx); err != nil {
				return out, err
			}
			one, err := f.resend(ctx, m)
			if out = append(out, one); err != nil {
				return out, err
			}
		}
		if page.Next == 0 {
			return out, nil
		}
		if page, err = f.skips.unsent(page.Next, resendPage, about(which)); err != nil {
			return out, err
		}
	}
}

// awaitResend waits for a request of a resend, as a drain does for others; a stop lets none begin.
func (f *Forwarder) awaitResend(deadline time.Time) {
	over := func() { <-f.resending }
	select {
	case f.resending <- struct{}{}: // before the deadline is looked at: where there is none, none is late
		over()
		return
	default:
	}
	select {
	case f.resending <- struct{}{}:
		over()
	case <-time.After(time.Until(deadline)):
		f.log.Warn("a resend was still under way when the drain ended; its message is in doubt")
	}
}

// resendPage is how many messages a resend looks at at once.
const resendPage = 1000

// about tells by id which messages are meant; nil: all are.
func about(which []kafka.Position) func(id []byte) bool {
	if which == nil {
		return nil
	}
	var names []string
	for _, at := range which {
		names = append(names, fmt.Sprintf("%s/%d/", at.Partition, at.Offset))
	}
	return func(id []byte) bool {
		return slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(string(id)+"/", name) })
	}
}

// resendable is why no message may be sent outside of the order now, nil where one may.
func (f *Forwarder) resendable(ctx context.Context) error {
	if _, stopping := f.health.stopDeadline(); stopping {
		return ErrEnding
	}
	if until := f.pace.Status().Paused; time.Now().Before(until) {
		return fmt.Errorf("the service asked for a pause until %s, so it is %w", until.UTC().Format(time.RFC3339), ErrAsked)
	}
	return context.Cause(ctx)
}

// resend makes one attempt at a skipped message, of which the log knows before and behind.
func (f *Forwarder) resend(ctx context.Context, m SkippedMessage) (Resent, error) {
	one := Resent{Position: m.Position}
	s, err := f.skips.line(m.line)
	if err == nil && s.ID != m.ID {
		err = errRotated
	}
	if err != nil {
		one.Reason = err.Error()
		return one, err
	}
	note := func(what string) error {
		return f.skips.append(filepath.Base(f.skips.path), resentLine{time.Now().UTC(), s.ID, s.Topic, s.Partition, s.Offset, what})
	}
	if err := note(resendBegins); err != nil {
		one.Reason = err.Error()
		return one, err
	}
	v := f.push(ctx, &s, m)
	if len(v.Failed) > 0 {
		v = push.Verdict{Class: push.MessageFault, Reason: reasonNamed}
	}
	one.Delivered, one.Reason = v.Class == push.Delivered, v.Reason
	switch {
	case one.Delivered:
		return one, note(resendDelivered)
	case !v.InDoubt:
		return one, note(resendRefused)
	}
	return one, nil
}

// push makes one attempt at a message of the skip log.
func (f *Forwarder) push(ctx context.Context, s *skipped, known SkippedMessage) push.Verdict {
	m := kafka.Message{Partition: s.position().Partition, Offset: s.Offset, Timestamp: s.Timestamp, Key: s.Key, Value: s.Value}
	for _, h := range s.Headers {
		name, _ := h[0].(string)
		k := kafka.Header{Name: name}
		if text, ok := h[1].(string); ok {
			k.Value, _ = base64.StdEncoding.DecodeString(text) // as write has encoded it
		}
		m.Headers = append(m.Headers, k)
	}
	id := strings.SplitN(s.ID, "/", 4)
	it := &push.Item{Message: &m, TopicID: offsets.URLSafe(strings.Join(id[min(3, len(id)):], "")), Group: f.cfg.Group, Attempt: known.Attempts + 1, InDoubt: known.InDoubt}
	if id := f.cluster.Load(); id != nil {
		it.Cluster = *id
	}
	host := 0
	for i, h := range f.pace.Status().Hosts {
		if h.Up {
			host = i
			break
		}
	}
	return f.parts.Handler.Push(&push.Attempt{Items: []*push.Item{it}, Host: host, Gate: outside{ctx}})
}

// outside is the gate of an attempt that waits for nothing.
type outside struct{ ctx context.Context }

func (o outside) Context() context.Context { return o.ctx }

func (o outside) Fresh() bool { return false }

func (o outside) Cleared() (bool, error) { return false, context.Cause(o.ctx) }
