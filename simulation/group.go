package simulation

import (
	"slices"
	"time"

	"github.com/kpush/kpush/kafka"
)

// session is the group's: so long a member may be silent.
const session = 10 * time.Second

// group is the coordinator: who is a member, what belongs to whom, and what was committed. Its owner is the world's lock.
type group struct {
	w       *World
	members []*client // in the order in which they joined
	owner   map[kafka.Partition]*client
	commits map[kafka.Partition]kafka.Commit
	vouched map[kafka.Partition]time.Time // up to when the newest one tells what the volume held
	ever    map[kafka.Position]bool       // what was committed
	names   int
	round   int // the generation: what was sent in an earlier one is refused
}

// join makes c a member. A static one that comes back has what it had; its namesake is fenced.
func (g *group) join(c *client) {
	for _, old := range slices.Clone(g.members) {
		if c.instance == "" || old.instance != c.instance {
			continue
		}
		old.fenced, old.expelled = true, true
		old.life.outcast++
		g.remove(old)
		for p, o := range g.owner {
			if o == old {
				g.owner[p] = c
				c.given = append(c.given, p)
			}
		}
	}
	g.names++
	c.member, c.joined, c.expelled, c.seen = g.names, true, false, time.Now()
	g.members = append(g.members, c)
	if len(c.given) > 0 {
		c.wake()
		return // a static member that is back costs no rebalance
	}
	g.balance()
}

func (g *group) remove(c *client) {
	g.members = slices.DeleteFunc(g.members, func(m *client) bool { return m == c })
}

// leave ends a membership, of which nothing is owned any more where it ends in good order.
func (g *group) leave(c *client) {
	g.remove(c)
	c.joined = false
	for p, o := range g.owner {
		if o == c {
			delete(g.owner, p)
		}
	}
	g.balance()
}

// tick expels who is silent.
func (g *group) tick(now time.Time) {
	for _, m := range slices.Clone(g.members) {
		if m.reachable() {
			m.seen = now
		} else if now.Sub(m.seen) > session {
			g.w.say("%s is expelled from the group", m.life)
			m.expelled = true
			m.life.outcast++
			g.leave(m)
		}
	}
}

// balance shares the partitions out, as sticky as can be: who has too many gives up some in its next poll, and what belongs to nobody is given.
func (g *group) balance() {
	if len(g.members) == 0 {
		return
	}
	all := g.w.partitions()
	quota := map[*client]int{}
	for i, m := range g.members {
		quota[m] = len(all) / len(g.members)
		if i < len(all)%len(g.members) {
			quota[m]++
		}
	}
	var free []kafka.Partition
	for _, p := range all {
		o := g.owner[p]
		switch {
		case o == nil:
			free = append(free, p)
		case quota[o] > 0:
			quota[o]--
		case slices.Contains(o.given, p): // it has not heard of it yet
			o.given = slices.DeleteFunc(o.given, func(g kafka.Partition) bool { return g == p })
			free = append(free, p)
		case !slices.Contains(o.wanted, p):
			o.wanted = append(o.wanted, p) // given up, then free
			o.wake()
		}
	}
	for _, m := range g.members {
		for ; quota[m] > 0 && len(free) > 0; quota[m]-- {
			p := free[0]
			free = free[1:]
			g.owner[p] = m
			g.round++
			m.given = append(m.given, p)
			m.wake()
		}
	}
}

// rebalancing tells whether somebody has yet to give something up.
func (g *group) rebalancing() bool {
	return slices.ContainsFunc(g.members, func(m *client) bool { return len(m.wanted) > 0 })
}
