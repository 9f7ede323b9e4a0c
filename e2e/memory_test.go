package e2e

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// TestLargeBatchesNeedNoMoreThanIsSaid: in each of sixteen partitions a batch that unpacks to one message of 20 MB, some thirty times what it is,
// and a service that takes its time: no more is unpacked, or held, than KPUSH_BUFFER, twice the largest message, and 64 MiB.
func TestLargeBatchesNeedNoMoreThanIsSaid(t *testing.T) {
	t.Parallel() // it mostly waits
	const partitions, size, limit = 16, 20_000_000, 16 + 2*20_000_000.0/(1<<20) + 64
	k, svc := kafka(t), service(t)
	svc.Rule(rig.Slow(500 * time.Millisecond))
	topic := k.Topic(t, partitions)
	var produced []rig.Record
	for p := range int32(partitions) {
		value, random := bytes.Repeat([]byte{byte('a' + p)}, size), rand.New(rand.NewPCG(1, uint64(p)))
		for at := 0; at < size; at += 320 {
			binary.LittleEndian.PutUint64(value[at:], random.Uint64())
		}
		produced = append(produced, k.Compress(t, topic, rig.Record{Partition: p, Value: value})...)
	}
	sc := sidecar(t, k, topic, svc)
	svc.Await(t, len(produced), patience)
	peak := sc.Peak(t)
	sc.Ready(t, patience)
	sc.Shut(t, 10*time.Second)
	svc.Judge(produced).Kept(t, 0)
	committedIsEnd(t, k, topic)
	if peak > limit {
		rig.Missed(t, "It took %.0f MiB, the limit is %.0f.", peak, limit) // the pace of the collector is the machine's
	}
	t.Logf("%d batches that unpack to %d MB each: %.0f MiB at the most (limit %.0f).", partitions, size/1_000_000, peak, limit)
}
