package forwarder

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/forwarder/pace"
	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/logbook"
	"github.com/kpush/kpush/offsets"
)

// rig is a Forwarder on a fakeKafka, a volume of its own and a Handler of the test's.
type rig struct {
	*testing.T
	f       *Forwarder
	kafka   *fakeKafka
	letters *fakeProducer
	store   *offsets.Store
	logs    *logbook.Book
	dir     string
	net     *network
	end     context.CancelCauseFunc
	ended   chan error
}

// settings are a Config, and what the default Handler has to know.
type settings struct {
	Config
	Targets, ConfirmURLs          []string
	Domain, Format, Ack, ReadyURL string
	ConnTimeout                   time.Duration
	Kafka                         map[string]string
}

// small is a configuration in which everything is easy to count.
func small() settings {
	return settings{Config: Config{Brokers: "kafka:9092", Group: "g", Order: OrderPartition, Topics: []string{"t"}, Concurrency: 16, RetryNums: 3, RetryInterval: 2 * time.Second,
		RetryMaxInterval: 2 * time.Second, CommitInterval: 200 * time.Millisecond, Reset: "earliest", Buffer: 16 << 20, DrainTimeout: 25 * time.Second, RevokeTimeout: 5 * time.Second,
		ExecTimeout: 60 * time.Second, Session: 10 * time.Second, PollInterval: 5 * time.Minute},
		Format: "raw", Ack: "status", ConnTimeout: 10 * time.Second, Kafka: map[string]string{}}
}

// network is what the default Handler sends over, in the place of HTTP.
type network struct{ push.Line }

// newRig builds a forwarder that does not run yet. handler nil: the HTTP one, for cfg.Targets.
func newRig(t *testing.T, cfg settings, handler push.Handler) *rig {
	t.Helper()
	r := &rig{T: t, kafka: newFakeKafka(), logs: &logbook.Book{}, dir: t.TempDir(), ended: make(chan error, 1)}
	r.letters = &fakeProducer{fakeKafka: r.kafka}
	r.build(cfg, handler)
	t.Cleanup(func() {
		if err := r.store.Close(); err != nil && !errors.Is(err, offsets.ErrClosed) {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) build(cfg settings, handler push.Handler) {
	log := slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if r.store, err = offsets.Open(r.dir, offsets.Options{Sync: offsets.Sync{Window: -1}, Log: log}); err != nil {
		r.Fatal(err)
	}
	r.assemble(cfg, handler, r.store, log)
}

// assemble makes a forwarder on a store.
func (r *rig) assemble(cfg settings, handler push.Handler, store *offsets.Store, log *slog.Logger) {
	parts := Parts{Consumer: r.kafka, Cluster: fakeAdmin{r.kafka}, Reader: r.kafka.reader, Store: store, Handler: handler, Letters: r.letters}
	if ms, err := strconv.Atoi(cfg.Kafka["session.timeout.ms"]); err == nil {
		cfg.Session = time.Duration(ms) * time.Millisecond
	}
	if ms, err := strconv.Atoi(cfg.Kafka["max.poll.interval.ms"]); err == nil {
		cfg.PollInterval = time.Duration(ms) * time.Millisecond
	}
	if cfg.DrainTimeout > 4*time.Minute && cfg.Kafka["max.poll.interval.ms"] == "" {
		cfg.PollInterval = cfg.DrainTimeout*4/3 + time.Minute
	}
	if handler == nil {
		r.net = &network{}
		c := push.Config{Targets: cfg.Targets, Domain: cfg.Domain, Format: cfg.Format, Ack: cfg.Ack, Batch: cfg.BatchSize > 1, Most: cfg.Concurrency,
			ConnTimeout: cfg.ConnTimeout, ExecTimeout: cfg.ExecTimeout, ConfirmURLs: cfg.ConfirmURLs}
		if len(cfg.Targets) > 0 && (strings.HasPrefix(cfg.Targets[0], "http://service") || strings.HasPrefix(cfg.Targets[0], "http://a/")) {
			c.Line = r.net
		}
		s, err := push.New(c)
		if err != nil {
			r.Fatal(err)
		}
		parts.Handler, parts.Size = s, s.SizeInBatch
		if len(cfg.ConfirmURLs) > 0 {
			parts.Confirm = s.Has
		}
	}
	if cfg.ReadyURL != "" {
		parts.Ready = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	}
	cfg.RevokeTimeout = min(cfg.RevokeTimeout, cfg.DrainTimeout)
	if cfg.Hosts = cfg.Targets; cfg.SkipLog == "" {
		cfg.SkipLog = filepath.Join(r.dir, "skipped.jsonl")
	}
	var err error
	if r.f, err = New(cfg.Config, parts, log); err != nil {
		r.Fatal(err)
	}
}

// run starts the forwarder; it is stopped at the end of the test, if that has not happened.
func (r *rig) run() *rig {
	ctx, end := context.WithCancelCause(context.Background())
	r.end = end
	f, ended := r.f, r.ended
	go func() { ended <- f.Run(ctx) }()
	return r
}

// stop ends the forwarder and returns what Run returned.
func (r *rig) stop() error {
	r.end(nil)
	return <-r.ended
}

// again is another process on the same volume and group.
func (r *rig) again(cfg settings, handler push.Handler) *rig {
	if err := r.store.Close(); err != nil {
		r.Fatal(err)
	}
	r.ended = make(chan error, 1)
	r.build(cfg, handler)
	return r
}

// partition is an assigned partition without a poll loop; everything below 1<<40 may be sent. earlier are attempts of another life.
func (r *rig) partition(t kafka.Partition, earlier ...offsets.Attempt) *partition {
	r.Helper()
	st := offsets.Start{Lineage: 1, Committed: -1, Attempts: earlier}
	id := offsets.Key{Cluster: "C", Group: "g", Topic: t.Topic, TopicID: "T", Partition: t.Number}
	rec, err := r.f.parts.Store.Assign(id, st)
	if err != nil {
		r.Fatal(err)
	}
	p := newPartition(r.f, id, rec, st)
	p.ceiling.raise(1 << 40)
	r.f.consumer.parts[t] = p
	r.f.consumer.publish()
	return p
}

// turnsTaken is how many turns are out.
func (r *rig) turnsTaken() int { return r.f.Status().Service.Taken }

// underWay waits until so many attempts are: whoever has a turn has yet to put the intent into the file.
func (r *rig) underWay(n int) {
	r.Helper()
	r.until("under way", func() bool { return r.turnsTaken() == n })
	synctest.Wait()
}

// until passes time until ok, a day at most.
func (r *rig) until(what string, ok func() bool) {
	r.Helper()
	for begun := time.Now(); !ok(); pass(min(time.Second, time.Millisecond+time.Since(begun)/100)) {
		if time.Since(begun) > 24*time.Hour {
			r.Fatalf("a day has passed without: %s", what)
		}
	}
}

// pass lets d pass; only in a synctest bubble, where that takes no time.
func pass(d time.Duration) { <-time.After(d) }

// Words that the tests have of old.
type (
	Verdict = push.Verdict
	Class   = push.Class
	Handler = push.Handler
)

const (
	Delivered, MessageFault, ServiceFault, Busy, Skip, Aborted = push.Delivered, push.MessageFault, push.ServiceFault, push.Busy, push.Skip, push.Aborted
	OrderPartition, OrderKey, OrderNone                        = pace.ByPartition, pace.ByKey, pace.None
)

// Delivery is an attempt at one message, as tests look at it.
type Delivery struct {
	*push.Item
	a    *push.Attempt
	host int
}

func (d *Delivery) Number() int              { return d.Item.Attempt }
func (d *Delivery) InDoubt() bool            { return d.Item.InDoubt }
func (d *Delivery) Attempt() context.Context { return d.a.Context() }

// handle makes a Handler of a function that makes one attempt at one message.
type handle func(d *Delivery) Verdict

func (h handle) Push(a *push.Attempt) Verdict { return h(&Delivery{a.Items[0], a, a.Host}) }

// Outcome is how a message ended.
type Outcome struct {
	Class  Class
	Reason string
}

// hand is a message that a partition is about to get.
type hand struct {
	p *partition
	m *kafka.Message
}

func handed(p *partition, m kafka.Message) *hand {
	m.Partition = p.Partition
	return &hand{p, &m}
}

// handle pushes it, and returns when it has its outcome or the partition has stopped. In a synctest bubble, or with the network.
func (h *hand) handle() (Outcome, error) {
	h.p.push(h.m)
	done := func() bool {
		next, done := h.p.rec.Progress()
		return h.m.Offset < next || done.Contains(h.m.Offset)
	}
	for begun := time.Now(); !done() && h.p.goes(); {
		select {
		case <-time.After(time.Millisecond + time.Since(begun)/10_000):
		case <-h.p.soft.Done():
			h.p.lanes.Close()
			h.p.lanes.Wait()
		}
	}
	if !done() {
		return Outcome{}, context.Cause(h.p.soft)
	}
	return h.p.outcomeOf(h.m.Offset), nil
}

// outcomeOf looks into the skip log.
func (p *partition) outcomeOf(offset int64) Outcome {
	text, _ := os.ReadFile(p.f.skips.path) // none: nothing was skipped
	for line := range strings.Lines(string(text)) {
		var s skipped
		if json.Unmarshal([]byte(line), &s) == nil && s.Offset == offset && s.Partition == p.Number {
			return Outcome{Skip, s.Reason}
		}
	}
	return Outcome{Class: Delivered}
}

// isDown tells whether the service counts as down.
func (r *rig) isDown() bool { return !r.f.Status().Service.Up }

// parse reads a request of the default Handler.
func parse(head, body []byte) *http.Request {
	r, err := http.ReadRequest(bufio.NewReader(io.MultiReader(bytes.NewReader(head), bytes.NewReader(body))))
	if err != nil {
		panic(fmt.Sprintf("%v: %q", err, head))
	}
	return r
}

// given is a message of p that is about to be skipped.
func given(p *partition, m kafka.Message) *item {
	m.Partition = p.Partition
	return &item{Item: push.Item{Message: &m, TopicID: "T", Group: "g"}, final: true, verdict: push.Verdict{Class: push.Skip, Reason: "because"}}
}
