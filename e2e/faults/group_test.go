package faults

import (
	"fmt"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// TestRebalances: two to four sidecars come and go in good order; nothing is lost, repeated or in doubt.
func TestRebalances(t *testing.T) {
	t.Parallel()
	const partitions, least = 8, 2
	s := stage(t, "rebalance of two to four sidecars", setting{partitions: partitions, concurrency: partitions})
	s.flagBound = 0
	s.svc.Rule(rig.Slow(5 * time.Millisecond))
	cars := []*rig.Sidecar{s.sc}
	for n := range 3 {
		cars = append(cars, rig.NewSidecar(t, t.TempDir(), s.wiring(fmt.Sprintf("KPUSH_URL=/%d", n+1))...))
	}
	running := 0
	for _, car := range cars[:least] {
		car.Start(t)
		running++
	}
	s.stable(running)
	begin := time.Now()
	for range times(50, 4) {
		car := cars[s.rng.IntN(len(cars))]
		for up := running > least && (running == len(cars) || s.rng.IntN(2) == 0); (car.Started() && car.Alive()) != up; {
			car = cars[s.rng.IntN(len(cars))]
		}
		if car.Started() && car.Alive() {
			car.Shut(t, 15*time.Second)
			running--
		} else {
			car.Start(t)
			running++
		}
		s.crashes++
		s.stable(running)
	}
	took := time.Since(begin)
	s.svc.Rule(nil)
	s.svc.Await(t, len(s.produced), patience)
	stayed, moved := s.svc.Silence(begin, begin.Add(took))
	for _, car := range cars {
		if car.Started() && car.Alive() {
			car.Shut(t, 15*time.Second)
		}
	}
	s.committed()
	s.judge(fmt.Sprintf("in %v; longest silence of a partition that stayed %v, that moved %v", took.Round(time.Second),
		stayed.Length.Round(time.Millisecond), moved.Length.Round(time.Millisecond)))
}

// stable waits for a group of so many members in which every partition delivers.
func (s *scene) stable(members int) {
	s.Helper()
	since := time.Now()
	rig.Within(s, patience, fmt.Sprintf("a stable group of %d in which every partition delivers", members), func() bool {
		s.stock(50)
		seen := map[int32]bool{}
		for _, r := range s.svc.Since(since) {
			seen[r.Partition] = true
		}
		if len(seen) < s.partitions {
			return false
		}
		g := s.k.Describe(s, s.topic)
		return g.State == "Stable" && len(g.Members) == members
	})
}
