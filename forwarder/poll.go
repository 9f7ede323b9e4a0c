package forwarder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	pollTime     = 100 * time.Millisecond // of one poll: bounds how late a stop is noticed
	restTime     = 250 * time.Millisecond // of one poll when no message has come for a while
	fullTime     = 20 * time.Millisecond  // of one wait for room
	standingTime = time.Second            // at the bound for so long: the service is slow or down, so pause and go on polling
	relieveTime  = 5 * time.Millisecond   // between two looks at who idles
	soonTime     = 300 * time.Millisecond // one whose messages last no longer is fetched again
	aheadTime    = time.Second            // a partition whose messages last longer is far ahead
	stallTime    = 50 * time.Millisecond  // without an outcome for so long, one above half of all is paused
	stuckTime    = 250 * time.Millisecond // without an outcome for so long, a partition above its share is paused
)

// loop polls until ctx ends or the client has failed. It never waits for the service for long: while the budget is used
// up it does not poll, and when that lasts it stands by: it polls on, with the partitions paused that hold messages, so that
// the group sees a living member and a message of a partition that is not stuck is delivered.
func (f *Forwarder) loop(ctx context.Context) error {
	now := time.Now() // once a turn: the clock has its price, too
	for tidy := now; ctx.Err() == nil; {
		f.state.turn(now)
		if f.budget.full() && !f.standing {
			if f.full.IsZero() {
				f.full = now
			}
			if now.Sub(f.full) < standingTime {
				f.relieve(now)
				f.budget.wait(fullTime)
				now = time.Now()
				continue
			}
			f.stand()
		} else if !f.budget.full() {
			f.full = time.Time{}
		}
		select {
		case call := <-f.calls:
			call()
		default:
		}
		atMost := pollTime
		if f.idle(now) {
			atMost = restTime
		}
		e := f.client.poll(atMost)
		now = time.Now()
		switch e := e.(type) {
		case *Message:
			f.busy = now
			f.take(e, now)
		case error:
			if err := f.event(e); err != nil {
				return err
			}
		}
		if now.Sub(tidy) > pollTime {
			tidy = now
			f.tidy()
			f.tidyMemory(now)
		}
	}
	return nil
}

// take hands a message to its partition. A lane that has more than its share stops being fetched when its message is
// stuck, or when it crowds others out: librdkafka hands over long runs of one partition (a whole one where batches are
// compressed), and a lane without messages is a lane that idles. Ordinary flow control never pauses, because that drops
// what librdkafka has queued.
func (f *Forwarder) take(m *Message, now time.Time) {
	p := f.parts[tp{m.Topic, m.Partition}]
	if p == nil {
		return // revoked
	}
	m.Topic = p.topic // one string for all
	p.push(m)
	switch {
	case p.paused:
	case f.standing && p.held.Load() > f.share()/2:
		f.pause(p)
	case p.held.Load() <= f.share():
	case p.held.Load() > f.budget.bound/2 && p.idle(now) > stallTime && len(f.parts) > 1:
		f.pause(p) // a stuck one must not take everything before it counts as stuck
	case p.idle(now) > stuckTime:
		f.pause(p)
	default:
		f.relieve(now)
	}
}

// share is what each partition may hold of the budget before it counts as ahead of the others.
func (f *Forwarder) share() int64 { return f.budget.bound / int64(max(1, len(f.parts))) }

// relieve stops fetching for partitions that are far ahead while another one has next to nothing and more to fetch: a long
// run of one would take all the room. Far ahead is time as well as bytes: pausing drops what librdkafka has queued, and what
// a fast service takes in a moment is fetched again more slowly than that.
func (f *Forwarder) relieve(now time.Time) {
	if now.Sub(f.relieved) < relieveTime {
		return
	}
	f.relieved = now
	share, starves := f.share(), false
	for t, p := range f.parts {
		end := f.client.end(t)
		starves = starves || p.held.Load() < share/4 && (end < 0 || end > p.next)
	}
	if !starves {
		return
	}
	var ahead []*partition
	for _, p := range f.parts {
		held, known := p.held.Load(), p.pull > 0
		if !p.paused && (known && held > share && p.lasts() > aheadTime || !known && held > 2*share) {
			ahead = append(ahead, p)
		}
	}
	f.pause(ahead...)
}

// lasts is how long what a partition holds will last at its pace of the last moments.
func (p *partition) lasts() time.Duration {
	return time.Duration(float64(p.held.Load()) / max(p.pull, 1) * float64(time.Second))
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
	if err := f.client.pause(tps); err != nil {
		f.log.Warn("cannot pause partitions", "partitions", tps, "error", err)
	}
}

// stand begins to stand by: what holds more than half of its share is paused. So all of them together hold at the most the
// bound and half of it, which still is less than Config.Buffer.
func (f *Forwarder) stand() {
	f.standing = true
	f.state.say(stalled, errors.New("KPUSH_BUFFER is full of messages that the service has not taken: their partitions are paused"))
	var full []*partition
	for _, p := range f.parts {
		if !p.paused && p.held.Load() > f.share()/2 {
			full = append(full, p)
		}
	}
	f.pause(full...)
}

// tidy does what is due now and then: room is used again, progress over transaction markers is noticed, partitions that
// could not be started are tried again.
func (f *Forwarder) tidy() {
	if f.standing && f.budget.held.Load() <= f.budget.bound/2 {
		f.standing = false
		f.state.say(stalled, nil)
	}
	enough := f.share() / 2
	if f.standing {
		enough /= 2
	}
	var resume, drained []tp
	now := time.Now()
	for t, p := range f.parts {
		p.sample(now)
		if p.paused && (p.held.Load() <= enough || !f.standing && p.lasts() < soonTime) {
			p.paused = false
			resume = append(resume, t)
		}
		if p.rec.Outstanding() > 0 {
			continue
		}
		if p.astray {
			f.restart(p, errAstray)
		} else {
			drained = append(drained, t)
		}
	}
	if len(resume) > 0 {
		if err := f.client.resume(resume); err != nil {
			f.log.Warn("cannot resume partitions", "partitions", resume, "error", err)
		}
	}
	f.advance(drained)
	f.sayStalls()
	if f.strays != nil && f.state.every("strays", time.Second) {
		f.outOfRange(f.strays)
	}
	f.startPending()
}

// sayStalls names the partitions whose oldest messages keep failing for so long that nothing new of them is tried: each once
// in the log, and all of them for readiness as long as it lasts.
func (f *Forwarder) sayStalls() {
	var all []string
	for _, p := range f.parts {
		why := p.stands()
		if why != "" {
			all = append(all, fmt.Sprintf("%s: %s", p.tp, why))
			f.turns.resume(p) // its share of the failing may have grown since
		}
		if why != "" && !p.told {
			f.log.Warn("nothing new is tried of the partition until messages that keep failing have their outcome", "topic", p.topic, "partition", p.partition, "why", why)
		}
		p.told = why != ""
	}
	if len(all) == 0 {
		f.state.say(behind, nil)
		return
	}
	slices.Sort(all)
	f.state.say(behind, errors.New("nothing new is tried until messages that keep failing have their outcome: "+strings.Join(all, "; ")))
}

// advance moves partitions with nothing outstanding to the consumer's position: behind the last message there may be
// transaction markers, and lag would never end at 0.
func (f *Forwarder) advance(drained []tp) {
	if len(drained) == 0 {
		return
	}
	at, err := f.client.position(drained)
	if err != nil {
		return // asked again at the next turn
	}
	for _, a := range at {
		if p := f.parts[a.tp]; p != nil && a.offset > 0 {
			p.rec.Advance(a.offset)
			p.next = max(p.next, a.offset)
		}
	}
}

// event weighs what the client reports; an error ends the process.
func (f *Forwarder) event(err error) error {
	var fatal fatalError
	switch {
	case errors.As(err, &fatal):
		return fatalSentence(fatal, f.cfg)
	case errors.Is(err, errOutOfRange):
		f.outOfRange(err)
	case errors.Is(err, errNoBroker):
		f.noBroker(err)
	case errors.Is(err, errNoTopic): // watch says so
	case f.state.every("Kafka reports "+err.Error(), time.Minute):
		f.log.Warn("Kafka reports", "error", err)
	}
	return nil
}
