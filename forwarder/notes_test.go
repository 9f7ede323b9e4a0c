package forwarder

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
)

// Those that have been failing for longest are named, the others counted.
func TestBlockedMessagesAreNamed(t *testing.T) {
	began := time.Date(2026, 11, 30, 10, 0, 0, 0, time.UTC)
	var all []BlockedStatus
	for i := range 7 {
		all = append(all, BlockedStatus{Position: kafka.Position{Partition: t0, Offset: int64(i)}, Since: began.Add(-time.Duration(i) * time.Minute),
			Reason: fmt.Sprintf("the service answered 50%d", i)})
	}
	for n, want := range map[int]string{
		1: "1 messages are blocked: they failed 10 times or more: t/0/0 since 2026-11-30T10:00:00Z (the service answered 500); kpush -status names all, and kpush -skip gives up one that is itself at fault",
		7: "t/0/6 since 2026-11-30T09:54:00Z (the service answered 506), t/0/5 since 2026-11-30T09:55:00Z (the service answered 505), t/0/4 since 2026-11-30T09:56:00Z (the service answered 504), t/0/3 since 2026-11-30T09:57:00Z (the service answered 503), t/0/2 since 2026-11-30T09:58:00Z (the service answered 502), and 2 more;",
	} {
		if got := blockedSentence(slices.Clone(all[:n])); !strings.Contains(got, want) {
			t.Errorf("%d: %s", n, got)
		}
	}
}

// What slows the service down is named as long as it lasts, and no longer.
func TestWhatSlowsIsNoted(t *testing.T) {
	for _, row := range []struct {
		name, note, logged string
		hosts              int
		answer             func(*http.Request) (*http.Response, error)
	}{
		{"one host of two refuses", "service host http://b/x is down since 2000-01-01T0", "a service host is down", 2,
			func(q *http.Request) (*http.Response, error) {
				if q.Host == "b" {
					return nil, syscall.ECONNREFUSED
				}
				return says(q, 200)
			}},
		{"it asks for a pause", "the service asked for a pause until 2000-01-01T00:01:00Z (Retry-After)", "", 1,
			func(q *http.Request) (*http.Response, error) {
				a, err := says(q, 429)
				a.Header.Set("Retry-After", "60")
				return a, err
			}},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, local(func(c *settings) { c.Targets = []string{"http://a/x", "http://b/x"}[:row.hosts] }), nil)
				var mu sync.Mutex
				well := false
				serving(r, func(q *http.Request) (*http.Response, error) {
					mu.Lock()
					defer mu.Unlock()
					if well {
						return says(q, 200)
					}
					return row.answer(q)
				})
				r.run()
				defer r.stop()
				r.kafka.give(t0)
				r.kafka.produce(t0, 40, 1)
				noted := func() bool { return strings.Contains(fmt.Sprint(r.f.Notes()), row.note) }
				r.until(row.note, noted)
				if row.logged != "" && len(r.logs.With(row.logged)) != 1 {
					t.Errorf("noted %v, logged %d times", r.f.Notes(), len(r.logs.With(row.logged)))
				}
				mu.Lock()
				well = true
				mu.Unlock()
				r.until("the end of it", func() bool { r.kafka.produce(t0, 1, 1); return !noted() })
			})
		})
	}
}

// A service that is slow with everything is one fact.
func TestSlowDeliveriesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, local(func(c *settings) { c.SlowTime = time.Second }), nil)
		serving(r, func(q *http.Request) (*http.Response, error) { <-time.After(2 * time.Second); return says(q, 200) })
		r.run()
		defer r.stop()
		r.kafka.give(t0)
		r.kafka.produce(t0, 25, 1)
		r.until("the count", func() bool { return len(r.logs.With("more deliveries were slow than the log names")) == 1 })
		named := slices.DeleteFunc(r.logs.With("slow delivery"), func(line string) bool { return !strings.Contains(line, "level=WARN") })
		if len(named) != burstMost {
			t.Errorf("%d are named", len(named))
		}
	})
}
