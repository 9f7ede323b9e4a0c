package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// keptInAnyOrder is Kept without a repeat, where the order of partitions is not promised.
func keptInAnyOrder(t *testing.T, svc *rig.Service, produced []rig.Record) {
	t.Helper()
	v := svc.Judge(produced)
	v.Disorder, v.Overlap = nil, nil
	v.Kept(t, 0)
}

// pass lets time go by.
func pass(d time.Duration) { rig.Until(d, func() bool { return false }) }

// TestRetryAfterSilencesTheWholeService: a pause of 2 s that one answer asks for holds for all 8 partitions. What was
// already on its way is excused: at most one request for each other turn, since none ends before the sidecar has read the
// answer, and only in the first half of the pause.
func TestRetryAfterSilencesTheWholeService(t *testing.T) {
	t.Parallel()
	const concurrency, count, pause = 16, 1_600, 2 * time.Second
	for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			k, svc := kafka(t), service(t)
			var seen atomic.Int64
			svc.Rule(func(*rig.Request) rig.Action {
				if n := seen.Add(1); n%(count/4) == 0 && n < count {
					return rig.Action{Delay: 20 * time.Millisecond, Status: status, Header: map[string]string{"Retry-After": "2"}}
				}
				return rig.Action{Delay: 20 * time.Millisecond}
			})
			topic := k.Topic(t, 8)
			produced := k.ProduceEvenly(t, topic, 8, count, 100)
			sc := sidecar(t, k, topic, svc, "KPUSH_ORDER=key", fmt.Sprintf("KPUSH_CONCURRENCY=%d", concurrency))
			svc.Await(t, count, patience)
			sc.Shut(t, 10*time.Second)
			keptInAnyOrder(t, svc, produced)
			pauses, late := 0, 0
			for _, r := range svc.Requests() {
				if r.Status != status {
					continue
				}
				pauses++
				came := svc.Between(r.End.Add(1), r.End.Add(pause))
				if len(came) > concurrency-1 {
					t.Errorf("%d requests came within %v of the %d, %d can have been on their way; the last is %s.", len(came), pause, status, concurrency-1, came[len(came)-1])
				}
				for _, r := range svc.Between(r.End.Add(pause/2), r.End.Add(pause)) {
					t.Errorf("%s came in the second half of the pause.", r)
				}
				late += len(came)
			}
			if pauses != 3 {
				t.Errorf("The service asked for %d pauses, want 3.", pauses)
			}
			t.Logf("%d pauses of %v after %d: %d requests had been on their way, no other came.", pauses, pause, status, late)
		})
	}
}

// TestADownServiceIsProbed: one request per retry interval, no rebalance, a note, and back at once.
func TestADownServiceIsProbed(t *testing.T) {
	t.Parallel()
	const concurrency, count, interval, length, measure = 16, 6_000, time.Second, 8 * time.Second, 1500 * time.Millisecond
	for _, closed := range []bool{false, true} {
		t.Run(map[bool]string{false: "503", true: "closed"}[closed], func(t *testing.T) {
			t.Parallel()
			k, svc := kafka(t), service(t)
			slow := rig.Slow(20 * time.Millisecond)
			svc.Rule(slow)
			topic := k.Topic(t, 8)
			produced := k.ProduceEvenly(t, topic, 8, count, 100)
			sc := sidecar(t, k, topic, svc, "KPUSH_ORDER=key", "KPUSH_RETRY_INTERVAL=1s", fmt.Sprintf("KPUSH_CONCURRENCY=%d", concurrency))
			svc.Await(t, 200, patience)
			svc.Load()
			pass(measure)
			before, _ := svc.Load()
			members := k.Describe(t, topic).Members
			down := time.Now()
			if closed {
				svc.Down()
			} else {
				svc.Rule(rig.Status(http.StatusServiceUnavailable))
			}
			rig.Within(t, patience, "a note of /readyz that the service is down", func() bool {
				return strings.Contains(strings.Join(sc.Ask("/readyz").Notes, "\n"), "the service is down")
			})
			rig.Throughout(t, length-time.Since(down), func() error {
				if now := k.Describe(t, topic); now.State != "Stable" || !maps.Equal(now.Members, members) {
					return fmt.Errorf("the group is %+v; its members were %v", now, members)
				}
				for _, path := range []string{"/healthz", "/readyz"} {
					if a := sc.Ask(path); a.Code != http.StatusOK {
						return fmt.Errorf("%s answers %d %q", path, a.Code, a.Why)
					}
				}
				return nil
			})
			back := time.Now()
			svc.Rule(slow)
			svc.Up(t)
			next := svc.Next(t, back, patience)
			pass(time.Until(back.Add(2 * interval)))
			svc.Load()
			pass(measure)
			after, _ := svc.Load()
			svc.Await(t, count, patience)
			sc.Shut(t, 10*time.Second)
			keptInAnyOrder(t, svc, produced)

			hasty, probes := svc.Hasty("127.0.0.1", down.Add(interval), back, interval)
			if closed {
				probes = unseen(svc)
			}
			early := len(svc.Between(down, down.Add(interval)))
			if most := int(length/interval) + 1 + 2*concurrency; len(hasty) > 0 || early > 2*concurrency || probes > most || probes < int(length/interval)/2 {
				rig.Missed(t, "%d requests came as the service went down, then %d in %v with an interval of %v: %q", early, probes, length, interval, hasty)
			}
			below(t, "The first delivery after the service was back", back, next, interval+250*time.Millisecond)
			if after < 0.75*before {
				rig.Missed(t, "%.1f requests were in flight once the service was back for two intervals, before it went down %.1f.", after, before)
			}
			if n := len(sc.Find("the service is down")); n != 1 {
				t.Errorf("%d lines say that the service is down, want 1.", n)
			}
			t.Logf("Down for %v: %d requests as it went, then %d (interval %v), next delivery %v after it was back, then %.1f in flight, before %.1f.",
				length, early, probes, interval, next.Round(time.Millisecond), after, before)
		})
	}
}

// unseen is how many attempts the sidecar counts that the service never saw: refused ones.
func unseen(svc *rig.Service) (count int) {
	seen, counted := map[string]int{}, map[string]int{}
	for _, r := range svc.Requests() {
		seen[r.ID]++
		counted[r.ID] = max(counted[r.ID], r.Attempt)
	}
	for id := range seen {
		count += counted[id] - seen[id]
	}
	return count
}

// TestAFewServiceFaultsDoNotStopTheRest: 5 % of the requests, at random, are no reason to take the service for down. A
// sidecar with an undisturbed service runs beside them, so that whatever slows this machine slows all.
func TestAFewServiceFaultsDoNotStopTheRest(t *testing.T) {
	const count, least = 6_000, 0.5
	k := kafka(t)
	services := map[string]rig.Action{"undisturbed": {}, "503": {Status: http.StatusServiceUnavailable}, "resets": {Break: rig.AfterRead}}
	var mu sync.Mutex
	took := map[string]time.Duration{}
	t.Run("together", func(t *testing.T) {
		for name, fault := range services {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				svc := service(t)
				svc.Rule(nowAndThen(fault, 5*time.Millisecond))
				topic := k.Topic(t, 8)
				produced := k.ProduceEvenly(t, topic, 8, count, 100)
				sc := sidecar(t, k, topic, svc, "KPUSH_ORDER=key", "KPUSH_RETRY_INTERVAL=200ms")
				svc.Await(t, count/10, patience)
				begin := time.Now()
				svc.Await(t, count*9/10, patience) // the last ones only wait
				mu.Lock()
				took[name] = time.Since(begin)
				mu.Unlock()
				svc.Await(t, count, patience)
				sc.Shut(t, 10*time.Second)
				keptInAnyOrder(t, svc, produced)
			})
		}
	})
	undisturbed := took["undisturbed"]
	delete(took, "undisturbed")
	for name, with := range took {
		rate := undisturbed.Seconds() / with.Seconds()
		if rate < least {
			rig.Missed(t, "With %s for 5 %% of the requests the rate is %.2f of the undisturbed one, the bound is %.2f.", name, rate, least)
		}
		t.Logf("5 %% %s: %.2f of the undisturbed rate.", name, rate)
	}
}

// nowAndThen is the fault for 5 % of the requests.
func nowAndThen(fault rig.Action, delay time.Duration) func(*rig.Request) rig.Action {
	var mu sync.Mutex
	chance := rand.New(rand.NewPCG(5, 5))
	fault.Delay = delay
	return func(*rig.Request) rig.Action {
		mu.Lock()
		defer mu.Unlock()
		if chance.IntN(20) == 0 {
			return fault
		}
		return rig.Action{Delay: delay}
	}
}

// TestDeliveriesWaitUntilTheServiceIsReady, whether it says no or cannot be reached at the start.
func TestDeliveriesWaitUntilTheServiceIsReady(t *testing.T) {
	t.Parallel()
	const wait = 3 * time.Second
	for _, closed := range []bool{false, true} {
		t.Run(map[bool]string{false: "503", true: "closed"}[closed], func(t *testing.T) {
			t.Parallel()
			k, svc := kafka(t), service(t)
			var ready, asked atomic.Int64
			svc.Door("/up", func() int {
				if asked.Add(1); ready.Load() == 0 {
					return http.StatusServiceUnavailable
				}
				return http.StatusNoContent
			})
			if closed {
				svc.Down()
			}
			topic := k.Topic(t, 4)
			produced := k.ProduceEvenly(t, topic, 4, 400, 100)
			sc := sidecar(t, k, topic, svc, "KPUSH_READY_URL=/up")
			sc.Ready(t, patience)
			rig.Throughout(t, wait, func() error {
				if n := svc.Attempts(); n > 0 {
					return fmt.Errorf("%d requests came before the service was ready", n)
				}
				if a := sc.Ask("/readyz"); a.Code != http.StatusOK || !strings.Contains(strings.Join(a.Notes, "\n"), "deliveries wait until KPUSH_READY_URL answers 2xx") {
					return fmt.Errorf("/readyz says %+v", a)
				}
				return nil
			})
			if g := k.Describe(t, topic); g.State != "Stable" || len(g.Members) != 1 || slices.Max(slices.Collect(maps.Values(g.Members))) != 4 {
				t.Errorf("The group is %+v while the service is not ready, want a member with all partitions.", g)
			}
			ready.Store(1)
			back := time.Now()
			svc.Up(t)
			next := svc.Next(t, back, patience)
			svc.Await(t, 400, patience)
			sc.Shut(t, 10*time.Second)
			svc.Judge(produced).Kept(t, 0)
			for _, r := range svc.Requests() {
				if r.Attempt != 1 {
					t.Errorf("%s is not a first attempt.", r)
				}
			}
			t.Logf("Asked %d times; next delivery %v after the service was ready.", asked.Load(), next.Round(time.Millisecond))
		})
	}
}

// TestSkipOnAny gives up what the service refuses to take, too; by default that is tried for ever.
func TestSkipOnAny(t *testing.T) {
	t.Parallel()
	for _, on := range []string{"any", "message"} {
		t.Run(on, func(t *testing.T) {
			t.Parallel()
			k, svc := kafka(t), service(t)
			healed := make(chan struct{})
			svc.Rule(func(r *rig.Request) rig.Action {
				select {
				case <-healed:
					return rig.Action{}
				default:
				}
				if r.Offset == 3 {
					return rig.Action{Status: http.StatusServiceUnavailable}
				}
				return rig.Action{}
			})
			topic := k.Topic(t, 2)
			produced := k.ProduceEvenly(t, topic, 2, 20, 20)
			sc := sidecar(t, k, topic, svc, "KPUSH_CAN_SKIP=true", "KPUSH_RETRY_NUMS=4", "KPUSH_RETRY_INTERVAL=20ms", "KPUSH_SKIP_ON="+on)
			if on == "message" {
				rig.Within(t, patience, "the 20th attempt of both messages", func() bool { return svc.Attempts() >= 6+2*20 })
				if n := svc.Delivered(); n != 6 {
					t.Errorf("%d messages are delivered, want the 3 before the failing one of each partition.", n)
				}
				close(healed)
				svc.Await(t, 20, patience)
				sc.Shut(t, 10*time.Second)
				svc.Judge(produced).Kept(t, 0)
				if log := skipped(t, sc); len(log) != 0 {
					t.Errorf("The skip log holds %v after faults of the service.", log)
				}
				return
			}
			svc.Await(t, 18, patience)
			sc.Shut(t, 10*time.Second)
			committedIsEnd(t, k, topic)
			if log := skipped(t, sc); len(log) != 2 || svc.Attempts() != 18+2*4 {
				t.Errorf("The skip log holds %d messages after %d requests, want 2 after 18 and KPUSH_RETRY_NUMS=4 for each of the two.", len(log), svc.Attempts())
			}
			if v := svc.Judge(produced); len(v.Lost) != 2 || len(v.Disorder)+len(v.Overlap)+len(v.Repeats) > 0 {
				t.Errorf("%s", v)
			}
		})
	}
}

// TestConcurrencyAutoFindsTheServicesWorkers of which there are 8. A sidecar that was told so runs beside it, with a
// service of its own, so that whatever slows this machine slows both.
func TestConcurrencyAutoFindsTheServicesWorkers(t *testing.T) {
	const count, workers, least, measure, rounds, fewest, most = 24_000, 8, 0.85, 3 * time.Second, 4, 6, 24
	k := kafka(t)
	start := func(concurrency string) (*rig.Sidecar, *rig.Service) {
		svc := service(t)
		svc.Rule(rig.Workers(workers, 5*time.Millisecond))
		topic := k.Topic(t, 8)
		k.ProduceEvenly(t, topic, 8, count, 100)
		return sidecar(t, k, topic, svc, "KPUSH_ORDER=key", "KPUSH_CONCURRENCY="+concurrency), svc
	}
	told, fixed := start(fmt.Sprint(workers))
	finds, auto := start("auto")
	fixed.Await(t, count/8, patience) // about 2 s to settle
	auto.Await(t, count/8, patience)
	var average, rate float64
	for range rounds { // a machine that is taken away for a moment tells of itself, and it has to find its way back
		auto.Load()
		begin := time.Now()
		pass(measure)
		average, _ = auto.Load()
		rate = float64(auto.Completed(begin, begin.Add(measure))) / float64(fixed.Completed(begin, begin.Add(measure)))
		if auto.Delivered() == count || fixed.Delivered() == count {
			t.Fatalf("The messages did not last for %v.", measure)
		}
		t.Logf("%d workers of 5 ms: auto keeps %.1f in flight, %.2f of the rate of a fixed %d; the machine was away for %v of %v.",
			workers, average, rate, workers, rig.Late(begin, begin.Add(measure)).Round(time.Millisecond), measure)
		if average >= fewest && average <= most && rate >= least {
			break
		}
	}
	told.Shut(t, 10*time.Second)
	finds.Shut(t, 10*time.Second)
	if average < fewest || average > most {
		rig.Missed(t, "%.1f requests are in flight on average at a service with %d workers, the bounds are %d and %d.", average, workers, fewest, most)
	}
	if rate < least {
		rig.Missed(t, "It brings %.2f of what a fixed concurrency of %d brings, the bound is %.2f.", rate, workers, least)
	}
}

// TestWaitsGrowAndScatter up to KPUSH_RETRY_MAX_INTERVAL; a wait is never below KPUSH_RETRY_INTERVAL.
func TestWaitsGrowAndScatter(t *testing.T) {
	const count, attempts, interval, most = 30, 8, 100 * time.Millisecond, 1600 * time.Millisecond
	k, svc := kafka(t), service(t)
	svc.Rule(func(r *rig.Request) rig.Action {
		if r.Attempt < attempts {
			return rig.Action{Status: http.StatusInternalServerError}
		}
		return rig.Action{}
	})
	topic := k.Topic(t, 1)
	produced := k.ProduceEvenly(t, topic, 1, count, 20)
	sc := sidecar(t, k, topic, svc, "KPUSH_ORDER=none", "KPUSH_CONCURRENCY=64",
		"KPUSH_RETRY_INTERVAL=100ms", "KPUSH_RETRY_MAX_INTERVAL=1600ms")
	svc.Await(t, count, patience)
	sc.Shut(t, 10*time.Second)
	keptInAnyOrder(t, svc, produced)
	waits, ends := make([][]time.Duration, attempts+1), map[int64]time.Time{}
	for _, r := range svc.Requests() {
		if r.Attempt > 1 {
			waits[r.Attempt] = append(waits[r.Attempt], r.Start.Sub(ends[r.Offset]))
		}
		ends[r.Offset] = r.End
	}
	for n := 2; n <= attempts; n++ {
		slices.Sort(waits[n])
		ceiling := min(most, interval<<(n-2))
		shortest, median, longest := waits[n][0], waits[n][count/2], waits[n][count-1]
		if shortest < interval {
			t.Errorf("An attempt %d came after %v, the interval is %v.", n, shortest, interval)
		}
		// half of 30 random waits lie within the middle; the shorter ones are a unit test's, for other work on the machine hides them
		if room := most - interval; ceiling == most && (median < interval+room/8 || median > most-room/8 || longest-shortest < room/2) {
			rig.Missed(t, "The waits before attempt %d, between %v and %v at random: %s; the shortest %v.", n, interval, ceiling, spread(waits[n]), shortest)
		}
		t.Logf("Before attempt %d, up to %v: min %v, %s.", n, ceiling, shortest.Round(time.Millisecond), spread(waits[n]))
	}
}
