package faults

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// BenchmarkGuarantees is what the whole process uses for a message with each guarantee, and the ratios to guarantee 1, of
// interleaved runs: of their medians, and of the least of each, since a busy machine only adds:
// go test ./e2e/faults -run ^$ -bench Guarantees -benchtime 5x
func BenchmarkGuarantees(b *testing.B) {
	const partitions, messages = 32, 150_000
	k := rig.Shared(b)
	topic := k.Topic(b, partitions)
	k.ProduceEvenly(b, topic, partitions, messages, 200)
	spent := map[int][]float64{}
	for n := range b.N {
		for _, guarantee := range []int{1, 2, 3} {
			svc := rig.StartService(b)
			sc := rig.NewSidecar(b, b.TempDir(), "KPUSH_BROKERS="+k.Brokers, "KPUSH_TOPIC="+topic, fmt.Sprintf("KPUSH_GROUP=%s-%d-%d", topic, n, guarantee),
				fmt.Sprintf("KPUSH_PORT=%d", svc.Port), fmt.Sprintf("KPUSH_CONCURRENCY=%d", partitions),
				fmt.Sprintf("KPUSH_MESSAGE_DELIVERY_GUARANTEES=%d", guarantee))
			sc.Start(b)
			svc.Await(b, messages, patience)
			sc.Shut(b, 15*time.Second)
			svc.Down()
			spent[guarantee] = append(spent[guarantee], float64(sc.CPU().Nanoseconds())/messages/1000)
		}
	}
	one, least := median(spent[1]), slices.Min(spent[1])
	for guarantee, runs := range spent {
		b.ReportMetric(median(runs), fmt.Sprintf("µs-cpu/msg-%d", guarantee))
		b.ReportMetric(median(runs)/one, fmt.Sprintf("x1-%d", guarantee))
		b.ReportMetric(slices.Min(runs)/least, fmt.Sprintf("x1-%d-least", guarantee))
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
