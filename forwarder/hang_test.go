package forwarder

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// stuck is a record on a disk that hangs, until it is back.
type stuck struct {
	record
	back chan struct{}
}

func (s stuck) Write(done []int64, next *offsets.Partition, intents []offsets.Attempt) (recorded, announced error) {
	<-s.back
	return s.record.Write(done, next, intents)
}

// Neither a revoke nor a loss nor an assignment makes the group wait for a disk that hangs; readiness names it, and when the disk is back
// all goes on.
func TestAHangingDiskHoldsUpNoCallback(t *testing.T) {
	for _, lost := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			cfg, b := small(), newBook()
			cfg.DrainTimeout = 8 * time.Second
			r := newRig(t, cfg, b.keeping(func(*Delivery) Verdict { return good })).run()
			r.kafka.give(t0, t1)
			pass(time.Second)
			back := make(chan struct{})
			must(t, r.f.consumer.do(t.Context(), func(c *consumer) error {
				c.parts[t0].page = stuck{c.parts[t0].page, back}
				return nil
			}))
			r.kafka.produce(t0, 3, 10)
			r.underWay(1)
			began := time.Now()
			r.kafka.take(lost, t0)
			if took := time.Since(began); took > cfg.DrainTimeout+time.Second {
				t.Errorf("lost %t: the group waited for %v", lost, took)
			}
			assign := r.f.consumer.assign
			must(t, r.f.consumer.do(t.Context(), func(c *consumer) error {
				c.assign = func(k offsets.Key, s offsets.Start) (*offsets.Partition, error) { <-back; return assign(k, s) }
				return nil
			}))
			began = time.Now()
			r.kafka.give(t0, t2)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("an assignment took %v", took)
			}
			if why := fmt.Sprint(r.f.Ready()); !strings.Contains(why, "t/0 is not started: the volume has not taken in 4s where it starts") {
				t.Errorf("ready says %s", why)
			}
			r.kafka.produce(t1, 5, 10)
			r.until("the one that stays goes on", func() bool { return r.kafka.storedAt(t1) == 5 })
			close(back)
			r.until("all of it", func() bool { return r.kafka.storedAt(t0) == 3 && len(r.f.Ready()) == 0 })
			if n := r.f.consumer.running(); len(n) != 3 {
				t.Errorf("%d partitions run", len(n))
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// While the volume hangs nothing is opened: whoever asks for it would wait as well.
func TestNothingStartsOnAHangingVolume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(always))
		hangs := true
		r.f.health.volume = func() error {
			if hangs {
				return fmt.Errorf("the volume %w", offsets.ErrHangs)
			}
			return nil
		}
		asked := 0
		assign := r.f.consumer.assign
		r.f.consumer.assign = func(k offsets.Key, s offsets.Start) (*offsets.Partition, error) { asked++; return assign(k, s) }
		r.run()
		r.kafka.produce(t0, 3, 10)
		r.kafka.give(t0)
		pass(time.Minute)
		if why := fmt.Sprint(r.f.Ready()); asked > 0 || !strings.Contains(why, "t/0 is not started: the volume takes no write") {
			t.Errorf("asked %d times, ready says %s", asked, why)
		}
		must(t, r.f.consumer.do(t.Context(), func(*consumer) error { hangs = false; return nil }))
		r.until("delivered", func() bool { return r.kafka.storedAt(t0) == 3 })
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A write that hangs has the store's lock: neither the end of a partition in good order nor a loss waits for it.
func TestAHangingWriteHoldsUpNoEnd(t *testing.T) {
	t.Parallel()
	cfg := small()
	cfg.DrainTimeout = time.Second
	r := newRig(t, cfg, handle(always))
	store, err := offsets.Open(t.TempDir(), offsets.Options{Log: r.f.log}) // each write is synced
	must(t, err)
	r.assemble(cfg, handle(always), store, r.f.log)
	r.f.consumer.stopping = t.Context()
	r.partition(t0)
	r.partition(t1)
	hangs, back := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(hangs) })
	store.Observe(func(time.Duration, error) { once(); <-back }) // with the lock
	other := inBackground(func() {
		_, _ = store.Assign(offsets.Key{Cluster: "C", Group: "g", Topic: "t", TopicID: "T", Partition: 2}, offsets.Start{Lineage: 1, Committed: -1})
	})
	<-hangs
	for what, end := range map[string]func(){
		"in good order": func() { r.f.consumer.giveUp([]kafka.Partition{t0}, errRevoked) },
		"a loss":        func() { r.f.consumer.lose([]kafka.Partition{t1}, errLost) },
	} {
		select {
		case <-inBackground(end):
		case <-time.After(cfg.DrainTimeout + 2*time.Second):
			t.Errorf("%s: it waits for the disk", what)
		}
	}
	close(back)
	<-other
	must(t, store.Close())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
