package forwarder

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
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
		r.kafka.fail(func([]commit) error { return errNotMember })
		r.f.lease.pulse.Store(time.Now().Add(-10 * time.Second).UnixNano()) // SIGSTOP, then SIGCONT
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

func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l lease
		var asked atomic.Int64
		ctx := t.Context()
		go l.beat(ctx, func() { asked.Add(1) })
		pass(time.Hour)
		if !l.held() || asked.Load() > 0 {
			t.Errorf("a process that runs: held %t, asked %d times", l.held(), asked.Load())
		}
		l.pulse.Store(time.Now().Add(-leaseTime - time.Millisecond).UnixNano())
		if l.held() {
			t.Error("held in the moment after it stood still")
		}
		pass(2 * beatTime)
		if l.held() || asked.Load() != 1 {
			t.Errorf("after the next beat: held %t, asked %d times", l.held(), asked.Load())
		}
		l.doubted.Store(false)
		if !l.held() {
			t.Error("not held after the proof")
		}
	})
}
