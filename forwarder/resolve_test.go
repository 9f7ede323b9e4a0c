package forwarder

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/offsets"
)

// A topic that is deleted and made again while it is consumed starts anew; what was read of it under the old id is flagged.
func TestTopicMadeAgainWhileConsumed(t *testing.T) {
	for _, reset := range []string{"earliest", "latest"} {
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
			r.until("the new ones", func() bool { return r.kafka.storedAt(t0) == 8 && count() >= 13 })
			if err := r.stop(); err != nil {
				t.Error(err)
			}
			for o, flagged := range map[string]bool{"t/0/0/T2": true, "t/0/4/T2": true, "t/0/7/T2": true} {
				if doubt, ok := got[o]; !ok || doubt != flagged {
					t.Errorf("%s: %s delivered %t, in doubt %t, want %t", reset, o, ok, doubt, flagged)
				}
			}
			if m, ok := parseMark(r.kafka.stored[t0].meta); !ok || m.topicID != "T2" {
				t.Errorf("%s: the commit says %+v", reset, m)
			}
			if n := len(r.logs.with("does not count for the new one")); n != 1 {
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
		r := newRig(t, cfg, b.keeping(always)).run()
		r.kafka.produce(t0, 5, 10)
		r.kafka.give(t0)
		r.until("started", func() bool { return r.kafka.storedAt(t0) == 5 })
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

// KPUSH_USE_SAVED_OFFSET_TIME above zero: the saved offset is trusted once it is that old, and until then the partition waits.
func TestSavedOffsetHasToBeOldEnough(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, row := range []struct {
		name  string
		know  func(*knowledge)
		age   time.Duration
		holds bool
	}{
		{"lost, young", noCommit, 9 * time.Second, true},
		{"lost, old enough", noCommit, 10 * time.Second, false},
		{"rewound, young", by(80, marked(80, nil)), 9 * time.Second, true},
		{"rewound, old enough", by(80, marked(80, nil)), time.Hour, false},
		{"neither, young", nil, 0, false},
		{"never committed, young", all(noCommit, func(k *knowledge) { k.saved.Committed = -1 }), 0, false},
	} {
		k := known(row.know)
		k.trustSaved, k.now, k.saved.At = 10*time.Second, now, now.Add(-row.age)
		d := decide(k)
		if (d.hold != nil) != row.holds || !row.holds && (d.by != fromFile || d.start.Next != 120) {
			t.Errorf("%s: hold %v, %s at %d", row.name, d.hold, d.by, d.start.Next)
		}
		if row.holds && !strings.Contains(d.hold.Error(), "trusted once it is 10s old") {
			t.Errorf("%s: %v", row.name, d.hold)
		}
	}
}

// What another group or cluster knows of a name says nothing about this group's topic.
func TestMadeAgain(t *testing.T) {
	r := newRig(t, small(), handle(always))
	k := known(nil)
	k.identity.TopicID = "new"
	for _, other := range []offsets.Key{
		{Cluster: "other", Group: "g", Topic: "t", TopicID: "old", Partition: 3},
		{Cluster: "C", Group: "other", Topic: "t", TopicID: "old", Partition: 3},
		{Cluster: "C", Group: "g", Topic: "t", TopicID: "old", Partition: 4},
	} {
		if _, err := r.store.Assign(other, offsets.Start{Lineage: 1, Committed: -1}); err != nil {
			t.Fatal(err)
		}
	}
	if r.f.madeAgain(k) {
		t.Error("made again, because of entries that are none of its business")
	}
	if _, err := r.store.Assign(offsets.Key{Cluster: "C", Group: "g", Topic: "t", TopicID: "old", Partition: 3}, offsets.Start{Lineage: 1, Committed: -1}); err != nil {
		t.Fatal(err)
	}
	if !r.f.madeAgain(k) || !slices.Contains(r.f.ledger.Foreign(k.identity), offsets.Key{Cluster: "C", Group: "g", Topic: "t", TopicID: "old", Partition: 3}) {
		t.Error("not noticed that the topic was made again")
	}
}
