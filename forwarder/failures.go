package forwarder

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/kafka"
)

// failures are the messages that wait for another attempt, as others may see and end them.
type failures struct {
	mu sync.Mutex
	m  map[*failure]struct{}
}

// failure is one of them. It outlives its item for whoever has just listed it.
type failure struct {
	BlockedStatus                 // guarded by failures.mu; written by its delivery alone, which may read it without
	ctx           context.Context // ends when the partition stops, or the message is skipped
	skip          context.CancelCauseFunc
	over          chan struct{} // closed when its message has its outcome on record, or its partition has gone
	done          bool          // it has; to be looked at when over is closed
	delivered     bool          // and it is that the service took it; likewise
	kept          bool          // it is where given-up messages go; likewise
}

// isOver tells whether the message has its outcome on record, or its partition has gone.
func (one *failure) isOver() bool {
	select {
	case <-one.over:
		return true
	default:
		return false
	}
}

func (f *failures) add(p *partition, it *item) *failure {
	one := &failure{BlockedStatus: BlockedStatus{Position: kafka.Position{Partition: p.Partition, Offset: it.Offset}, Key: it.Key, Since: time.Now()},
		over: make(chan struct{})}
	one.ctx, one.skip = context.WithCancelCause(p.soft)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.m == nil {
		f.m = make(map[*failure]struct{})
	}
	f.m[one] = struct{}{}
	return one
}

// note keeps what the newest attempt came to.
func (f *failures) note(one *failure, attempts int, v push.Verdict) {
	f.mu.Lock()
	defer f.mu.Unlock()
	one.Attempts, one.Status, one.Reason, one.Answer, one.Doubtful = attempts, v.Status, v.Reason, v.Answer, false
}

// noteDoubt keeps what the newest question got instead of an answer.
func (f *failures) noteDoubt(one *failure, attempts int, v push.Verdict) {
	f.note(one, attempts, v)
	f.mu.Lock()
	defer f.mu.Unlock()
	one.Doubtful = true
}

func (f *failures) remove(one *failure) {
	f.mu.Lock()
	defer f.mu.Unlock()
	one.skip(nil)
	delete(f.m, one)
}

// end ends the wait of messages, and says of which nobody has ended it before.
func (f *failures) end(list []*failure, why error) (ended map[*failure]bool) {
	ended = map[*failure]bool{}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range list {
		if one.ctx.Err() == nil {
			one.skip(why)
			ended[one] = true
		}
	}
	return ended
}

// blocked are those that keep failing, oldest offset first in each partition.
func (f *failures) blocked() []*failure {
	return f.where(func(one *failure) bool { return one.Attempts >= blockedAfter })
}

// where are those that is tells of, oldest offset first in each partition.
func (f *failures) where(is func(*failure) bool) (all []*failure) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for one := range f.m {
		if is(one) {
			all = append(all, one)
		}
	}
	slices.SortFunc(all, func(a, b *failure) int { return cmp.Compare(a.Offset, b.Offset) })
	return all
}

// oldest is the one of the lowest offset of each partition.
func (f *failures) oldest() map[kafka.Partition]BlockedStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[kafka.Partition]BlockedStatus{}
	for one := range f.m {
		if was, ok := out[one.Partition]; !ok || one.Offset < was.Offset {
			out[one.Partition] = one.BlockedStatus
		}
	}
	return out
}

// status is blocked, for people.
func (f *failures) status() []BlockedStatus { return f.told(f.blocked()) }

// doubtful are those that wait for KPUSH_CONFIRM_URL, for people.
func (f *failures) doubtful() []BlockedStatus {
	return f.told(f.where(func(one *failure) bool { return one.Doubtful }))
}

func (f *failures) told(list []*failure) (all []BlockedStatus) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range list {
		all = append(all, one.BlockedStatus)
	}
	return all
}
