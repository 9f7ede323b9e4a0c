package forwarder

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The orders of Config.Order.
const (
	OrderPartition = "partition" // one message of a partition at a time
	OrderKey       = "key"       // one message of a key at a time; without a key each is on its own
	OrderNone      = "none"
)

// turns gives out the turns: who has one may make an attempt, and Config.Concurrency may at once. A lane gets its turn
// together with a goroutine; the goroutine keeps it from message to message, and hands it on when its message has to
// wait for another attempt. Such a message asks again when its pause is over and goes first, but retries never have more than
// half of the turns: they may hang. As long as the service rests nobody gets a turn but the message that probes.
type turns struct {
	cfg     *Config
	service *service
	run     func(*lane)  // delivers a lane's first message, with a turn
	failing atomic.Int32 // messages that wait for another attempt, of all partitions

	mu      sync.Mutex
	limit   int
	taken   int
	retries int          // of those taken, by messages that failed before
	again   []*asking    // in the order in which they asked
	ring    []*partition // with a ready lane; each in its turn
	at      int          // in ring
	alarm   *time.Timer  // when the rest of the service ends
}

// asking is a delivery that waits for a turn.
type asking struct {
	d       *Delivery
	granted chan struct{}
}

func newTurns(cfg *Config, s *service, run func(*lane)) *turns {
	t := &turns{cfg: cfg, service: s, run: run, limit: cfg.Concurrency}
	s.wake = t.look
	return t
}

// push puts a message into its lane.
func (t *turns) push(p *partition, m *Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.lanes.stopped {
		p.let(m)
		return
	}
	l := p.lanes.of(p, m, t.cfg.Order)
	l.add(m)
	switch l.stage {
	case idle:
		t.release(l)
		t.dispatch()
	case ready:
		if p.lanes.waiting++; p.lanes.waiting == t.cfg.BatchSize { // enough of them
			t.list(p)
			t.dispatch()
		}
	}
}

// look gives out what can be given out now: something has changed that turns does not see by itself.
func (t *turns) look() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dispatch()
}

// resume looks again at a partition that could not go on.
func (t *turns) resume(p *partition) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list(p)
	t.dispatch()
}

// release lets a lane go on that nobody delivers any more.
func (t *turns) release(l *lane) {
	p := l.p
	if p.lanes.stopped {
		l.drop()
		return
	}
	if t.cfg.BatchSize > 1 && len(p.lanes.ready) == 0 {
		p.lanes.due = time.Now().Add(t.cfg.BatchLinger)
	}
	p.lanes.release(l)
	t.list(p)
}

func (t *turns) list(p *partition) {
	if !p.lanes.listed && !p.lanes.stopped && len(p.lanes.ready) > 0 {
		p.lanes.listed = true
		t.ring = append(t.ring, p)
	}
}

// dispatch gives out turns as long as there are any, and somebody who may have one.
func (t *turns) dispatch() {
	for t.taken < t.limit {
		d, l := t.pick()
		if d == nil && l == nil {
			return
		}
		t.taken++
		if l != nil {
			go t.run(l)
		}
	}
}

// pick chooses who gets the next turn: a delivery that asked for it, which has it when pick returns, or a lane.
func (t *turns) pick() (*Delivery, *lane) {
	if t.service.resting.Load() {
		if until, down := t.service.rest(); !until.IsZero() {
			t.wakeAt(until)
			return nil, nil
		} else if down {
			return t.probe()
		}
	}
	if len(t.again) > 0 && t.retries < max(1, t.limit/2) {
		return t.grant(0), nil
	}
	return nil, t.lane()
}

// lane is the next lane that may start, nil where there is none.
func (t *turns) lane() *lane {
	for len(t.ring) > 0 {
		t.at %= len(t.ring)
		p := t.ring[t.at]
		if len(p.lanes.ready) == 0 || t.lingers(p) || !p.admits(p.lanes.ready[0].head.Offset) {
			t.ring = slices.Delete(t.ring, t.at, t.at+1)
			p.lanes.listed = false
			continue
		}
		t.at++
		p.running.Add(1)
		l := p.lanes.take()
		if t.cfg.BatchSize > 1 {
			t.join(l)
		}
		return l
	}
	return nil
}

// grant gives a turn to the i-th of those who ask.
func (t *turns) grant(i int) *Delivery {
	a := t.again[i]
	t.again = slices.Delete(t.again, i, i+1)
	t.retries++
	a.d.turn = retryTurn
	close(a.granted)
	return a.d
}

// wakeAt looks again at that time.
func (t *turns) wakeAt(at time.Time) {
	if at.Equal(never) {
		return
	}
	if t.alarm == nil {
		t.alarm = time.AfterFunc(time.Until(at), t.look)
	} else {
		t.alarm.Reset(time.Until(at))
	}
}

// take waits for a turn. An error means that the delivery was stopped.
func (t *turns) take(d *Delivery) error {
	a := &asking{d, make(chan struct{})}
	t.mu.Lock()
	t.again = append(t.again, a)
	t.dispatch()
	t.mu.Unlock()
	select {
	case <-a.granted:
		return nil
	case <-d.ctx().Done():
	}
	t.mu.Lock()
	if i := slices.Index(t.again, a); i >= 0 {
		t.again = slices.Delete(t.again, i, i+1)
	}
	t.mu.Unlock()
	t.give(d) // it may have been granted in the meantime
	return context.Cause(d.ctx())
}

// give takes back a delivery's turn, if it has one.
func (t *turns) give(d *Delivery) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reclaim(d) {
		t.taken--
		t.dispatch()
	}
}

// reclaim takes the turn from a delivery; it still counts as taken.
func (t *turns) reclaim(d *Delivery) bool {
	had := d.turn
	if had == retryTurn {
		t.retries--
	}
	d.turn = noTurn
	return had != noTurn
}

// next ends a lane's delivery: with an outcome the lane goes on, without one it is over. The goroutine goes on with the lane
// that next returns; nil: it ends. An outcome that is not on record yet goes there together with the intent of the next
// message; where there is none, the delivery keeps its turn, and stays under way, until it is.
func (t *turns) next(l *lane, d *Delivery, done bool) *lane {
	p := l.p
	t.mu.Lock()
	defer t.mu.Unlock()
	m := l.head
	l.cut(m)
	p.let(m)
	if done {
		t.release(l)
	} else {
		l.drop()
	}
	if d.unrecorded {
		if len(t.again) > 0 || t.taken > t.limit || t.service.resting.Load() {
			return nil
		}
		l := t.lane()
		if l != nil {
			t.reclaim(d)
		}
		return l
	}
	p.running.Done() // after this nothing of the partition is under way
	return t.onward(d)
}

// onward takes the turn from a delivery that has ended, and says what its goroutine goes on with.
func (t *turns) onward(d *Delivery) *lane {
	if !t.reclaim(d) {
		t.dispatch() // the partition may go on
		return nil
	}
	if t.taken <= t.limit {
		switch d, l := t.pick(); {
		case l != nil:
			return l
		case d != nil:
			return nil // it goes on with this turn
		}
	}
	t.taken--
	return nil
}

// drop ends a partition: nothing of it starts any more. What is under way counts in p.running.
func (t *turns) drop(p *partition) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p.lanes.stopped = true
	for _, l := range p.lanes.ready {
		l.drop()
	}
	p.lanes.ready, p.lanes.waiting = nil, 0
}

// setLimit changes how many turns there are. What is taken above it ends by itself.
func (t *turns) setLimit(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limit = n
	t.dispatch()
}
