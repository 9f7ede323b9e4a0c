package forwarder

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
)

// A partition that the client forgets, as librdkafka does when a pause of its own crosses one of ours, is noticed, said, and
// fetched again; the others go on as they are.
func TestAPartitionThatIsNotFetchedStartsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		delivered := map[kafka.Partition]*atomic.Int32{t0: {}, t1: {}}
		r := newRig(t, small(), handle(func(d *Delivery) Verdict { delivered[d.Partition].Add(1); return good })).run()
		r.kafka.produce(t0, 5, 10)
		r.kafka.give(t0, t1)
		r.until("the first messages", func() bool { return r.kafka.storedAt(t0) == 5 })
		r.kafka.with(func() { r.kafka.paused[t0] = true })
		r.kafka.produce(t0, 5, 10)
		r.kafka.produce(t1, 5, 10)
		forgotten := time.Now()
		r.until("the forgotten messages", func() bool { return delivered[t0].Load() == 10 })
		if took := time.Since(forgotten); took > 3*silentTime+2*time.Second {
			t.Errorf("it took %v, silentTime is %v", took, silentTime)
		}
		pass(10 * silentTime)
		if got := delivered[t0].Load() + delivered[t1].Load(); got != 15 {
			t.Errorf("%d deliveries of 15 messages", got)
		}
		if got := r.kafka.callsOf("assign"); !slices.Equal(got[max(0, len(got)-1):], []string{"assign t/0@5"}) || len(got) != 3 {
			t.Errorf("%q, want two starts and one more of t/0", got)
		}
		if said := r.logs.With("does not fetch"); len(said) != 1 || !strings.Contains(said[0], "partition=0 offset=5 end=10") {
			t.Errorf("the log says %q", said)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// What brings nothing for a reason is left alone: it is empty, it is paused because its message is stuck, messages
// come now and then, its leader does not answer.
func TestASilentPartitionIsLeftAlone(t *testing.T) {
	for name, c := range map[string]struct {
		verdict Verdict
		during  func(r *rig)
	}{
		"empty": {good, func(r *rig) { pass(10 * silentTime) }},
		"stuck": {bad, func(r *rig) { r.kafka.produce(t0, 2000, 1000); pass(10 * silentTime) }},
		"now and then": {good, func(r *rig) { // and the end is ahead at any time
			r.kafka.with(func() { r.kafka.markers = map[kafka.Partition]int64{t0: 1000} })
			for range 10 {
				pass(silentTime - time.Millisecond)
				r.kafka.produce(t0, 1, 10)
			}
		}},
		"no leader": {good, func(r *rig) {
			r.kafka.with(func() { r.kafka.leaderless, r.kafka.paused[t0] = map[kafka.Partition]bool{t0: true}, true })
			r.kafka.produce(t0, 1, 10)
			pass(10 * silentTime)
		}},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, tight(), handle(func(d *Delivery) Verdict { return c.verdict })).run()
			r.kafka.produce(t1, 1, 10)
			r.kafka.give(t0, t1)
			c.during(r)
			if got := r.kafka.callsOf("assign"); len(got) != 2 {
				t.Errorf("%s: %q, want each once", name, got)
			}
			if err := r.stop(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}
