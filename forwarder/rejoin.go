package forwarder

import (
	"context"
	"slices"
	"time"
)

// A static member that is back within its session gets from the group what it had, without a look at what it subscribes to
// now: with another KPUSH_TOPIC it would be given partitions of a topic that it has not any more, and none of a new one, until
// something else makes the group rebalance. So the first assignment is compared with the topics, and where it does not fit, the
// process leaves the group and joins anew.

// leaveTime is how long the way out of the group takes at least, once nothing is assigned any more.
const leaveTime = 50 * time.Millisecond

// membership is about that; the poll goroutine owns it.
type membership struct {
	compared bool      // with the topics; once is enough
	anew     bool      // it does not fit
	left     time.Time // when this process left to join anew; zero: it has not
}

// own are those of tps whose topic is subscribed to; that others come, too, is noted.
func (f *Forwarder) own(tps []tp) []tp {
	out := slices.DeleteFunc(slices.Clone(tps), func(t tp) bool { return !slices.Contains(f.cfg.Topics, t.topic) })
	if len(out) < len(tps) {
		f.member.anew = true
	}
	return out
}

// compareMembership asks, after the first assignment of a static member, whether the group has left partitions to nobody.
func (f *Forwarder) compareMembership() {
	if f.member.compared || f.cfg.InstanceID == "" {
		return
	}
	f.member.compared = true
	f.ask(func(ctx context.Context) func() {
		orphans, err := f.cluster.orphans(ctx, f.cfg.Group, f.cfg.Topics)
		return func() {
			if err != nil {
				f.log.Debug("cannot compare the group's partitions with the topics", "group", f.cfg.Group, "error", err)
			}
			f.member.anew = f.member.anew || len(orphans) > 0
		}
	})
}

// rejoin leaves the group and joins anew where that is due; called now and then.
func (f *Forwarder) rejoin(now time.Time) {
	m := &f.member
	switch {
	case m.anew && m.left.IsZero():
		f.log.Warn("the group has given this member the partitions of its life before, and KPUSH_TOPIC has changed since: it leaves and joins anew",
			"group", f.cfg.Group, "topics", f.cfg.Topics)
		if err := f.client.unsubscribe(); err != nil {
			f.log.Error("cannot leave the group; tried again", "group", f.cfg.Group, "error", err)
			return
		}
		m.anew, m.left = false, now
		f.state.left()
	case !m.left.IsZero() && len(f.assignment()) > 0:
		m.left = now
	case !m.left.IsZero() && now.Sub(m.left) > leaveTime:
		if err := f.client.subscribe(f.cfg.Topics, rebalance{f.assigned, f.revoked}); err != nil {
			f.log.Error("cannot join the group again; tried again", "group", f.cfg.Group, "error", err)
			return
		}
		m.left = time.Time{}
	}
}
