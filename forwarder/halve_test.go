package forwarder

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Halving is no retry: the pauses, "blocked" and RetryNums begin to count when the message at fault is alone.
func TestHalvingIsNoRetry(t *testing.T) {
	for _, row := range []struct {
		size    int
		bad     int64
		canSkip bool
	}{{50, 0, true}, {50, 37, true}, {50, 49, true}, {1000, 37, false}, {1000, 999, false}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, batches(row.size, OrderPartition, func(c *settings) {
				c.CanSkip, c.RetryNums, c.RetryInterval, c.RetryMaxInterval = row.canSkip, 5, 200*time.Millisecond, time.Minute
			}), nil)
			var mu sync.Mutex
			var alone []time.Duration
			begun, blocked, healed := time.Now(), -1, false
			opened(r, func(q posted) reply {
				mu.Lock()
				defer mu.Unlock()
				if healed || !q.has(row.bad) {
					return reply{}
				}
				if len(q.items) == 1 {
					if len(r.logs.With("blocked:")) > 0 && blocked < 0 {
						blocked = len(alone)
					}
					alone = append(alone, time.Since(begun))
				}
				return unwell
			})
			load(r.partition(t0), row.size, 0)
			pass(time.Hour)
			mu.Lock()
			healed = true
			defer pass(time.Hour)
			defer mu.Unlock()
			name := fmt.Sprintf("%d of %d", row.bad, row.size)
			if len(alone) < 5 || alone[0] > 100*time.Millisecond || alone[1]-alone[0] != 200*time.Millisecond {
				t.Fatalf("%s: alone at %v", name, alone)
			}
			skips := r.logs.With("message skipped")
			if row.canSkip && (len(alone) != 5 || len(skips) != 1 || !strings.Contains(skips[0], "faults=5")) {
				t.Errorf("%s: alone at %v, and %q", name, alone, skips)
			}
			if !row.canSkip && blocked != 10 {
				t.Errorf("%s: blocked after %d of %d attempts alone", name, blocked, len(alone))
			}
		})
	}
}
