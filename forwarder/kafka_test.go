package forwarder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kpush/kpush/offsets"
)

// cluster in this process, with a client of its own to produce and to look at the group.
type realRig struct {
	*testing.T
	fake   *kfake.Cluster
	client *kgo.Client
	admin  *kadm.Client
	logs   *logBook
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
	return &realRig{T: t, fake: fake, client: client, admin: kadm.NewClient(client), logs: &logBook{}, dir: t.TempDir()}
}

func (r *realRig) config() Config {
	c := small()
	c.Topics, c.Group, c.InstanceID = []string{"orders"}, "shop", "kpush-test"
	c.Kafka = map[string]string{"bootstrap.servers": strings.Join(r.fake.ListenAddrs(), ",")}
	c.DrainTimeout, c.CommitInterval, c.SkipLog = 10*time.Second, 20*time.Millisecond, filepath.Join(r.dir, "skipped.jsonl")
	c.RetryInterval, c.RetryMaxInterval = 20*time.Millisecond, 20*time.Millisecond
	return c
}

func (r *realRig) produce(records ...*kgo.Record) {
	r.Helper()
	if err := r.client.ProduceSync(r.Context(), records...).FirstErr(); err != nil {
		r.Fatal(err)
	}
}

// life runs a forwarder on the rig's volume until done says so.
func (r *realRig) life(cfg Config, h Handler, done func(f *Forwarder) bool) {
	r.Helper()
	log := slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	store, err := offsets.Open(r.dir, offsets.Options{Log: log})
	if err != nil {
		r.Fatal(err)
	}
	defer store.Close()
	f, err := New(cfg, store, h, log)
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
			r.Fatalf("it ended before it was done: %v, ready %q, log:\n%s", err, f.Ready(), strings.Join(r.logs.with(""), ""))
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

// inbox is a Handler that keeps what it gets.
type inbox struct {
	mu  sync.Mutex
	got []*Message
}

func (b *inbox) Handle(d *Delivery) (Outcome, error) {
	if err := d.Begin(); err != nil {
		return Outcome{}, err
	}
	b.mu.Lock()
	b.got = append(b.got, d.Message)
	b.mu.Unlock()
	d.End(good)
	return Outcome{Class: Delivered}, nil
}

func (b *inbox) has(n int) func(*Forwarder) bool {
	return func(*Forwarder) bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.got) >= n
	}
}

func (b *inbox) ids() (out []string) {
	for _, m := range b.got {
		out = append(out, fmt.Sprintf("%d/%d", m.Partition, m.Offset))
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
	var zero []*Message
	for _, m := range first.got {
		if m.Partition == 0 {
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
		if m, ok := parseMark(c.Metadata); c.At != want || !ok || m.offset != want || m.topicID != zero[0].TopicID || m.cluster == "" || m.ceiling != 0 {
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
	if len(r.logs.with("was not written by kpush")) != 1 {
		t.Error("nothing was said about the operator's reset")
	}

	r.dir = t.TempDir() // another machine
	r.produce(&kgo.Record{Topic: "orders", Partition: 1, Value: []byte("last")})
	fourth := &inbox{}
	cfg := r.config()
	cfg.InstanceID = ""
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
	cfg.Buffer = 128 << 10
	slow := &inbox{}
	gate := time.Now().Add(1300 * time.Millisecond)
	h := handle(func(d *Delivery) Verdict {
		if time.Now().Before(gate) {
			return bad
		}
		slow.mu.Lock()
		defer slow.mu.Unlock()
		slow.got = append(slow.got, d.Message)
		return good
	})
	r.life(cfg, h, slow.has(180))
	ids := slow.ids()
	if n := len(slices.Compact(ids)); n != 180 || len(slow.got) != 180 {
		t.Errorf("%d of 180 messages in %d deliveries", n, len(slow.got))
	}
}

// What is not there is named, and is waited for.
func TestRealClientWaitsForItsTopic(t *testing.T) {
	r := newRealRig(t)
	cfg := r.config()
	cfg.Topics = []string{"invoices"}
	box := &inbox{}
	var created bool
	r.life(cfg, box, func(f *Forwarder) bool {
		if why := fmt.Sprint(f.Ready()); !created && strings.Contains(why, "waiting for the topic") && strings.Contains(why, "invoices") {
			created = true
		}
		return created
	})
	if why := r.logs.with("waiting for the topic"); len(why) != 1 {
		t.Errorf("said %d times", len(why))
	}
	r.fake.Close()
	cfg.DrainTimeout = 2 * time.Second
	cfg.Topics = []string{"orders"}
	r.life(cfg, box, func(f *Forwarder) bool {
		return strings.Contains(fmt.Sprint(f.Ready()), "waiting for a broker at "+cfg.Kafka["bootstrap.servers"]) && len(f.Live()) == 0
	})
}

func TestNewRefusesABadClient(t *testing.T) {
	store, err := offsets.Open(t.TempDir(), offsets.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for property, want := range map[string]string{"no.such.thing": "No such configuration property", "session.timeout.ms": "refuses its configuration"} {
		cfg := small()
		cfg.Kafka = map[string]string{property: "x"}
		if _, err := New(cfg, store, nil, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", property, err)
		}
	}
	cfg := small()
	cfg.Targets = []string{"http://[::1"}
	if _, err := New(cfg, store, nil, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "no URL") {
		t.Errorf("a bad URL: %v", err)
	}
}

func TestTranslate(t *testing.T) {
	for code, want := range map[kafka.ErrorCode]error{
		kafka.ErrAutoOffsetReset: errOutOfRange, kafka.ErrOffsetOutOfRange: errOutOfRange,
		kafka.ErrUnknownTopicOrPart: errNoTopic, kafka.ErrUnknownTopic: errNoTopic,
		kafka.ErrTransport: errNoBroker, kafka.ErrResolve: errNoBroker, kafka.ErrAuthentication: errNoBroker,
		kafka.ErrRebalanceInProgress: errRebalancing, kafka.ErrIllegalGeneration: errRebalancing,
		kafka.ErrUnknownMemberID: errNotMember, kafka.ErrFencedInstanceID: errNotMember,
		kafka.ErrOffsetMetadataTooLarge: errMetadataSize, kafka.ErrMaxPollExceeded: errUnpolled,
	} {
		err := kafka.NewError(code, "the reason", false)
		if got := translate(err); !errors.Is(got, want) || !strings.Contains(got.Error(), "the reason") || errors.As(got, new(fatalError)) {
			t.Errorf("%s became %v", code, got)
		}
		if got := translate(kafka.NewError(code, "the reason", true)); !errors.As(got, new(fatalError)) {
			t.Errorf("a fatal %s became %v", code, got)
		}
	}
	if other := errors.New("x"); translate(other) != other || translate(nil) != nil {
		t.Error("what is not librdkafka's was changed")
	}
}

// Nobody polls while a partition drains: the group waits for longer than that, and librdkafka takes each value.
func TestPollIntervalOutlastsTheDrain(t *testing.T) {
	for _, row := range []struct {
		drain   time.Duration
		session string
		want    int
	}{
		{25 * time.Second, "10000", 300_000}, {10 * time.Minute, "10000", 660_000}, {24*time.Hour - time.Minute, "10000", 86_400_000},
		{25 * time.Second, "1800000", 1_800_000},
	} {
		cfg := small()
		cfg.DrainTimeout, cfg.Kafka["session.timeout.ms"] = row.drain, row.session
		if got := consumerDefaults(cfg)["max.poll.interval.ms"]; got != row.want {
			t.Errorf("KPUSH_DRAIN_TIMEOUT=%s with session.timeout.ms=%s: max.poll.interval.ms=%v, want %d", row.drain, row.session, got, row.want)
		}
		taken(t, cfg)
	}
}

// taken wants librdkafka to take a configuration.
func taken(t *testing.T, cfg Config) {
	t.Helper()
	cfg.Kafka["bootstrap.servers"] = "127.0.0.1:1"
	c, err := newClient(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.close(); err != nil {
		t.Error(err)
	}
}

// The buffer bounds librdkafka's share, too, and a user's property wins over a default.
func TestConsumerDefaults(t *testing.T) {
	for buffer, want := range map[int64][3]int{1 << 20: {256, 1 << 20, 64 << 10}, 16 << 20: {4096, 4 << 20, 256 << 10}, 1 << 30: {256 << 10, 256 << 20, 256 << 10}} {
		got := consumerDefaults(Config{Buffer: buffer})
		if is := [3]int{got["queued.max.messages.kbytes"].(int), got["fetch.max.bytes"].(int), got["max.partition.fetch.bytes"].(int)}; is != want {
			t.Errorf("buffer %d: %v, want %v", buffer, is, want)
		}
	}
	for _, buffer := range []int64{8<<30 - 1<<20, 8 << 30, 999_999_999 << 20} {
		cfg := small()
		cfg.Buffer = buffer
		taken(t, cfg)
	}
	for property, want := range map[string]bool{"bootstrap.servers": true, "sasl.password": true, "ssl.ca.location": true, "security.protocol": true, "socket.timeout.ms": true,
		"sasl.oauthbearer.method": true, "https.ca.location": true, "enable.sasl.oauthbearer.unsecure.jwt": true,
		"session.timeout.ms": false, "fetch.min.bytes": false, "isolation.level": false} {
		if adminKnows(property) != want {
			t.Errorf("%s goes to the admin client: %t", property, !want)
		}
	}
}
