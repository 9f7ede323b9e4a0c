package pace

import (
	"context"
	"time"
)

// Ask waits until the service may be asked something about a message, and chooses the host: one that is up, if any is. A question has a
// turn like an attempt, but it is no probe: where this turn has one, another message gets it. Of a service that is down one question an
// interval is asked, beside the probes. What comes of it: Told. blocked and the error are Take's.
func (t *Turn) Ask(ctx context.Context, blocked bool) (host int, err error) {
	s := &t.pace.hosts
	if t.kind != none && s.rests() {
		s.unprobe(t)
		t.Give()
	}
	t.asks = true
	err = t.Turned(ctx, blocked)
	t.asks = false
	return s.nextToAsk(), err
}

// Told takes what a question has shown of the host that was asked, and tells whether another one may be asked at once: nothing has come
// to this one.
func (t *Turn) Told(host int, sign Sign, began time.Time) (elsewhere bool) {
	s := &t.pace.hosts
	s.holdOff(sign)
	h := s.list[host]
	switch {
	case sign.Kind == Fault:
		s.noteFault(h, t, sign)
		return s.another(h)
	case sign.Kind == Answered && h.ill.Load() && s.vouch(h, began):
		s.wake()
	}
	return false
}

// unprobe has somebody else probe what t would have.
func (s *hosts) unprobe(t *Turn) {
	if t.probe == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.probe.next, t.probe = time.Now(), nil
}

// claimQuestion is zero where a service that is down may be asked something now, and lets nobody else do so for an interval. Else it is
// when that may be.
func (s *hosts) claimQuestion() (due time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Before(s.asks) {
		return s.asks
	}
	s.asks = now.Add(s.cfg.RetryInterval)
	return time.Time{}
}

// nextToAsk is the next host that is up; of a service that is down, the next one.
func (s *hosts) nextToAsk() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range s.list {
		s.asked = (s.asked + 1) % len(s.list)
		if s.down || !s.list[s.asked].down {
			break
		}
	}
	return s.asked
}

// another tells whether another host is up.
func (s *hosts) another(h *host) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.upBeside(h)
}

// vouch brings a host up that has answered a question. It says nothing of how the host takes messages: one that stands still stays down,
// the evidence against messages stays as it is, and its word is taken once. Where the next messages show that it is down, their answer
// has to bring it up.
func (s *hosts) vouch(h *host, began time.Time) (again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !h.down || h.vouched || h.silence.standsStill() || began.Before(h.since) {
		return false
	}
	h.vouched = true
	return s.bringUp(h)
}
