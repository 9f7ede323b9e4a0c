package forwarder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/offsets"
)

// fakeKafka is a broker with its consumer and its admin client: a log a partition, a group's commits, and the calls that
// the forwarder made. Like librdkafka it hands over long runs of one partition, and its pause flags outlive a revoke.
type fakeKafka struct {
	mu      sync.Mutex
	log     map[tp][]*Message
	oldest  map[tp]int64
	stored  map[tp]commit // the group's commits
	ids     map[string]string
	owned   map[tp]bool  // given by the group
	at      map[tp]int64 // position of what is assigned
	paused  map[tp]bool
	markers map[tp]int64 // offsets behind the last message that hold none
	current tp
	on      rebalance
	todo    []any // func() and error, for the polling goroutine
	woken   chan struct{}
	polls   int

	calls   []string // pause t/0, commit t/0@5, …
	commits []commit // acknowledged, in order
	asking  int      // questions of the admin client under way
	closed  bool

	commitFault    func([]commit) error // asked before a commit is acknowledged; may block
	committedFault func() error
	clusterFault   func(question string) error // cluster, topics, bounds
	leaderless     map[tp]bool                 // nobody tells their bounds
	gone           map[string]bool             // topics that do not exist
	closing        func()                      // may block
	clusterClosed  func(asking int)
}

func newFakeKafka() *fakeKafka {
	return &fakeKafka{log: map[tp][]*Message{}, oldest: map[tp]int64{}, stored: map[tp]commit{}, ids: map[string]string{"t": "T"},
		owned: map[tp]bool{}, at: map[tp]int64{}, paused: map[tp]bool{}, woken: make(chan struct{}, 1)}
}

func (k *fakeKafka) with(do func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	do()
}

// produce appends n messages with a value of size bytes.
func (k *fakeKafka) produce(t tp, n, size int) {
	k.with(func() {
		for range n {
			o := k.endOf(t)
			k.log[t] = append(k.log[t], &Message{Topic: t.topic, Partition: t.partition, Offset: o, Value: bytes.Repeat([]byte{'x'}, size)})
		}
	})
	k.wake()
}

func (k *fakeKafka) endOf(t tp) int64 {
	if l := k.log[t]; len(l) > 0 {
		return l[len(l)-1].Offset + 1
	}
	return k.oldest[t]
}

func (k *fakeKafka) wake() {
	select {
	case k.woken <- struct{}{}:
	default:
	}
}

// call runs do on the polling goroutine and waits for it, as the rebalance callbacks and the client's errors come.
func (k *fakeKafka) call(do func()) {
	done := make(chan struct{})
	k.with(func() { k.todo = append(k.todo, func() { defer close(done); do() }) })
	k.wake()
	<-done
}

// report makes the next poll return err.
func (k *fakeKafka) report(err error) {
	k.with(func() { k.todo = append(k.todo, err) })
	k.wake()
}

func (k *fakeKafka) give(tps ...tp) {
	k.with(func() {
		for _, t := range tps {
			k.owned[t] = true
		}
	})
	k.call(func() { k.on.assigned(tps) })
}

func (k *fakeKafka) take(lost bool, tps ...tp) {
	k.call(func() { k.revoke(lost, tps) })
}

func (k *fakeKafka) revoke(lost bool, tps []tp) {
	if len(tps) > 0 {
		k.on.revoked(tps, lost)
	}
	k.with(func() {
		for _, t := range tps {
			delete(k.owned, t)
		}
	})
}

func (k *fakeKafka) all() (tps []tp) {
	k.with(func() { tps = slices.Collect(maps.Keys(k.owned)) })
	return tps
}

// The consumer.

func (k *fakeKafka) subscribe(_ []string, on rebalance) error {
	k.on = on
	k.with(func() { k.calls = append(k.calls, "subscribe") })
	return nil
}

func (k *fakeKafka) poll(timeout time.Duration) any {
	late := time.NewTimer(timeout)
	defer late.Stop()
	for last := false; ; last = true {
		var next any
		k.with(func() {
			k.polls++
			if len(k.todo) > 0 {
				next, k.todo = k.todo[0], k.todo[1:]
			} else if m := k.fetch(); m != nil {
				next = m
			}
		})
		switch e := next.(type) {
		case func():
			e()
			return nil
		case nil:
		default:
			return e
		}
		if last {
			return nil
		}
		select {
		case <-k.woken:
		case <-late.C:
			return nil
		}
	}
}

// fetch stays with a partition for as long as it has messages.
func (k *fakeKafka) fetch() *Message { return k.next(k.at, k.paused) }

func (k *fakeKafka) next(positions map[tp]int64, paused map[tp]bool) *Message {
	order := slices.SortedFunc(maps.Keys(positions), func(a, b tp) int { return int(a.partition - b.partition) })
	for _, t := range append([]tp{k.current}, order...) {
		at, assigned := positions[t]
		if !assigned || paused[t] {
			continue
		}
		from := max(at, k.oldest[t])
		i := sort.Search(len(k.log[t]), func(i int) bool { return k.log[t][i].Offset >= from })
		if i < len(k.log[t]) {
			c := *k.log[t][i]
			k.current, positions[t] = t, c.Offset+1
			return &c
		}
	}
	return nil
}

func (k *fakeKafka) note(what string, tps []tp) {
	k.calls = append(k.calls, what+" "+names(slices.SortedFunc(slices.Values(tps), func(a, b tp) int { return int(a.partition - b.partition) })))
}

func (k *fakeKafka) committed(tps []tp, _ time.Duration) ([]commit, error) {
	var fault func() error
	k.with(func() { fault = k.committedFault })
	if fault != nil {
		if err := fault(); err != nil {
			return nil, err
		}
	}
	var out []commit
	k.with(func() {
		for _, t := range tps {
			c, ok := k.stored[t]
			if !ok {
				c = commit{t, -1001, ""}
			}
			out = append(out, c)
		}
	})
	return out, nil
}

func (k *fakeKafka) commit(cs []commit) error {
	k.mu.Lock()
	for _, c := range cs {
		k.calls = append(k.calls, fmt.Sprintf("commit %s@%d", c.tp, c.offset))
	}
	fault := k.commitFault
	k.mu.Unlock()
	if fault != nil {
		if err := fault(cs); err != nil {
			return err
		}
	}
	k.with(func() {
		for _, c := range cs {
			k.stored[c.tp] = c
			k.commits = append(k.commits, c)
		}
	})
	return nil
}

func (k *fakeKafka) assign(at []tpOffset) error {
	k.with(func() {
		for _, a := range at {
			k.at[a.tp], k.paused[a.tp] = a.offset, false
			k.calls = append(k.calls, fmt.Sprintf("assign %s@%d", a.tp, a.offset))
		}
	})
	k.wake()
	return nil
}

func (k *fakeKafka) unassign(tps []tp) error {
	k.with(func() {
		for _, t := range tps {
			delete(k.at, t)
		}
		k.note("unassign", tps)
	})
	return nil
}

func (k *fakeKafka) pause(tps []tp) error {
	k.with(func() {
		for _, t := range tps {
			k.paused[t] = true
		}
		k.note("pause", tps)
	})
	return nil
}

func (k *fakeKafka) resume(tps []tp) error {
	k.with(func() {
		for _, t := range tps {
			k.paused[t] = false
		}
		k.note("resume", tps)
	})
	k.wake()
	return nil
}

func (k *fakeKafka) position(tps []tp) (out []tpOffset, _ error) {
	k.with(func() { out = located(k.at, tps) })
	return out, nil
}

func located(at map[tp]int64, tps []tp) (out []tpOffset) {
	for _, t := range tps {
		if at, ok := at[t]; ok {
			out = append(out, tpOffset{t, at})
		}
	}
	return out
}

func (k *fakeKafka) end(t tp) (end int64) {
	k.with(func() { end = k.endOf(t) + k.markers[t] })
	return end
}

func (k *fakeKafka) nudge([]tp) {}

func (k *fakeKafka) standIn(at []tpOffset) (source, error) {
	s := &fakeStandIn{fakeKafka: k, at: map[tp]int64{}, paused: map[tp]bool{}}
	k.with(func() {
		for _, a := range at {
			s.at[a.tp] = a.offset
		}
		k.calls = append(k.calls, "stand-in")
	})
	return s, nil
}

// fakeStandIn reads the same log with positions and pauses of its own.
type fakeStandIn struct {
	*fakeKafka
	at     map[tp]int64
	paused map[tp]bool
}

func (s *fakeStandIn) poll(timeout time.Duration) any {
	for end := time.Now().Add(timeout); time.Now().Before(end); <-time.After(time.Millisecond) {
		var m *Message
		s.with(func() { m = s.next(s.at, s.paused) })
		if m != nil {
			return m
		}
	}
	return nil
}

func (s *fakeStandIn) pause(tps []tp) error {
	s.with(func() {
		for _, t := range tps {
			s.paused[t] = true
		}
	})
	return nil
}

func (s *fakeStandIn) resume(tps []tp) error {
	s.with(func() {
		for _, t := range tps {
			delete(s.paused, t)
		}
	})
	return nil
}

func (s *fakeStandIn) position(tps []tp) (out []tpOffset, _ error) {
	s.with(func() { out = located(s.at, tps) })
	return out, nil
}

func (s *fakeStandIn) close() error { return nil }

func (k *fakeKafka) unsubscribe() error {
	k.with(func() {
		k.calls = append(k.calls, "unsubscribe")
		tps := slices.Collect(maps.Keys(k.owned))
		k.todo = append(k.todo, func() { k.revoke(false, tps) })
	})
	k.wake()
	return nil
}

func (k *fakeKafka) close() error {
	if k.closing != nil {
		k.closing()
	}
	k.revoke(false, k.all())
	k.with(func() { k.closed = true; k.calls = append(k.calls, "close") })
	return nil
}

// fakeAdmin is the cluster's side of a fakeKafka.
type fakeAdmin struct{ *fakeKafka }

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

func (a fakeAdmin) clusterID(ctx context.Context) (string, error) { return "C", a.ask(ctx, "cluster") }

func (a fakeAdmin) topicIDs(ctx context.Context, topics []string) (map[string]string, error) {
	if err := a.ask(ctx, "topics"); err != nil {
		return nil, err
	}
	ids, gone := map[string]string{}, []error{}
	a.with(func() {
		for _, t := range topics {
			if a.gone[t] {
				gone = append(gone, fmt.Errorf("%s: %w", t, errNoTopic))
			} else {
				ids[t] = a.ids[t]
			}
		}
	})
	return ids, errors.Join(gone...)
}

func (a fakeAdmin) bounds(ctx context.Context, tps []tp) (map[tp]bounds, error) {
	if err := a.ask(ctx, "bounds"); err != nil {
		return nil, err
	}
	out := map[tp]bounds{}
	a.with(func() {
		for _, t := range tps {
			if !a.leaderless[t] {
				end := a.endOf(t) + a.markers[t]
				out[t] = bounds{a.oldest[t], end, end}
			}
		}
	})
	if len(out) < len(tps) {
		<-ctx.Done()
		return out, ctx.Err()
	}
	return out, nil
}

func (a fakeAdmin) close() {
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
	f     *Forwarder
	kafka *fakeKafka
	store *offsets.Store
	logs  *logBook
	dir   string
	end   context.CancelCauseFunc
	ended chan error
}

// small is a configuration in which everything is easy to count.
func small() Config {
	return Config{Group: "g", Order: OrderPartition, Topics: []string{"t"}, Concurrency: 16, RetryNums: 3, RetryInterval: 2 * time.Second, RetryMaxInterval: 2 * time.Second,
		CommitInterval: 200 * time.Millisecond, Reset: "earliest", Buffer: 16 << 20, DrainTimeout: 25 * time.Second, ConnTimeout: 10 * time.Second,
		ExecTimeout: 60 * time.Second, Format: "raw", Ack: "status", Kafka: map[string]string{"bootstrap.servers": "kafka:9092"}}
}

// newRig builds a forwarder that does not run yet. handler nil: the HTTP one, for cfg.Targets.
func newRig(t *testing.T, cfg Config, handler Handler) *rig {
	t.Helper()
	r := &rig{T: t, kafka: newFakeKafka(), logs: &logBook{}, dir: t.TempDir(), ended: make(chan error, 1)}
	r.build(cfg, handler)
	t.Cleanup(func() {
		if err := r.store.Close(); err != nil && !errors.Is(err, offsets.ErrClosed) {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) build(cfg Config, handler Handler) {
	log := slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if r.store, err = offsets.Open(r.dir, offsets.Options{Sync: offsets.Sync{Window: -1}, Log: log}); err != nil {
		r.Fatal(err)
	}
	if handler == nil {
		if handler, err = newHTTP(cfg); err != nil {
			r.Fatal(err)
		}
	}
	if cfg.SkipLog == "" {
		cfg.SkipLog = filepath.Join(r.dir, "skipped.jsonl")
	}
	r.f = build(cfg, r.store, handler, r.kafka, fakeAdmin{r.kafka}, log)
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
func (r *rig) again(cfg Config, handler Handler) *rig {
	if err := r.store.Close(); err != nil {
		r.Fatal(err)
	}
	r.ended = make(chan error, 1)
	r.build(cfg, handler)
	return r
}

// partition is an assigned partition without a poll loop; everything below 1<<40 may be sent. earlier are attempts of another life.
func (r *rig) partition(t tp, earlier ...offsets.Attempt) *partition {
	r.Helper()
	start := offsets.Start{Lineage: 1, Committed: -1, Attempts: earlier}
	rec, err := file{r.store}.Assign(offsets.Key{Cluster: "C", Group: "g", Topic: t.topic, TopicID: "T", Partition: t.partition}, start)
	if err != nil {
		r.Fatal(err)
	}
	p := newPartition(r.f, t, "T", rec, start)
	p.raise(1 << 40)
	r.f.mu.Lock()
	r.f.parts[t] = p
	r.f.mu.Unlock()
	return p
}

// turnsTaken is how many turns are out.
func (r *rig) turnsTaken() (n int) {
	r.f.turns.mu.Lock()
	defer r.f.turns.mu.Unlock()
	return r.f.turns.taken
}

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

// handle makes a Handler of a function that makes one attempt.
type handle func(d *Delivery) Verdict

func (h handle) Handle(d *Delivery) (Outcome, error) {
	for {
		if err := d.Begin(); err != nil {
			return Outcome{}, err
		}
		if !d.End(h(d)) {
			break
		}
		if err := sleep(d.Waits(), d.wait()); err != nil {
			return Outcome{}, context.Cause(d.ctx())
		}
	}
	if d.final {
		return d.outcome, nil
	}
	return Outcome{}, context.Cause(d.ctx())
}

// storedAt is where the group's commit is, -1 where there is none.
func (k *fakeKafka) storedAt(t tp) (offset int64) {
	k.with(func() {
		offset = -1
		if c, ok := k.stored[t]; ok {
			offset = c.offset
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

// finish is what the lane does when the Handler has answered.
func finish(d *Delivery) {
	d.close()
	d.p.f.turns.give(d)
}
