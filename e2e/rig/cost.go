package rig

import "time"

// Cost is what one kill has brought again.
type Cost struct {
	Repeats int // messages that the service had done in a request of before it
	Flagged int // messages that came with Kafka-In-Doubt
}

// Orphaned waits, once the only sidecar is dead, until everything that it had sent has arrived and is answered, and returns
// that moment: what comes later is of its next life.
func (s *Service) Orphaned(t T) time.Time {
	t.Helper()
	Within(t, 10*time.Second, "the end of what a dead sidecar had sent", func() bool { return s.conns.Load() == 0 && s.idle() })
	return time.Now()
}

// Costs charges each kill with the messages whose latest request before had come in the life that it ended, however many
// lives later they come again: what is in doubt waits for its turn, and the next kill may be sooner. The last cost is of
// no kill: a message was done and came again, or was called in doubt, within one life. The moments are Orphaned's.
func (s *Service) Costs(killed []time.Time) []Cost {
	costs := make([]Cost, len(killed)+1)
	latest, done := map[position]int{}, map[position]int{}       // lives
	counted, doubted := map[position]bool{}, map[position]bool{} // until it is done once more; by the latest request
	life := 0
	for _, r := range s.Requests() {
		at := r.position()
		for life < len(killed) && killed[life].Before(r.Start) {
			life++
		}
		if was, again := done[at]; again && !counted[at] {
			costs[blame(was, life, len(killed))].Repeats++
			counted[at] = true
		}
		was, again := latest[at]
		if !again {
			was = life - 1 // nothing of it had arrived
		}
		if r.InDoubt && (was < life || !doubted[at]) {
			costs[blame(was, life, len(killed))].Flagged++
		}
		latest[at], doubted[at] = life, r.InDoubt
		if r.Done {
			done[at], counted[at] = life, false
		}
	}
	return costs
}

// blame is the kill that ended the life it was in, unless it goes on.
func blame(was, life, kills int) int {
	if was < 0 || was == life {
		return kills
	}
	return was
}

// Bounded fails the test for each kill that has cost more than its bounds, and for what came again without one. It
// returns the largest cost.
func (s *Service) Bounded(t T, killed []time.Time, repeats, flagged int) Cost {
	t.Helper()
	var most Cost
	costs := s.Costs(killed)
	for kill, cost := range costs[:len(killed)] {
		most = Cost{max(most.Repeats, cost.Repeats), max(most.Flagged, cost.Flagged)}
		if cost.Repeats > repeats || cost.Flagged > flagged {
			t.Errorf("Kill %d cost %d repeats and %d messages in doubt, the bounds are %d and %d.", kill+1, cost.Repeats, cost.Flagged, repeats, flagged)
		}
	}
	if alone := costs[len(killed)]; alone != (Cost{}) {
		t.Errorf("%d repeats and %d messages in doubt had no kill behind them.", alone.Repeats, alone.Flagged)
	}
	return most
}
