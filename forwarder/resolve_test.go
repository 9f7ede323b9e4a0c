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

// What another group or cluster knows of a name says nothing about this group's topic.
func TestMadeAgain(t *testing.T) {
	r := newRig(t, small(), handle(always))
	k := start.Knowledge{Partition: kafka.Partition{Topic: "t", Number: 3}, Identity: offsets.Key{Cluster: "C", Group: "g", Topic: "t", TopicID: "new", Partition: 3}}
	for _, other := range []offsets.Key{
		{Cluster: "other", Group: "g", Topic: "t", TopicID: "old", Partition: 3},
		{Cluster: "C", Group: "other", Topic: "t", TopicID: "old", Partition: 3},
		{Cluster: "C", Group: "g", Topic: "u", TopicID: "old", Partition: 3},
		{Cluster: "C", Group: "g", Topic: "t", TopicID: "", Partition: 3}, // a broker that knows no ids
		{Cluster: "C", Group: "g", Topic: "t", TopicID: "new", Partition: 4},
	} {
		if _, err := r.store.Assign(other, offsets.Start{Lineage: 1, Committed: -1}); err != nil {
			t.Fatal(err)
		}
	}
	remade := func() bool {
		_, k.Foreign, k.Remade, _ = r.store.Recall(k.Identity)
		return k.Earlier()
	}
	if remade() {
		t.Error("made again, because of entries that are none of its business")
	}
	another := offsets.Key{Cluster: "C", Group: "g", Topic: "t", TopicID: "old", Partition: 4}
	if _, err := r.store.Assign(another, offsets.Start{Lineage: 1, Committed: -1}); err != nil {
		t.Fatal(err)
	}
	if !remade() || slices.Contains(k.Foreign, another) {
		t.Errorf("not noticed that the topic was made again, or said of the wrong partition: %v", k.Foreign)
	}
}

// With "latest" a partition of a topic that was made again is read from its start, whoever had it of the old one: another replica, nobody
// (the new one has more), or this process before it was down.
func TestLatestOfATopicThatWasMadeAgain(t *testing.T) {
	for _, row := range []struct {
		name  string
		width int32 // of the topic when it was made again
		down  bool
		wiped bool // the volume is gone; Kafka's commit is there
		spare bool // it had none of the old one
		had   kafka.Partition
		comes kafka.Partition
	}{
		{"another replica had it", 2, false, false, false, t0, t1},
		{"it had none", 2, false, false, true, t0, t1},
		{"it is new", 4, false, false, false, t0, t2},
		{"it is new, and kpush was down", 4, true, false, false, t0, t2},
		{"another replica had it, and both were down", 2, true, false, false, t0, t1},
		{"Kafka alone knows", 2, true, true, false, t0, t0},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg, b := small(), newBook()
				cfg.Reset = "latest"
				r := newRig(t, cfg, b.keeping(always))
				r.kafka.width = 2
				r.run()
				if row.spare {
					r.kafka.give()
					pass(5 * time.Second)
				} else {
					r.kafka.give(row.had)
					r.until("started", func() bool { return r.kafka.storedAt(row.had) == 0 })
					r.kafka.produce(row.had, 5, 10)
					r.until("the old ones", func() bool { return r.kafka.storedAt(row.had) == 5 })
				}
				if row.down {
					if err := r.stop(); err != nil {
						t.Fatal(err)
					}
				} else {
					r.kafka.take(true, row.had)
				}
				r.kafka.with(func() {
					r.kafka.ids["t"], r.kafka.width, r.kafka.log[row.had] = "T2", row.width, nil
					if !row.wiped {
						delete(r.kafka.stored, row.had)
					}
				})
				r.kafka.produce(row.comes, 3, 10)
				if row.wiped {
					r.dir = t.TempDir()
				}
				if row.down {
					r = r.again(cfg, b.keeping(always)).run()
				}
				before := len(b.of(row.comes))
				r.kafka.give(row.comes)
				pass(10 * time.Second)
				if n := len(b.of(row.comes)) - before; n != 3 {
					t.Errorf("%d of 3 messages of the new topic were delivered", n)
				}
				if err := r.stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A topic that is made again with fewer partitions is delivered, though the group leaves this process those that are no more. They are
// named, no reason to be not ready, in no operator's way, and start where the topic gets them again.
func TestTopicMadeAgainWithFewerPartitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		r := newRig(t, small(), b.keeping(always))
		r.kafka.width = 3
		r.run()
		all := []kafka.Partition{t0, t1, t2}
		for _, p := range all {
			r.kafka.produce(p, 5, 10)
		}
		r.kafka.give(all...)
		r.until("the old ones", func() bool { return b.count() == 15 && r.kafka.storedAt(t0) == 5 })
		r.kafka.fail(func([]kafka.Commit) error { return kafka.ErrNoTopic })
		r.kafka.produce(t0, 1, 10)
		pass(500 * time.Millisecond)
		r.kafka.fail(nil) // a commit that was refused before says nothing of the new one
		r.kafka.with(func() {
			r.kafka.ids["t"], r.kafka.width = "T2", 1
			for _, p := range all {
				delete(r.kafka.stored, p)
				r.kafka.log[p] = nil
			}
		})
		r.kafka.produce(t0, 8, 10)
		begun := time.Now()
		r.until("the new ones", func() bool { return r.kafka.storedAt(t0) == 8 })
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
		pass(30 * time.Second)
		if why := r.f.Ready(); len(why) > 0 {
			t.Errorf("not ready: %q", why)
		}
		if notes := strings.Join(r.f.Notes(), "; "); !strings.Contains(notes, "2 partitions are given to this process, and the topic, which was made again with fewer, does not have them any more: t/1 t/2: ") {
			t.Errorf("the notes are %s", notes)
		}
		if _, err := r.f.Pause(t.Context(), "op", "t", All); err != nil {
			t.Error(err)
		}
		if _, err := r.f.Resume(t.Context(), "op", "t", All); err != nil {
			t.Error(err)
		}
		if at, err := r.f.Seek(t.Context(), "op", "t", All, Target{Beginning: true}); err != nil || len(at) != 1 {
			t.Error(at, err)
		}
		r.kafka.with(func() { r.kafka.width = 2 })
		r.kafka.produce(t1, 4, 10)
		r.until("what the topic has got again", func() bool { return r.kafka.storedAt(t1) == 4 })
		r.kafka.take(false, t2)
		if notes := strings.Join(r.f.Notes(), "; "); strings.Contains(notes, "does not have them any more") {
			t.Errorf("the notes are %s", notes)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}
