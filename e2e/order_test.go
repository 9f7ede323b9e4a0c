package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// crowd is KPUSH_CONCURRENCY in these stories: far above the partitions.
const crowd = 32

// sold makes count messages of 500 customers; every 20th is nobody's, and has no key.
func sold(count int) []rig.Record {
	records := make([]rig.Record, count)
	for i := range records {
		records[i] = rig.Record{Partition: -1, Key: fmt.Appendf(nil, "customer-%d", rand.IntN(500)), Value: fmt.Appendf(nil, `{"order":%d}`, i)}
		if i%20 == 0 {
			records[i].Partition, records[i].Key = int32(i/20%8), nil
		}
	}
	return records
}

// inOrder tells a story for key and for none, with the oracle set to it.
func inOrder(t *testing.T, story func(t *testing.T, svc *rig.Service, env ...string)) {
	for _, order := range []string{"key", "none"} {
		t.Run(order, func(t *testing.T) {
			svc := service(t)
			svc.Order = order
			story(t, svc, "KPUSH_ORDER="+order, fmt.Sprint("KPUSH_CONCURRENCY=", crowd))
		})
	}
}

// after lets the service take its time for what the rule says.
func after(d time.Duration, rule func(*rig.Request) rig.Action) func(*rig.Request) rig.Action {
	return func(r *rig.Request) rig.Action {
		action := rule(r)
		action.Delay += d
		return action
	}
}

func TestEveryMessageOnceBeyondThePartitions(t *testing.T) {
	inOrder(t, func(t *testing.T, svc *rig.Service, env ...string) {
		const count, partitions = 20_000, 8
		k := kafka(t)
		svc.Rule(after(2*time.Millisecond, troubled()))
		topic := k.Topic(t, partitions)
		produced := k.Produce(t, topic, sold(count)...)
		sc := sidecar(t, k, topic, svc, append(env, "KPUSH_EXEC_TIMEOUT=1s", "KPUSH_RETRY_INTERVAL=5ms")...)
		svc.Await(t, count/10, patience)
		svc.Load()
		begin := time.Now()
		svc.Await(t, count*9/10, patience)
		rate := count * 8 / 10 / time.Since(begin).Seconds()
		average, most := svc.Load()
		svc.Await(t, count, patience)
		sc.Shut(t, 10*time.Second)
		verdict := svc.Judge(produced)
		verdict.Kept(t, 0)
		noDoubt(t, verdict)
		committedIsEnd(t, k, topic)
		if most <= partitions {
			t.Errorf("Never more than %d requests were in flight over %d partitions with a concurrency of %d.", most, partitions, crowd)
		}
		t.Logf("%.0f/s with %.1f requests in flight on average, %d at most.", rate, average, most)
	})
}

func TestTwentyKillsBeyondThePartitions(t *testing.T) {
	inOrder(t, func(t *testing.T, svc *rig.Service, env ...string) {
		const kills, least = 20, 2_000
		k := kafka(t)
		svc.Rule(after(2*time.Millisecond, func(r *rig.Request) rig.Action { // some wait for their retry at each kill
			if r.Attempt == 1 && r.Offset%10 == 7 { // later attempts succeed: what is repeated is repeated once
				return rig.Action{Status: 500}
			}
			return rig.Action{}
		}))
		topic := k.Topic(t, 8)
		produced := k.Produce(t, topic, sold(3*least)...)
		sc := sidecar(t, k, topic, svc, append(env, "KPUSH_RETRY_INTERVAL=10ms")...)
		svc.Await(t, 100, patience)
		var killed []time.Time
		for range kills {
			if len(produced)-svc.Delivered() < least {
				produced = append(produced, k.Produce(t, topic, sold(2*least)...)...)
			}
			svc.Await(t, svc.Delivered()+rand.IntN(500), patience)
			sc.Kill()
			killed = append(killed, svc.Orphaned(t))
			sc.Start(t)
			svc.Await(t, svc.Delivered()+500, patience)
		}
		svc.Await(t, len(produced), patience)
		sc.Shut(t, 10*time.Second)
		verdict := svc.Judge(produced)
		verdict.Kept(t, kills*crowd)
		most := svc.Bounded(t, killed, crowd, 2*crowd)
		committedIsEnd(t, k, topic)
		t.Logf("%d kills -9: %d repeats, at most %d a kill; at most %d messages in doubt, %d requests in vain.", kills, len(verdict.Repeats), most.Repeats, most.Flagged, len(verdict.Needless))
	})
}

// TestKeysStayInOrderOverRebalances: three sidecars come and go in good order, each of them once, while some messages wait
// for another attempt.
func TestKeysStayInOrderOverRebalances(t *testing.T) {
	t.Parallel()
	const partitions = 8
	k, svc := kafka(t), service(t)
	svc.Order = "key"
	svc.Rule(after(5*time.Millisecond, rig.Every(10, rig.Action{Status: 500}, rig.Status(200))))
	topic := k.Topic(t, partitions)
	stop := flow(t, func() []rig.Record { return k.Produce(t, topic, sold(40)...) })
	cars := make([]*rig.Sidecar, 3)
	for i := range cars {
		cars[i] = rig.NewSidecar(t, t.TempDir(), wiring(k, topic, svc, "KPUSH_ORDER=key", fmt.Sprint("KPUSH_CONCURRENCY=", crowd), fmt.Sprintf("KPUSH_URL=/%d", i))...)
	}
	cars[0].Start(t)
	cars[1].Start(t)
	running := 2
	settled(t, k, svc, topic, partitions, running)
	for _, i := range []int{2, 0, 1, 0, 2, 1} {
		if cars[i].Started() && cars[i].Alive() {
			cars[i].Shut(t, 10*time.Second)
			running--
		} else {
			cars[i].Start(t)
			running++
		}
		settled(t, k, svc, topic, partitions, running)
	}
	produced := stop()
	svc.Await(t, len(produced), patience)
	for _, sc := range cars {
		if sc.Alive() {
			sc.Shut(t, 10*time.Second)
		}
	}
	verdict := svc.Judge(produced)
	verdict.Kept(t, 0)
	noDoubt(t, verdict)
	committedIsEnd(t, k, topic)
}

// flow produces fifty times a second until stopped, and then returns what was produced.
func flow(t *testing.T, produce func() []rig.Record) (stop func() []rig.Record) {
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
				all = append(all, produce()...)
			}
		}
	}()
	return func() []rig.Record {
		close(ended)
		return <-result
	}
}

// elsewhere stops the sidecar and lets another machine go on, with an empty volume. It returns what was committed between
// them, and how many requests there had been.
func elsewhere(t *testing.T, k *rig.Kafka, svc *rig.Service, sc *rig.Sidecar, topic string, env []string) (*rig.Sidecar, map[int32]rig.Commit, int) {
	t.Helper()
	sc.Shut(t, 10*time.Second)
	commits, before := k.Committed(t, topic, topic), svc.Attempts()
	for partition, commit := range commits {
		if len(commit.Metadata) > 4096 || !strings.HasPrefix(commit.Metadata, "kpush1 ") {
			t.Errorf("The metadata of partition %d is %d characters, at most 4096 are allowed: %.100s", partition, len(commit.Metadata), commit.Metadata)
		}
	}
	other := rig.NewSidecar(t, t.TempDir(), env...)
	other.StartAs(t, "node-2")
	return other, commits, before
}

// TestAnotherMachineKnowsWhatWasDoneOutOfOrder: behind messages that fail for ever all is done, and only they go on.
func TestAnotherMachineKnowsWhatWasDoneOutOfOrder(t *testing.T) {
	mayRename(t)
	const partitions, count, every = 2, 2_000, 50
	k, svc := kafka(t), service(t)
	svc.Order = "none"
	bad := func(r *rig.Request) bool { return r.Offset%every == 7 }
	svc.Rule(func(r *rig.Request) rig.Action {
		if bad(r) {
			return rig.Action{Status: 500}
		}
		return rig.Action{}
	})
	topic := k.Topic(t, partitions)
	produced := k.ProduceEvenly(t, topic, partitions, count, 100)
	env := wiring(k, topic, svc, "KPUSH_ORDER=none", fmt.Sprint("KPUSH_CONCURRENCY=", crowd))
	sc := rig.StartSidecar(t, env...)
	failedTwice := func(requests []*rig.Request) bool {
		tries := map[string]int{}
		for _, r := range requests {
			if tries[r.ID]++; tries[r.ID] == 2 {
				tries["twice"]++
			}
		}
		return tries["twice"] == count/every
	}
	rig.Within(t, patience, "two attempts of each message that fails, and the delivery of all others", func() bool {
		return svc.Delivered() == count-count/every && failedTwice(svc.Requests())
	})
	other, commits, before := elsewhere(t, k, svc, sc, topic, env)
	for partition, commit := range commits {
		if commit.Offset != 7 {
			t.Errorf("Partition %d is committed up to %d, the first message that fails is 7.", partition, commit.Offset)
		}
	}
	rig.Within(t, patience, "two more attempts of each message that fails", func() bool { return failedTwice(svc.After(before)) })
	attempts := map[string]int{}
	for i, r := range svc.Requests() {
		if i >= before && !bad(r) {
			t.Errorf("%s came on the other machine although it was done.", r)
		}
		if attempts[r.ID]++; r.Attempt != attempts[r.ID] {
			t.Errorf("%s is the request number %d of its message.", r, attempts[r.ID])
		}
	}
	svc.Rule(nil)
	svc.Await(t, count, patience)
	other.Shut(t, 10*time.Second)
	verdict := svc.Judge(produced)
	verdict.Kept(t, 0)
	noDoubt(t, verdict)
	committedIsEnd(t, k, topic)
}

// TestWhatDoesNotFitIntoACommitIsFlagged: with so many holes another machine cannot know of all that is done.
func TestWhatDoesNotFitIntoACommitIsFlagged(t *testing.T) {
	mayRename(t)
	const count, known = 3_000, 100
	k, svc := kafka(t), service(t)
	svc.Order = "none"
	svc.Rule(func(r *rig.Request) rig.Action {
		if r.Offset%2 == 1 {
			return rig.Action{Status: 500}
		}
		return rig.Action{}
	})
	topic := k.Topic(t, 1)
	produced := k.ProduceEvenly(t, topic, 1, count, 100)
	env := wiring(k, topic, svc, "KPUSH_ORDER=none", fmt.Sprint("KPUSH_CONCURRENCY=", crowd), "KPUSH_RETRY_INTERVAL=1m")
	sc := rig.StartSidecar(t, env...)
	rig.Within(t, patience, "an attempt of each message", func() bool { return svc.Delivered() == count/2 && svc.Attempts() == count && svc.InFlight() == 0 })
	svc.Rule(nil)
	other, commits, before := elsewhere(t, k, svc, sc, topic, env)
	if commit := commits[0]; commit.Offset != 1 || !strings.Contains(commit.Metadata, " u=") {
		t.Errorf("Committed is %d with %q, want 1 and a ceiling.", commit.Offset, commit.Metadata)
	}
	svc.Await(t, count, patience)
	other.Shut(t, 10*time.Second)
	verdict := svc.Judge(produced)
	verdict.Kept(t, count/2)
	for _, r := range svc.After(before) {
		if r.Offset < known && (r.Offset%2 == 0 || r.Attempt != 2) {
			t.Errorf("%s came on the other machine: what is known of the oldest offsets fits.", r)
		}
	}
	if len(verdict.Repeats) == 0 {
		t.Error("Nothing was repeated: this story needs more holes.")
	}
	committedIsEnd(t, k, topic)
	t.Logf("%d characters of metadata for %d holes: %d of %d repeated, all flagged.", len(commits[0].Metadata), count/2, len(verdict.Repeats), count/2)
}
