package forwarder

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kpush/kpush/kafka"
)

// unread is why the client brings a partition no further. Until it does, nothing behind that is taken: the client passes over what it
// cannot read. Owned by the consumer.
type unread struct {
	why   error
	at    int64 // the offset, as the client tells it
	tries int   // in a row; 0: it is read
	next  time.Time
	since time.Time
	said  bool
}

const (
	unreadTime = 16 * time.Second // between two tries at the most; the first pause is a second, and each of the others twice the one before
	readTime   = 5 * time.Second  // after a try: without an error for so long, and with nothing there, it is over
)

// unread stops the client at what it could not read of a partition.
func (c *consumer) unread(e kafka.PartitionError) {
	p := c.parts[e.Partition]
	if p == nil || !p.goes() {
		return // it starts anew, or goes
	}
	if errors.Is(e, kafka.ErrOutOfRange) {
		if !p.reading.outOfRange {
			c.log.Warn("the partition's position is out of range: it starts again when what is in memory is delivered", p.where(), "offset", e.Offset, "error", e.Err)
		}
		p.reading.outOfRange = true
		return
	}
	now := time.Now()
	if err := c.source.Pause([]kafka.Partition{p.Partition}); err != nil { // it would go on behind that
		c.log.Warn("cannot pause partitions", "partitions", e.Partition, "error", err)
	}
	u := &p.reading.unread
	if u.tries == 0 {
		u.since = now
	}
	u.why, u.at, u.next = e.Err, e.Offset, now.Add(min(unreadTime, time.Second<<min(u.tries, 10)))
	if u.tries++; u.tries == 2 && !u.said { // the first one may be a moment's
		u.said = true
		c.log.Error("a partition cannot be read on, and what is behind it waits: see /readyz", p.where(), "offset", u.at, "error", u.why)
	}
}

// retryUnread has the client read on from where the partition stands, once a pause is over.
func (c *consumer) retryUnread(p *partition, now time.Time) {
	u := &p.reading.unread
	switch {
	case u.tries == 0 || c.beside || now.Before(u.next) || p.stock.paused.Load():
	case !u.next.IsZero():
		u.next = time.Time{}
		p.reading.came = now
		c.putInAgain(p)
	case u.trusted(now.Sub(p.reading.came)) && !p.gauge.behind():
		c.readAgain(p)
	}
}

// trusted tells whether the client's position may be believed: it has passed over nothing, or was put where the partition stands and has
// had no error for so long.
func (u *unread) trusted(since time.Duration) bool {
	return u.tries == 0 || u.next.IsZero() && since > readTime
}

// putInAgain takes a partition out of what is fetched, and puts it in again where it stands: the client's own position may be anywhere.
func (c *consumer) putInAgain(p *partition) {
	err := c.client.Unassign([]kafka.Partition{p.Partition})
	if err == nil {
		err = c.client.Assign([]kafka.Position{{Partition: p.Partition, Offset: p.reading.next}})
	}
	if err != nil {
		c.log.Error("cannot start partitions", "partitions", p.Partition, "error", err)
	}
}

// readAgain notes that a partition is read.
func (c *consumer) readAgain(p *partition) {
	if p.reading.unread.tries == 0 {
		return
	}
	if p.reading.unread.said {
		c.log.Info("a partition is read again", p.where(), "offset", p.reading.next)
	}
	p.reading.unread = unread{}
}

// sayUnread names the partitions that cannot be read on, for readiness.
func (c *consumer) sayUnread() {
	var all []string
	for _, p := range c.parts {
		if u := p.reading.unread; u.said {
			all = append(all, fmt.Sprintf("%s stands at offset %d since %s: %s", p.Partition, u.at, u.since.UTC().Format(time.RFC3339), oneLine(u.why)))
		}
	}
	var sentence error
	if len(all) > 0 {
		slices.Sort(all)
		if more := len(all) - namesMost; more > 0 {
			all = append(all[:namesMost], fmt.Sprintf("and %d more partitions stand likewise", more))
		}
		sentence = errors.New(strings.Join(all, "; ") + ": raise receive.message.max.bytes in KPUSH_CONSUMER_CONF where it unpacks to more, or kpush -seek behind it, if it is damaged for good")
	}
	c.health.say(unreadable, sentence)
}
