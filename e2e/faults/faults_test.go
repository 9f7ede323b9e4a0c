// Package faults hurts the built kpush, its disk, its group and its brokers, again and again, and holds it to
// docs/guarantees.md. `make faults` runs all of it, `make test` a seeded small part; both end with a table.
package faults

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

var (
	all  = flag.Bool("all", false, "as often as docs/guarantees.md says, not the small part")
	seed = flag.Uint64("seed", 1, "of everything that is random here")
)

func TestMain(m *testing.M) {
	code := rig.Main(m)
	table, err := rig.Summary()
	fmt.Println(table)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// patience bounds waits whose length is not the point.
const patience = 60 * time.Second

// times is how often a story does its fault.
func times(full, small int) int {
	if *all {
		return full
	}
	return small
}

// scene is a sidecar between a topic under load and the service, and what has become of both.
type scene struct {
	*testing.T
	story       string
	rng         *rand.Rand
	k           *rig.Kafka
	svc         *rig.Service
	sc          *rig.Sidecar
	topic       string
	partitions  int
	concurrency int
	produced    []rig.Record
	in          []int // how many of them, up to counted, are in a partition
	counted     int

	bound     int    // repeats that a crash may cost
	flagBound int    // flagged requests that it may cost; negative: as many as lie below the ceiling
	skipped   string // a message that is given up on purpose

	crashes int
	charges []charge // of those that may cost something
}

// charge is a crash, and what it may cost at most; a negative number of flags: any.
type charge struct {
	at     time.Time
	bounds rig.Cost
}

// setting is what differs between scenes.
type setting struct {
	partitions, concurrency int
	kafka                   *rig.Kafka // nil: the shared one
	volume                  string     // "": one of its own
	env                     []string
	order                   string // KPUSH_ORDER, "": its default
	bound                   int    // as in scene
}

// stage makes a scene; the sidecar is not started yet.
func stage(t *testing.T, story string, set setting) *scene {
	t.Helper()
	rig.Broken(t, story)
	s := &scene{T: t, story: story, rng: rand.New(rand.NewPCG(*seed, 1)), k: set.kafka, partitions: set.partitions, in: make([]int, set.partitions), concurrency: set.concurrency, bound: set.bound, flagBound: -1}
	if s.k == nil {
		s.k = rig.Shared(t)
	}
	if set.volume == "" {
		set.volume = t.TempDir()
	}
	s.svc, s.topic = rig.StartService(t), s.k.Topic(t, int32(set.partitions))
	s.svc.Order = set.order
	s.svc.Rule(troubled(2 * time.Millisecond))
	s.sc = rig.NewSidecar(t, set.volume, s.wiring(set.env...)...)
	return s
}

func (s *scene) wiring(env ...string) []string {
	if s.svc.Order != "" {
		env = append(env, "KPUSH_ORDER="+s.svc.Order)
	}
	return append([]string{"KPUSH_BROKERS=" + s.k.Brokers, "KPUSH_TOPIC=" + s.topic, "KPUSH_GROUP=" + s.topic,
		fmt.Sprintf("KPUSH_PORT=%d", s.svc.Port), fmt.Sprintf("KPUSH_CONCURRENCY=%d", s.concurrency), "KPUSH_RETRY_INTERVAL=10ms"}, env...)
}

// troubled answers after the delay, a tenth of all first attempts with a fault: what the crash finds unfinished has to come
// again. Later attempts succeed, so that a repeated message is repeated once.
func troubled(delay time.Duration) func(*rig.Request) rig.Action {
	return func(r *rig.Request) rig.Action {
		if r.Attempt == 1 && r.Offset%10 == 7 {
			return rig.Action{Delay: delay, Status: 500}
		}
		return rig.Action{Delay: delay}
	}
}

// stock sees to it that at least so many messages are left to deliver in every partition.
func (s *scene) stock(each int) {
	s.Helper()
	for ; s.counted < len(s.produced); s.counted++ {
		s.in[s.produced[s.counted].Partition]++
	}
	left := each
	for p, n := range s.in {
		left = min(left, n-s.svc.DeliveredIn(int32(p)))
	}
	if left < each {
		s.produced = append(s.produced, s.produce((2*each-left)*s.partitions)...)
	}
}

func (s *scene) produce(count int) []rig.Record {
	s.Helper()
	if s.svc.Order == "" {
		return s.k.ProduceEvenly(s, s.topic, int32(s.partitions), count, 100)
	}
	records := make([]rig.Record, count) // of 500 keys; every 20th has none
	for i := range records {
		records[i] = rig.Record{Partition: int32(i % s.partitions), Key: fmt.Appendf(nil, "customer-%d", s.rng.IntN(500)), Value: fmt.Append(nil, i)}
		if s.rng.IntN(20) == 0 {
			records[i].Key = nil
		}
	}
	return s.k.Produce(s, s.topic, records...)
}

// crash does one fault after some more deliveries and starts again; it returns once every partition has delivered.
func (s *scene) crash(deliveries int, fault, start func()) {
	s.Helper()
	s.svc.Await(s, min(s.svc.Delivered()+deliveries, len(s.produced)), patience)
	fault()
	s.crashed(start)
	s.settled(s.charges[len(s.charges)-1].at)
}

// crashed starts again, and notes the crash before with the bounds that are then in force.
func (s *scene) crashed(start func()) {
	s.Helper()
	at := time.Now()
	if !s.sc.Alive() {
		at = s.svc.Orphaned(s)
	}
	start()
	s.crashes++
	s.charges = append(s.charges, charge{at, rig.Cost{Repeats: s.bound, Flagged: s.flagBound}})
}

// settled waits until every partition has delivered after the moment, or has nothing left.
func (s *scene) settled(since time.Time) {
	s.Helper()
	rig.Within(s, patience, "a delivery in every partition after the restart", func() bool {
		return len(s.svc.Seen(since)) == s.partitions || s.svc.Delivered() == len(s.produced)
	})
}

// cost holds what each crash has cost against its bounds, and adds up; what no crash has cost must not be.
func (s *scene) cost() (most rig.Cost, mostBound, allowed int) {
	s.Helper()
	var moments []time.Time
	for _, c := range s.charges {
		moments = append(moments, c.at)
		allowed, mostBound = allowed+c.bounds.Repeats, max(mostBound, c.bounds.Repeats)
	}
	for n, cost := range s.svc.Costs(moments) {
		what, bounds := "no crash", rig.Cost{Flagged: min(s.flagBound, 0)}
		if n < len(s.charges) {
			what, bounds = fmt.Sprintf("crash %d", n+1), s.charges[n].bounds
			most = rig.Cost{Repeats: max(most.Repeats, cost.Repeats), Flagged: max(most.Flagged, cost.Flagged)}
		}
		s.within("repeats", what, cost.Repeats, bounds.Repeats)
		if bounds.Flagged >= 0 {
			s.within("messages in doubt", what, cost.Flagged, bounds.Flagged)
		}
	}
	return most, mostBound, allowed
}

// within fails the test when something has cost more than its bound.
func (s *scene) within(cost, what string, got, bound int) {
	s.Helper()
	if got > bound {
		s.Errorf("%s (seed %d): %s cost %d %s, the bound is %d.", s.story, *seed, what, got, cost, bound)
	}
}

// tell ends the scene: everything is delivered, the sidecar stops in good order, and the service's memory is judged.
func (s *scene) tell(remark string) {
	s.Helper()
	s.svc.Rule(nil)
	s.svc.Await(s, len(s.produced), patience)
	s.sc.Shut(s, 15*time.Second)
	s.committed()
	s.judge(remark)
}

func (s *scene) judge(remark string) {
	s.Helper()
	v := s.svc.Judge(s.produced)
	most, mostBound, allowed := s.cost()
	v.Lost = slices.DeleteFunc(v.Lost, func(line string) bool { return s.skipped != "" && strings.HasPrefix(line, s.skipped+",") })
	v.Kept(s, allowed)
	missed := "all"
	if len(v.Unflagged) > 0 {
		missed = fmt.Sprintf("all but %d", len(v.Unflagged))
	}
	rig.Tell(s, rig.Row{Story: s.story, Runs: fmt.Sprint(s.crashes), Lost: len(v.Lost),
		Repeats: fmt.Sprintf("%d, a run at most %d (%d)", len(v.Repeats), most.Repeats, mostBound),
		Flagged: fmt.Sprintf("%s; a run at most %d, in vain %d", missed, most.Flagged, len(v.Needless)), Remark: remark})
}

// failing makes one message fail for ever, and says so to the judge where it is to be skipped.
func (s *scene) failing(offset int64, rest rig.Action) {
	s.skipped = fmt.Sprintf("%s/0/%d", s.topic, offset)
	s.svc.Rule(func(r *rig.Request) rig.Action {
		if r.Partition == 0 && r.Offset == offset {
			return rig.Action{Status: 500}
		}
		return rest
	})
}

// committed wants the group to have committed each partition's end.
func (s *scene) committed() {
	s.Helper()
	commits := s.k.Committed(s, s.topic, s.topic)
	for partition, end := range s.k.EndOffsets(s, s.topic) {
		if end > 0 && commits[partition].Offset != end {
			s.Errorf("Partition %d is committed up to %d after the stop, its end is %d.", partition, commits[partition].Offset, end)
		}
	}
}

// pass lets time go by.
func pass(d time.Duration) { rig.Until(d, func() bool { return false }) }
