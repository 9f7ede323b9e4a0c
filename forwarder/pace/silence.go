package pace

import (
	"slices"
	"time"
)

// silence is a row of attempts that a host has not answered in time, with no answer to any other in between. One message that
// hangs is at fault itself. Where different ones do, the host stands still: that puts it down, also the only one, and then none of
// them was at fault. It is guarded by hosts.mu.
type silence struct {
	number int // of the row
	of     []messages
	still  int       // the newest row in which the host stood still
	ended  time.Time // when the newest of these rows has ended
}

// messages are those of one attempt, known by the first: halves of a batch that are tried one after the other are different ones.
type messages struct {
	turn  *Turn
	since time.Time // it has had them
	first int64
}

// stillAfter different messages without an answer in a row a host stands still.
const stillAfter = 3

func (s *silence) note(of messages) {
	if len(s.of) < stillAfter && !slices.Contains(s.of, of) {
		s.of = append(s.of, of)
	}
	if s.standsStill() {
		s.still = s.number
	}
}

func (s *silence) standsStill() bool { return len(s.of) == stillAfter }

// end ends the row: the host has answered.
func (s *silence) end(now time.Time) {
	if s.still == s.number {
		s.ended = now
	}
	s.number++
	s.of = s.of[:0]
}

// Silence is an attempt that had no answer in time, as a fault of its messages.
type Silence struct {
	hosts  *hosts
	host   *host // nil: it is their fault, whatever comes
	number int   // of the row it belongs to; 0: the host stood still when it began
	// Open: others are under way, or had no answer either, and may show whose fault it is.
	Open bool
}

// Silence notes that the newest attempt, at messages from the offset first on, had no answer in time. Who was answered while it waited was
// answered by a host that works.
func (t *Turn) Silence(now time.Time, first int64) Silence {
	p, s := t.pace, &t.pace.hosts
	h := s.list[max(0, t.host)]
	p.mu.Lock()
	others := p.taken > 1
	p.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case t.began.Before(h.silence.ended):
		return Silence{hosts: s, host: h}
	case h.answeredAfter(now.Add(-p.cfg.ExecTimeout / 2)):
		return Silence{}
	}
	h.silence.note(messages{t, t.since, first})
	if h.down {
		h.silence.still = h.silence.number
	}
	return Silence{s, h, h.silence.number, others || len(h.silence.of) > 1}
}

// OfHost tells whether it has turned out to be the host's fault; decided: it will not turn any more.
func (s Silence) OfHost() (yes, decided bool) {
	if s.host == nil {
		return false, true
	}
	s.hosts.mu.Lock()
	defer s.hosts.mu.Unlock()
	row := &s.host.silence
	yes = s.number == 0 || s.number == row.still
	return yes, yes || s.number != row.number
}

// SameRow tells whether no answer of the host has come between two of them.
func (s Silence) SameRow(other Silence) bool {
	return s.host != nil && s.host == other.host && s.number == other.number
}
