package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

const (
	silenceOfWhatStays = 700 * time.Millisecond
	silenceOfWhatMoves = 4 * time.Second
)

// stream produces about 500 messages a second into every partition until stopped, and then returns them all: a commit that
// waits for the group must not hold up what stays, and it takes some pace to notice.
func stream(t *testing.T, k *rig.Kafka, topic string, partitions int32) (stop func() []rig.Record) {
	t.Helper()
	return flow(t, func() []rig.Record { return k.ProduceEvenly(t, topic, partitions, 10*int(partitions), 100) })
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
		if len(svc.Seen(since)) < partitions {
			return false
		}
		g := k.Describe(t, topic)
		return g.State == "Stable" && len(g.Members) == members
	})
}

func TestASecondReplicaJoinsAndLeavesAgainAndAgain(t *testing.T) {
	const partitions, rounds = 8, 5
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

// TestALongRequestOfAPartitionThatGoesHoldsUpNobody: a third replica joins, and gets a partition of each of the two others; one of the two has
// a request of eight seconds under way. What stays is not stopped by it: neither with the one that drains, nor with the other one,
// whose commits wait as long, since the group does. What goes has to wait.
func TestALongRequestOfAPartitionThatGoesHoldsUpNobody(t *testing.T) {
	const partitions, slow, took = 8, 4, 8 * time.Second // each gives up its lowest one
	k, svc := kafka(t), service(t)
	topic := k.Topic(t, partitions)
	stop := stream(t, k, topic, partitions)
	var replicas []*rig.Sidecar
	join := func(path string) {
		replicas = append(replicas, sidecar(t, k, topic, svc, "KPUSH_URL="+path, "KPUSH_REVOKE_TIMEOUT=20s"))
		delivers(t, svc, path)
	}
	join("/drains")
	join("/healthy")
	settled(t, k, svc, topic, partitions, 2)
	svc.Rule(func(r *rig.Request) rig.Action {
		if r.Partition == slow {
			return rig.Action{Delay: took}
		}
		return rig.Action{}
	})
	svc.Await(t, svc.Delivered()+2_000, patience)
	begin := time.Now()
	join("/joins")
	joined := time.Since(begin)
	settled(t, k, svc, topic, partitions-1, 3)
	stayed, moved := svc.Silence(begin, time.Now(), slow)
	below(t, "What stays: "+stayed.String(), stayed.Begin, stayed.Length, silenceOfWhatStays)
	if joined < took/2 {
		rig.Missed(t, "The third sidecar delivered after %v, while a request of %v was under way: the story shows nothing.", joined, took)
	}
	produced := stop()
	svc.Rule(nil)
	svc.Await(t, len(produced), patience)
	for _, r := range replicas {
		r.Shut(t, 10*time.Second)
	}
	verdict := svc.Judge(produced)
	verdict.Kept(t, 0)
	noDoubt(t, verdict)
	committedIsEnd(t, k, topic)
	t.Logf("A third replica, %v late because of one request: %v (bound %v); %v.", joined, stayed, silenceOfWhatStays, moved)
}

// TestWhatIsTakenOverWaitsForNoBacklog: a sidecar whose buffer a slow service keeps full gets partitions with many messages.
func TestWhatIsTakenOverWaitsForNoBacklog(t *testing.T) {
	const partitions = 8
	k, svc := kafka(t), service(t)
	svc.Rule(rig.Slow(100 * time.Millisecond))
	topic := k.Topic(t, partitions)
	k.ProduceEvenly(t, topic, partitions, 80_000, 100)
	first := sidecar(t, k, topic, svc, "KPUSH_URL=/first")
	second := sidecar(t, k, topic, svc, "KPUSH_URL=/second")
	settled(t, k, svc, topic, partitions, 2)
	svc.Await(t, svc.Delivered()+200, patience)
	second.Shut(t, 10*time.Second)
	left := time.Now()
	svc.Await(t, svc.Delivered()+200, patience)
	if seen := svc.Seen(left); len(seen) < partitions {
		t.Errorf("Of %d partitions %d were delivered of in the next 200 messages.", partitions, len(seen))
	}
	first.Shut(t, 10*time.Second)
}

func quiet(t *testing.T, svc *rig.Service, begin, end time.Time, what string) {
	t.Helper()
	stayed, moved := svc.Silence(begin, end)
	below(t, "What stays: "+stayed.String(), stayed.Begin, stayed.Length, silenceOfWhatStays)
	below(t, "What moves: "+moved.String(), moved.Begin, moved.Length, silenceOfWhatMoves)
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
	t.Parallel()
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
