package forwarder

import (
	"context"
	"sync"
	"time"

	"github.com/kpush/kpush/kafka"
)

// besideAfter so long into a drain the partitions that stay get a client of their own.
const besideAfter = 200 * time.Millisecond

// deadline is when a drain ends, at the latest. It only comes closer.
type deadline struct {
	context.Context // until then
	expire          context.CancelFunc
	mu              sync.Mutex
	at              time.Time
	timer           *time.Timer
}

func newDeadline(at time.Time) *deadline {
	d := &deadline{at: at}
	d.Context, d.expire = context.WithCancel(context.Background())
	d.timer = time.AfterFunc(time.Until(at), d.expire)
	return d
}

// sooner brings it closer.
func (d *deadline) sooner(at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if at.Before(d.at) {
		d.at = at
		d.timer.Reset(time.Until(at))
	}
}

// drain ends partitions: no new attempt, those under way may finish until the deadline. It returns when nothing of them is under way;
// the partitions that stay go on meanwhile. Who is at a disk that hangs is left behind.
func (c *consumer) drain(ps []*partition, cause error) {
	if len(ps) == 0 {
		return
	}
	until := newDeadline(c.f.drainDeadline())
	defer until.expire()
	defer context.AfterFunc(c.stopping, func() {
		c.f.stopBegins()
		until.sooner(c.f.drainDeadline())
	})()
	go c.hurry(until)
	for _, p := range ps {
		p.stop(cause)
	}
	var all sync.WaitGroup
	for _, p := range ps {
		p.lanes.Close()
		all.Go(func() { p.drain(until, cause) })
	}
	over := inBackground(func() { all.Wait(); until.expire() })
	late := make(chan struct{})
	defer context.AfterFunc(until, func() { time.AfterFunc(closeTime, func() { close(late) }) })() // who was ended at the deadline has a moment to go
	waits, gone := context.WithCancel(c.stopping)
	defer gone()
	go func() { either(over, late); gone() }()
	select {
	case <-waits.Done():
	case <-time.After(besideAfter):
		c.meanwhile(waits)
	}
	either(over, late)
}

// either returns when one of them is closed.
func either(a, b <-chan struct{}) {
	select {
	case <-a:
	case <-b:
	}
}

// hurry ends a drain once the membership has ended, or the client has failed: nothing can be handed over any more. And it gives a stop no
// more time than a revoke has once the group waits for this member.
func (c *consumer) hurry(until *deadline) {
	for waited := false; sleep(until, askAfter) == nil; {
		if c.client.Member() == "" {
			until.sooner(time.Now())
			return
		}
		if _, stopping := c.f.health.stopDeadline(); !stopping || waited {
			continue
		}
		question, cancel := context.WithTimeout(until, kafka.QuestionTime)
		group, err := c.f.parts.Cluster.Group(question, c.f.cfg.Group)
		cancel()
		if waited = err == nil && group.Rebalancing; waited {
			until.sooner(c.f.revokeDeadline())
		}
	}
}

// meanwhile feeds the partitions that stay for as long as the drain waits. In a rebalance callback the consumer fetches nothing of
// them, and the end of a request under way may be far. So they are read by a reader without a group, from where the consumer is;
// what it has brought, the consumer brings again later, and dispatch drops it.
func (c *consumer) meanwhile(waits context.Context) {
	var at []kafka.Position
	for t, p := range c.parts {
		if p.goes() {
			at = append(at, kafka.Position{Partition: t, Offset: p.reading.next})
		}
	}
	if len(at) == 0 || waits.Err() != nil {
		return
	}
	r, err := c.f.parts.Reader(at)
	if err != nil {
		c.log.Warn("the partitions that stay are not read until those that go are drained", "error", err)
		return
	}
	defer func() { go func() { _ = r.Close() }() }() // it may block for as long as a broker is silent, and holds nothing
	c.beside = true
	c.readFrom(r)
	for now := time.Now(); waits.Err() == nil; {
		now, _ = c.step(now)
	}
	c.beside = false
	c.readFrom(c.client)
	for _, p := range c.parts {
		p.reading.again = true
	}
	c.resume(partitionsOf(c.partsWhere(func(p *partition) bool { return !p.stock.paused.Load() })))
}

// readFrom has r polled from now on; what is paused is paused there, too.
func (c *consumer) readFrom(r kafka.Reader) {
	c.source = r
	c.pause(c.partsWhere(func(p *partition) bool { return p.stock.paused.Load() })...)
}
