package forwarder

import (
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
)

// stamp gives the messages of a partition the times that of says.
func (r *rig) stamp(t kafka.Partition, of func(offset int64) time.Time) {
	r.kafka.with(func() {
		for _, m := range r.kafka.log[t] {
			m.Timestamp = of(m.Offset).UnixMilli()
		}
	})
}

// partitionStatus is the Status of one partition.
func (r *rig) partitionStatus(t kafka.Partition) PartitionStatus {
	r.Helper()
	for _, p := range r.f.Status().Partitions {
		if p.Partition == t {
			return p
		}
	}
	r.Fatalf("%s is not there", t)
	return PartitionStatus{}
}

// bounds is how often Kafka was asked where partitions end.
func (r *rig) countBounds() (asked func() int) {
	n := 0
	r.kafka.with(func() {
		r.kafka.clusterFault = func(question string) error {
			if question == "bounds" {
				r.kafka.with(func() { n++ })
			}
			return nil
		}
	})
	return func() (was int) { r.kafka.with(func() { was, n = n, 0 }); return was }
}

// What a snapshot says of a partition at work: its end, what is done behind the oldest message without an outcome, how old that one
// is, how many are under way and how many wait; and of a partition with nothing to do.
func TestStatusOfAPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		cfg.Order, cfg.Concurrency = OrderNone, 4
		hold := make(chan struct{})
		r := newRig(t, cfg, handle(func(d *Delivery) Verdict {
			if d.Partition == t0 && (d.Offset == 3 || d.Offset >= 50) {
				<-hold
			}
			return good
		}))
		begun := time.Now()
		r.kafka.produce(t0, 60, 10)
		r.stamp(t0, func(o int64) time.Time { return begun.Add(-time.Hour + time.Duration(o)*time.Second) })
		r.run()
		if s := r.f.Status(); s.State != Starting || s.Cluster != "" {
			t.Errorf("before it is a member: %s, cluster %q", s.State, s.Cluster)
		}
		r.kafka.give(t0, t1)
		synctest.Wait()
		first := untilNext(sampleTime)
		pass(first + time.Second)
		s := r.f.Status()
		if s.State != Running || s.Cluster != "C" || s.Service.InFlight != 4 || s.Service.Waiting != 11-4 {
			t.Errorf("%s, cluster %q, in flight %d, waiting %d", s.State, s.Cluster, s.Service.InFlight, s.Service.Waiting)
		}
		p := r.partitionStatus(t0)
		if lag, open := p.Lag(); p.Next != 3 || p.End != 60 || p.High != 60 || p.Done != 46 || p.Outstanding != 11 || p.InFlight != 4 || lag != 57 || open != 11 {
			t.Errorf("%+v, lag %d, open %d", p, lag, open)
		}
		if want := time.Since(begun) + time.Hour - 3*time.Second; p.Oldest != want {
			t.Errorf("the oldest one is %s old, want %s", p.Oldest, want)
		}
		if want := 49 / first.Seconds() / 2; p.PerSecond < want*0.9 || p.PerSecond > want*1.1 {
			t.Errorf("%f outcomes a second after 49 in %s, half of that is %f", p.PerSecond, first, want)
		}
		if p := r.partitionStatus(t1); p.End != 0 || p.Oldest != 0 || p.PerSecond != 0 || p.InFlight != 0 || p.Done != 0 || p.Paused != nil {
			t.Errorf("nothing to do: %+v", p)
		}
		close(hold)
		pass(time.Minute)
		if p := r.partitionStatus(t0); p.Oldest != 0 || p.InFlight != 0 || p.End != 60 || p.Next != 60 || p.PerSecond > 0.1 {
			t.Errorf("all is done: %+v", p)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if s := r.f.Status(); s.State != Stopping {
			t.Errorf("after a stop: %s", s.State)
		}
	})
}

// Kafka is asked where partitions end every 5 s at the most, and only while there is something to do, or somebody wants to know of
// partitions that are not silent.
func TestBoundsAreAskedForAReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := bad
		r := newRig(t, small(), handle(func(d *Delivery) Verdict { return answer }))
		asked := r.countBounds()
		r.kafka.produce(t0, 3, 10)
		r.run()
		r.kafka.give(t0)
		asked()
		pass(time.Minute + time.Second)
		if n := asked(); n < 12 || n > 13 {
			t.Errorf("%d questions in a minute with something to do", n)
		}
		answer = good
		r.until("all done", func() bool { return r.kafka.storedAt(t0) == 3 })
		asked()
		pass(10 * time.Minute)
		if n := asked(); n > 21 { // silent.go's
			t.Errorf("%d questions in 10 minutes of idling", n)
		}
		for range 600 {
			r.f.Counts()
			r.f.Status()
			pass(time.Second)
		}
		if n := asked(); n > 21 {
			t.Errorf("%d questions in 10 minutes of idling in which somebody looks on", n)
		}
		for range 120 {
			r.kafka.produce(t0, 1, 10)
			r.f.Counts()
			pass(time.Second / 2)
		}
		if n := asked(); n < 11 || n > 13 {
			t.Errorf("%d questions in a minute in which somebody looks on", n)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// The state is paused only where all partitions are, by an operator.
func TestState(t *testing.T) {
	one, other, open := PartitionStatus{Paused: []string{byOperator}}, PartitionStatus{Paused: []string{byFlow, byOperator}}, PartitionStatus{Paused: []string{byFlow}}
	r := newRig(t, small(), handle(always))
	r.f.health.member(true)
	for _, row := range []struct {
		s    Status
		want State
	}{
		{Status{}, Running},
		{Status{Partitions: []PartitionStatus{one, other}}, Paused},
		{Status{Partitions: []PartitionStatus{one, open}}, Running},
		{Status{Partitions: []PartitionStatus{one}, Stopping: true}, Stopping},
	} {
		if got := r.f.state(row.s); got != row.want {
			t.Errorf("%+v is %s, want %s", row.s, got, row.want)
		}
	}
}

// Behind an open transaction both ends are told, and what was read is newer than what was asked.
func TestGaugeBounds(t *testing.T) {
	for _, row := range []struct {
		known     *kafka.Bounds
		position  int64
		end, high int64
	}{
		{nil, 7, -1, -1},
		{&kafka.Bounds{End: 10, High: 20}, 7, 10, 20},
		{&kafka.Bounds{End: 10, High: 20}, 15, 15, 20},
		{&kafka.Bounds{End: 10, High: 20}, 25, 25, 25},
	} {
		var g gauge
		g.position.Store(row.position)
		g.ends.Store(row.known)
		if end, high := g.bounds(); end != row.end || high != row.high {
			t.Errorf("%+v read up to %d: ends at %d and %d, want %d and %d", row.known, row.position, end, high, row.end, row.high)
		}
	}
}

// How old the oldest message is: known to 100 ms, whatever runs are handed over, in bounded memory, forgotten below the oldest one.
func TestAges(t *testing.T) {
	ago := func(d time.Duration) int64 { return time.Now().Add(-d).UnixMilli() }
	for name, row := range map[string]struct {
		n    int
		of   func(i int) int64 // its timestamp
		most int               // entries
	}{
		"one moment":     {10_000, func(i int) int64 { return 1_000_000 + int64(i)/1000 }, 10_000/ageMessages + 2},
		"one an hour":    {500, func(i int) int64 { return int64(i) * 3_600_000 }, 500},
		"without a time": {100, func(i int) int64 { return 0 }, 3},
		"going back":     {200, func(i int) int64 { return ago(time.Duration(i) * time.Hour) }, 200},
	} {
		var a ages
		next := int64(0)
		for i := range row.n {
			a.add(&kafka.Message{Offset: int64(i), Timestamp: row.of(i)}, func() int64 { return next })
		}
		for i := range row.n {
			want := time.UnixMilli(row.of(i))
			if row.of(i) == 0 {
				want = time.Now()
			}
			if at, known := a.at(int64(i)); !known || math.Abs(at.Sub(want).Seconds()) > 1 {
				t.Fatalf("%s: %d is of %s, want %s", name, i, at, want)
			}
		}
		if len(a.list) > row.most {
			t.Errorf("%s: %d entries", name, len(a.list))
		}
		next = int64(row.n) - 1
		for i := range ageMessages + 1 {
			a.add(&kafka.Message{Offset: int64(row.n + i), Timestamp: row.of(0) + 500}, func() int64 { return next })
		}
		if _, known := a.at(next); !known || len(a.list) > 5 {
			t.Errorf("%s: %d entries when all but the newest are done", name, len(a.list))
		}
	}
	var a ages
	for i := range 100_000 {
		a.add(&kafka.Message{Offset: int64(i), Timestamp: int64(i) * 1000}, func() int64 { return 0 })
	}
	if len(a.list) > agesMost+100_000/ageMessages+1 {
		t.Errorf("%d entries of 100,000 messages", len(a.list))
	}
}

// What is not fetched has been there for as long as it is known of.
func TestOldestOfWhatIsNotFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(always)).run()
		r.kafka.give(t0)
		pass(time.Hour)
		r.kafka.with(func() { r.kafka.paused[t0] = true })
		r.kafka.produce(t0, 5, 10)
		forgotten := time.Now()
		r.until("it is noticed", func() bool { return r.partitionStatus(t0).Oldest > 0 })
		if p := r.partitionStatus(t0); p.End != 5 || p.Outstanding != 0 || p.Oldest > time.Since(forgotten)+sampleTime {
			t.Errorf("%+v after %s", p, time.Since(forgotten))
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A pause by flow control is told.
func TestFlowPauseIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, tight(), handle(func(d *Delivery) Verdict { return bad })).run()
		r.kafka.produce(t0, 2000, 1000)
		r.kafka.give(t0, t1)
		pass(time.Minute)
		if p := r.partitionStatus(t0); strings.Join(p.Paused, " ") != byFlow {
			t.Errorf("%+v", p)
		}
		if c := r.f.Counts(); c.WaitingBytes == 0 {
			t.Error("nothing waits")
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}
