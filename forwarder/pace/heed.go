package pace

import (
	"errors"
	"fmt"
	"time"
)

// heed takes the sign of an attempt.
func (s *hosts) heed(t *Turn, sign Sign, now time.Time) {
	s.holdOff(sign)
	h := s.list[max(0, t.host)]
	switch {
	case sign.Kind == Cancelled:
		if t.probe != nil {
			s.unclaim(h)
		}
	case sign.Spared && sign.Kind == Fault && t.probe == nil:
	case sign.Kind == Fault, sign.Kind == Silent:
		s.noteFault(h, t, sign)
	default:
		h.noteAnswered(now)
		if h.ill.Load() && s.noteAnswer(h, t.began) {
			s.wake()
		}
	}
}

// holdOff lets the service rest where it asked for that.
func (s *hosts) holdOff(sign Sign) {
	if sign.RetryAfter <= 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if until := time.Now().Add(min(sign.RetryAfter, max(s.cfg.RetryMaxInterval, retryAfterCap))); until.After(s.until) {
		s.until = until
	}
	s.resting.Store(true)
}

// noteFault puts a host down, or says that it still is.
//
// Only fresh evidence puts it down: that messages which have failed before fail once more says nothing where others were answered
// since.
func (s *hosts) noteFault(h *host, t *Turn, sign Sign) {
	s.mu.Lock()
	defer s.mu.Unlock()
	probe := t.probe != nil
	if old := !t.before.IsZero() && h.answeredAfter(t.before); old && !h.down && !sign.Absent && sign.Kind == Fault {
		return
	}
	h.ill.Store(true)
	standsStill := sign.Kind == Silent && h.silence.standsStill()
	if sign.Kind == Fault || s.upBeside(h) {
		h.faults++
	}
	switch {
	case h.down && probe:
		h.failed++
	case h.down: // it was under way when the host went down
		return
	case h.faults < downAfter && !sign.Absent && !standsStill:
		return
	default:
		h.down, h.since = true, time.Now()
	}
	s.postpone(h)
	h.spared = time.Now().Add(min(sparedTimes*time.Since(t.began), sparedMost))
	s.sayDown(h, sign.Why)
}

// sayDown says that a host is down and why, and that there is another reason once two probes in a row have had it. Where it was the last
// that was up, the service is.
func (s *hosts) sayDown(h *host, why string) {
	last := !s.upBeside(h)
	if (s.down || !last) && h.said != "" && (why == h.said || why != h.heard) {
		h.heard = why
		return
	}
	h.said, h.heard = why, why
	if !last {
		s.changed(h.number, errors.New(why))
		return
	}
	s.down = true
	s.resting.Store(true)
	s.changed(Whole, fmt.Errorf("the service is down (%s): the oldest message probes, the rest wait", why))
}

// noteAnswer brings a host up, whatever the answer says, and tells whether the rest of the service is over by that. An answer to a
// request that was under way when the host went down tells of before.
func (s *hosts) noteAnswer(h *host, began time.Time) (again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.down && began.Before(h.since) {
		return false
	}
	h.ill.Store(false)
	h.vouched = false
	h.silence.end(time.Now())
	return s.bringUp(h)
}

// bringUp tells whether the rest of the service is over by that. The caller holds mu.
func (s *hosts) bringUp(h *host) (again bool) {
	was := h.down
	h.faults, h.down, h.since, h.spared, h.failed, h.said = 0, false, time.Time{}, time.Time{}, 0, ""
	if again = s.down; again {
		s.down = false
		s.changed(Whole, nil)
	} else if was {
		s.changed(h.number, nil)
	}
	return again
}
