package forwarder

import (
	"context"
	"sync/atomic"
	"time"
)

// lease holds requests back after the process has stood still (SIGSTOP, a frozen machine, a swapped-out container), or is
// cut off from Kafka: the group may have given its partitions to somebody else in the meantime, and the client learns of
// it only when it asks, or a moment after the group. A commit that Kafka takes is the proof that this process is still a
// member.
type lease struct {
	pulse   atomic.Int64 // unix nanoseconds of the newest beat
	doubted atomic.Bool
}

const (
	beatTime = time.Second
	// leaseTime without a beat casts doubt on the membership: below any session timeout, above what a busy machine takes.
	leaseTime = 2500 * time.Millisecond
)

// beat runs until ctx ends; renew is called when the process has stood still, or is cut off.
func (l *lease) beat(ctx context.Context, cutOff func() bool, renew func()) {
	for {
		if l.stale() || cutOff() {
			l.doubted.Store(true) // before the pulse, so that nobody slips through
			renew()
		}
		l.pulse.Store(time.Now().UnixNano())
		if sleep(ctx, untilNext(beatTime)) != nil {
			return
		}
	}
}

func (l *lease) stale() bool {
	last := l.pulse.Load()
	return last != 0 && time.Since(time.Unix(0, last)) > leaseTime
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
