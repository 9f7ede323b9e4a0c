package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

func TestABrokerIsKilledAndBackAfterEightSeconds(t *testing.T) {
	t.Parallel() // it mostly waits
	const outage, bound = 8 * time.Second, 2 * time.Second
	k, svc := rig.Own(t, 1), service(t)
	topic := k.Topic(t, 8)
	produced := k.ProduceEvenly(t, topic, 8, 4_000, 100)
	svc.Rule(rig.Slow(2 * time.Millisecond))
	sc := sidecar(t, k, topic, svc)
	svc.Await(t, 1_000, patience)
	k.Kill(t)
	killed := time.Now()
	rig.Throughout(t, outage, func() error {
		if health := sc.Ask("/healthz"); health.Code != 200 {
			return fmt.Errorf("a dead broker is called ill health: %d %q", health.Code, health.Why)
		}
		return nil
	})
	if ready := sc.Ask("/readyz"); ready.Code == 200 || len(ready.Why) == 0 {
		t.Errorf("Without its broker the sidecar calls itself ready: %d %q.", ready.Code, ready.Why)
	}
	svc.Rule(nil)
	k.Start(t)
	back := time.Now()
	// what was fetched before the outage does not count: only what Kafka has to hand over now
	fresh := k.ProduceEvenly(t, topic, 8, 800, 100)
	from := fresh[0].Offset
	rig.Within(t, patience, "a delivery of what was produced after the outage", func() bool {
		for _, r := range svc.Requests() {
			if r.Partition == fresh[0].Partition && r.Offset >= from {
				return true
			}
		}
		return false
	})
	flow := time.Since(back)
	produced = append(produced, fresh...)
	svc.Await(t, len(produced), patience)
	sc.Shut(t, 10*time.Second)
	svc.Judge(produced).Kept(t, 0)
	committedIsEnd(t, k, topic)
	below(t, "The flow after the broker's return", back, flow, bound)
	t.Logf("Broker killed, back after %v: flow again after %v (bound %v), 0 lost, 0 repeated.", back.Sub(killed).Round(time.Second), flow.Round(time.Millisecond), bound)
}

// TestAStopWhileTheBrokerIsFrozen: commits are outstanding all the time, and the client's Close can block for ever.
func TestAStopWhileTheBrokerIsFrozen(t *testing.T) {
	t.Parallel() // it mostly waits
	const frozen, drain = 30 * time.Second, 5 * time.Second
	k, svc := rig.Own(t, 1), service(t)
	topic := k.Topic(t, 8)
	produced := k.ProduceEvenly(t, topic, 8, 20_000, 100)
	svc.Rule(rig.Slow(5 * time.Millisecond))
	sc := sidecar(t, k, topic, svc, fmt.Sprintf("KPUSH_DRAIN_TIMEOUT=%v", drain))
	svc.Await(t, 1_000, patience)
	k.Pause(t)
	paused := time.Now()
	delivered := svc.Delivered()
	rig.Throughout(t, frozen-drain-2*time.Second, func() error {
		if !sc.Alive() {
			return fmt.Errorf("the sidecar ended by itself: %s", sc.Tail(3))
		}
		return nil
	})
	during := svc.Delivered() - delivered
	asked := time.Now()
	sc.Term(t)
	stop := sc.Wait(t, 1, patience)
	rig.Within(t, frozen, "30 seconds of frost", func() bool { return time.Since(paused) >= frozen })
	k.Cont(t)
	svc.Rule(nil)
	sc.Start(t)
	svc.Await(t, len(produced), patience)
	sc.Shut(t, 10*time.Second)
	verdict := svc.Judge(produced)
	verdict.Kept(t, concurrency) // the frost outlasts the session: the partitions are lost, and requests of a lost partition are cancelled
	committedIsEnd(t, k, topic)
	below(t, "A stop while the broker was frozen", asked, stop, drain+500*time.Millisecond)
	t.Logf("Broker frozen for %v (%d deliveries meanwhile), SIGTERM in it: ended after %v (KPUSH_DRAIN_TIMEOUT %v); then 0 lost, %d repeated, flagged.",
		frozen, during, stop.Round(time.Millisecond), drain, len(verdict.Repeats))
}

// TestABrokerThatIsAwayHoldsUpOnlyWhatItLeads: of three, one is frozen or dead, and nobody else leads its partitions. A sidecar
// that starts meanwhile delivers the others, and those when the broker is back.
func TestABrokerThatIsAwayHoldsUpOnlyWhatItLeads(t *testing.T) {
	t.Parallel()
	const partitions, each, bound = 6, 4_000, 10 * time.Second // three of which Kafka takes to do without a replica
	k, svc := rig.Own(t, 3, "default.replication.factor=1"), service(t)
	svc.Rule(rig.Slow(2 * time.Millisecond))
	topic := k.Topic(t, partitions)
	produced := k.ProduceEvenly(t, topic, partitions, partitions*each, 100)
	away := k.Coordinator(t, topic)%3 + 1
	led := k.LedBy(t, topic, away)
	if len(led) == 0 || len(led) == partitions {
		t.Fatalf("Broker %d leads %v of %d partitions.", away, led, partitions)
	}
	others := func(since time.Time) func() bool {
		return func() bool {
			seen := svc.Seen(since)
			for _, p := range led {
				delete(seen, p)
			}
			return len(seen) == partitions-len(led)
		}
	}
	sc := rig.NewSidecar(t, t.TempDir(), wiring(k, topic, svc)...)
	for _, how := range []struct {
		name     string
		hurt     func(t rig.T, nodes ...int)
		heal     func(t rig.T, nodes ...int)
		restarts bool
	}{{"frozen", k.Pause, k.Cont, false}, {"dead", k.Kill, k.Start, true}} {
		how.hurt(t, away)
		if how.restarts {
			sc.Kill()
			svc.Orphaned(t)
		}
		begin := time.Now()
		sc.Start(t)
		took := rig.Within(t, patience, "a delivery of each partition that another broker leads", others(begin))
		below(t, "The first delivery past a broker that is "+how.name, begin, took, bound)
		how.heal(t, away)
		begin = time.Now()
		rig.Within(t, patience, "a delivery of each partition of the broker that is back", func() bool {
			seen := svc.Seen(begin)
			return !slices.ContainsFunc(led, func(p int32) bool { return !seen[p] })
		})
		t.Logf("One of three brokers %s: what the others lead delivered %v after the start, what it leads %v after it was back.",
			how.name, took.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond))
	}
	svc.Rule(nil)
	svc.Await(t, len(produced), patience)
	sc.Shut(t, 10*time.Second)
	svc.Judge(produced).Kept(t, concurrency)
	committedIsEnd(t, k, topic)
}

// TestABrokerThatTakesNoMetadata: without marks another machine knows nothing, but this one goes on, over kills and stops.
func TestABrokerThatTakesNoMetadata(t *testing.T) {
	const partitions = 2
	k, svc := rig.Own(t, 1, "offset.metadata.max.bytes=0"), service(t)
	topic := k.Topic(t, partitions)
	produced := k.Produce(t, topic, numbered("first", partitions, 200)...)
	sc := sidecar(t, k, topic, svc)
	hears(t, svc, 0, produced)
	noLag(t, k, topic)
	said(t, sc, "raise offset.metadata.max.bytes")
	sc.Kill()
	produced = append(produced, k.Produce(t, topic, numbered("second", partitions, 200)...)...)
	sc.Start(t)
	hears(t, svc, 0, produced)
	sc.Shut(t, 10*time.Second)
	exactly(t, svc, 0, produced)
	committedIsEnd(t, k, topic)
}
