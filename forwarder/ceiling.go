package forwarder

import (
	"math"
	"sync"
	"time"

	"github.com/kpush/kpush/offsets"
)

const (
	leastCeiling = 100
	paceTime     = time.Second // a pace falls to what was sent in so long
	joinTime     = 5 * time.Second
)

// headroom is how far a commit's ceiling lies above what was sent: the offsets of so long at the present pace. A commit waits behind a
// rebalance for as long as the slowest member drains, and a moment for the join itself: that must not hold up a partition that stays.
func (f *Forwarder) headroom() time.Duration { return f.cfg.RevokeTimeout + joinTime }

// ceiling is how far the requests of a partition may go: no further than a commit says that Kafka has acknowledged. Its mutex is
// the innermost one: nothing is called with it.
type ceiling struct {
	mu       sync.Mutex
	at       int64       // requests below it may start: Kafka has acknowledged this one or a higher one
	begun    int64       // the highest offset that a request was started for, plus one
	wanted   int64       // the highest offset that had to wait for a higher ceiling
	count    int64       // requests started
	pace     float64     // requests a second
	past     sample      // what it may fall to is measured from here
	waited   time.Time   // when a lane last had to wait for a higher ceiling
	inherits int64       // ceiling of whoever had the partition before: offsets below it stay in doubt until they are done
	synced   commitState // what the committer last had acknowledged
	bound    string      // why nothing new is tried, beside the ceiling; "" where it is
	bounded  time.Time   // since when
	boundAt  int64       // the lowest offset that it holds up: who passes below it does not end it
	headroom time.Duration
}

// commitState is the newest acknowledged commit of a partition, for the committer.
type commitState struct {
	offset  int64 // -1: none of this assignment yet
	ceiling int64 // of its mark
	changes int64 // of the partition, as of then
	sample
}

// sample is how many requests of a partition had been started at a time.
type sample struct {
	count int64
	at    time.Time
}

// open begins with what a start knows. Where nothing is kept no request has to wait for a ceiling.
func (c *ceiling) open(start offsets.Start, keeps bool, headroom time.Duration) {
	c.inherits, c.begun, c.headroom = start.Ceiling, start.Next, headroom
	c.synced, c.past = commitState{offset: -1}, sample{at: time.Now()}
	if !keeps {
		c.at = math.MaxInt64
	}
}

// admit counts a request at offset as begun, unless bound says why nothing new may be tried. low: it is the ceiling that is in the
// way.
func (c *ceiling) admit(offset int64, bound string) (ok, low bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case bound != "" && c.bound == "":
		c.bound, c.bounded, c.boundAt = bound, time.Now(), offset
	case bound != "":
		c.bound, c.boundAt = bound, min(c.boundAt, offset)
	case offset >= c.boundAt:
		c.bound = ""
	}
	switch {
	case bound != "":
		return false, false
	case offset >= c.at:
		c.waited, c.wanted = time.Now(), max(c.wanted, offset)
		return false, true
	}
	c.begun = max(c.begun, offset+1)
	c.count++
	return true, false
}

// boundedBy says why nothing new of the partition has been tried for a while, "" where it is.
func (c *ceiling) boundedBy() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bound == "" || time.Since(c.bounded) < heldBackTime {
		return ""
	}
	return c.bound
}

// raise lets requests below to start, and tells whether that is more than before.
func (c *ceiling) raise(to int64) (higher bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	higher = to > c.at
	c.at = max(c.at, to)
	return higher
}

// due tells whether there is something to commit: progress up to next, changes that a mark has to tell, and where
// ceilings are kept, one that has come close or lies far off since the pace has fallen.
func (c *ceiling) due(next, changes int64, keeps bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.measure()
	reach, room := c.reach(), c.room()
	off := c.at-reach < room/4 || c.at-max(reach, c.inherits) > 2*room
	return next != c.synced.offset || changes != c.synced.changes || keeps && off
}

// mark is the ceiling for the mark of a commit at next; 0: none. alive: requests go on, so it lies ahead of them. It is to be noted
// with acknowledge once Kafka has the commit. A ceiling that falls holds at once, one that rises when Kafka has it.
func (c *ceiling) mark(next int64, alive bool) (ceiling int64, started sample) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inherits > next {
		ceiling = c.inherits
	}
	if alive {
		ceiling = max(ceiling, max(next, c.reach())+c.room())
		c.at = min(c.at, ceiling)
	}
	return ceiling, sample{c.count, time.Now()}
}

// acknowledge notes what Kafka has.
func (c *ceiling) acknowledge(s commitState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.synced = s
}

// tells tells whether Kafka has a commit that tells of so many changes.
func (c *ceiling) tells(changes int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.synced.offset >= 0 && c.synced.changes >= changes
}

// low tells whether requests wait for a higher ceiling.
func (c *ceiling) low() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wanted >= c.at
}

// committed is the offset of the newest acknowledged commit, -1 where there is none of this assignment.
func (c *ceiling) committed() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.synced.offset
}

// measure takes the pace. It rises with what was sent since the newest commit, but falls only to what was sent in a longer
// time: commits can follow each other within a millisecond, and the last of them be the one that waits for the group. Nor
// does it fall while a lane has to wait for a commit: that lane does nothing in the meantime, and with less room
// it would wait for the next one, too. The caller holds mu.
func (c *ceiling) measure() {
	if c.synced.offset < 0 {
		return
	}
	c.pace = max(c.pace, c.paceSince(c.synced.sample))
	if time.Since(c.past.at) < paceTime {
		return
	}
	if time.Since(c.waited) > paceTime {
		c.pace = c.paceSince(c.past)
	}
	c.past = sample{c.count, time.Now()}
}

// paceSince is in requests a second. The caller holds mu.
func (c *ceiling) paceSince(s sample) float64 {
	return float64(c.count-s.count) / max(100*time.Millisecond, time.Since(s.at)).Seconds()
}

// reach is how far requests have come or want to come: what was done before leaves gaps between them. The caller holds mu.
func (c *ceiling) reach() int64 { return max(c.begun, c.wanted) }

// room is the headroom in offsets. The caller holds mu.
func (c *ceiling) room() int64 { return max(leastCeiling, int64(c.pace*c.headroom.Seconds())) }
