package forwarder

import (
	"errors"
	"slices"
	"time"

	"github.com/kpush/kpush/kafka"
)

const (
	relieveTime = 5 * time.Millisecond   // between two looks at who idles
	soonTime    = 300 * time.Millisecond // one whose messages last no longer is fetched again
	aheadTime   = time.Second            // a partition whose messages last longer is far ahead
	stallTime   = 50 * time.Millisecond  // without an outcome for so long, one above half of all is paused
	stuckTime   = 250 * time.Millisecond // without an outcome for so long, a partition above its share is paused
)

// flow is how full the budget has been. Owned by the consumer.
type flow struct {
	full     time.Time // since when the budget is used up
	heldBack bool      // for longer than a moment: what holds enough is paused
	relieved time.Time // when relieve looked last
	largest  int64     // message that has come, in bytes
}

// share is what each partition may hold of the budget before it counts as ahead of the others.
func (c *consumer) share() int64 { return c.budget.bound / int64(max(1, len(c.parts))) }

// relieve stops fetching for partitions that are far ahead while another one has next to nothing and more to fetch: a long
// run of one would take all the room. Far ahead is time as well as bytes: pausing drops what librdkafka has queued, and what
// a fast service takes in a moment is fetched again more slowly than that. It returns true where that is not enough: the room
// is used up by what will last, and would go, one message at a time, to the run that happens to be next.
func (c *consumer) relieve(now time.Time) (holdBack bool) {
	if now.Sub(c.flow.relieved) < relieveTime {
		return false
	}
	c.flow.relieved = now
	if !c.starves() {
		return false
	}
	share := c.share()
	c.pause(c.partsWhere(func(p *partition) bool {
		held, known := p.stock.held.Load(), p.stock.pull > 0
		return !p.stock.paused.Load() && (known && held > share && p.stock.lasts() > aheadTime || !known && held > 2*share)
	})...)
	return c.budget.full() && c.lasts() > aheadTime*time.Duration(max(8, len(c.parts)))/8 // to pause many, each with little, has its price
}

// starves tells whether a partition has next to nothing, and more to fetch.
func (c *consumer) starves() bool {
	little := c.share() / 4
	for t, p := range c.parts {
		if !p.goes() || p.stock.held.Load() >= little {
			continue
		}
		if end := c.source.End(t); end < 0 || end > p.reading.next { // asked of the client only where it matters: it looks long among many
			return true
		}
	}
	return false
}

// lasts is how long what all partitions hold will last at their pace; 0 where that is not known.
func (c *consumer) lasts() time.Duration {
	pull := 0.0
	for _, p := range c.parts {
		pull += p.stock.pull
	}
	if pull == 0 {
		return 0
	}
	return lasting(c.budget.held.Load(), pull)
}

// lasting is how long so many bytes last at so many a second.
func lasting(held int64, pull float64) time.Duration {
	return time.Duration(float64(held) / max(pull, 1) * float64(time.Second))
}

// partsWhere are the partitions that are not being given up, and that is tells of.
func (c *consumer) partsWhere(is func(*partition) bool) (ps []*partition) {
	for _, p := range c.parts {
		if p.goes() && is(p) {
			ps = append(ps, p)
		}
	}
	return ps
}

// roof is what may be held in all: room for a large message beside one that is stuck, and no more of them. Beyond it nobody is fetched.
func (c *consumer) roof() int64 { return max(2*c.budget.bound, c.budget.bound/2+c.flow.largest) }

// grown notes how large messages are, for whoever plans with it.
func (c *consumer) grown(size int64) {
	if size <= c.flow.largest {
		return
	}
	if c.flow.largest = size; size >= largeMessage && c.f.parts.Large != nil {
		c.f.parts.Large(size)
	}
}

// largeMessage is from when on a message is large, in bytes.
const largeMessage = 1 << 20

func (c *consumer) pause(ps ...*partition) {
	if len(ps) == 0 {
		return
	}
	for _, p := range ps {
		p.stock.paused.Store(true)
	}
	tps := partitionsOf(ps)
	if err := c.source.Pause(tps); err != nil {
		c.log.Warn("cannot pause partitions", "partitions", tps, "error", err)
	}
}

// resume has partitions fetched again, but for those that cannot be read: the client's own position may be behind what it could not.
func (c *consumer) resume(tps []kafka.Partition) {
	tps = slices.DeleteFunc(tps, func(t kafka.Partition) bool { return c.parts[t].reading.unread.tries > 0 })
	if len(tps) == 0 {
		return
	}
	if err := c.source.Resume(tps); err != nil {
		c.log.Warn("cannot resume partitions", "partitions", tps, "error", err)
	}
}

// holdBack begins to hold back: what holds more than half of its share is paused. So all of them together hold hardly more than
// the bound and half of it, and where partitions come later, or messages are large, no more than the roof and one of them.
func (c *consumer) holdBack() {
	c.flow.heldBack = true
	c.health.say(bufferFull, errors.New("KPUSH_BUFFER is full of messages that the service has not taken: their partitions are paused"))
	enough := c.share() / 2
	if c.budget.held.Load() > c.roof() {
		enough = -1
	}
	c.pause(c.partsWhere(func(p *partition) bool { return !p.stock.paused.Load() && p.stock.held.Load() > enough })...)
}
