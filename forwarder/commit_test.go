package forwarder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/forwarder/start"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// fail sets what is asked before a commit is acknowledged.
func (k *fakeKafka) fail(fault func([]kafka.Commit) error) { k.with(func() { k.commitFault = fault }) }

func (k *fakeKafka) acknowledged() (n int) {
	k.with(func() { n = len(k.commits) })
	return n
}

// marks are the acknowledged commits of t, as marks.
func (k *fakeKafka) marks(t kafka.Partition) (out []start.Mark) {
	k.with(func() {
		for _, c := range k.commits {
			if m, ok := start.ParseMark(c.Meta); ok && c.Partition == t && m.Offset == c.Offset {
				out = append(out, m)
			}
		}
	})
	return out
}

// Nothing is sent before Kafka has the first ceiling: without it nobody would know what a crash left in doubt.
func TestNoRequestBeforeTheFirstCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		r := newRig(t, small(), b.keeping(always))
		r.kafka.fail(func([]kafka.Commit) error { return kafka.ErrNoBroker })
		r.run()
		r.kafka.produce(t0, 10, 10)
		r.kafka.give(t0)
		pass(5 * time.Minute)
		if b.count() > 0 {
			t.Errorf("sent without a commit: %v", b.attempts)
		}
		r.kafka.fail(nil)
		r.until("all committed", func() bool { return r.kafka.storedAt(t0) == 10 })
		first := r.kafka.marks(t0)[0]
		if first.Offset != 0 || first.Ceiling != leastCeiling || first.Cluster != "C" || first.TopicID != "T" || first.Volume != r.store.VolumeID() || first.Lineage == 0 {
			t.Errorf("the first commit says %+v", first)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// No request ever passes the highest ceiling that Kafka has acknowledged, at any pace, and the pace is not held up by it.
func TestNoRequestPassesTheCeiling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		acknowledged, calls := int64(0), 0
		r := newRig(t, small(), handle(func(d *Delivery) Verdict {
			mu.Lock()
			defer mu.Unlock()
			if d.Offset >= acknowledged {
				t.Errorf("offset %d was sent, Kafka has the ceiling %d", d.Offset, acknowledged)
			}
			if d.Offset%100 == 0 {
				<-time.After(time.Millisecond)
			}
			return good
		}))
		r.kafka.fail(func(cs []kafka.Commit) error {
			<-time.After(300 * time.Millisecond) // a slow broker; some of its commits fail
			if calls++; calls%5 == 2 {
				return kafka.ErrRebalancing
			}
			for _, c := range cs {
				m, ok := start.ParseMark(c.Meta)
				if !ok {
					t.Errorf("no mark: %q", c.Meta)
				}
				mu.Lock()
				acknowledged = max(acknowledged, m.Ceiling)
				mu.Unlock()
			}
			return nil
		})
		r.run()
		r.kafka.produce(t0, 30000, 10)
		r.kafka.give(t0)
		begun := time.Now()
		r.until("all committed", func() bool { return r.kafka.storedAt(t0) == 30000 })
		if took := time.Since(begun); took > 20*time.Second {
			t.Errorf("30,000 messages took %s: the ceiling holds them up", took)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// F2: committed is never above what is recorded without a gap, and it never goes back.
func TestCommittedIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(func(d *Delivery) Verdict {
			<-time.After(7 * time.Millisecond)
			if d.Offset%9 == 0 && d.Number() < 3 {
				return bad
			}
			return good
		}))
		last := map[kafka.Partition]int64{}
		commits := 0
		r.kafka.fail(func(cs []kafka.Commit) error {
			for _, c := range cs {
				commits++
				p := r.f.consumer.parts[c.Partition]
				if next, _ := p.rec.Progress(); c.Offset > next {
					t.Errorf("%s: committed %d, recorded %d", c.Partition, c.Offset, next)
				}
				if c.Offset < last[c.Partition] {
					t.Errorf("%s: committed %d after %d", c.Partition, c.Offset, last[c.Partition])
				}
				last[c.Partition] = c.Offset
			}
			return nil
		})
		r.run()
		r.kafka.give(t0, t1)
		r.kafka.produce(t0, 200, 10)
		r.kafka.produce(t1, 200, 10)
		r.until("all committed", func() bool { return r.kafka.storedAt(t0) == 200 && r.kafka.storedAt(t1) == 200 })
		if commits < 20 {
			t.Errorf("only %d commits", commits)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A partition that stands still is not committed again and again, also where it inherits a high ceiling.
func TestIdlePartitionIsNotCommitted(t *testing.T) {
	for _, inherited := range []int64{0, 500000} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, small(), handle(always)).run()
			r.kafka.produce(t0, 100, 10)
			m := start.Mark{Cluster: "C", TopicID: "T", Lineage: 3, Volume: "other", Offset: 20, Ceiling: inherited}
			r.kafka.with(func() { r.kafka.stored[t0] = kafka.Commit{Partition: t0, Offset: 20, Meta: m.Text(start.MarkSize)} })
			r.kafka.give(t0)
			r.until("all committed", func() bool { return r.kafka.storedAt(t0) == 100 })
			pass(time.Minute)
			before := len(r.kafka.callsOf("commit"))
			pass(10 * time.Minute)
			if n := len(r.kafka.callsOf("commit")) - before; n > 0 {
				t.Errorf("inherited ceiling %d: %d commits in ten idle minutes", inherited, n)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
			if last := r.kafka.marks(t0); last[len(last)-1].Ceiling != 0 {
				t.Errorf("handed over with the ceiling %d, and all of the log is done", last[len(last)-1].Ceiling)
			}
		})
	}
}

// A ceiling comes down again when the pace falls: it is what a lost machine flags.
func TestCeilingFollowsThePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(func(*Delivery) Verdict { <-time.After(time.Millisecond / 10); return good })).run()
		r.kafka.give(t0)
		r.kafka.produce(t0, 20000, 10)
		r.until("all committed", func() bool { return r.kafka.storedAt(t0) == 20000 })
		highest := int64(0)
		for _, m := range r.kafka.marks(t0) {
			highest = max(highest, m.Ceiling-m.Offset)
		}
		pass(5 * time.Minute)
		marks := r.kafka.marks(t0)
		last := marks[len(marks)-1]
		if highest < 10*leastCeiling || last.Ceiling-last.Offset > 2*leastCeiling {
			t.Errorf("ceiling up to %d above the commit at 10,000 messages a second, %d when all is still", highest, last.Ceiling-last.Offset)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A commit that waits for the whole group, as long as a member may drain, holds up nothing, whatever commits went before it: a rebalance
// brings several within milliseconds, and the last of them waits until the next members have joined.
func TestNothingWaitsForTheGroup(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		gaps  []time.Duration
		bound time.Duration // REVOKE_TIMEOUT
	}{
		{nil, 5 * time.Second}, {[]time.Duration{time.Millisecond}, 5 * time.Second}, {[]time.Duration{20 * time.Millisecond, time.Millisecond, 0}, 5 * time.Second},
		{[]time.Duration{100 * time.Millisecond, 100 * time.Millisecond}, 5 * time.Second}, {nil, time.Second}, {nil, 20 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBook()
			cfg := small()
			cfg.RevokeTimeout = row.bound
			r := newRig(t, cfg, b.keeping(func(*Delivery) Verdict { <-time.After(time.Millisecond); return good })).run()
			r.kafka.give(t0)
			wait := row.bound + 4*time.Second
			all := int64(wait/time.Millisecond) + 5000 // more than are delivered in the wait
			r.kafka.produce(t0, int(all), 10)
			pass(3*time.Second + 7*time.Millisecond)
			for _, gap := range row.gaps {
				r.f.committer.now()
				pass(gap)
			}
			r.kafka.fail(func([]kafka.Commit) error { <-time.After(wait); return kafka.ErrRebalancing })
			r.f.committer.now()
			before := b.count()
			pass(wait)
			if n, want := b.count()-before, int(wait/time.Millisecond); n < want*97/100 {
				t.Errorf("commits %v apart: %d messages in the %v for which a commit waited, at 1,000 a second", row.gaps, n, wait)
			}
			r.kafka.fail(nil)
			r.until("all committed", func() bool { return r.kafka.storedAt(t0) == all })
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A message far behind the one before it gets its ceiling also while no commit has anything else to say: an old one fails,
// and what lies between them was done by another machine, or is not in the log.
func TestCeilingIsRaisedOverAGap(t *testing.T) {
	for name, m := range map[string]start.Mark{
		"done before":    {Offset: 10, Done: offsets.Ranges{{From: 11, To: 130}}},
		"not in the log": {Offset: 10},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := small()
			cfg.Order = OrderNone
			b := newBook()
			r := newRig(t, cfg, b.keeping(func(d *Delivery) Verdict {
				if d.Offset == 10 {
					return bad
				}
				return good
			})).run()
			m.Cluster, m.TopicID, m.Lineage, m.Volume = "C", "T", 3, "other"
			r.kafka.produce(t0, 140, 10)
			r.kafka.with(func() {
				if len(m.Done) == 0 {
					r.kafka.log[t0] = slices.Delete(r.kafka.log[t0], 11, 130)
				}
				r.kafka.stored[t0] = kafka.Commit{Partition: t0, Offset: m.Offset, Meta: m.Text(start.MarkSize)}
			})
			r.kafka.give(t0)
			pass(time.Minute)
			for o := int64(130); o < 140; o++ {
				if !slices.Contains(b.of(t0), fmt.Sprintf("%s/%d#1", t0, o)) {
					t.Errorf("%s: offset %d was not sent within a minute", name, o)
				}
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Commits that fail are tried again at the pace of the interval, whatever the reason, and all ends committed.
func TestFailedCommits(t *testing.T) {
	for _, row := range []struct {
		err       error
		most      int // in two minutes; 800 ticks
		logs      int // of level warn
		least     int // of 100 messages
		delivered int
	}{
		{kafka.ErrRebalancing, 3200, 0, 100, 100}, {kafka.ErrNotMember, 1100, 0, 1, 4}, {kafka.ErrNoBroker, 820, 13, 100, 100}, {errors.New("unknown"), 820, 13, 100, 100},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBook()
			r := newRig(t, small(), b.keeping(func(*Delivery) Verdict { <-time.After(100 * time.Millisecond); return good })).run()
			r.kafka.give(t0)
			r.until("the first commit", func() bool { return r.kafka.storedAt(t0) == 0 })
			r.kafka.fail(func([]kafka.Commit) error { return row.err })
			r.kafka.produce(t0, 100, 10)
			before := len(r.kafka.callsOf("commit"))
			pass(2 * time.Minute)
			if n := len(r.kafka.callsOf("commit")) - before; n > row.most || n < 200 {
				t.Errorf("%v: %d commits in two minutes", row.err, n)
			}
			if n := len(r.logs.With("level=WARN msg=\"commit failed")); n > row.logs || row.logs > 0 && n == 0 {
				t.Errorf("%v: %d warnings in two minutes", row.err, n)
			}
			if n := b.count(); n < row.least || n > row.delivered {
				t.Errorf("%v: %d messages were delivered while commits failed, want %d to %d: all within the ceiling, or hardly one more by who is no member", row.err, n, row.least, row.delivered)
			}
			r.kafka.fail(nil)
			r.until("committed", func() bool { return r.kafka.storedAt(t0) == 100 })
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A broker that allows less metadata gets less, down to the offset alone, and deliveries go on.
func TestMetadataTooLarge(t *testing.T) {
	for _, allowed := range []int{4096, 1000, 200, 30, 10, 0} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, small(), handle(always)).run()
			r.kafka.fail(func(cs []kafka.Commit) error {
				for _, c := range cs {
					if len(c.Meta) > allowed {
						return kafka.ErrMetadataSize
					}
				}
				return nil
			})
			var done offsets.Ranges // more than any mark can hold
			for o := int64(1); o < 3000; o += 2 {
				done = append(done, offsets.Range{From: o, To: o + 1})
			}
			m := start.Mark{Cluster: "C", TopicID: "T", Lineage: 3, Volume: "other", Offset: 0, Done: done}
			r.kafka.with(func() { r.kafka.stored[t0] = kafka.Commit{Partition: t0, Offset: 0, Meta: m.Text(1 << 20)} })
			r.kafka.give(t0)
			r.until("a commit", func() bool { return r.kafka.acknowledged() > 0 })
			if n := len(r.kafka.callsOf("commit")); n > 6 {
				t.Errorf("%d allowed: accepted after %d commits", allowed, n)
			}
			r.kafka.produce(t0, 100, 10)
			r.until("committed", func() bool { return r.kafka.storedAt(t0) == 100 })
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A broker that takes less than it took, or nothing, does not keep the last progress of a partition from being handed over.
func TestMetadataTooLargeAtAHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(always)).run()
		r.kafka.give(t0)
		r.until("a commit", func() bool { return r.kafka.acknowledged() > 0 })
		r.kafka.fail(func(cs []kafka.Commit) error {
			if len(cs[0].Meta) > 0 {
				return kafka.ErrMetadataSize
			}
			return nil
		})
		r.kafka.produce(t0, 10, 10)
		r.kafka.call(func() {})
		r.until("delivered", func() bool { return r.f.consumer.parts[t0].rec.Next() == 10 })
		const move = "the pause does not survive a move"
		if _, err := r.f.Pause(t.Context(), "op", "t", 0); err != nil || !strings.Contains(strings.Join(r.f.Notes(), "; "), move) || !strings.Contains(r.f.PausedHere(), move) {
			t.Errorf("%v, %q", err, r.f.Notes())
		}
		r.kafka.take(false, t0)
		if at := r.kafka.storedAt(t0); at != 10 {
			t.Errorf("handed over with %d committed, want 10", at)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// What is done out of order, and each attempt that fails, is in Kafka's commit within KPUSH_COMMIT_INTERVAL, also while the
// oldest message keeps its place: another machine repeats and forgets no more than that.
func TestCommitsTellOfWhatDoesNotMoveThem(t *testing.T) {
	for _, order := range []string{OrderPartition, OrderNone} {
		synctest.Test(t, func(t *testing.T) {
			cfg := small()
			cfg.Order = order
			var attempts atomic.Int32
			r := newRig(t, cfg, handle(func(d *Delivery) Verdict {
				if d.Offset == 0 {
					attempts.Add(1)
					return bad
				}
				return good
			})).run()
			r.kafka.produce(t0, 40, 10)
			r.kafka.give(t0)
			r.until("five attempts", func() bool { return attempts.Load() == 5 })
			pass(cfg.CommitInterval)
			marks := r.kafka.marks(t0)
			last := marks[len(marks)-1]
			if len(last.Attempts) != 1 || last.Attempts[0].Number != 5 || last.Attempts[0].Faults != 5 {
				t.Errorf("order %s: 5 attempts at 0, and the commit tells of %+v", order, last.Attempts)
			}
			if want := map[string]string{OrderPartition: "", OrderNone: "1-39"}[order]; last.Done.String() != want {
				t.Errorf("order %s: done %q in the commit, want %q", order, last.Done, want)
			}
			before := r.kafka.acknowledged()
			r.kafka.produce(t0, 1, 10)
			pass(cfg.CommitInterval + 10*time.Millisecond)
			marks = r.kafka.marks(t0)
			if last := marks[len(marks)-1]; order == OrderNone && last.Done.String() != "1-40" {
				t.Errorf("done %q in the commit right after message 40, %d commits later", last.Done, r.kafka.acknowledged()-before)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A partition that goes before the volume has taken what the service has: whoever gets it sends that again, and flags it.
func TestHandOverOfWhatTheVolumeDidNotTake(t *testing.T) {
	for _, size := range []int{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			cfg, handler := small(), Handler(handle(func(*Delivery) Verdict { pass(time.Second); return good })) // the others are there before the first is done
			if size > 1 {
				cfg, handler = batches(size, OrderPartition, func(*settings) {}), nil
			}
			cfg.DrainTimeout = 5 * time.Second
			r := newRig(t, cfg, handler)
			if size > 1 {
				opened(r, func(posted) reply { return reply{takes: time.Second} })
			}
			r.run()
			r.kafka.give(t0)
			p := r.f.consumer.parts[t0]
			p.page = &brimful{p.page, time.Now().Add(time.Hour), func(what string, _ int64) bool { return what == "done" }} // it takes no outcome
			r.kafka.produce(t0, 8, 10)
			pass(10 * time.Second)
			r.kafka.take(false, t0)
			marks := r.kafka.marks(t0)
			last := marks[len(marks)-1]
			if last.Offset != 0 || last.Ceiling != 0 || len(last.Attempts) != size {
				t.Fatalf("batches of %d: handed over with %+v", size, last)
			}
			for _, a := range last.Attempts {
				if a.Number != 1 || !a.InDoubt {
					t.Errorf("batches of %d: handed over with attempt %+v", size, a)
				}
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A message that is to be skipped, and that the skip log does not take, is known to whoever gets the partition.
func TestHandOverOfWhatTheSkipLogDidNotTake(t *testing.T) {
	for _, size := range []int{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			cfg, handler := small(), Handler(handle(func(*Delivery) Verdict { return Verdict{Class: MessageFault, InDoubt: true} }))
			if size > 1 {
				cfg, handler = batches(size, OrderPartition, func(*settings) {}), nil
			}
			cfg.CanSkip, cfg.RetryNums, cfg.SkipLog = true, 1, t.TempDir() // which is no file
			r := newRig(t, cfg, handler)
			if size > 1 {
				opened(r, func(posted) reply { return reply{status: 500} })
			}
			r.run()
			r.kafka.produce(t0, 4, 10)
			r.kafka.give(t0)
			r.until("the skip log is found out", func() bool { return len(r.f.Ready()) > 0 && strings.Contains(fmt.Sprint(r.f.Ready()), "skip log") })
			r.kafka.take(false, t0)
			marks := r.kafka.marks(t0)
			last := marks[len(marks)-1]
			if last.Offset != 0 || len(last.Attempts) == 0 || last.Attempts[0].Offset != 0 || last.Attempts[0].Faults != 1 || last.Attempts[0].InDoubt != (size == 1) {
				t.Errorf("batches of %d: handed over with %+v", size, last)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// marksOfMany is a rig with so many partitions, whose marks are too much for one commit.
func marksOfMany(t *testing.T, count int32) (r *rig, all []*partition) {
	r = newRig(t, small(), handle(always))
	for n := range count {
		p := r.partition(kafka.Partition{Topic: "t", Number: n})
		for o := range int64(300) {
			p.replay = p.replay.Add(2*o, 2*o+1)
		}
		all = append(all, p)
	}
	return r, all
}

// What Kafka would refuse as one batch of its own topic goes in several commits.
func TestManyMarksGoInSeveralCommits(t *testing.T) {
	const count = 250
	r, all := marksOfMany(t, count)
	calls := 0
	r.kafka.fail(func(cs []kafka.Commit) error {
		size := 0
		for _, c := range cs {
			size += len(c.Topic) + len(c.Meta)
		}
		if calls++; size > commitMost {
			return kafka.ErrNotTaken
		}
		return nil
	})
	if err := r.f.committer.commit(all, alive); err != nil || r.kafka.acknowledged() != count || calls < 2 || calls > 16 {
		t.Errorf("%d of %d partitions in %d commits: %v", r.kafka.acknowledged(), count, calls, err)
	}
}

// Of a commit in several parts only those are made whose partitions are still this process's when their turn comes.
func TestNoPartOfACommitBehindARevoke(t *testing.T) {
	r, all := marksOfMany(t, 250)
	calls := 0
	r.kafka.fail(func([]kafka.Commit) error {
		calls++
		for _, p := range all { // the revoke has not waited for Kafka
			p.stage.Store(gone)
		}
		return nil
	})
	if err := r.f.committer.commit(all, alive); err != nil || calls != 1 {
		t.Errorf("%d commits, of which the second is of partitions that are given up: %v", calls, err)
	}
}

// The last commit of a partition that is given up carries no ceiling: whoever gets it has nothing to doubt.
func TestHandOverHasNoCeiling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(always)).run()
		r.kafka.produce(t0, 100, 10)
		r.kafka.give(t0, t1)
		r.until("delivered", func() bool { return r.kafka.storedAt(t0) == 100 })
		r.kafka.take(false, t0)
		marks := r.kafka.marks(t0)
		if last := marks[len(marks)-1]; last.Ceiling != 0 || last.Offset != 100 || len(last.Attempts) != 0 {
			t.Errorf("handed over with %+v", last)
		}
		if alive := marks[len(marks)-2]; alive.Ceiling < 1000 {
			t.Errorf("while alive: %+v", alive)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// F4: when the revoke has returned no commit of the partition is made any more, however slow Kafka is and whatever it says: neither
// by a commit in several parts that was under way, nor by the last one.
func TestNoCommitAfterARevoke(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		slow time.Duration
		err  error
	}{
		{"fails at once", 0, kafka.ErrNoBroker},
		{"slow, then fails", 20 * time.Second, kafka.ErrNoBroker},
		{"slow, then rebalancing", 20 * time.Second, kafka.ErrRebalancing},
		{"slow, then works", 20 * time.Second, nil},
		{"just within its time, then fails", 2900 * time.Millisecond, kafka.ErrNoBroker},
		{"slow, then one topic is refused", 20 * time.Second, kafka.ErrNotTaken},
		{"slow, then one topic is gone", 2900 * time.Millisecond, kafka.ErrNoTopic},
	} {
		for _, under := range []time.Duration{0, 5*time.Second + 50*time.Millisecond} { // so long commits are slow: the last one is, or others are under way
			for _, lost := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					name := fmt.Sprintf("%s, for %s, lost %t", row.name, under, lost)
					r := newRig(t, twoTopics(), handle(func(*Delivery) Verdict { <-time.After(time.Second); return good })).run()
					r.kafka.produce(t0, 1000, 10)
					r.kafka.produce(u0, 1000, 10)
					r.kafka.give(t0, t1, u0)
					r.until("some progress", func() bool { return r.kafka.storedAt(t0) > 2 && r.kafka.storedAt(u0) > 2 })
					r.kafka.fail(func([]kafka.Commit) error { <-time.After(row.slow); return row.err })
					pass(under)
					begun := time.Now()
					r.kafka.take(lost, t0, u0)
					if took := time.Since(begun); took > 5*time.Second {
						t.Errorf("%s: the revoke took %s", name, took)
					}
					calls := len(r.kafka.callsOf("commit t/0@")) + len(r.kafka.callsOf("commit u/0@"))
					pass(2 * time.Minute)
					if all := append(r.kafka.callsOf("commit t/0@"), r.kafka.callsOf("commit u/0@")...); len(all) > calls {
						t.Errorf("%s: after the revoke %d more", name, len(all)-calls)
					}
					r.kafka.fail(nil)
					if err := r.stop(); err != nil {
						t.Error(err)
					}
					pass(row.slow) // one that proves the membership may be under way
				})
			}
		}
	}
}

// Readiness names a commit that Kafka does not answer, and the group's poll loop goes on turning meanwhile.
func TestSilentBrokerIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		r := newRig(t, small(), b.keeping(always)).run()
		r.kafka.give(t0)
		r.until("the first commit", func() bool { return r.kafka.storedAt(t0) == 0 })
		r.kafka.fail(func([]kafka.Commit) error { <-time.After(100 * time.Second); return nil })
		r.kafka.produce(t0, leastCeiling, 10)
		pass(90 * time.Second)
		if why := fmt.Sprint(r.f.Ready()); !strings.Contains(why, "Kafka has not answered a commit for 1m") {
			t.Errorf("ready says %s", why)
		}
		if why := r.f.Live(); len(why) > 0 || b.count() != leastCeiling {
			t.Errorf("health %q, %d delivered", why, b.count())
		}
		r.kafka.fail(nil)
		r.until("committed", func() bool { return r.kafka.storedAt(t0) == leastCeiling })
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// The committer ends when it is told, also with a commit that Kafka never answers.
func TestCommitterIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(always))
		p := r.partition(t0)
		ctx, end := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.f.committer.run(ctx) }()
		r.f.committer.now()
		r.f.committer.now() // asking twice is asking once
		synctest.Wait()
		if n := len(r.kafka.callsOf("commit")); n != 1 {
			t.Errorf("%d commits at once, want 1", n)
		}
		p.push(&kafka.Message{Partition: kafka.Partition{Topic: "t"}, Offset: 0})
		pass(250 * time.Millisecond)
		if r.kafka.storedAt(t0) != 1 {
			t.Errorf("committed %d after an interval", r.kafka.storedAt(t0))
		}
		end()
		<-done
		drained(p, 0, errStopping)
	})
}
