package pace

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// hosts is what is known of how the service is: whether it asked for a pause, and which of its hosts take requests.
//
// Service faults in a row, without any answer in between, put a host down: it gets nothing but one request per retry
// interval, the probe, until that has an answer. With all hosts down the service rests. So a service that is down is not
// run over, and a message that alone breaks its connection each time stops nobody else. Where another host is up, no answer
// in time counts like a service fault, or the host that hangs would soon have all turns; how it counts else is silence.go's.
type hosts struct {
	cfg     *Config
	wake    func() // the rest may be over
	changed func(int, error)
	resting atomic.Bool // one of the reasons to rest holds, or held: look closer

	mu     sync.Mutex
	list   []*host
	until  time.Time // the service asked for a pause
	closed bool      // Config.Closed, and Ready has not been called
	down   bool      // all hosts are; what was said last
	asks   time.Time // when it may be asked something, although it is down
	asked  int       // the host that was asked last
}

// host is what is known of one of Config.Hosts.
type host struct {
	number   int
	answered atomic.Int64 // nanoseconds since born of the newest answer
	ill      atomic.Bool  // no answer has come since a fault, or a silence

	faults  int       // service faults in a row; this and the rest are guarded by hosts.mu
	silence silence   // messages without an answer in a row
	down    bool      // nothing but probes goes to it
	since   time.Time // down since; zero where it is up
	said    string    // why, as the log has it, and
	heard   string    // what the newest probe came to
	failed  int       // probes
	row     int       // probes that one blocked message had since another had one
	next    time.Time // when it may be probed
	spared  time.Time // when it may where another host is up, and few turns are out: a probe may hang
	vouched bool      // an answer to a question has brought it up, and none to a message has come since
}

// born is what answers are counted from: a clock that is set does not change them.
var born = time.Now()

// neverHad is the time of an answer that there was none of.
const neverHad = math.MinInt64

// noteAnswered notes when a host has answered last.
func (h *host) noteAnswered(at time.Time) { h.answered.Store(int64(at.Sub(born))) }

// answeredAfter tells whether the newest answer of a host came after that.
func (h *host) answeredAfter(at time.Time) bool { return h.answered.Load() > int64(at.Sub(born)) }

// downAfter service faults in a row a host is down. Where nobody listens, one is enough.
const downAfter = 3

// Whole stands for the service where a number stands for one of its hosts.
const Whole = -1

// never is the end of a rest that somebody else has to end.
var never = time.Unix(1<<40, 0)

func (s *hosts) init(cfg *Config, wake func(), changed func(int, error)) {
	s.cfg, s.wake, s.changed, s.closed = cfg, wake, changed, cfg.Closed
	for i := range max(1, cfg.Hosts) {
		h := &host{number: i, silence: silence{number: 1}}
		h.answered.Store(neverHad)
		s.list = append(s.list, h)
	}
	s.resting.Store(s.closed)
}

// endClosed ends the wait for Ready.
func (s *hosts) endClosed() {
	s.mu.Lock()
	s.closed = false
	s.mu.Unlock()
	s.wake()
}

// rests tells whether nobody but a probe may start an attempt.
func (s *hosts) rests() bool {
	if !s.resting.Load() {
		return false
	}
	until, down := s.rest()
	return down || !until.IsZero()
}

// heldOff is how long holdOff still holds. The host that t probes stays its own until an interval after it.
func (s *hosts) heldOff(t *Turn) time.Duration {
	if !s.resting.Load() {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	left := time.Until(s.until)
	if h := t.probe; left > 0 && h != nil {
		if next := s.until.Add(s.cfg.backoff(h.failed + 1)); next.After(h.next) {
			h.next = next
		}
	}
	return left
}

// rest is how long the service rests at least: until that time, or, where there is none and it is down, until a probe has
// an answer. Neither: it does not rest.
func (s *hosts) rest() (until time.Time, down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	switch {
	case s.closed:
		return never, false
	case now.Before(s.until):
		return s.until, false
	case !s.down:
		s.resting.Store(false)
		return time.Time{}, false
	}
	if first := s.earliest(); now.Before(first.next) {
		return first.next, true
	}
	return time.Time{}, true
}

// isDown tells whether all hosts are.
func (s *hosts) isDown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down
}

// earliest is the host that may be probed first. All are down.
func (s *hosts) earliest() *host {
	return slices.MinFunc(s.list, func(a, b *host) int { return a.next.Compare(b.next) })
}

// claimEarliest gives the earliest host to one probe. blocked: of the oldest message, whose own fault it may be.
func (s *hosts) claimEarliest(blocked bool) *host {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.earliest()
	s.postpone(first)
	if first.row++; !blocked {
		first.row = 0
	}
	return first
}

// A probe that takes its time costs the lane whose message it is as much. Where few turns are out that is much of all, so then, and where another host
// is up, it is a twentieth of the time at the most, or what it is with a probe every sparedMost.
const (
	fewTurns    = 4
	sparedTimes = 20
	sparedMost  = 5 * time.Minute
)

// few tells whether a probe that hangs would hold up much of what is delivered.
func (p *Pace) few() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken <= fewTurns
}

// postpone lets nobody probe a host for an interval.
func (s *hosts) postpone(h *host) { h.next = time.Now().Add(s.cfg.backoff(h.failed + 1)) }

// inARow is how many probes of the earliest host one blocked message had since another had one, and since when the next is due.
func (s *hosts) inARow() (row int, due time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.earliest()
	return first.row, first.next
}

// pick chooses the host of an attempt: the one it has to probe, else one that is up and did not fail this message just now.
// A host that is down gets a request as soon as it may be probed; few: there are few turns out.
func (s *hosts) pick(t *Turn, few bool) int {
	n := len(s.list)
	if n == 1 {
		return 0
	}
	if t.probe != nil {
		return t.probe.number
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	start, best := rand.IntN(n), -1
	for i := range n {
		i = (start + i) % n
		switch h := s.list[i]; {
		case i == t.host:
		case h.down && time.Now().After(h.next) && (!few || time.Now().After(h.spared)):
			t.probe = h
			s.claim(h)
			return i
		case best < 0 && !h.down:
			best = i
		}
	}
	switch {
	case best >= 0:
		return best
	case t.host >= 0 && !s.list[t.host].down:
		return t.host
	}
	return (t.host + 1 + rand.IntN(n-1)) % n // all are down since this one got its turn
}

// elsewhere tells whether another host than the one that was tried last is up.
func (s *hosts) elsewhere(t *Turn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.upBeside(s.list[t.host])
}

func (s *hosts) upBeside(one *host) bool {
	return slices.ContainsFunc(s.list, func(h *host) bool { return h != one && !h.down })
}

// claim keeps everybody else from a host that is down as long as this probe may hang: each would cost a turn that
// the hosts that are up need.
func (s *hosts) claim(h *host) {
	h.next = never
	if s.cfg.ExecTimeout > 0 {
		h.next = time.Now().Add(s.cfg.ExecTimeout + s.cfg.backoff(h.failed+1))
	}
}

// unclaim ends the claim of a probe that was cancelled.
func (s *hosts) unclaim(h *host) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.postpone(h)
}

// retryAfterCap bounds what a service may ask for with Retry-After, where RETRY_MAX_INTERVAL is not larger.
const retryAfterCap = 5 * time.Minute

// describe adds what is known of the hosts.
func (s *hosts) describe(status *Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	status.Up = !s.down
	if time.Now().Before(s.until) {
		status.Paused = s.until
	}
	for _, h := range s.list {
		status.Hosts = append(status.Hosts, Host{!h.down, h.since, h.said})
	}
}
