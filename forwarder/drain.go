package forwarder

import (
	"context"
	"sync"
	"time"
)

// standInAfter so long into a drain the partitions that stay get a client of their own.
const standInAfter = 200 * time.Millisecond

// drain ends partitions: no new attempt, those under way may finish until the deadline, which a stop brings closer. It
// returns when nothing of them is under way; the partitions that stay go on meanwhile.
func (f *Forwarder) drain(ps []*partition, cause error) {
	late := make(chan struct{})
	over := sync.OnceFunc(func() { close(late) })
	deadline := f.drainDeadline()
	timer := time.AfterFunc(time.Until(deadline), over)
	defer timer.Stop()
	defer context.AfterFunc(f.stopping, func() {
		f.stopBegins()
		timer.Reset(min(time.Until(deadline), time.Until(f.drainDeadline())))
	})()
	for _, p := range ps {
		p.stop(cause)
	}
	var all sync.WaitGroup
	for _, p := range ps {
		f.turns.drop(p)
		all.Go(func() { p.drain(late, cause) })
	}
	gone := make(chan struct{})
	go func() {
		all.Wait()
		close(gone)
	}()
	t := time.NewTimer(standInAfter)
	defer t.Stop()
	select {
	case <-gone:
	case <-t.C:
		f.meanwhile(gone)
	}
	<-gone
}

// meanwhile feeds the partitions that stay until gone is closed. In a rebalance callback the consumer fetches nothing of them,
// and the end of a request under way may be far. So they are read by a stand-in, which knows of no group, from where the
// consumer is; what it has brought, the consumer brings again later, and take drops it.
func (f *Forwarder) meanwhile(gone <-chan struct{}) {
	var at []tpOffset
	var paused []*partition
	for t, p := range f.parts {
		if !p.goes() {
			continue
		}
		at = append(at, tpOffset{t, p.next})
		if p.paused {
			paused = append(paused, p)
		}
	}
	if len(at) == 0 || f.stopping.Err() != nil || f.waiting {
		return
	}
	s, err := f.client.standIn(at)
	if err != nil {
		f.log.Warn("the partitions that stay are not read until those that go are drained", "error", err)
		return
	}
	defer func() { go func() { _ = s.close() }() }() // it may block for as long as a broker is silent, and holds nothing
	f.source, f.waiting = s, true
	f.pause(paused...)
	for now, open := time.Now(), true; open && f.stopping.Err() == nil; {
		now, _ = f.turn(now)
		select {
		case <-gone:
			open = false
		default:
		}
	}
	f.source, f.waiting = f.client, false
	f.takeBack()
}

// takeBack gives the partitions that the stand-in has read to the consumer again.
func (f *Forwarder) takeBack() {
	var paused []*partition
	var resumed []tp
	for t, p := range f.parts {
		if !p.goes() {
			continue
		}
		p.behind = true
		if p.paused {
			paused = append(paused, p)
		} else {
			resumed = append(resumed, t)
		}
	}
	f.pause(paused...)
	f.resume(resumed)
}
