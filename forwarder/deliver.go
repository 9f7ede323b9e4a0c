package forwarder

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/kpush/kpush/forwarder/pace"
	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/offsets"
)

// Why a delivery is ended from outside.
const (
	errStopping   push.Ending = "kpush is stopping"
	errRevoked    push.Ending = "the partition was given to another member of the group"
	errLost       push.Ending = "the partition was lost: this process was silent for longer than the session timeout, or was removed from the group, or the topic is gone"
	errGoneBehind push.Ending = "the partition starts again: its position had left the log"
	errRemade     push.Ending = "the partition starts again: its topic was deleted and made again"
	errDeadClient push.Ending = "the Kafka client had no answer any more, and the partition may be somebody else's"
	errFatal      push.Ending = "the Kafka client has failed"
	errSkipped    push.Ending = "skipped by an operator"
)

// delivery brings batches to their outcome, one after the other; a message is a batch of one. It belongs to the goroutine that has
// the batch's turn.
type delivery struct {
	f          *Forwarder
	p          *partition
	batch      *pace.Batch
	items      []*item      // without an outcome: of the batch's messages, in their order
	room       []item       // where they are
	attempt    push.Attempt // at the first of them
	pen        pen
	unrecorded bool      // the pen holds the outcome of this batch
	began      time.Time // the newest attempt

	size     int // of the next request, at the most; never 0
	most     int // its bytes, once one was too large; 0: what the batch has
	suspects int // the first so many failed together: the message at fault is among them
}

// work delivers a batch, and goes on with what Next makes of it. Pace calls it on a goroutine of its own.
func (f *Forwarder) work(b *pace.Batch) {
	d, ok := f.deliveries.Get().(*delivery)
	if !ok {
		d = &delivery{f: f}
		d.attempt.Gate = d
	}
	d.batch = b
	for more := true; more; {
		d.unpack()
		d.run()
		more = d.next()
	}
	if d.pen.postponed() {
		d.pen.flush()
		b.Give()
	}
	f.deliveries.Put(d)
}

// unpack takes over the batch's messages.
func (d *delivery) unpack() {
	messages := d.batch.Messages()
	d.p = d.batch.Owner().(*partition)
	d.pen.carrier = d.p
	d.size, d.most, d.suspects, d.unrecorded = len(messages), 0, 0, false
	d.room = slices.Grow(d.room[:0], len(messages))[:len(messages)]
	d.items = d.items[:0]
	for i, m := range messages {
		it := &d.room[i]
		*it = item{attempt: d.p.rec.Earlier(m.Offset)}
		it.Item = push.Item{Message: m, TopicID: d.p.topicID, Cluster: d.p.identity.Cluster, Group: d.p.identity.Group, InDoubt: it.attempt.InDoubt, Replay: d.p.replay.Contains(m.Offset)}
		d.items = append(d.items, it)
	}
}

// run makes attempts until each message has its outcome, or the partition stops.
func (d *delivery) run() {
	for d.try(); d.more(); d.repeat() {
	}
}

// more tells whether another attempt has to follow.
func (d *delivery) more() bool { return len(d.items) > 0 && d.p.goes() }

// next lets go of the batch, and tells whether there is another one.
func (d *delivery) next() bool {
	for _, it := range d.items {
		d.close(it)
		it.over(false)
	}
	if !d.unrecorded {
		d.pen.flush() // of the batch before, where this one was stopped before its intent
	}
	done := len(d.items) == 0
	clear(d.room)
	return d.batch.Next(done, d.unrecorded)
}

// try makes one attempt, from the question whether it is needed to what follows from it.
func (d *delivery) try() {
	if d.f.parts.Confirm != nil && d.confirm() != nil {
		return
	}
	if d.skip(); len(d.request()) == 0 || d.prepare() != nil {
		return
	}
	d.attempt.Items = d.attempt.Items[:0]
	for _, it := range d.request() {
		it.attempt = it.following()
		it.Attempt = it.attempt.Number
		d.attempt.Items = append(d.attempt.Items, &it.Item)
		if it.InDoubt {
			d.f.counts.inDoubt.Add(1)
		}
	}
	d.p.gauge.underWay.Add(int64(len(d.attempt.Items)))
	d.attempt.Host = d.batch.Host()
	d.apply(d.f.parts.Handler.Push(&d.attempt))
}

// request is the items of the next request: none of which the service has yet to say whether it has it.
func (d *delivery) request() []*item {
	next := d.items[:min(d.size, len(d.items))]
	if d.f.parts.Confirm == nil {
		return next
	}
	if open := slices.IndexFunc(next, (*item).isOpen); open >= 0 {
		return next[:open]
	}
	return next
}

// ctx ends when nobody waits for the next attempt any more: the partition stops, or the first message is skipped.
func (d *delivery) ctx() context.Context { return d.waiting(d.items[0]) }

// waiting ends when nobody waits for a message any more.
func (d *delivery) waiting(it *item) context.Context {
	if it.failure != nil {
		return it.failure.ctx
	}
	return d.p.soft
}

// isSkipped tells whether an operator has skipped a message.
func (d *delivery) isSkipped(it *item) bool {
	return errors.Is(context.Cause(d.waiting(it)), errSkipped)
}

// blocked tells whether the first message may be why the service seems down.
func (d *delivery) blocked() bool { return d.items[0].tries() >= blockedAfter }

// prepare waits until the next attempt may start: a turn, which there is none while the service rests, the lease, and the intent in
// the file. An error means that the delivery was stopped; no attempt may follow.
func (d *delivery) prepare() error {
	for {
		for !d.batch.Goes() || !d.f.lease.valid() || d.p.gate.isShut() {
			d.pen.flush()
			if d.p.gate.isShut() {
				d.batch.Give()
				if err := d.p.gate.wait(d.ctx()); err != nil {
					return err
				}
			}
			if err := d.batch.Take(d.ctx(), d.blocked()); err != nil {
				return err
			}
			if err := d.f.lease.wait(d.ctx()); err != nil {
				return err
			}
		}
		if d.ctx().Err() != nil {
			return context.Cause(d.ctx())
		}
		err := d.pen.announce(d.p, d.request())
		if err == nil {
			break
		}
		d.batch.Give()
		if err := d.p.diskWait(d.ctx(), err); err != nil {
			return err
		}
	}
	offsets.Crash("intent written, not sent")
	if d.ctx().Err() != nil { // since the disk took its time
		d.p.withdraw(d.request())
		return context.Cause(d.ctx())
	}
	d.began = time.Now()
	d.batch.Began(d.began)
	return nil
}

// Context ends when nobody waits for the answer any more: it is the gate of a request under way.
func (d *delivery) Context() context.Context { return d.p.hard }

// Fresh asks for a new connection where a kept one has ended under the attempt before.
func (d *delivery) Fresh() bool { return d.items[0].verdict.Stale }

// Cleared waits, right before the request goes out, until the lease is valid and the pause that the service asked for is over:
// since prepare looked, the disk, a connection or the machine may have taken their time. The turn is held meanwhile, and the
// attempt begins anew. An error means that the delivery was stopped, and nothing goes out.
func (d *delivery) Cleared() (waited bool, err error) {
	for err == nil {
		if rest := d.batch.Rest(); rest > 0 {
			err = sleep(d.ctx(), rest)
		} else if !d.f.lease.valid() {
			err = d.f.lease.wait(d.ctx())
		} else if d.p.gate.isShut() {
			return true, errPaused
		} else {
			break
		}
		waited = true
	}
	if waited {
		d.began = time.Now()
		d.batch.Delayed(d.began)
	}
	if err == nil && d.ctx().Err() != nil { // the partition may be somebody else's
		err = context.Cause(d.ctx())
	}
	return waited, err
}
