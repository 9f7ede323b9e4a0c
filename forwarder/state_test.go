package forwarder

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// Readiness says in words what is missing, from the start until the end.
func TestReadyFromStartToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(func(*Delivery) Verdict { <-time.After(5 * time.Second); return good }))
		want := func(moment, sentence string) {
			t.Helper()
			if why := r.f.Ready(); sentence == "" && len(why) > 0 || sentence != "" && (len(why) != 1 || !strings.Contains(why[0], sentence)) {
				t.Errorf("%s: ready says %q, want %q", moment, why, sentence)
			}
			if why := r.f.Live(); len(why) > 0 {
				t.Errorf("%s: health says %q", moment, why)
			}
		}
		want("before it runs", "waiting for group g to give this member its partitions")
		missing := errors.New("refused")
		r.kafka.spoil(func(string) error { return missing }, nil)
		r.run()
		pass(5 * time.Second)
		want("no broker", "waiting for a broker at kafka:9092: refused")
		r.kafka.spoil(func(string) error { return fmt.Errorf("t: %w", kafka.ErrNoTopic) }, nil)
		pass(5 * time.Second)
		want("no topic", "waiting for the topic: t: topic does not exist")
		r.kafka.spoil(func(string) error { return fmt.Errorf("t: %w", kafka.ErrForbidden) }, nil)
		pass(5 * time.Second)
		want("no permission", "waiting for the topic: t: Kafka's ACLs forbid it")
		r.kafka.spoil(nil, nil)
		pass(5 * time.Second)
		want("all there", "waiting for group g")
		r.kafka.give()
		want("a spare member", "")
		r.kafka.produce(t0, 20, 10)
		r.kafka.fail(func([]kafka.Commit) error { return errors.New("the coordinator loads") })
		r.kafka.give(t0)
		pass(14 * time.Second)
		want("its start is not committed", "Kafka has not taken a commit of where t/0 started")
		r.kafka.fail(nil)
		pass(time.Second)
		want("delivering", "")
		if notes := fmt.Sprint(r.f.Notes()); notes != "[1 partitions assigned]" {
			t.Errorf("notes %s", notes)
		}
		r.kafka.take(false, t0)
		want("a spare member again", "")
		r.kafka.give(t0)
		pass(time.Second)
		var seen sync.WaitGroup
		seen.Go(func() {
			r.until("stopping", func() bool { _, stopping := r.f.health.stopDeadline(); return stopping })
			want("stopping", "stopping")
		})
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		seen.Wait()
		for _, line := range []string{"waiting for a broker", "waiting for the topic: t: topic does not exist", "the broker is there again", "the topic is there again"} {
			if n := len(r.logs.With(line)); n != 1 {
				t.Errorf("%q was logged %d times, want once", line, n)
			}
		}
	})
}

// Health is about this process alone: its loop turns, its client is of use. A callback may take its time, but not for ever.
func TestLive(t *testing.T) {
	for _, row := range []struct {
		name  string
		state func(s *health)
		after time.Duration
		want  string
	}{
		{"the loop turns", func(s *health) {}, 0, ""},
		{"a moment without", func(s *health) {}, stepLimit, ""},
		{"too long without", func(s *health) {}, stepLimit + time.Second, "the poll loop has not turned for 16s"},
		{"in a callback", func(s *health) { s.callback() }, stepLimit + 25*time.Second, ""},
		{"in a callback for ever", func(s *health) { s.callback() }, stepLimit + time.Minute, "has not turned for 1m15s"},
		{"after a callback", func(s *health) { s.callback()() }, stepLimit + time.Second, "has not turned for 16s"},
		{"stopping", func(s *health) { s.stop(time.Now()) }, time.Hour, ""},
		{"fatal", func(s *health) { s.fail(errors.New("fenced")) }, 0, "fenced"},
		{"fatal while stopping", func(s *health) { s.stop(time.Now()); s.fail(errors.New("fenced")) }, time.Hour, "fenced"},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, small(), handle(always))
			r.f.health.stepped(time.Now())
			row.state(&r.f.health)
			pass(row.after)
			if why := strings.Join(r.f.Live(), "; "); row.want == "" && why != "" || !strings.Contains(why, row.want) {
				t.Errorf("%s: health says %q, want %q", row.name, why, row.want)
			}
		})
	}
}

// A volume that hangs holds the poll loop up as well, and is named in readiness: no reason for a restart.
func TestLiveWithAVolumeThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(always))
		r.f.health.volume = func() error { return fmt.Errorf("the volume %w", offsets.ErrHangs) }
		r.f.health.stepped(time.Now())
		pass(time.Hour)
		if why := r.f.Live(); len(why) > 0 {
			t.Errorf("health says %q", why)
		}
		if why := strings.Join(r.f.Ready(), "; "); !strings.Contains(why, "takes no write") {
			t.Errorf("ready says %q", why)
		}
	})
}

// Whoever has lost its partitions is not ready until the group has given it some again.
func TestReadyAfterALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(always)).run()
		r.kafka.give(t0, t1)
		pass(time.Second)
		r.kafka.take(true, t0)
		if why := r.f.Ready(); len(why) > 0 {
			t.Errorf("ready says %q with a partition left", why)
		}
		r.kafka.take(true, t1)
		if why := strings.Join(r.f.Ready(), "; "); !strings.Contains(why, "waiting for group g") {
			t.Errorf("ready says %q", why)
		}
		r.kafka.give(t0)
		pass(time.Second)
		if why := r.f.Ready(); len(why) > 0 {
			t.Errorf("ready says %q", why)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A revoke that drains for its whole time does not make the process ill: a restart would cost more than it mends.
func TestLiveWhileDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		cfg.DrainTimeout = 5 * time.Minute
		r := newRig(t, cfg, handle(func(d *Delivery) Verdict { <-d.Attempt().Done(); return Verdict{Class: Aborted} })).run()
		r.kafka.produce(t0, 1, 1)
		r.kafka.give(t0)
		r.underWay(1)
		gone := make(chan struct{})
		go func() { r.kafka.take(false, t0); close(gone) }()
		for range 29 {
			pass(10 * time.Second)
			if why := r.f.Live(); len(why) > 0 {
				t.Fatalf("ill while it drains: %q", why)
			}
		}
		<-gone
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A volume that takes no records is named in readiness.
func TestReadyNamesTheVolume(t *testing.T) {
	r := newRig(t, small(), handle(always))
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	if why := fmt.Sprint(r.f.Ready()); !strings.Contains(why, "the offsets file is closed") {
		t.Errorf("ready says %s", why)
	}
}

func TestRepeatedFaultIsSaidOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h health
		n := 0
		for range 600 {
			if h.every("disk full", time.Minute) {
				n++
			}
			pass(time.Second)
		}
		if n < 9 || n > 11 {
			t.Errorf("due %d times in ten minutes", n)
		}
	})
}

// The budget wakes who waits for room when there is some, and lets a waiter look around now and then in any case.
func TestBudgetWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(1600)
		waited := func() time.Duration {
			begun := time.Now()
			b.wait(20 * time.Millisecond)
			return time.Since(begun)
		}
		b.add(1600)
		if !b.full() || waited() != 20*time.Millisecond {
			t.Error("a full budget does not wait")
		}
		after := func(d time.Duration, n int64) { go func() { pass(d); b.free(n) }() }
		after(5*time.Millisecond, 50) // not enough to be woken for
		if took := waited(); took != 20*time.Millisecond || b.full() {
			t.Errorf("woken after %s by a little room", took)
		}
		after(5*time.Millisecond, 50)
		if took := waited(); took != 5*time.Millisecond {
			t.Errorf("woken after %s", took)
		}
		if took := waited(); took != 0 {
			t.Errorf("waits %s with room", took)
		}
	})
}
