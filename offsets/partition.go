package offsets

import (
	"fmt"
	"sync/atomic"
)

// A ceiling is written so far ahead of the offset that needs it, and renewed once less than half is left. A power cut puts all
// below it in doubt, so it reaches no farther than the pace of the partition asks for.
const (
	nearestReach  = 16
	farthestReach = 512
)

// Partition is one assigned partition: its tracker in memory and its frames in the file, if there is one. It is safe for
// concurrent use. What only looks, or says what has come, waits for no disk; Assign, Write, Settled and Release do.
type Partition struct {
	store    *Store
	slot     *slot
	released atomic.Bool  // set with store.mu
	untried  atomic.Int64 // no attempt at this offset or a higher one is known
}

// Fetched takes over an offset from the consumer and says whether to deliver it: false means it is finished already.
// Offsets ascend strictly; whatever lies between the previous one (at first: Start.Next) and this one does not exist.
func (p *Partition) Fetched(offset int64) (deliver bool) {
	p.slot.mu.Lock()
	defer p.slot.mu.Unlock()
	return !p.released.Load() && p.slot.fetched(offset)
}

// Earlier is what is known of attempts at an offset, those of earlier lives included. A zero Number means none is on record;
// InDoubt may be set all the same: one may have been lost with the power. Without a file it never is.
func (p *Partition) Earlier(offset int64) Attempt {
	if offset >= p.untried.Load() {
		return Attempt{Offset: offset}
	}
	p.slot.mu.Lock()
	defer p.slot.mu.Unlock()
	a := p.slot.attempts[offset]
	if r := p.slot.find(offset); r != nil {
		a = r.attempt()
	}
	a.Offset = offset
	a.InDoubt = p.store.Keeps() && (a.InDoubt || offset < p.slot.doubt)
	return a
}

// Advance passes over offsets that hold no message (transaction markers) once nothing is outstanding. Where there is a file, it holds once the
// next tick has written it: whoever polls Kafka makes no write.
func (p *Partition) Advance(position int64) {
	t := p.slot
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case p.released.Load() || !t.behind(position):
	case p.store.Keeps():
		t.markers, t.noted = position, true
		p.store.note()
	default:
		t.advance(position)
	}
}

// Progress is what may be committed: the watermark, and what is recorded as finished above it. Without a file, what was sent
// counts as finished for the watermark until HandOver.
func (p *Partition) Progress() (next int64, done Ranges) {
	p.slot.mu.Lock()
	defer p.slot.mu.Unlock()
	next = p.slot.passed()
	return next, p.slot.finished(recorded).TrimBelow(next)
}

// HandOver says that nothing of this partition is waited for any more: from now on Progress stops at what has no outcome in any
// case, so that a stop or a rebalance loses and repeats nothing, and Unfinished tells of what is under way all the same (at a disk that
// hangs).
func (p *Partition) HandOver() {
	p.slot.mu.Lock()
	defer p.slot.mu.Unlock()
	p.slot.sentCounts, p.slot.handedOver = false, p.store.Keeps()
}

// Unfinished is what a commit has to tell of attempts: those that are over, at offsets that Progress does not pass and that
// have no outcome on record, by offset. An attempt under way does not count; those before it at the same message do.
func (p *Partition) Unfinished() []Attempt {
	p.slot.mu.Lock()
	defer p.slot.mu.Unlock()
	tell := (*row).over
	if p.slot.handedOver {
		tell = (*row).left
	}
	return p.slot.list(p.slot.passed(), p.untried.Load(), tell)
}

// Next is the watermark: every offset below it has its outcome.
func (p *Partition) Next() int64 {
	p.slot.mu.Lock()
	defer p.slot.mu.Unlock()
	return p.slot.next
}

// Outstanding is the number of offsets that were handed over and are not finished.
func (p *Partition) Outstanding() int {
	p.slot.mu.Lock()
	defer p.slot.mu.Unlock()
	return p.slot.waiting
}

// Standing is the watermark, how many offsets above it are finished, and how many were handed over and are not.
func (p *Partition) Standing() (next, done int64, outstanding int) {
	p.slot.mu.Lock()
	defer p.slot.mu.Unlock()
	for _, r := range p.slot.finished(recorded).TrimBelow(p.slot.next) {
		done += r.To - r.From
	}
	return p.slot.next, done, p.slot.waiting
}

// Committed notes that Kafka acknowledged a commit at offset. It reaches the disk with the next sync. It does not wait for another's write that
// hangs: a tick makes this one, then.
func (p *Partition) Committed(offset int64) {
	s, t := p.store, p.slot
	if !p.acknowledged(offset) {
		return // the commit stands in Kafka all the same
	}
	if !s.lockSoon() {
		s.note()
		return
	}
	defer s.mu.Unlock()
	if s.turning || s.say(t) != nil { // it shows in Err and in the next Write, too
		s.note()
	}
}

func (p *Partition) acknowledged(offset int64) bool {
	t := p.slot
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.released.Load() {
		return false
	}
	t.committed, t.noted = offset, true
	return true
}

// Release ends the assignment at once: nothing of this partition is recorded any more, and every later call returns
// ErrReleased. As soon as all before is on disk the ceiling falls, and only attempts without an outcome stay in doubt.
func (p *Partition) Release() {
	s := p.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.released.Load() {
		return
	}
	p.end()
	s.table.count(p.slot)
	p.slot.seq = s.backlog.seq
	s.lowering = true
	poke(s.keeper.kick)
}

// end takes the slot from the partition. The caller has Store.mu.
func (p *Partition) end() {
	p.slot.mu.Lock()
	defer p.slot.mu.Unlock()
	p.released.Store(true)
	p.slot.owner = nil
	p.slot.release()
}

// begin makes room for n frames of this partition. No lock is given up between its return and the writing.
func (p *Partition) begin(n int) error {
	if p.released.Load() {
		return ErrReleased
	}
	return p.usable(p.store.begin(n))
}

// usable is what came of a wait for the Store: this partition may have been released in it.
func (p *Partition) usable(err error) error {
	if p.released.Load() {
		return ErrReleased
	}
	return err
}

func (p *Partition) explain(doing string, offset int64, err error) error {
	if err == nil || err == ErrReleased {
		return err
	}
	return fmt.Errorf("%s offset %d of %s partition %d: %w", doing, offset, p.slot.key.Topic, p.slot.key.Partition, err)
}
