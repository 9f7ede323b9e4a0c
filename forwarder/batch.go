package forwarder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/kpush/kpush/offsets"
)

// batch is messages of one partition that go into one request: the oldest of several lanes, each lane's in its order.
// It belongs to the goroutine that delivers it. The turn is that of its first delivery.
type batch struct {
	p     *partition
	items []*Delivery // without an outcome
	lanes []*lane     // under way, with a message among the items
	size  int         // of the next request, at the most
}

// batcher is a Handler that takes many messages at once: it makes attempts at the batch that d is the first of, until none has
// to follow, d has its outcome, or the partition stops.
type batcher interface{ handleBatch(d *Delivery) }

// gather takes more messages to the lane whose turn it is: from it and from the partition's other ready lanes.
func (t *turns) gather(l *lane) *batch {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, most := l.p, t.cfg.BatchSize
	b := &batch{p: p, size: math.MaxInt, lanes: []*lane{l}}
	for {
		for m := l.head; m != nil && len(b.items) < most; m = m.next {
			if m != l.head && !p.admits(m.Offset) {
				return b
			}
			d := newDelivery(p, m)
			d.lane = l
			b.items = append(b.items, d)
		}
		if len(b.items) == most || len(p.lanes.ready) == 0 || !p.admits(p.lanes.ready[0].head.Offset) {
			break
		}
		l = p.lanes.take()
		b.lanes = append(b.lanes, l)
	}
	p.lanes.due = time.Now().Add(t.cfg.BatchLinger)
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
		d.lane.cut(d.Message)
		b.p.let(d.Message)
	}
	t.free(b)
}

// part gives back all lanes but that of the first item: it failed alone, and the others need not wait for it. Their attempts
// are known to the record.
func (t *turns) part(b *batch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b.items = slices.DeleteFunc(b.items, func(d *Delivery) bool {
		if d.lane == b.items[0].lane {
			return false
		}
		d.close()
		return true
	})
	t.free(b)
}

// free lets the lanes go on of which the batch has no item any more.
func (t *turns) free(b *batch) {
	b.lanes = slices.DeleteFunc(b.lanes, func(l *lane) bool {
		if slices.ContainsFunc(b.items, func(d *Delivery) bool { return d.lane == l }) {
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
	var done []*Delivery
	b.items = slices.DeleteFunc(b.items, func(d *Delivery) bool {
		if d.final && b.p.conclude(d) {
			done = append(done, d)
			return true
		}
		return false
	})
	if len(done) > 0 {
		b.p.f.turns.settle(b, done)
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
		next := offsets.Attempt{Offset: d.Offset, Number: d.attempt.Number + 1, Faults: d.attempt.Faults, InDoubt: d.attempt.InDoubt}
		for {
			err := b.p.rec.Intent(next)
			if err == nil {
				break
			}
			if err := b.p.diskWait(lead.ctx(), err); err != nil {
				return err
			}
		}
		d.attempt, d.begun, d.since = next, lead.begun, lead.since
	}
	return nil
}

// ended gives each item of a request its verdict. A message fault of several together is nobody's: the next request is half
// as large, until the message at fault is alone.
func (b *batch) ended(lead *Delivery, v Verdict, failed map[int64]bool) {
	sent := slices.Clone(b.request())
	whole := v.Class != Delivered
	v.shared = v.Class == MessageFault && len(sent) > 1
	took := time.Since(lead.begun)
	for _, d := range sent {
		single := v
		if failed[d.Offset] {
			single = Verdict{Class: MessageFault, Status: v.Status, Reason: "the service named it in batchItemFailures"}
		}
		d.take(single, took)
	}
	lead.tell(v, took)
	b.finish()
	switch {
	case v.shared:
		b.size = max(1, len(sent)/2)
	case whole && len(sent) == 1 && v.Class == MessageFault && len(b.items) > 1:
		b.p.f.turns.part(b)
	}
	if len(b.items) > 0 {
		b.p.f.turns.give(lead)
	}
}

// batchFailures reads what a 2xx says of single messages: the offsets that failed. An identifier that is none of the sent
// ones is an error: nobody knows what the service meant.
func batchFailures(body []byte, sent []*Delivery) (map[int64]bool, error) {
	var said struct {
		Failures []struct {
			ID string `json:"itemIdentifier"`
		} `json:"batchItemFailures"`
	}
	if len(body) == 0 || json.Unmarshal(body, &said) != nil || len(said.Failures) == 0 {
		return nil, nil
	}
	known := make(map[string]int64, len(sent))
	for _, d := range sent {
		known[fmt.Sprintf("%s/%d/%d", d.Topic, d.Partition, d.Offset)] = d.Offset
	}
	failed := make(map[int64]bool, len(said.Failures))
	for _, f := range said.Failures {
		id := f.ID
		if parts := strings.Split(id, "/"); len(parts) == 4 { // with the topic id
			id = strings.Join(parts[:3], "/")
		}
		offset, ok := known[id]
		if !ok {
			return nil, errors.New("batchItemFailures names a message that was not in the batch")
		}
		failed[offset] = true
	}
	return failed, nil
}
