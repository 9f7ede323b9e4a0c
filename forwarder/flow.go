package forwarder

import (
	"errors"
	"time"
)

const (
	relieveTime = 5 * time.Millisecond   // between two looks at who idles
	soonTime    = 300 * time.Millisecond // one whose messages last no longer is fetched again
	aheadTime   = time.Second            // a partition whose messages last longer is far ahead
	stallTime   = 50 * time.Millisecond  // without an outcome for so long, one above half of all is paused
	stuckTime   = 250 * time.Millisecond // without an outcome for so long, a partition above its share is paused
)

// share is what each partition may hold of the budget before it counts as ahead of the others.
func (f *Forwarder) share() int64 { return f.budget.bound / int64(max(1, len(f.parts))) }

// relieve stops fetching for partitions that are far ahead while another one has next to nothing and more to fetch: a long
// run of one would take all the room. Far ahead is time as well as bytes: pausing drops what librdkafka has queued, and what
// a fast service takes in a moment is fetched again more slowly than that. It returns true where that is not enough: the room
// is used up by what will last, and would go, one message at a time, to the run that happens to be next.
func (f *Forwarder) relieve(now time.Time) (stand bool) {
	if now.Sub(f.relieved) < relieveTime {
		return false
	}
	f.relieved = now
	if !f.starves() {
		return false
	}
	share := f.share()
	var ahead []*partition
	for _, p := range f.parts {
		held, known := p.held.Load(), p.pull > 0
		if !p.paused && p.goes() && (known && held > share && p.lasts() > aheadTime || !known && held > 2*share) {
			ahead = append(ahead, p)
		}
	}
	f.pause(ahead...)
	return f.budget.full() && f.lasts() > aheadTime*time.Duration(max(8, len(f.parts)))/8 // to pause many, each with little, has its price
}

// starves tells whether a partition has next to nothing, and more to fetch.
func (f *Forwarder) starves() bool {
	little := f.share() / 4
	for t, p := range f.parts {
		if !p.goes() || p.held.Load() >= little {
			continue
		}
		if end := f.source.end(t); end < 0 || end > p.next { // asked of the client only where it matters: it looks long among many
			return true
		}
	}
	return false
}

// lasts is how long what all partitions hold will last at their pace; 0 where that is not known.
func (f *Forwarder) lasts() time.Duration {
	pull := 0.0
	for _, p := range f.parts {
		pull += p.pull
	}
	if pull == 0 {
		return 0
	}
	return lasting(f.budget.held.Load(), pull)
}

// lasts is how long what a partition holds will last at its pace of the last moments.
func (p *partition) lasts() time.Duration {
	return lasting(p.held.Load(), p.pull)
}

// lasting is how long so many bytes last at so many a second.
func lasting(held int64, pull float64) time.Duration {
	return time.Duration(float64(held) / max(pull, 1) * float64(time.Second))
}

// sample takes the pace at which a partition's messages leave.
func (p *partition) sample(now time.Time) {
	d := now.Sub(p.sampled)
	if d < pollTime/2 {
		return
	}
	left := p.left.Load()
	if pull := float64(left-p.leftThen) / d.Seconds(); !p.sampled.IsZero() {
		p.pull = (p.pull + pull) / 2
	}
	p.sampled, p.leftThen = now, left
}

func (p *partition) idle(now time.Time) time.Duration {
	return now.Sub(time.Unix(0, p.progress.Load()))
}

func (f *Forwarder) pause(ps ...*partition) {
	if len(ps) == 0 {
		return
	}
	tps := make([]tp, len(ps))
	for i, p := range ps {
		tps[i], p.paused = p.tp, true
	}
	if err := f.source.pause(tps); err != nil {
		f.log.Warn("cannot pause partitions", "partitions", tps, "error", err)
	}
}

func (f *Forwarder) resume(tps []tp) {
	if len(tps) == 0 {
		return
	}
	if err := f.source.resume(tps); err != nil {
		f.log.Warn("cannot resume partitions", "partitions", tps, "error", err)
	}
}

// stand begins to stand by: what holds more than half of its share is paused. So all of them together hold hardly more than
// the bound and half of it, and at the most that, and a message each, where partitions come later.
func (f *Forwarder) stand() {
	f.standing = true
	f.state.say(stalled, errors.New("KPUSH_BUFFER is full of messages that the service has not taken: their partitions are paused"))
	var full []*partition
	for _, p := range f.parts {
		if !p.paused && p.goes() && p.held.Load() > f.share()/2 {
			full = append(full, p)
		}
	}
	f.pause(full...)
}
