package forwarder

import (
	"log/slog"
	"sync"
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

func (b *budget) take(n int64) { b.held.Add(n) }

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

// blocked are the messages that keep failing.
type blocked struct {
	mu sync.Mutex
	m  map[*Delivery]struct{}
}

func (b *blocked) add(d *Delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.m == nil {
		b.m = make(map[*Delivery]struct{})
	}
	b.m[d] = struct{}{}
}

func (b *blocked) remove(d *Delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.m, d)
}

func (b *blocked) list() []*Delivery {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]*Delivery, 0, len(b.m))
	for d := range b.m {
		out = append(out, d)
	}
	return out
}

// repeated logs a fault that comes again and again once in a while.
type repeated struct {
	log   *slog.Logger
	every time.Duration
	text  string
	mu    sync.Mutex
	last  time.Time
}

func (r *repeated) report(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); r.last.IsZero() || now.Sub(r.last) > r.every {
		r.last = now
		r.log.Error(r.text, "error", err)
	}
}
