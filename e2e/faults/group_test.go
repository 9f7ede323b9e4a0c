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
	const partitions = 8
	s := stage(t, "rebalance of two to four sidecars", setting{partitions: partitions, concurrency: partitions})
	s.svc.Rule(rig.Slow(5 * time.Millisecond))
	s.comeAndGo()
}

// TestRebalancesByKey also has messages that wait for another attempt when their partition moves.
func TestRebalancesByKey(t *testing.T) {
	t.Parallel()
	const partitions = 8
	s := stage(t, "rebalance of two to four sidecars, order key", setting{partitions: partitions, concurrency: 2 * partitions, order: "key"})
	s.svc.Rule(troubled(10 * time.Millisecond))
	s.comeAndGo()
}

// comeAndGo starts and stops sidecars, with messages left in each partition at any time.
func (s *scene) comeAndGo() {
	s.Helper()
	const least, stock = 2, 400 // two seconds of this service: longer than a stop takes
	t := s.T
	s.flagBound = 0
	cars := []*rig.Sidecar{s.sc}
	for n := range 3 {
		cars = append(cars, rig.NewSidecar(t, t.TempDir(), s.wiring(fmt.Sprintf("KPUSH_URL=/%d", n+1))...))
	}
	running := 0
	for _, car := range cars[:least] {
		car.Start(t)
		running++
	}
	s.stable(running, stock)
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
		s.stable(running, stock)
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
	s.judge(fmt.Sprintf("in %v; longest silence of a partition with the same sidecar before and after it %v, with another one %v", took.Round(time.Second),
		stayed.Length.Round(time.Millisecond), moved.Length.Round(time.Millisecond)))
}

// stable waits for a group of so many members in which every partition delivers.
func (s *scene) stable(members, stock int) {
	s.Helper()
	since := time.Now()
	rig.Within(s, patience, fmt.Sprintf("a stable group of %d in which every partition delivers", members), func() bool {
		s.stock(stock)
		if len(s.svc.Seen(since)) < s.partitions {
			return false
		}
		g := s.k.Describe(s, s.topic)
		return g.State == "Stable" && len(g.Members) == members
	})
}
