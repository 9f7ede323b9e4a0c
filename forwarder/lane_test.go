package forwarder

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/forwarder/pace"
	"github.com/kpush/kpush/kafka"
)

var (
	t0, t1, t2 = kafka.Partition{Topic: "t"}, kafka.Partition{Topic: "t", Number: 1}, kafka.Partition{Topic: "t", Number: 2}
	good       = Verdict{Class: Delivered}
	bad        = Verdict{Class: MessageFault, Status: 500, Reason: "the service answered 500"}
)

// book is a Handler's record of the attempts it made.
type book struct {
	mu       sync.Mutex
	attempts []string // "t/0/5#1"
	inFlight map[kafka.Partition]int
	most     map[kafka.Partition]int // in flight at the same time
	after    map[kafka.Partition]bool
	late     []string // attempts of partitions in after
}

func newBook() *book {
	return &book{inFlight: map[kafka.Partition]int{}, most: map[kafka.Partition]int{}, after: map[kafka.Partition]bool{}}
}

func (b *book) begin(d *Delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	entry := fmt.Sprintf("%s/%d#%d", d.Partition, d.Offset, d.Number())
	b.attempts = append(b.attempts, entry)
	if b.inFlight[d.Partition]++; b.inFlight[d.Partition] > b.most[d.Partition] {
		b.most[d.Partition] = b.inFlight[d.Partition]
	}
	if b.after[d.Partition] {
		b.late = append(b.late, entry)
	}
}

func (b *book) end(d *Delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inFlight[d.Partition]--
}

func (b *book) of(t kafka.Partition) (out []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.attempts {
		if strings.HasPrefix(a, t.String()+"/") {
			out = append(out, a)
		}
	}
	return out
}

func (b *book) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.attempts)
}

// keeping is a Handler that notes each attempt and lets do answer it.
func (b *book) keeping(do func(d *Delivery) Verdict) Handler {
	return handle(func(d *Delivery) Verdict {
		b.begin(d)
		defer b.end(d)
		return do(d)
	})
}

// F3: in a lane, attempt or message n+1 starts after the outcome of n, whatever fails in between; other lanes go on.
func TestOrderInALane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, rng := newBook(), rand.New(rand.NewPCG(1, 2))
		var mu sync.Mutex
		r := newRig(t, small(), b.keeping(func(d *Delivery) Verdict {
			mu.Lock()
			took, fails := time.Duration(rng.IntN(50))*time.Millisecond, rng.IntN(4) == 0
			mu.Unlock()
			<-time.After(took)
			if fails {
				return bad
			}
			return good
		})).run()
		tps := []kafka.Partition{t0, t1, t2}
		r.kafka.give(tps...)
		for range 10 {
			for _, p := range tps {
				r.kafka.produce(p, 20, 10)
			}
			pass(time.Second)
		}
		r.until("all committed", func() bool {
			return r.kafka.storedAt(t0) == 200 && r.kafka.storedAt(t1) == 200 && r.kafka.storedAt(t2) == 200
		})
		for _, p := range tps {
			if b.most[p] != 1 {
				t.Errorf("%s: %d requests at the same time", p, b.most[p])
			}
			offset, number := int64(-1), 0
			for _, a := range b.of(p) {
				var o int64
				var n int
				if _, err := fmt.Sscanf(a, p.String()+"/%d#%d", &o, &n); err != nil {
					t.Fatal(err)
				}
				if !(o == offset && n == number+1 || o == offset+1 && n == 1) {
					t.Fatalf("%s: %s follows %d#%d", p, a, offset, number)
				}
				offset, number = o, n
			}
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if r.turnsTaken() != 0 || r.f.budget.held.Load() != 0 {
			t.Errorf("%d slots and %d bytes are held after the end", r.turnsTaken(), r.f.budget.held.Load())
		}
	})
}

// F4: when the revoke has returned nothing of the partition starts, is recorded or committed; the others go on.
func TestNothingAfterARevoke(t *testing.T) {
	for _, lost := range []bool{false, true} {
		for _, moment := range []string{"in flight", "between attempts", "queued"} {
			synctest.Test(t, func(t *testing.T) {
				b := newBook()
				cfg := small()
				if moment == "queued" {
					cfg.Concurrency = 1
				}
				r := newRig(t, cfg, b.keeping(func(d *Delivery) Verdict {
					if moment == "between attempts" && d.Partition == t0 && d.Offset == 5 {
						return bad
					}
					select {
					case <-time.After(3 * time.Second):
						return good
					case <-d.Attempt().Done():
						return Verdict{Class: Aborted, InDoubt: true}
					}
				})).run()
				r.kafka.produce(t0, 100, 10)
				r.kafka.produce(t1, 100, 10)
				r.kafka.give(t0, t1)
				r.until("some progress", func() bool { return len(b.of(t0)) >= 7 })
				p := r.f.consumer.parts[t0]
				r.kafka.take(lost, t0)
				b.mu.Lock()
				b.after[t0] = true
				if b.inFlight[t0] != 0 {
					t.Errorf("%s, lost %t: the revoke returned with a request under way", moment, lost)
				}
				b.mu.Unlock()
				calls := len(r.kafka.callsOf("commit " + t0.String() + "@"))
				next, _ := p.rec.Progress()
				others := len(b.of(t1))
				pass(time.Minute)
				if len(b.late) > 0 || len(r.kafka.callsOf("commit "+t0.String()+"@")) != calls {
					t.Errorf("%s, lost %t: after the revoke %v began, %v", moment, lost, b.late, r.kafka.callsOf("commit " + t0.String() + "@")[calls:])
				}
				if now, _ := p.rec.Progress(); now != next {
					t.Errorf("%s, lost %t: progress went from %d to %d after the revoke", moment, lost, next, now)
				}
				if stored := r.kafka.storedAt(t0); !lost && stored != next || stored > next {
					t.Errorf("%s, lost %t: committed %d of %d", moment, lost, stored, next)
				}
				if len(b.of(t1)) <= others {
					t.Errorf("%s, lost %t: the partition that stays stands still", moment, lost)
				}
				if recorded, _ := p.rec.Write([]int64{next}, nil, nil); recorded == nil {
					t.Error("the file takes records of a partition that has gone")
				}
				if err := r.stop(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A revoked partition may finish what is under way within REVOKE_TIMEOUT, and no longer; one of a stop within DRAIN_TIMEOUT, but not when
// the group waits for it. A lost one gets no time, nor does one that is lost meanwhile.
func TestDrainDeadline(t *testing.T) {
	const revoked, lost, stopped = 0, 1, 2
	groupWaits := func(k *fakeKafka) { // an Unsubscribe meanwhile would be put off
		k.rebalancing = true
		time.AfterFunc(5*time.Second, func() { k.with(func() { k.rebalancing = false }) })
	}
	expelled := func(k *fakeKafka) { k.member = "" }
	for _, row := range []struct {
		name      string
		how       int
		takes     time.Duration
		bound     time.Duration // REVOKE_TIMEOUT
		poll      string        // max.poll.interval.ms of the user's
		meanwhile func(*fakeKafka)
		most      time.Duration
		committed int64
	}{
		{"in time", revoked, 4 * time.Second, 5 * time.Second, "", nil, 4 * time.Second, 1},
		{"too slow", revoked, time.Hour, 5 * time.Second, "", nil, 5 * time.Second, 0},
		{"in a longer time", revoked, 20 * time.Second, 25 * time.Second, "", nil, 20 * time.Second, 1},
		{"too slow for the poll interval", revoked, time.Hour, 25 * time.Second, "12000", nil, 9 * time.Second, 0},
		{"lost", lost, 20 * time.Second, 25 * time.Second, "", nil, 0, 0},
		{"lost meanwhile", revoked, time.Hour, 25 * time.Second, "", expelled, 3 * time.Second, 0},
		{"a stop", stopped, 20 * time.Second, 5 * time.Second, "", nil, 20 * time.Second, 1},
		{"a stop, too slow for the poll interval", stopped, time.Hour, 5 * time.Second, "12000", nil, 9 * time.Second, 0},
		{"a stop, too slow", stopped, time.Hour, 5 * time.Second, "", nil, 22 * time.Second, 0},
		{"a stop that the group waits for", stopped, time.Hour, 5 * time.Second, "", groupWaits, 7 * time.Second, 0},
		{"a stop of one that is lost meanwhile", stopped, time.Hour, 5 * time.Second, "", expelled, 3 * time.Second, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := small()
			cfg.RevokeTimeout = row.bound
			if row.poll != "" {
				cfg.Kafka["max.poll.interval.ms"] = row.poll
			}
			r := newRig(t, cfg, handle(func(d *Delivery) Verdict {
				select {
				case <-time.After(row.takes):
					return good
				case <-d.Attempt().Done():
					return Verdict{Class: Aborted, InDoubt: true, Reason: "cancelled"}
				}
			})).run()
			r.kafka.produce(t0, 10, 10)
			r.kafka.produce(t1, 10, 10)
			r.kafka.give(t0, t1, kafka.Partition{Topic: "t", Number: 2})
			r.underWay(2)
			begun := time.Now()
			if row.meanwhile != nil {
				time.AfterFunc(1500*time.Millisecond, func() { r.kafka.with(func() { row.meanwhile(r.kafka) }) })
			}
			if row.how == stopped {
				if err := r.stop(); err != nil {
					t.Error(err)
				}
			} else {
				r.kafka.take(row.how == lost, t0, t1)
			}
			if took := time.Since(begun); took > row.most+100*time.Millisecond || took < row.most-time.Second {
				t.Errorf("%s: two partitions took %s, want %s", row.name, took, row.most)
			}
			if row.committed > 0 && r.kafka.storedAt(t0) != row.committed {
				t.Errorf("%s: committed %d, want %d", row.name, r.kafka.storedAt(t0), row.committed)
			}
			want := 0
			if row.takes == time.Hour {
				want = 2 // one of each partition, however often it is drained; none of the third
			}
			if n := len(r.logs.With("still under way when the drain ended")); n != want {
				t.Errorf("%s: %d lines about requests under way, want %d", row.name, n, want)
			}
			if r.turnsTaken() != 0 || r.f.budget.held.Load() != 0 {
				t.Errorf("%s: %d slots, %d bytes are held", row.name, r.turnsTaken(), r.f.budget.held.Load())
			}
			if row.how != stopped {
				if err := r.stop(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// What was cut off at the end of a drain is in doubt for whoever gets the partition: from the file and from the commit.
func TestCutOffIsInDoubtForTheNext(t *testing.T) {
	for _, sameVolume := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, small(), handle(func(d *Delivery) Verdict {
				<-d.Attempt().Done()
				return Verdict{Class: Aborted, InDoubt: true}
			})).run()
			r.kafka.produce(t0, 10, 10)
			r.kafka.give(t0)
			r.underWay(1)
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			if !sameVolume {
				r.dir = t.TempDir()
			}
			var mu sync.Mutex
			var got []string
			r = r.again(small(), handle(func(d *Delivery) Verdict {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, fmt.Sprintf("%d#%d %t", d.Offset, d.Number(), d.InDoubt()))
				return good
			})).run()
			r.kafka.give(t0)
			r.until("all done", func() bool { return r.kafka.storedAt(t0) == 10 })
			if want := []string{"0#2 true", "1#1 false", "2#1 false"}; !slices.Equal(got[:3], want) {
				t.Errorf("same volume %t: %v, want %v", sameVolume, got[:3], want)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// After a kill another machine flags everything that may have been sent, and nothing that has not.
func TestCeilingAfterAKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		r := newRig(t, small(), b.keeping(func(d *Delivery) Verdict {
			if d.Offset < 1500 {
				return good
			}
			<-d.Attempt().Done()
			return Verdict{Class: Aborted}
		})).run()
		r.kafka.produce(t0, 20000, 10)
		r.kafka.give(t0)
		r.until("stuck", func() bool { return len(b.of(t0)) == 1501 })
		pass(time.Minute) // the ceiling comes down to the pace of a lane that stands
		killed := map[kafka.Partition]kafka.Commit{}
		r.kafka.with(func() { killed[t0] = r.kafka.stored[t0] })
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		r.kafka.with(func() { r.kafka.stored[t0] = killed[t0] }) // as if the stop had not been
		r.dir = t.TempDir()
		var mu sync.Mutex
		doubts := map[int64]bool{}
		r = r.again(small(), handle(func(d *Delivery) Verdict {
			mu.Lock()
			defer mu.Unlock()
			doubts[d.Offset] = d.InDoubt()
			return good
		})).run()
		r.kafka.give(t0)
		r.until("all done", func() bool { return r.kafka.storedAt(t0) == 20000 })
		for o := killed[t0].Offset; o <= 1500; o++ {
			if !doubts[o] {
				t.Fatalf("offset %d may have been sent and is not flagged; committed was %q", o, killed[t0].Meta)
			}
		}
		if doubts[19999] {
			t.Error("everything is flagged")
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// What the queue of a lane holds survives its growing, shrinking and the end of the partition.
func TestLaneQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		gate := make(chan struct{})
		r := newRig(t, small(), b.keeping(func(d *Delivery) Verdict { <-gate; return good }))
		p := r.partition(t0)
		next := int64(0)
		for _, step := range []struct{ push, deliver int }{{1, 1}, {5, 2}, {3000, 2500}, {10, 500}, {2, 1}} {
			for range step.push {
				p.push(&kafka.Message{Partition: kafka.Partition{Topic: "t"}, Offset: next})
				next++
			}
			for range step.deliver {
				gate <- struct{}{}
			}
			synctest.Wait()
			if held, want := p.stock.held.Load(), int64(p.rec.Outstanding())*perMessage; held != want || held != r.f.budget.held.Load() {
				t.Errorf("%d bytes held, want %d", held, want)
			}
		}
		close(gate)
		synctest.Wait()
		if n := len(b.of(t0)); int64(n) != next || p.rec.Outstanding() != 0 || p.stock.held.Load() != 0 {
			t.Errorf("%d of %d delivered, %d bytes held", n, next, p.stock.held.Load())
		}
		p.push(&kafka.Message{Partition: kafka.Partition{Topic: "t"}, Offset: next - 1}) // the consumer came again with something that is done
		synctest.Wait()
		if n := len(b.of(t0)); int64(n) != next || r.f.counts.suppressed.Load() != 1 {
			t.Errorf("a finished message was delivered again (%d), filtered %d", n, r.f.counts.suppressed.Load())
		}
		p.stop(errRevoked)
		p.push(&kafka.Message{Partition: kafka.Partition{Topic: "t"}, Offset: next + 5})
		drained(p, time.Second, errRevoked)
		if n := len(b.of(t0)); int64(n) != next || p.stock.held.Load() != 0 || r.f.budget.held.Load() != 0 {
			t.Errorf("after the end: %d delivered, %d bytes held", n, p.stock.held.Load())
		}
	})
}

// The attempts that go into the mark are those of messages without an outcome.
func TestTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(func(d *Delivery) Verdict {
			if d.Offset%2 == 0 && d.Number() < 3 {
				return Verdict{Class: ServiceFault, InDoubt: d.Offset == 0, Reason: "broken"}
			}
			return good
		}))
		p := r.partition(t0)
		for o := range int64(4) {
			p.push(&kafka.Message{Partition: kafka.Partition{Topic: "t"}, Offset: o})
		}
		synctest.Wait()
		if got := fmt.Sprint(p.rec.Unfinished()); got != "[{0 1 0 true}]" {
			t.Errorf("after the first attempt: %s", got)
		}
		pass(time.Minute)
		if got := p.rec.Unfinished(); got != nil || p.rec.Outstanding() != 0 {
			t.Errorf("when all is done: %v, %d outstanding", got, p.rec.Outstanding())
		}
	})
}

// A partition that stops between a batch's turn and its intent is not waited for because of an outcome that the batch before has left
// for that intent.
func TestAStopBeforeTheIntentLeavesNothingUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(always))
		f := r.f
		var p *partition
		f.pace = pace.New(pace.Config{Order: OrderPartition, Concurrency: 1, Hosts: 1, BatchSize: 1}, func(b *pace.Batch) {
			d := &delivery{f: f, batch: b}
			d.attempt.Gate = d
			d.unpack()
			d.run()
			if !d.next() {
				t.Error("there is no second batch")
				return
			}
			d.unpack()
			p.stop(errRevoked)
			d.run()
			if d.next() || d.pen.postponed() {
				t.Error("it goes on")
			}
		}, func(int, error) {})
		p = r.partition(t0)
		f.pace.SetLimit(0)
		load(p, 2, 0)
		f.pace.SetLimit(1)
		synctest.Wait()
		p.lanes.Close()
		p.lanes.Wait() // a deadlock, if it is not over
		if next := p.rec.Next(); next != 1 {
			t.Errorf("everything below %d is on record, want 1", next)
		}
	})
}

// A Handler of a program's own that says nobody waited, although somebody does, must not silence its lane.
func TestHandlerThatAborts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := 3
		r := newRig(t, small(), handle(func(*Delivery) Verdict {
			if left--; left >= 0 {
				return Verdict{Class: Aborted, Reason: "I do not feel like it"}
			}
			return good
		}))
		p := r.partition(t0)
		p.push(&kafka.Message{Partition: t0, Offset: 0})
		p.push(&kafka.Message{Partition: t0, Offset: 1})
		pass(time.Minute)
		if n := p.rec.Outstanding(); n != 0 {
			t.Errorf("%d messages wait for ever behind a Handler that aborts", n)
		}
		drained(p, 0, errStopping)
	})
}
