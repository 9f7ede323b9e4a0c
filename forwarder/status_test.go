package forwarder

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
)

// A snapshot says where each partition is, which messages fail and why, what is not started, and how the service is.
func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		cfg.Order = OrderNone
		r := newRig(t, cfg, handle(func(d *Delivery) Verdict {
			if d.Partition == t1 && d.Offset == 3 {
				return bad
			}
			return good
		})).run()
		r.kafka.produce(t0, 5, 10)
		r.kafka.produce(t1, 10, 10)
		begun := time.Now()
		r.kafka.give(t1, t0)
		pass(time.Minute)
		r.kafka.with(func() { r.kafka.leaderless = map[kafka.Partition]bool{t2: true} })
		r.kafka.give(t2)
		s := r.f.Status()
		is := func(p PartitionStatus, t kafka.Partition, next int64, outstanding, failing int) bool {
			return p.Partition == t && p.Next == next && p.Committed == next && p.Outstanding == outstanding && p.Failing == failing && p.Bounded == ""
		}
		if len(s.Partitions) != 2 || !is(s.Partitions[0], t0, 5, 0, 0) || !is(s.Partitions[1], t1, 3, 1, 1) {
			t.Errorf("partitions %+v", s.Partitions)
		}
		if len(s.Pending) != 1 || s.Pending[0].Partition != t2 || !strings.Contains(s.Pending[0].Why, "cannot learn where it starts") {
			t.Errorf("pending %+v", s.Pending)
		}
		if len(s.Blocked) != 1 || s.Blocked[0].Partition != t1 || s.Blocked[0].Offset != 3 || s.Blocked[0].Attempts < blockedAfter || s.Blocked[0].Status != 500 ||
			s.Blocked[0].Reason != bad.Reason || s.Blocked[0].Since.Sub(begun) > time.Second {
			t.Errorf("blocked %+v", s.Blocked)
		}
		if !s.Service.Up || len(s.Service.Hosts) != 1 || s.Service.Limit != cfg.Concurrency || s.Service.Failing != 1 || s.Stopping {
			t.Errorf("%+v", s)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if !r.f.Status().Stopping {
			t.Error("not stopping after a stop")
		}
	})
}

// Messages are counted that wait for another attempt, of the service as of its partitions, however many are in a batch.
func TestFailingAreMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, batches(10, OrderNone, nil), nil)
		opened(r, func(q posted) reply { return naming(0, 1) })
		r.run()
		r.kafka.produce(t0, 10, 10)
		r.kafka.give(t0)
		r.until("the others", func() bool { return r.f.Status().Partitions[0].Done == 8 })
		pass(time.Second)
		if s := r.f.Status(); s.Partitions[0].Failing != 2 || s.Service.Failing != 2 {
			t.Errorf("%d of the partition fail, %d in all", s.Partitions[0].Failing, s.Service.Failing)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// What others ask of the consumer runs on the goroutine that polls, between two messages; who does not wait any more gets the reason.
func TestDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(always))
		late, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.f.consumer.do(late, func(*consumer) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("before it runs: %v", err)
		}
		r.run()
		r.kafka.give(t0)
		no := errors.New("no")
		err := r.f.consumer.do(t.Context(), func(c *consumer) error {
			if c.parts[t0] == nil {
				t.Error("the partition is not there")
			}
			return no
		})
		if err != no {
			t.Errorf("it came to %v", err)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}
