package forwarder

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
)

var u0 = kafka.Partition{Topic: "u", Number: 0}

func twoTopics() settings {
	cfg := small()
	cfg.Topics = []string{"t", "u"}
	return cfg
}

// A topic that is not there, or not yet, keeps only its own partitions from starting.
func TestATopicThatIsGoneHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, twoTopics(), handle(always))
		r.kafka.gone = map[string]error{"u": kafka.ErrNoTopic}
		r.run()
		r.kafka.produce(t0, 10, 10)
		r.kafka.produce(u0, 10, 10)
		r.kafka.give(t0, u0)
		pass(10 * time.Second)
		if at := r.kafka.storedAt(t0); at != 10 || r.kafka.storedAt(u0) >= 0 {
			t.Errorf("committed %d of the topic that is there, %d of the other", at, r.kafka.storedAt(u0))
		}
		if why := fmt.Sprint(r.f.Ready()); why != "[waiting for the topic: u: topic does not exist u/0 is not started: cannot learn where it starts: u: topic does not exist]" {
			t.Errorf("ready says %s", why)
		}
		r.kafka.with(func() { r.kafka.gone = nil })
		pass(10 * time.Second)
		if at := r.kafka.storedAt(u0); at != 10 {
			t.Errorf("committed %d of the topic that came", at)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A topic that is made again is noticed also while another one is missing, or forbidden.
func TestATopicIsMadeAgainBesideOneThatIsNotTold(t *testing.T) {
	for _, why := range []error{kafka.ErrNoTopic, kafka.ErrNotTaken, kafka.ErrForbidden, errors.New("anything else")} {
		synctest.Test(t, func(t *testing.T) {
			b := newBook()
			r := newRig(t, twoTopics(), b.keeping(always))
			r.kafka.gone = map[string]error{"u": why}
			r.run()
			r.kafka.produce(t0, 50, 10)
			r.kafka.give(t0)
			r.until("all committed", func() bool { return r.kafka.storedAt(t0) == 50 })
			r.kafka.with(func() {
				r.kafka.ids["t"], r.kafka.log[t0] = "T2", nil
				delete(r.kafka.stored, t0)
			})
			r.kafka.produce(t0, 80, 10)
			pass(10 * time.Second)
			if n := len(b.of(t0)); n < 130 {
				t.Errorf("%v: %d deliveries of 50 messages and the 80 of the new topic", why, n)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A pause counts for the topic that there is: it is noted under the id of one that was made again a moment before, also while the cluster
// is asked but once in a while.
func TestAPauseBehindATopicThatIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		r := newRig(t, small(), b.keeping(always)).run()
		r.kafka.produce(t0, 50, 10)
		r.kafka.give(t0)
		pass(time.Minute)
		r.kafka.with(func() {
			r.kafka.ids["t"], r.kafka.log[t0] = "T2", nil
			delete(r.kafka.stored, t0)
		})
		r.until("the pause", func() bool { _, err := r.f.Pause(t.Context(), "op", "t", 0); return err == nil })
		if m := r.newestMark(t0); m.TopicID != "T2" || !m.Paused {
			t.Errorf("the mark is %+v", m)
		}
		r.kafka.produce(t0, 10, 10)
		pass(time.Minute)
		if b.count() != 50 {
			t.Errorf("%d deliveries", b.count())
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// Kafka refuses one topic's commits, for good: the other goes on, and its commits prove the membership.
func TestACommitThatIsRefusedHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	for _, why := range []error{kafka.ErrNoTopic, kafka.ErrForbidden, kafka.ErrNotTaken} {
		synctest.Test(t, func(t *testing.T) {
			const count = 10_000
			r := newRig(t, twoTopics(), handle(func(*Delivery) Verdict { <-time.After(time.Millisecond); return good })).run()
			r.kafka.give(t0, u0)
			r.until("the first commits", func() bool { return r.kafka.storedAt(t0) == 0 && r.kafka.storedAt(u0) == 0 })
			refusals := 0
			r.kafka.fail(func(cs []kafka.Commit) error { // as librdkafka does it: one error, and the others are committed
				refused := false
				for _, c := range cs {
					refused = refused || c.Partition == u0
				}
				if !refused {
					return nil
				}
				refusals++
				r.kafka.with(func() {
					for _, c := range cs {
						if c.Partition != u0 {
							r.kafka.stored[c.Partition] = c
						}
					}
				})
				return why
			})
			r.kafka.produce(u0, count, 10)
			r.kafka.produce(t0, count, 10)
			pass(20 * time.Second)
			if at := r.kafka.storedAt(t0); at != count || r.kafka.storedAt(u0) != 0 {
				t.Errorf("committed %d of %d, and %d of the topic that is refused", at, count, r.kafka.storedAt(u0))
			}
			if n := len(r.logs.With("Kafka takes no commit of the topic")); n != 1 {
				t.Errorf("%d lines about it", n)
			}
			if most := 2 * (1 + int(20*time.Second/refusedTime)); refusals > most { // beside the other, and by itself
				t.Errorf("Kafka was asked %d times in 20 s, want at most %d: each of them holds up the other", refusals, most)
			}
			r.f.lease.doubted.Store(true)
			r.f.committer.now()
			pass(time.Second)
			if r.f.lease.doubted.Load() {
				t.Error("the other topic's commits prove nothing")
			}
			r.kafka.fail(nil)
			r.until("all committed", func() bool { return r.kafka.storedAt(u0) == count })
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}
