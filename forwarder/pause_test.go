package forwarder

import (
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// tardy is a record whose intents take their time, as the syncs of guarantee 3 do.
type tardy struct {
	record
	takes time.Duration
}

func (t tardy) Write(done []int64, next *offsets.Partition, intents []offsets.Attempt) (recorded, announced error) {
	if len(intents) > 0 {
		<-time.After(t.takes)
	}
	return t.record.Write(done, next, intents)
}

// What had its turn before the pause was asked for, and is ready to go out within it, waits for its end: a probe, too, which
// stays the only one of its host. A stop ends the wait; nothing has been sent then.
func TestRetryAfterHoldsWhatIsAboutToGoOut(t *testing.T) {
	for _, row := range []struct {
		name  string
		down  bool
		stops bool
		at    [3]time.Duration // when the partitions were sent the last time
	}{
		{"an attempt", false, false, [3]time.Duration{33 * time.Second, 33 * time.Second, 33 * time.Second}},
		{"a probe", true, false, [3]time.Duration{34 * time.Second, 33 * time.Second, 34 * time.Second}},
		{"an attempt that is stopped", false, true, [3]time.Duration{33 * time.Second, 0, 33 * time.Second}},
		{"a probe that is stopped", true, true, [3]time.Duration{33 * time.Second, 0, 34 * time.Second}},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, local(func(c *settings) { c.SlowTime = 10 * time.Second }), nil)
			s := serving(r, func(q *http.Request) (*http.Response, error) {
				if q.Header.Get("Kafka-Partition") == "3" {
					return nil, syscall.ECONNREFUSED
				}
				if q.Header.Get("Kafka-Partition") == "0" && attemptOf(q) == 1 {
					<-time.After(3 * time.Second)
					return says(q, 503, "Retry-After", "30")
				}
				<-time.After(time.Second)
				return says(q, 200)
			})
			p0, p1, p2 := r.partition(t0), r.partition(t1), r.partition(t2)
			p1.page = tardy{p1.page, 5 * time.Second}
			load(p0, 1, 0)
			synctest.Wait()
			if row.down {
				p := r.partition(kafka.Partition{Topic: "t", Number: 3})
				load(p, 1, 0) // is refused
				synctest.Wait()
				drained(p, 0, errStopping)
			}
			load(p1, 1, 0)
			if !row.down {
				pass(3500 * time.Millisecond)
			}
			load(p2, 1, 0)
			r.until("partition 1 waits", func() bool { return time.Since(s.begun) > 10*time.Second })
			if row.stops {
				p1.stop(errStopping)
			}
			pass(time.Minute)
			var at [3]time.Duration
			for i, q := range s.seen {
				if q.Header.Get("Kafka-Partition") == "3" {
					continue
				}
				at[q.Header.Get("Kafka-Partition")[0]-'0'] = s.times[i]
			}
			if at != row.at {
				t.Errorf("%s: sent after %s, want %s", row.name, at, row.at)
			}
			if e := p1.rec.Earlier(0); row.stops && (e.InDoubt || p1.rec.Outstanding() != 1) {
				t.Errorf("%s: %+v, %d outstanding", row.name, e, p1.rec.Outstanding())
			}
			if n := len(r.logs.With("slow delivery")); n != 0 {
				t.Errorf("%s: the pause counts for the service, %d times", row.name, n)
			}
			r.isEmpty()
		})
	}
}
