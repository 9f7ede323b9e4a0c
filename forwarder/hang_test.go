package forwarder

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// stuck is a record on a disk that hangs, until it is back.
type stuck struct {
	record
	back chan struct{}
}

func (s stuck) Write(done []int64, next *offsets.Partition, intents []offsets.Attempt) (recorded, announced error) {
	<-s.back
	return s.record.Write(done, next, intents)
}

// Neither a revoke nor a loss nor an assignment makes the group wait for a disk that hangs; readiness names it, and when the disk is back
// all goes on.
func TestAHangingDiskHoldsUpNoCallback(t *testing.T) {
	for _, lost := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			cfg, b := small(), newBook()
			cfg.DrainTimeout = 8 * time.Second
			r := newRig(t, cfg, b.keeping(func(*Delivery) Verdict { return good })).run()
			r.kafka.give(t0, t1)
			pass(time.Second)
			back := make(chan struct{})
			must(t, r.f.consumer.do(t.Context(), func(c *consumer) error {
				c.parts[t0].page = stuck{c.parts[t0].page, back}
				return nil
			}))
			r.kafka.produce(t0, 3, 10)
			r.underWay(1)
			began := time.Now()
			r.kafka.take(lost, t0)
			if took := time.Since(began); took > cfg.DrainTimeout+time.Second {
				t.Errorf("lost %t: the group waited for %v", lost, took)
			}
			assign := r.f.consumer.assign
			must(t, r.f.consumer.do(t.Context(), func(c *consumer) error {
				c.assign = func(k offsets.Key, s offsets.Start) (*offsets.Partition, error) { <-back; return assign(k, s) }
				return nil
			}))
			began = time.Now()
			r.kafka.give(t0, t2)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("an assignment took %v", took)
			}
			if why := fmt.Sprint(r.f.Ready()); !strings.Contains(why, "t/0 is not started: the volume has not taken in 4s where it starts") {
				t.Errorf("ready says %s", why)
			}
			r.kafka.produce(t1, 5, 10)
			r.until("the one that stays goes on", func() bool { return r.kafka.storedAt(t1) == 5 })
			close(back)
			r.until("all of it", func() bool { return r.kafka.storedAt(t0) == 3 && len(r.f.Ready()) == 0 })
			if n := r.f.consumer.running(); len(n) != 3 {
				t.Errorf("%d partitions run", len(n))
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// While the volume hangs nothing is opened: whoever asks for it would wait as well.
func TestNothingStartsOnAHangingVolume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(always))
		hangs := true
		r.f.health.volume = func() error {
			if hangs {
				return fmt.Errorf("the volume %w", offsets.ErrHangs)
			}
			return nil
		}
		asked := 0
		assign := r.f.consumer.assign
		r.f.consumer.assign = func(k offsets.Key, s offsets.Start) (*offsets.Partition, error) { asked++; return assign(k, s) }
		r.run()
		r.kafka.produce(t0, 3, 10)
		r.kafka.give(t0)
		pass(time.Minute)
		if why := fmt.Sprint(r.f.Ready()); asked > 0 || !strings.Contains(why, "t/0 is not started: the volume takes no write") {
			t.Errorf("asked %d times, ready says %s", asked, why)
		}
		must(t, r.f.consumer.do(t.Context(), func(*consumer) error { hangs = false; return nil }))
		r.until("delivered", func() bool { return r.kafka.storedAt(t0) == 3 })
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// frozen is a rig whose next sync, once it is told to, holds the store's lock until the disk is back, as a write does that hangs.
type frozen struct {
	*rig
	now         atomic.Bool
	hangs, back chan struct{}
}

func newFrozen(t *testing.T, cfg settings, handler push.Handler) *frozen {
	r := newRig(t, cfg, handler)
	store, err := offsets.Open(t.TempDir(), offsets.Options{Log: r.f.log}) // each write is synced
	must(t, err)
	r.assemble(cfg, handler, store, r.f.log)
	r.f.consumer.stopping = t.Context()
	h := &frozen{rig: r, hangs: make(chan struct{}), back: make(chan struct{})}
	once := sync.OnceFunc(func() { close(h.hangs) })
	store.Observe(func(time.Duration, error) { // with the lock
		if h.now.Load() {
			once()
			<-h.back
		}
	})
	t.Cleanup(func() { must(t, store.Close()) })
	return h
}

// write hangs at once.
func (h *frozen) write() (over <-chan struct{}) {
	h.now.Store(true)
	over = inBackground(func() {
		_, _ = h.f.parts.Store.Assign(offsets.Key{Cluster: "C", Group: "g", Topic: "t", TopicID: "T", Partition: 9}, offsets.Start{Lineage: 1, Committed: -1})
	})
	<-h.hangs
	return over
}

// within wants do to end in time, whatever the disk does.
func within(t *testing.T, most time.Duration, what string, do func()) {
	t.Helper()
	select {
	case <-inBackground(do):
	case <-time.After(most):
		t.Errorf("%s: it waits for the disk", what)
	}
}

// A write that hangs has the store's lock: neither the end of a partition in good order nor a loss waits for it, nor what the poll goroutine
// does, nor who asks how things are.
func TestAHangingWriteHoldsUpNobody(t *testing.T) {
	t.Parallel()
	cfg := small()
	cfg.DrainTimeout, cfg.Order, cfg.BatchSize = time.Second, OrderNone, 2
	h := newFrozen(t, cfg, handle(always))
	f, c := h.f, h.f.consumer
	p := h.partition(t0)
	h.partition(t1)
	for offset := range int64(3) { // the newest of them was tried
		p.rec.Fetched(offset)
	}
	_, err := p.rec.Write(nil, p.rec, []offsets.Attempt{{Offset: 2, Number: 1}})
	must(t, err)
	other := h.write()
	for _, row := range []struct {
		what string
		most time.Duration
		do   func()
	}{
		{"a first message, which is told from one that was tried", 0, func() { p.Tried(0); p.push(&kafka.Message{Partition: t0, Offset: 3}) }},
		{"messages", 0, func() {
			for at := range int64(500) {
				p.push(&kafka.Message{Partition: t0, Offset: window - 100 + at})
			}
		}},
		{"a tidy", 0, c.tidy},
		{"a position behind markers", 0, func() { c.advance([]kafka.Partition{t0, t1}) }},
		{"where partitions start", 0, func() {
			if _, _, err := c.learn(t.Context(), []kafka.Partition{t2}); !errors.Is(err, offsets.ErrHangs) {
				t.Errorf("where t/2 starts: %v", err)
			}
		}},
		{"status", 0, func() {
			if s := f.Status(); len(s.Partitions) != 2 || !strings.Contains(fmt.Sprint(s.Why), "takes no write") {
				t.Errorf("the status is %+v", s)
			}
		}},
		{"counts", 0, func() { f.Counts() }},
		{"health", 0, func() { f.Live(); f.Notes() }},
		{"what is owed at a stop", 0, func() {
			if !f.owes() {
				t.Error("nothing is owed, at a stop, while nobody can know")
			}
		}},
		{"an end in good order", cfg.DrainTimeout, func() { c.giveUp([]kafka.Partition{t0}, errRevoked) }},
		{"a loss", cfg.DrainTimeout, func() { c.lose([]kafka.Partition{t1}, errLost) }},
	} {
		within(t, row.most+2*time.Second, row.what, row.do)
	}
	close(h.back)
	<-other
}

// While a write hangs the member polls on: the group's callbacks end in time, nothing new is sent, and when the disk is back all goes on by
// itself: each message once and in order, but for those under way at the disk whose partition was taken, which are flagged.
func TestAMemberPollsWhileAWriteHangs(t *testing.T) {
	t.Parallel()
	cfg, each, t3 := small(), 200, kafka.Partition{Topic: "t", Number: 3}
	cfg.DrainTimeout = 2 * time.Second
	var mu sync.Mutex
	sent, unflagged, last, wrong := 0, map[kafka.Position]int{}, map[kafka.Partition]int64{}, []string(nil)
	h := newFrozen(t, cfg, handle(func(d *Delivery) Verdict {
		mu.Lock()
		defer mu.Unlock()
		sent++
		at := kafka.Position{Partition: kafka.Partition{Topic: d.Topic, Number: d.Partition.Number}, Offset: d.Offset}
		if before, ok := last[at.Partition]; ok && at.Offset != before+1 && !(d.InDoubt() && at.Offset == before) {
			wrong = append(wrong, fmt.Sprintf("%s/%d after %d", at.Partition, at.Offset, before))
		}
		if last[at.Partition] = at.Offset; !d.InDoubt() {
			unflagged[at]++
		}
		return good
	}))
	count := func() int { mu.Lock(); defer mu.Unlock(); return sent }
	polls := func() (n int) { h.kafka.with(func() { n = h.kafka.polls }); return n }
	soon := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("in 20 s not: %s", what)
			}
		}
	}
	h.run()
	h.kafka.give(t0, t1, t2)
	h.kafka.produce(t0, 10, 10)
	soon("the first ones", func() bool { return h.kafka.storedAt(t0) == 10 })
	other := h.write()
	for _, p := range []kafka.Partition{t0, t1, t2} {
		h.kafka.produce(p, each, 10)
	}
	time.Sleep(1500 * time.Millisecond) // a first one waits for a second
	before, began := count(), polls()
	time.Sleep(500 * time.Millisecond)
	if n := polls() - began; n < 3 {
		t.Errorf("%d polls in half a second", n)
	}
	within(t, 4*time.Second, "a revoke", func() { h.kafka.take(false, t0) })
	within(t, 4*time.Second, "a loss", func() { h.kafka.take(true, t1) })
	within(t, 2*time.Second, "an assignment", func() { h.kafka.give(t0, t3) })
	if why := fmt.Sprint(h.f.Ready()); len(h.f.Live()) > 0 || !strings.Contains(why, "t/3 is not started: ") || !strings.Contains(why, "nothing is delivered until it goes on") {
		t.Errorf("live says %v, ready %s", h.f.Live(), why)
	}
	h.kafka.produce(t3, each, 10)
	if n := count() - before; n > 0 {
		t.Errorf("%d messages were sent while nothing could be recorded", n)
	}
	close(h.back)
	<-other
	within(t, 10*time.Second, "an assignment of what was lost", func() { h.kafka.give(t1) })
	soon("all of it", func() bool {
		return h.kafka.storedAt(t0) == int64(10+each) && h.kafka.storedAt(t1) == int64(each) && h.kafka.storedAt(t2) == int64(each) && h.kafka.storedAt(t3) == int64(each)
	})
	must(t, h.stop())
	for at, n := range unflagged {
		if n != 1 {
			t.Errorf("%s/%d was sent %d times", at.Partition, at.Offset, n)
		}
	}
	if len(wrong) > 0 || count() > 10+4*each+cfg.Concurrency {
		t.Errorf("%d were sent for %d messages; out of order: %v", count(), 10+4*each, wrong)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// An outcome that waits with the batch of another partition for a volume that takes nothing is put on record also where that other one goes
// meanwhile: nothing else would end it.
func TestAnOutcomeOutlivesItsCarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		cfg.Concurrency = 1
		r := newRig(t, cfg, handle(func(*Delivery) Verdict { pass(time.Second); return good })).run()
		r.kafka.give(t0, t1)
		pass(time.Second)
		emptied := make(chan struct{})
		must(t, r.f.consumer.do(t.Context(), func(c *consumer) error {
			c.parts[t0].page = full{c.parts[t0].page, emptied}
			return nil
		}))
		r.kafka.produce(t0, 1, 10)
		r.underWay(1)
		r.kafka.produce(t1, 1, 10)
		pass(10 * time.Second) // the batch of t1 cannot begin before the outcome of t0 is on record
		r.kafka.take(false, t1)
		pass(time.Minute)
		close(emptied)
		r.until("the outcome", func() bool { return r.kafka.storedAt(t0) == 1 })
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A message that a skip has put into the skip log, and whose partition goes before that is on record, is not said not to be skipped.
func TestASkipThatIsNotOnRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(func(*Delivery) Verdict { return bad })).run()
		r.kafka.give(t0)
		pass(time.Second)
		back := make(chan struct{})
		must(t, r.f.consumer.do(t.Context(), func(c *consumer) error {
			c.parts[t0].page = full{c.parts[t0].page, back}
			return nil
		}))
		r.kafka.produce(t0, 1, 10)
		pass(time.Minute)
		time.AfterFunc(time.Second, func() { r.kafka.take(false, t0) })
		_, err := r.f.Skip(t.Context(), "op", Selection{Position: kafka.Position{Partition: t0}})
		if !errors.Is(err, ErrMoves) || !strings.Contains(err.Error(), "t/0/0 is where given-up messages go") || r.skipped() != 1 {
			t.Errorf("%v; %d in the skip log", err, r.skipped())
		}
		close(back)
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// full is a volume that takes no outcome until it is emptied.
type full struct {
	record
	emptied chan struct{}
}

func (f full) Write(done []int64, next *offsets.Partition, intents []offsets.Attempt) (recorded, announced error) {
	select {
	case <-f.emptied:
	default:
		if len(done) > 0 {
			return errFull, errFull
		}
	}
	return f.record.Write(done, next, intents)
}

var errFull = errors.New("no space left on device")
