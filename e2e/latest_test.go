package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kpush/kpush/e2e/rig"
)

// noCommits answers each commit as a coordinator that loads its state does.
func noCommits(q kmsg.Request) kmsg.Response {
	commit, ok := q.(*kmsg.OffsetCommitRequest)
	if !ok {
		return nil
	}
	answer := kmsg.NewPtrOffsetCommitResponse()
	for _, topic := range commit.Topics {
		t := kmsg.NewOffsetCommitResponseTopic()
		t.Topic, t.TopicID = topic.Topic, topic.TopicID
		for _, partition := range topic.Partitions {
			p := kmsg.NewOffsetCommitResponseTopicPartition()
			p.Partition, p.ErrorCode = partition.Partition, 14 // COORDINATOR_LOAD_IN_PROGRESS
			t.Partitions = append(t.Partitions, p)
		}
		answer.Topics = append(answer.Topics, t)
	}
	return answer
}

// TestReadyIsReadyForWhatComesNow: where a new group starts at the end, what comes after the first ready belongs to it, even if
// the machine is lost at once. So it is not ready before Kafka knows where each partition starts.
func TestReadyIsReadyForWhatComesNow(t *testing.T) {
	t.Parallel() // it mostly waits
	const refused = 14 * time.Second
	for _, guarantee := range []string{"1", "2", "3"} {
		t.Run("guarantee-"+guarantee, func(t *testing.T) {
			t.Parallel()
			k, svc := rig.Own(t, 1), service(t)
			link := k.Link(t)
			topic := k.Topic(t, 4)
			k.ProduceEvenly(t, topic, 4, 40, 100)
			link.Answer(noCommits)
			svc.Down() // nothing is delivered, and so on record, before the machine is lost
			env := wiring(k, topic, svc, "KPUSH_BROKERS="+link.Brokers, "KPUSH_AUTO_OFFSET_RESET=latest", "KPUSH_MESSAGE_DELIVERY_GUARANTEES="+guarantee)
			sc := rig.StartSidecar(t, env...)
			begin := time.Now()
			rig.Within(t, patience, "the sidecar's partitions", func() bool { return len(sc.Find("partitions assigned")) > 0 })
			rig.Throughout(t, refused-time.Since(begin), func() error {
				if ready := sc.Ask("/readyz"); ready.Code == 200 {
					return fmt.Errorf("the sidecar calls itself ready while its commits are refused")
				}
				return nil
			})
			if why := strings.Join(sc.Ask("/readyz").Why, "\n"); !strings.Contains(why, topic+"/0") || !strings.Contains(why, "commit") {
				t.Errorf("/readyz does not say what it waits for: %q", why)
			}
			link.Answer(nil)
			took := sc.Ready(t, patience)
			produced := k.ProduceEvenly(t, topic, 4, 80, 100)
			sc.Kill()
			svc.Up(t)
			svc.Orphaned(t)
			rig.StartSidecar(t, env...) // on another volume
			svc.Await(t, len(produced), patience)
			svc.Judge(produced).Kept(t, 80)
			t.Logf("Commits refused for %v: not ready; ready %v later, and then nothing is lost with the machine.", refused, took.Round(time.Millisecond))
		})
	}
}
