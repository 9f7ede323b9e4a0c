package e2e

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// TestAZombieDoesNothingMore: a sidecar stands still for longer than its session, with requests in flight and messages in
// memory, and another takes its partitions over. When it goes on, nothing of them is sent or committed by it any more.
func TestAZombieDoesNothingMore(t *testing.T) {
	t.Parallel()
	const partitions, count, rounds = 4, 40_000, 3
	const session, interval = 6 * time.Second, 200 * time.Millisecond
	k, svc := kafka(t), service(t)
	svc.Rule(rig.Slow(2 * time.Millisecond))
	topic := k.Topic(t, partitions)
	produced := k.ProduceEvenly(t, topic, partitions, count, 100)
	conf := fmt.Sprintf("KPUSH_CONSUMER_CONF=session.timeout.ms=%d;heartbeat.interval.ms=1000", session.Milliseconds())
	zombie := sidecar(t, k, topic, svc, conf, "KPUSH_URL=/zombie")
	svc.Await(t, 500, patience)
	heir := sidecar(t, k, topic, svc, conf, "KPUSH_URL=/heir")
	delivers(t, svc, "/heir")
	back := watchCommits(t, k, topic)
	var takeovers, returns []time.Duration
	uncommitted, again := 0, 0 // again: what the SIGSTOP caught between the last look at the membership and the socket
	for round := range rounds {
		settled(t, k, svc, topic, partitions, 2)
		commits(t, k, topic, partitions)
		zombie.Signal(t, syscall.SIGSTOP)
		stopped := time.Now()
		rig.Within(t, patience, "the heir's deliveries of every partition", func() bool { return len(svc.Seen(stopped, "/heir")) == partitions })
		takeovers = append(takeovers, time.Since(stopped))
		commits(t, k, topic, partitions) // the heir is past what the zombie had done and not committed
		zombie.Signal(t, syscall.SIGCONT)
		awake := time.Now()
		returns = append(returns, delivers(t, svc, "/zombie")) // as a member again
		settled(t, k, svc, topic, partitions, 2)

		for _, r := range svc.Requests() {
			if r.Path == "/zombie" && r.Done && r.End.After(stopped.Add(-interval-50*time.Millisecond)) && r.Start.Before(stopped) {
				uncommitted++
			}
		}
		caught := map[int32]bool{}
		for _, r := range repeated(svc, "/zombie", awake) {
			if caught[r.Partition] || r.Start.After(awake.Add(100*time.Millisecond)) {
				t.Errorf("Round %d: the zombie sent a message of a partition that it had lost: %s.", round+1, r)
			}
			caught[r.Partition] = true
		}
		again += len(caught)
	}
	svc.Rule(nil)
	svc.Await(t, len(produced), patience)
	zombie.Shut(t, 10*time.Second)
	heir.Shut(t, 10*time.Second)
	verdict := svc.Judge(produced)
	// what was in flight at the SIGSTOP may go out at the SIGCONT, beside the heir's request
	if n := len(verdict.Overlap); n > rounds*partitions {
		t.Errorf("%d requests overlapped, the bound is %d: one in flight in each partition at each SIGSTOP.", n, rounds*partitions)
	}
	verdict.Overlap = nil
	if len(verdict.Unflagged) <= again {
		verdict.Unflagged = nil
	}
	verdict.Kept(t, uncommitted+rounds*partitions)
	if n := back(); n > 0 {
		t.Errorf("Committed offsets went back %d times.", n)
	}
	committedIsEnd(t, k, topic)
	t.Logf("%d times a zombie (session %v, taken over after %s, delivers again after %s): %d lost, %d repeats by the heir (bound %d: in flight and done within a commit interval), %d by the zombie within a moment of its return, no commit went back.",
		rounds, session, spread(takeovers), spread(returns), len(verdict.Lost), len(verdict.Repeats)-again, uncommitted+rounds*partitions, again)
}

// commits waits until the group has committed more in every partition than at the beginning of the wait.
func commits(t *testing.T, k *rig.Kafka, topic string, partitions int) {
	t.Helper()
	begin := k.Committed(t, topic, topic)
	rig.Within(t, patience, "a commit in every partition", func() bool {
		more := 0
		for partition, c := range k.Committed(t, topic, topic) {
			if c.Offset > begin[partition].Offset {
				more++
			}
		}
		return more == partitions
	})
}

// repeated are the requests to the path, since the moment, for messages that had been answered before.
func repeated(svc *rig.Service, path string, since time.Time) (out []*rig.Request) {
	done := map[string]bool{}
	for _, r := range svc.Requests() {
		if r.Path == path && r.Start.After(since) && done[r.ID] {
			out = append(out, r)
		}
		done[r.ID] = done[r.ID] || r.Done
	}
	return out
}

// watchCommits looks at the group's commits until asked, and then says how often one was lower than before.
func watchCommits(t *testing.T, k *rig.Kafka, topic string) (back func() int) {
	t.Helper()
	ended, result := make(chan struct{}), make(chan int, 1)
	go func() {
		highest, count := map[int32]int64{}, 0
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				result <- count
				return
			case <-t.Context().Done():
				return
			case <-tick.C:
				for partition, c := range k.Committed(t, topic, topic) {
					if c.Offset < highest[partition] {
						count++
					}
					highest[partition] = c.Offset
				}
			}
		}
	}()
	return func() int {
		close(ended)
		return <-result
	}
}
