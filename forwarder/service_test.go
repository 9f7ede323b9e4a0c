package forwarder

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
)

var (
	refused = Verdict{Class: ServiceFault, Absent: true, Reason: "no connection to the service"}
	broken  = Verdict{Class: ServiceFault, Reason: "the connection broke", InDoubt: true}
	answer3 = Verdict{Class: ServiceFault, Status: 503, Reason: "the service answered 503"}
)

// While the service is down it sees one request per retry interval and host; the oldest message probes, and when an
// answer comes all go on.
func TestOnlyOneProbes(t *testing.T) {
	for _, hosts := range []int{1, 3} {
		for _, order := range []string{OrderPartition, OrderKey, OrderNone} {
			synctest.Test(t, func(t *testing.T) {
				cfg := small()
				cfg.Order = order
				cfg.Targets = make([]string, hosts)
				b := newBook()
				var up atomic.Bool
				r := newRig(t, cfg, b.keeping(func(d *Delivery) Verdict {
					if up.Load() {
						return good
					}
					return answer3
				})).run()
				r.kafka.give(t0, t1, t2)
				for _, p := range []kafka.Partition{t0, t1, t2} {
					r.kafka.produce(p, 100, 10)
				}
				r.until("the service is down", r.isDown)
				pass(2 * cfg.RetryInterval)
				before := b.count()
				pass(time.Minute)
				// the retry interval is 2 s
				if n := b.count() - before; n < 28*hosts || n > 31*hosts {
					t.Errorf("%d hosts, order %s: %d requests in a minute", hosts, order, n)
				}
				if n := len(r.logs.With("the service is down")); n != 1 {
					t.Errorf("%d lines say that the service is down", n)
				}
				up.Store(true)
				r.until("all delivered", func() bool {
					return r.kafka.storedAt(t0) == 100 && r.kafka.storedAt(t1) == 100 && r.kafka.storedAt(t2) == 100
				})
				if n := len(r.logs.With("the service is there again")); n != 1 {
					t.Errorf("%d lines say that it is there again", n)
				}
				if err := r.stop(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// The oldest message probes; once it is blocked, others do every second time: it may be the message that is at fault.
func TestAPoisonedProbeDoesNotHoldAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		r := newRig(t, small(), b.keeping(func(d *Delivery) Verdict {
			if d.Partition == t0 && d.Offset == 0 || d.Partition == t1 && d.Number() <= 3 && d.Offset == 0 {
				return broken // the first message of t0 crashes whoever takes it
			}
			return good
		})).run()
		r.kafka.give(t0, t1, t2)
		r.kafka.produce(t0, 1, 10)
		r.until("t0 has failed", func() bool { return b.count() == 1 })
		pass(100 * time.Millisecond)
		r.kafka.produce(t1, 10, 10)
		r.until("it is down", r.isDown)
		r.kafka.produce(t2, 10, 10)
		r.until("the others are delivered", func() bool { return r.kafka.storedAt(t1) == 10 && r.kafka.storedAt(t2) == 10 })
		if n := len(b.of(t0)); n < blockedAfter || n > 4*blockedAfter {
			t.Errorf("%d attempts of the poisoned one before the others were through: %v", n, b.attempts)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A message that fails on its own account for ever puts a quiet service down. What comes then has never failed, so it asks for
// no turn; it is through soon all the same, also where its first attempt fails, or another host is really down.
func TestAPoisonedProbeSharesWithWhatNeverFailed(t *testing.T) {
	for name, fault := range map[string]Verdict{"404": {Class: ServiceFault, Status: 404, Reason: "the service answered 404"}, "broken": broken} {
		for _, order := range orders {
			for hosts := 1; hosts <= 3; hosts++ {
				synctest.Test(t, func(t *testing.T) {
					cfg := small()
					cfg.Order, cfg.Targets = order, make([]string, hosts)
					b := newBook()
					r := newRig(t, cfg, b.keeping(func(d *Delivery) Verdict {
						switch {
						case d.host > 0:
							return refused
						case d.Partition == t0 && d.Offset == 0:
							return fault
						case d.Number() == 1:
							return answer3
						}
						return good
					})).run()
					r.kafka.give(t0, t1)
					keyed(r.kafka, t0, 1, 1)
					r.until("it is blocked", func() bool { return len(r.f.failures.blocked()) == 1 })
					name := fmt.Sprintf("%s, order %s, %d hosts", name, order, hosts)
					if !r.isDown() {
						t.Errorf("%s: not down", name)
					}
					pass(300 * time.Millisecond) // out of step with the probes
					p, left, before := t0, 1, b.count()
					if order == OrderPartition {
						p, left = t1, 0
					}
					keyed(r.kafka, p, 1, 1)
					intervals := map[bool]int{false: 4, true: blockedAfter + 4}[hosts > 1]
					pass(time.Duration(intervals) * cfg.RetryInterval)
					if n := r.f.consumer.parts[p].rec.Outstanding(); n != left {
						t.Errorf("%s: %d are left: %v", name, n, b.attempts[before:])
					}
					if n := b.count() - before; n > (intervals+1)*hosts {
						t.Errorf("%s: %d attempts in %d intervals: %v", name, n, intervals, b.attempts[before:])
					}
					if err := r.stop(); err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
}

// A message whose connection is refused tries the other hosts at once, each of them once; then it waits.
func TestRefusedGoesElsewhereAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		cfg.Targets = []string{"a", "b", "c"}
		var at []time.Duration
		begun := time.Now()
		r := newRig(t, cfg, handle(func(d *Delivery) Verdict {
			if at = append(at, time.Since(begun)); len(at) < 5 {
				return refused
			}
			return good
		}))
		p := r.partition(t0)
		p.push(&kafka.Message{Partition: t0})
		r.until("delivered", func() bool { return p.rec.Outstanding() == 0 })
		if at[2] != at[0] || at[3] < at[2]+cfg.RetryInterval-10*time.Millisecond {
			t.Errorf("attempts at %v", at)
		}
	})
}

// With KPUSH_SKIP_ON=any a fault counts once no other host is left to be tried at once, and then it does.
func TestFaultsOfOneRoundOfHostsCountOnce(t *testing.T) {
	for _, row := range []struct {
		name     string
		hosts    int
		dead     []int
		nums     int
		verdict  Verdict
		known    bool // that the dead ones are
		heals    time.Duration
		skipped  bool
		attempts int
	}{
		{"a probe of one that is dead, the other is well", 2, []int{0}, 1, refused, true, 0, false, 2},
		{"a probe of one that answers 503, the other is well", 2, []int{0}, 1, answer3, true, 0, false, 2},
		{"three that restart", 3, []int{0, 1, 2}, 3, refused, false, time.Second, false, 4},
		{"all are dead for long", 3, []int{0, 1, 2}, 3, refused, false, time.Hour, true, 5},
		{"one that is dead alone", 1, []int{0}, 3, refused, false, time.Hour, true, 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := small()
			cfg.Targets, cfg.CanSkip, cfg.SkipOnAny, cfg.RetryNums = make([]string, row.hosts), true, true, row.nums
			b, begun := newBook(), time.Now()
			var asked []int
			well := b.keeping(func(d *Delivery) Verdict {
				asked = append(asked, d.host)
				if slices.Contains(row.dead, d.host) && (row.heals == 0 || time.Since(begun) < row.heals) {
					return row.verdict
				}
				return good
			})
			r := newRig(t, cfg, handle(func(d *Delivery) Verdict {
				switch {
				case d.Partition == t0:
					return well.Push(d.a)
				case d.host == 0:
					return refused
				}
				return good
			}))
			if row.known {
				other := r.partition(t1)
				for o := int64(0); r.f.Status().Service.Hosts[0].Up; o++ {
					other.push(&kafka.Message{Partition: t1, Offset: o})
					synctest.Wait()
				}
				drained(other, 0, errStopping)
				pass(cfg.RetryInterval + time.Millisecond)
			}
			p := r.partition(t0)
			p.push(&kafka.Message{Partition: t0})
			r.until("it has its outcome", func() bool { return p.rec.Outstanding() == 0 })
			if skipped := len(r.logs.With("message skipped")) > 0; skipped != row.skipped || b.count() != row.attempts {
				t.Errorf("%s: skipped is %t after attempts at %v, want %t after %d", row.name, skipped, asked, row.skipped, row.attempts)
			}
		})
	}
}

// Deliveries wait until the gate is open.
func TestClosedUntilReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		cfg.ReadyURL = "http://x/"
		b := newBook()
		r := newRig(t, cfg, b.keeping(func(*Delivery) Verdict { return good }))
		p := r.partition(t0)
		for o := range int64(10) {
			p.push(&kafka.Message{Partition: t0, Offset: o})
		}
		pass(time.Hour)
		if b.count() != 0 {
			t.Fatal("delivered before the service was ready")
		}
		r.f.pace.Ready()
		synctest.Wait()
		if b.count() != 10 {
			t.Errorf("%d of 10 when it is", b.count())
		}
	})
}
