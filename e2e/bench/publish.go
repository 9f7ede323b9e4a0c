package bench

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// callers publish side by side, each record after the answer to the one before.
type callers struct {
	name    string // in the table
	program string // whom they ask: kpush or proxy; "": Kafka itself, with a client of their own
	env     []string
	count   int
	as      []string // how they ask: the configuration of caller
}

// published has them publish to the topic in turn, again and again, and tells the medians.
func (s *scene) published(topic string, all ...callers) {
	s.Helper()
	s.turns(len(all), func(i int) string { return all[i].name }, func(i int) (figures, string) { return s.publish(topic, all[i]) })
}

// publish is one run. The CPU time is that of whom they ask, and without one, their own.
func (s *scene) publish(topic string, c callers) (figures, string) {
	s.Helper()
	to := "BROKERS=" + s.k.Brokers
	var asked *process
	if c.program != "" {
		asked = start(s, c.program, append([]string{"KPUSH_BROKERS=" + s.k.Brokers, "KPUSH_OFFSETS_DIR=" + s.TempDir(), "KPUSH_HEALTH_ADDR=127.0.0.1:0",
			"KPUSH_API_ADDR=127.0.0.1:0"}, c.env...)...)
		defer asked.end()
		rig.Within(s, patience, "an address to publish to", func() bool { return asked.door() != "" || !asked.alive() })
		if why := asked.refused(); why != "" {
			return figures{}, why
		}
		to = "TO=" + asked.door()
	}
	one := start(s, "caller", append([]string{to, "TOPIC=" + topic, fmt.Sprintf("CALLERS=%d", c.count), "LENGTH=3s", "PACE=0s", "SIZE=200"}, c.as...)...)
	defer one.end()
	rig.Within(s, patience, "the end of "+c.name, func() bool { return !one.alive() })
	var got struct {
		Records, All   int64
		Took, P50, P99 time.Duration
	}
	if err := json.Unmarshal([]byte(one.said()), &got); err != nil {
		s.Fatalf("%s did not end well: %v\n%s", c.name, err, one.said())
	}
	used, memory := one.cmd.ProcessState.UserTime()+one.cmd.ProcessState.SystemTime(), 0.0
	if asked != nil {
		used, memory = asked.cpu(s), asked.memory(s, "VmHWM")
	}
	return figures{rate: float64(got.Records) / got.Took.Seconds(), cpu: used.Seconds() / float64(got.All) * 100_000, rss: memory, p50: ms(got.P50), p99: ms(got.P99)}, ""
}

// door is where the process takes records, "" where it does not yet.
func (p *process) door() string {
	if port, err := strconv.Atoi(strings.TrimSpace(p.said())); err == nil {
		return fmt.Sprintf("127.0.0.1:%d", port)
	}
	return p.address("api")
}

// publishBeside has somebody publish through a kpush that consumes, 200 records a second, until its end is called.
func (s *scene) publishBeside(p *process) (end func()) {
	s.Helper()
	rig.Within(s, patience, "an address to publish to", func() bool { return p.door() != "" })
	one := start(s, "caller", "TO="+p.door(), "TOPIC="+s.k.Topic(s, 8), "CALLERS=1", "LENGTH=10m", "PACE=5ms", "SIZE=200")
	return func() {
		if !one.alive() {
			s.Errorf("The publisher ended by itself: %s", one.said())
		}
		one.end()
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
