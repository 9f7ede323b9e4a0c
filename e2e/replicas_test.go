package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

const (
	silenceOfWhatStays = time.Second
	silenceOfWhatMoves = 4 * time.Second
)

// stream produces about 50 messages a second into every partition until stopped, and then returns them all.
func stream(t *testing.T, k *rig.Kafka, topic string, partitions int32) (stop func() []rig.Record) {
	t.Helper()
	ended, result := make(chan struct{}), make(chan []rig.Record, 1)
	go func() {
		defer close(result)
		var all []rig.Record
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				result <- all
				return
			case <-t.Context().Done():
				return
			case <-tick.C:
				all = append(all, k.ProduceEvenly(t, topic, partitions, int(partitions), 100)...)
			}
		}
	}()
	return func() []rig.Record {
		close(ended)
		return <-result
	}
}

// delivers waits until the sidecar with this path has delivered after now.
func delivers(t *testing.T, svc *rig.Service, path string) time.Duration {
	t.Helper()
	since := time.Now()
	return rig.Within(t, patience, "a delivery to "+path, func() bool {
		requests := svc.Requests()
		for i := len(requests) - 1; i >= 0 && requests[i].Start.After(since); i-- {
			if requests[i].Path == path {
				return true
			}
		}
		return false
	})
}

// settled waits until every partition has had deliveries after the moment, and the group is stable.
func settled(t *testing.T, k *rig.Kafka, svc *rig.Service, topic string, partitions, members int) {
	t.Helper()
	since := time.Now()
	rig.Within(t, patience, fmt.Sprintf("a stable group of %d in which every partition delivers", members), func() bool {
		seen := map[int32]bool{}
		requests := svc.Requests()
		for i := len(requests) - 1; i >= 0 && requests[i].Start.After(since); i-- {
			seen[requests[i].Partition] = true
		}
		if len(seen) < partitions {
			return false
		}
		g := k.Describe(t, topic)
		return g.State == "Stable" && len(g.Members) == members
	})
}

func TestASecondReplicaJoinsAndLeavesTenTimes(t *testing.T) {
	const partitions, rounds = 8, 10
	k, svc := kafka(t), service(t)
	topic := k.Topic(t, partitions)
	stop := stream(t, k, topic, partitions)
	first := sidecar(t, k, topic, svc, "KPUSH_URL=/first")
	settled(t, k, svc, topic, partitions, 1)
	begin := time.Now()
	second := sidecar(t, k, topic, svc, "KPUSH_URL=/second")
	var joins, leaves []time.Duration
	for round := range rounds {
		if round > 0 {
			second.Start(t)
		}
		joins = append(joins, delivers(t, svc, "/second"))
		settled(t, k, svc, topic, partitions, 2)
		leaves = append(leaves, second.Shut(t, 10*time.Second))
		settled(t, k, svc, topic, partitions, 1)
	}
	end := time.Now()
	produced := stop()
	svc.Await(t, len(produced), patience)
	first.Shut(t, 10*time.Second)
	quiet(t, svc, begin, end, fmt.Sprintf("a second replica joined and left %d times (joined in %s, left in %s)", rounds, spread(joins), spread(leaves)))
	verdict := svc.Judge(produced)
	verdict.Kept(t, 0)
	noDoubt(t, verdict)
	committedIsEnd(t, k, topic)
}

// TestMoreReplicasThanPartitions: the idle member's coming and going must not be felt.
func TestMoreReplicasThanPartitions(t *testing.T) {
	const partitions, rounds = 2, 3
	k, svc := kafka(t), service(t)
	topic := k.Topic(t, partitions)
	stop := stream(t, k, topic, partitions)
	first := sidecar(t, k, topic, svc, "KPUSH_URL=/first")
	second := sidecar(t, k, topic, svc, "KPUSH_URL=/second")
	delivers(t, svc, "/first")
	delivers(t, svc, "/second")
	settled(t, k, svc, topic, partitions, 2)
	begin := time.Now()
	third := sidecar(t, k, topic, svc, "KPUSH_URL=/third")
	var leaves []time.Duration
	for round := range rounds {
		if round > 0 {
			third.Start(t)
		}
		settled(t, k, svc, topic, partitions, 3)
		leaves = append(leaves, third.Shut(t, 10*time.Second))
		if members := k.Describe(t, topic).Members; len(members) != 2 {
			t.Errorf("After the idle member's stop the group has %d members, want 2.", len(members))
		}
		settled(t, k, svc, topic, partitions, 2)
	}
	end := time.Now()
	produced := stop()
	svc.Await(t, len(produced), patience)
	first.Shut(t, 10*time.Second)
	second.Shut(t, 10*time.Second)
	quiet(t, svc, begin, end, fmt.Sprintf("an idle third replica came and went %d times (left in %s)", rounds, spread(leaves)))
	verdict := svc.Judge(produced)
	verdict.Kept(t, 0)
	noDoubt(t, verdict)
	committedIsEnd(t, k, topic)
}

func quiet(t *testing.T, svc *rig.Service, begin, end time.Time, what string) {
	t.Helper()
	stayed, moved := svc.Silence(begin, end)
	if stayed.Length > silenceOfWhatStays {
		t.Errorf("%v, the bound is %v.", stayed, silenceOfWhatStays)
	}
	if moved.Length > silenceOfWhatMoves {
		t.Errorf("%v, the bound is %v.", moved, silenceOfWhatMoves)
	}
	t.Logf("In %v %s; longest silence: %v (bound %v); %v (bound %v).", end.Sub(begin).Round(time.Second), what, stayed, silenceOfWhatStays, moved, silenceOfWhatMoves)
}

// noDoubt holds every graceful handover to its word: nothing is in doubt after it.
func noDoubt(t *testing.T, verdict *rig.Verdict) {
	t.Helper()
	if len(verdict.Needless) > 0 {
		t.Errorf("%d requests were called in doubt after graceful handovers, such as %s.", len(verdict.Needless), verdict.Needless[0])
	}
}

// TestASecondProcessWithTheSameInstanceIDEndsTheFirst with a sentence, and nothing is lost or in the dark.
func TestASecondProcessWithTheSameInstanceIDEndsTheFirst(t *testing.T) {
	k, svc := kafka(t), service(t)
	svc.Rule(rig.Slow(2 * time.Millisecond))
	topic := k.Topic(t, 4)
	produced := k.ProduceEvenly(t, topic, 4, 8_000, 100)
	first := sidecar(t, k, topic, svc, "KPUSH_INSTANCE_ID=shop-0")
	svc.Await(t, 500, patience)
	second := sidecar(t, k, topic, svc, "KPUSH_INSTANCE_ID=shop-0")
	took := first.Wait(t, 1, 10*time.Second)
	if said := first.Tail(3); !strings.Contains(said, "shop-0") {
		t.Errorf("The fenced process ended with %q, which does not name the instance id.", said)
	}
	svc.Await(t, len(produced), patience)
	second.Shut(t, 10*time.Second)
	verdict := svc.Judge(produced)
	if len(verdict.Lost)+len(verdict.Altered)+len(verdict.Stray) > 0 {
		t.Errorf("%s: %q", verdict, verdict.Lost)
	}
	committedIsEnd(t, k, topic)
	t.Logf("A second process with the same instance id: the first ended after %v; %s.", took.Round(time.Millisecond), verdict)
}
