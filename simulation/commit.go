package simulation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kpush/kpush/forwarder/start"
	"github.com/kpush/kpush/kafka"
)

// sent is when a commit was, and up to when its volume was on the disk then.
type sent struct {
	at     time.Time
	synced time.Time
}

// Commit meets the fault of its time: refused, slow, or done with a lost answer. While somebody has yet to give something up it may wait.
func (c *client) Commit(cs []kafka.Commit) error {
	fault, wait, member, round, goes := "", time.Duration(0), 0, 0, sent{at: time.Now()}
	c.w.with(func() { // it goes out as from whom it was asked for
		member, round = c.member, c.w.group.round
		goes.synced = c.life.host.synced
	})
	if err := c.answer(context.Background(), "commit", 15*time.Second); err != nil {
		return err
	}
	c.w.with(func() {
		fault = c.w.now("commits")
		if c.w.group.rebalancing() && c.w.dice("join", int64(c.member), cs[0].Offset).IntN(2) == 0 {
			wait = 300 * time.Millisecond
		}
	})
	switch fault {
	case "refused":
		return errors.New("Broker: Request timed out")
	case "slow":
		wait += 2 * time.Second
	}
	time.Sleep(wait)
	c.life.step("commit arrives")
	var err error
	c.w.with(func() {
		switch {
		case c.life.dead || !c.reachable():
			err = fmt.Errorf("%w: %w", kafka.ErrNoBroker, errSilent)
		case c.fenced:
			err = errors.New("Local: Fatal error")
		case c.expelled || !c.joined || member != c.member:
			err = kafka.ErrNotMember
		case round != c.w.group.round:
			err = kafka.ErrRebalancing
		default:
			for _, commit := range cs {
				c.w.committed(c, commit, goes)
			}
			if fault == "lost" {
				err = errors.New("Local: Timed out")
			}
		}
	})
	c.life.step("commit answered")
	return err
}

// wanted is which of an operator's seeks asked for an offset, -1 where none did: nothing is sent before Kafka has that, so it is the one, or the first message
// from there on.
func (w *World) wanted(p kafka.Partition, offset int64) int {
	return slices.IndexFunc(w.asked[p], func(at int64) bool {
		r, ok := w.logs[p].from(max(at, w.logs[p].oldest))
		return at <= offset && (!ok || offset <= r.offset)
	})
}

// committed is a commit that the coordinator takes, as it was sent; it judges it. Under the lock.
func (w *World) committed(c *client, commit kafka.Commit, s sent) {
	p := commit.Partition
	was, ok := w.group.commits[p]
	before, _ := start.ParseMark(was.Meta)
	m, marked := start.ParseMark(commit.Meta)
	if w.verbose {
		w.say("%s commits %s@%d %s", c.life, p, commit.Offset, commit.Meta)
	}
	asked := w.wanted(p, commit.Offset)
	switch applies := !marked || m.TopicID == w.topicID(); {
	case !applies: // it counts for a topic that is gone
	case m.Lineage != before.Lineage && asked >= 0:
		w.say("%s/%d goes on at %d, as an operator has asked", p.Topic, p.Number, commit.Offset)
		w.asked[p] = slices.Delete(w.asked[p], 0, asked+1) // the later ones are still to come
		w.service.again(p, commit.Offset)
	case ok && before.TopicID == m.TopicID && commit.Offset < was.Offset:
		w.fail("%s commits %s@%d behind %d", c.life, p, commit.Offset, was.Offset)
	default:
		if low := w.service.lowest(p); commit.Offset > low {
			w.fail("%s commits %s@%d, and %d is not done", c.life, p, commit.Offset, low)
		}
	}
	w.group.ever[kafka.Position{Partition: p, Offset: commit.Offset}] = true
	w.group.commits[p], w.group.vouched[p], c.life.committed[p] = commit, s.synced, s.at
}
