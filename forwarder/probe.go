package forwarder

import "time"

// probe lets one message try a host of a service that is down: the oldest of those who ask. Once that one is blocked, it may be
// its own fault, and every second time another one probes: one that has not failed yet, if there is any.
func (t *turns) probe() (*Delivery, *lane) {
	i := t.oldest()
	blocked := i >= 0 && t.again[i].d.attempt.Number >= blockedAfter
	if row, due := t.service.inARow(); i < 0 || blocked && row > 0 {
		if l := t.lane(); l != nil {
			l.probe = t.service.probe(false)
			return nil, l
		}
		if i < 0 || t.leaves(row, due) {
			return nil, nil
		}
		if other := t.another(i); other != i {
			i, blocked = other, false
		}
	}
	t.again[i].d.probe = t.service.probe(blocked)
	return t.grant(i), nil
}

// leaves tells whether the one that asks leaves a probe to those who wait for another attempt, an interval at the most. With
// several hosts each asks just before the one is due that it had the last time, so it could have that one for ever.
func (t *turns) leaves(row int, due time.Time) bool {
	until := due.Add(t.cfg.RetryInterval)
	if len(t.service.hosts) == 1 || len(t.again) > 1 || t.failing.Load() < 2 || row%blockedAfter > 0 || !time.Now().Before(until) {
		return false
	}
	t.wakeAt(until)
	return true
}

// oldest is whose first attempt is the longest ago of those who ask, -1 where nobody does.
func (t *turns) oldest() int {
	oldest := -1
	for i, a := range t.again {
		if oldest < 0 || a.d.since.Before(t.again[oldest].d.since) {
			oldest = i
		}
	}
	return oldest
}

// another is who has asked for longest beside the i-th; i where nobody has.
func (t *turns) another(i int) int {
	switch {
	case len(t.again) < 2:
		return i
	case i == 0:
		return 1
	}
	return 0
}
