package pace

import (
	"slices"
	"time"
)

// grantProbe lets one message try a host of a service that is down: of those who ask, the one whose first attempt is the longest
// ago. Once that one is blocked, it may be its own fault, and every second time another one probes: one that has not failed yet, if
// there is any, else who has asked for longest.
func (p *Pace) grantProbe() (*Turn, *lane) {
	var t *Turn
	if len(p.again) > 0 {
		t = slices.MinFunc(p.again, func(a, b *Turn) int { return a.since.Compare(b.since) })
	}
	blocked := t != nil && t.blocked
	if row, due := p.hosts.inARow(); t == nil || blocked && row > 0 {
		if l := p.nextLane(); l != nil {
			p.probes = p.hosts.claimEarliest(false)
			return nil, l
		}
		if t == nil || p.leaves(row, due) {
			return nil, nil
		}
		if i := slices.IndexFunc(p.again, func(other *Turn) bool { return other != t }); i >= 0 {
			t, blocked = p.again[i], false
		}
	}
	t.probe = p.hosts.claimEarliest(blocked)
	return p.grant(t), nil
}

// leaves tells whether the one that asks leaves a probe to those who wait for another attempt, an interval at the most. With
// several hosts each asks just before the one is due that it had the last time, so it could have that one for ever.
func (p *Pace) leaves(row int, due time.Time) bool {
	until := due.Add(p.cfg.RetryInterval)
	if len(p.hosts.list) == 1 || len(p.again) > 1 || p.failing < 2 || row%p.cfg.BlockedAfter > 0 || !time.Now().Before(until) {
		return false
	}
	p.alarm.Reset(time.Until(until))
	return true
}
