package forwarder

import (
	"context"
	"sync"
	"time"

	"github.com/kpush/kpush/kafka"
)

// besideAfter so long into a drain the partitions that stay get a client of their own.
const besideAfter = 200 * time.Millisecond

// drain ends partitions: no new attempt, those under way may finish until the deadline, which a stop brings closer. It
// returns when nothing of them is under way; the partitions that stay go on meanwhile. Who is at a disk that hangs is left behind.
func (c *consumer) drain(ps []*partition, cause error) {
	deadline, expire := context.WithCancel(context.Background())
	latest := c.f.drainDeadline()
	timer := time.AfterFunc(time.Until(latest), expire)
	defer timer.Stop()
	defer context.AfterFunc(c.stopping, func() {
		c.f.stopBegins()
		timer.Reset(min(time.Until(latest), time.Until(c.f.drainDeadline())))
	})()
	for _, p := range ps {
		p.stop(cause)
	}
	var all sync.WaitGroup
	for _, p := range ps {
		p.lanes.Close()
		all.Go(func() { p.drain(deadline, cause) })
	}
	over := inBackground(func() { all.Wait(); expire() })
	late := make(chan struct{})
	defer context.AfterFunc(deadline, func() { time.AfterFunc(closeTime, func() { close(late) }) })() // who was ended at the deadline has a moment to go
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
