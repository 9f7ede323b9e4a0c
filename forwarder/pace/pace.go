package pace

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
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
	Concurrency      int           // turns, over all partitions
	Adaptive         bool          // find the service's best concurrency
	Hosts            int           // of the service, at least one
	Closed           bool          // nobody gets a turn before Ready
	BatchSize        int           // messages of one batch at the most
	BatchLinger      time.Duration // how long one waits to be full
	BlockedAfter     int           // attempts after which a message may be why the service seems down
	ExecTimeout      time.Duration // of one attempt; 0: none
	RetryInterval    time.Duration
	RetryMaxInterval time.Duration
}

// Pace gives out the turns: who has one may make an attempt, and Config.Concurrency may at once. A lane gets its turn
// together with a goroutine; the goroutine keeps it from batch to batch, and hands it on when its messages have to
// wait for another attempt. Such a batch asks again when its pause is over and goes first, but retries never have more than
// half of the turns: they may hang. As long as the service rests nobody gets a turn but the message that probes.
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
	failing int         // batches that wait for another attempt
	again   []*asking   // in the order in which they asked
	ring    []*Lanes    // with a ready lane; each in its turn
	at      int         // in ring
	probes  *host       // that the lane which gets its turn now probes; nil: none
	alarm   *time.Timer // when the rest of the service ends
}

// asking is a Turn that somebody waits for.
type asking struct {
	turn    *Turn
	granted chan struct{}
}

// New calls run on a goroutine of its own whenever there is a turn and something to deliver, and down when the service is down
// (why), or there again (nil).
func New(cfg Config, run func(*Batch), down func(error)) *Pace {
	p := &Pace{cfg: cfg, run: run, limit: cfg.Concurrency}
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
		t, l := p.pick()
		if t == nil && l == nil {
			return
		}
		p.taken++
		if l != nil {
			go p.deliver(p.batch(l))
		}
	}
}

// batch is a new one with a lane's messages, and a turn.
func (p *Pace) batch(l *lane) *Batch {
	b, ok := p.spare.Get().(*Batch)
	if !ok {
		b = new(Batch)
	}
	b.Turn = Turn{pace: p, kind: first, host: -1, probe: p.probes}
	p.probes = nil
	p.fill(b, l)
	return b
}

func (p *Pace) deliver(b *Batch) {
	p.run(b)
	p.spare.Put(b)
}

// pick chooses who gets the next turn: one who asked for it, and has it when pick returns, or a lane.
func (p *Pace) pick() (*Turn, *lane) {
	if p.hosts.resting.Load() {
		if until, down := p.hosts.rest(); !until.IsZero() {
			p.wakeAt(until)
			return nil, nil
		} else if down {
			return p.probe()
		}
	}
	if len(p.again) > 0 && p.retries < max(1, p.limit/2) {
		return p.grant(0), nil
	}
	return nil, p.lane()
}

// lane is the next lane that may start, nil where there is none.
func (p *Pace) lane() *lane {
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
		return s.take()
	}
	return nil
}

// grant gives a turn to the i-th of those who ask.
func (p *Pace) grant(i int) *Turn {
	a := p.again[i]
	p.again = slices.Delete(p.again, i, i+1)
	p.retries++
	a.turn.kind = retry
	close(a.granted)
	return a.turn
}

// wakeAt looks again at that time.
func (p *Pace) wakeAt(at time.Time) {
	switch {
	case at.Equal(never):
	case p.alarm == nil:
		p.alarm = time.AfterFunc(time.Until(at), p.look)
	default:
		p.alarm.Reset(time.Until(at))
	}
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
		switch other, l := p.pick(); {
		case l != nil:
			t.probe, p.probes = p.probes, nil
			return l
		case other != nil:
			return nil // it goes on with this turn
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
	InFlight int       // attempts, where Adaptive counts them
	Limit    int       // of turns
	Paused   time.Time // until when the service asked for a pause; zero: it did not
	Failing  int       // batches that wait for another attempt
}

// Host is how one of the service's hosts is.
type Host struct {
	Up    bool
	Since time.Time // down since; zero where it is up
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
	doublings := n - 1
	if grown := c.RetryInterval << doublings; doublings < 63 && grown>>doublings == c.RetryInterval { // no overflow
		ceiling = min(ceiling, grown)
	}
	if ceiling <= c.RetryInterval {
		return c.RetryInterval
	}
	return c.RetryInterval + rand.N(ceiling-c.RetryInterval)
}
