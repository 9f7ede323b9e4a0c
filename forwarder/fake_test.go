package forwarder

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/kpush/kpush/kafka"
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
	width          int32                       // partitions of each topic; 0: a hundred
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
	blind          bool                      // finds nothing by its time
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
		k.todo = append(k.todo, func() {
			k.revoke(false, tps)
			time.AfterFunc(35*time.Millisecond, func() { k.with(func() { k.calls, k.member = append(k.calls, "leave"), "" }) }) // on a thread of its own
		})
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
