package forwarder

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/forwarder/start"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// A topic that is deleted and made again while it is consumed starts anew; what was read of it under the old id is flagged,
// also where a rebalance brings the new id before anybody has looked for it.
func TestTopicMadeAgainWhileConsumed(t *testing.T) {
	for _, c := range []struct {
		reset      string
		rebalanced bool
	}{{"earliest", false}, {"latest", false}, {"earliest", true}} {
		reset := c.reset
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			got := map[string]bool{}
			count := func() int { mu.Lock(); defer mu.Unlock(); return len(got) }
			cfg := small()
			cfg.Reset = reset
			r := newRig(t, cfg, handle(func(d *Delivery) Verdict {
				mu.Lock()
				defer mu.Unlock()
				got[d.ID()] = d.InDoubt()
				return good
			})).run()
			r.kafka.give(t0)
			r.until("started", func() bool { return r.kafka.storedAt(t0) == 0 })
			r.kafka.produce(t0, 5, 10)
			r.until("the old ones", func() bool { return r.kafka.storedAt(t0) == 5 })
			r.kafka.with(func() {
				r.kafka.ids["t"] = "T2"
				delete(r.kafka.stored, t0)
				r.kafka.log[t0] = nil
			})
			r.kafka.produce(t0, 8, 10)
			if c.rebalanced {
				r.until("what is read under the old id", func() bool { return count() == 8 })
				r.kafka.take(false, t0)
				r.kafka.give(t0)
			}
			r.until("the new ones", func() bool { return r.kafka.storedAt(t0) == 8 && count() >= 13 })
			if err := r.stop(); err != nil {
				t.Error(err)
			}
			for o, flagged := range map[string]bool{"t/0/0/T2": true, "t/0/4/T2": true, "t/0/7/T2": true} {
				if doubt, ok := got[o]; !ok || doubt != flagged {
					t.Errorf("%s: %s delivered %t, in doubt %t, want %t", reset, o, ok, doubt, flagged)
				}
			}
			if m, ok := start.ParseMark(r.kafka.stored[t0].Meta); !ok || m.TopicID != "T2" {
				t.Errorf("%s: the commit says %+v", reset, m)
			}
			if n := len(r.logs.With("does not count for the new one")); n != 1 && !c.rebalanced {
				t.Errorf("%s: said %d times", reset, n)
			}
		})
	}
}

// "latest" is about what was there before the group was: a partition that is added later is read from its start.
func TestAddedPartitionIsReadFromItsStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		cfg := small()
		cfg.Reset = "latest"
		r := newRig(t, cfg, b.keeping(always))
		r.kafka.width = 1
		r.run()
		r.kafka.produce(t0, 5, 10)
		r.kafka.give(t0)
		r.until("started", func() bool { return r.kafka.storedAt(t0) == 5 })
		r.kafka.with(func() { r.kafka.width = 2 })
		r.kafka.produce(t1, 3, 10)
		r.kafka.give(t1)
		r.until("the new partition's", func() bool { return r.kafka.storedAt(t1) == 3 })
		if n := len(b.of(t0)); n != 0 || len(b.of(t1)) != 3 {
			t.Errorf("%d of the old, %v of the new", n, b.of(t1))
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A partition that was there all the time, and of which Kafka has no commit, is no newcomer because it comes later than others do:
// with "latest" its history is not delivered.
func TestLatestOfAPartitionThatIsNotNew(t *testing.T) {
	for _, row := range []struct {
		name  string
		comes func(r *rig) // t/1, beside t/0
	}{
		{"it moved here", func(r *rig) { r.kafka.give(t0); pass(5 * time.Second); r.kafka.give(t1) }},
		{"it moved here, to a member that had none", func(r *rig) { r.kafka.give(); pass(5 * time.Second); r.kafka.give(t1); r.kafka.give(t0) }},
		{"another one was started again before it", func(r *rig) {
			r.kafka.with(func() { r.kafka.leaderless = map[kafka.Partition]bool{t1: true} })
			r.kafka.give(t0, t1)
			pass(5 * time.Second)
			if _, err := r.f.Seek(r.Context(), "op", "t", 0, Target{End: true}); err != nil {
				r.Error(err)
			}
			r.kafka.with(func() { r.kafka.leaderless = nil })
		}},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg, b := small(), newBook()
			cfg.Reset = "latest"
			r := newRig(t, cfg, b.keeping(always))
			r.kafka.produce(t0, 50, 10)
			r.kafka.produce(t1, 50, 10)
			row.comes(r.run())
			r.until("both", func() bool { return r.kafka.storedAt(t0) == 50 && r.kafka.storedAt(t1) >= 0 })
			r.kafka.produce(t1, 10, 10)
			r.until("what came after the group", func() bool { return r.kafka.storedAt(t1) == 60 })
			if n := b.count(); n != 10 {
				t.Errorf("%s: %d deliveries, 10 came after the group", row.name, n)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A partition whose leader does not answer keeps no other one back, neither a new one nor one that is there; it starts once
// somebody leads it.
func TestALeaderIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		r := newRig(t, small(), b.keeping(always)).run()
		r.kafka.produce(t0, 5, 10)
		r.kafka.give(t0)
		r.until("the first", func() bool { return r.kafka.storedAt(t0) == 5 })
		r.kafka.with(func() { r.kafka.leaderless = map[kafka.Partition]bool{t1: true} })
		r.kafka.produce(t1, 3, 10)
		r.kafka.produce(t2, 4, 10)
		begin := time.Now()
		r.kafka.give(t1, t2)
		r.until("the one that is led", func() bool { return r.kafka.storedAt(t2) == 4 })
		if took := time.Since(begin); took > resolveTime+time.Second {
			t.Errorf("it took %v", took)
		}
		r.kafka.produce(t0, 5, 10)
		begin = time.Now()
		r.until("the one that stays", func() bool { return r.kafka.storedAt(t0) == 10 })
		if took := time.Since(begin); took > time.Second {
			t.Errorf("the one that stays took %v", took)
		}
		if why := strings.Join(r.f.Ready(), "; "); !strings.Contains(why, "t/1 is not started: cannot learn where it starts") {
			t.Errorf("readiness says %q", why)
		}
		r.kafka.with(func() { r.kafka.leaderless = nil })
		r.until("the one that was not led", func() bool { return r.kafka.storedAt(t1) == 3 })
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// Many partitions wait for a slow disk once, not one after the other: those that stay are not fetched meanwhile.
func TestPartitionsAreOpenedSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		r := newRig(t, small(), b.keeping(always))
		assign := r.f.consumer.assign
		r.f.consumer.assign = func(k offsets.Key, st offsets.Start) (*offsets.Partition, error) {
			time.Sleep(3 * time.Second) // a slow disk, in a bubble
			return assign(k, st)
		}
		r.run()
		begin := time.Now()
		for _, p := range []kafka.Partition{t0, t1, t2} {
			r.kafka.produce(p, 3, 10)
		}
		r.kafka.give(t0, t1, t2)
		for _, p := range []kafka.Partition{t0, t1, t2} {
			r.until(p.String(), func() bool { return r.kafka.storedAt(p) == 3 })
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("three partitions took %v on a disk of 3 s", took)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A partition of the first assignment that cannot start at once is no newcomer when another rebalance comes before it does; and
// it holds up no callback but its own.
func TestLatestOfAPartitionThatStartsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, b := small(), newBook()
		cfg.Reset = "latest"
		r := newRig(t, cfg, b.keeping(always))
		for _, p := range []kafka.Partition{t0, t1} {
			r.kafka.produce(p, 50, 10)
		}
		r.kafka.leaderless = map[kafka.Partition]bool{t1: true}
		r.run()
		r.kafka.give(t0, t1)
		began := time.Now()
		r.kafka.give() // a callback of another member's coming
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("a callback that brings nothing took %v", took)
		}
		pass(5 * time.Second)
		r.kafka.with(func() { r.kafka.leaderless = nil })
		pass(5 * time.Second)
		for _, p := range []kafka.Partition{t0, t1} {
			r.kafka.produce(p, 10, 10)
		}
		pass(5 * time.Second)
		for _, p := range []kafka.Partition{t0, t1} {
			if n := len(b.of(p)); n != 10 {
				t.Errorf("%d deliveries of %s, 10 came after the group", n, p)
			}
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// KPUSH_USE_SAVED_OFFSET_TIME above zero: the saved offset is trusted once it is that old, and until then the partition waits.
// What another group or cluster knows of a name says nothing about this group's topic.
func TestMadeAgain(t *testing.T) {
	r := newRig(t, small(), handle(always))
	k := start.Knowledge{Partition: kafka.Partition{Topic: "t", Number: 3}, Identity: offsets.Key{Cluster: "C", Group: "g", Topic: "t", TopicID: "new", Partition: 3}}
	for _, other := range []offsets.Key{
		{Cluster: "other", Group: "g", Topic: "t", TopicID: "old", Partition: 3},
		{Cluster: "C", Group: "other", Topic: "t", TopicID: "old", Partition: 3},
		{Cluster: "C", Group: "g", Topic: "t", TopicID: "old", Partition: 4},
	} {
		if _, err := r.store.Assign(other, offsets.Start{Lineage: 1, Committed: -1}); err != nil {
			t.Fatal(err)
		}
	}
	remade := func() (_ bool) {
		_, k.Foreign, _ = r.store.Recall(k.Identity)
		return r.f.consumer.remade(k)
	}
	if remade() {
		t.Error("made again, because of entries that are none of its business")
	}
	if _, err := r.store.Assign(offsets.Key{Cluster: "C", Group: "g", Topic: "t", TopicID: "old", Partition: 3}, offsets.Start{Lineage: 1, Committed: -1}); err != nil {
		t.Fatal(err)
	}
	if !remade() || !slices.Contains(k.Foreign, offsets.Key{Cluster: "C", Group: "g", Topic: "t", TopicID: "old", Partition: 3}) {
		t.Error("not noticed that the topic was made again")
	}
}
