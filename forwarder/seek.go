package forwarder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/kafka"
)

const errSeek push.Ending = "an operator has asked for another offset"

// Target says where a partition is to go on: at Offset, at the first message of Time or later, at its oldest one, or at its end.
type Target struct {
	Offset         int64
	Time           time.Time
	Beginning, End bool
}

// String is the target in words.
func (t Target) String() string {
	switch {
	case t.Beginning:
		return "beginning"
	case t.End:
		return "end"
	case !t.Time.IsZero():
		return t.Time.Format(time.RFC3339Nano)
	}
	return fmt.Sprint(t.Offset)
}

// Seek is an operator's reset while the process runs: nothing of what was known of the partitions applies any more. A partition that is
// held because nobody knows where it starts begins there. It is on the volume and in Kafka when it returns.
func (f *Forwarder) Seek(ctx context.Context, who, topic string, number int32, to Target) ([]kafka.Position, error) {
	f.renewTopics(ctx)
	ps, err := f.owned(topic, number)
	if err != nil && !errors.Is(err, ErrHeld) {
		return nil, err
	}
	held, err := f.waiting(topic, number)
	if err != nil {
		return nil, err
	}
	if topic == "" {
		return nil, fmt.Errorf("seek without a topic is %w", ErrAsked)
	}
	tps := append(partitionsOf(ps), held...)
	at, err := f.positions(ctx, tps, to)
	if err != nil {
		return nil, err
	}
	if err := f.audit(who, "seek", where(topic, number)+"@"+to.String()); err != nil {
		return nil, err
	}
	var begun atomic.Bool
	err = f.consumer.do(ctx, func(c *consumer) error {
		if err := context.Cause(ctx); err != nil {
			return err // nobody waits for it any more, and the offsets may be old
		}
		for _, p := range ps {
			if c.parts[p.Partition] != p {
				return f.absent(p.Topic, p.Number)
			}
		}
		for _, t := range held {
			if !errors.As(c.pending[t], new(holdError)) {
				return f.absent(t.Topic, t.Number)
			}
		}
		begun.Store(true)
		c.restart(errSeek, ps...)
		for _, p := range ps {
			if to.End { // what has come since Kafka was asked is there, too, and may be delivered
				at[p.Partition] = max(at[p.Partition], p.reading.next)
			}
		}
		for t, offset := range at {
			c.past.asked[t] = offset
		}
		c.startNow()
		return nil
	})
	if err != nil && begun.Load() {
		return nil, fmt.Errorf("the seek of %s is under way: what is in flight there has up to KPUSH_REVOKE_TIMEOUT; GET /status says where it goes on: %w", where(topic, number), err)
	}
	if err != nil {
		return nil, fmt.Errorf("the seek of %s was not done: %w", where(topic, number), err)
	}
	old := map[*partition]bool{}
	for _, p := range ps {
		old[p] = true
	}
	var out []kafka.Position
	for _, t := range tps {
		out = append(out, kafka.Position{Partition: t, Offset: at[t]})
	}
	return out, await(ctx, "the seek of "+where(topic, number), func() bool {
		begun := 0
		for _, p := range f.consumer.running() {
			if _, asked := at[p.Partition]; asked && !old[p] && p.ceiling.committed() >= 0 {
				begun++
			}
		}
		return begun == len(tps)
	})
}

// positions are where partitions are to go on.
func (f *Forwarder) positions(ctx context.Context, tps []kafka.Partition, to Target) (map[kafka.Partition]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, kafka.QuestionTime)
	defer cancel()
	limits, err := f.parts.Cluster.Bounds(ctx, tps)
	if err != nil {
		return nil, fmt.Errorf("Kafka does not say where the partitions begin and end: %w", err)
	}
	var since map[kafka.Partition]int64
	var newest map[kafka.Partition]time.Time
	if !to.Time.IsZero() {
		if since, err = f.parts.Cluster.Since(ctx, tps, to.Time); err != nil {
			return nil, fmt.Errorf("Kafka does not say what is of %s or later: %w", to, err)
		}
		late := slices.DeleteFunc(slices.Clone(tps), func(t kafka.Partition) bool { return since[t] >= 0 || limits[t].Oldest >= limits[t].End })
		if newest, err = f.parts.Cluster.Newest(ctx, late); err != nil {
			return nil, fmt.Errorf("Kafka does not say whether anything is of %s or later (a seek to @end, @beginning or an offset needs no answer): %w", to, err)
		}
	}
	at := map[kafka.Partition]int64{}
	for _, t := range tps {
		b, offset := limits[t], to.Offset
		switch {
		case to.Beginning:
			offset = b.Oldest
		case to.End:
			offset = b.End
		case since != nil:
			offset = since[t]
			switch at, any := newest[t]; {
			case offset >= 0:
			case any && !at.Before(to.Time): // Kafka looks no further than a segment below the oldest offset that is not removed yet
				offset = b.Oldest
			default: // nothing is as late
				offset = b.End
			}
		}
		if offset < b.Oldest || offset > b.High {
			return nil, refuse(ErrAsked, "%s has no offset %d: a seek there can go to any from %d to %d", t, offset, b.Oldest, b.High)
		}
		at[t] = offset
	}
	return at, nil
}
