package rig

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Record is a message as it was produced and acknowledged, or as it is to be produced.
type Record struct {
	Topic     string
	Partition int32 // where to produce it; -1 lets the key decide
	Offset    int64
	Key       []byte
	Value     []byte // nil is a tombstone
	Headers   []Header
}

// Header is a Kafka header; a nil value is not an empty one.
type Header struct {
	Name  string
	Value []byte
}

const clientLimit = 60 * time.Second

type client struct {
	kafka *kgo.Client
	admin *kadm.Client
}

func newClient(brokers string) (*client, error) {
	kafka, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(brokers, ",")...),
		kgo.RecordPartitioner(partitioner{kgo.StickyKeyPartitioner(nil)}),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProducerBatchMaxBytes(1<<20),
		kgo.MaxBufferedRecords(1<<20),
		kgo.RecordDeliveryTimeout(clientLimit),
		kgo.MetadataMinAge(50*time.Millisecond),
	)
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

var topics atomic.Int64

// Topic creates a topic with a name that nobody else uses and returns it; configs are "name=value".
func (k *Kafka) Topic(t T, partitions int32, configs ...string) string {
	t.Helper()
	name := fmt.Sprintf("e2e-%d-%d", time.Now().UnixMilli(), topics.Add(1))
	k.CreateTopic(t, name, partitions, configs...)
	return name
}

// CreateTopic creates a topic, replicated on every node up to three, and waits until it can be written.
func (k *Kafka) CreateTopic(t T, name string, partitions int32, configs ...string) {
	t.Helper()
	ctx, cancel := limited()
	defer cancel()
	settings := map[string]*string{}
	for _, c := range configs {
		key, value, _ := strings.Cut(c, "=")
		settings[key] = &value
	}
	made, err := k.client.admin.CreateTopic(ctx, partitions, -1, settings, name)
	if err != nil {
		t.Fatalf("The topic %s cannot be created: %v", name, err)
	}
	// by its id: a broker may be so far behind that it still tells of a deleted topic of this name
	Within(t, 10*time.Second, "a leader for every partition of "+name, func() bool {
		found, err := k.client.admin.ListTopics(ctx, name)
		return err == nil && found[name].Err == nil && found[name].ID == made.ID && len(found[name].Partitions) == int(partitions) &&
			!slices.ContainsFunc(found[name].Partitions.Sorted(), func(p kadm.PartitionDetail) bool { return p.Err != nil || p.Leader < 0 })
	})
}

// DeleteTopic deletes a topic.
func (k *Kafka) DeleteTopic(t T, name string) {
	t.Helper()
	ctx, cancel := limited()
	defer cancel()
	if _, err := k.client.admin.DeleteTopic(ctx, name); err != nil {
		t.Fatalf("The topic %s cannot be deleted: %v", name, err)
	}
}

// Produce writes the records in order and returns them with the partitions and offsets Kafka acknowledged.
func (k *Kafka) Produce(t T, topic string, records ...Record) []Record {
	t.Helper()
	ctx, cancel := limited()
	defer cancel()
	batch := make([]*kgo.Record, len(records))
	for i, r := range records {
		batch[i] = &kgo.Record{Topic: topic, Partition: r.Partition, Key: r.Key, Value: r.Value}
		for _, h := range r.Headers {
			batch[i].Headers = append(batch[i].Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
		}
	}
	if err := k.client.kafka.ProduceSync(ctx, batch...).FirstErr(); err != nil {
		t.Fatalf("Producing to %s failed: %v", topic, err)
	}
	acked := make([]Record, len(records))
	for i, r := range records {
		r.Topic, r.Partition, r.Offset = topic, batch[i].Partition, batch[i].Offset
		acked[i] = r
	}
	return acked
}

// ProduceEvenly writes count messages of size bytes over the partitions in turn, in batches as producers of
// 256 KiB make them: so that one fetch brings long runs of one partition.
func (k *Kafka) ProduceEvenly(t T, topic string, partitions int32, count, size int) []Record {
	t.Helper()
	const batch = 256 << 10
	var acked []Record
	run := max(1, batch/(size+70)) // a record costs about 70 bytes more than its value
	for len(acked) < count {
		var records []Record
		left := count - len(acked)
		each := min(run, (left+int(partitions)-1)/int(partitions))
		for i := range min(left, each*int(partitions)) {
			n := len(acked) + i
			value := fmt.Appendf(make([]byte, 0, size), "%d ", n)
			value = append(value, strings.Repeat("x", max(0, size-len(value)))...)
			records = append(records, Record{Partition: int32(i / each), Key: fmt.Appendf(nil, "key-%d", n), Value: value})
		}
		acked = append(acked, k.Produce(t, topic, records...)...)
	}
	return acked
}

// EndOffsets returns each partition's end.
func (k *Kafka) EndOffsets(t T, topic string) map[int32]int64 {
	t.Helper()
	ctx, cancel := limited()
	defer cancel()
	listed, err := k.client.admin.ListEndOffsets(ctx, topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		t.Fatalf("The end offsets of %s cannot be listed: %v", topic, err)
	}
	ends := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
	return ends
}

// Commit is a committed offset with its metadata.
type Commit struct {
	Offset   int64
	Metadata string
}

// Committed returns what the group has committed; partitions without a commit are missing.
func (k *Kafka) Committed(t T, group, topic string) map[int32]Commit {
	t.Helper()
	ctx, cancel := limited()
	defer cancel()
	fetched, err := k.client.admin.FetchOffsets(ctx, group)
	if err == nil {
		err = fetched.Error()
	}
	if err != nil {
		t.Fatalf("The committed offsets of %s cannot be fetched: %v", group, err)
	}
	commits := map[int32]Commit{}
	for partition, o := range fetched[topic] {
		if o.At >= 0 {
			commits[partition] = Commit{Offset: o.At, Metadata: o.Metadata}
		}
	}
	return commits
}

// Alter sets committed offsets as an operator's reset does: without any metadata, on an empty group.
func (k *Kafka) Alter(t T, group, topic string, offsets map[int32]int64) {
	t.Helper()
	commits := map[int32]Commit{}
	for partition, at := range offsets {
		commits[partition] = Commit{Offset: at}
	}
	k.Recommit(t, group, topic, commits)
}

// Forget deletes the group's committed offsets of a topic.
func (k *Kafka) Forget(t T, group, topic string, partitions ...int32) {
	t.Helper()
	ctx, cancel := limited()
	defer cancel()
	deleted, err := k.client.admin.DeleteOffsets(ctx, group, kadm.TopicsSet{topic: set(partitions)})
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		t.Fatalf("The offsets of %s cannot be deleted: %v", group, err)
	}
}

func set(partitions []int32) map[int32]struct{} {
	all := map[int32]struct{}{}
	for _, p := range partitions {
		all[p] = struct{}{}
	}
	return all
}

// Group is a consumer group as its coordinator sees it.
type Group struct {
	State   string
	Members map[string]int // member id → partitions it has
}

// Describe asks the coordinator for the group.
func (k *Kafka) Describe(t T, group string) Group {
	t.Helper()
	ctx, cancel := limited()
	defer cancel()
	described, err := k.client.admin.DescribeGroups(ctx, group)
	if err != nil && !kerr.IsRetriable(err) {
		t.Fatalf("The group %s cannot be described: %v", group, err)
	}
	g := Group{State: described[group].State, Members: map[string]int{}}
	for _, m := range described[group].Members {
		g.Members[m.MemberID] = 0
		if assigned, ok := m.Assigned.AsConsumer(); ok {
			for _, topic := range assigned.Topics {
				g.Members[m.MemberID] += len(topic.Partitions)
			}
		}
	}
	return g
}
