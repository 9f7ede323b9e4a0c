package forwarder

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/kpush/kpush/offsets"
)

// batch is messages of one partition that go into one request: the oldest of several lanes, each lane's in its order.
// It belongs to the goroutine that delivers it. The turn is that of its first delivery.
type batch struct {
	p     *partition
	items []*Delivery // without an outcome
	lanes []*lane     // under way, with a message among the items
	size  int         // of the next request, at the most; never 0

	suspects int // the first so many failed together: the message at fault is among them
}

// batcher is a Handler that takes many messages at once: it makes attempts at the batch that d is the first of, until none has
// to follow, d has its outcome, or the partition stops.
type batcher interface{ handleBatch(d *Delivery) }

// join takes more of its partition's ready lanes to a lane that has got its turn, until they fill a batch. What is left waits
// for more.
func (t *turns) join(l *lane) {
	s := &l.p.lanes
	for n := l.count; n < t.cfg.BatchSize && len(s.ready) > 0 && l.p.admits(s.ready[0].head.Offset); {
		other := s.take()
		n += other.count
		l.others = append(l.others, other)
	}
	s.due = time.Now().Add(t.cfg.BatchLinger)
}

// gather makes a batch of the lane whose turn it is and those that joined it. What was tried before goes without what is new
// in its lane.
func (t *turns) gather(l *lane) *batch {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := &batch{p: l.p, size: t.cfg.BatchSize, lanes: append([]*lane{l}, l.others...)}
	l.others = nil
	for _, l := range b.lanes {
		tried := false
		for m := l.head; m != nil && len(b.items) < t.cfg.BatchSize; m = m.next {
			d := newDelivery(l.p, m)
			if m != l.head && (tried && d.attempt.Number == 0 || !l.p.admits(m.Offset)) {
				break
			}
			d.lane, tried = l, d.attempt.Number > 0
			l.batched++
			b.items = append(b.items, d)
		}
	}
	t.free(b) // those that had no room
	return b
}

// lingers tells whether a partition's messages should wait for more, so that the batch gets larger; it is looked at again
// when the time is over, or when there are enough.
func (t *turns) lingers(p *partition) bool {
	if t.cfg.BatchSize <= 1 || p.lanes.waiting >= t.cfg.BatchSize {
		return false
	}
	left := time.Until(p.lanes.due)
	if left <= 0 {
		return false
	}
	if !p.lanes.lingering {
		p.lanes.lingering = true
		time.AfterFunc(left, func() {
			t.mu.Lock()
			p.lanes.lingering = false
			t.mu.Unlock()
			t.resume(p)
		})
	}
	return true
}

// settle ends the items that have their outcome on record, and lets go on the lanes that have none left in the batch.
func (t *turns) settle(b *batch, done []*Delivery) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range done {
		d.lane.batched--
		d.lane.cut(d.Message)
		b.p.let(d.Message)
	}
	t.free(b)
}

// part gives back the lanes of which none is among the first n items: these failed, and the others need not wait for them.
// Their attempts are known to the record.
func (t *turns) part(b *batch, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	failed := map[*lane]bool{}
	for _, d := range b.items[:n] {
		failed[d.lane] = true
	}
	b.items = slices.DeleteFunc(b.items, func(d *Delivery) bool {
		if failed[d.lane] {
			return false
		}
		d.lane.batched--
		d.close()
		return true
	})
	t.free(b)
}

// free lets the lanes go on of which the batch has no item any more.
func (t *turns) free(b *batch) {
	b.lanes = slices.DeleteFunc(b.lanes, func(l *lane) bool {
		if l.batched > 0 {
			return false
		}
		t.release(l)
		return true
	})
	t.dispatch()
}

// end gives back what the batch still holds, and says what the goroutine goes on with.
func (t *turns) end(b *batch, lead *Delivery) *lane {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer b.p.running.Done()
	for _, l := range b.lanes { // stopped
		l.drop()
	}
	return t.onward(lead)
}

// workBatch is work where a request may hold many messages.
func (f *Forwarder) workBatch(l *lane) {
	for l != nil {
		b := f.turns.gather(l)
		lead := b.items[0]
		lead.turn, lead.probe, l.probe = firstTurn, l.probe, 0
		for len(b.items) > 0 && b.p.soft.Err() == nil {
			if d := b.items[0]; d != lead {
				d.turn, lead.turn = lead.turn, noTurn
				lead = d
			}
			lead.batch = b
			f.batches.handleBatch(lead)
			f.skipItems(b)
		}
		for _, d := range b.items {
			d.close()
		}
		l = f.turns.end(b, lead)
	}
}

// skipItems gives up those that SIGUSR1 skipped.
func (f *Forwarder) skipItems(b *batch) {
	for _, d := range b.items {
		if !d.final && d.waiting != nil && errors.Is(context.Cause(d.waiting), errSkipped) {
			d.final, d.outcome = true, Outcome{Skip, errSkipped.Error()}
		}
	}
	b.finish()
}

// finish records the outcomes there are. What could not be recorded stays, and comes again.
func (b *batch) finish() {
	var final, left []*Delivery
	for _, d := range b.items {
		if d.final && b.p.conclude(d) {
			final = append(final, d)
		} else {
			left = append(left, d)
		}
	}
	if len(final) > 0 && b.p.record(b.p.rec.DoneAll(offsetsOf(final)), final...) == nil {
		b.items = left
		b.p.f.turns.settle(b, final)
	}
}

// request is the items of the next request.
func (b *batch) request() []*Delivery { return b.items[:min(b.size, len(b.items))] }

// begin is Delivery.Begin for all items of the next request.
func (b *batch) begin(lead *Delivery) error {
	if err := lead.Begin(); err != nil {
		return err
	}
	for _, d := range b.request()[1:] {
		d.attempt, d.begun, d.since = d.following(), lead.begun, lead.since
	}
	return nil
}

// announce writes the intents of the next request.
func (b *batch) announce() error {
	request := b.request()
	intents := make([]offsets.Attempt, len(request))
	for i, d := range request {
		intents[i] = d.following()
	}
	return b.p.rec.IntentAll(intents)
}

// ended gives each item of a request its verdict. A fault of several together is nobody's: the next request is half as
// large, until the message at fault is alone. Those that failed by themselves are tried again by themselves.
func (b *batch) ended(lead *Delivery, v Verdict, failed map[int64]bool) {
	f, sent := b.p.f, slices.Clone(b.request())
	v.elsewhere = lead.hop(v)
	fault := v.Class == MessageFault || v.Class == ServiceFault && f.cfg.SkipOnAny && !v.elsewhere
	v.shared = fault && len(sent) > 1
	took := time.Since(lead.begun)
	var unfinished []offsets.Attempt
	for _, d := range sent {
		single := v
		if failed[d.Offset] {
			single = Verdict{Class: MessageFault, Status: v.Status, Reason: "the service named it in batchItemFailures"}
		}
		if d.take(single); !d.final {
			unfinished = append(unfinished, d.attempt)
		}
		if d != lead && (failed[d.Offset] || !d.said.IsZero()) {
			d.log(0)
		}
	}
	if len(unfinished) > 0 {
		b.p.settled(unfinished...)
	}
	lead.log(took)
	lead.tell(v, took)
	all := len(b.items)
	b.finish()
	done := all - len(b.items)
	left := len(sent) - done
	b.suspects = max(0, b.suspects-done)
	switch {
	case v.shared:
		b.suspects, b.size = len(sent), len(sent)/2
	case left > 0 && (fault || v.Class == Delivered):
		b.size = left
		f.turns.part(b, left)
	case left == 0 && b.suspects > 0:
		b.size = (b.suspects + 1) / 2
	case left == 0:
		b.size = f.cfg.BatchSize
	}
	if len(b.items) > 0 {
		f.turns.give(lead)
	}
}
