package forwarder

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// drained gives one partition up.
func drained(p *partition, atMost time.Duration, cause error) {
	p.stop(cause)
	p.lanes.Close()
	deadline, cancel := context.WithTimeout(context.Background(), atMost)
	defer cancel()
	p.drain(deadline, cause)
}

// A request under way in a partition that goes holds up none that stays: while the rebalance callback waits for it they are
// read on, in order and once, also what comes meanwhile, and afterwards by the consumer again.
func TestALongDrainHoldsUpNobody(t *testing.T) {
	for _, guarantee := range []int{2, 1} {
		synctest.Test(t, func(t *testing.T) {
			b, cfg := newBook(), small()
			cfg.RevokeTimeout = 20 * time.Second
			r := newRig(t, cfg, b.keeping(func(d *Delivery) Verdict {
				if d.Partition == t0 {
					<-time.After(10 * time.Second)
				}
				return good
			}))
			if guarantee == 1 {
				r.assemble(cfg, r.f.parts.Handler, offsets.InMemory(offsets.Options{}), r.f.log)
			}
			r.run()
			for _, p := range []kafka.Partition{t0, t1, t2} {
				r.kafka.produce(p, 300, 10)
			}
			r.kafka.give(t0, t1, t2)
			r.until("the first ones", func() bool { return len(b.of(t1)) == 300 && len(b.of(t2)) == 300 })
			gone := make(chan struct{})
			go func() { defer close(gone); r.kafka.take(false, t0) }()
			pass(time.Second)
			for range 5 {
				r.kafka.produce(t1, 100, 10)
				r.kafka.produce(t2, 100, 10)
				pass(time.Second)
			}
			select {
			case <-gone:
				t.Fatal("the revoke did not wait for the request under way")
			default:
			}
			if n1, n2 := len(b.of(t1)), len(b.of(t2)); n1 != 800 || n2 != 800 {
				t.Errorf("guarantee %d: %d and %d of 800 messages were sent while the callback waited", guarantee, n1, n2)
			}
			<-gone
			r.kafka.produce(t1, 100, 10)
			r.kafka.produce(t2, 100, 10)
			r.until("all committed", func() bool { return r.kafka.storedAt(t1) == 900 && r.kafka.storedAt(t2) == 900 })
			for _, p := range []kafka.Partition{t1, t2} {
				var want []string
				for o := range 900 {
					want = append(want, fmt.Sprintf("%s/%d#1", p, o))
				}
				if got := b.of(p); !slices.Equal(got, want) {
					t.Errorf("guarantee %d: %s got %d requests, not each of 900 messages once and in order", guarantee, p, len(got))
				}
			}
			if n := len(r.kafka.callsOf("stand-in")); n != 1 {
				t.Errorf("%d stand-ins, want one", n)
			}
			if got := b.of(t0); len(got) != 1 || r.kafka.storedAt(t0) != 1 {
				t.Errorf("of the partition that went %v was sent, committed up to %d", got, r.kafka.storedAt(t0))
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// What was paused stays so on both sides of a stand-in: a stuck partition is not read on and on, and flows when it may again.
func TestALongDrainKeepsPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, cfg := newBook(), tight()
		cfg.RevokeTimeout = cfg.DrainTimeout
		stuck := true
		r := newRig(t, cfg, b.keeping(func(d *Delivery) Verdict {
			switch {
			case d.Partition == t0:
				<-time.After(24 * time.Second)
			case d.Partition == t1 && stuck:
				return bad
			}
			return good
		})).run()
		for _, p := range []kafka.Partition{t0, t1, t2} {
			r.kafka.produce(p, 500, 1000)
		}
		r.kafka.give(t0, t1, t2)
		r.until("the flowing one", func() bool { return len(b.of(t2)) == 500 })
		most := r.highWater()
		gone := make(chan struct{})
		go func() { defer close(gone); r.kafka.take(false, t0) }()
		pass(time.Second)
		r.kafka.produce(t2, 500, 1000)
		pass(3 * time.Second)
		select {
		case <-gone:
			t.Fatal("the callback has not waited")
		default:
		}
		if n := len(b.of(t2)); n < 600 { // a buffer this small is refilled ten times a second
			t.Errorf("%d of 1000 messages of the one that flows were sent", n)
		}
		<-gone
		if got, bound := most(), r.f.budget.bound; got > bound+bound/2+3*kilo {
			t.Errorf("%d bytes were held, the bound is %d", got, bound)
		}
		stuck = false
		r.until("all committed", func() bool { return r.kafka.storedAt(t1) == 500 && r.kafka.storedAt(t2) == 1000 })
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A stop that comes while a callback waits has its time from then on, not once the callback has returned.
func TestAStopWithinADrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		cfg.DrainTimeout = 8 * time.Second
		b := newBook()
		r := newRig(t, cfg, b.keeping(func(d *Delivery) Verdict {
			<-d.Attempt().Done() // hangs
			return Verdict{Class: Aborted}
		})).run()
		r.kafka.produce(t0, 5, 10)
		r.kafka.produce(t1, 5, 10)
		r.kafka.give(t0, t1)
		r.until("a request under way in each", func() bool { return b.count() == 2 })
		go r.kafka.take(false, t0)
		pass(3 * time.Second)
		begun := time.Now()
		err := r.stop()
		if took := time.Since(begun); took > cfg.DrainTimeout {
			t.Errorf("the stop took %s of %s", took, cfg.DrainTimeout)
		}
		if err != nil && !strings.Contains(err.Error(), "KPUSH_DRAIN_TIMEOUT") {
			t.Error(err)
		}
	})
}
