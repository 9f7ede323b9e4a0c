package faults

import (
	"fmt"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// TestBrokerBounces: the only broker is killed and comes back; every other time the sidecar dies with it, and starts while it
// is away. A start that cannot ask where it stands waits; it does not begin at the oldest.
func TestBrokerBounces(t *testing.T) {
	t.Parallel()
	const concurrency = 8
	story := "the only broker killed"
	rig.Broken(t, story)
	s := stage(t, story, setting{kafka: rig.Own(t, 1), partitions: 8, concurrency: concurrency, bound: 0})
	s.flagBound = 0
	s.sc.Start(t)
	var flows []time.Duration
	for n := range times(10, 1) {
		s.stock(400)
		both := n%2 == 0
		var back time.Time
		s.crash(100+s.rng.IntN(300), func() {
			s.k.Kill(t)
			if both {
				s.sc.Kill()
			}
		}, func() {
			s.bound, s.flagBound = 0, 0
			if both {
				s.bound, s.flagBound = concurrency, 2*concurrency
				s.sc.Start(t)
				pass(500 * time.Millisecond)
			}
			s.k.Start(t)
			back = time.Now()
			s.stock(400)
		})
		flows = append(flows, time.Since(back))
	}
	s.tellForward(fmt.Sprintf("every other time with the sidecar; all partitions again after at most %v", longest(flows)))
}

// TestRollingRestart: three brokers are restarted in good order, one after the other, the group's coordinator among them.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	const story, nodes = "rolling restart of three brokers", 3
	if !*all {
		rig.NotRun(t, story, "part of make faults only")
	}
	rig.Broken(t, story)
	s := stage(t, story, setting{kafka: rig.Own(t, nodes, "min.insync.replicas=2"), partitions: 8, concurrency: 8})
	s.flagBound = 0
	s.svc.Rule(rig.Slow(5 * time.Millisecond))
	s.sc.Start(t)
	coordinators := 0
	for n := range nodes {
		s.stock(2_000)
		s.svc.Await(t, s.svc.Delivered()+100, patience)
		if s.k.Coordinator(t, s.topic) == n+1 {
			coordinators++
		}
		s.crash(0, func() { s.k.Stop(t, n+1) }, func() {})
		s.k.Start(t, n+1)
		s.stock(1_000)
	}
	if coordinators == 0 {
		t.Error("No restarted broker coordinated the group.")
	}
	s.tellForward(fmt.Sprintf("the coordinator %d times", coordinators))
}

// tellForward is tell, and no commit went back.
func (s *scene) tellForward(remark string) {
	s.Helper()
	s.tell(remark + "; " + s.forward())
}

// forward wants that no commit went back, and says so.
func (s *scene) forward() string {
	s.Helper()
	commits := 0
	for partition, history := range s.k.CommitHistory(s, s.topic, s.topic) {
		commits += len(history)
		for i := 1; i < len(history); i++ {
			if history[i] < history[i-1] {
				s.Errorf("Partition %d was committed up to %d, and then up to %d.", partition, history[i-1], history[i])
			}
		}
	}
	if commits == 0 {
		s.Error("Kafka's log holds no commit at all.")
	}
	return fmt.Sprintf("none of %d commits went back", commits)
}

func longest(times []time.Duration) time.Duration {
	var most time.Duration
	for _, d := range times {
		most = max(most, d)
	}
	return most.Round(time.Millisecond)
}
