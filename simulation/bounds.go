package simulation

import (
	"math"
	"slices"
	"time"

	"github.com/kpush/kpush/kafka"
)

// account is what of a life's answers may come again. Its owner is the world's lock.
type account struct {
	killed, powerCut bool                          // what was in memory alone, or not on the platter, is gone
	troubled         bool                          // its disk has failed, hung or was full: what the service took could not be recorded
	outcast          int                           // how often it was expelled, or fenced, while it lived
	committed        map[kafka.Partition]time.Time // when its newest commit was sent that Kafka has
	repeats          int                           // of what it had a complete 2xx for
}

// most is how many messages may come again of which a life had a complete 2xx: what docs/guarantees.md promises of the end that it had.
func (l *life) most() int {
	cfg := l.host.w.cfg
	switch {
	case l.powerCut && cfg.sync.Window < 0:
		return math.MaxInt // nothing was ever on the platter but by chance
	case l.powerCut:
		return cfg.concurrency*(1+l.outcast) + cfg.sync.Unsynced
	case l.killed, l.troubled:
		return cfg.concurrency * (1 + l.outcast)
	}
	return cfg.concurrency * l.outcast // a stop and a rebalance repeat nothing
}

// charge is a request for a message that was answered with a complete 2xx before. It counts for the life that had the answer, but where the message goes
// to another volume: what was done since the newest commit is known to nobody there, nor what was not on record when that was made.
func (s *service) charge(l *life, p kafka.Partition, offset int64, d *deed) {
	by := d.by
	d.by = nil // what is tried again before it has another answer is no other repeat
	s.repeats++
	if slices.ContainsFunc(s.w.asked[p], func(at int64) bool { return at <= offset }) {
		return // an operator wants it again; what was known of it went with that, though Kafka has not heard of it yet
	}
	most := by.most()
	if by.host != l.host || by.volume != l.volume {
		if !d.answered.Before(by.committed[p]) {
			return
		}
		most = max(most, s.w.cfg.concurrency)
	}
	if by.repeats++; by.repeats > most {
		s.w.fail("%s sends %s/%d again, the answer to which %s had at %v: that is %d repeats of what that had, and no more than %d are promised",
			l, p, offset, by, d.answered.Sub(s.w.began).Round(time.Millisecond), by.repeats, most)
	}
}
