package pace

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/kpush/kpush/kafka"
)

// The orders of Config.Order.
const (
	ByPartition = "partition" // one message of a partition at a time
	ByKey       = "key"       // one message of a key at a time; without a key each is on its own
	None        = "none"
)

// Config is what Pace has to know.
type Config struct {
	Order            string
	Concurrency      int                      // turns, over all partitions
	Adaptive         bool                     // find the service's best concurrency
	Hosts            int                      // of the service, at least one
	Closed           bool                     // nobody gets a turn before Ready
	BatchSize        int                      // messages of one batch at the most
	BatchLinger      time.Duration            // how long one waits to be full
	BatchBytes       int                      // of one with several messages at the most; 0: no bound
	Size             func(*kafka.Message) int // what a message takes of them
	BlockedAfter     int                      // attempts after which a message may be why the service seems down
	ExecTimeout      time.Duration            // of one attempt; 0: none
	RetryInterval    time.Duration
	RetryMaxInterval time.Duration
}

// Pace gives out the turns: who has one may make an attempt, and Config.Concurrency may at once. A lane gets its turn
// together with a goroutine; the goroutine keeps it from batch to batch, and hands it on when its messages have to
// wait for another attempt. Such a batch asks again when its pause is over and goes first, but retries never have more than
// half of the turns: they may hang. Where there is one turn, retries and lanes have it in turn. As long as the service rests nobody gets a turn but the message that probes.
type Pace struct {
	cfg     Config
	run     func(*Batch) // delivers a batch, with a turn, and what Next makes of it
	hosts   hosts
	limiter limiter
	spare   sync.Pool // of *Batch

	mu      sync.Mutex
	limit   int
	taken   int
	retries int         // of those taken, by messages that failed before
	retried bool        // the newest turn went to one of them
	failing int         // batches that wait for another attempt
	again   []*Turn     // those that wait for one, in the order in which they asked
	ring    []*Lanes    // with a ready lane; each in its turn
	at      int         // in ring
	ration  ration      // bytes of a batch
	probes  *host       // that the lane which gets its turn now probes; nil: none
	asked   bool        // the newest turn of a service that is down went to a question
	alarm   *time.Timer // when something may be given out by itself
	rings   time.Time   // when it goes off
}

// New calls run on a goroutine of its own whenever there is a turn and something to deliver, and down when one of several hosts, or the
// service as a Whole, is down (why), or there again (nil).
func New(cfg Config, run func(*Batch), down func(host int, err error)) *Pace {
	p := &Pace{cfg: cfg, run: run, limit: cfg.Concurrency, ration: ration{most: cfg.BatchBytes, now: cfg.BatchBytes},
		spare: sync.Pool{New: func() any { return new(Batch) }}}
	p.alarm, p.rings = time.AfterFunc(time.Until(never), p.look), never
	p.hosts.init(&p.cfg, p.look, down)
	p.limiter.init(p)
	return p
}

// look gives out what can be given out now: something has changed that Pace does not see by itself.
func (p *Pace) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dispatch()
}

func (p *Pace) list(s *Lanes) {
	if !s.listed && !s.stopped && len(s.ready) > 0 {
		s.listed = true
		p.ring = append(p.ring, s)
	}
}

// dispatch gives out turns as long as there are any, and somebody who may have one.
func (p *Pace) dispatch() {
	for p.taken < p.limit {
		t, l := p.grantNext()
		if t == nil && l == nil {
			return
		}
		p.taken++
		if l != nil {
			b := p.spare.Get().(*Batch)
			b.Turn = Turn{pace: p, host: -1}
			p.fill(b, l)
			go func() {
				p.run(b)
				p.spare.Put(b)
			}()
		}
	}
}

// lookAt has dispatch look again at a time, if it would not before.
func (p *Pace) lookAt(at time.Time) {
	if p.rings.Before(at) && p.rings.After(time.Now()) {
		return
	}
	p.rings = at
	p.alarm.Reset(time.Until(at))
}

// grantNext chooses who gets the next turn: one who asked for it, and has it now, or a lane.
func (p *Pace) grantNext() (*Turn, *lane) {
	if p.hosts.resting.Load() {
		until, down := p.hosts.rest()
		if !until.IsZero() {
			p.lookAt(until)
		}
		switch {
		case down:
			return p.grantWhileDown(until.IsZero())
		case !until.IsZero():
			return nil, nil
		}
	}
	retries := len(p.again) > 0 && p.retries < max(1, p.limit/2)
	if retries && !(p.limit == 1 && p.retried) {
		return p.grant(p.again[0]), nil
	}
	l := p.nextLane()
	if l == nil && retries {
		return p.grant(p.again[0]), nil
	}
	p.retried = false
	return nil, l
}

// nextLane is the lane that may start now, nil where there is none.
func (p *Pace) nextLane() *lane {
	for len(p.ring) > 0 {
		p.at %= len(p.ring)
		s := p.ring[p.at]
		if len(s.ready) == 0 || s.lingers() || !s.owner.Admits(s.ready[0].head.Offset) {
			p.ring = slices.Delete(p.ring, p.at, p.at+1)
			s.listed = false
			continue
		}
		p.at++
		s.running.Add(1)
		return s.pop()
	}
	return nil
}

// grant gives a turn to one of those who ask.
func (p *Pace) grant(t *Turn) *Turn {
	p.forget(t)
	p.retries++
	p.retried = true
	t.kind = retry
	close(t.granted)
	return t
}

// forget ends the wait of one who asked for a turn, if it still waits.
func (p *Pace) forget(t *Turn) {
	p.again = slices.DeleteFunc(p.again, func(other *Turn) bool { return other == t })
}

// reclaim takes the turn away; it still counts as taken.
func (p *Pace) reclaim(t *Turn) bool {
	had := t.kind
	if had == retry {
		p.retries--
	}
	t.kind = none
	return had != none
}

// onward takes the turn of a batch that has ended, and says what its goroutine goes on with.
func (p *Pace) onward(t *Turn) *lane {
	if !p.reclaim(t) {
		p.dispatch() // the partition may go on
		return nil
	}
	if p.taken <= p.limit {
		if other, l := p.grantNext(); other != nil || l != nil {
			return l // nil: the other goes on with this turn
		}
	}
	p.taken--
	return nil
}

// SetLimit changes how many turns there are, until the service's answers do. What is taken above it ends by itself.
func (p *Pace) SetLimit(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limit = n
	p.dispatch()
}

// Ready ends the wait of Config.Closed.
func (p *Pace) Ready() { p.hosts.endClosed() }

// Status is how the service is, and who is under way.
type Status struct {
	Up       bool
	Hosts    []Host
	Taken    int       // turns
	InFlight int       // attempts
	Limit    int       // of turns
	Paused   time.Time // until when the service asked for a pause; zero: it did not
	Failing  int       // batches that wait for another attempt
}

// Host is how one of the service's hosts is.
type Host struct {
	Up    bool
	Since time.Time // down since; zero where it is up
	Why   string    // it is down; "" where it is up
}

// Status may be asked at any time.
func (p *Pace) Status() Status {
	s := Status{}
	p.hosts.describe(&s)
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Taken, s.Limit, s.Failing, s.InFlight = p.taken, p.limit, p.failing, int(p.limiter.inFlight.Load())
	return s
}

// backoff is the pause after attempt number n: the interval, and where RetryMaxInterval is larger a random one between
// the interval and its doubling with each attempt (full jitter above the floor, so that messages that failed together
// do not come back together, and none comes back at once).
func (c *Config) backoff(n int) time.Duration {
	ceiling := c.RetryMaxInterval
	if doublings := n - 1; c.RetryInterval <= ceiling>>doublings { // so it cannot overflow
		ceiling = c.RetryInterval << doublings
	}
	if ceiling <= c.RetryInterval {
		return c.RetryInterval
	}
	return c.RetryInterval + rand.N(ceiling-c.RetryInterval)
}
