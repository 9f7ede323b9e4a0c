package forwarder

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// A partition that stands still is called so after a minute, with a reason; it is said in the log when it begins and when it ends, and
// in the notes as long as it lasts.
func TestStalls(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		settings func(*settings)
		verdict  Verdict
		begin    func(r *rig) (end func()) // with t/0 assigned and three messages delivered; nil: the verdict, until it is good
		word     string
		text     string
	}{
		"the service is down": {nil, Verdict{Class: ServiceFault, Reason: "refused"}, nil, stalledService, "no host of the service is up"},
		"a pause":             {nil, Verdict{Class: Busy, Status: 429, RetryAfter: 4 * time.Minute}, nil, stalledService, "asked for a pause"},
		"a message fails":     {nil, Verdict{Class: MessageFault, Status: 500, Reason: "it answered 500"}, nil, stalledBlocked, "waiting for a retry of t/0/3, which has failed"},
		"bounded": {func(c *settings) { c.Order = OrderNone; c.RetryInterval, c.RetryMaxInterval = time.Hour, time.Hour }, Verdict{Class: MessageFault, Status: 500, Reason: "it answered 500"},
			nil, stalledBlocked, "messages of it wait for another attempt"},
		"not ready": {func(c *settings) { c.ReadyURL = "/up" }, good, func(r *rig) func() {
			r.f.health.changed(notReady, errors.New("deliveries wait"))
			r.kafka.produce(t0, 1, 10)
			return func() { r.f.health.changed(notReady, nil); r.f.pace.Ready() }
		}, stalledService, "not ready yet"},
		"the volume": {nil, Verdict{Class: MessageFault, Status: 500}, func(r *rig) func() {
			r.f.health.volume = func() error { return errors.New("the volume is full") }
			r.kafka.produce(t0, 1, 10)
			return func() {}
		}, stalledVolume, "the volume is full"},
		"not fetched": {nil, good, func(r *rig) func() {
			r.kafka.with(func() { // a leader that answers no more, so that it cannot be made to start again
				r.kafka.paused[t0], r.kafka.leaderless = true, map[kafka.Partition]bool{t0: true}
			})
			r.kafka.produce(t0, 5, 10)
			r.f.consumer.running()[0].gauge.ends.Store(&kafka.Bounds{End: 8, High: 8})
			return func() { r.kafka.with(func() { r.kafka.leaderless = nil }) } // silent.go has it start again
		}, stalledFetch, "brings none"},
		"no commit": {nil, good, func(r *rig) func() {
			hangs := make(chan struct{})
			r.kafka.with(func() { r.kafka.commitFault = func([]kafka.Commit) error { <-hangs; return nil } })
			r.kafka.produce(t0, 5000, 10)
			return func() { close(hangs) }
		}, stalledUnknown, "until Kafka takes a commit"},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := small()
			if row.settings != nil {
				row.settings(&cfg)
			}
			verdict := good
			r := newRig(t, cfg, handle(func(*Delivery) Verdict { return verdict })).run()
			r.kafka.give(t0)
			if cfg.ReadyURL == "" {
				r.kafka.produce(t0, 3, 10)
				r.until("the first ones", func() bool { return r.kafka.storedAt(t0) == 3 })
			}
			pass(time.Minute)
			verdict = row.verdict
			end := func() {}
			if row.begin != nil {
				end = row.begin(r)
			} else {
				r.kafka.produce(t0, 3000, 10)
			}
			pass(stallAfter - time.Second)
			if s := r.partitionStatus(t0).Stall; s != "" {
				t.Errorf("%s: stalled before its time: %s", name, s)
			}
			r.until("it is said", func() bool { return len(r.logs.With("nothing has moved for a minute")) > 0 })
			s, c := r.partitionStatus(t0), r.f.Counts()
			if !strings.Contains(s.Stall, row.text) || !maps.Equal(without0(c.Stalled), map[string]int64{row.word: 1}) || len(c.Stalled) != len(stallWords) {
				t.Errorf("%s: %q, %v", name, s.Stall, c.Stalled)
			}
			if notes := strings.Join(r.f.Notes(), "\n"); !strings.Contains(notes, "nothing has moved of t/0 since") || !strings.Contains(notes, row.text) {
				t.Errorf("%s: notes %s", name, notes)
			}
			verdict = good
			end()
			r.until("it moves again", func() bool {
				return r.partitionStatus(t0).Outstanding == 0 && r.partitionStatus(t0).End == r.partitionStatus(t0).Next
			})
			if s := r.partitionStatus(t0); s.Stall != "" || strings.Contains(strings.Join(r.f.Notes(), "\n"), "nothing has moved") {
				t.Errorf("%s: still stalled: %+v, notes %q", name, s, r.f.Notes())
			}
			pass(2 * sampleTime)
			if began, ended := r.logs.With("nothing has moved for a minute"), r.logs.With("partitions that stood still"); len(began) != 1 || len(ended) != 1 || !strings.Contains(began[0], "reason="+row.word) {
				t.Errorf("%s: said %q and %q", name, began, ended)
			}
			if err := r.stop(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// What takes its time at the first attempt, has nothing to do, or moves now and then is not stalled.
func TestNotStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		cfg.ExecTimeout = 0
		hold := make(chan struct{})
		r := newRig(t, cfg, handle(func(d *Delivery) Verdict {
			switch d.Partition {
			case t1:
				<-hold
			case t2:
				pass(20 * time.Second)
			}
			return good
		})).run()
		r.kafka.produce(t1, 5, 10)
		r.kafka.produce(t2, 50, 10)
		r.kafka.give(t0, t1, t2)
		for range 20 {
			pass(time.Minute)
			for _, p := range r.f.Status().Partitions {
				if p.Stall != "" {
					t.Errorf("%s: %s", p.Partition, p.Stall)
				}
			}
		}
		close(hold)
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if said := r.logs.With("nothing has moved"); len(said) != 0 {
			t.Errorf("said %q", said)
		}
	})
}

// A question to KPUSH_CONFIRM_URL without an answer is a reason; so is a buffer that is full of another partition's messages.
func TestStallReasons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(always))
		r.f.parts.Confirm = func(context.Context, int, string) push.Reply {
			return push.Reply{Verdict: Verdict{Status: 500, Reason: "no"}}
		}
		p := r.partition(t0, offsets.Attempt{Offset: 1, Number: 1, InDoubt: true})
		p.push(&kafka.Message{Partition: t0, Offset: 1})
		pass(time.Minute)
		if s := r.f.causes().of(p); s.word != stalledConfirm || s.text != "waiting for t/0/1: "+doubtReason+"no" {
			t.Errorf("in doubt: %+v", s)
		}
		other := r.partition(t1)
		other.stock.paused.Store(true)
		if s := r.f.causes().of(other); s.word != stalledBuffer {
			t.Errorf("paused: %+v", s)
		}
		p.stop(errStopping)
		p.lanes.Close()
		p.lanes.Wait()
		if n := p.failing.Load(); n != 0 {
			t.Errorf("%d messages wait after the end", n)
		}
	})
}

// A sentence names five partitions at the most.
func TestSome(t *testing.T) {
	var ts []kafka.Partition
	for n := range int32(7) {
		ts = append(ts, kafka.Partition{Topic: "t", Number: 6 - n})
	}
	if s := some(slices.Clone(ts)); s != "t/0 t/1 t/2 t/3 t/4 and 2 more" {
		t.Error(s)
	}
	if s := some(ts[:2]); s != "t/5 t/6" {
		t.Error(s)
	}
}

// What the service has for long is named, though it is no fault; an answer ends that, and nobody who waits for another attempt counts.
func TestLongRequestsAreNamed(t *testing.T) {
	for limit, want := range map[time.Duration]string{time.Hour: "may take KPUSH_EXEC_TIMEOUT, 1h0m0s", 0: "has no bound (KPUSH_EXEC_TIMEOUT=0)"} {
		synctest.Test(t, func(t *testing.T) {
			cfg := small()
			cfg.ExecTimeout = limit
			answer := make(chan struct{})
			r := newRig(t, cfg, handle(func(*Delivery) Verdict { <-answer; return good })).run()
			r.kafka.give(t0, t1)
			r.kafka.produce(t0, 3, 10)
			said := func() string { return strings.Join(r.f.Notes(), "\n") }
			if pass(50 * time.Second); strings.Contains(said(), "has had requests of") {
				t.Error("named too early")
			}
			if pass(25 * time.Second); !strings.Contains(said(), "the service has had requests of t/0 since ") || !strings.Contains(said(), " and has answered none meanwhile: an attempt "+want) {
				t.Errorf("after 75 s: %s", said())
			}
			answer <- struct{}{}
			if pass(10 * time.Second); strings.Contains(said(), "has had requests of") {
				t.Error("still named after an answer")
			}
			close(answer)
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}
