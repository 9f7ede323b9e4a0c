package forwarder

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/kpush/kpush/kafka"
)

// stallAfter so long a partition is called stalled that has something to do, of which nothing is finished, and of which nothing is
// under way but what has failed before.
const stallAfter = time.Minute

// stall is why a partition does not move.
type stall struct {
	word  string // one of stallWords
	text  string
	since time.Time

	finished int64 // outcomes until then: one more, and it is over
}

// The reasons, for a metric's label.
const (
	stalledService = "service" // it is down, not ready, or has asked for a pause
	stalledBlocked = "blocked" // by messages that keep failing
	stalledBuffer  = "buffer"  // KPUSH_BUFFER is full of others' messages
	stalledVolume  = "volume"  // it takes no records
	stalledFetch   = "fetch"   // the client brings nothing
	stalledConfirm = "confirm" // KPUSH_CONFIRM_URL does not answer
	stalledUnknown = "unknown" // the text may know more
)

var stallWords = [...]string{stalledService, stalledBlocked, stalledBuffer, stalledVolume, stalledFetch, stalledConfirm, stalledUnknown}

// watchdog names the partitions that stand still, once in the log when it begins and once when it ends, and for health as long as it
// lasts (standstill). It only looks: what can be mended is others' (silent.go, contact.go). It belongs to the sampler.
type watchdog struct {
	f       *Forwarder
	moved   map[kafka.Partition]time.Time // when something of what is assigned moved, or could not; a new start by itself is no move
	stalled map[kafka.Partition]stall
}

func newWatchdog(f *Forwarder) *watchdog {
	return &watchdog{f: f, moved: map[kafka.Partition]time.Time{}, stalled: map[kafka.Partition]stall{}}
}

// look samples the partitions, finds out which of them stand still, and why.
func (w *watchdog) look(a *assignment, now time.Time) {
	moved, stalled := map[kafka.Partition]time.Time{}, map[kafka.Partition]stall{}
	for t := range a.pending {
		if at, ok := w.moved[t]; ok {
			moved[t] = at
		}
	}
	var all *causes
	for _, p := range a.running {
		since, ok := w.moved[p.Partition]
		outcomes := p.gauge.sample(now)
		if !ok || p.moves(outcomes) {
			since = now
		}
		p.takesItsTime(outcomes, now)
		moved[p.Partition] = since
		if now.Sub(since) < stallAfter+sampleTime { // it may have moved right after a look
			p.gauge.stall.Store(nil)
			continue
		}
		if all == nil {
			all = w.f.causes()
		}
		s := all.of(p)
		s.since, s.finished = since, p.gauge.sampled.finished
		p.gauge.stall.Store(&s)
		stalled[p.Partition] = s
	}
	w.say(stalled)
	w.moved, w.stalled = moved, stalled
}

// moves tells whether something of the partition moves, or nothing need. outcomes: since the last look. What is tried for the first
// time may take its time.
func (p *partition) moves(outcomes int64) bool {
	g := &p.gauge
	return outcomes > 0 || g.underWay.Load() > int64(p.failing.Load()) || !g.behind() || !p.goes() || slices.Contains(p.pausedBy(), byOperator)
}

// takesItsTime notes since when the service has what is tried for the first time.
func (p *partition) takesItsTime(outcomes int64, now time.Time) {
	g := &p.gauge
	if outcomes > 0 || g.underWay.Load() <= int64(p.failing.Load()) {
		g.waits.Store(0)
	} else {
		g.waits.CompareAndSwap(0, now.UnixNano())
	}
}

// longRequests names the partitions whose first attempts the service has had for so long that somebody may wonder; "" where there is none.
// That is no fault: KPUSH_EXEC_TIMEOUT says how long an attempt may take.
func (f *Forwarder) longRequests(now time.Time) string {
	var all []kafka.Partition
	late := now.Add(-stallAfter).UnixNano()
	oldest := late
	for _, p := range f.consumer.running() {
		if at := p.gauge.waits.Load(); at != 0 && at <= late {
			all, oldest = append(all, p.Partition), min(oldest, at)
		}
	}
	if len(all) == 0 {
		return ""
	}
	limit := "has no bound (KPUSH_EXEC_TIMEOUT=0)"
	if f.cfg.ExecTimeout > 0 {
		limit = "may take KPUSH_EXEC_TIMEOUT, " + f.cfg.ExecTimeout.String()
	}
	return fmt.Sprintf("the service has had requests of %s since %s at the latest, and has answered none meanwhile: an attempt %s", some(all), time.Unix(0, oldest).UTC().Format(time.RFC3339), limit)
}

// say tells the log what has changed.
func (w *watchdog) say(stalled map[kafka.Partition]stall) {
	began, ended := map[string][]kafka.Partition{}, []kafka.Partition{}
	for t, s := range stalled {
		if _, was := w.stalled[t]; !was {
			began[s.word] = append(began[s.word], t)
		}
	}
	for t := range w.stalled {
		if _, is := stalled[t]; !is {
			ended = append(ended, t)
		}
	}
	for word, ts := range began {
		said := some(ts)
		w.f.log.Warn("nothing has moved for a minute of partitions that have something to do", "partitions", said, "reason", word, "why", stalled[ts[0]].text)
	}
	if len(ended) > 0 {
		w.f.log.Info("partitions that stood still move again, have nothing to do, or have gone", "partitions", some(ended))
	}
}

// stalled is why the partition stands still, nil where it does not.
func (g *gauge) stalled() *stall {
	if s := g.stall.Load(); s != nil && g.finished.Load() == s.finished {
		return s
	}
	return nil
}

// standstill names the partitions that stand still, and says of the first of them why; "" where there is none.
func (f *Forwarder) standstill() string {
	why := map[kafka.Partition]*stall{}
	for _, p := range f.consumer.running() {
		if s := p.gauge.stalled(); s != nil {
			why[p.Partition] = s
		}
	}
	if len(why) == 0 {
		return ""
	}
	list := slices.Collect(maps.Keys(why))
	said := some(list) // sorts it
	first := why[list[0]]
	return fmt.Sprintf("nothing has moved of %s since %s: %s", said, first.since.UTC().Format(time.RFC3339), first.text)
}

// some sorts partitions, and names the first of them.
func some(ts []kafka.Partition) string {
	slices.SortFunc(ts, kafka.Compare)
	said := names(ts[:min(len(ts), namesMost)])
	if more := len(ts) - namesMost; more > 0 {
		said += fmt.Sprintf(" and %d more", more)
	}
	return said
}

// causes is what may hold up partitions, as of one look.
type causes struct {
	f       *Forwarder
	common  stall                             // of all of them; no word: there is none
	failing map[kafka.Partition]BlockedStatus // of each partition the oldest message that waits for another attempt
}

func (f *Forwarder) causes() *causes {
	all := &causes{f: f, failing: f.failures.oldest()}
	if err := f.health.volume(); err != nil { // first: what hangs with it may hold what the rest is behind
		all.common = stall{word: stalledVolume, text: err.Error()}
		return all
	}
	pace := f.pace.Status()
	switch {
	case f.health.sentence(notReady) != "":
		all.common = stall{word: stalledService, text: "the service is not ready yet"}
	case !pace.Up:
		all.common = stall{word: stalledService, text: "no host of the service is up"}
	case !pace.Paused.IsZero():
		all.common = stall{word: stalledService, text: "the service has asked for a pause (Retry-After) until " + pace.Paused.UTC().Format(time.RFC3339)}
	}
	return all
}

// of says why a partition does not move.
func (all *causes) of(p *partition) stall {
	one, fails := all.failing[p.Partition]
	switch g := &p.gauge; {
	case g.outstanding() == 0 && p.stock.paused.Load():
		return stall{word: stalledBuffer, text: "its messages are not fetched: KPUSH_BUFFER is full of others that the service has not taken"}
	case g.outstanding() == 0:
		return stall{word: stalledFetch, text: "the Kafka client brings none of its messages"}
	case all.common.word != "":
		return all.common
	case fails && one.Doubtful:
		return stall{word: stalledConfirm, text: fmt.Sprintf("waiting for %s/%d: %s", one.Partition, one.Offset, one.Reason)}
	case fails:
		text := fmt.Sprintf("waiting for a retry of %s/%d, which has failed %d times: %s", one.Partition, one.Offset, one.Attempts, one.Reason)
		if bound := p.ceiling.boundedBy(); bound != "" {
			text += "; " + bound
		}
		return stall{word: stalledBlocked, text: text}
	case all.f.lease.doubted.Load():
		return stall{word: stalledUnknown, text: "requests wait until Kafka takes a commit: this process has stood still, or was cut off"}
	case p.ceiling.low():
		return stall{word: stalledUnknown, text: "requests wait until Kafka takes a commit of how far they may go"}
	}
	return stall{word: stalledUnknown, text: "it is not known why"}
}
