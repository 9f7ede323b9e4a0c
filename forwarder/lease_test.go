package forwarder

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// A process that has stood still sends nothing until Kafka has taken a commit from it.
func TestNothingIsSentBeforeTheMembershipIsProven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		r := newRig(t, small(), b.keeping(always)).run()
		r.kafka.produce(t0, 10, 10)
		r.kafka.give(t0)
		r.until("the first ones", func() bool { return r.kafka.storedAt(t0) == 10 })
		commits := len(r.kafka.callsOf("commit"))
		r.kafka.fail(func([]kafka.Commit) error { return kafka.ErrNotMember })
		r.f.lease.pulse.Store(ago(10 * time.Second)) // SIGSTOP, then SIGCONT
		r.kafka.produce(t0, 10, 10)
		pass(time.Minute)
		if n := b.count(); n != 10 {
			t.Errorf("%d were sent by somebody who may have lost the partition, want the first 10", n)
		}
		if n := len(r.kafka.callsOf("commit")); n == commits {
			t.Error("nobody asked Kafka whether this process is still a member")
		}
		r.kafka.fail(nil)
		r.until("it goes on", func() bool { return r.kafka.storedAt(t0) == 20 })
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A process that Kafka does not answer sends nothing any more, well before the group may have given its partitions away, and
// goes on by itself. That counts from Kafka's last word, whatever the interval of commits; where the group says that this process is no
// member, from then on. A group that says that it is one, and has no time for commits, holds up nothing.
func TestNothingIsSentByWhoIsCutOff(t *testing.T) {
	away := func(string) error { return kafka.ErrNoBroker }
	for _, row := range []struct {
		name     string
		session  string
		interval time.Duration
		cluster  func(string) error // the other client's way to Kafka
		listed   string             // in the group
		least    int                // of messages of a second each
		most     int
	}{
		{"", "", 200 * time.Millisecond, away, "", 6, 9},
		{"a short session", "6000", 200 * time.Millisecond, away, "", 3, 6},
		{"few commits", "", 5 * time.Second, away, "", 6, 9},
		{"hardly any commits", "", time.Minute, away, "", 6, 9},
		{"expelled", "", 200 * time.Millisecond, nil, "another", 1, 3},
		{"the group waits", "", 200 * time.Millisecond, nil, "me", 60, 61},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBook()
			cfg := small()
			cfg.Kafka = map[string]string{"session.timeout.ms": row.session}
			cfg.CommitInterval = row.interval
			r := newRig(t, cfg, b.keeping(func(*Delivery) Verdict { <-time.After(time.Second); return good })).run()
			r.kafka.produce(t0, 90, 10)
			r.kafka.give(t0)
			r.until("the first ones", func() bool { return b.count() == 5 })
			commits := r.kafka.acknowledged()
			r.until("a commit", func() bool { return r.kafka.acknowledged() > commits })
			answer := make(chan struct{})
			r.kafka.fail(func([]kafka.Commit) error { <-answer; return nil })
			r.kafka.with(func() { r.kafka.clusterFault, r.kafka.listed = row.cluster, row.listed })
			before := b.count()
			pass(time.Minute)
			if n := b.count() - before; n < row.least || n > row.most {
				t.Errorf("%s: %d messages of a second each were sent while no commit was answered, want %d to %d", row.name, n, row.least, row.most)
			}
			close(answer)
			r.kafka.with(func() { r.kafka.clusterFault, r.kafka.listed = nil, "me" })
			r.until("it goes on", func() bool { return r.kafka.storedAt(t0) == 90 })
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// How long something lasts does not depend on the wall clock.
func TestTimesThatPassThoughTheClockIsSet(t *testing.T) {
	for _, wall := range []time.Duration{0, time.Hour, -time.Hour} {
		then, now := ahead(time.Now().Add(-time.Minute), wall), time.Now()
		var s stock
		if s.touch(then); s.idle(now).Round(time.Second) != time.Minute {
			t.Errorf("set by %s: a partition without progress for a minute had none for %s", -wall, s.idle(now))
		}
		f := newRig(t, small(), handle(always)).f
		if f.health.stepped(then); !strings.Contains(strings.Join(f.Live(), ""), "for 1m0s") {
			t.Errorf("set by %s: a poll loop that has not turned for a minute: %q", -wall, f.Live())
		}
		f.sayWant(push.Verdict{Class: push.Aborted, Wants: true, Reason: "it wants"}, then)
		if f.sayWant(push.Verdict{}, now); f.health.sentence(wanting) != "" {
			t.Errorf("set by %s: what is not wanted any more is still said", -wall)
		}
	}
}

// ago is so long ago.
func ago(d time.Duration) *time.Time {
	t := time.Now().Add(-d)
	return &t
}

// ahead is t as it was noted when the wall clock was so far ahead; the other one, which nobody sets, is as it is.
func ahead(t time.Time, d time.Duration) time.Time {
	*(*uint64)(unsafe.Pointer(&t)) += uint64(d/time.Second) << 30 // where package time has the seconds
	return t
}

// The process has stood still, and a proof is over, by whichever clock says so: the wall clock is set now and then, and the other one does
// not count while the machine is suspended. No bubble: its times have one clock.
func TestLeaseByBothClocks(t *testing.T) {
	for _, row := range []struct {
		name string
		ago  time.Duration // that it was noted
		wall time.Duration // how far the wall clock was ahead then
		over bool
	}{
		{"just now", 0, 0, false},
		{"long ago", 2 * leaseTime, 0, true},
		{"just now, and set back by an hour since", 0, time.Hour, false},
		{"long ago, and set back by an hour since", 2 * leaseTime, time.Hour, true},
		{"long ago, and set back by years since", 2 * leaseTime, 5 * 365 * 24 * time.Hour, true},
		{"suspended since", 0, -time.Minute, true},
	} {
		f := &Forwarder{}
		noted := ahead(time.Now().Add(-row.ago), row.wall)
		f.lease.pulse.Store(&noted)
		f.lease.prove(noted.Add(leaseTime))
		f.health.commit = time.Now().Add(-time.Minute)
		if f.lease.stale() != row.over || f.cutOff() != row.over {
			t.Errorf("%s: it has stood still: %t, is cut off: %t, want %t", row.name, f.lease.stale(), f.cutOff(), row.over)
		}
		if f.lease.prove(time.Now().Add(time.Minute)); f.cutOff() {
			t.Errorf("%s: a new proof does not count", row.name)
		}
		if f.lease.prove(time.Now()); f.cutOff() {
			t.Errorf("%s: an older proof counts", row.name)
		}
	}
}

func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l lease
		var asked atomic.Int64
		ctx := t.Context()
		go l.beat(ctx, func() bool { return false }, func() { asked.Add(1) })
		pass(time.Hour)
		if !l.valid() || asked.Load() > 0 {
			t.Errorf("a process that runs: held %t, asked %d times", l.valid(), asked.Load())
		}
		l.pulse.Store(ago(leaseTime + time.Millisecond))
		if l.valid() {
			t.Error("held in the moment after it stood still")
		}
		pass(2 * beatTime)
		if l.valid() || asked.Load() != 1 {
			t.Errorf("after the next beat: held %t, asked %d times", l.valid(), asked.Load())
		}
		l.doubted.Store(false)
		if !l.valid() {
			t.Error("not held after the proof")
		}
	})
}

// A commit of nothing proves nothing: who has lost all is in doubt until Kafka has taken a commit of what it gets next.
func TestACommitOfNothingProvesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		r := newRig(t, small(), b.keeping(always)).run()
		r.f.lease.doubted.Store(true)
		r.f.committer.now()
		pass(time.Minute)
		if r.f.lease.valid() {
			t.Error("the membership is proven by nothing")
		}
		r.kafka.produce(t0, 10, 10)
		r.kafka.give(t0)
		r.until("it goes on", func() bool { return r.kafka.storedAt(t0) == 10 })
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// dialing is a Handler whose connection takes a second.
type dialing struct{ sent atomic.Int64 }

func (d *dialing) Push(at *push.Attempt) Verdict {
	time.Sleep(time.Second)
	if _, err := at.Gate.Cleared(); err != nil {
		return Verdict{Class: Aborted, Reason: err.Error()}
	}
	d.sent.Add(1)
	return good
}

// A partition that is lost while an attempt has not gone out yet takes it back, whatever the lease says.
func TestNothingIsSentOfAPartitionThatWasLostMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &dialing{}
		r := newRig(t, small(), d).run()
		r.kafka.produce(t0, 1, 10)
		r.kafka.give(t0)
		pass(500 * time.Millisecond)
		r.kafka.take(true, t0)
		pass(time.Minute)
		if n := d.sent.Load(); n != 0 {
			t.Errorf("%d requests of a partition that is somebody else's", n)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// standing is a record whose intents take so long that the machine has stood still meanwhile.
type standing struct {
	record
	lease *lease
}

func (s standing) Write(done []int64, next *offsets.Partition, intents []offsets.Attempt) (recorded, announced error) {
	if len(intents) > 0 {
		s.lease.pulse.Store(ago(10 * time.Second))
	}
	return s.record.Write(done, next, intents)
}

// The machine stands still after the message had its turn, while the disk is waited for: the request does not go out before
// the membership is proven, and not at all once the partition is lost. Nothing is in doubt then.
func TestNothingIsSentAfterAStandstillWithinAnAttempt(t *testing.T) {
	for name, c := range map[string]struct {
		proven bool
		batch  int
	}{"proven": {true, 1}, "lost": {false, 1}, "lost, batch": {false, 5}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, local(func(cfg *settings) { cfg.BatchSize = c.batch }), nil)
			s := serving(r, func(q *http.Request) (*http.Response, error) { return says(q, 200) })
			p := r.partition(t0)
			p.page = standing{p.page, &r.f.lease}
			p.push(&kafka.Message{Partition: kafka.Partition{Topic: "t"}, Offset: 0, Value: []byte("v")})
			pass(time.Minute)
			if n := s.count(); n != 0 {
				t.Errorf("%s: %d requests while the membership is in doubt", name, n)
			}
			if c.proven {
				r.f.lease.pulse.Store(ago(0))
				pass(time.Second)
			} else {
				r.f.consumer.lose([]kafka.Partition{t0}, errLost)
			}
			if n := s.count(); n != map[bool]int{true: 1}[c.proven] {
				t.Errorf("%s: %d requests", name, n)
			}
			if len(r.logs.With("no connection")) > 0 || r.isDown() {
				t.Errorf("%s: the service is blamed: %q", name, r.logs.With("service"))
			}
		})
	}
}
