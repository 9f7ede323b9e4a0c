package pace

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// hosts is what is known of how the service is: whether it asked for a pause, and which of its hosts take requests.
//
// Service faults in a row, without any answer in between, put a host down: it gets nothing but one request per retry
// interval, the probe, until that has an answer. With all hosts down the service rests. So a service that is down is not
// run over, and a message that alone breaks its connection each time stops nobody else. Where another host is up, no answer
// in time counts like a service fault, or the host that hangs would soon have all turns.
type hosts struct {
	cfg     *Config
	wake    func()      // the rest may be over
	changed func(error) // says that the service is down and why; nil: up again
	resting atomic.Bool // one of the reasons to rest holds, or held: look closer

	mu     sync.Mutex
	list   []*host
	until  time.Time // the service asked for a pause
	closed bool      // Config.Closed, and Ready has not been called
	down   bool      // all hosts are; what was said last
}

// host is what is known of one of Config.Hosts.
type host struct {
	faults atomic.Int32 // service faults in a row
	down   bool         // this and the next four are guarded by hosts.mu
	since  time.Time    // down since
	failed int          // probes
	row    int          // probes that one blocked message had since another had one
	next   time.Time    // when it may be probed
}

// downAfter service faults in a row a host is down. A refused connection is enough: nobody listens.
const downAfter = 3

// never is the end of a rest that somebody else has to end.
var never = time.Unix(1<<40, 0)

func (s *hosts) init(cfg *Config, wake func(), changed func(error)) {
	s.cfg, s.wake, s.changed, s.closed = cfg, wake, changed, cfg.Closed
	for range max(1, cfg.Hosts) {
		s.list = append(s.list, &host{})
	}
	s.resting.Store(s.closed)
}

// open ends the wait for Ready.
func (s *hosts) open() {
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

// pause is how long nobody may send yet, not even a probe, because the service asked for that. The host that t probes stays its
// own until an interval after it.
func (s *hosts) pause(t *Turn) time.Duration {
	if !s.resting.Load() {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	left := time.Until(s.until)
	if left > 0 && t.probe > 0 {
		h := s.list[t.probe-1]
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
	first := s.list[0]
	for _, h := range s.list[1:] {
		if h.next.Before(first.next) {
			first = h
		}
	}
	return first
}

// probe claims the host that may be probed now for one attempt, and names it: its number plus one. blocked: of the oldest
// message, whose own fault it may be.
func (s *hosts) probe(blocked bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.earliest()
	first.next = time.Now().Add(s.cfg.backoff(first.failed + 1))
	if first.row++; !blocked {
		first.row = 0
	}
	for i, h := range s.list {
		if h == first {
			return i + 1
		}
	}
	return 0
}

// inARow is how many probes of the host that may be probed now one blocked message had since another had one, and since when
// the next is due.
func (s *hosts) inARow() (row int, due time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.earliest()
	return first.row, first.next
}

// pick chooses the host of an attempt: the one it has to probe, else one that is up and did not fail this message just now.
// A host that is down gets a request as soon as it may be probed.
func (s *hosts) pick(t *Turn) int {
	n := len(s.list)
	if n == 1 {
		return 0
	}
	if t.probe > 0 {
		return t.probe - 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	begin, best := rand.IntN(n), -1
	for i := range n {
		i = (begin + i) % n
		switch h := s.list[i]; {
		case i == t.host:
		case h.down && time.Now().After(h.next):
			t.probe = i + 1
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
	if len(s.list) == 1 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.upBeside(s.list[max(0, t.host)])
}

func (s *hosts) upBeside(one *host) bool {
	for _, h := range s.list {
		if h != one && !h.down {
			return true
		}
	}
	return false
}

// claim keeps everybody else from a host that is down as long as this probe may hang: each would cost a turn that
// the hosts that are up need.
func (s *hosts) claim(h *host) {
	h.next = never
	if s.cfg.ExecTimeout > 0 {
		h.next = time.Now().Add(s.cfg.ExecTimeout + s.cfg.backoff(h.failed+1))
	}
}

// unclaim lets others probe a host again whose probe was cancelled.
func (s *hosts) unclaim(h *host, t *Turn) {
	if t.probe > 0 {
		s.mu.Lock()
		defer s.mu.Unlock()
		h.next = time.Now().Add(s.cfg.backoff(h.failed + 1))
	}
}

// ended takes the sign of an attempt.
func (s *hosts) ended(t *Turn, sign Sign) {
	if sign.RetryAfter > 0 {
		s.holdOff(min(sign.RetryAfter, max(s.cfg.RetryMaxInterval, retryAfterCap)))
	}
	h := s.list[max(0, t.host)]
	switch {
	case sign.Kind == Cancelled:
		s.unclaim(h, t)
	case sign.Kind == Fault, sign.Kind == Silent:
		s.failed(h, t.probe > 0, sign)
	case h.faults.Load() > 0:
		s.answered(h, t)
	}
}

// holdOff lets the service rest, because it asked for that.
func (s *hosts) holdOff(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if until := time.Now().Add(d); until.After(s.until) {
		s.until = until
	}
	s.resting.Store(true)
}

func (s *hosts) failed(h *host, probe bool, sign Sign) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sign.Kind == Silent && !h.down && !s.upBeside(h) {
		return // no answer in time may be the message's fault: that alone does not put the last host down
	}
	inARow := h.faults.Add(1)
	switch {
	case h.down && probe:
		h.failed++
	case h.down: // it was under way when the host went down
		return
	case inARow < downAfter && !sign.Unsent:
		return
	default:
		h.down, h.since = true, time.Now()
	}
	h.next = time.Now().Add(s.cfg.backoff(h.failed + 1))
	for _, h := range s.list {
		if !h.down {
			return
		}
	}
	if !s.down {
		s.down = true
		s.resting.Store(true)
		s.changed(fmt.Errorf("the service is down (%s): the oldest message probes, the rest wait", sign.Why))
	}
}

// answered notes an answer, whatever it says. One to a request that was under way when the host went down tells of before.
func (s *hosts) answered(h *host, t *Turn) {
	s.mu.Lock()
	if h.down && t.began.Before(h.since) {
		s.mu.Unlock()
		return
	}
	h.faults.Store(0)
	h.down, h.failed = false, 0
	was := s.down
	s.down = false
	s.mu.Unlock()
	if was {
		s.changed(nil)
		s.wake()
	}
}

// retryAfterCap bounds what a service may ask for with Retry-After, where RETRY_MAX_INTERVAL is not larger.
const retryAfterCap = 5 * time.Minute

// tell adds what is known of the hosts.
func (s *hosts) tell(status *Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	status.Up = !s.down
	if time.Now().Before(s.until) {
		status.Paused = s.until
	}
	for _, h := range s.list {
		one := Host{Up: !h.down}
		if h.down {
			one.Since = h.since
		}
		status.Hosts = append(status.Hosts, one)
	}
}
