package forwarder

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/forwarder/start"
	"github.com/kpush/kpush/kafka"
)

// tight is small with a buffer that a few hundred messages fill: 64 KiB in lanes.
func tight() settings {
	c := small()
	c.Buffer = 128 << 10
	return c
}

// highWater watches the budget while the test runs.
func (r *rig) highWater() func() int64 {
	var most int64
	done, end := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			most = max(most, r.f.budget.held.Load())
			select {
			case <-end:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return func() int64 { close(end); <-done; return most }
}

// size of a message that the tests of this file produce.
const kilo = 1000 + perMessage

// F5: whatever the service does, no more is held than the bound and half of it (the other half of KPUSH_BUFFER is the
// client's), and of each partition the one message that crossed it.
func TestBudgetIsBounded(t *testing.T) {
	for name, do := range map[string]func(d *Delivery) Verdict{
		"instant": func(*Delivery) Verdict { return good },
		"slow":    func(*Delivery) Verdict { <-time.After(50 * time.Millisecond); return good },
		"down":    func(*Delivery) Verdict { return Verdict{Class: ServiceFault, Absent: true, Reason: "refused"} },
		"hanging": func(d *Delivery) Verdict { <-d.Attempt().Done(); return Verdict{Class: Aborted} },
		"stuck in one partition": func(d *Delivery) Verdict {
			if d.Partition == t0 {
				return bad
			}
			return good
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, tight(), handle(do)).run()
			most := r.highWater()
			for _, p := range []kafka.Partition{t0, t1, t2} {
				r.kafka.produce(p, 500, 1000)
			}
			r.kafka.give(t0, t1, t2)
			pass(time.Minute)
			if got, bound := most(), r.f.budget.bound; got > bound+bound/2+3*kilo || got < kilo && name != "instant" {
				t.Errorf("%s: %d bytes were held, the bound is %d", name, got, bound)
			}
			if why := r.f.Live(); len(why) > 0 {
				t.Errorf("%s: a service that does not take messages makes kpush ill: %q", name, why)
			}
			if err := r.stop(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if r.f.budget.held.Load() != 0 {
				t.Errorf("%s: %d bytes are held after the end", name, r.f.budget.held.Load())
			}
		})
	}
}

// While one partition is stuck the others flow, also with messages that come when it has filled all it could.
func TestStuckPartitionStarvesNobody(t *testing.T) {
	for _, ahead := range []int{10, 50, 5000} { // messages of the stuck partition: within its share, just the buffer, far more
		for _, meanwhile := range []bool{true, false} { // the others have messages from the beginning
			synctest.Test(t, func(t *testing.T) {
				b := newBook()
				r := newRig(t, tight(), b.keeping(func(d *Delivery) Verdict {
					if d.Partition == t0 {
						return bad
					}
					return good
				})).run()
				r.kafka.produce(t0, ahead, 1000)
				if meanwhile {
					r.kafka.produce(t1, 500, 1000)
				}
				r.kafka.give(t0, t1, t2)
				pass(10 * time.Second)
				r.kafka.produce(t2, 500, 1000)
				if !meanwhile {
					r.kafka.produce(t1, 500, 1000)
				}
				pass(time.Minute)
				if n1, n2 := len(b.of(t1)), len(b.of(t2)); n1 != 500 || n2 != 500 {
					t.Errorf("%d messages ahead, the others meanwhile %t: %d and %d of 500 came through", ahead, meanwhile, n1, n2)
				}
				if err := r.stop(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A partition whose messages take long, and of which a long run is fetched first, does not take the room of one that is quick.
func TestSlowPartitionStarvesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		r := newRig(t, tight(), b.keeping(func(d *Delivery) Verdict {
			if d.Partition == t0 {
				time.Sleep(200 * time.Millisecond)
			}
			return good
		})).run()
		r.kafka.produce(t0, 5000, 1000)
		r.kafka.produce(t1, 500, 1000)
		r.kafka.give(t0, t1)
		pass(time.Minute)
		if slow, quick := len(b.of(t0)), len(b.of(t1)); quick != 500 || slow < 280 || slow > 310 {
			t.Errorf("in a minute %d of the slow partition's 300 and %d of the quick one's 500 came through", slow, quick)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A partition that is stuck is paused once and stays so; when its message is through, it is fetched again. Nothing is
// delivered twice or left out.
func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		var free atomic.Bool
		r := newRig(t, tight(), b.keeping(func(d *Delivery) Verdict {
			if !free.Load() && d.Partition == t0 && d.Offset == 10 {
				return bad
			}
			return good
		})).run()
		r.kafka.produce(t0, 1000, 1000)
		r.kafka.produce(t1, 100, 1000)
		r.kafka.give(t0, t1)
		pass(time.Hour)
		pauses := r.kafka.callsOf("pause t/0")
		if len(pauses) != 1 || len(r.kafka.callsOf("resume t/0")) > 1 || len(b.of(t1)) != 100 {
			t.Errorf("in an hour: %v %v, %d of the other", pauses, r.kafka.callsOf("resume"), len(b.of(t1)))
		}
		free.Store(true)
		r.until("all committed", func() bool { return r.kafka.storedAt(t0) == 1000 })
		var firsts int
		for _, a := range b.of(t0) {
			if strings.HasSuffix(a, "#1") {
				firsts++
			}
		}
		if firsts != 1000 {
			t.Errorf("%d of 1,000 delivered", firsts)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A service that is down stops fetching by pause, not by silence: the group sees a living member, and all goes on by itself.
func TestServiceDownForHours(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var up atomic.Bool
		r := newRig(t, tight(), handle(func(*Delivery) Verdict {
			if !up.Load() {
				return Verdict{Class: ServiceFault, Absent: true, Reason: "refused"}
			}
			return good
		})).run()
		r.kafka.produce(t0, 1000, 1000)
		r.kafka.produce(t1, 1000, 1000)
		r.kafka.give(t0, t1)
		for range 12 {
			pass(5 * time.Minute)
			if why := append(r.f.Live(), r.f.Ready()...); len(why) > 0 {
				t.Fatalf("not well because the service is down: %q", why)
			}
		}
		begun := time.Now()
		r.kafka.give() // an empty rebalance is answered at once
		if took := time.Since(begun); took > time.Second {
			t.Errorf("a rebalance waited %s", took)
		}
		if n := len(r.kafka.callsOf("pause")); n > 4 {
			t.Errorf("paused %d times in an hour", n)
		}
		if notes := fmt.Sprint(r.f.Notes()); !strings.Contains(notes, "KPUSH_BUFFER is full") || !strings.Contains(notes, "the service is down (refused)") {
			t.Errorf("notes %s", notes)
		}
		up.Store(true)
		begun = time.Now()
		r.until("all committed", func() bool { return r.kafka.storedAt(t0) == 1000 && r.kafka.storedAt(t1) == 1000 })
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("took %s after the service was back", took)
		}
		if notes := fmt.Sprint(r.f.Notes()); strings.Contains(notes, "full") || strings.Contains(notes, "blocked") {
			t.Errorf("notes when all is well: %s", notes)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// Partitions that come while a slow service has filled the buffer are delivered at once, not when a long run of one of them
// has trickled through the room that single messages leave.
func TestPartitionsThatComeToAFullBuffer(t *testing.T) {
	t.Parallel()
	for _, concurrency := range []int{16, 8, 1} {
		synctest.Test(t, func(t *testing.T) {
			b := newBook()
			cfg := small()
			cfg.Buffer, cfg.Concurrency = 2<<20, concurrency
			r := newRig(t, cfg, b.keeping(func(*Delivery) Verdict { <-time.After(300 * time.Millisecond); return good })).run()
			all := []kafka.Partition{t0, t1, t2, {Topic: "t", Number: 3}, {Topic: "t", Number: 4}, {Topic: "t", Number: 5}}
			for _, p := range all {
				r.kafka.produce(p, 5000, 100)
			}
			r.kafka.give(t0, t1)
			pass(5 * time.Second)
			most := r.highWater()
			r.kafka.give(all[2:]...)
			pass(3 * time.Second)
			for _, p := range all {
				if len(b.of(p)) == 0 {
					t.Errorf("%d in flight: nothing of %s was sent in the first 3 s", concurrency, p)
				}
			}
			pass(time.Minute)
			if got, bound := most(), r.f.budget.bound; got > bound+bound/2+int64(len(all))*kilo {
				t.Errorf("%d in flight: %d bytes were held, the bound is %d", concurrency, got, bound)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A partition that comes while all are paused does not flood the buffer.
func TestPartitionThatComesWhileAllArePaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, tight(), handle(func(d *Delivery) Verdict {
			if d.Partition == t0 {
				return bad
			}
			<-time.After(100 * time.Millisecond)
			return good
		})).run()
		r.kafka.produce(t0, 1000, 1000)
		r.kafka.give(t0)
		r.until("all paused", func() bool { return len(r.kafka.callsOf("pause t/0")) == 1 })
		pass(5 * time.Second)
		most := r.highWater()
		r.kafka.produce(t1, 1000, 1000)
		r.kafka.give(t1)
		pass(time.Minute)
		if got, bound := most(), r.f.budget.bound; got > 2*bound {
			t.Errorf("%d bytes were held, the bound is %d and KPUSH_BUFFER %d", got, bound, 2*bound)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// Ordinary flow never pauses: that would drop what the client has queued.
func TestNoPauseInOrdinaryFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(func(*Delivery) Verdict { <-time.After(time.Millisecond); return good })).run()
		for _, p := range []kafka.Partition{t0, t1, t2} {
			r.kafka.produce(p, 2000, 100)
		}
		r.kafka.give(t0, t1, t2)
		r.until("all committed", func() bool {
			return r.kafka.storedAt(t0) == 2000 && r.kafka.storedAt(t1) == 2000 && r.kafka.storedAt(t2) == 2000
		})
		if calls := r.kafka.callsOf("pause"); len(calls) > 0 {
			t.Errorf("paused: %v", calls)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// Messages of a partition that was revoked while they were on their way are dropped.
func TestRevokedMessagesAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		r := newRig(t, small(), b.keeping(func(*Delivery) Verdict { return good })).run()
		r.kafka.give(t0, t1)
		r.kafka.take(false, t0)
		r.kafka.with(func() {
			r.kafka.todo = append(r.kafka.todo, &kafka.Message{Partition: t0, Offset: 0}, &kafka.Message{Partition: kafka.Partition{Topic: "t", Number: 1}, Offset: 0}, &kafka.Message{Partition: kafka.Partition{Topic: "u"}, Offset: 0})
		})
		pass(10 * time.Second)
		if got := fmt.Sprint(b.attempts); got != "[t/1/0#1]" {
			t.Errorf("delivered %s", got)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// Offsets without a message (compaction, transaction markers) never stall progress, and lag ends at 0.
func TestHolesInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(func(*Delivery) Verdict { return good })).run()
		r.kafka.with(func() {
			for _, o := range []int64{3, 4, 900, 901, 5000} {
				r.kafka.log[t0] = append(r.kafka.log[t0], &kafka.Message{Partition: kafka.Partition{Topic: "t"}, Offset: o, Value: []byte("v")})
			}
		})
		r.kafka.give(t0)
		r.until("committed", func() bool { return r.kafka.storedAt(t0) == 5001 })
		r.kafka.with(func() { r.kafka.at[t0] = 5007 }) // markers
		r.until("committed behind the markers", func() bool { return r.kafka.storedAt(t0) == 5007 })
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A partition behind the last transaction marker has nothing more to fetch: it is no reason to pause the others.
func TestMarkersAreNotMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, tight(), handle(func(*Delivery) Verdict { <-time.After(20 * time.Millisecond); return good })).run()
		r.kafka.give(t0, t1, t2)
		r.kafka.produce(t1, 1, 10)
		r.until("the other is done", func() bool { return r.kafka.storedAt(t1) == 1 })
		r.kafka.with(func() { r.kafka.at[t1], r.kafka.markers = 2, map[kafka.Partition]int64{t1: 1} })
		pass(time.Second)
		r.kafka.produce(t0, 20, 1000) // more than its share, less than half of the buffer
		r.until("all committed", func() bool { return r.kafka.storedAt(t0) == 20 })
		if calls := r.kafka.callsOf("pause"); len(calls) > 0 {
			t.Errorf("a busy partition was paused for one that has nothing more: %v", calls)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

const fencedText = "Fatal error: Broker: Static consumer fenced by other consumer with same group.instance.id (FENCED_INSTANCE_ID)"

// A client that is of no use ends the process with a sentence; nothing of its partitions is recorded after that, and Close
// is not called: it would block. Nobody else is to blame where the group has expelled this member before.
func TestFatalClient(t *testing.T) {
	for _, row := range []struct {
		kafka.FatalError
		want string
	}{
		{kafka.FatalError{Err: errors.New(fencedText)}, `another process uses the instance id "i-1" in group g`},
		{kafka.FatalError{Err: errors.New(fencedText), Expelled: true}, `group g has expelled this member (instance id "i-1")`},
		{kafka.FatalError{Err: errors.New("Fatal error: out of cheese")}, "the Kafka client cannot go on"},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := small()
			cfg.InstanceID = "i-1"
			r := newRig(t, cfg, handle(func(d *Delivery) Verdict { <-d.Attempt().Done(); return Verdict{Class: Aborted, InDoubt: true} })).run()
			r.kafka.produce(t0, 10, 10)
			r.kafka.give(t0)
			r.underWay(1)
			calls := len(r.kafka.callsOf("commit"))
			r.kafka.report(row.FatalError)
			err := <-r.ended
			if err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), "nothing is lost") || !strings.Contains(err.Error(), row.Error()) {
				t.Errorf("ended with %v", err)
			}
			if why := r.f.Live(); len(why) != 1 || why[0] != err.Error() {
				t.Errorf("health says %q", why)
			}
			if r.kafka.closed || len(r.kafka.callsOf("commit")) != calls || r.turnsTaken() != 0 {
				t.Errorf("closed %t, commits %v, %d slots held", r.kafka.closed, r.kafka.callsOf("commit")[calls:], r.turnsTaken())
			}
		})
	}
}

// What the client says now and then is logged, not more, and ends nothing.
func TestClientErrorsAreNotFatal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(func(*Delivery) Verdict { return good })).run()
		r.kafka.give(t0)
		for _, err := range []error{kafka.ErrNoBroker, kafka.ErrNoTopic, kafka.ErrRebalancing, kafka.PartitionError{Position: kafka.Position{Partition: t1}, Err: kafka.ErrUnreadable}, errors.New("a timeout"), errors.New("a timeout")} {
			r.kafka.report(err)
		}
		r.kafka.produce(t0, 10, 10)
		r.until("all committed", func() bool { return r.kafka.storedAt(t0) == 10 })
		if n := len(r.logs.With("a timeout")); n != 1 {
			t.Errorf("the same report was logged %d times", n)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A stop drains, commits, leaves the group (or only closes, when it means to come back) and returns nil, in that order.
func TestStop(t *testing.T) {
	for _, comesBack := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			cfg := small()
			cfg.ComesBack = comesBack
			r := newRig(t, cfg, handle(func(d *Delivery) Verdict { <-time.After(2 * time.Second); return good })).run()
			r.kafka.produce(t0, 10, 10)
			r.kafka.give(t0)
			r.until("two are done", func() bool { return r.kafka.storedAt(t0) == 2 })
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			r.kafka.with(func() {
				calls, want := strings.Join(r.kafka.calls, ", "), ", commit t/0@3, unassign t/0, leave, close"
				if comesBack {
					want = ", commit t/0@3, unassign t/0, close"
				}
				if !strings.HasSuffix(calls, want) || strings.Contains(calls, "unsubscribe") == comesBack {
					t.Errorf("comes back %t: %v", comesBack, r.kafka.calls)
				}
				if m, ok := start.ParseMark(r.kafka.stored[t0].Meta); !ok || m.Ceiling != 0 || m.Offset != 3 {
					t.Errorf("the last commit says %+v", m)
				}
			})
			if why := r.f.Ready(); !slices.Contains(why, "stopping") {
				t.Errorf("ready says %q", why)
			}
		})
	}
}

// A client that fails while the process stops hands nothing over any more: the stop ends at once, and says so, whatever is under way and
// whoever hears of it.
func TestAStopOfAClientThatFails(t *testing.T) {
	fatal := kafka.FatalError{Err: errors.New(fencedText)}
	for _, row := range []struct {
		name      string
		comesBack bool
		spoil     func(r *rig)
	}{
		{"before the revoke", false, func(r *rig) { r.kafka.with(func() { r.kafka.failsAtTheEnd = true }) }},
		{"before the close", true, func(r *rig) { r.kafka.with(func() { r.kafka.closeFault = fatal }) }},
		{"in the close", false, func(r *rig) { r.kafka.with(func() { r.kafka.closeFault = fatal }) }},
		{"in the drain", false, func(r *rig) {
			time.AfterFunc(500*time.Millisecond, func() { r.kafka.with(func() { r.kafka.member = "" }); r.kafka.report(fatal) })
		}},
		{"in the drain of the close", true, func(r *rig) {
			time.AfterFunc(500*time.Millisecond, func() { r.kafka.with(func() { r.kafka.member, r.kafka.closeFault = "", fatal }) })
		}},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := small()
			cfg.ComesBack = row.comesBack
			r := newRig(t, cfg, handle(func(d *Delivery) Verdict { <-d.Attempt().Done(); return Verdict{Class: Aborted, InDoubt: true} })).run()
			if strings.Contains(row.name, "drain") {
				r.kafka.produce(t0, 10, 10)
			}
			r.kafka.give(t0)
			pass(time.Second)
			row.spoil(r)
			begun := time.Now()
			if err := r.stop(); err == nil || !strings.Contains(err.Error(), "while it stopped: another process uses the instance id") || time.Since(begun) > 5*time.Second {
				t.Errorf("%s: after %s: %v", row.name, time.Since(begun), err)
			}
		})
	}
}

// A stop while the group waits for another member ends in time, and blames no broker; where all is done and committed it is none that
// went wrong.
func TestAStopWhileTheGroupWaits(t *testing.T) {
	for _, row := range []struct {
		name    string
		takes   time.Duration // a message
		waits   bool
		cluster error
		want    string // in the error; "": there is none
	}{
		{"nothing is under way", 0, true, nil, ""},
		{"there is something to commit", 2 * time.Second, true, nil, "because group g waits for another of its members"},
		{"there is something under way", time.Hour, true, nil, "because group g waits for another of its members"},
		{"it has joined in time", 2 * time.Second, false, nil, ""},
		{"nobody answers", 2 * time.Second, true, kafka.ErrNoBroker, "most likely because a broker does not answer"},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, small(), handle(func(*Delivery) Verdict { <-time.After(row.takes); return good })).run()
			r.kafka.produce(t0, 1, 10)
			r.kafka.give(t0)
			pass(time.Second)
			r.kafka.with(func() { r.kafka.rebalancing = true })
			joined := make(chan struct{})
			r.kafka.fail(func([]kafka.Commit) error { <-joined; return nil })
			r.kafka.spoil(func(string) error { return row.cluster }, nil)
			if !row.waits {
				time.AfterFunc(10*time.Second, func() {
					r.kafka.with(func() { r.kafka.rebalancing = false })
					close(joined)
					_ = r.kafka.Unsubscribe() // which was put off
				})
			}
			begun := time.Now()
			err := r.stop()
			if took := time.Since(begun); took > 25*time.Second || row.waits && took < 20*time.Second {
				t.Errorf("%s: the stop took %s", row.name, took)
			}
			if err == nil && row.want != "" || err != nil && (row.want == "" || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), "nothing is lost")) {
				t.Errorf("%s: it ended with %v", row.name, err)
			}
			if n := len(r.logs.With("without having left it")); (n > 0) != (row.waits && row.want == "") {
				t.Errorf("%s: said %d times", row.name, n)
			}
			if row.waits { // the process would end here
				close(joined)
				r.kafka.with(func() { r.kafka.rebalancing = false })
				_ = r.kafka.Unsubscribe()
				pass(2 * time.Hour)
			}
		})
	}
}

// A stop never hangs: not on a request, not on a commit, not on Close.
func TestStopNeverHangs(t *testing.T) {
	for name, spoil := range map[string]func(r *rig){
		"request":      func(*rig) {},
		"commit":       func(r *rig) { r.kafka.commitFault = func([]kafka.Commit) error { <-time.After(time.Hour); return nil } },
		"commit fails": func(r *rig) { r.kafka.commitFault = func([]kafka.Commit) error { return kafka.ErrNoBroker } },
		"close":        func(r *rig) { r.kafka.closing = func() { <-time.After(time.Hour) } },
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, small(), handle(func(d *Delivery) Verdict {
				<-d.Attempt().Done()
				return Verdict{Class: Aborted, InDoubt: true}
			})).run()
			r.kafka.produce(t0, 10, 10)
			r.kafka.give(t0)
			r.underWay(1)
			r.kafka.with(func() { spoil(r) })
			begun := time.Now()
			err := r.stop()
			if took := time.Since(begun); took > 25*time.Second {
				t.Errorf("%s: the stop took %s", name, took)
			}
			if err != nil && !strings.Contains(err.Error(), "KPUSH_DRAIN_TIMEOUT (25s)") || err == nil && name == "close" || err != nil && name == "request" {
				t.Errorf("%s: ended with %v", name, err)
			}
			pass(2 * time.Hour) // lets the hanging calls end
		})
	}
}

// Who idles looks around once a second, and does at once what comes up: what the cluster answers, a message, a stop.
func TestIdleRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var delivered atomic.Int64
		var newest time.Time
		r := newRig(t, small(), handle(func(*Delivery) Verdict { newest = time.Now(); delivered.Add(1); return good })).run()
		r.kafka.produce(t1, 1, 10)
		r.kafka.give(t0)
		pass(2 * idleTime)
		polls := func() (n int) { r.kafka.with(func() { n = r.kafka.polls }); return n }
		before := polls()
		pass(time.Minute)
		if n := polls() - before; n < 50 || n > 70 {
			t.Errorf("%d polls in an idle minute, want about 60", n)
		}
		pass(300 * time.Millisecond) // into the middle of a rest
		r.kafka.give(t1)
		synctest.Wait()
		if n := delivered.Load(); n != 1 {
			t.Errorf("%d messages delivered of a partition that was assigned in a rest, want 1", n)
		}
		pass(2 * idleTime)
		refused, answered := time.Now().Add(time.Minute), time.Time{}
		r.kafka.with(func() {
			r.kafka.committedFault = func() error {
				if answered = time.Now(); answered.Before(refused) {
					return kafka.ErrNoBroker
				}
				return nil
			}
		})
		r.kafka.produce(t2, 1, 10)
		r.kafka.give(t2)
		r.until("a partition that did not start at once", func() bool { return delivered.Load() == 2 })
		if took := newest.Sub(answered); took > 50*time.Millisecond {
			t.Errorf("an answer of the cluster was heard %s late", took)
		}
		pass(2 * idleTime)
		begun := time.Now()
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > 50*time.Millisecond {
			t.Errorf("a stop in a rest took %s", took)
		}
	})
}

// Nobody rests while something is held: the room that a slow service makes is to be used.
func TestNobodyRestsWithSomethingToDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(func(d *Delivery) Verdict { <-d.Attempt().Done(); return Verdict{Class: Aborted} })).run()
		r.kafka.produce(t0, 1, 10)
		r.kafka.give(t0)
		pass(2 * idleTime)
		var before, after int
		r.kafka.with(func() { before = r.kafka.polls })
		pass(time.Minute)
		r.kafka.with(func() { after = r.kafka.polls })
		if n := after - before; n < 500 {
			t.Errorf("%d polls in a minute with a message in flight, want about 600", n)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// Messages larger than the buffer: of many partitions no more are held than one that is delivered beside another one, whatever the
// service does, and all of them come through; one that is stuck holds up no other.
func TestLargeMessages(t *testing.T) {
	for name, verdict := range map[string]func(*Delivery) Verdict{
		"slow": func(*Delivery) Verdict { pass(10 * time.Second); return good },
		"one is stuck": func(d *Delivery) Verdict {
			if pass(time.Second); d.Partition == t0 {
				return bad
			}
			return good
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			const partitions, size = 16, 160_000
			cfg, b := tight(), newBook()
			told := int64(0)
			r := newRig(t, cfg, b.keeping(verdict))
			r.f.parts.Large = func(size int64) { told = size }
			r.run()
			var all []kafka.Partition
			for n := range int32(partitions) {
				all = append(all, kafka.Partition{Topic: "t", Number: n})
				r.kafka.produce(all[n], 2, size)
			}
			most, began := r.highWater(), time.Now()
			r.kafka.give(all...)
			for _, p := range all {
				if stuck := name != "slow" && p == t0; !stuck {
					r.until(p.String(), func() bool { return r.kafka.storedAt(p) == 2 })
				}
			}
			if got, limit := most(), cfg.Buffer+2*(size+perMessage); got > limit {
				t.Errorf("%s: %d bytes were held of messages of %d, the limit is %d", name, got, size, limit)
			}
			if took := time.Since(began); took > partitions*2*11*time.Second {
				t.Errorf("%s: it took %v", name, took)
			}
			if told != 0 { // below a MiB
				t.Errorf("%s: messages of %d are called large", name, told)
			}
			r.kafka.produce(t1, 1, 3<<20)
			r.until("a large one", func() bool { return r.kafka.storedAt(t1) == 3 })
			if told != 3<<20+perMessage {
				t.Errorf("%s: the largest message is said to be %d", name, told)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}
