// Package bench measures what a message costs: kpush beside the floor of its packages and the loop that anybody writes
// in an afternoon, in the same run, on the same machine, one after the other and again. `make bench` runs all of it and
// writes docs/benchmarks.md; a bound that is not held ends it with an error.
package bench

import (
	"flag"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

var (
	rounds = flag.Int("rounds", 3, "how often each contender runs; medians count")
	part   = flag.Float64("part", 1, "the part of the messages to send, to try the benchmark itself")
)

const (
	patience = 40 * time.Second // for a first delivery
	longest  = 15 * time.Second // a run that takes longer counts with what it has delivered by then
	tick     = 20 * time.Millisecond
)

// entry is one contender with what it is asked to do.
type entry struct {
	name     string   // in the table
	program  string   // kpush, floor or loop
	env      []string // its configuration, beside brokers, topic, group and port
	topic    string
	messages int
	service  []string // the service's configuration
	limit    time.Duration
	watched  bool // somebody looks at its status and metrics
	beside   bool // somebody publishes through it
}

// figures is what one run came to, or the medians of several.
type figures struct {
	rate float64 // messages a second, from the first delivered one to the last
	cpu  float64 // CPU seconds of the contender for 100,000 messages, its start included
	rss  float64 // its peak memory in MiB

	p50, p99 float64 // milliseconds from produced to requested, or from a call to its answer, where that is measured
}

// times are its percentiles behind the separator, "" where there are none.
func (f figures) times(separator string) string {
	if f.p50 == 0 {
		return ""
	}
	return fmt.Sprintf("%sp50 %.2f ms, p99 %.2f ms", separator, f.p50, f.p99)
}

// scene is one scenario: a part of the table.
type scene struct {
	rig.T
	name    string
	k       *rig.Kafka
	medians map[string]figures
}

func begin(t rig.T, name string) *scene {
	s := &scene{T: t, name: name, medians: map[string]figures{}, k: rig.Shared(t)}
	book.machine = s.machine()
	t.Cleanup(func() {
		if t.Failed() && !book.has(name) {
			book.row(row{scene: name, name: "–", remark: "BROKE OFF, see above"})
		}
	})
	return s
}

// messages is how many to send of so many.
func messages(whole int) int { return max(1_000, int(float64(whole)**part)) }

// race runs the entries in turn, again and again, and tells the medians.
func (s *scene) race(entries ...entry) {
	s.Helper()
	s.turns(len(entries), func(i int) string { return entries[i].name }, func(i int) (figures, string) { return s.run(entries[i]) })
}

// turns runs so many contenders in turn, again and again, and tells the medians. One that cannot run says why.
func (s *scene) turns(n int, name func(int) string, run func(int) (figures, string)) {
	s.Helper()
	runs, refused := make([][]figures, n), make([]string, n)
	for range *rounds {
		for i := range n {
			if refused[i] != "" {
				continue
			}
			f, why := run(i)
			if refused[i] = why; why == "" {
				runs[i] = append(runs[i], f)
				fmt.Printf("%s: %s: %s/s, %.2f CPU-s per 100k, %.0f MiB%s\n", s.name, name(i), thousands(f.rate), f.cpu, f.rss, f.times("; "))
			}
		}
	}
	for i := range n {
		row := row{scene: s.name, name: name(i), remark: refused[i]}
		if len(runs[i]) > 0 {
			row.figures = median(runs[i])
			row.remark = spread(runs[i]) + row.times("; ")
			s.medians[row.name] = row.figures
		}
		book.row(row)
	}
}

var groups atomic.Int64

// enter starts the entry's program in a group of its own against the service.
func (s *scene) enter(e entry, svc *service) *process {
	s.Helper()
	env := []string{"KPUSH_BROKERS=" + s.k.Brokers, "KPUSH_TOPIC=" + e.topic, "KPUSH_PORT=" + svc.port,
		fmt.Sprintf("KPUSH_GROUP=%s-%d", e.topic, groups.Add(1)), "KPUSH_OFFSETS_DIR=" + s.TempDir(), "KPUSH_HEALTH_ADDR=127.0.0.1:0", "KPUSH_API_ADDR=127.0.0.1:0"}
	return start(s, e.program, append(env, e.env...)...)
}

// run is one run of one entry, or why there cannot be one.
func (s *scene) run(e entry) (figures, string) {
	s.Helper()
	svc := startService(s, e.service...)
	defer svc.end()
	p := s.enter(e, svc)
	defer p.end()
	if e.watched {
		defer s.look(p)()
	}
	if e.beside {
		defer s.publishBeside(p)()
	}
	c, why := s.await(p, svc, e)
	if why != "" {
		return figures{}, why
	}
	return figuresOf(c, p.cpu(s), p.memory(s, "VmHWM")), ""
}

// await returns the service's count when all messages were delivered, or the entry's limit is over.
func (s *scene) await(p *process, svc *service, e entry) (c count, why string) {
	s.Helper()
	limit := e.limit
	if limit == 0 {
		limit = longest
	}
	var first time.Time
	for begin := time.Now(); ; time.Sleep(tick) {
		switch c = svc.count(s); {
		case !p.alive():
			if why = p.refused(); why == "" {
				s.Fatalf("%s ended by itself: %s", e.name, p.said())
			}
			return c, why
		case c.Messages >= int64(e.messages):
			return c, ""
		case c.Messages == 0 && time.Since(begin) > patience:
			s.Fatalf("%s delivered nothing within %v: %s", e.name, patience, p.said())
		case c.Messages > 0 && first.IsZero():
			first = time.Now()
		case c.Messages > 0 && time.Since(first) > limit:
			return c, ""
		}
	}
}

func figuresOf(c count, cpu time.Duration, rss float64) figures {
	f := figures{cpu: cpu.Seconds() / float64(c.Messages) * 100_000, rss: rss}
	if c.Last > c.First {
		f.rate = float64(c.Messages) / time.Duration(c.Last-c.First).Seconds()
	}
	return f
}
