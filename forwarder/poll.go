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
	pollTime     = 100 * time.Millisecond // of one poll
	restTime     = time.Second            // of one poll when there is nothing to do: bounds how late the end of a transaction is noticed
	fullTime     = 20 * time.Millisecond  // of one wait for room
	standingTime = time.Second            // at the bound for so long: the service is slow or down, so pause and go on polling
)

// loop polls until ctx ends or the client has failed. It never waits for the service for long: while the budget is used
// up it does not poll, and when that lasts it stands by: it polls on, with the partitions paused that hold messages, so that
// the group sees a living member and a message of a partition that is not stuck is delivered.
func (f *Forwarder) loop(ctx context.Context) (err error) {
	defer context.AfterFunc(ctx, f.client.wake)()
	for now := time.Now(); ctx.Err() == nil && err == nil; { // the clock has its price, too
		now, err = f.turn(now)
	}
	return err
}

// turn is one turn of the loop, or of the one beside it while a rebalance callback waits.
func (f *Forwarder) turn(now time.Time) (time.Time, error) {
	f.state.turn(now)
	if f.budget.full() && !f.standing {
		if f.full.IsZero() {
			f.full = now
		}
		if now.Sub(f.full) < standingTime && !f.relieve(now) {
			f.budget.wait(fullTime)
			return time.Now(), nil
		}
		f.stand()
	} else if !f.budget.full() {
		f.full = time.Time{}
	}
	if !f.waiting {
		select {
		case call := <-f.calls:
			call()
		default:
		}
	}
	atMost := pollTime
	if f.idle(now) && f.budget.held.Load() == 0 && !f.waiting {
		atMost = restTime
	}
	e := f.source.poll(atMost)
	now = time.Now()
	switch e := e.(type) {
	case *Message:
		f.busy = now
		f.take(e, now)
	case error:
		if f.waiting {
			f.log.Debug("Kafka reports to the stand-in", "error", e)
		} else if err := f.event(e); err != nil {
			return now, err
		}
	}
	if now.Sub(f.swept) > pollTime {
		f.swept = now
		f.tidy()
		f.tidyMemory(now)
	}
	return now, nil
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
	if p.behind && m.Offset < p.next {
		return // the stand-in has brought it
	}
	p.behind = false
	p.came = now
	m.Topic = p.topic // one string for all
	p.push(m)
	switch {
	case p.paused:
	case f.standing && (p.held.Load() > f.share()/2 || f.budget.held.Load() > f.budget.most()):
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
		if !p.goes() {
			continue
		}
		p.sample(now)
		if p.paused && (p.held.Load() <= enough || !f.standing && p.lasts() < soonTime) && (p.held.Load() == 0 || f.budget.held.Load() < f.budget.most()) {
			p.paused = false
			resume = append(resume, t)
		}
		if p.rec.Outstanding() > 0 {
			continue
		}
		switch {
		case p.astray && !f.waiting:
			f.restart(p, errAstray)
		case !p.astray:
			drained = append(drained, t)
		}
	}
	f.resume(resume)
	f.advance(drained)
	f.sayStalls()
	if f.waiting {
		return
	}
	if f.strays != nil && f.state.every("strays", time.Second) {
		f.outOfRange(f.strays)
	}
	f.watchdog(now)
	f.startPending()
	f.rejoin(now)
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
	at, err := f.source.position(drained)
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
		return fatalSentence(fatal, f.cfg, time.Since(f.unpolled) < time.Minute)
	case errors.Is(err, errOutOfRange):
		f.outOfRange(err)
	case errors.Is(err, errNoBroker):
		f.noBroker(err)
	case errors.Is(err, errNoTopic): // watch says so
	case errors.Is(err, errUnpolled):
		f.unpolled = time.Now()
		f.log.Warn("Kafka has given up on this member, which joins anew", "error", err)
	case f.state.every("Kafka reports "+err.Error(), time.Minute):
		f.log.Warn("Kafka reports", "error", err)
	}
	return nil
}
