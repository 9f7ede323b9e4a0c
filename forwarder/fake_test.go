package forwarder

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/forwarder/pace"
	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// fakeKafka is a broker with its consumer and its admin client: a log a partition, a group's commits, and the calls that
// the forwarder made. Like librdkafka it hands over long runs of one partition, and its pause flags outlive a revoke.
type fakeKafka struct {
	mu      sync.Mutex
	log     map[kafka.Partition][]*kafka.Message
	oldest  map[kafka.Partition]int64
	stored  map[kafka.Partition]kafka.Commit // the group's commits
	ids     map[string]string
	owned   map[kafka.Partition]bool  // given by the group
	at      map[kafka.Partition]int64 // position of what is assigned
	paused  map[kafka.Partition]bool
	markers map[kafka.Partition]int64 // offsets behind the last message that hold none
	current kafka.Partition
	on      kafka.Rebalance
	todo    []any // func() and error, for the polling goroutine
	woken   chan struct{}
	polls   int

	calls   []string       // pause t/0, commit t/0@5, …
	commits []kafka.Commit // acknowledged, in order
	asking  int            // questions of the admin client under way
	closed  bool

	commitFault    func([]kafka.Commit) error // asked before a commit is acknowledged; may block
	committedFault func() error
	clusterFault   func(question string) error // cluster, topics, bounds
	leaderless     map[kafka.Partition]bool    // nobody tells their bounds
	damaged        map[kafka.Partition]int64   // what cannot be read there; the client passes over it
	gone           map[string]error            // topics of which only that is told
	width          int32                       // partitions of each topic; 0: ten
	closing        func()                      // may block
	closeFault     error
	leaves         time.Time // from then on the client sends no heartbeats
	clusterClosed  func(asking int)
	rebalancing    bool   // the group
	listed, member string // the id of this process there, and as it knows it
	assignor       string // the group's
	admits         error
	tooOld         string
	transactions   map[kafka.Partition]int64 // where what is open begins
	forbidden      map[string]kafka.Right    // what is missing of topics
	lost           bool                      // the client has no answer
	lostForGood    bool                      // nor has any after it
	renewFault     error
	failsAtTheEnd  bool // with a fatal error instead of the last revoke
}

func newFakeKafka() *fakeKafka {
	return &fakeKafka{log: map[kafka.Partition][]*kafka.Message{}, oldest: map[kafka.Partition]int64{}, stored: map[kafka.Partition]kafka.Commit{}, ids: map[string]string{"t": "T"},
		owned: map[kafka.Partition]bool{}, at: map[kafka.Partition]int64{}, paused: map[kafka.Partition]bool{}, woken: make(chan struct{}, 1),
		listed: "me", member: "me"}
}

func (k *fakeKafka) with(do func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	do()
}

// produce appends n messages with a value of size bytes.
func (k *fakeKafka) produce(t kafka.Partition, n, size int) {
	k.with(func() {
		for range n {
			o := k.endOf(t)
			k.log[t] = append(k.log[t], &kafka.Message{Partition: kafka.Partition{Topic: t.Topic, Number: t.Number}, Offset: o, Value: bytes.Repeat([]byte{'x'}, size)})
		}
	})
	k.Wake()
}

func (k *fakeKafka) endOf(t kafka.Partition) int64 {
	if l := k.log[t]; len(l) > 0 {
		return l[len(l)-1].Offset + 1
	}
	return k.oldest[t]
}

func (k *fakeKafka) Wake() {
	select {
	case k.woken <- struct{}{}:
	default:
	}
}

// call runs do on the polling goroutine and waits for it, as the rebalance callbacks and the client's errors come.
func (k *fakeKafka) call(do func()) {
	done := make(chan struct{})
	k.with(func() { k.todo = append(k.todo, func() { defer close(done); do() }) })
	k.Wake()
	<-done
}

// report makes the next poll return err.
func (k *fakeKafka) report(err error) {
	k.with(func() { k.todo = append(k.todo, err) })
	k.Wake()
}

func (k *fakeKafka) give(tps ...kafka.Partition) {
	k.with(func() {
		for _, t := range tps {
			k.owned[t] = true
		}
	})
	k.call(func() { k.on.Assigned(tps) })
}

func (k *fakeKafka) take(lost bool, tps ...kafka.Partition) {
	k.call(func() { k.revoke(lost, tps) })
}

func (k *fakeKafka) revoke(lost bool, tps []kafka.Partition) {
	if len(tps) > 0 {
		k.on.Revoked(tps, lost)
	}
	k.with(func() {
		for _, t := range tps {
			delete(k.owned, t)
		}
	})
}

func (k *fakeKafka) all() (tps []kafka.Partition) {
	k.with(func() { tps = slices.Collect(maps.Keys(k.owned)) })
	return tps
}

// The consumer.

func (k *fakeKafka) Subscribe(_ []string, on kafka.Rebalance) error {
	k.on = on
	k.with(func() { k.calls, k.leaves = append(k.calls, "subscribe"), time.Time{} })
	return nil
}

func (k *fakeKafka) Poll(timeout time.Duration) (*kafka.Message, error) {
	late := time.NewTimer(timeout)
	defer late.Stop()
	for last := false; ; last = true {
		var next any
		k.with(func() {
			k.polls++
			if len(k.todo) > 0 {
				next, k.todo = k.todo[0], k.todo[1:]
			} else if m := k.fetch(); m != nil {
				if next = m; k.unreadable(m) != nil {
					next = k.unreadable(m)
				}
			}
		})
		switch e := next.(type) {
		case func():
			e()
			return nil, nil
		case *kafka.Message:
			return e, nil
		case error:
			return nil, e
		}
		if last {
			return nil, nil
		}
		select {
		case <-k.woken:
		case <-late.C:
			return nil, nil
		}
	}
}

// unreadable is why a message cannot be read.
func (k *fakeKafka) unreadable(m *kafka.Message) error {
	if at, ok := k.damaged[m.Partition]; !ok || at != m.Offset {
		return nil
	}
	return kafka.PartitionError{Position: kafka.Position{Partition: m.Partition, Offset: m.Offset}, Err: fmt.Errorf("%w: Decompression failed", kafka.ErrUnreadable)}
}

// fetch stays with a partition for as long as it has messages.
func (k *fakeKafka) fetch() *kafka.Message { return k.next(k.at, k.paused) }

func (k *fakeKafka) next(positions map[kafka.Partition]int64, paused map[kafka.Partition]bool) *kafka.Message {
	order := slices.SortedFunc(maps.Keys(positions), func(a, b kafka.Partition) int { return int(a.Number - b.Number) })
	for _, t := range append([]kafka.Partition{k.current}, order...) {
		at, assigned := positions[t]
		if !assigned || paused[t] {
			continue
		}
		from := max(at, k.oldest[t])
		i := sort.Search(len(k.log[t]), func(i int) bool { return k.log[t][i].Offset >= from })
		if open, ok := k.transactions[t]; i < len(k.log[t]) && !(ok && k.log[t][i].Offset >= open) {
			c := *k.log[t][i]
			k.current, positions[t] = t, c.Offset+1
			return &c
		}
	}
	return nil
}

func (k *fakeKafka) note(what string, tps []kafka.Partition) {
	k.calls = append(k.calls, what+" "+names(slices.SortedFunc(slices.Values(tps), func(a, b kafka.Partition) int { return int(a.Number - b.Number) })))
}

func (k *fakeKafka) Committed(tps []kafka.Partition, _ time.Duration) ([]kafka.Commit, error) {
	var fault func() error
	k.with(func() { fault = k.committedFault })
	if fault != nil {
		if err := fault(); err != nil {
			return nil, err
		}
	}
	var out []kafka.Commit
	k.with(func() {
		for _, t := range tps {
			c, ok := k.stored[t]
			if !ok {
				c = kafka.Commit{Partition: t, Offset: -1001}
			}
			out = append(out, c)
		}
	})
	return out, nil
}

func (k *fakeKafka) Commit(cs []kafka.Commit) error {
	k.mu.Lock()
	for _, c := range cs {
		k.calls = append(k.calls, fmt.Sprintf("commit %s@%d", c.Partition, c.Offset))
	}
	fault, expelled := k.commitFault, !k.leaves.IsZero() && time.Since(k.leaves) > 10*time.Second
	k.mu.Unlock()
	if expelled {
		return kafka.ErrNotMember
	}
	if fault != nil {
		if err := fault(cs); err != nil {
			return err
		}
	}
	k.with(func() {
		for _, c := range cs {
			k.stored[c.Partition] = c
			k.commits = append(k.commits, c)
		}
	})
	return nil
}

func (k *fakeKafka) Assign(at []kafka.Position) error {
	k.with(func() {
		for _, a := range at {
			k.at[a.Partition], k.paused[a.Partition] = a.Offset, false
			k.calls = append(k.calls, fmt.Sprintf("assign %s@%d", a.Partition, a.Offset))
		}
	})
	k.Wake()
	return nil
}

func (k *fakeKafka) Unassign(tps []kafka.Partition) error {
	k.with(func() {
		for _, t := range tps {
			delete(k.at, t)
		}
		k.note("unassign", tps)
	})
	return nil
}

func (k *fakeKafka) Pause(tps []kafka.Partition) error {
	k.with(func() {
		for _, t := range tps {
			k.paused[t] = true
		}
		k.note("pause", tps)
	})
	return nil
}

func (k *fakeKafka) Resume(tps []kafka.Partition) error {
	k.with(func() {
		for _, t := range tps {
			k.paused[t] = false
		}
		k.note("resume", tps)
	})
	k.Wake()
	return nil
}

func (k *fakeKafka) Positions(tps []kafka.Partition) (out []kafka.Position, _ error) {
	k.with(func() { out = located(k.at, tps) })
	return out, nil
}

func located(at map[kafka.Partition]int64, tps []kafka.Partition) (out []kafka.Position) {
	for _, t := range tps {
		if at, ok := at[t]; ok {
			out = append(out, kafka.Position{Partition: t, Offset: at})
		}
	}
	return out
}

func (k *fakeKafka) End(t kafka.Partition) (end int64) {
	k.with(func() { end = k.endOf(t) + k.markers[t] })
	return end
}

func (k *fakeKafka) reader(at []kafka.Position) (kafka.Reader, error) {
	s := &fakeStandIn{fakeKafka: k, at: map[kafka.Partition]int64{}, paused: map[kafka.Partition]bool{}}
	k.with(func() {
		for _, a := range at {
			s.at[a.Partition] = a.Offset
		}
		k.calls = append(k.calls, "stand-in")
	})
	return s, nil
}

// fakeStandIn reads the same log with positions and pauses of its own.
type fakeStandIn struct {
	*fakeKafka
	at     map[kafka.Partition]int64
	paused map[kafka.Partition]bool
}

func (s *fakeStandIn) Poll(timeout time.Duration) (*kafka.Message, error) {
	for end := time.Now().Add(timeout); time.Now().Before(end); <-time.After(time.Millisecond) {
		var m *kafka.Message
		var err error
		s.with(func() {
			if m = s.next(s.at, s.paused); m != nil {
				err = s.unreadable(m)
			}
		})
		switch {
		case err != nil:
			return nil, err
		case m != nil:
			return m, nil
		}
	}
	return nil, nil
}

func (s *fakeStandIn) Pause(tps []kafka.Partition) error {
	s.with(func() {
		for _, t := range tps {
			s.paused[t] = true
		}
	})
	return nil
}

func (s *fakeStandIn) Resume(tps []kafka.Partition) error {
	s.with(func() {
		for _, t := range tps {
			delete(s.paused, t)
		}
	})
	return nil
}

func (s *fakeStandIn) Positions(tps []kafka.Partition) (out []kafka.Position, _ error) {
	s.with(func() { out = located(s.at, tps) })
	return out, nil
}

func (s *fakeStandIn) Close() error { return nil }

func (k *fakeKafka) Reach(timeout time.Duration) error {
	var lost bool
	k.with(func() { lost = k.lost })
	if lost {
		pass(timeout)
		return errors.New("timed out")
	}
	return nil
}

// Renew finds its way unless it is lost for good. The group gives its partitions to the new client.
func (k *fakeKafka) Renew() error {
	k.with(func() {
		k.calls = append(k.calls, "renew")
		if k.renewFault == nil && !k.lostForGood {
			k.lost = false
			tps := slices.Collect(maps.Keys(k.owned))
			k.todo = append(k.todo, func() { k.on.Assigned(tps) })
		}
	})
	k.Wake()
	return k.renewFault
}

func (k *fakeKafka) Member() (id string) {
	k.with(func() { id = k.member })
	return id
}

func (k *fakeKafka) Unsubscribe() error {
	k.with(func() {
		k.calls = append(k.calls, "unsubscribe")
		k.leaves = time.Now()
		tps := slices.Collect(maps.Keys(k.owned))
		if k.rebalancing {
			return // as librdkafka does: once the group has joined
		}
		if k.failsAtTheEnd {
			k.todo = append(k.todo, kafka.FatalError{Err: errors.New("Broker: Static consumer fenced by other consumer")})
			return
		}
		k.todo = append(k.todo, func() { k.revoke(false, tps) })
	})
	k.Wake()
	return nil
}

func (k *fakeKafka) Close() error {
	k.with(func() {
		if k.leaves.IsZero() {
			k.leaves = time.Now()
		}
	})
	if k.closing != nil {
		k.closing()
	}
	k.revoke(false, k.all())
	k.with(func() { k.closed = true; k.calls = append(k.calls, "close") })
	return k.closeFault
}

// fakeAdmin is the cluster's side of a fakeKafka.
type fakeAdmin struct{ *fakeKafka }

func (a fakeAdmin) Group(ctx context.Context, _ string) (g kafka.Group, err error) {
	if err := a.ask(ctx, "group"); err != nil {
		return g, err
	}
	a.with(func() {
		g = kafka.Group{Rebalancing: a.rebalancing, Members: []string{"another", a.listed}, Assignor: a.assignor}
	})
	return g, nil
}

func (a fakeAdmin) Admits(context.Context, string) (err error) {
	a.with(func() { err = a.admits })
	return err
}

func (k *fakeKafka) TooOld() (broker string) {
	k.with(func() { broker = k.tooOld })
	return broker
}

func (a fakeAdmin) ask(ctx context.Context, question string) error {
	a.with(func() { a.asking++ })
	defer a.with(func() { a.asking-- })
	var fault func(string) error
	a.with(func() { fault = a.clusterFault })
	if fault != nil {
		if err := fault(question); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (a fakeAdmin) ID(ctx context.Context) (string, error) { return "C", a.ask(ctx, "cluster") }

func (a fakeAdmin) Topics(ctx context.Context, topics []string, may kafka.Right) (map[string]kafka.Topic, error) {
	if err := a.ask(ctx, "topics"); err != nil {
		return nil, err
	}
	found, gone := map[string]kafka.Topic{}, []error{}
	a.with(func() {
		for _, t := range topics {
			if why := a.gone[t]; why != nil {
				gone = append(gone, fmt.Errorf("%s: %w", t, why))
			} else {
				found[t] = kafka.Topic{ID: a.ids[t], Partitions: cmp.Or(a.width, 10)}
			}
			if r, missing := a.forbidden[t]; missing && r == may {
				gone = append(gone, fmt.Errorf("%s: %w: %s is missing", t, kafka.ErrForbidden, may))
			}
		}
	})
	return found, errors.Join(gone...)
}

// Partitions are ten of each topic.
func (a fakeAdmin) Partitions(_ context.Context, topics []string) (all []kafka.Partition, _ error) {
	for _, t := range topics {
		for n := range int32(10) {
			all = append(all, kafka.Partition{Topic: t, Number: n})
		}
	}
	return all, nil
}

func (a fakeAdmin) Bounds(ctx context.Context, tps []kafka.Partition) (map[kafka.Partition]kafka.Bounds, error) {
	if err := a.ask(ctx, "bounds"); err != nil {
		return nil, err
	}
	out := map[kafka.Partition]kafka.Bounds{}
	a.with(func() {
		for _, t := range tps {
			if !a.leaderless[t] {
				high := a.endOf(t) + a.markers[t]
				end := high
				if open, ok := a.transactions[t]; ok {
					end = open
				}
				out[t] = kafka.Bounds{Oldest: a.oldest[t], End: end, High: high}
			}
		}
	})
	if len(out) < len(tps) {
		<-ctx.Done()
		return out, ctx.Err()
	}
	return out, nil
}

func (a fakeAdmin) Close() {
	a.with(func() {
		if a.clusterClosed != nil {
			a.clusterClosed(a.asking)
		}
	})
}

// logBook keeps what was logged, a line a record.
type logBook struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lines.Write(p)
}

// with is every line that holds text.
func (b *logBook) with(text string) (lines []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for l := range strings.Lines(b.lines.String()) {
		if strings.Contains(l, text) {
			lines = append(lines, l)
		}
	}
	return lines
}

// rig is a Forwarder on a fakeKafka, a volume of its own and a Handler of the test's.
type rig struct {
	*testing.T
	f       *Forwarder
	kafka   *fakeKafka
	letters *fakeProducer
	store   *offsets.Store
	logs    *logBook
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
	r := &rig{T: t, kafka: newFakeKafka(), logs: &logBook{}, dir: t.TempDir(), ended: make(chan error, 1)}
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

// storedAt is where the group's commit is, -1 where there is none.
func (k *fakeKafka) storedAt(t kafka.Partition) (offset int64) {
	k.with(func() {
		offset = -1
		if c, ok := k.stored[t]; ok {
			offset = c.Offset
		}
	})
	return offset
}

// callsOf are the calls that begin with prefix.
func (k *fakeKafka) callsOf(prefix string) (out []string) {
	k.with(func() {
		for _, c := range k.calls {
			if strings.HasPrefix(c, prefix) {
				out = append(out, c)
			}
		}
	})
	return out
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

// Since counts an offset as a second since 1970.
func (a fakeAdmin) Since(_ context.Context, tps []kafka.Partition, when time.Time) (map[kafka.Partition]int64, error) {
	found := map[kafka.Partition]int64{}
	a.with(func() {
		for _, t := range tps {
			if found[t] = max(when.Unix(), a.oldest[t]); found[t] >= a.endOf(t) {
				found[t] = -1
			}
		}
	})
	return found, nil
}

// fakeProducer appends to the log of a fakeKafka.
type fakeProducer struct {
	*fakeKafka
	// fault is asked before a record is appended, lost after that; both may block.
	fault, lost func(context.Context, kafka.Record) error
}

func (p *fakeProducer) Produce(ctx context.Context, r kafka.Record) (out kafka.Produced, err error) {
	var before, after func(context.Context, kafka.Record) error
	p.with(func() { before, after = p.fault, p.lost })
	if before != nil {
		if err := before(ctx, r); err != nil {
			return out, err
		}
	}
	out.Position = p.add(r)
	if after != nil {
		err = after(ctx, r)
	}
	return out, err
}

// add appends a record: by the last byte of its key, where the partition is left open.
func (k *fakeKafka) add(r kafka.Record) (at kafka.Position) {
	if at.Topic = r.Topic; r.Partition != kafka.AnyPartition {
		at.Number = r.Partition
	} else if n := len(r.Key); n > 0 {
		at.Number = int32(r.Key[n-1] % 10)
	}
	k.with(func() {
		at.Offset = k.endOf(at.Partition)
		k.log[at.Partition] = append(k.log[at.Partition], &kafka.Message{Partition: at.Partition, Offset: at.Offset, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value, Headers: r.Headers})
	})
	k.Wake()
	return at
}

// records are those of a topic, oldest first in each partition.
func (k *fakeKafka) records(topic string) (all []*kafka.Message) {
	k.with(func() {
		for t, list := range k.log {
			if t.Topic == topic {
				all = append(all, list...)
			}
		}
	})
	slices.SortFunc(all, func(a, b *kafka.Message) int {
		return cmp.Or(kafka.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	return all
}

func (p *fakeProducer) spoil(fault, lost func(context.Context, kafka.Record) error) {
	p.with(func() { p.fault, p.lost = fault, lost })
}

func (p *fakeProducer) Queue(kafka.Record, func(kafka.Produced, error)) error { panic("not asked for") }
func (p *fakeProducer) Queued() int                                           { return 0 }
func (p *fakeProducer) Flush(context.Context) int                             { return 0 }
func (p *fakeProducer) Close()                                                {}
