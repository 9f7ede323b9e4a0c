package forwarder

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
)

// What cannot be read is passed over by the client, and by nobody else: its partition stands, named, until it can be read or somebody
// acts; what is before it is delivered, and so are the others.
func TestWhatCannotBeReadHoldsItsPartition(t *testing.T) {
	for name, end := range map[string]struct {
		do   func(r *rig)
		want int // delivered of the partition in the end
	}{
		"it can be read again": {func(r *rig) { r.kafka.with(func() { r.kafka.damaged = nil }) }, 10},
		"an operator's seek": {func(r *rig) {
			if _, err := r.f.Seek(r.Context(), "op", "t", 0, Target{Offset: 6}); err != nil {
				r.Fatal(err)
			}
		}, 9},
		"retention": {func(r *rig) {
			r.kafka.with(func() {
				r.kafka.oldest[t0], r.kafka.log[t0] = 8, r.kafka.log[t0][8:]
				delete(r.kafka.at, t0)
			})
			r.kafka.report(kafka.PartitionError{Position: kafka.Position{Partition: t0, Offset: 5}, Err: kafka.ErrOutOfRange})
		}, 7},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBook()
			r := newRig(t, small(), b.keeping(func(*Delivery) Verdict { return good })).run()
			r.kafka.with(func() { r.kafka.damaged = map[kafka.Partition]int64{t0: 5} })
			r.kafka.produce(t0, 10, 10)
			r.kafka.give(t0, t1)
			pass(10 * time.Second)
			const named = "t/0 stands at offset 5 since 2000-01-01T00:00:0"
			if why := fmt.Sprint(r.f.Ready()); !strings.Contains(why, named) || !strings.Contains(why, "Decompression failed") || !strings.Contains(why, "receive.message.max.bytes") || !strings.Contains(why, "-seek") {
				t.Errorf("%s: ready says %s", name, why)
			}
			r.kafka.produce(t1, 10, 10)
			r.until("the other is done", func() bool { return r.kafka.storedAt(t1) == 10 })
			pass(10 * time.Minute)
			if got := b.of(t0); len(got) != 5 || r.kafka.storedAt(t0) != 5 {
				t.Errorf("%s: delivered %v, committed %d", name, got, r.kafka.storedAt(t0))
			}
			if n := len(r.kafka.callsOf("assign t/0")); n > 10*60/16+10 {
				t.Errorf("%s: %d tries in ten minutes", name, n)
			}
			if n := len(r.logs.With("a partition cannot be read on")); n != 1 {
				t.Errorf("%s: said %d times", name, n)
			}
			end.do(r)
			r.until("the rest", func() bool { return r.kafka.storedAt(t0) == 10 })
			if got := b.of(t0); len(got) != end.want {
				t.Errorf("%s: delivered %v", name, got)
			}
			pass(time.Second)
			if why := r.f.Ready(); len(why) > 0 {
				t.Errorf("%s: ready says %q in the end", name, why)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A moment's error is nobody's business, also where nothing comes behind it.
func TestAMomentsErrorIsNotSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		r := newRig(t, small(), b.keeping(func(*Delivery) Verdict { return good })).run()
		r.kafka.give(t0)
		r.kafka.produce(t0, 10, 10)
		r.until("the first", func() bool { return r.kafka.storedAt(t0) == 10 })
		for range 5 {
			r.kafka.report(kafka.PartitionError{Position: kafka.Position{Partition: t0, Offset: 10}, Err: kafka.ErrUnreadable})
			for range 60 {
				pass(time.Second)
				if why := r.f.Ready(); len(why) > 0 {
					t.Fatalf("ready says %q", why)
				}
			}
			r.kafka.produce(t0, 1, 10)
		}
		r.until("all", func() bool { return r.kafka.storedAt(t0) == 15 })
		if n := len(r.logs.With("level=ERROR")); n > 0 || len(b.of(t0)) != 15 {
			t.Errorf("%d lines, %d delivered", n, len(b.of(t0)))
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// While a drain waits the partitions that stay are read by another reader, which passes over what it cannot read as well.
func TestWhatCannotBeReadInADrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		r := newRig(t, small(), b.keeping(func(d *Delivery) Verdict {
			if d.Partition == t1 {
				pass(10 * time.Second)
			}
			return good
		})).run()
		r.kafka.with(func() { r.kafka.damaged = map[kafka.Partition]int64{t0: 5} })
		r.kafka.produce(t1, 1, 10)
		r.kafka.give(t0, t1)
		r.underWay(1)
		gone := make(chan struct{})
		go func() { r.kafka.take(false, t1); close(gone) }()
		pass(time.Second)
		r.kafka.produce(t0, 10, 10)
		<-gone
		pass(time.Minute)
		if got := b.of(t0); len(got) != 5 || r.kafka.storedAt(t0) != 5 {
			t.Errorf("delivered %v, committed %d", got, r.kafka.storedAt(t0))
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}
