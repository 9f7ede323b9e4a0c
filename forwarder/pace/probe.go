package pace

import (
	"slices"
	"time"
)

// grantWhileDown gives a turn to a question, or to a probe where one is due: by turns, for both may hang.
func (p *Pace) grantWhileDown(due bool) (*Turn, *lane) {
	for range 2 {
		if p.asked = !p.asked; p.asked {
			if t := p.grantQuestion(); t != nil {
				return t, nil
			}
		} else if due {
			if t, l := p.grantProbe(); t != nil || l != nil {
				return t, l
			}
		}
	}
	return nil, nil
}

// grantQuestion lets one of those who ask for it ask a service that is down, once an interval.
func (p *Pace) grantQuestion() *Turn {
	i := slices.IndexFunc(p.again, func(t *Turn) bool { return t.asks })
	if i < 0 {
		return nil
	}
	if due := p.hosts.claimQuestion(); !due.IsZero() {
		p.lookAt(due)
		return nil
	}
	return p.grant(p.again[i])
}

// grantProbe lets one message try a host of a service that is down: of those who ask, the one whose first attempt is the longest
// ago. Once that one is blocked, it may be its own fault, and every second time another one probes: one that has not failed yet, if
// there is any, else who has asked for longest.
func (p *Pace) grantProbe() (*Turn, *lane) {
	var t *Turn
	probers := slices.DeleteFunc(slices.Clone(p.again), func(t *Turn) bool { return t.asks })
	if len(probers) > 0 {
		t = slices.MinFunc(probers, func(a, b *Turn) int { return a.since.Compare(b.since) })
	}
	blocked := t != nil && t.blocked
	if row, due := p.hosts.inARow(); t == nil || blocked && row > 0 {
		if l := p.nextLane(); l != nil {
			p.probes = p.hosts.claimEarliest(false)
			return nil, l
		}
		if t == nil || len(probers) == 1 && p.leaves(row, due) {
			return nil, nil
		}
		if i := slices.IndexFunc(probers, func(other *Turn) bool { return other != t }); i >= 0 {
			t, blocked = probers[i], false
		}
	}
	t.probe = p.hosts.claimEarliest(blocked)
	return p.grant(t), nil
}

// leaves tells whether the only one that asks leaves a probe to those who wait for another attempt, an interval at the most. With
// several hosts each asks just before the one is due that it had the last time, so it could have that one for ever.
func (p *Pace) leaves(row int, due time.Time) bool {
	until := due.Add(p.cfg.RetryInterval)
	if len(p.hosts.list) == 1 || p.failing < 2 || row%p.cfg.BlockedAfter > 0 || !time.Now().Before(until) {
		return false
	}
	p.lookAt(until)
	return true
}
