package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// concurrency is the default of KPUSH_CONCURRENCY, and with it the bound of repeats per kill.
const concurrency = 16

func TestTwentyKills(t *testing.T) {
	const kills, bound = 20, 500 * time.Millisecond
	k, svc := kafka(t), service(t)
	svc.Rule(rig.Every(10, rig.Action{Status: 500}, rig.Slow(2*time.Millisecond))) // some wait for their retry at each kill
	topic := k.Topic(t, 8)
	produced := k.Produce(t, topic, keyed(5_000)...)
	sc := sidecar(t, k, topic, svc, "KPUSH_RETRY_INTERVAL=10ms")
	svc.Await(t, 100, patience)
	var nexts []time.Duration
	var killed []time.Time
	late := 0
	for range kills {
		if len(produced)-svc.Delivered() < 2_000 {
			produced = append(produced, k.Produce(t, topic, keyed(5_000)...)...)
		}
		svc.Await(t, svc.Delivered()+rand.IntN(500), patience)
		sc.Kill()
		restart := svc.Orphaned(t)
		killed = append(killed, restart)
		sc.Start(t)
		next := svc.Next(t, restart, patience)
		nexts = append(nexts, next)
		if next > allowed(restart, next, bound) {
			late++
		}
		svc.Await(t, svc.Delivered()+100, patience)
	}
	svc.Await(t, len(produced), patience)
	sc.Shut(t, 10*time.Second)
	verdict := svc.Judge(produced)
	verdict.Kept(t, kills*concurrency)
	verdict.Rare(t, 2*concurrency*kills)
	most := svc.Bounded(t, killed, concurrency, 2*concurrency)
	// one start may meet other work on a shared machine; a member that has to wait for its session is late at every kill
	if late > 1 {
		rig.Missed(t, "The next delivery came later than %v after %d of %d restarts, after %v at the latest.", bound, late, kills, slices.Max(nexts).Round(time.Millisecond))
	}
	committedIsEnd(t, k, topic)
	t.Logf("%d kills -9 over %d messages: %d lost, %d repeats (at most %d a kill, bound %d), all flagged, %d flagged needlessly; next delivery after the restart %s (bound %v).",
		kills, len(produced), len(verdict.Lost), len(verdict.Repeats), most.Repeats, concurrency, len(verdict.Needless), spread(nexts), bound)
}

// TestAStopFinishesWhatIsInFlight: the service gets its answer out, the commit is made, and a restart repeats nothing.
func TestAStopFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel() // it mostly waits
	const partitions, session, took = 4, 6 * time.Second, 8 * time.Second
	k, svc := kafka(t), service(t)
	svc.Rule(rig.Slow(took))
	topic := k.Topic(t, partitions)
	produced := k.ProduceEvenly(t, topic, partitions, 40, 100)
	sc := sidecar(t, k, topic, svc, fmt.Sprintf("KPUSH_CONSUMER_CONF=session.timeout.ms=%d", session.Milliseconds()))
	rig.Within(t, patience, "a request in flight in every partition", func() bool { return svc.InFlight() == partitions })
	stop := sc.Shut(t, took+5*time.Second)
	if svc.Delivered() != partitions || svc.Attempts() != partitions {
		t.Errorf("A stop with %d requests in flight came to %d deliveries in %d requests.", partitions, svc.Delivered(), svc.Attempts())
	}
	for partition, commit := range k.Committed(t, topic, topic) {
		if commit.Offset != 1 {
			t.Errorf("Partition %d is committed up to %d after the stop, want 1.", partition, commit.Offset)
		}
	}
	if members := k.Describe(t, topic).Members; len(members) != 0 {
		t.Errorf("After the stop the group still has the members %v.", members)
	}
	svc.Rule(nil)
	sc.Start(t)
	svc.Await(t, len(produced), patience)
	sc.Signal(t, syscall.SIGHUP) // the terminal is closed: another stop
	sc.Wait(t, 0, 10*time.Second)
	verdict := svc.Judge(produced)
	verdict.Kept(t, 0)
	if len(verdict.Needless) > 0 {
		t.Errorf("After a graceful stop %d requests were called in doubt, such as %s.", len(verdict.Needless), verdict.Needless[0])
	}
	t.Logf("SIGTERM with %d requests in flight: ended after %v, all finished and committed, nothing repeated or in doubt.", partitions, stop.Round(time.Millisecond))
}

// TestAHangingServiceDoesNotHoldAStop: what does not answer within KPUSH_DRAIN_TIMEOUT is left, and is in doubt.
func TestAHangingServiceDoesNotHoldAStop(t *testing.T) {
	const drain = 2 * time.Second
	k, svc := kafka(t), service(t)
	topic := k.Topic(t, 2)
	produced := k.ProduceEvenly(t, topic, 2, 20, 100)
	svc.Rule(rig.First(2, rig.Action{Break: rig.Hang}, nil))
	sc := sidecar(t, k, topic, svc, fmt.Sprintf("KPUSH_DRAIN_TIMEOUT=%v", drain))
	rig.Within(t, patience, "a request in flight in both partitions", func() bool { return svc.InFlight() == 2 })
	begin := time.Now()
	sc.Term(t)
	rig.Within(t, patience, "the end of the process", func() bool { return !sc.Alive() })
	below(t, "A stop with a hanging service", begin, time.Since(begin), drain+500*time.Millisecond)
	sc.Start(t)
	svc.Await(t, len(produced), patience)
	sc.Shut(t, 10*time.Second)
	svc.Judge(produced).Kept(t, 0)
	committedIsEnd(t, k, topic)
}
