package forwarder

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
)

// hasty is a configuration that gives up at the first fault.
func hasty(order string, more func(*settings)) settings {
	cfg := small()
	cfg.Order, cfg.CanSkip, cfg.RetryNums, cfg.GiveUpInARow = order, true, 1, 12
	if more != nil {
		more(&cfg)
	}
	return cfg
}

// skipped counts what is in the skip log.
func (r *rig) skipped() int { return len(r.logs.With("message skipped")) }

// A service that answers each message with a fault of the message's loses no more than the bound: the rest waits as behind a service
// that is down, one request an interval, until one is delivered.
func TestGivingUpNeedsEvidence(t *testing.T) {
	t.Parallel()
	for _, bound := range []int{0, 1, 12} {
		for _, order := range orders {
			for name, verdict := range map[string]Verdict{
				"400":     {Class: MessageFault, Status: 400, Reason: "the service answered 400", Sent: "Host: shop and Content-Type: text/plain"},
				"service": {Class: ServiceFault, Status: 404, Reason: "the service answered 404"}, // with KPUSH_SKIP_ON=any
			} {
				synctest.Test(t, func(t *testing.T) {
					var well atomic.Bool
					b := newBook()
					r := newRig(t, hasty(order, func(c *settings) { c.GiveUpInARow, c.SkipOnAny = bound, name == "service" }), b.keeping(func(*Delivery) Verdict {
						if well.Load() {
							return good
						}
						return verdict
					})).run()
					defer r.stop()
					name := fmt.Sprintf("%s, order %s, bound %d", name, order, bound)
					r.kafka.produce(t0, 200, 10)
					r.kafka.produce(t1, 200, 10)
					r.kafka.give(t0, t1)
					pass(time.Minute)
					before := b.count()
					pass(time.Minute)
					notes := strings.Join(r.f.Notes(), "; ")
					switch n := b.count() - before; {
					case bound == 0:
						if name := name; r.skipped() != 400 && verdict.Class == MessageFault {
							t.Errorf("%s: %d skipped", name, r.skipped())
						}
						return
					case r.skipped() != bound:
						t.Errorf("%s: %d skipped", name, r.skipped())
					case n > 31:
						t.Errorf("%s: %d requests in a minute", name, n)
					case verdict.Class == MessageFault && !(strings.Contains(notes, "nothing more is given up") && strings.Contains(notes, verdict.Reason) && strings.Contains(notes, verdict.Sent)):
						t.Errorf("%s: notes %q", name, notes)
					}
					well.Store(true)
					r.until("all delivered", func() bool { return r.kafka.storedAt(t0) == 200 && r.kafka.storedAt(t1) == 200 })
					if notes := strings.Join(r.f.Notes(), "; "); r.skipped() != bound || strings.Contains(notes, "given up") {
						t.Errorf("%s: %d skipped in the end, notes %q", name, r.skipped(), notes)
					}
				})
			}
		}
	}
}

// A delivery ends a row: among good messages any number is given up.
func TestADeliveryIsEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hasty(OrderPartition, nil), handle(func(d *Delivery) Verdict {
			if d.Offset%13 == 0 {
				return good
			}
			return bad
		})).run()
		defer r.stop()
		r.kafka.produce(t0, 130, 10)
		r.kafka.give(t0)
		r.until("all done", func() bool { return r.kafka.storedAt(t0) == 130 })
		if n := r.skipped(); n != 120 || len(r.logs.With("given up")) > 0 {
			t.Errorf("%d skipped", n)
		}
	})
}

// The message that is at fault itself holds up the others no longer than until it is blocked: then others probe, and one that is
// delivered is the evidence.
func TestEvidenceComesFromOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hasty(OrderPartition, nil), handle(func(d *Delivery) Verdict {
			if d.Partition == t0 {
				return bad
			}
			return good
		})).run()
		defer r.stop()
		r.kafka.produce(t0, 40, 10)
		r.kafka.give(t0, t1)
		pass(time.Minute)
		if n := r.skipped(); n != 12 {
			t.Fatalf("%d skipped", n)
		}
		r.kafka.produce(t1, 1, 10)
		r.until("the other one", func() bool { return r.kafka.storedAt(t1) == 1 })
		pass(time.Hour)
		if n := r.skipped(); n != 24 {
			t.Errorf("%d skipped behind one delivery, want twice the bound", n)
		}
	})
}

// What the service or an operator decides needs no evidence; an operator's skip ends the row.
func TestDecisionsNeedNoEvidence(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		verdict Verdict
		want    int
	}{"the service says skip": {Verdict{Class: Skip, Reason: "because"}, 40}, "an operator skips": {bad, 12 + 1 + 12}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, hasty(OrderPartition, nil), handle(func(d *Delivery) Verdict { return row.verdict })).run()
			defer r.stop()
			r.kafka.produce(t0, 40, 10)
			r.kafka.give(t0)
			pass(time.Hour)
			r.f.SkipBlocked()
			pass(time.Hour)
			if n := r.skipped(); n != row.want {
				t.Errorf("%s: %d skipped, want %d", name, n, row.want)
			}
		})
	}
}

// hanging is a service that does not answer those that hang within timeout.
func hanging(timeout time.Duration, hang func(*Delivery) bool) handle {
	return func(d *Delivery) Verdict {
		if !hang(d) {
			pass(time.Millisecond)
			return good
		}
		pass(timeout)
		return Verdict{Class: MessageFault, InDoubt: true, Reason: "no answer within KPUSH_EXEC_TIMEOUT"}
	}
}

// Three different messages without an answer are a service that stands still: it is down, none of them is at fault, and what is
// under way when it goes on is not either.
func TestAServiceThatStandsStill(t *testing.T) {
	for _, order := range orders {
		for _, nums := range []int{1, 2, 3} {
			for hosts := 1; hosts <= 2; hosts++ {
				synctest.Test(t, func(t *testing.T) {
					cfg := hasty(order, func(c *settings) { c.RetryNums, c.ExecTimeout, c.Targets = nums, 2*time.Second, make([]string, hosts) })
					var still atomic.Bool
					r := newRig(t, cfg, hanging(cfg.ExecTimeout, func(*Delivery) bool { return still.Load() })).run()
					defer r.stop()
					var all []kafka.Partition
					for n := range int32(8) {
						all = append(all, kafka.Partition{Topic: "t", Number: n})
					}
					r.kafka.give(all...)
					feed := func() {
						for _, p := range all {
							r.kafka.produce(p, 20, 10)
						}
					}
					feed()
					pass(10 * time.Second)
					still.Store(true)
					feed()
					pass(30 * time.Second)
					name := fmt.Sprintf("order %s, %d attempts, %d hosts", order, nums, hosts)
					if notes := strings.Join(r.f.Notes(), "; "); !strings.Contains(notes, "the service is down (no answer within KPUSH_EXEC_TIMEOUT") {
						t.Errorf("%s: notes %q", name, notes)
					}
					still.Store(false)
					r.until("all done", func() bool {
						for _, p := range all {
							if r.kafka.storedAt(p) != 40 {
								return false
							}
						}
						return true
					})
					if n := r.skipped(); n != 0 {
						t.Errorf("%s: %d skipped", name, n)
					}
				})
			}
		}
	}
}

// Messages that hang while others are answered are at fault, also three at once; so is one that hangs all alone, and two.
func TestMessagesThatHang(t *testing.T) {
	for _, row := range []struct{ hang, others, attempts int }{{1, 500, 2}, {3, 500, 2}, {1, 0, 2}, {2, 0, 3}} {
		synctest.Test(t, func(t *testing.T) {
			cfg := hasty(OrderPartition, func(c *settings) { c.RetryNums, c.ExecTimeout = 2, 300*time.Millisecond })
			b := newBook()
			r := newRig(t, cfg, b.keeping(hanging(cfg.ExecTimeout, func(d *Delivery) bool { return int(d.Partition.Number) < row.hang }))).run()
			defer r.stop()
			all := []kafka.Partition{{Topic: "t"}, {Topic: "t", Number: 1}, {Topic: "t", Number: 2}, {Topic: "t", Number: 3}}
			r.kafka.give(all...)
			for n := range row.hang {
				r.kafka.produce(all[n], 1, 10)
			}
			for range row.others {
				r.kafka.produce(all[3], 1, 10)
				pass(50 * time.Millisecond)
			}
			pass(time.Minute)
			if n := r.skipped(); n != row.hang || len(r.logs.With("the service is down")) > 0 {
				t.Errorf("%+v: %d skipped", row, n)
			}
			for n := range row.hang {
				if got := len(b.of(all[n])); got > row.attempts || got < 2 {
					t.Errorf("%+v: %d attempts", row, got)
				}
			}
		})
	}
}

// Where fewer than three messages can be under way nobody can tell who stands still until three have had no answer: two are given up at the most, also of
// a batch whose halves are tried one after the other.
func TestAServiceThatStandsStillCostsALoneLaneTwo(t *testing.T) {
	for _, row := range []struct{ lanes, size, nums int }{{1, 1, 1}, {1, 1, 3}, {2, 1, 3}, {1, 8, 1}, {1, 20, 3}, {2, 20, 3}, {1, 100, 1}} {
		synctest.Test(t, func(t *testing.T) {
			cfg := batches(max(2, row.size), OrderPartition, func(c *settings) {
				c.CanSkip, c.RetryNums, c.ExecTimeout, c.RetryInterval, c.RetryMaxInterval, c.GiveUpInARow = true, row.nums, time.Second, 200*time.Millisecond, 200*time.Millisecond, 12
			})
			cfg.BatchSize = row.size
			var handler Handler
			if row.size == 1 {
				handler = hanging(cfg.ExecTimeout, func(*Delivery) bool { return true })
			}
			r := newRig(t, cfg, handler)
			if row.size > 1 {
				opened(r, func(posted) reply { return reply{hang: true} })
			}
			for n := range int32(row.lanes) {
				load(r.partition(kafka.Partition{Topic: "t", Number: n}), 100, 0)
			}
			pass(10 * time.Minute)
			if n := r.skipped(); n > 2 {
				t.Errorf("%+v: %d given up", row, n)
			}
			for n := range int32(row.lanes) {
				drained(r.f.consumer.parts[kafka.Partition{Topic: "t", Number: n}], time.Second, errStopping)
			}
		})
	}
}
