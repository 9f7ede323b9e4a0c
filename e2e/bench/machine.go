package bench

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// trickle produces so many messages a second over the partitions, each one at once, and returns how many. Each begins
// with "sent " and the time just before the producer got it.
func (s *scene) trickle(topic string, pace int, length time.Duration) (sent int) {
	s.Helper()
	producer, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(s.k.Brokers, ",")...), kgo.DefaultProduceTopic(topic),
		kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		s.Fatalf("No producer for %s: %v", s.k.Brokers, err)
	}
	defer producer.Close()
	ctx, cancel := context.WithTimeout(context.Background(), length+patience)
	defer cancel()
	ticker := time.NewTicker(time.Second / time.Duration(pace))
	defer ticker.Stop()
	for end := time.Now().Add(length); time.Now().Before(end); sent++ {
		<-ticker.C
		text := fmt.Appendf(make([]byte, 0, 100), "sent %d ", time.Now().UnixNano())
		producer.Produce(ctx, &kgo.Record{Value: text[:cap(text)]}, func(_ *kgo.Record, err error) {
			if err != nil {
				s.Errorf("A message was not produced: %v", err)
			}
		})
	}
	if err := producer.Flush(ctx); err != nil {
		s.Fatalf("The messages were not produced: %v", err)
	}
	return sent
}

// machine says on what it was measured.
func (s *scene) machine() string {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		kernel = []byte("unknown")
	}
	kafka, _, _ := strings.Cut(s.k.String(), " at ")
	return fmt.Sprintf("%d cores of %s, Linux %s, %s, %s", runtime.NumCPU(), model, strings.TrimSpace(string(kernel)), runtime.Version(), kafka)
}
