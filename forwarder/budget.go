package forwarder

import (
	"sync/atomic"
	"time"
)

// budget counts the bytes of the messages that wait in lanes or are under way (F5). Only the poll goroutine waits on it.
type budget struct {
	bound   int64
	held    atomic.Int64
	waiting atomic.Bool
	freed   chan struct{} // capacity 1: something was given back while the poll goroutine waited
}

func newBudget(bound int64) *budget { return &budget{bound: bound, freed: make(chan struct{}, 1)} }

func (b *budget) add(n int64) { b.held.Add(n) }

func (b *budget) free(n int64) {
	if left := b.held.Add(-n); left <= b.low() && b.waiting.Load() {
		select {
		case b.freed <- struct{}{}:
		default:
		}
	}
}

func (b *budget) full() bool { return b.held.Load() >= b.bound }

// most is what may be held while all that have enough are paused: less than Config.Buffer.
func (b *budget) most() int64 { return b.bound + b.bound/2 }

// low is where a waiting poll goroutine is woken: far enough below the bound that it is not woken for each message.
func (b *budget) low() int64 { return b.bound - b.bound/16 }

// wait returns when there is room, at the latest after a moment: rebalances must not wait for the service.
func (b *budget) wait(atMost time.Duration) {
	b.waiting.Store(true)
	defer b.waiting.Store(false)
	if b.held.Load() <= b.low() {
		return
	}
	t := time.NewTimer(atMost)
	defer t.Stop()
	select {
	case <-b.freed:
	case <-t.C:
	}
}

// stock is what a partition holds of the budget. Whoever delivers takes from it; the rest of it is the consumer's.
type stock struct {
	held     atomic.Int64 // bytes of messages in memory
	left     atomic.Int64 // bytes of messages that were in memory and are not any more
	progress atomic.Int64 // sinceBorn: the newest outcome, or when messages began to wait

	paused   atomic.Bool // by flow control: the consumer sets it
	pull     float64     // bytes a second that leave; this and the next two are owned by the consumer
	sampled  time.Time   // when that was measured
	leftThen int64
}

func (s *stock) add(n int64) {
	if s.held.Add(n) == n {
		s.touch(time.Now()) // nothing was waiting: it begins to wait now
	}
}

func (s *stock) free(n int64) {
	s.held.Add(-n)
	s.left.Add(n)
}

// touch notes progress.
func (s *stock) touch(now time.Time) { s.progress.Store(sinceBorn(now)) }

// idle is how long there has been no progress.
func (s *stock) idle(now time.Time) time.Duration {
	return time.Duration(sinceBorn(now) - s.progress.Load())
}

// lasts is how long what is held will last at the pace of the last moments.
func (s *stock) lasts() time.Duration { return lasting(s.held.Load(), s.pull) }

// sample takes the pace at which messages leave.
func (s *stock) sample(now time.Time) {
	d := now.Sub(s.sampled)
	if d < pollTime/2 {
		return
	}
	left := s.left.Load()
	if pull := float64(left-s.leftThen) / d.Seconds(); !s.sampled.IsZero() {
		s.pull = (s.pull + pull) / 2
	}
	s.sampled, s.leftThen = now, left
}
