package simulation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/kpush/kpush/kafka"
)

// client is a life's: its member of the group, its reader and its questions to the cluster. Fields belong to the world's lock.
type client struct {
	w        *World
	life     *life
	instance string // "": a dynamic member
	on       kafka.Rebalance
	woken    chan struct{}

	member           int
	joined, leaving  bool
	expelled, fenced bool
	seen             time.Time
	given, wanted    []kafka.Partition // what the next poll tells
	mine             map[kafka.Partition]bool
	at               map[kafka.Partition]int64
	paused           map[kafka.Partition]bool
	turn             int
	held             map[kafka.Partition]bool // as its holder has put them in and taken them out
	made             int                      // how often the topic had been made as it heard of it last
}

var errSilent = errors.New("no answer")

func newClient(w *World, l *life, instance string) *client {
	return &client{w: w, life: l, instance: instance, woken: make(chan struct{}, 1), made: w.made, held: map[kafka.Partition]bool{}, mine: map[kafka.Partition]bool{},
		at: map[kafka.Partition]int64{}, paused: map[kafka.Partition]bool{}}
}

func (c *client) wake() {
	select {
	case c.woken <- struct{}{}:
	default:
	}
}

// Member is its id, until it can hear that it is none.
func (c *client) Member() (id string) {
	c.w.with(func() {
		if out := c.fenced || c.expelled; c.joined && !(out && c.reachable()) {
			id = fmt.Sprint(c.member)
		}
	})
	return id
}

// Wake ends a Poll.
func (c *client) Wake() { c.wake() }

// reachable tells whether the cluster hears of it.
func (c *client) reachable() bool { return !c.life.dead && !c.life.host.cut() && !c.life.host.stands() }

func (c *client) Subscribe(_ []string, on kafka.Rebalance) error {
	c.life.step("subscribe")
	c.w.with(func() {
		c.on = on
		if c.reachable() {
			c.w.group.join(c)
		}
	})
	return nil
}

func (c *client) Unsubscribe() error {
	c.life.step("unsubscribe")
	c.w.with(func() { c.leaving = true; c.wake() })
	return nil
}

func (c *client) Poll(timeout time.Duration) (*kafka.Message, error) {
	late := time.NewTimer(timeout)
	defer late.Stop()
	for last := false; ; last = true {
		c.life.step("poll")
		var tell func() error
		var m *kafka.Message
		c.w.with(func() {
			if tell = c.due(); tell == nil {
				m = c.fetch()
			}
		})
		switch {
		case tell != nil:
			return nil, tell()
		case m != nil, last:
			return m, nil
		}
		select {
		case <-c.woken:
		case <-late.C:
			return nil, nil
		}
	}
}

// due is what the group has to tell.
func (c *client) due() func() error {
	astray := c.outOfRange()
	switch {
	case c.life.dead:
		return func() error { return kafka.FatalError{Err: errKilled} } // what winds down has to end
	case c.on.Assigned == nil:
		return nil
	case c.fenced:
		return func() error {
			return kafka.FatalError{Err: errors.New("Broker: Static consumer fenced by other consumer with same group.instance.id")}
		}
	case c.leaving && c.joined:
		return func() error { c.revoke(slices.Collect(maps.Keys(c.mine)), false, true); return nil }
	case !c.reachable():
		return nil
	case c.expelled:
		return func() error {
			c.revoke(slices.Collect(maps.Keys(c.mine)), true, false)
			c.w.with(func() { c.given, c.wanted = nil, nil; c.w.group.join(c) })
			return nil
		}
	case !c.joined && !c.leaving:
		c.w.group.join(c)
		return nil
	case len(c.wanted) > 0:
		gone := c.wanted
		return func() error { c.revoke(gone, false, false); return nil }
	case c.made != c.w.made: // a fetch names the topic by its id: the broker has none, and the client says so within a quarter of a second
		c.made = c.w.made
		return func() error { return kafka.ErrNoTopic }
	case len(astray) > 0:
		delete(c.at, astray[0].Partition) // nothing of it is fetched any more, until it is assigned anew
		return func() error { return kafka.PartitionError{Position: astray[0], Err: kafka.ErrOutOfRange} }
	case len(c.given) > 0:
		given := c.given
		c.given = nil
		for _, p := range given {
			c.mine[p] = true
		}
		return func() error { c.on.Assigned(given); return nil }
	}
	return nil
}

// outOfRange are positions that the log does not have.
func (c *client) outOfRange() (all []kafka.Position) {
	for p, at := range c.at {
		if l := c.w.logs[p]; at < l.oldest || at > l.next {
			all = append(all, kafka.Position{Partition: p, Offset: at})
		}
	}
	return all
}

// revoke runs the callback, and tells the group of it.
func (c *client) revoke(gone []kafka.Partition, lost, leave bool) {
	gone = slices.DeleteFunc(slices.Clone(gone), func(p kafka.Partition) bool { return !c.mine[p] })
	if len(gone) > 0 {
		c.on.Revoked(gone, lost)
	}
	c.w.with(func() {
		for _, p := range gone {
			c.holds(p, false) // once the callback has returned
			delete(c.mine, p)
			delete(c.at, p)
		}
		if c.life.dead || lost || c.expelled {
			return
		}
		c.wanted = nil
		for _, p := range gone {
			if c.w.group.owner[p] == c {
				delete(c.w.group.owner, p)
			}
		}
		if leave {
			c.w.group.leave(c)
			return
		}
		c.w.group.balance()
	})
}

// fetch takes the partitions in turn, in runs.
func (c *client) fetch() *kafka.Message {
	if !c.reachable() {
		return nil
	}
	all := slices.SortedFunc(maps.Keys(c.at), kafka.Compare)
	for i := range all {
		p := all[(c.turn/20+i)%len(all)]
		if c.paused[p] {
			continue
		}
		l := c.w.logs[p]
		if r, ok := l.from(c.at[p]); ok {
			c.at[p] = r.offset + 1
			c.turn++
			return r.message(p, c.w.topicID())
		}
		c.at[p] = l.next // behind what is no message
	}
	return nil
}

// holds judges what librdkafka refuses, and with it the whole call: to put in what is in, or to take out what is not.
func (c *client) holds(p kafka.Partition, is bool) {
	if c.held[p] != is && !c.life.dead {
		c.w.fail("%s: that its client has %s is %t, where it has to be %t", c.life, p, c.held[p], is)
	}
}

func (c *client) Assign(at []kafka.Position) error {
	c.life.step("assign")
	c.w.with(func() {
		for _, a := range at {
			c.holds(a.Partition, false)
			c.held[a.Partition] = true
			c.at[a.Partition], c.paused[a.Partition] = a.Offset, false
		}
	})
	c.wake()
	return nil
}

func (c *client) Unassign(gone []kafka.Partition) error {
	c.w.with(func() {
		for _, p := range gone {
			c.holds(p, true)
			delete(c.held, p)
			delete(c.at, p)
		}
	})
	return nil
}

func (c *client) Pause(ps []kafka.Partition) error  { c.set(ps, true); return nil }
func (c *client) Resume(ps []kafka.Partition) error { c.set(ps, false); c.wake(); return nil }

func (c *client) set(ps []kafka.Partition, paused bool) {
	c.w.with(func() {
		for _, p := range ps {
			c.paused[p] = paused
		}
	})
}

func (c *client) Positions(ps []kafka.Partition) (out []kafka.Position, _ error) {
	c.w.with(func() {
		for _, p := range ps {
			if at, ok := c.at[p]; ok {
				out = append(out, kafka.Position{Partition: p, Offset: at})
			}
		}
	})
	return out, nil
}

func (c *client) End(p kafka.Partition) (end int64) {
	c.w.with(func() { end = c.w.logs[p].next })
	return end
}

// answer waits as long as an answer takes, and says whether there is one. What was asked while Kafka could not be reached comes through when it can.
func (c *client) answer(ctx context.Context, what string, within time.Duration) error {
	c.life.step(what)
	for late := time.Now().Add(within); ; {
		there := false
		c.w.with(func() { there = c.reachable() })
		took := time.Millisecond
		if !there {
			took = 100 * time.Millisecond
		}
		select {
		case <-time.After(took):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		switch {
		case there:
			return nil
		case c.life.isDead(), time.Now().After(late): // nobody waits for what a dead process is told
			return fmt.Errorf("%w: %w", kafka.ErrNoBroker, errSilent)
		}
	}
}

func (c *client) Committed(ps []kafka.Partition, within time.Duration) (out []kafka.Commit, err error) {
	if err := c.answer(context.Background(), "committed", within); err != nil {
		return nil, err
	}
	c.w.with(func() {
		for _, p := range ps {
			commit, ok := c.w.group.commits[p]
			if !ok {
				commit = kafka.Commit{Partition: p, Offset: -1001}
			}
			out = append(out, commit)
		}
	})
	return out, nil
}

func (c *client) Reach(within time.Duration) error {
	return c.answer(context.Background(), "reach", within)
}

// TooOld is no broker here.
func (c *client) TooOld() string { return "" }

// Renew is a new client as the same member.
func (c *client) Renew() error {
	c.life.step("renew")
	c.w.with(func() {
		c.w.group.leave(c)
		c.held = map[kafka.Partition]bool{}
		c.mine, c.at, c.given, c.wanted = map[kafka.Partition]bool{}, map[kafka.Partition]int64{}, nil, nil
	})
	return nil
}

// Close gives up what is left; a static member that did not unsubscribe stays in the group for the session.
func (c *client) Close() error {
	c.life.step("close")
	var left []kafka.Partition
	dead := false
	c.w.with(func() { left, dead = slices.Collect(maps.Keys(c.mine)), c.life.dead })
	if !dead && len(left) > 0 {
		c.on.Revoked(left, false)
	}
	c.w.with(func() {
		if !c.life.dead && c.joined && c.instance == "" {
			c.w.group.leave(c)
		}
	})
	return nil
}
