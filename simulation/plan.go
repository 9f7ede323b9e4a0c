package simulation

import (
	"fmt"
	"slices"
	"time"

	"github.com/kpush/kpush/forwarder/start"
	"github.com/kpush/kpush/kafka"
)

// length is how long faults go on; what is not done by then has grace to get done.
const (
	length = 60 * time.Second
	grace  = 2 * time.Minute
)

// event is something that happens to the world at a time.
type event struct {
	at   time.Duration
	what string
	host int
	n    int           // how many, how far
	long time.Duration // of what lasts
}

func (e event) String() string {
	return fmt.Sprintf("%v %s host %d n %d for %v", e.at.Round(time.Millisecond), e.what, e.host+1, e.n, e.long.Round(time.Millisecond))
}

// faults are the kinds of events, with how often each comes up.
var faults = map[string]int{
	"kill": 3, "kill at a step": 4, "power cut": 2, "SIGTERM": 3, "empty volume": 1, "copy": 1, "put the copy back": 1, "cut off": 2,
	"service down": 2, "service slow": 2, "service hangs": 1, "service faults": 2, "service breaks": 2, "service busy": 1,
	"commits refused": 1, "commits slow": 1, "commits lost": 1, "disk hangs": 1, "disk fails": 1, "disk is full": 1,
	"pause": 1, "partition added": 1, "retention": 1, "stands still": 2, "topic made again": 1, "service host dies": 1,
	"operator seeks": 1, "operator skips": 1, "operator resets": 1,
}

// ends are how a process ends.
var ends = []string{"kill", "kill at a step", "power cut", "SIGTERM"}

// newPlan draws what happens to a world: at least ten faults, and at least a thousand messages.
func newPlan(w *World) (plan []event) {
	r := w.stream("plan")
	var kinds []string
	for _, what := range sortedKeys(faults) {
		for range faults[what] {
			kinds = append(kinds, what)
		}
	}
	for range 20 {
		at := time.Duration(r.Int64N(int64(length)))
		plan = append(plan, event{at: at, what: "produce", host: r.IntN(w.cfg.partitions), n: 50 + r.IntN(30)})
	}
	for range 10 + r.IntN(15) {
		at := time.Duration(r.Int64N(int64(length)))
		if r.IntN(3) > 0 { // in the middle of work
			at = plan[r.IntN(20)].at + time.Duration(r.Int64N(int64(200*time.Millisecond)))
		}
		e := event{at, kinds[r.IntN(len(kinds))], r.IntN(w.cfg.hosts), r.IntN(400), time.Duration(r.Int64N(int64(8 * time.Second)))}
		if plan = append(plan, e); r.IntN(4) == 0 { // what follows may come before that is over
			e.at, e.what = e.at+time.Duration(r.Int64N(int64(8*time.Second))), ends[r.IntN(len(ends))]
			plan = append(plan, e)
		}
	}
	plan = append(plan, event{what: "produce", n: 40})
	slices.SortStableFunc(plan, func(a, b event) int { return int(a.at - b.at) })
	return plan
}

func sortedKeys(m map[string]int) (all []string) {
	for k := range m {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}

// happen does what an event says.
func (w *World) happen(e event) {
	h := w.hosts[e.host%len(w.hosts)]
	restart := 50*time.Millisecond + e.long/4
	var l *life
	w.with(func() {
		if l = h.life; e.what != "produce" {
			w.say("%s: %s, %d, %v", h.name, e.what, e.n, e.long.Round(time.Millisecond))
		}
	})
	switch e.what {
	case "kill":
		if l != nil {
			l.kill("as planned")
		}
		w.later(restart, h.start)
	case "kill at a step":
		w.with(func() {
			if l != nil {
				l.killAt = l.steps + 1 + e.n
			}
		})
		w.later(20*time.Second, h.start)
	case "power cut":
		h.cutPower()
		w.later(restart, h.start)
	case "SIGTERM":
		if l != nil {
			w.later(0, func() {
				w.with(func() { h.off = true })
				l.stop()
				w.with(func() { h.off = false })
				w.later(restart, h.start)
			})
		}
	case "empty volume":
		h.renew(backup{})
		w.later(restart, h.start)
	case "copy":
		h.save()
	case "put the copy back":
		if h.copy.disk != nil {
			h.renew(h.copy)
			w.later(restart, h.start)
		}
	default:
		w.befall(h, l, e)
	}
}

// befall is what ends no process.
func (w *World) befall(h *host, l *life, e event) {
	kind, what, _ := cutWord(e.what)
	switch e.what {
	case "produce":
		w.with(func() {
			w.produce(kafka.Partition{Topic: topic, Number: int32(e.host)}, e.n, w.dice("produce", int64(e.at)))
		})
	case "cut off":
		w.with(func() { h.until = time.Now().Add(3 * e.long) })
	case "pause":
		if l.runs() {
			w.pause(l, e)
		}
	case "partition added":
		w.with(func() { w.logs[kafka.Partition{Topic: topic, Number: int32(len(w.logs))}] = &plog{}; w.group.balance() })
	case "retention":
		w.with(w.retain)
	case "stands still":
		w.with(func() { h.frozen = time.Now().Add(3 * e.long) })
		w.resume() // so that a commit has no answer: the lease's own clock does not stand still here (docs/simulation.md)
	case "topic made again":
		w.with(w.remake)
	case "service host dies":
		w.with(func() { w.modes[serviceHost(e.n%w.cfg.services)] = mode{"down", time.Now().Add(e.long)} })
	case "operator seeks":
		w.later(0, func() { w.seek(e) })
	case "operator skips":
		w.later(0, func() { w.skip(e) })
	case "operator resets":
		w.later(0, func() { w.reset(e) })
	default:
		if kind == "disk" {
			kind += " " + h.name
		}
		w.with(func() { w.modes[kind] = mode{what, time.Now().Add(e.long)} })
	}
}

func cutWord(s string) (first, rest string, ok bool) {
	for i := range s {
		if s[i] == ' ' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// remake is a topic that is deleted and made again under its name: what was of it is gone, and with it what the group has committed.
func (w *World) remake() {
	w.made++
	for p := range w.logs {
		w.logs[p] = &plog{}
		delete(w.group.commits, p)
		delete(w.group.vouched, p)
	}
	w.asked, w.paused = map[kafka.Partition][]int64{}, map[kafka.Partition]bool{}
	s := &w.service
	s.deeds, s.lanes, w.low, w.undone = map[kafka.Partition]map[int64]*deed{}, map[lane][]int64{}, map[kafka.Partition]int{}, 0
}

// retain drops the older half of what is committed of each partition.
func (w *World) retain() {
	for p, l := range w.logs {
		c := w.group.commits[p]
		if m, _ := start.ParseMark(c.Meta); m.TopicID == w.topicID() {
			l.oldest = max(l.oldest, l.oldest+(c.Offset-l.oldest)/2)
		}
	}
}
