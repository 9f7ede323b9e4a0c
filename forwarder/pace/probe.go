package pace

import "time"

// probe lets one message try a host of a service that is down: the oldest of those who ask. Once that one is blocked, it may be
// its own fault, and every second time another one probes: one that has not failed yet, if there is any.
func (p *Pace) probe() (*Turn, *lane) {
	i := p.oldest()
	blocked := i >= 0 && p.again[i].turn.blocked
	if row, due := p.hosts.inARow(); i < 0 || blocked && row > 0 {
		if l := p.lane(); l != nil {
			p.probes = p.hosts.claimEarliest(false)
			return nil, l
		}
		if i < 0 || p.leaves(row, due) {
			return nil, nil
		}
		if other := p.another(i); other != i {
			i, blocked = other, false
		}
	}
	p.again[i].turn.probe = p.hosts.claimEarliest(blocked)
	return p.grant(i), nil
}

// leaves tells whether the one that asks leaves a probe to those who wait for another attempt, an interval at the most. With
// several hosts each asks just before the one is due that it had the last time, so it could have that one for ever.
func (p *Pace) leaves(row int, due time.Time) bool {
	until := due.Add(p.cfg.RetryInterval)
	if len(p.hosts.list) == 1 || len(p.again) > 1 || p.failing < 2 || row%p.cfg.BlockedAfter > 0 || !time.Now().Before(until) {
		return false
	}
	p.wakeAt(until)
	return true
}

// oldest is whose first attempt is the longest ago of those who ask, -1 where nobody does.
func (p *Pace) oldest() int {
	oldest := -1
	for i, a := range p.again {
		if oldest < 0 || a.turn.since.Before(p.again[oldest].turn.since) {
			oldest = i
		}
	}
	return oldest
}

// another is who has asked for longest beside the i-th; i where nobody has.
func (p *Pace) another(i int) int {
	switch {
	case len(p.again) < 2:
		return i
	case i == 0:
		return 1
	}
	return 0
}
