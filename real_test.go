package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kpush/kpush/forwarder"
	"github.com/kpush/kpush/forwarder/pace"
	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/forwarder/start"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/kafka/librdkafka"
	"github.com/kpush/kpush/logbook"
	"github.com/kpush/kpush/offsets"
)

// realRig is a cluster in this process, with a client of its own to produce and to look at the group.
type realRig struct {
	*testing.T
	fake   *kfake.Cluster
	client *kgo.Client
	admin  *kadm.Client
	logs   *logbook.Book
	dir    string
}

func newRealRig(t *testing.T) *realRig {
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "orders"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &realRig{T: t, fake: fake, client: client, admin: kadm.NewClient(client), logs: &logbook.Book{}, dir: t.TempDir()}
}

// realConfig is what the clients and the forwarder have to know, as main tells them.
type realConfig struct {
	client  librdkafka.Config
	forward forwarder.Config
}

func (r *realRig) config() realConfig {
	brokers := strings.Join(r.fake.ListenAddrs(), ",")
	k := librdkafka.Config{Properties: map[string]string{"bootstrap.servers": brokers}, Group: "shop", InstanceID: "kpush-test",
		Buffer: 16 << 20, DrainTimeout: 10 * time.Second}
	return realConfig{client: k, forward: forwarder.Config{
		Brokers: brokers, Topics: []string{"orders"}, Group: k.Group, InstanceID: k.InstanceID,
		Session: librdkafka.Session(k), PollInterval: librdkafka.PollInterval(k),
		Order: pace.ByPartition, Concurrency: 16, Hosts: []string{"in place"}, BatchSize: 1, ExecTimeout: time.Minute,
		RetryNums: 3, RetryInterval: 20 * time.Millisecond, RetryMaxInterval: 20 * time.Millisecond,
		CommitInterval: 20 * time.Millisecond, Reset: "earliest",
		Buffer: k.Buffer, DrainTimeout: k.DrainTimeout, RevokeTimeout: k.DrainTimeout, SkipLog: filepath.Join(r.dir, "skipped.jsonl"),
	}}
}

func (r *realRig) produce(records ...*kgo.Record) {
	r.Helper()
	if err := r.client.ProduceSync(r.Context(), records...).FirstErr(); err != nil {
		r.Fatal(err)
	}
}

// life runs a forwarder on the rig's volume until done says so.
func (r *realRig) life(cfg realConfig, h push.Handler, done func(f *forwarder.Forwarder) bool) {
	r.Helper()
	log := slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	store, err := offsets.Open(r.dir, offsets.Options{Log: log})
	if err != nil {
		r.Fatal(err)
	}
	defer store.Close()
	parts := forwarder.Parts{Store: store, Handler: h, Letters: writer{client: r.client},
		Reader: func(at []kafka.Position) (kafka.Reader, error) { return librdkafka.NewReader(cfg.client, at, log) }}
	if parts.Consumer, err = librdkafka.New(cfg.client, log); err != nil {
		r.Fatal(err)
	}
	if parts.Cluster, err = librdkafka.NewCluster(cfg.client); err != nil {
		r.Fatal(err)
	}
	f, err := forwarder.New(cfg.forward, parts, log)
	if err != nil {
		r.Fatal(err)
	}
	ctx, end := context.WithTimeout(r.Context(), 20*time.Second)
	defer end()
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	for tick := time.Tick(10 * time.Millisecond); !done(f); {
		select {
		case <-tick:
		case err := <-ended:
			r.Fatalf("it ended before it was done: %v, ready %q, log:\n%s", err, f.Ready(), strings.Join(r.logs.With(""), ""))
		}
	}
	end()
	if err := <-ended; err != nil {
		r.Error(err)
	}
}

func (r *realRig) committed() map[int32]kadm.Offset {
	r.Helper()
	got, err := r.admin.FetchOffsets(r.Context(), "shop")
	if err != nil {
		r.Fatal(err)
	}
	out := map[int32]kadm.Offset{}
	for p, o := range got["orders"] {
		out[p] = o.Offset
	}
	return out
}

// inbox is a Handler that keeps what it gets. It takes nothing before gate.
type inbox struct {
	gate time.Time
	mu   sync.Mutex
	got  []push.Item
}

func (b *inbox) Push(a *push.Attempt) push.Verdict {
	if time.Now().Before(b.gate) {
		return push.Verdict{Class: push.MessageFault, Status: 500, Reason: "the service answered 500"}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = append(b.got, push.Item{Message: a.Items[0].Message, TopicID: a.Items[0].TopicID, Group: a.Items[0].Group})
	return push.Verdict{Class: push.Delivered}
}

func (b *inbox) has(n int) func(*forwarder.Forwarder) bool {
	return func(*forwarder.Forwarder) bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.got) >= n
	}
}

func (b *inbox) ids() (out []string) {
	for _, m := range b.got {
		out = append(out, fmt.Sprintf("%d/%d", m.Number, m.Offset))
	}
	slices.Sort(out)
	return out
}

// The way through librdkafka and back: assign, deliver byte for byte, commit with the mark, restart, an operator's reset.
func TestRealClient(t *testing.T) {
	r := newRealRig(t)
	at := time.UnixMilli(1700000000123)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	r.produce(
		&kgo.Record{Topic: "orders", Partition: 0, Timestamp: at, Key: []byte("k\x00"), Value: every,
			Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte{}}, {Key: "n", Value: nil}, {Key: "b", Value: every}}},
		&kgo.Record{Topic: "orders", Partition: 0, Timestamp: at},
		&kgo.Record{Topic: "orders", Partition: 0, Timestamp: at, Key: []byte{}, Value: []byte{}},
	)
	for i := range 300 {
		r.produce(&kgo.Record{Topic: "orders", Partition: int32(1 + i%2), Value: fmt.Append(nil, i)})
	}
	first := &inbox{}
	r.life(r.config(), first, first.has(303))
	var zero []push.Item
	for _, m := range first.got {
		if m.Number == 0 {
			zero = append(zero, m)
		}
	}
	if len(zero) != 3 {
		t.Fatalf("%d messages of partition 0", len(zero))
	}
	m := zero[0]
	if m.Timestamp != at.UnixMilli() || string(m.Key) != "k\x00" || !bytes.Equal(m.Value, every) || m.Topic != "orders" || m.TopicID == "" || m.Group != "shop" {
		t.Errorf("message %+v", m)
	}
	if h := m.Headers; len(h) != 4 || h[0].Name != "a" || string(h[0].Value) != "1" || h[1].Value == nil || len(h[1].Value) != 0 || h[2].Value != nil || !bytes.Equal(h[3].Value, every) {
		t.Errorf("headers %q", h)
	}
	if zero[1].Value != nil || zero[1].Key != nil {
		t.Errorf("null became key %q, value %q", zero[1].Key, zero[1].Value)
	}
	if zero[2].Value == nil || zero[2].Key == nil || len(zero[2].Value)+len(zero[2].Key) != 0 {
		t.Errorf("empty became key %v, value %v", zero[2].Key, zero[2].Value)
	}
	for p, want := range []int64{3, 150, 150} {
		c := r.committed()[int32(p)]
		if m, ok := start.ParseMark(c.Metadata); c.At != want || !ok || m.Offset != want || strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(m.TopicID, "=")) != zero[0].TopicID || m.Cluster == "" || m.Ceiling != 0 {
			t.Errorf("partition %d: committed %d with %q, want %d", p, c.At, c.Metadata, want)
		}
	}

	r.produce(&kgo.Record{Topic: "orders", Partition: 0, Value: []byte("new")}, &kgo.Record{Topic: "orders", Partition: 2, Value: []byte("new")})
	second := &inbox{}
	r.life(r.config(), second, second.has(2))
	if got := fmt.Sprint(second.ids()); got != "[0/3 2/150]" {
		t.Errorf("after a restart %s came", got)
	}

	reset := kadm.Offsets{}
	reset.AddOffset("orders", 1, 145, -1)
	if err := r.admin.CommitAllOffsets(t.Context(), "shop", reset); err != nil {
		t.Fatal(err)
	}
	third := &inbox{}
	r.life(r.config(), third, third.has(5))
	if got := fmt.Sprint(third.ids()); got != "[1/145 1/146 1/147 1/148 1/149]" {
		t.Errorf("after an operator's reset %s came", got)
	}
	if len(r.logs.With("was not written by kpush")) != 1 {
		t.Error("nothing was said about the operator's reset")
	}

	r.dir = t.TempDir() // another machine
	r.produce(&kgo.Record{Topic: "orders", Partition: 1, Value: []byte("last")})
	fourth := &inbox{}
	cfg := r.config()
	cfg.client.InstanceID, cfg.forward.InstanceID = "", ""
	r.life(cfg, fourth, fourth.has(1))
	if got := fmt.Sprint(fourth.ids()); got != "[1/150]" {
		t.Errorf("on another machine %s came", got)
	}
}

// A pause holds, a resume goes on with the next message, and no message is lost or repeated by either.
func TestRealClientUnderPressure(t *testing.T) {
	r := newRealRig(t)
	for p := range int32(3) {
		var records []*kgo.Record
		for range 60 {
			records = append(records, &kgo.Record{Topic: "orders", Partition: p, Value: make([]byte, 2000)})
		}
		r.produce(records...)
	}
	cfg := r.config()
	cfg.client.Buffer, cfg.forward.Buffer = 128<<10, 128<<10
	slow := &inbox{gate: time.Now().Add(1300 * time.Millisecond)}
	r.life(cfg, slow, slow.has(180))
	ids := slow.ids()
	if n := len(slices.Compact(ids)); n != 180 || len(slow.got) != 180 {
		t.Errorf("%d of 180 messages in %d deliveries", n, len(slow.got))
	}
}

// What is not there is named, and is waited for.
func TestRealClientWaitsForItsTopic(t *testing.T) {
	r := newRealRig(t)
	cfg := r.config()
	cfg.forward.Topics = []string{"invoices"}
	box := &inbox{}
	var created bool
	r.life(cfg, box, func(f *forwarder.Forwarder) bool {
		if why := fmt.Sprint(f.Ready()); !created && strings.Contains(why, "waiting for the topic") && strings.Contains(why, "invoices") {
			created = true
		}
		return created
	})
	if why := r.logs.With("waiting for the topic"); len(why) != 1 {
		t.Errorf("said %d times", len(why))
	}
	r.fake.Close()
	cfg.client.DrainTimeout, cfg.forward.DrainTimeout, cfg.forward.RevokeTimeout = 2*time.Second, 2*time.Second, 2*time.Second
	cfg.forward.Topics = []string{"orders"}
	r.life(cfg, box, func(f *forwarder.Forwarder) bool {
		return strings.Contains(fmt.Sprint(f.Ready()), "waiting for a broker at "+cfg.forward.Brokers) && len(f.Live()) == 0
	})
}
