package forwarder

import (
	"context"
	"errors"
	"maps"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/forwarder/start"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/logbook"
	"github.com/kpush/kpush/offsets"
)

// without0 leaves out what is 0.
func without0(m map[string]int64) map[string]int64 {
	out := maps.Clone(m)
	maps.DeleteFunc(out, func(_ string, n int64) bool { return n == 0 })
	return out
}

// Each message, attempt, commit and rebalance is counted once, under the right word.
func TestCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		cfg.CanSkip, cfg.Order, cfg.SlowTime, cfg.Targets = true, OrderNone, time.Second, []string{"a", "b"}
		r := newRig(t, cfg, handle(func(d *Delivery) Verdict {
			pass(10 * time.Millisecond)
			switch first := d.Number() == 1; {
			case d.Offset == 0:
				return bad // three times: skipped
			case d.Offset == 1 && first:
				return Verdict{Class: Busy, Status: 429}
			case d.Offset == 2 && first:
				return Verdict{Class: ServiceFault, Status: 503}
			case d.Offset == 3 && first:
				return Verdict{Class: MessageFault, InDoubt: true} // no answer
			case d.Offset == 4 && first:
				return Verdict{Class: MessageFault, Status: 400, Spared: true}
			case d.Offset == 5 && first:
				return Verdict{Class: ServiceFault, Reason: "refused"} // the other host is tried at once
			case d.Offset == 6:
				return Verdict{Class: Skip, Status: 200}
			case d.Offset == 7:
				return Verdict{Class: push.GiveUp, Status: 200}
			case d.Offset == 8:
				pass(2 * time.Second)
			}
			return good
		}))
		r.kafka.produce(t0, 20, 10)
		begun := time.Now()
		r.stamp(t0, func(int64) time.Time { return begun.Add(-time.Minute) })
		r.run()
		r.kafka.give(t0)
		r.until("all done", func() bool { return r.kafka.storedAt(t0) == 20 })
		c := r.f.Counts()
		got := c.Topics["t"]
		for what, row := range map[string]struct{ got, want map[string]int64 }{
			"deliveries": {without0(got.Deliveries), map[string]int64{"delivered": 17, "message_fault": 7, "service_fault": 2, "busy": 1}},
			"done":       {without0(got.Done), map[string]int64{"delivered": 17, "skipped": 3}},
			"retries":    {without0(got.Retries), map[string]int64{"message_fault": 2, "no_answer": 1, "service_fault": 1, "busy": 1, "other_host": 1, "headers": 1}},
			"rebalances": {without0(c.Rebalances), map[string]int64{"assigned": 1}},
			"rewinds":    {without0(c.Rewinds), map[string]int64{}},
			"stalled":    {without0(c.Stalled), map[string]int64{}},
		} {
			if !maps.Equal(row.got, row.want) {
				t.Errorf("%s: %v, want %v", what, row.got, row.want)
			}
		}
		if got.Fetched != 20 || got.Slow != 1 || c.InDoubt != 1 || c.FileErrors != 0 || c.Degraded || c.WaitingBytes != 0 {
			t.Errorf("fetched %d, slow %d, in doubt %d, %+v", got.Fetched, got.Slow, c.InDoubt, c)
		}
		if a := got.Attempt; a.Count != 27 || math.Abs(a.Sum-26*0.01-2.01) > 1e-3 || a.Counts[3] != 26 {
			t.Errorf("attempts took %+v", a)
		}
		if e := got.EndToEnd; e.Count != 17 || e.Sum < 17*60 || e.Sum > 17*70 {
			t.Errorf("end to end %+v", e)
		}
		if n := c.Commits["ok"]; n == 0 || c.CommitTime.Count != uint64(n) {
			t.Errorf("commits %v, %d measured", c.Commits, c.CommitTime.Count)
		}
		if len(r.logs.With("slow delivery")) != 1 {
			t.Error("what is slow is not logged")
		}
		r.kafka.take(true, t0)
		if c := r.f.Counts(); c.Rebalances["lost"] != 1 || c.Topics["t"].Fetched != 20 {
			t.Errorf("after a loss: %+v", c)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// What the service has already is confirmed, and what came again suppressed.
func TestConfirmedIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(always))
		r.f.parts.Confirm = func(context.Context, int, string) push.Reply { return push.Reply{Known: true, Has: true} }
		p := r.partition(t0, offsets.Attempt{Offset: 1, Number: 1, InDoubt: true})
		if _, err := handed(p, kafka.Message{Offset: 1}).handle(); err != nil {
			t.Fatal(err)
		}
		p.push(&kafka.Message{Partition: t0, Offset: 1})
		c := r.f.Counts()
		if done := without0(c.Topics["t"].Done); !maps.Equal(done, map[string]int64{"confirmed": 1}) || c.Suppressed != 1 || c.InDoubt != 0 {
			t.Errorf("done %v, suppressed %d, in doubt %d", done, c.Suppressed, c.InDoubt)
		}
	})
}

// A start below what was done or committed before is a rewind, by whoever decided it.
func TestRewindsAreCounted(t *testing.T) {
	saved := &offsets.Saved{Next: 100, Committed: 90}
	for _, row := range []struct {
		saved      *offsets.Saved
		commit, at int64
		by         start.Origin
		want       string
	}{
		{nil, -1, 0, "reset policy", ""},
		{saved, 90, 100, "file", ""},
		{saved, 95, 100, "file", ""},
		{saved, 50, 100, "file", "file"},
		{saved, -1001, 100, "file", "file"},
		{saved, 50, 50, "commit", "commit"},
		{saved, -1001, 0, "reset policy", "reset"},
		{saved, 20, 20, "operator", "operator"},
		{saved, 90, 20, "operator", "operator"},
		{saved, 200, 200, "operator", ""},
	} {
		var c counts
		c.init()
		c.started(&opening{Knowledge: start.Knowledge{Saved: row.saved, Commit: kafka.Commit{Offset: row.commit}}, Decision: start.Decision{Start: offsets.Start{Next: row.at}, By: row.by, Lost: 3}})
		want := map[string]int64{row.want: 1}
		delete(want, "")
		if got := without0(by(rewindWords[:], c.rewinds[:])); !maps.Equal(got, want) || c.lost.Load() != 3 {
			t.Errorf("saved %+v, commit %d, starts at %d by %s: %v", row.saved, row.commit, row.at, row.by, got)
		}
	}
}

// Commits are counted by what Kafka said.
func TestCommitResults(t *testing.T) {
	var c counts
	c.init()
	for _, err := range []error{nil, nil, kafka.ErrRebalancing, kafka.ErrNotMember, errors.New("no")} {
		c.committed(30*time.Millisecond, err)
	}
	if got := by(commitWords[:], c.commits[:]); !maps.Equal(got, map[string]int64{"ok": 2, "rebalancing": 2, "failed": 1}) || c.commitTime.snapshot().Count != 5 {
		t.Errorf("%v", got)
	}
}

// A bound counts what does not exceed it, and a sum does not overflow on what is days old.
func TestHistogram(t *testing.T) {
	h := newHistogram(time.Millisecond, times(1, 2))
	for _, d := range []time.Duration{-time.Second, 0, time.Second, 1001 * time.Millisecond, 2 * time.Second, time.Hour} {
		h.observe(d)
	}
	s := h.snapshot()
	if s.Count != 6 || s.Counts[0] != 3 || s.Counts[1] != 5 || s.Sum != 3600+1+1.001+2 || s.Bounds[0] != 1 || s.Bounds[1] != 2 {
		t.Errorf("%+v", s)
	}
	h.sum.Store(0)
	const age = 1000 * 24 * time.Hour
	for range 1000 {
		h.observe(age)
	}
	if perMessage := h.sum.Load() / 1000; math.MaxInt64/perMessage < 1e8 {
		t.Errorf("it overflows after %d messages", math.MaxInt64/perMessage)
	}
}

// What is counted of a message allocates nothing.
func TestCountingAllocatesNothing(t *testing.T) {
	r := newRig(t, small(), handle(always))
	p := r.partition(t0)
	it := given(p, kafka.Message{Offset: 1, Timestamp: 1})
	it.verdict = good
	m := &kafka.Message{Timestamp: 1}
	how := [len(outcomeWords)]int64{1}
	if n := testing.AllocsPerRun(1000, func() {
		m.Offset++
		p.gauge.position.Store(m.Offset)
		p.gauge.topic.fetched.Add(1)
		p.gauge.ages.add(m, p.rec.Next)
		p.gauge.underWay.Add(1)
		p.gauge.topic.attempted(it, false, time.Now())
		p.gauge.topic.attempt.observe(time.Millisecond)
		p.gauge.underWay.Add(-1)
		p.gauge.ended(how)
	}); n != 0 {
		t.Errorf("%v allocations a message", n)
	}
}

// BenchmarkDelivery is a message's way through the forwarder, from its push to its record, beside a handler that does nothing.
func BenchmarkDelivery(b *testing.B) {
	r := &rig{T: &testing.T{}, kafka: newFakeKafka(), logs: &logbook.Book{}, dir: b.TempDir()}
	r.build(small(), handle(always))
	defer r.store.Close()
	p := r.partition(t0)
	b.ReportAllocs()
	for i := range int64(b.N) {
		p.push(&kafka.Message{Partition: t0, Offset: i, Timestamp: 1700000000000 + i})
		for p.rec.Outstanding() > 1000 {
			time.Sleep(10 * time.Microsecond)
		}
	}
	for p.rec.Outstanding() > 0 {
		time.Sleep(10 * time.Microsecond)
	}
}

// A record's time may be anything: a producer that counts in microseconds writes of the year 57,000. That is of the future, and took no time.
func TestEndToEndOfAnyTime(t *testing.T) {
	now := time.Now()
	for timestamp, want := range map[int64]time.Duration{
		now.UnixMilli() - 1500: 1500 * time.Millisecond, now.UnixMilli() + 1500: 0, now.UnixMicro(): 0, now.UnixNano(): 0, math.MaxInt64: 0, math.MaxInt64 / 2: 0, 1: time.Duration(now.UnixMilli()-1) * time.Millisecond,
	} {
		topic := topicCounts{endToEnd: newHistogram(time.Millisecond, endToEndBounds)}
		topic.attempted(&item{Item: push.Item{Message: &kafka.Message{Timestamp: timestamp}}}, false, now)
		if e := topic.endToEnd.snapshot(); e.Count != 1 || math.Abs(e.Sum-want.Seconds()) > 0.01 {
			t.Errorf("%d: %v s, want %v", timestamp, e.Sum, want)
		}
	}
}
