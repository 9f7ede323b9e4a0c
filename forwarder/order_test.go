package forwarder

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// keyed makes the n-th message of a partition with one of so many keys; every seventh has none.
func keyed(k *fakeKafka, t kafka.Partition, count, keys int) {
	for range count {
		k.with(func() {
			o := k.endOf(t)
			m := &kafka.Message{Partition: kafka.Partition{Topic: t.Topic, Number: t.Number}, Offset: o, Value: []byte("v")}
			if o%7 != 0 {
				m.Key = fmt.Appendf(nil, "k%d", o%int64(keys))
			}
			k.log[t] = append(k.log[t], m)
		})
	}
	k.Wake()
}

// F3 for order key: one message of a key at a time and in order; what has no key is on its own; keys go on beside each other.
func TestOrderByKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		rng := rand.New(rand.NewPCG(3, 4))
		busy, last := map[string]bool{}, map[string]int64{}
		inFlight, most := 0, 0
		cfg := small()
		cfg.Order = OrderKey
		r := newRig(t, cfg, handle(func(d *Delivery) Verdict {
			name := fmt.Sprintf("%s %s", d.Partition, d.Key)
			if d.Key == nil {
				name = d.ID()
			}
			mu.Lock()
			if busy[name] || last[name] > d.Offset {
				t.Errorf("%s: offset %d while or after %d", name, d.Offset, last[name])
			}
			busy[name], last[name] = true, d.Offset
			inFlight++
			most = max(most, inFlight)
			took, fails := time.Duration(rng.IntN(50))*time.Millisecond, rng.IntN(4) == 0
			mu.Unlock()
			<-time.After(took)
			mu.Lock()
			defer mu.Unlock()
			busy[name] = false
			inFlight--
			if fails {
				return bad
			}
			return good
		})).run()
		r.kafka.give(t0, t1)
		for range 5 {
			keyed(r.kafka, t0, 100, 20)
			keyed(r.kafka, t1, 100, 3)
			pass(time.Second)
		}
		r.until("all committed", func() bool { return r.kafka.storedAt(t0) == 500 && r.kafka.storedAt(t1) == 500 })
		if most != cfg.Concurrency {
			t.Errorf("at most %d in flight, the concurrency is %d", most, cfg.Concurrency)
		}
		if !r.f.consumer.parts[t0].lanes.Empty() {
			t.Error("lanes are kept for keys without a message")
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if r.turnsTaken() != 0 || r.f.budget.held.Load() != 0 {
			t.Errorf("%d turns and %d bytes are held after the end", r.turnsTaken(), r.f.budget.held.Load())
		}
	})
}

// Messages that keep failing hold up nobody but their keys, until the window is used up; then that is said by name, nothing
// new of the partition is tried, and all goes on when they have their outcome.
func TestFailingKeysHoldUpOnlyTheirOwn(t *testing.T) {
	t.Parallel()
	for _, order := range []string{OrderKey, OrderNone} {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			heal, done, tries := false, map[kafka.Partition]int{}, 0
			cfg := small()
			cfg.Order = order
			r := newRig(t, cfg, handle(func(d *Delivery) Verdict {
				mu.Lock()
				defer mu.Unlock()
				if !heal && d.Partition == t0 && d.Offset%100 == 50 {
					tries++
					return bad
				}
				done[d.Partition]++
				return good
			})).run()
			r.kafka.give(t0, t1)
			count := func(p kafka.Partition) int {
				mu.Lock()
				defer mu.Unlock()
				return done[p]
			}
			r.kafka.produce(t0, 15_000, 10)
			r.kafka.produce(t1, 15_000, 10)
			r.until("the other partition is done", func() bool { return r.kafka.storedAt(t1) == 15_000 })
			pass(10 * time.Second)
			// committed is 50; 10,000 offsets from there, of which every hundredth fails
			if n, want := count(t0), 50+window-window/100; n != want {
				t.Errorf("order %s: %d delivered of the partition with messages that fail, want %d", order, n, want)
			}
			if n := r.kafka.storedAt(t0); n != 50 {
				t.Errorf("order %s: committed %d", order, n)
			}
			if notes := strings.Join(r.f.Notes(), "\n"); !strings.Contains(notes, "t/0: 10000 offsets behind 50 are done or tried") {
				t.Errorf("order %s: notes %s", order, notes)
			}
			if n := len(r.logs.With("nothing new is tried")); n != 1 {
				t.Errorf("order %s: said %d times", order, n)
			}
			mu.Lock()
			heal = true
			mu.Unlock()
			r.until("all is done", func() bool { return r.kafka.storedAt(t0) == 15_000 })
			pass(2 * restTime)
			if notes := strings.Join(r.f.Notes(), "\n"); strings.Contains(notes, "nothing new") {
				t.Errorf("order %s: notes when all is well %s", order, notes)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A bound that holds up what lies ahead is no other one because a straggler below it gets through: it is said once.
func TestABoundEndsWithWhatItHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c ceiling
		c.open(offsets.Start{}, false, 0)
		for i, row := range []struct {
			offset int64
			bound  string
			waits  time.Duration
			want   string
		}{
			{900, "a", heldBackTime / 2, ""},
			{901, "a", heldBackTime / 2, "a"},
			{899, "", 0, "a"},
			{900, "b", 0, "b"}, // another reason is no new beginning
			{899, "b", 0, "b"},
			{898, "", 0, "b"},
			{899, "", heldBackTime, ""},
			{900, "", 0, ""},
			{950, "a", heldBackTime, "a"}, // and one that begins anew is
			{950, "", 0, ""},
		} {
			if ok, _ := c.admit(row.offset, row.bound); ok != (row.bound == "") {
				t.Errorf("%d: %d is admitted: %v", i, row.offset, ok)
			}
			time.Sleep(row.waits)
			if got := c.boundedBy(); got != row.want {
				t.Errorf("%d, after %d: bounded by %q, want %q", i, row.offset, got, row.want)
			}
		}
	})
}

// No more than a share of the messages waits for another attempt, however many fail, and the other partition goes on.
func TestFailingAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		heal, tried := false, map[int64]bool{}
		cfg := small()
		cfg.Order = OrderNone
		r := newRig(t, cfg, handle(func(d *Delivery) Verdict {
			mu.Lock()
			defer mu.Unlock()
			if !heal && d.Partition == t0 {
				tried[d.Offset] = true
				return bad
			}
			return good
		})).run()
		r.kafka.give(t0, t1)
		r.kafka.produce(t0, 5000, 10)
		r.kafka.produce(t1, 5000, 10)
		r.until("the other partition is done", func() bool { return r.kafka.storedAt(t1) == 5000 })
		pass(10 * time.Second)
		mu.Lock()
		if n := len(tried); n < failingLimit/2 || n > failingLimit/2+cfg.Concurrency {
			t.Errorf("%d messages of one of two partitions wait for another attempt, the limit is %d for both", n, failingLimit)
		}
		heal = true
		mu.Unlock()
		if notes := strings.Join(r.f.Notes(), "\n"); !strings.Contains(notes, "t/0: 1024 messages of it wait for another attempt") {
			t.Errorf("notes %s", notes)
		}
		r.until("all is done", func() bool { return r.kafka.storedAt(t0) == 5000 })
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// Retries that take long have no more than half of the turns while others wait for their first attempt.
func TestHangingRetriesLeaveHalf(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		cfg.Order, cfg.Concurrency = OrderNone, 4
		var mu sync.Mutex
		done := 0
		r := newRig(t, cfg, handle(func(d *Delivery) Verdict {
			if d.Offset < 100 { // hangs
				_ = sleep(d.Attempt(), time.Minute)
				return Verdict{Class: MessageFault, InDoubt: true}
			}
			<-time.After(10 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			done++
			return good
		})).run()
		r.kafka.give(t0)
		r.kafka.produce(t0, 100, 10)
		r.until("all of them have been tried", func() bool { p := r.f.consumer.parts[t0]; return p != nil && p.failing.Load() == 100 })
		r.kafka.produce(t0, 2000, 10)
		begun := time.Now()
		r.until("the others are done", func() bool { mu.Lock(); defer mu.Unlock(); return done == 2000 })
		if took := time.Since(begun); took > 30*time.Second { // two turns do 200/s
			t.Errorf("took %s", took)
		}
		r.kafka.take(true, t0)
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// What was done out of order is known to whoever takes over, through the commit, and is not sent again.
func TestOutOfOrderIsInherited(t *testing.T) {
	for _, sameVolume := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			cfg := small()
			cfg.Order = OrderNone
			var mu sync.Mutex
			sent := map[int64]int{}
			r := newRig(t, cfg, handle(func(d *Delivery) Verdict {
				mu.Lock()
				defer mu.Unlock()
				sent[d.Offset]++
				if d.Offset%50 == 10 {
					return bad
				}
				return good
			})).run()
			r.kafka.give(t0)
			r.kafka.produce(t0, 1000, 10)
			r.until("all but those that fail", func() bool { mu.Lock(); defer mu.Unlock(); return len(sent) == 1000 })
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			first := maps.Clone(sent)
			if !sameVolume {
				r.dir = t.TempDir()
			}
			again := map[int64]int{}
			r = r.again(cfg, handle(func(d *Delivery) Verdict {
				mu.Lock()
				defer mu.Unlock()
				again[d.Offset] = d.Number()
				if d.InDoubt() {
					t.Errorf("offset %d is flagged after a graceful stop", d.Offset)
				}
				return good
			})).run()
			r.kafka.give(t0)
			r.until("all done", func() bool { return r.kafka.storedAt(t0) == 1000 })
			offsets := slices.Sorted(maps.Keys(again))
			if len(offsets) != 20 || offsets[0] != 10 || offsets[19] != 960 {
				t.Errorf("same volume %t: sent again %v", sameVolume, offsets)
			}
			for o, n := range again {
				if n != first[o]+1 {
					t.Errorf("same volume %t: offset %d: attempt %d after %d", sameVolume, o, n, first[o])
				}
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// With many partitions and few turns each gets its share.
func TestTurnsGoRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		cfg.Concurrency = 4
		b := newBook()
		r := newRig(t, cfg, b.keeping(func(*Delivery) Verdict { <-time.After(time.Millisecond); return good })).run()
		var all []kafka.Partition
		for n := range int32(50) {
			all = append(all, kafka.Partition{Topic: "t", Number: n})
			r.kafka.produce(kafka.Partition{Topic: "t", Number: n}, 100, 10)
		}
		r.kafka.give(all...)
		r.until("half is done", func() bool { return b.count() > 2500 })
		for _, p := range all {
			if n := len(b.of(p)); n < 25 || n > 75 {
				t.Errorf("%s has had %d of 2,500 attempts", p, n)
			}
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// The share of the messages that may fail grows when another partition goes, and is used at once.
func TestTheShareGrowsWithARevoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		cfg.Order = OrderNone
		r := newRig(t, cfg, handle(func(*Delivery) Verdict { return bad })).run()
		r.kafka.give(t0, t1)
		r.kafka.produce(t0, 3000, 10)
		r.until("half of the limit fails", func() bool {
			return r.f.consumer.parts[t0] != nil && r.f.consumer.parts[t0].failing.Load() >= failingLimit/2
		})
		p := r.f.consumer.parts[t0]
		r.kafka.take(false, t1)
		r.until("all of the limit fails", func() bool { return p.failing.Load() >= failingLimit })
		r.kafka.take(true, t0)
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}
