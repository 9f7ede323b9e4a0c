package faults

import (
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
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

// TestSlowJoin: a third sidecar joins, while one of the two has a request of 20 s under way in what it gives up. That has five seconds, and is
// then in doubt; the service is asked. Nothing that stays with the other one, whose commits wait as long, stands for three.
func TestSlowJoin(t *testing.T) {
	t.Parallel()
	const story, partitions, took, bound, stock = "slow join: a request of 20 s in what goes", 8, 20 * time.Second, 3 * time.Second, 1_000
	const drains, healthy, joins = "/drains", "/healthy", "/joins"
	if !*all {
		rig.NotRun(t, story, "part of make faults only")
	}
	s := stage(t, story, setting{partitions: partitions, concurrency: partitions})
	var slow atomic.Bool
	s.svc.Rule(func(r *rig.Request) rig.Action {
		if slow.Load() && r.Path == drains {
			return rig.Action{Delay: took}
		}
		return rig.Action{Delay: 5 * time.Millisecond}
	})
	url, answers := s.svc.Confirms(t)
	s.sc.Set("KPUSH_URL="+drains, "KPUSH_CONFIRM_URL="+url)
	other, third := s.another(healthy, "KPUSH_CONFIRM_URL="+url), s.another(joins, "KPUSH_CONFIRM_URL="+url)
	s.sc.Start(t)
	other.Start(t)
	var silences, joined []time.Duration
	for range times(3, 1) {
		s.both(drains, healthy, stock)
		slow.Store(true)
		begin := time.Now()
		rig.Within(t, patience, "requests of 20 s under way", func() bool { return len(s.svc.Seen(begin, drains)) == partitions/2 })
		begin = time.Now()
		third.Start(t)
		rig.Within(t, patience, "a delivery by the third sidecar", func() bool { s.stock(stock); return len(s.svc.Seen(begin, joins)) > 0 })
		end := time.Now()
		slow.Store(false)
		var gone []int32
		for p := range int32(partitions) {
			if stays := s.svc.Seen(begin, healthy)[p] && !s.svc.Seen(begin, drains, joins)[p]; !stays {
				gone = append(gone, p)
			}
		}
		stayed, _ := s.svc.Silence(begin, end, gone...)
		if allowed := bound + 2*rig.Late(begin, end); stayed.Length > allowed || len(gone) == partitions {
			rig.Missed(t, "Of what stays with the healthy one (all but %v): %v, the bound is %v.", gone, stayed, allowed)
		}
		silences, joined = append(silences, stayed.Length), append(joined, end.Sub(begin))
		s.stable(3, stock)
		third.Shut(t, 15*time.Second)
		s.crashes++
	}
	s.svc.Rule(nil)
	s.svc.Await(t, len(s.produced), patience)
	other.Shut(t, 15*time.Second)
	if answers() == 0 {
		t.Error("Nothing was in doubt, and nobody was asked: the story shows nothing.")
	}
	s.tellForward(fmt.Sprintf("joined after at most %v; what stayed with a healthy one was silent for at most %v; the service was asked %d times", longest(joined), longest(silences), answers()))
}

// TestExpelledInADrain: the group ends the membership of one of three while it drains, and gives all that it has to the others. It goes on
// with nothing of that, commits nothing, and is back by itself.
func TestExpelledInADrain(t *testing.T) {
	t.Parallel()
	const story, partitions, took, stock = "expelled from the group in a drain", 8, 12 * time.Second, 1_000
	if !*all {
		rig.NotRun(t, story, "part of make faults only")
	}
	s := stage(t, story, setting{partitions: partitions, concurrency: partitions})
	var slow atomic.Int32
	slow.Store(-1)
	s.svc.Rule(func(r *rig.Request) rig.Action {
		if r.Partition == slow.Load() {
			return rig.Action{Delay: took}
		}
		return rig.Action{Delay: 5 * time.Millisecond}
	})
	s.sc.Set("KPUSH_URL=" + there)
	other, third := s.another(cutOff, "KPUSH_INSTANCE_ID=drains", "KPUSH_REVOKE_TIMEOUT=20s"), s.another(there)
	s.sc.Start(t)
	other.Start(t)
	var backs []time.Duration
	repeats := 0 // that may be
	for range times(3, 1) {
		since := s.both(there, cutOff, stock)
		lowest := slices.Min(slices.Collect(maps.Keys(s.svc.Seen(since, cutOff)))) // that is what it gives up
		slow.Store(lowest)
		third.Start(t)
		started := time.Now()
		rig.Within(t, patience, "a group that waits for the one that drains", func() bool {
			s.stock(stock)
			return time.Since(started) > 3*time.Second && s.k.Describe(t, s.topic).State == "PreparingRebalance"
		})
		begin := time.Now()
		s.k.Expel(t, s.topic, "drains")
		slow.Store(-1)
		rig.Within(t, patience, "the loss of what the expelled one had", func() bool { s.stock(stock); return len(other.Find("partitions lost")) > s.crashes })
		lost := time.Now()
		rig.Within(t, patience, "the expelled one's deliveries", func() bool { s.stock(stock); return len(s.svc.Seen(lost, cutOff)) > 0 })
		backs = append(backs, time.Since(begin))
		repeats += s.uncommitted(begin, lost).Repeats
		s.crashes++
		s.stable(3, stock)
		third.Shut(t, 15*time.Second)
	}
	s.svc.Rule(nil)
	s.svc.Await(t, len(s.produced), patience)
	if !other.Alive() {
		t.Errorf("The expelled sidecar has ended: %s", other.Tail(3))
	}
	other.Shut(t, 15*time.Second)
	s.sc.Shut(t, 15*time.Second)
	s.committed()
	v := s.svc.Judge(s.produced)
	if len(v.Overlap) <= repeats { // it hears of its end a heartbeat later than the others, who have got its partitions at once by then
		v.Overlap = nil
	}
	v.Kept(t, repeats)
	rig.Tell(t, rig.Row{Story: story, Runs: fmt.Sprint(s.crashes), Lost: len(v.Lost), Repeats: fmt.Sprintf("%d in all (%d)", len(v.Repeats), repeats),
		Flagged: fmt.Sprintf("all; in vain %d", len(v.Needless)), Remark: fmt.Sprintf("a member again after at most %v; %s", longest(backs), s.forward())})
}

// another is a sidecar of the same group with a path of its own.
func (s *scene) another(path string, env ...string) *rig.Sidecar {
	return rig.NewSidecar(s, s.TempDir(), s.wiring(append(env, "KPUSH_URL="+path)...)...)
}

// both waits until two sidecars have half of the partitions each, and returns since when.
func (s *scene) both(one, two string, stock int) (since time.Time) {
	s.Helper()
	rig.Within(s, patience, "half of the partitions with each of two sidecars", func() bool {
		s.stable(2, stock)
		since = time.Now()
		s.settled(since)
		return len(s.svc.Seen(since, one)) == s.partitions/2 && len(s.svc.Seen(since, two)) == s.partitions/2
	})
	return since
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
