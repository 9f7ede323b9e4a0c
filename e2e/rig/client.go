package rig

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const clientLimit = 60 * time.Second

type client struct {
	kafka *kgo.Client
	admin *kadm.Client
}

func newClient(brokers string, more ...kgo.Opt) (*client, error) {
	kafka, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(strings.Split(brokers, ",")...),
		kgo.RecordPartitioner(partitioner{kgo.StickyKeyPartitioner(nil)}),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProducerBatchMaxBytes(1 << 20),
		kgo.MaxBufferedRecords(1 << 20),
		kgo.RecordDeliveryTimeout(clientLimit),
		kgo.MetadataMinAge(50 * time.Millisecond),
	}, more...)...)
	if err != nil {
		return nil, fmt.Errorf("no client for the brokers %s: %w", brokers, err)
	}
	return &client{kafka: kafka, admin: kadm.NewClient(kafka)}, nil
}

func (c *client) close() { c.kafka.Close() }

// partitioner obeys a record's partition and asks the other one only for -1.
type partitioner struct{ keyed kgo.Partitioner }

func (p partitioner) ForTopic(topic string) kgo.TopicPartitioner {
	return topicPartitioner{p.keyed.ForTopic(topic)}
}

type topicPartitioner struct{ kgo.TopicPartitioner }

func (p topicPartitioner) Partition(r *kgo.Record, n int) int {
	if r.Partition >= 0 {
		return int(r.Partition)
	}
	return p.TopicPartitioner.Partition(r, n)
}

func limited() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), clientLimit)
}

// Fresh is the same cluster through a client that knows nothing of topics that were deleted since.
func (k *Kafka) Fresh(t T) *Kafka {
	t.Helper()
	fresh, err := connect(&Kafka{Brokers: k.Brokers})
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { fresh.close(false, nil) })
	return fresh
}
