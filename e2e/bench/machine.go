package bench

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// keys is how many keys there are.
const keys = 100_000

// fill makes a topic and spreads the messages evenly over its partitions, a key always in the same one, in batches of
// 16 KiB as Java's producers make them by default.
func (s *scene) fill(partitions, count, size int) string {
	s.Helper()
	topic := s.k.Topic(s, int32(partitions))
	producer := s.producer(topic, kgo.ProducerLinger(200*time.Millisecond), kgo.MaxBufferedRecords(100_000))
	defer producer.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for n := range count {
		producer.Produce(ctx, &kgo.Record{Partition: int32(n % partitions), Key: fmt.Appendf(nil, "customer-%06d", n%keys), Value: value(n, size)}, s.produced)
	}
	if err := producer.Flush(ctx); err != nil {
		s.Fatalf("%s was not filled: %v", topic, err)
	}
	return topic
}

func (s *scene) producer(topic string, opts ...kgo.Opt) *kgo.Client {
	s.Helper()
	producer, err := kgo.NewClient(append(opts, kgo.SeedBrokers(strings.Split(s.k.Brokers, ",")...), kgo.DefaultProduceTopic(topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(16<<10), kgo.ProducerBatchCompression(kgo.NoCompression()))...)
	if err != nil {
		s.Fatalf("No producer for %s: %v", s.k.Brokers, err)
	}
	return producer
}

func (s *scene) produced(_ *kgo.Record, err error) {
	if err != nil {
		s.Errorf("A message was not produced: %v", err)
	}
}

// value is a text of the size that differs from message to message and has nothing to escape in JSON.
func value(n, size int) []byte {
	text := fmt.Appendf(make([]byte, 0, max(size, 16)), "message %08d", n)
	for len(text) < size {
		text = append(text, 'x')
	}
	return text
}

// trickle produces so many messages a second over the partitions, each one at once, and returns how long Kafka took to
// acknowledge each. They begin with "sent " and the time just before the producer got them.
func (s *scene) trickle(topic string, partitions, pace int, length time.Duration) (acknowledged []time.Duration) {
	s.Helper()
	producer := s.producer(topic, kgo.ProducerLinger(0))
	defer producer.Close()
	ctx, cancel := context.WithTimeout(context.Background(), length+patience)
	defer cancel()
	for n := range partitions { // the producer is known, the broker's files are open
		if err := producer.ProduceSync(ctx, &kgo.Record{Partition: int32(n), Value: value(n, 100)}).FirstErr(); err != nil {
			s.Fatalf("The first messages were not produced: %v", err)
		}
	}
	ticker := time.NewTicker(time.Second / time.Duration(pace))
	defer ticker.Stop()
	var mu sync.Mutex
	for n, end := 0, time.Now().Add(length); time.Now().Before(end); n++ {
		<-ticker.C
		sent := time.Now()
		text := fmt.Appendf(make([]byte, 0, 100), "sent %d ", sent.UnixNano())
		producer.Produce(ctx, &kgo.Record{Partition: int32(n % partitions), Value: text[:cap(text)]}, func(r *kgo.Record, err error) {
			took := time.Since(sent)
			s.produced(r, err)
			mu.Lock()
			defer mu.Unlock()
			acknowledged = append(acknowledged, took)
		})
	}
	if err := producer.Flush(ctx); err != nil {
		s.Fatalf("The messages were not produced: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	return slices.Sorted(slices.Values(acknowledged))
}

// before is the load average when the runner started: what else the machine had to do.
var before = func() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(text), " ")
	return one
}()

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
	return fmt.Sprintf("%d cores of %s, Linux %s, %s, %s; load average before it %s", runtime.NumCPU(), model,
		strings.TrimSpace(string(kernel)), runtime.Version(), kafka, before)
}
