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
// returns when nothing of them is under way; the partitions that stay go on meanwhile.
func (c *consumer) drain(ps []*partition, cause error) {
	late := make(chan struct{})
	over := sync.OnceFunc(func() { close(late) })
	deadline := c.f.drainDeadline()
	timer := time.AfterFunc(time.Until(deadline), over)
	defer timer.Stop()
	defer context.AfterFunc(c.stopping, func() {
		c.f.stopBegins()
		timer.Reset(min(time.Until(deadline), time.Until(c.f.drainDeadline())))
	})()
	for _, p := range ps {
		p.stop(cause)
	}
	var all sync.WaitGroup
	for _, p := range ps {
		p.lanes.Close()
		all.Go(func() { p.drain(late, cause) })
	}
	gone := make(chan struct{})
	go func() {
		all.Wait()
		close(gone)
	}()
	t := time.NewTimer(besideAfter)
	defer t.Stop()
	select {
	case <-gone:
	case <-t.C:
		c.meanwhile(gone)
	}
	<-gone
}

// meanwhile feeds the partitions that stay until gone is closed. In a rebalance callback the consumer fetches nothing of them,
// and the end of a request under way may be far. So they are read by a reader without a group, from where the
// consumer is; what it has brought, the consumer brings again later, and take drops it.
func (c *consumer) meanwhile(gone <-chan struct{}) {
	var at []kafka.Position
	var paused []*partition
	for t, p := range c.parts {
		if !p.goes() {
			continue
		}
		at = append(at, kafka.Position{Partition: t, Offset: p.reading.next})
		if p.stock.paused {
			paused = append(paused, p)
		}
	}
	if len(at) == 0 || c.stopping.Err() != nil || c.beside {
		return
	}
	s, err := c.f.parts.Reader(at)
	if err != nil {
		c.log.Warn("the partitions that stay are not read until those that go are drained", "error", err)
		return
	}
	defer func() { go func() { _ = s.Close() }() }() // it may block for as long as a broker is silent, and holds nothing
	c.source, c.beside = s, true
	c.pause(paused...)
	for now, open := time.Now(), true; open && c.stopping.Err() == nil; {
		now, _ = c.step(now)
		select {
		case <-gone:
			open = false
		default:
		}
	}
	c.source, c.beside = c.client, false
	c.takeBack()
}

// takeBack gives the partitions that the reader without a group has read to the consumer again.
func (c *consumer) takeBack() {
	var paused []*partition
	var resumed []kafka.Partition
	for t, p := range c.parts {
		if !p.goes() {
			continue
		}
		p.reading.again = true
		if p.stock.paused {
			paused = append(paused, p)
		} else {
			resumed = append(resumed, t)
		}
	}
	c.pause(paused...)
	c.resume(resumed)
}
