package forwarder

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/forwarder/pace"
)

// Every busy answer slows down, with auto, too: a quick no is not a quick service. This one takes four requests at once.
func TestBusySlowsDownWithAuto(t *testing.T) {
	for _, status := range []int{408, 409, 423, 425, 429} {
		synctest.Test(t, func(t *testing.T) {
			cfg := small()
			cfg.Order, cfg.Adaptive, cfg.RetryInterval, cfg.RetryMaxInterval = OrderNone, true, 50*time.Millisecond, 50*time.Millisecond
			var inFlight, done, refused atomic.Int64
			r := newRig(t, cfg, handle(func(d *Delivery) Verdict {
				v, takes, count := Verdict{Class: Delivered, Status: 200}, 5*time.Millisecond, &done
				if inFlight.Add(1) > 4 {
					v, takes, count = Verdict{Class: Busy, Status: status}, 100*time.Microsecond, &refused
				}
				<-time.After(takes)
				inFlight.Add(-1)
				count.Add(1)
				return v
			})).run()
			r.kafka.give(t0)
			r.kafka.produce(t0, 4000, 10)
			pass(3 * time.Second)
			if n, no := done.Load(), refused.Load(); r.f.Status().Service.Limit > 8 || n < 1500 || no > n/4 {
				t.Errorf("%d: %d at once, %d delivered and %d refused", status, r.f.Status().Service.Limit, n, no)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A Handler in place has no status: what it has delivered is no sign that the service has too much.
func TestAutoWithAHandlerInPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		cfg.Order, cfg.Adaptive = OrderNone, true
		r := newRig(t, cfg, handle(func(*Delivery) Verdict { <-time.After(5 * time.Millisecond); return Verdict{Class: Delivered} })).run()
		r.kafka.give(t0)
		r.kafka.produce(t0, 20_000, 10)
		pass(2 * time.Second)
		if limit := r.f.Status().Service.Limit; limit < pace.AdaptiveFirst {
			t.Errorf("%d at once, of a service that takes all", limit)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}
