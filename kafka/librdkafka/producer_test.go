package librdkafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kpush/kpush/kafka"
)

var _ kafka.Producer = (*Producer)(nil)

func (r *realRig) producer(properties ...string) *Producer {
	r.Helper()
	cfg := r.config()
	for _, p := range properties {
		name, value, _ := strings.Cut(p, "=")
		cfg.Properties[name] = value
	}
	p, err := NewProducer(cfg, slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(p.Close)
	return p
}

// read is what the topic holds, n records of it.
func (r *realRig) read(topic string, n int) (all []*kgo.Record) {
	r.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(r.fake.ListenAddrs()...), kgo.ConsumeTopics(topic))
	if err != nil {
		r.Fatal(err)
	}
	defer c.Close()
	ctx, end := context.WithTimeout(r.Context(), 10*time.Second)
	defer end()
	for len(all) < n && ctx.Err() == nil {
		all = append(all, c.PollFetches(ctx).Records()...)
	}
	if len(all) != n {
		r.Fatalf("%s has %d records, want %d", topic, len(all), n)
	}
	return all
}

// Each record is in Kafka as it was asked for, byte for byte, and where its answer says.
func TestProducedIsWhatWasAsked(t *testing.T) {
	r := newRealRig(t)
	p := r.producer()
	asked := []kafka.Record{
		{Value: []byte("plain"), Partition: kafka.AnyPartition},
		{Value: []byte("placed"), Key: []byte("k"), Partition: 2, Timestamp: 1795000000000},
		{Key: []byte("gone"), Partition: 1},
		{Key: []byte{}, Value: []byte{}, Partition: 1},
		{Key: []byte{0, 0xff}, Value: []byte{0}, Partition: 0, Headers: []kafka.Header{{Name: "b", Value: []byte{0, 1}}, {Name: "a"}, {Name: "b", Value: []byte{}}, {Name: "", Value: []byte("n")}}},
	}
	at := map[string]kafka.Record{}
	for _, a := range asked {
		a.Topic = "orders"
		done, err := p.Produce(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		if a.Timestamp != 0 && done.Timestamp != a.Timestamp || time.Since(time.UnixMilli(done.Timestamp)) > time.Minute && a.Timestamp == 0 {
			t.Errorf("%q has the timestamp %d", a.Value, done.Timestamp)
		}
		at[fmt.Sprintf("%s/%d", done.Partition, done.Offset)] = a
	}
	for _, got := range r.read("orders", len(asked)) {
		want := at[fmt.Sprintf("%s/%d/%d", got.Topic, got.Partition, got.Offset)]
		var headers []kafka.Header
		for _, h := range got.Headers {
			headers = append(headers, kafka.Header{Name: h.Key, Value: h.Value})
		}
		if !same(got.Value, want.Value) || !same(got.Key, want.Key) || !reflect.DeepEqual(headers, want.Headers) {
			t.Errorf("%q %q %v, want %q %q %v", got.Key, got.Value, headers, want.Key, want.Value, want.Headers)
		}
	}
	if p.Queued() != 0 || p.held.Load() != 0 {
		t.Errorf("%d records, %d bytes are left", p.Queued(), p.held.Load())
	}
}

// same tells nil from empty.
func same(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

// Keys choose the partition as the Java client does; an empty key is a key.
func TestKeysChooseAsJava(t *testing.T) {
	r := newRealRig(t)
	p := r.producer()
	java := kgo.StickyKeyPartitioner(nil).ForTopic("orders")
	var mu sync.Mutex
	for i := range 200 {
		key := []byte(strings.Repeat("k", i%7) + strings.Repeat(string([]byte{byte(i), 0xff}), i%3))
		err := p.Queue(kafka.Record{Topic: "orders", Key: key, Value: []byte("v"), Partition: kafka.AnyPartition}, func(at kafka.Produced, err error) {
			mu.Lock()
			defer mu.Unlock()
			if want := java.Partition(&kgo.Record{Key: key}, 3); err != nil || int(at.Number) != want {
				t.Errorf("the key %q is in partition %d, %v; Java has it in %d", key, at.Number, err, want)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if left := p.Flush(t.Context()); left != 0 {
		t.Errorf("%d are left", left)
	}
}

// What Kafka acknowledges together is reported together, and each record has its answer.
func TestManyReportsAtOnce(t *testing.T) {
	p := newRealRig(t).producer("linger.ms=100")
	const many = 300
	answers := make(chan kafka.Produced, many)
	for range many {
		err := p.Queue(kafka.Record{Topic: "orders", Value: []byte("v")}, func(at kafka.Produced, err error) {
			if err != nil {
				t.Error(err)
			}
			answers <- at
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	seen := map[int64]bool{}
	for late := time.After(5 * time.Second); len(seen) < many; {
		select {
		case at := <-answers:
			seen[at.Offset] = true
		case <-late:
			t.Fatalf("%d records of %d have an answer", len(seen), many)
		}
	}
}

// A record that Kafka does not take has an answer that says why, in time.
func TestRefusedRecords(t *testing.T) {
	r := newRealRig(t)
	auto, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.AllowAutoTopicCreation(), kfake.SeedTopics(1, "orders"))
	if err != nil {
		t.Fatal(err)
	}
	defer auto.Close()
	p := r.producer("bootstrap.servers=" + strings.Join(auto.ListenAddrs(), ","))
	for _, row := range []struct {
		record kafka.Record
		want   error
	}{
		{kafka.Record{Topic: "nothing", Partition: kafka.AnyPartition}, kafka.ErrNoTopic},
		{kafka.Record{Topic: "orders", Partition: 7}, kafka.ErrNoTopic},
		{kafka.Record{Topic: "orders", Partition: 0, Value: make([]byte, 2<<20)}, kafka.ErrTooLarge},  // the broker's bound
		{kafka.Record{Topic: "orders", Partition: 0, Value: make([]byte, 9<<20)}, kafka.ErrTooLarge},  // librdkafka's
		{kafka.Record{Topic: "orders", Partition: 0, Value: make([]byte, 17<<20)}, kafka.ErrTooLarge}, // kpush's
		{kafka.Record{Topic: "orders", Partition: 0, Value: []byte("taken")}, nil},
	} {
		begin := time.Now()
		_, err := p.Produce(t.Context(), row.record)
		if !errors.Is(err, row.want) || time.Since(begin) > 2*time.Second {
			t.Errorf("%s/%d, %d bytes: %v after %v, want %v", row.record.Topic, row.record.Partition, len(row.record.Value), err, time.Since(begin), row.want)
		}
	}
	c, err := kgo.NewClient(kgo.SeedBrokers(auto.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if all, err := kadm.NewClient(c).ListTopics(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("the topics are %v, %v: one was created by asking", all.Names(), err)
	}
	if p.Queued() != 0 || p.held.Load() != 0 {
		t.Errorf("%d records, %d bytes are left", p.Queued(), p.held.Load())
	}
}

// No record is refused for the company it kept: what goes to a topic together fits into its bound, whatever that is. Those of a topic go
// one way until all have an answer, so that their order stays where the bound changes.
func TestCompanyIsBounded(t *testing.T) {
	r := newRealRig(t)
	admin := kadm.NewClient(r.client)
	cluster, err := NewCluster(r.config())
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	for _, row := range []struct{ bound, size int }{{20_000, 5_000}, {100_000, 5_000}, {3_000, 1_000}, {400, 200}, {300_000, 9_000}, {1_048_588, 9_000}} {
		topic := fmt.Sprintf("bound-%d", row.bound)
		text := fmt.Sprint(row.bound)
		if _, err := admin.CreateTopic(t.Context(), 1, 1, map[string]*string{"max.message.bytes": &text}, topic); err != nil {
			t.Fatal(err)
		}
		most, err := cluster.RecordMost(t.Context(), topic)
		if err != nil || most != row.bound {
			t.Errorf("%s takes %d, %v", topic, most, err)
		}
		p := r.producer("delivery.timeout.ms=60000") // one batch after the other takes a busy machine its time
		var refused, lost atomic.Int64
		count := min(1000, 1<<20/row.size)
		for i := range count {
			record := kafka.Record{Topic: topic, Value: bytes.Repeat([]byte{byte(i)}, row.size), Key: fmt.Append(nil, i), Batch: row.bound}
			if i > count/2 {
				record.Batch = 0
			}
			for {
				err := p.Queue(record, func(_ kafka.Produced, err error) {
					if errors.Is(err, kafka.ErrTooLarge) {
						refused.Add(1)
					} else if err != nil {
						lost.Add(1)
					}
				})
				if err == nil {
					break
				}
				time.Sleep(time.Millisecond)
			}
		}
		if left := p.Flush(t.Context()); left > 0 || refused.Load() > 0 || lost.Load() > 0 || p.routes[topic].open > 0 {
			t.Errorf("of %d bytes: %d of %d are refused, %d lost, %d left", row.bound, refused.Load(), count, lost.Load(), left)
		}
		for i, got := range r.read(topic, count) {
			if string(got.Key) != fmt.Sprint(i) {
				t.Fatalf("%s: record %d is where %d should be", topic, got.Key, i)
			}
		}
	}
}

// Without a broker a record is known not to be there; with one that took it and said nothing, nobody knows. The queue is bounded.
func TestNoAnswer(t *testing.T) {
	r := newRealRig(t)
	p := r.producer("delivery.timeout.ms=3000")
	r.fake.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.fake.KeepControl()
		time.Sleep(200 * time.Millisecond)
		return nil, errors.New("broken off"), true
	})
	for _, row := range []struct {
		name, brokers string
		want          error
	}{{"no broker", "127.0.0.1:1", kafka.ErrNoBroker}, {"no answer", "", kafka.ErrUnknown}} {
		if row.brokers != "" {
			p = r.producer("delivery.timeout.ms=3000", "bootstrap.servers="+row.brokers)
		} else {
			p = r.producer("delivery.timeout.ms=3000")
		}
		begin := time.Now()
		if _, err := p.Produce(t.Context(), kafka.Record{Topic: "orders", Value: []byte("x")}); !errors.Is(err, row.want) || time.Since(begin) > 3100*time.Millisecond {
			t.Errorf("%s: %v after %v, want %v", row.name, err, time.Since(begin), row.want)
		}
	}
	full := r.producer("delivery.timeout.ms=60000", "bootstrap.servers=127.0.0.1:1")
	var answers sync.WaitGroup
	n := 0
	for ; n < 1000; n++ {
		answers.Add(1)
		if err := full.Queue(kafka.Record{Topic: "orders", Value: make([]byte, 1<<20)}, func(_ kafka.Produced, err error) {
			if !errors.Is(err, kafka.ErrNoBroker) {
				t.Error(err)
			}
			answers.Done()
		}); err != nil {
			if answers.Done(); !errors.Is(err, kafka.ErrQueueFull) {
				t.Error(err)
			}
			break
		}
	}
	if n != 15 { // of 16 MiB, and what each record costs
		t.Errorf("%d records of 1 MiB are in a queue of 16 MiB", n)
	}
	full.Close()
	answers.Wait()
	if err := full.Queue(kafka.Record{Topic: "orders"}, nil); !errors.Is(err, kafka.ErrNoBroker) {
		t.Errorf("a closed producer says %v", err)
	}
}

// Too few replicas in sync is no want of brokers: the sentence says what else it may be.
func TestTooFewReplicas(t *testing.T) {
	r := newRealRig(t)
	r.fake.ControlKey(int16(kmsg.Produce), func(q kmsg.Request) (kmsg.Response, error, bool) {
		r.fake.KeepControl()
		answer := q.ResponseKind().(*kmsg.ProduceResponse)
		for _, asked := range q.(*kmsg.ProduceRequest).Topics {
			topic := kmsg.ProduceResponseTopic{Topic: asked.Topic, TopicID: asked.TopicID}
			for _, p := range asked.Partitions {
				topic.Partitions = append(topic.Partitions, kmsg.ProduceResponseTopicPartition{Partition: p.Partition, ErrorCode: 19, BaseOffset: -1})
			}
			answer.Topics = append(answer.Topics, topic)
		}
		return answer, nil, true
	})
	_, err := r.producer("delivery.timeout.ms=3000").Produce(t.Context(), kafka.Record{Topic: "orders", Value: []byte("x")})
	if !errors.Is(err, kafka.ErrNoBroker) || !strings.Contains(err.Error(), "too few replicas are in sync: Local: Message timed out") || strings.Contains(err.Error(), "no broker can be reached") {
		t.Errorf("got %v", err)
	}
}

// A client that has had no answer for half a minute is exchanged once Kafka has answered others for a while, and not when it has just come
// back; what it held has an answer.
func TestAProducerThatHasLostItsWay(t *testing.T) {
	r := newRealRig(t)
	p := r.producer("delivery.timeout.ms=60000")
	if _, err := p.Produce(t.Context(), kafka.Record{Topic: "orders", Value: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	lost, err := newOutlet(producerProperties(Config{Properties: map[string]string{"bootstrap.servers": "127.0.0.1:1", "delivery.timeout.ms": "60000"}}, batchMost))
	if err != nil {
		t.Fatal(err)
	}
	s := p.senders[batchUnknown]
	s.mu.Lock()
	s.out = lost
	s.mu.Unlock()
	go s.listen(lost)
	held := make(chan error, 1)
	if err := p.Queue(kafka.Record{Topic: "orders", Value: []byte("y")}, func(_ kafka.Produced, err error) { held <- err }); err != nil {
		t.Fatal(err)
	}
	s.health.since.Store(time.Now().Add(-deadAfter).UnixNano())
	for end := time.Now().Add(4 * tick); s.health.steady.Load() == 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
	}
	select {
	case err := <-held:
		t.Errorf("exchanged at the first answer to another one; what it held: %v", err)
		held <- err
	case <-time.After(tick + tick/2):
	}
	s.health.steady.Store(time.Now().Add(-proof).UnixNano())
	if err := <-held; !errors.Is(err, kafka.ErrNoBroker) {
		t.Errorf("what it held: %v", err)
	}
	if _, err := p.Produce(t.Context(), kafka.Record{Topic: "orders", Value: []byte("z")}); err != nil {
		t.Error(err)
	}
	if len(r.logs.With("a new one takes its place")) != 1 {
		t.Error("the log does not say so")
	}
}

func TestProducerRefusesItsConfiguration(t *testing.T) {
	for _, bad := range []string{"no.such=1", "linger.ms=soon", "max.in.flight.requests.per.connection=6"} {
		name, value, _ := strings.Cut(bad, "=")
		if _, err := NewProducer(Config{Properties: map[string]string{name: value}}, slog.New(slog.DiscardHandler)); !errors.Is(err, kafka.ErrRefused) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
