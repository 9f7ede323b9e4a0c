package e2e

import (
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// TestEveryPartitionIsBusy counts in the service: small messages in large producer batches, whose long runs of
// one partition would leave the other lanes idle.
func TestEveryPartitionIsBusy(t *testing.T) {
	const partitions, count, least = 8, 40_000, 7.0
	k, svc := kafka(t), service(t)
	svc.Rule(rig.Slow(2 * time.Millisecond))
	topic := k.Topic(t, partitions)
	produced := k.ProduceEvenly(t, topic, partitions, count, 100)
	sc := sidecar(t, k, topic, svc)
	svc.Await(t, count/20, patience)
	svc.Load()
	begin := time.Now()
	svc.Await(t, count*9/10, patience)
	average, most := svc.Load()
	rate := float64(count*9/10-count/20) / time.Since(begin).Seconds()
	svc.Await(t, count, patience)
	sc.Shut(t, 10*time.Second)
	svc.Judge(produced).Kept(t, 0)
	committedIsEnd(t, k, topic)
	if average < least {
		t.Errorf("%.2f requests were in flight on average over %d partitions, the bound is %.0f.", average, partitions, least)
	}
	if most > partitions {
		t.Errorf("%d requests were in flight at once over %d partitions in order.", most, partitions)
	}
	t.Logf("%d partitions, 2 ms service, 100 B: %.2f requests in flight on average (bound %.0f), %d at most, %.0f/s.", partitions, average, least, most, rate)
}
