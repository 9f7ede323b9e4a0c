package forwarder

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/kpush/kpush/kafka"
)

// lease holds requests back after the process has stood still (SIGSTOP, a frozen machine, a swapped-out container), or is
// cut off from Kafka: the group may have given its partitions to somebody else in the meantime, and the client learns of
// it only when it asks, or a moment after the group. A commit that Kafka takes is the proof that this process is still a
// member.
type lease struct {
	pulse   atomic.Pointer[time.Time] // the newest beat; nil: there was none
	proven  atomic.Pointer[time.Time] // until when what Kafka has said last holds; nil: it has said nothing
	doubted atomic.Bool
}

const (
	beatTime = time.Second
	// leaseTime without a beat casts doubt on the membership: below any session timeout, above what a busy machine takes.
	leaseTime = 2500 * time.Millisecond
	// askAfter so long without an answer to a commit the group is asked whether it has this member, and so often from then on.
	askAfter = time.Second
	// heldTime is how long it holds that it has: a member that the group does not hear of is expelled at any time after that.
	heldTime = 3 * time.Second
)

// passed is how long ago t was, by the clock that says more: the wall clock may be set back, and the other one stands still while
// the machine is suspended.
func passed(t time.Time) time.Duration {
	now := time.Now()
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0)))
}

// prove notes until when the membership is proven.
func (l *lease) prove(until time.Time) {
	for was := l.proven.Load(); was == nil || until.After(*was); was = l.proven.Load() {
		if l.proven.CompareAndSwap(was, &until) {
			return
		}
	}
}

// cutOff tells whether a commit has no answer, and what Kafka said last does not hold any more.
func (f *Forwarder) cutOff() bool {
	until := f.lease.proven.Load()
	return f.health.unanswered() > 2*askAfter && (until == nil || passed(*until) > 0)
}

// vouch asks the group for this member while a commit has no answer, until over is called. Kafka answers a commit behind the join that
// the client has under way, and that once the slowest member has joined; but it answers others, and expels nobody who waits.
func (f *Forwarder) vouch() (over func()) {
	ctx, cancel := context.WithCancel(context.Background())
	asking := time.AfterFunc(askAfter, func() {
		for stopping := false; ctx.Err() == nil && !stopping; _ = sleep(ctx, askAfter) {
			f.askForMember(ctx)
			_, stopping = f.health.stopDeadline() // nothing new begins then
		}
	})
	return func() { asking.Stop(); cancel() }
}

func (f *Forwarder) askForMember(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, kafka.QuestionTime)
	defer cancel()
	asked, id := time.Now(), f.parts.Consumer.Member()
	switch group, err := f.parts.Cluster.Group(ctx, f.cfg.Group); {
	case err != nil: // it is cut off from this one, too
	case id != "" && slices.Contains(group.Members, id):
		f.lease.prove(asked.Add(heldTime))
	case len(group.Members) > 0:
		f.lease.doubted.Store(true)
	}
}

// beat runs until ctx ends; renew is called when the process has stood still, or is cut off.
func (l *lease) beat(ctx context.Context, cutOff func() bool, renew func()) {
	for {
		if l.stale() || cutOff() {
			l.doubted.Store(true) // before the pulse, so that nobody slips through
			renew()
		}
		now := time.Now()
		l.pulse.Store(&now)
		if sleep(ctx, untilNext(beatTime)) != nil {
			return
		}
	}
}

func (l *lease) stale() bool {
	last := l.pulse.Load()
	return last != nil && passed(*last) > leaseTime
}

// valid tells whether requests may start.
func (l *lease) valid() bool { return !l.doubted.Load() && !l.stale() }

// wait returns once the lease is valid, or with the cause when ctx has ended.
func (l *lease) wait(ctx context.Context) error {
	for !l.valid() {
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}
