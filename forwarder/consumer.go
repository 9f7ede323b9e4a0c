package forwarder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

const (
	pollTime     = 100 * time.Millisecond // of one poll
	restTime     = time.Second            // of one poll when there is nothing to do: bounds how late the end of a transaction is noticed
	fullTime     = 20 * time.Millisecond  // of one wait for room
	heldBackTime = time.Second            // at the bound for so long: the service is slow or down, so pause and go on polling
	idleTime     = 5 * time.Second        // without a message, what busy times needed goes back to the system,
	tidyTime     = time.Minute            // and every so often from then on what being idle has piled up
)

// consumer is the member of the group: all that the poll goroutine owns. Others give it something to do, and read what it has
// published.
type consumer struct {
	f         *Forwarder
	log       *slog.Logger
	health    *health
	client    kafka.Consumer
	assign    func(offsets.Key, offsets.Start) (*offsets.Partition, error) // opens a record
	stopping  context.Context
	calls     chan func()   // from other goroutines
	over      chan struct{} // closed when nobody takes them any more
	published atomic.Pointer[assignment]

	source  kafka.Reader // what is polled: client, or the reader beside it
	beside  bool         // a drain waits, and a reader without a group is polled
	parts   map[kafka.Partition]*partition
	pending map[kafka.Partition]error // assigned, but not started yet, and why
	past    past
	flow    flow
	budget  *budget
	asking  bool  // a goroutine asks where pending partitions start
	failed  error // why the loop ends
	when    moments
}

// moments are when the poll goroutine did something last.
type moments struct {
	made, swept, ahead, looked, busy, tidied time.Time
}

func newConsumer(f *Forwarder) *consumer {
	c := &consumer{f: f, log: f.log, health: &f.health, budget: f.budget, client: f.parts.Consumer, source: f.parts.Consumer,
		assign: f.parts.Store.Assign, over: make(chan struct{}), calls: make(chan func(), 16),
		parts: map[kafka.Partition]*partition{}, pending: map[kafka.Partition]error{},
		past: past{left: map[kafka.Partition]earlier{}, asked: map[kafka.Partition]int64{}},
		when: moments{busy: time.Now(), made: time.Now()}}
	c.publish()
	return c
}

// do runs what on the poll goroutine, and returns what came of it, or why ctx ended first.
func (c *consumer) do(ctx context.Context, what func(*consumer) error) error {
	done := make(chan error, 1)
	select {
	case c.calls <- func() { done <- what(c) }:
		c.client.Wake()
	case <-c.over:
		return ErrEnding
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-done:
		return err
	case <-c.over:
		select {
		case err := <-done:
			return err
		default:
			return ErrEnding
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// loop polls until ctx ends or the client has failed. It never waits for the service for long: while the budget is used
// up it does not poll, and when that lasts it holds back: it polls on, with the partitions paused that hold messages, so that
// the group sees a living member and a message of a partition that is not stuck is delivered.
func (c *consumer) loop(ctx context.Context) (err error) {
	defer close(c.over)
	defer context.AfterFunc(ctx, c.client.Wake)()
	for now := time.Now(); ctx.Err() == nil && err == nil; { // the clock has its price, too
		now, err = c.step(now)
	}
	return err
}

// step is one round of the loop, or of the one beside it while a rebalance callback waits.
func (c *consumer) step(now time.Time) (time.Time, error) {
	c.health.stepped(now)
	if c.budget.full() && !c.flow.heldBack {
		if c.flow.full.IsZero() {
			c.flow.full = now
		}
		if now.Sub(c.flow.full) < heldBackTime && !c.relieve(now) {
			c.budget.wait(fullTime)
			return time.Now(), nil
		}
		c.holdBack()
	} else if !c.budget.full() {
		c.flow.full = time.Time{}
	}
	if !c.beside {
		select {
		case call := <-c.calls:
			call()
		default:
		}
	}
	atMost := pollTime
	if c.idle(now) && c.budget.held.Load() == 0 && !c.beside {
		atMost = untilNext(restTime)
	}
	m, err := c.source.Poll(atMost)
	now = time.Now()
	switch {
	case m != nil:
		c.when.busy = now
		c.dispatch(m, now)
	case err != nil:
		if err := c.event(err); err != nil {
			return now, err
		}
	}
	if now.Sub(c.when.swept) > pollTime {
		c.when.swept = now
		c.tidy()
		c.tidyMemory(now)
	}
	return now, c.failed
}

// dispatch hands a message to its partition. A lane that has more than its share stops being fetched when its message is
// stuck, or when it crowds others out: librdkafka hands over long runs of one partition (a whole one where batches are
// compressed), and a lane without messages is a lane that idles. Ordinary flow control never pauses, because that drops
// what librdkafka has queued.
func (c *consumer) dispatch(m *kafka.Message, now time.Time) {
	p := c.parts[m.Partition]
	if p == nil {
		return // revoked
	}
	if p.reading.again && m.Offset < p.reading.next {
		return // the reader without a group has brought it
	}
	p.reading.again = false
	p.reading.came = now
	c.readAgain(p)
	m.Topic = p.Topic // one string for all
	p.push(m)
	c.grown(sizeOf(m))
	switch {
	case c.flow.heldBack && c.budget.held.Load() > c.roof():
		c.pause(c.partsWhere(func(p *partition) bool { return !p.stock.paused.Load() })...)
	case p.stock.paused.Load():
	case c.flow.heldBack && (p.stock.held.Load() > c.share()/2 || c.budget.held.Load() > c.budget.most()):
		c.pause(p)
	case p.stock.held.Load() <= c.share():
	case p.stock.held.Load() > c.budget.bound/2 && p.stock.idle(now) > stallTime && len(c.parts) > 1:
		c.pause(p) // a stuck one must not take everything before it counts as stuck
	case p.stock.idle(now) > stuckTime:
		c.pause(p)
	default:
		c.relieve(now)
	}
}

// tidy does what is due now and then: room is used again, progress over transaction markers is noticed, partitions that
// could not be started are tried again.
func (c *consumer) tidy() {
	if c.flow.heldBack && c.budget.held.Load() <= c.budget.bound/2 {
		c.flow.heldBack = false
		c.health.say(bufferFull, nil)
	}
	enough := c.share() / 2
	if c.flow.heldBack {
		enough /= 2
	}
	var resume, drained []kafka.Partition
	now := time.Now()
	for t, p := range c.parts {
		if !p.goes() {
			continue
		}
		p.stock.sample(now)
		c.retryUnread(p, now)
		held := p.stock.held.Load()
		little := held <= enough || !c.flow.heldBack && p.stock.lasts() < soonTime
		if all := c.budget.held.Load(); p.stock.paused.Load() && little && (held == 0 && all <= c.roof() || all < c.budget.most()) {
			p.stock.paused.Store(false)
			resume = append(resume, t)
		}
		if p.rec.Outstanding() > 0 {
			continue
		}
		switch {
		case p.reading.outOfRange && !c.beside:
			c.restart(errGoneBehind, p)
		case !p.reading.outOfRange && p.reading.unread.trusted(now.Sub(p.reading.came)):
			drained = append(drained, t)
		}
	}
	c.resume(resume)
	c.advance(drained)
	c.sayBounded()
	c.sayUnread()
	if c.beside || c.notStatic() {
		return
	}
	c.lookAhead(now)
	c.watchdog(now)
	c.startPending()
}

// sayBounded names the partitions whose oldest messages keep failing for so long that nothing new of them is tried: each once
// in the log, and all of them for readiness as long as it lasts.
func (c *consumer) sayBounded() {
	var all []string
	for _, p := range c.parts {
		why := p.ceiling.boundedBy()
		if why != "" {
			all = append(all, fmt.Sprintf("%s: %s", p.Partition, why))
			p.lanes.Resume() // its share of the failing may have grown since
		}
		if why != "" && !p.reading.said {
			c.log.Warn("nothing new is tried of the partition until messages that keep failing have their outcome", p.where(), "why", why)
		}
		p.reading.said = why != ""
	}
	var sentence error
	if len(all) > 0 {
		slices.Sort(all)
		sentence = errors.New("nothing new is tried until messages that keep failing have their outcome: " + strings.Join(all, "; "))
	}
	c.health.say(bounded, sentence)
}

// advance moves partitions with nothing outstanding to the consumer's position: behind the last message there may be
// transaction markers, and lag would never end at 0.
func (c *consumer) advance(drained []kafka.Partition) {
	if len(drained) == 0 {
		return
	}
	at, err := c.source.Positions(drained)
	if err != nil {
		return // asked again at the next step
	}
	for _, a := range at {
		if p := c.parts[a.Partition]; p != nil && a.Offset > 0 {
			if a.Offset > p.reading.next {
				c.readAgain(p)
			}
			p.rec.Advance(a.Offset)
			p.reading.next = max(p.reading.next, a.Offset)
			p.gauge.position.Store(p.reading.next)
		}
	}
}

// lookAhead notes of partitions that have nothing whether the log goes on: what an open transaction hides is told by nobody.
func (c *consumer) lookAhead(now time.Time) {
	if now.Sub(c.when.ahead) < sampleTime {
		return
	}
	c.when.ahead = now
	for t, p := range c.parts {
		p.gauge.ahead.Store(p.stock.held.Load() == 0 && c.source.End(t) > p.reading.next)
	}
}

// event weighs what the client reports; an error ends the process.
func (c *consumer) event(err error) error {
	c.f.news.error()
	if fatal, ok := errors.AsType[kafka.FatalError](err); ok && !c.beside {
		return fatalSentence(fatal, c.f.cfg)
	}
	one, ofOne := errors.AsType[kafka.PartitionError](err)
	switch {
	case c.beside && !ofOne:
		c.log.Debug("Kafka reports to the reader without a group", "error", err)
	case errors.Is(err, kafka.ErrNoTopic), errors.Is(err, kafka.ErrForbidden): // watch says so
	case ofOne:
		c.unread(one)
	case errors.Is(err, kafka.ErrNoBroker):
		c.health.hears(c.f.cfg.Brokers, err)
	case errors.Is(err, kafka.ErrNotAdmitted):
		c.health.watched(admission, notAdmitted(c.f.cfg.Group, err))
	case errors.Is(err, kafka.ErrUnpolled):
		c.log.Warn("Kafka has given up on this member, which joins anew", "error", err)
	case c.health.every("Kafka reports "+err.Error(), time.Minute):
		c.log.Warn("Kafka reports", "error", err)
	}
	return nil
}

// idle tells whether no message has come for a while.
func (c *consumer) idle(now time.Time) bool { return now.Sub(c.when.busy) > idleTime }

// tidyMemory gives back memory that is not needed any more.
func (c *consumer) tidyMemory(now time.Time) {
	if w := &c.when; c.f.parts.Idle != nil && c.idle(now) && !(w.tidied.After(w.busy) && now.Sub(w.tidied) < tidyTime) {
		w.tidied = now
		go c.f.parts.Idle()
	}
}
