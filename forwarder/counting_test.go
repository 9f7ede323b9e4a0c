package forwarder

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// dice are random numbers for many goroutines.
type dice struct {
	mu sync.Mutex
	*rand.Rand
}

func (d *dice) n(below int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.IntN(below)
}

// anything is a Handler and a confirm URL that say anything.
type anything struct{ *dice }

func (a anything) Push(at *push.Attempt) Verdict {
	select {
	case <-time.After(time.Duration(a.n(2000)) * time.Millisecond):
	case <-at.Context().Done():
		return Verdict{Class: Aborted, InDoubt: a.n(2) == 0, Reason: context.Cause(at.Context()).Error()}
	}
	if _, err := at.Gate.Cleared(); err != nil {
		return Verdict{Class: Aborted, Reason: err.Error()}
	}
	all := []Verdict{good, good, good, refused, broken, answer3, {Class: MessageFault, Status: 500, Reason: "500"}, {Class: MessageFault, InDoubt: true, Reason: "no answer"},
		{Class: Busy, Status: 429, RetryAfter: time.Second, Reason: "429"}, {Class: Skip, Reason: "skip"}, {Class: push.GiveUp, Reason: "dead-letter"},
		{Class: Aborted, Stale: true, InDoubt: true, Reason: "stale"}, {Class: Aborted, Wants: true, Reason: "no ports"}, {Class: MessageFault, Status: 400, Spared: true, Reason: "400"},
		{Class: Delivered, Failed: []int64{at.Items[0].Offset}}}
	v := all[a.n(len(all))]
	if len(at.Items) == 1 && v.Failed != nil {
		v.Failed = nil
	}
	return v
}

func (a anything) confirm(ctx context.Context, host int, _ string) push.Reply {
	select {
	case <-time.After(time.Duration(a.n(500)) * time.Millisecond):
	case <-ctx.Done():
		return push.Reply{Verdict: Verdict{Class: Aborted}}
	}
	all := []push.Reply{{Known: true, Verdict: Verdict{Status: 404}}, {Known: true, Has: true, Verdict: Verdict{Status: 200}}, {Verdict: Verdict{Status: 500}}, {Verdict: refused}, {Host: push.Elsewhere, Verdict: broken}}
	r := all[a.n(len(all))]
	if r.Host == 0 {
		r.Host = host
	}
	return r
}

// Whatever becomes of messages, of their partitions, and of the skips and pauses of operators: in the end nothing counts as failing, as
// under way, or as held, and what has no outcome has none by a stop.
func TestNothingIsCountedTwice(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			random := &dice{Rand: rand.New(rand.NewPCG(seed, 14))}
			cfg := small()
			cfg.Targets = []string{"a", "b", "c"}[:1+random.n(3)]
			cfg.Order, cfg.Concurrency, cfg.CanSkip, cfg.SkipOnAny = orders[random.n(3)], 1+random.n(6), random.n(3) > 0, random.n(3) == 0
			cfg.BatchSize, cfg.BatchLinger, cfg.GiveUpInARow = 1+random.n(2)*random.n(5), 5*time.Millisecond, random.n(2)*12
			if random.n(3) == 0 {
				cfg.DeadLetterTopic = "dead"
			}
			any := anything{random}
			r := newRig(t, cfg, any)
			r.letters.spoil(func(context.Context, kafka.Record) error {
				if random.n(3) == 0 {
					return errors.New("no leader")
				}
				return nil
			}, nil)
			if random.n(2) == 0 {
				r.f.parts.Confirm = any.confirm
			}
			var all []*partition
			for n := range int32(3) {
				at := kafka.Partition{Topic: "t", Number: n}
				p := r.partition(at, offsets.Attempt{Offset: 2, Number: 1, InDoubt: true}, offsets.Attempt{Offset: 3, Number: 9})
				all = append(all, p)
				for offset := range int64(20) {
					p.push(&kafka.Message{Partition: at, Offset: offset, Key: []byte{byte(random.n(4))}})
				}
			}
			for range 40 {
				p := all[random.n(len(all))]
				switch random.n(6) {
				case 0:
					r.f.SkipBlocked()
				case 1:
					r.f.giveUp(r.f.failures.where(func(one *failure) bool { return one.Partition == p.Partition }))
				case 2:
					p.gate.shut()
				case 3:
					p.gate.open()
					p.lanes.Resume()
				}
				pass(time.Duration(random.n(3000)) * time.Millisecond)
				if random.n(60) == 0 {
					drained(p, time.Duration(random.n(3))*time.Second, errRevoked)
				}
			}
			for _, p := range all {
				drained(p, time.Duration(random.n(3))*time.Second, errRevoked)
			}
			synctest.Wait()
			s := r.f.pace.Status()
			if s.Taken != 0 || s.InFlight != 0 || s.Failing != 0 || len(r.f.failures.m) != 0 || r.f.unburied.Load() != 0 || r.f.budget.held.Load() != 0 {
				t.Errorf("seed %d: %d turns, %d in flight, %d failing, %d listed, %d unburied, %d bytes", seed, s.Taken, s.InFlight, s.Failing, len(r.f.failures.m), r.f.unburied.Load(), r.f.budget.held.Load())
			}
			for _, p := range all {
				g := &p.gauge
				if p.failing.Load() != 0 || g.underWay.Load() != 0 || int64(p.rec.Outstanding()) != g.outstanding() {
					t.Errorf("seed %d: %s: %d failing, %d under way, %d without an outcome on record, %d by the gauge", seed, p.Partition, p.failing.Load(), g.underWay.Load(), p.rec.Outstanding(), g.outstanding())
				}
			}
		})
	}
}
