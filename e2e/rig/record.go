package rig

import (
	"fmt"
	"strings"

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

// Transact produces the records in one transaction, and commits or aborts it.
func (k *Kafka) Transact(t T, topic string, commit bool, records ...Record) []Record {
	t.Helper()
	acked, end := k.Begin(t, topic, records...)
	end(commit)
	return acked
}

// Begin produces the records in a transaction that stays open until end commits or aborts it.
func (k *Kafka) Begin(t T, topic string, records ...Record) (acked []Record, end func(commit bool)) {
	t.Helper()
	ctx, cancel := limited()
	defer cancel()
	writer, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(k.Brokers, ",")...), kgo.TransactionalID("writer-"+topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(writer.Close)
	if err := writer.BeginTransaction(); err != nil {
		t.Fatalf("%v", err)
	}
	batch := make([]*kgo.Record, len(records))
	for i, r := range records {
		batch[i] = &kgo.Record{Topic: topic, Partition: r.Partition, Key: r.Key, Value: r.Value}
	}
	if err := writer.ProduceSync(ctx, batch...).FirstErr(); err != nil {
		t.Fatalf("Producing to %s in a transaction failed: %v", topic, err)
	}
	acked = make([]Record, len(records))
	for i, r := range records {
		r.Topic, r.Offset = topic, batch[i].Offset
		acked[i] = r
	}
	return acked, func(commit bool) {
		t.Helper()
		ctx, cancel := limited()
		defer cancel()
		if err := writer.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
			t.Fatalf("A transaction on %s does not end: %v", topic, err)
		}
		writer.Close()
	}
}
