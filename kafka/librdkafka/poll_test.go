package librdkafka

import (
	"errors"
	"hash/crc32"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kpush/kpush/kafka"
)

// What comes is what was produced, byte for byte: null is another thing than empty, and no timestamp another than that of the first
// millisecond of 1970.
func TestAMessageIsWhatWasProduced(t *testing.T) {
	r := newRealRig(t)
	l := r.queued()
	rows := []struct {
		record kgo.Record
		want   kafka.Message
	}{
		{kgo.Record{Timestamp: time.UnixMilli(1795000000007), Key: []byte("k"), Value: []byte("v")}, kafka.Message{Timestamp: 1795000000007, Key: []byte("k"), Value: []byte("v")}},
		{kgo.Record{Timestamp: time.UnixMilli(0)}, kafka.Message{}},
		{kgo.Record{Timestamp: time.UnixMilli(-1), Key: []byte{}, Value: []byte{}}, kafka.Message{Timestamp: -1, Key: []byte{}, Value: []byte{}}},
		{kgo.Record{Timestamp: time.UnixMilli(5), Value: []byte{0, 0xff}, Headers: []kgo.RecordHeader{{Key: "a", Value: []byte{0}}, {Key: "a"}, {Key: "", Value: []byte{}}}},
			kafka.Message{Timestamp: 5, Value: []byte{0, 0xff}, Headers: []kafka.Header{{Name: "a", Value: []byte{0}}, {Name: "a"}, {Value: []byte{}}}}},
	}
	for i, row := range rows {
		row.record.Topic, row.want.Partition, row.want.Offset = "orders", kafka.Partition{Topic: "orders"}, int64(i)
		r.produce(&row.record)
		var got *kafka.Message
		r.within("a message", func() {
			for got == nil {
				got, _ = l.Poll(time.Second)
			}
		})
		if !reflect.DeepEqual(*got, row.want) {
			t.Errorf("%+v, want %+v", *got, row.want)
		}
	}
}

// damaged is a batch of one record at offset 0, as Kafka's log holds it, that change has changed. Its checksum is right before that, and
// with again after it, too.
func damaged(change func(*kmsg.RecordBatch), again bool) []byte {
	record := kmsg.Record{Value: []byte("whole")}
	record.Length = int32(len(record.AppendTo(nil)) - 1)
	b := kmsg.RecordBatch{Magic: 2, NumRecords: 1, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, Records: record.AppendTo(nil)}
	sum := func() {
		b.Length = int32(len(b.AppendTo(nil)) - 12)
		b.CRC = int32(crc32.Checksum(b.AppendTo(nil)[21:], crc32.MakeTable(crc32.Castagnoli)))
	}
	sum()
	if change(&b); again {
		sum()
	}
	return b.AppendTo(nil)
}

// What cannot be read is said of its partition, before anything behind it is handed over.
func TestWhatCannotBeReadIsNamed(t *testing.T) {
	for name, batch := range map[string][]byte{
		"whole":           damaged(func(*kmsg.RecordBatch) {}, true),
		"a byte is wrong": damaged(func(b *kmsg.RecordBatch) { b.Records[len(b.Records)-2] ^= 1 }, false),
		"no zstd":         damaged(func(b *kmsg.RecordBatch) { b.Attributes = 4 }, true),
		"no gzip":         damaged(func(b *kmsg.RecordBatch) { b.Attributes = 1 }, true),
		"no such codec":   damaged(func(b *kmsg.RecordBatch) { b.Attributes = 7 }, true),
		"no such version": damaged(func(b *kmsg.RecordBatch) { b.Magic = 9 }, true),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRealRig(t)
			r.fake.KeepControl()
			r.fake.ControlKey(kmsg.Fetch.Int16(), func(q kmsg.Request) (kmsg.Response, error, bool) {
				r.fake.KeepControl()
				a := q.ResponseKind().(*kmsg.FetchResponse)
				for _, of := range q.(*kmsg.FetchRequest).Topics {
					topic := kmsg.FetchResponseTopic{Topic: of.Topic, TopicID: of.TopicID}
					for _, p := range of.Partitions {
						one := kmsg.NewFetchResponseTopicPartition()
						one.Partition, one.HighWatermark, one.LastStableOffset, one.RecordBatches = p.Partition, 1, 1, batch
						topic.Partitions = append(topic.Partitions, one)
					}
					a.Topics = append(a.Topics, topic)
				}
				return a, nil, true
			})
			first := kafka.Position{Partition: kafka.Partition{Topic: "orders"}}
			l, err := NewReader(r.config(), []kafka.Position{first}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			var got *kafka.Message
			for end := time.Now().Add(10 * time.Second); got == nil && err == nil && time.Now().Before(end); {
				got, err = l.Poll(time.Second)
			}
			t.Log(err)
			one, _ := errors.AsType[kafka.PartitionError](err)
			if whole := name == "whole"; whole != (got != nil) || whole != (err == nil) || err != nil && (one.Position != first || !errors.Is(err, kafka.ErrUnreadable)) {
				t.Errorf("%v, %#v", got, err)
			}
		})
	}
}
