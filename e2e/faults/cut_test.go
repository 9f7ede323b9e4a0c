package faults

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// The two sidecars of a cut, by their path.
const cutOff, there = "/cut-off", "/there"

// TestCutOff: of two sidecars one loses its network, not its service. Within the session nothing comes of it. Beyond it the
// other one takes over; what the first has done since its last commit comes again, flagged, and no more than lies below the
// ceiling. When the network is back, what it had sent late changes nothing.
func TestCutOff(t *testing.T) {
	t.Parallel()
	const session = 6 * time.Second
	s := stage(t, "cut off from Kafka", setting{kafka: rig.Own(t, 1), partitions: 8, concurrency: 8})
	conf := fmt.Sprintf("KPUSH_CONSUMER_CONF=session.timeout.ms=%d", session.Milliseconds())
	link := s.k.Link(t)
	s.sc.Set(conf, "KPUSH_URL="+there)
	other := rig.NewSidecar(t, t.TempDir(), s.wiring(conf, "KPUSH_URL="+cutOff, "KPUSH_BROKERS="+link.Brokers)...)
	s.sc.Start(t)
	other.Start(t)
	var takeovers []time.Duration
	for _, c := range []cut{
		{length: session + 3*time.Second, pace: 5 * time.Millisecond},
		{length: session / 2, pace: 5 * time.Millisecond},
		{length: session + 3*time.Second, pace: 300 * time.Millisecond, reset: true},
		{length: session / 2, pace: 5 * time.Millisecond, reset: true},
		{length: session + 3*time.Second, pace: 5 * time.Millisecond, reset: true},
		{length: session + 3*time.Second, pace: 300 * time.Millisecond},
	}[:times(6, 1)] {
		if took := s.cut(link, c, session); took > 0 {
			takeovers = append(takeovers, took)
		}
	}
	s.svc.Rule(nil)
	s.svc.Await(s, len(s.produced), patience)
	other.Shut(t, 15*time.Second)
	s.tellForward(fmt.Sprintf("a session of %v, taken over after at most %v", session, longest(takeovers)))
}

// cut is how a sidecar is cut off.
type cut struct {
	length time.Duration
	pace   time.Duration // of a partition: a message takes the service so long
	reset  bool          // the network comes back with new connections; else with all that was on its way
}

// cut cuts the link once, and returns how long the other sidecar took to take over, 0 where it had no reason to.
func (s *scene) cut(link *rig.Link, c cut, session time.Duration) time.Duration {
	s.Helper()
	s.svc.Rule(nil)
	s.svc.Await(s, len(s.produced), patience) // what the cut before has left in doubt is over
	s.svc.Rule(rig.Slow(c.pace))
	s.stable(2, 400)
	s.stock(int(20 * time.Second / c.pace))
	s.settled(time.Now())
	pass(2 * time.Second) // so that the pace is known, to kpush and below
	link.Cut()
	begin := time.Now()
	pass(c.length)
	link.Heal(c.reset)
	s.stable(2, 400)

	at, took := s.takeover(begin)
	s.crashes++
	switch {
	case c.length < session && took > 0:
		s.Errorf("A cut of %v, within the session of %v, moved a partition after %v.", c.length, session, took)
	case c.length > session && took == 0:
		s.Errorf("A cut of %v, beyond the session of %v, moved no partition.", c.length, session)
	}
	if took > 0 {
		s.charges = append(s.charges, charge{at, s.uncommitted(begin, at)})
	}
	return took
}

// takeover is when the sidecar that is there has begun with a partition of the other one, just before its first request.
func (s *scene) takeover(begin time.Time) (at time.Time, took time.Duration) {
	at = time.Now()
	lost := map[int32]bool{}
	for _, r := range s.svc.Since(begin.Add(-2 * time.Second)) {
		if r.Path == cutOff && r.Start.Before(begin) {
			lost[r.Partition] = true
		}
	}
	for _, r := range s.svc.Since(begin) {
		if r.Path == there && lost[r.Partition] && r.Start.Before(at) {
			at, took = r.Start.Add(-1), r.Start.Sub(begin)
		}
	}
	return at, took
}

// uncommitted is what a takeover may cost: repeated is what the sidecar that was cut off may have done since its last commit,
// flagged what lies below its ceiling, which is ten seconds of a partition's pace ahead. It has sent nothing beyond that.
func (s *scene) uncommitted(begin, at time.Time) rig.Cost {
	s.Helper()
	sent, before := map[int32]int{}, map[int32][4]int{} // by half-seconds
	all := rig.Cost{Repeats: s.concurrency, Flagged: s.concurrency}
	for _, r := range s.svc.Since(begin.Add(-2 * time.Second)) {
		switch {
		case r.Path != cutOff || r.Start.After(at):
		case r.Start.Before(begin):
			halves := before[r.Partition]
			halves[min(3, begin.Sub(r.Start)/(500*time.Millisecond))]++
			before[r.Partition] = halves
			if r.End.After(begin.Add(-300 * time.Millisecond)) {
				all.Repeats++
			}
		default:
			sent[r.Partition]++
			all.Repeats++
		}
	}
	for p, halves := range before {
		n := 4 * slices.Max(halves[:]) // a machine that was away at times hides the pace
		ceiling := max(110, 6*n)
		s.within(fmt.Sprintf("messages of partition %d", p), "the cut", sent[p], ceiling)
		all.Flagged += ceiling
	}
	return all
}
