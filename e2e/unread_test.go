package e2e

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kpush/kpush/e2e/rig"
)

// TestABatchThatCannotBeRead: of three partitions one has a batch that unpacks to more than the client may take, and another one that
// is damaged on the way. Both stand, named, and are not passed over; the third goes on. One ends by itself, the other by its setting.
func TestABatchThatCannotBeRead(t *testing.T) {
	t.Parallel() // it mostly waits
	const large, broken, partitions, first, bound, idle = 0, 1, 3, 30, 30 * time.Second, 0.04
	k, svc := rig.Own(t, 1), service(t)
	link, topic := k.Link(t), k.Topic(t, partitions)
	produced := k.Produce(t, topic, numbered("before", partitions, first)...)
	var big []rig.Record
	for i := range 20 {
		big = append(big, rig.Record{Partition: large, Value: bytes.Repeat([]byte{byte('a' + i)}, 500_000)})
	}
	produced = append(produced, k.Compress(t, topic, big...)...)
	produced = append(produced, k.Produce(t, topic, numbered("behind", partitions, first)...)...)
	link.Change(func(r kmsg.Response) {
		fetched, ok := r.(*kmsg.FetchResponse)
		if !ok {
			return
		}
		for _, one := range fetched.Topics {
			for _, p := range one.Partitions {
				if n := len(p.RecordBatches); p.Partition == broken && n > 0 {
					p.RecordBatches[n-1] ^= 1 // of the last batch
				}
			}
		}
	})
	sc := sidecar(t, k, topic, svc, "KPUSH_BROKERS="+link.Brokers, "KPUSH_CONSUMER_CONF=receive.message.max.bytes=5000000")
	var why string
	took := rig.Within(t, bound, "a word of both", func() bool {
		why = strings.Join(sc.Ask("/readyz").Why, "\n")
		return strings.Contains(why, fmt.Sprintf("%s/%d stands at offset %d since ", topic, large, first/partitions)) &&
			strings.Contains(why, fmt.Sprintf("%s/%d stands at offset %d since ", topic, broken, first/partitions))
	})
	t.Log(why)
	for _, part := range []string{"receive.message.max.bytes", "-seek", "CRC32C", "Decompression"} {
		if !strings.Contains(why, part) {
			t.Errorf("/readyz does not say %q.", part)
		}
	}
	const whole = first + first/partitions // the first of each, and the rest of one
	svc.Await(t, whole, patience)
	spent, since := sc.Spent(t), time.Now()
	rig.Throughout(t, 3*time.Second, func() error {
		if n := svc.Delivered(); n != whole {
			return fmt.Errorf("%d delivered, of %d that can be read", n, whole)
		}
		return nil
	})
	if busy := (sc.Spent(t) - spent).Seconds() / time.Since(since).Seconds(); busy > idle {
		t.Errorf("It takes %.1f %% of a processor while it waits, the bound is %.0f %%.", busy*100, idle*100)
	}
	link.Change(nil)
	svc.Await(t, whole+first/partitions, patience)
	sc.Shut(t, 10*time.Second)
	sc.Set("KPUSH_CONSUMER_CONF=receive.message.max.bytes=50000000")
	sc.Start(t)
	svc.Await(t, len(produced), patience)
	sc.Ready(t, patience)
	sc.Shut(t, 10*time.Second)
	svc.Judge(produced).Kept(t, 0)
	committedIsEnd(t, k, topic)
	if n := len(sc.Find("a partition cannot be read on")); n != 2 {
		t.Errorf("The log says it %d times of 2 partitions.", n)
	}
	t.Logf("Two of %d partitions cannot be read on: named after %v (bound %v), the third goes on, none is passed over.", partitions, took.Round(10*time.Millisecond), bound)
}
