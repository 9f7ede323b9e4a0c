package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// load is a row of the kill stories: as many partitions as requests at once, for a partition has one at a time.
var loads = []struct {
	concurrency, partitions int
	full, small             int           // kills
	deliveries, stock       int           // between two kills at most; messages left per partition
	answer                  time.Duration // of the service: slow enough that the kill finds requests in flight
}{
	{1, 4, 60, 3, 60, 60, 2 * time.Millisecond},
	{32, 32, 100, 4, 400, 60, 4 * time.Millisecond},
	{256, 256, 40, 2, 800, 30, 30 * time.Millisecond},
}

// TestKills: kill -9 at random under load. Nothing is lost, what comes again is flagged, and both are bounded by what was
// in flight.
func TestKills(t *testing.T) {
	for _, l := range loads {
		t.Run(fmt.Sprint(l.concurrency), func(t *testing.T) {
			s := stage(t, fmt.Sprintf("kill -9, concurrency %d", l.concurrency), setting{partitions: l.partitions, concurrency: l.concurrency, bound: l.concurrency})
			s.svc.Rule(troubled(l.answer))
			s.flagBound = 2 * l.concurrency
			s.sc.Start(t)
			for range times(l.full, l.small) {
				s.stock(l.stock)
				s.crash(1+s.rng.IntN(l.deliveries), s.sc.Kill, func() { s.sc.Start(t) })
			}
			s.tell("")
		})
	}
}

// TestKillsOutOfOrder is TestKills with far more requests at once than partitions.
func TestKillsOutOfOrder(t *testing.T) {
	const concurrency, partitions = 32, 8
	for _, order := range []string{"key", "none"} {
		t.Run(order, func(t *testing.T) {
			s := stage(t, fmt.Sprintf("kill -9, order %s, concurrency %d", order, concurrency), setting{partitions: partitions, concurrency: concurrency,
				bound: concurrency, order: order})
			s.svc.Rule(troubled(4 * time.Millisecond))
			s.flagBound = 2 * concurrency
			s.sc.Start(t)
			for range times(40, 3) {
				s.stock(200)
				s.crash(1+s.rng.IntN(400), s.sc.Kill, func() { s.sc.Start(t) })
			}
			s.tell("")
		})
	}
}

// TestKillsThatAsk: with guarantee 3 and KPUSH_CONFIRM_URL nothing comes twice, whatever is killed.
func TestKillsThatAsk(t *testing.T) {
	for _, l := range loads {
		t.Run(fmt.Sprint(l.concurrency), func(t *testing.T) {
			s := stage(t, fmt.Sprintf("kill -9, guarantee 3 and confirm URL, concurrency %d", l.concurrency), setting{partitions: l.partitions,
				concurrency: l.concurrency, env: []string{"KPUSH_MESSAGE_DELIVERY_GUARANTEES=3"}})
			s.svc.Rule(troubled(l.answer))
			url, answers := s.svc.Confirms(t)
			s.sc.Set("KPUSH_CONFIRM_URL=" + url)
			s.sc.Start(t)
			for range times(l.full, l.small) {
				s.stock(l.stock)
				s.crash(1+s.rng.IntN(l.deliveries), s.sc.Kill, func() { s.sc.Start(t) })
			}
			s.tell(fmt.Sprintf("the service was asked %d times", answers()))
		})
	}
}

// TestShortLives: a life too short for anything still gets on, and a message that always fails is counted through all of
// them, so that KPUSH_RETRY_NUMS holds.
func TestShortLives(t *testing.T) {
	const concurrency, retries, poison = 16, 20, 3
	lives := times(100, 12)
	s := stage(t, "lives of 50 to 250 ms", setting{partitions: 8, concurrency: concurrency, bound: concurrency,
		env: []string{"KPUSH_CAN_SKIP=true", fmt.Sprintf("KPUSH_RETRY_NUMS=%d", retries)}})
	s.failing(poison, rig.Action{Delay: 2 * time.Millisecond})
	fruitful := 0
	start := func() { s.sc.Start(t) }
	for life := range lives {
		s.stock(400)
		delivered := s.svc.Delivered()
		if life == 0 {
			start()
		} else {
			s.crashed(start)
		}
		live(time.Duration(50+s.rng.IntN(200)) * time.Millisecond)
		s.sc.Kill()
		if s.svc.Delivered() > delivered {
			fruitful++
		}
	}
	if fruitful < lives/3 {
		t.Errorf("Only %d of %d lives delivered anything.", fruitful, lives)
	}
	s.crashed(start)
	rig.Within(t, patience, "the end of the message that always fails", func() bool { return skips(t, s.sc.Volume) > 0 })
	s.svc.Await(t, len(s.produced)-1, patience)
	attempts := s.ascending(0, poison)
	// a kill may come between an answer and its record, or between the skip log and the record of the skip
	if attempts < retries || attempts > retries+lives {
		t.Errorf("The message that always fails was tried %d times, KPUSH_RETRY_NUMS is %d.", attempts, retries)
	}
	if n := skips(t, s.sc.Volume); n > 2 {
		t.Errorf("The skip log holds it %d times.", n)
	}
	s.sc.Shut(t, 15*time.Second)
	s.committed()
	s.judge(fmt.Sprintf("%d lives delivered; always 500: %d attempts, counted through, then skipped", fruitful, attempts))
}

// live lets time go by, and what the machine was away for in it does not count.
func live(d time.Duration) {
	begin := time.Now()
	rig.Until(2*time.Second, func() bool { return time.Since(begin)-rig.Late(begin, time.Now()) >= d })
}

// ascending wants every attempt of a message to have a higher number than the one before, and says how many there were.
func (s *scene) ascending(partition int32, offset int64) (attempts int) {
	s.Helper()
	last := 0
	for _, r := range s.svc.Requests() {
		if r.Partition != partition || r.Offset != offset {
			continue
		}
		if r.Attempt <= last {
			s.Errorf("%s came after attempt %d.", r, last)
		}
		last = r.Attempt
		attempts++
	}
	return attempts
}

// skips counts the lines of the skip log.
func skips(t *testing.T, volume string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(volume, "skipped.jsonl"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Count(string(text), "\n")
}
