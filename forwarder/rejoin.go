package forwarder

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
)

// A static member that is back within its session gets from the group what it had, without a look at what it subscribes to
// now: with another KPUSH_TOPIC it would be given partitions of a topic that it has not any more, and none of a new one, until
// something else makes the group rebalance. So the volume remembers what was subscribed to, and where that has changed, the
// process leaves the group after its first assignment and joins anew.

// leaveTime is how long the way out of the group takes at least, once nothing is assigned any more.
const leaveTime = 50 * time.Millisecond

// membership is about that; the poll goroutine owns it.
type membership struct {
	changed bool      // the topics have, since this member joined last
	anew    bool      // what was assigned does not fit them
	left    time.Time // when this process left to join anew; zero: it has not
}

// compareTopics looks whether this member joined with other topics the last time.
func (f *Forwarder) compareTopics() {
	if !f.remembersTopics() {
		return
	}
	last, err := os.ReadFile(f.cfg.Subscribed)
	f.member.changed = !errors.Is(err, fs.ErrNotExist) && string(last) != f.subscription()
	if err != nil {
		f.rememberTopics()
	}
}

// remembersTopics tells whether this is a static member with a volume.
func (f *Forwarder) remembersTopics() bool { return f.cfg.InstanceID != "" && f.cfg.Subscribed != "" }

// subscription is what is remembered of it.
func (f *Forwarder) subscription() string {
	return f.cfg.Group + "\n" + strings.Join(slices.Sorted(slices.Values(f.cfg.Topics)), "\n") + "\n"
}

// rememberTopics makes the present topics those of the last time. Where that fails, the next start joins anew for nothing.
func (f *Forwarder) rememberTopics() {
	if !f.remembersTopics() {
		return
	}
	next := f.cfg.Subscribed + ".new"
	err := os.WriteFile(next, []byte(f.subscription()), 0o644)
	if err == nil {
		err = os.Rename(next, f.cfg.Subscribed)
	}
	if err != nil {
		f.log.Warn("cannot remember what is subscribed to", "error", err)
	}
}

// own are those of tps whose topic is subscribed to. That others come, too, or that the topics have changed, makes this member
// join anew.
func (f *Forwarder) own(tps []tp) []tp {
	out := slices.DeleteFunc(slices.Clone(tps), func(t tp) bool { return !slices.Contains(f.cfg.Topics, t.topic) })
	f.member.anew = f.member.anew || f.member.changed || len(out) < len(tps)
	f.member.changed = false
	return out
}

// rejoin leaves the group and joins anew where that is due; called now and then.
func (f *Forwarder) rejoin(now time.Time) {
	m := &f.member
	switch {
	case m.anew && m.left.IsZero():
		f.log.Warn("KPUSH_TOPIC has changed, and the group has given this member the partitions of its life before: it leaves and joins anew",
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
		f.rememberTopics()
	}
}
