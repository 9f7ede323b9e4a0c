package forwarder

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	refused = Verdict{Class: ServiceFault, Reason: "no connection to the service"}
	broken  = Verdict{Class: ServiceFault, Reason: "the connection broke", InDoubt: true}
	answer3 = Verdict{Class: ServiceFault, Status: 503, Reason: "the service answered 503"}
)

// Of three hosts the one that failed is never asked twice in a row; one that is down is asked once an interval.
func TestPickOfHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		cfg.Targets = []string{"a", "b", "c"}
		s := newService(&cfg)
		d, seen := &Delivery{host: -1}, map[int]int{}
		for range 300 {
			last := d.host
			d.host, d.probe = s.pick(d), 0
			if d.host == last {
				t.Fatalf("host %d twice in a row", last)
			}
			seen[d.host]++
		}
		if len(seen) != 3 || seen[0] < 50 || seen[1] < 50 || seen[2] < 50 {
			t.Errorf("300 attempts over three hosts: %v", seen)
		}
		s.ended(&Delivery{host: 1}, refused)
		for span := range 5 {
			seen = map[int]int{}
			for range 100 {
				d := &Delivery{host: -1}
				if d.host = s.pick(d); d.host == 1 {
					s.ended(d, refused)
				}
				seen[d.host]++
			}
			if want := min(span, 1); seen[1] != want || seen[0]+seen[2] != 100-want {
				t.Errorf("interval %d: %v, want the host that is down %d times", span, seen, want)
			}
			pass(cfg.RetryInterval + time.Millisecond)
		}
		d = &Delivery{host: 1, probe: 2, begun: time.Now()}
		s.ended(d, good)
		if seen = map[int]int{}; !s.rests() {
			for range 300 {
				seen[s.pick(&Delivery{host: -1})]++
			}
		}
		if seen[1] < 50 {
			t.Errorf("after an answer it takes part again: %v", seen)
		}
	})
}

// A host is down after three faults in a row, or one refused connection; any answer in between shows that it is there.
func TestWhenAHostIsDown(t *testing.T) {
	for _, row := range []struct {
		name     string
		verdicts []Verdict
		down     bool
	}{
		{"refused", []Verdict{refused}, true},
		{"503 twice", []Verdict{answer3, answer3}, false},
		{"503 three times", []Verdict{answer3, answer3, answer3}, true},
		{"broken three times", []Verdict{broken, broken, broken}, true},
		{"with answers in between", []Verdict{broken, broken, good, broken, broken, bad, broken, broken, {Class: Busy}, broken, broken}, false},
		{"cancelled ones say nothing", []Verdict{broken, {Class: Aborted}, broken, {Class: Aborted}, broken}, true},
	} {
		cfg := small()
		s := newService(&cfg)
		for _, v := range row.verdicts {
			s.ended(&Delivery{host: 0}, v)
		}
		if s.isDown() != row.down || s.rests() != row.down {
			t.Errorf("%s: down is %t", row.name, s.isDown())
		}
	}
}

// A host that went down stays down when requests are answered that were under way then, and goes up with one begun later.
func TestOldAnswersDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		s := newService(&cfg)
		said := 0
		s.changed = func(error) { said++ }
		old := &Delivery{begun: time.Now()}
		pass(time.Second)
		s.ended(&Delivery{begun: time.Now()}, refused)
		for range 3 {
			if s.ended(old, good); !s.isDown() {
				t.Fatal("an old answer brings it up")
			}
			s.ended(&Delivery{begun: time.Now()}, refused)
		}
		pass(time.Second)
		if s.ended(&Delivery{begun: time.Now()}, bad); s.isDown() || said != 2 {
			t.Errorf("down is %t after an answer, %d changes", s.isDown(), said)
		}
	})
}

// A host that hangs goes down only where another one is up, and what hangs is no answer: it brings none up.
func TestAHostThatHangs(t *testing.T) {
	silent := Verdict{Class: MessageFault, Reason: "no answer", InDoubt: true}
	for _, row := range []struct {
		name  string
		hosts int
		ended []int // the hosts whose requests hang; of the first host, -1: one is refused, -2: one breaks
		down  []bool
	}{
		{"the only one", 1, []int{0, 0, 0, 0, 0, 0}, []bool{false}},
		{"the only one, and broken twice", 1, []int{0, 0, 0, -2, -2}, []bool{false}},
		{"one of two", 2, []int{1, 1, 1}, []bool{false, true}},
		{"one of two, twice", 2, []int{1, 1}, []bool{false, false}},
		{"both of two", 2, []int{0, 1, 0, 1, 0, 1, 0, 1}, []bool{true, false}},
		{"a probe", 1, []int{-1, 0, 0}, []bool{true}},
	} {
		cfg := small()
		cfg.Targets = make([]string, row.hosts)
		s := newService(&cfg)
		for _, host := range row.ended {
			switch host {
			case -1:
				s.ended(&Delivery{}, refused)
			case -2:
				s.ended(&Delivery{}, broken)
			default:
				s.ended(&Delivery{host: host, probe: 1, begun: time.Now()}, silent)
			}
		}
		for i, h := range s.hosts {
			if h.down != row.down[i] {
				t.Errorf("%s: host %d down is %t", row.name, i, h.down)
			}
		}
	}
}

// Where others are up, a host that is down has one probe at a time, for as long as that may hang.
func TestOneProbeAtATime(t *testing.T) {
	for _, timeout := range []time.Duration{time.Minute, 0} {
		synctest.Test(t, func(t *testing.T) {
			cfg := small()
			cfg.Targets, cfg.ExecTimeout = []string{"a", "b"}, timeout
			s := newService(&cfg)
			s.ended(&Delivery{host: 1}, refused)
			probes := func() (prober *Delivery) {
				for range 20 {
					if d := (&Delivery{host: -1}); s.pick(d) == 1 {
						if prober != nil {
							t.Fatalf("two probes at once with a timeout of %v", timeout)
						}
						d.host, prober = 1, d
					}
				}
				return prober
			}
			interval := cfg.RetryInterval + time.Millisecond
			for range 3 {
				pass(interval)
				prober := probes()
				if prober == nil {
					t.Fatal("no probe after an interval")
				}
				if pass(10 * interval); probes() != nil {
					t.Fatal("another probe while one hangs")
				}
				s.ended(prober, Verdict{Class: Aborted})
			}
			pass(interval)
			if probes(); timeout > 0 {
				if pass(timeout + interval); probes() == nil {
					t.Error("no probe when the one before must have ended")
				}
			}
		})
	}
}

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
					d.host = d.p.f.service.pick(d)
					if up.Load() {
						return good
					}
					return answer3
				})).run()
				r.kafka.give(t0, t1, t2)
				for _, p := range []tp{t0, t1, t2} {
					r.kafka.produce(p, 100, 10)
				}
				r.until("the service is down", r.f.service.isDown)
				pass(2 * cfg.RetryInterval)
				before := b.count()
				pass(time.Minute)
				// the retry interval is 2 s
				if n := b.count() - before; n < 28*hosts || n > 31*hosts {
					t.Errorf("%d hosts, order %s: %d requests in a minute", hosts, order, n)
				}
				if n := len(r.logs.with("the service is down")); n != 1 {
					t.Errorf("%d lines say that the service is down", n)
				}
				up.Store(true)
				r.until("all delivered", func() bool {
					return r.kafka.storedAt(t0) == 100 && r.kafka.storedAt(t1) == 100 && r.kafka.storedAt(t2) == 100
				})
				if n := len(r.logs.with("the service is there again")); n != 1 {
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
			if d.p.tp == t0 && d.Offset == 0 || d.p.tp == t1 && d.Number() <= 3 && d.Offset == 0 {
				return broken // the first message of t0 crashes whoever takes it
			}
			return good
		})).run()
		r.kafka.give(t0, t1, t2)
		r.kafka.produce(t0, 1, 10)
		r.until("t0 has failed", func() bool { return b.count() == 1 })
		pass(100 * time.Millisecond)
		r.kafka.produce(t1, 10, 10)
		r.until("it is down", r.f.service.isDown)
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
						switch d.host = d.p.f.service.pick(d); {
						case d.host > 0:
							return refused
						case d.p.tp == t0 && d.Offset == 0:
							return fault
						case d.Number() == 1:
							return answer3
						}
						return good
					})).run()
					r.kafka.give(t0, t1)
					keyed(r.kafka, t0, 1, 1)
					r.until("it is blocked", func() bool { return len(r.f.blocked.list()) == 1 })
					name := fmt.Sprintf("%s, order %s, %d hosts", name, order, hosts)
					if !r.f.service.isDown() {
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
					if n := r.f.parts[p].rec.Outstanding(); n != left {
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
			d.host = d.p.f.service.pick(d)
			if at = append(at, time.Since(begun)); len(at) < 5 {
				return refused
			}
			return good
		}))
		p := r.partition(t0)
		p.push(&Message{Topic: "t"})
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
			r := newRig(t, cfg, b.keeping(func(d *Delivery) Verdict {
				d.host = d.p.f.service.pick(d)
				asked = append(asked, d.host)
				if slices.Contains(row.dead, d.host) && (row.heals == 0 || time.Since(begun) < row.heals) {
					return row.verdict
				}
				return good
			}))
			if row.known {
				r.f.service.ended(&Delivery{host: 0}, refused)
				pass(cfg.RetryInterval + time.Millisecond)
			}
			p := r.partition(t0)
			p.push(&Message{Topic: "t"})
			r.until("it has its outcome", func() bool { return p.rec.Outstanding() == 0 })
			if skipped := len(r.logs.with("message skipped")) > 0; skipped != row.skipped || b.count() != row.attempts {
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
			p.push(&Message{Topic: "t", Offset: o})
		}
		pass(time.Hour)
		if b.count() != 0 {
			t.Fatal("delivered before the service was ready")
		}
		r.f.service.open()
		synctest.Wait()
		if b.count() != 10 {
			t.Errorf("%d of 10 when it is", b.count())
		}
	})
}

// What is logged names the reason.
func TestDownSaysWhy(t *testing.T) {
	cfg := small()
	s := newService(&cfg)
	var said []string
	s.changed = func(err error) { said = append(said, fmt.Sprint(err)) }
	s.ended(&Delivery{}, refused)
	s.ended(&Delivery{}, refused)
	s.ended(&Delivery{begun: time.Now()}, good)
	if want := "[the service is down (no connection to the service): the oldest message probes, the rest wait <nil>]"; fmt.Sprint(said) != want {
		t.Errorf("said %v", said)
	}
}
