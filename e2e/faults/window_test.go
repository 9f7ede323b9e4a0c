package faults

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// stall is what kpush says where messages that keep failing hold up a partition.
const stall = "nothing new is tried"

// TestOneInAHundredFailsForEver: the other messages go on as if there were none, until they are 10,000 offsets ahead; then
// that is said by name, and once they succeed all is delivered. A second sidecar has the same messages and a service without
// a fault, at the same time, so that other work on the machine hurts both.
func TestOneInAHundredFailsForEver(t *testing.T) {
	const first, every = 50, 100 // of those that fail
	const partitions, window, concurrency, answer = 8, 10_000, 32, 5 * time.Millisecond
	const warm, measured = 4_000, 44_000 // deliveries of the one without a fault
	count := times(1_000_000, 96_000)
	s := stage(t, "1 % fails for ever, order key", setting{partitions: partitions, concurrency: concurrency, order: "key"})
	s.sc.Set("KPUSH_RETRY_INTERVAL=2s")
	s.produced = s.k.ProduceEvenly(t, s.topic, partitions, count, 100) // each has a key of its own
	fails := func(r *rig.Request) bool { return r.Offset%every == first }
	s.svc.Rule(failing(fails, answer))
	other := rig.StartService(t)
	other.Rule(rig.Slow(answer))
	clean := rig.NewSidecar(t, t.TempDir(), s.wiring(fmt.Sprintf("KPUSH_PORT=%d", other.Port), "KPUSH_GROUP="+s.topic+"-clean")...)
	clean.Start(t)
	s.sc.Start(t)

	rig.Within(t, patience, "both sidecars at work", func() bool { return min(other.Delivered(), s.svc.Delivered()) >= warm })
	begun, here, there := time.Now(), s.svc.Delivered(), other.Delivered()
	other.Await(t, measured, patience)
	here, there = s.svc.Delivered()-here, other.Delivered()-there
	rate, ratio := float64(there)/time.Since(begun).Seconds(), float64(here)/float64(there)
	if ratio < 0.9 {
		rig.Missed(t, "%d were delivered beside those that fail, %d where none fails: %.2f, the bound is 0.9.", here, there, ratio)
	}
	memory := clean.Peak(t)
	clean.Kill()
	other.Down()

	s.svc.Rule(failing(fails, 0))
	bound := partitions * (first + window - window/every)
	s.svc.Await(t, bound, patience)
	rig.Within(t, 15*time.Second, "a note of every partition", func() bool { return strings.Count(s.note(), s.topic+"/") == partitions })
	if got := s.svc.Delivered(); got != bound {
		t.Errorf("%d messages were delivered although the oldest of each partition fails, the bound is %d.", got, bound)
	}
	if said := len(s.sc.Find(stall)); said != partitions {
		t.Errorf("The stall was said %d times in the log, want once for each of %d partitions.", said, partitions)
	}
	if answer := s.sc.Ask("/readyz"); !answer.OK {
		t.Errorf("A stall is no reason not to be ready: %q.", answer.Why)
	}
	peak := s.sc.Peak(t)
	if peak > memory+24 {
		t.Errorf("The sidecar took %.1f MiB, without a fault %.1f.", peak, memory)
	}

	s.svc.Rule(nil)
	s.svc.Await(t, count, 5*time.Minute)
	rig.Within(t, patience, "the end of the note", func() bool { return s.note() == "" })
	s.sc.Shut(t, 15*time.Second)
	s.committed()
	s.judge(fmt.Sprintf("%d messages: %.2f of the rate without a fault (%.0f/s) until the bound; %.1f MiB, without %.1f", count, ratio, rate, peak, memory))
}

// failing answers after the delay, and those for ever with a fault.
func failing(these func(*rig.Request) bool, delay time.Duration) func(*rig.Request) rig.Action {
	return func(r *rig.Request) rig.Action {
		if these(r) {
			return rig.Action{Delay: delay, Status: 500}
		}
		return rig.Action{Delay: delay}
	}
}

// note is what /readyz says of a stall, "" where there is none.
func (s *scene) note() string {
	notes := s.sc.Ask("/readyz").Notes
	if i := slices.IndexFunc(notes, func(n string) bool { return strings.HasPrefix(n, stall) }); i >= 0 {
		return notes[i]
	}
	return ""
}
