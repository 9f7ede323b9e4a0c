package forwarder

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
)

func always(*Delivery) Verdict { return good }

// spoil sets the faults of a fakeKafka while it runs.
func (k *fakeKafka) spoil(cluster func(string) error, committed func() error) {
	k.with(func() { k.clusterFault, k.committedFault = cluster, committed })
}

// An error is never taken for "no offset": the partition waits, by name, for as long as it takes, and starts where it was
// left once all answers are there. The other partitions go on meanwhile.
func TestPendingPartitionStartsLater(t *testing.T) {
	for _, question := range []string{"cluster", "topics", "bounds", "committed"} {
		synctest.Test(t, func(t *testing.T) {
			b := newBook()
			r := newRig(t, small(), b.keeping(always)).run()
			r.kafka.produce(t0, 100, 10)
			r.kafka.produce(t1, 100, 10)
			r.kafka.with(func() { r.kafka.stored[t0] = kafka.Commit{Partition: t0, Offset: 60, Meta: ""} })
			if question != "cluster" {
				r.kafka.give(t1)
			}
			fault := errors.New("the coordinator loads")
			r.kafka.spoil(func(q string) error {
				if q == question {
					return fault
				}
				return nil
			}, func() error {
				if question == "committed" {
					return fault
				}
				return nil
			})
			r.kafka.give(t0)
			for range 6 {
				pass(time.Minute)
				r.kafka.produce(t1, 10, 10)
			}
			if got := b.of(t0); len(got) > 0 {
				t.Errorf("%s: delivered %v without knowing where to start", question, got)
			}
			if why := fmt.Sprint(r.f.Ready()); !strings.Contains(why, "t/0 is not started") || !strings.Contains(why, "the coordinator loads") {
				t.Errorf("%s: ready says %s", question, why)
			}
			if why := r.f.Live(); len(why) > 0 {
				t.Errorf("%s: a broker's error makes kpush ill: %q", question, why)
			}
			if question != "cluster" && len(b.of(t1)) < 150 {
				t.Errorf("%s: %d of the other partition", question, len(b.of(t1)))
			}
			r.kafka.spoil(nil, nil)
			begun := time.Now()
			r.until("it starts", func() bool { return r.kafka.storedAt(t0) == 100 })
			if took := time.Since(begun); took > 15*time.Second {
				t.Errorf("%s: started %s after the answers were there", question, took)
			}
			if got := b.of(t0); len(got) != 40 || got[0] != "t/0/60#1" {
				t.Errorf("%s: %d delivered, from %s; want 40 from t/0/60", question, len(got), got[0])
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A pending partition that goes before it could start leaves nothing behind.
func TestPendingPartitionThatGoes(t *testing.T) {
	for _, lost := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBook()
			r := newRig(t, small(), b.keeping(always)).run()
			r.kafka.produce(t0, 10, 10)
			r.kafka.spoil(nil, func() error { return kafka.ErrNoBroker })
			r.kafka.give(t0)
			r.kafka.take(lost, t0)
			r.kafka.spoil(nil, nil)
			pass(time.Minute)
			if len(b.attempts) > 0 || len(r.f.consumer.assignment()) > 0 || len(r.kafka.callsOf("assign t/0")) > 0 || len(r.kafka.callsOf("commit")) > 0 {
				t.Errorf("lost %t: %v, still assigned %v, calls %v", lost, b.attempts, r.f.consumer.assignment(), r.kafka.calls)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Where a person has to act the partition is held, said once, and named in readiness; it starts once an offset is set.
func TestHeldPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		cfg := small()
		cfg.Reset = "error"
		r := newRig(t, cfg, b.keeping(always)).run()
		r.kafka.produce(t0, 10, 10)
		r.kafka.produce(t1, 10, 10)
		r.kafka.with(func() {
			r.kafka.stored[t0] = kafka.Commit{Partition: t0, Offset: 4000, Meta: ""} // beyond the end: says two sentences
			r.kafka.stored[t1] = kafka.Commit{Partition: t1, Offset: 0, Meta: ""}
		})
		begun := time.Now()
		r.kafka.give(t0, t1)
		if took := time.Since(begun); took > time.Second {
			t.Errorf("a held partition held up the rebalance for %s", took)
		}
		pass(10 * time.Minute)
		if lines := r.logs.With("partition=0"); len(lines) == 0 || len(lines) > 6 {
			t.Errorf("%d lines in ten minutes about a partition that waits for a person", len(lines))
		}
		if why := fmt.Sprint(r.f.Ready()); !strings.Contains(why, "t/0 is not started") || !strings.Contains(why, "kpush -seek t/0@OFFSET") || !strings.Contains(why, "--reset-offsets") {
			t.Errorf("ready says %s", why)
		}
		if len(b.of(t0)) > 0 || len(b.of(t1)) != 10 {
			t.Errorf("delivered %v", b.attempts)
		}
		r.kafka.with(func() { r.kafka.stored[t0] = kafka.Commit{Partition: t0, Offset: 7, Meta: ""} })
		r.until("it starts", func() bool { return len(b.of(t0)) == 3 })
		if why := r.f.Ready(); len(why) > 0 {
			t.Errorf("ready says %q", why)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// The log does not hold the position any more: what is in memory is delivered first, then the partition starts again, and
// the gap is said. One failed look-up does not leave it for ever: the client reports only once.
func TestAstrayPartitionStartsAgain(t *testing.T) {
	for _, lookup := range []error{nil, kafka.ErrNoBroker} {
		synctest.Test(t, func(t *testing.T) {
			b := newBook()
			var open atomic.Bool
			r := newRig(t, small(), b.keeping(func(d *Delivery) Verdict {
				if d.Partition == t0 && !open.Load() {
					return bad
				}
				return good
			})).run()
			r.kafka.produce(t0, 20, 10)
			r.kafka.produce(t1, 20, 10)
			r.kafka.give(t0, t1)
			r.until("the other is done", func() bool { return len(b.of(t1)) == 20 && r.f.consumer.parts[t0].reading.next == 20 })
			r.kafka.with(func() { // retention takes everything, more comes, and the client stops fetching
				r.kafka.log[t0], r.kafka.oldest[t0] = nil, 500
				delete(r.kafka.at, t0)
			})
			r.kafka.produce(t0, 5, 10)
			if lookup != nil {
				r.kafka.spoil(func(q string) error {
					if q == "bounds" {
						return lookup
					}
					return nil
				}, nil)
			}
			r.kafka.report(kafka.PartitionError{Position: kafka.Position{Partition: t0, Offset: 20}, Err: kafka.ErrOutOfRange})
			pass(time.Minute)
			r.kafka.spoil(nil, nil)
			pass(time.Minute)
			if calls := r.kafka.callsOf("unassign"); len(calls) > 0 {
				t.Fatalf("%v while its messages, perhaps the last copies, are in memory", calls)
			}
			open.Store(true)
			r.until("all committed", func() bool { return r.kafka.storedAt(t0) == 505 })
			var first []string
			for _, a := range b.of(t0) {
				if strings.HasSuffix(a, "#1") {
					first = append(first, a)
				}
			}
			if len(first) != 25 || first[20] != "t/0/500#1" {
				t.Errorf("%d delivered: %v", len(first), first)
			}
			if n := r.f.counts.lost.Load(); n != 480 || len(r.logs.With("possible loss of up to 480 messages")) != 1 {
				t.Errorf("%d counted as possibly lost", n)
			}
			if calls := r.kafka.callsOf("unassign t/1"); len(calls) > 0 {
				t.Errorf("a partition that is in range was started again: %v", calls)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A volume that knows the partition under another cluster, group or topic id says so and does not filter with it.
func TestForeignOffsetsDoNotApply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		r := newRig(t, small(), b.keeping(always)).run()
		r.kafka.produce(t0, 50, 10)
		r.kafka.give(t0)
		r.until("all committed", func() bool { return r.kafka.storedAt(t0) == 50 })
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		r.kafka.with(func() { r.kafka.ids["t"], r.kafka.log[t0] = "T2", nil }) // deleted, made again, and longer than before
		r.kafka.produce(t0, 80, 10)
		before := len(b.of(t0))
		r = r.again(small(), b.keeping(always)).run()
		r.kafka.give(t0)
		r.until("all committed", func() bool { return r.kafka.storedAt(t0) == 80 })
		if n := len(b.of(t0)) - before; n != 80 {
			t.Errorf("%d of 80 messages of the new topic were delivered", n)
		}
		if len(r.logs.With("earlier topic of this name")) != 1 || len(r.logs.With("do not apply")) == 0 {
			t.Error("nothing was said about it")
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// Restart after restart on one volume: nothing is lost, nothing comes twice, whatever was under way.
func TestRestartsLoseAndRepeatNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		do := b.keeping(func(*Delivery) Verdict { <-time.After(10 * time.Millisecond); return good })
		r := newRig(t, small(), do)
		r.kafka.produce(t0, 300, 10)
		r.kafka.produce(t1, 300, 10)
		for n := 0; r.kafka.storedAt(t0)+r.kafka.storedAt(t1) < 600; n++ {
			if n > 0 {
				r = r.again(small(), do)
			}
			r.run()
			r.kafka.give(t0, t1)
			pass(time.Duration(100+n*7) * time.Millisecond)
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			if n > 100 {
				t.Fatal("no progress")
			}
		}
		for _, p := range []kafka.Partition{t0, t1} {
			got := b.of(p)
			for i, a := range got {
				if want := fmt.Sprintf("%s/%d#1", p, i); a != want {
					t.Fatalf("%s came instead of %s", a, want)
				}
			}
			if len(got) != 300 {
				t.Errorf("%s: %d delivered", p, len(got))
			}
		}
	})
}

// The consumer that closes must not find the cluster's client in use: it is a handle into C.
func TestClusterIsClosedWhenNobodyAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(always))
		asking := -1
		r.kafka.clusterClosed = func(n int) { asking = n }
		r.run()
		r.kafka.give(t0)
		r.kafka.spoil(func(q string) error {
			if q == "topics" {
				<-time.After(2 * time.Second)
			}
			return nil
		}, nil)
		pass(3 * time.Second) // the watch is in the middle of its question
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if asking != 0 {
			t.Errorf("closed with %d questions under way (-1: not closed)", asking)
		}
	})
}
