package librdkafka

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	client "github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/logbook"
)

// realRig is a cluster in this process, with a client of its own to produce.
type realRig struct {
	*testing.T
	fake   *kfake.Cluster
	client *kgo.Client
	logs   *logbook.Book
}

func newRealRig(t *testing.T, more ...kfake.Opt) *realRig {
	fake, err := kfake.NewCluster(append(more, kfake.NumBrokers(1), kfake.SeedTopics(3, "orders"))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	return newRigOn(t, fake)
}

func newRigOn(t *testing.T, fake *kfake.Cluster) *realRig {
	client, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &realRig{T: t, fake: fake, client: client, logs: &logbook.Book{}}
}

// small is a configuration in which everything is easy to count.
func small() Config {
	return Config{Properties: map[string]string{"bootstrap.servers": "kafka:9092"}, Group: "shop", Buffer: 16 << 20, DrainTimeout: 25 * time.Second}
}

func (r *realRig) config() Config {
	c := small()
	c.Properties["bootstrap.servers"] = strings.Join(r.fake.ListenAddrs(), ",")
	return c
}

func (r *realRig) produce(records ...*kgo.Record) {
	r.Helper()
	if err := r.client.ProduceSync(r.Context(), records...).FirstErr(); err != nil {
		r.Fatal(err)
	}
}

// What librdkafka does not take is refused with its own sentence, and trying again does not help.
func TestNewRefusesABadClient(t *testing.T) {
	for property, want := range map[string]string{"no.such.thing": "No such configuration property", "session.timeout.ms": "refuses its configuration",
		"security.protocol": "refuses its configuration"} {
		cfg := small()
		cfg.Properties = map[string]string{property: "x"}
		_, err := New(cfg, slog.New(slog.DiscardHandler))
		refused(t, property, err, want)
		_, err = NewReader(cfg, nil, slog.New(slog.DiscardHandler))
		refused(t, property, err, want)
		switch c, err := NewCluster(cfg); {
		case clusterKnows(property):
			refused(t, property, err, want)
		case err != nil:
			t.Errorf("%s of the consumer's: the cluster's client says %v", property, err)
		default:
			c.Close()
		}
	}
}

func refused(t *testing.T, property string, err error, want string) {
	t.Helper()
	if !errors.Is(err, kafka.ErrRefused) || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v", property, err)
	}
}

func TestTranslate(t *testing.T) {
	for code, want := range map[client.ErrorCode]error{
		client.ErrAutoOffsetReset: kafka.ErrOutOfRange, client.ErrOffsetOutOfRange: kafka.ErrOutOfRange,
		client.ErrUnknownTopicOrPart: kafka.ErrNoTopic, client.ErrUnknownTopic: kafka.ErrNoTopic, client.ErrUnknownPartition: kafka.ErrNoTopic,
		client.ErrTransport: kafka.ErrNoBroker, client.ErrResolve: kafka.ErrNoBroker, client.ErrAuthentication: kafka.ErrNoBroker,
		client.ErrSsl: kafka.ErrNoBroker, client.ErrAllBrokersDown: kafka.ErrAllDown,
		client.ErrRebalanceInProgress: kafka.ErrRebalancing, client.ErrIllegalGeneration: kafka.ErrRebalancing,
		client.ErrUnknownMemberID: kafka.ErrNotMember, client.ErrFencedInstanceID: kafka.ErrNotMember,
		client.ErrOffsetMetadataTooLarge: kafka.ErrMetadataSize, client.ErrMaxPollExceeded: kafka.ErrUnpolled,
		client.ErrTopicAuthorizationFailed: kafka.ErrForbidden, client.ErrInvalidCommitOffsetSize: kafka.ErrNotTaken,
		client.ErrGroupAuthorizationFailed: kafka.ErrNotAdmitted, client.ErrBadMsg: kafka.ErrUnreadable, client.ErrBadCompression: kafka.ErrUnreadable,
	} {
		err := client.NewError(code, "the reason", false)
		if got := translate(err); !errors.Is(got, want) || !strings.Contains(got.Error(), "the reason") || errors.As(got, new(kafka.FatalError)) {
			t.Errorf("%s became %v", code, got)
		}
		if got := translate(client.NewError(code, "the reason", true)); !errors.As(got, new(kafka.FatalError)) {
			t.Errorf("a fatal %s became %v", code, got)
		}
	}
	if other := errors.New("x"); translate(other) != other || translate(nil) != nil {
		t.Error("what is not librdkafka's was changed")
	}
}

// Why a broker cannot be reached is in the same words each time, and says whose address it is: the user's, or one that Kafka has given.
func TestUnreachable(t *testing.T) {
	for said, want := range map[string]struct{ text, address string }{
		"kafka:9092/bootstrap: Connect to ipv4#10.0.0.1:9092 failed: Connection refused (after 0ms in state CONNECT)":                             {"kafka:9092: Connect to ipv4#10.0.0.1:9092 failed: Connection refused", ""},
		"kafka:9092/1: Connect to ipv4#10.0.0.1:9092 failed: Connection refused (after 12ms in state CONNECT, 243 identical error(s) suppressed)": {"kafka:9092: Connect to ipv4#10.0.0.1:9092 failed: Connection refused", "kafka:9092"},
		"GroupCoordinator: kafka:9092: Failed to resolve 'kafka:9092': Name or service not known (after 1ms in state CONNECT)":                    {"kafka:9092: Failed to resolve 'kafka:9092': Name or service not known", "kafka:9092"},
		"sasl_ssl://kafka:9093/bootstrap: SASL authentication error: Authentication failed (after 7ms in state AUTH_REQ)":                         {"kafka:9093: SASL authentication error: Authentication failed", ""},
		"sasl_ssl://[::1]:9093/7: SSL handshake failed: Disconnected (after 9ms in state SSL_HANDSHAKE)":                                          {"[::1]:9093: SSL handshake failed: Disconnected", "[::1]:9093"},
		"Local: Broker transport failure": {"Local: Broker transport failure", ""},
	} {
		err := translate(client.NewError(client.ErrTransport, said, false))
		told, _ := errors.AsType[kafka.AddressError](err)
		if err.Error() != "no broker can be reached: "+want.text || told.Address != want.address || !errors.Is(err, kafka.ErrNoBroker) {
			t.Errorf("%s\nbecame %v, of %q", said, err, told.Address)
		}
	}
}

// The coordinator, which librdkafka names so, has an address under which it is known, too; but not always.
func TestTooOldHasAnAddress(t *testing.T) {
	const old, coordinator, broker = "   ApiKey JoinGroup (11) Versions 0..4", "[thrd:GroupCoordinator]: GroupCoordinator/0:", "[thrd:b:1/0]: b:1/0:"
	for _, lines := range [][]string{{coordinator, broker}, {broker, coordinator}, {coordinator}} {
		for range 20 { // the order of a map
			var v versions
			for _, line := range lines {
				v.hear("APIVERSION", line+old)
			}
			if got, want := v.tooOld(), map[bool]string{true: "b:1/0", false: "GroupCoordinator/0"}[len(lines) > 1]; got != want {
				t.Fatalf("%q: %s, want %s", lines, got, want)
			}
		}
	}
}

// A broker before Kafka 2.3 is known as one before anything is joined, and whoever asks for nothing gets none of the lines that say so.
func TestBrokersTooOldForStaticMembers(t *testing.T) {
	for _, row := range []struct {
		version *kversion.Versions
		old     bool
	}{{kversion.V2_2_0(), true}, {kversion.V2_3_0(), false}, {nil, false}} {
		r := newRealRig(t, kfake.MaxVersions(row.version))
		c, err := New(r.config(), slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug})))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Committed([]kafka.Partition{{Topic: "orders"}}, 10*time.Second) // whatever it is: a broker has been asked what it can do
		for end := time.Now().Add(5 * time.Second); row.old && c.TooOld() == "" && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		if is := c.TooOld(); (is != "") != row.old || row.old && !strings.Contains(is, r.fake.ListenAddrs()[0]) {
			t.Errorf("too old: %q, want %t", is, row.old)
		}
		if lines := r.logs.With("ApiKey"); len(lines) > 0 {
			t.Errorf("%d lines nobody has asked for: %s", len(lines), lines[0])
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
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
		cfg.DrainTimeout, cfg.Properties["session.timeout.ms"] = row.drain, row.session
		if got := Properties(cfg)["max.poll.interval.ms"]; got != row.want {
			t.Errorf("KPUSH_DRAIN_TIMEOUT=%s with session.timeout.ms=%s: max.poll.interval.ms=%v, want %d", row.drain, row.session, got, row.want)
		}
		taken(t, cfg)
	}
}

// taken wants librdkafka to take a configuration.
func taken(t *testing.T, cfg Config) {
	t.Helper()
	cfg.Properties["bootstrap.servers"] = "127.0.0.1:1"
	c, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// The buffer bounds librdkafka's share, too, and a user's property wins over a default.
func TestConsumerDefaults(t *testing.T) {
	for buffer, want := range map[int64][3]int{1 << 20: {256, 64 << 10, 16 << 10}, 16 << 20: {4096, 1 << 20, 64 << 10}, 1 << 30: {256 << 10, 4 << 20, 256 << 10}} {
		got := Properties(Config{Buffer: buffer})
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
		if clusterKnows(property) != want {
			t.Errorf("%s goes to the cluster's client: %t", property, !want)
		}
	}
}

// The client forgets a partition that is paused behind kpush's back. To take it out and put it in again, as a start again does, takes
// that back.
func TestAPartitionPutInAgainIsFetched(t *testing.T) {
	r := newRealRig(t)
	l := r.queued()
	if err := l.Pause([]kafka.Partition{{Topic: "orders"}}); err != nil {
		t.Fatal(err)
	}
	r.produce(&kgo.Record{Topic: "orders", Value: []byte("x")})
	for late := time.Now().Add(700 * time.Millisecond); time.Now().Before(late); {
		if m, _ := l.Poll(100 * time.Millisecond); m != nil {
			t.Fatal("a paused partition is fetched: this test shows nothing")
		}
	}
	if err := l.Unassign([]kafka.Partition{{Topic: "orders"}}); err != nil {
		t.Fatal(err)
	}
	if err := l.Assign([]kafka.Position{{Partition: kafka.Partition{Topic: "orders"}}}); err != nil {
		t.Fatal(err)
	}
	r.within("a poll of the partition that was put in again", func() {
		for {
			if m, _ := l.Poll(time.Second); m != nil {
				return
			}
		}
	})
}

// Whoever asks at the moment in which a client closes is answered by it, or told that it has gone.
func TestQuestionsBesideAClose(t *testing.T) {
	for range 3 {
		c, err := New(Config{Properties: map[string]string{"bootstrap.servers": "127.0.0.1:1"}, Group: "g"}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		var askers sync.WaitGroup
		begun := make(chan struct{}, 4)
		for range cap(begun) {
			askers.Go(func() {
				for {
					l, err := c.enter()
					if err != nil {
						return
					}
					l.asking.RUnlock()
					select {
					case begun <- struct{}{}:
					default:
					}
				}
			})
		}
		for range cap(begun) {
			<-begun
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		askers.Wait()
		if err := c.Reach(time.Second); !errors.Is(err, kafka.ErrRenewed) {
			t.Errorf("behind the close: %v", err)
		}
	}
}
