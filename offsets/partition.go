package offsets

import (
	"fmt"
	"math"
)

// A ceiling is written so far ahead of the offset that needs it, and renewed once less than half is left. It begins near, since
// a power cut puts all below it in doubt, and reaches farther each time that somebody had to wait for it.
const (
	nearestReach  = 128
	farthestReach = 512
)

// Partition is one assigned partition: its tracker in memory and its frames in the file. It is safe for concurrent use.
type Partition struct {
	store    *Store
	slot     *slot // guarded by store.mu
	released bool  // guarded by store.mu
}

// Fetched takes over an offset from the consumer and says whether to deliver it: false means it is finished already.
// Offsets ascend strictly; whatever lies between the previous one (at first: Start.Next) and this one does not exist.
func (p *Partition) Fetched(offset int64) (deliver bool) {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	return !p.released && p.slot.fetched(offset)
}

// Earlier is what is known of attempts at an offset, those of earlier lives included. A zero Number means none is on record;
// InDoubt may be set all the same: one may have been lost with the power.
func (p *Partition) Earlier(offset int64) Attempt {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	a := p.slot.attempts[offset]
	if r := p.slot.find(offset); r != nil {
		a = r.attempt()
	}
	a.Offset = offset
	a.InDoubt = a.InDoubt || offset < p.slot.doubt
	return a
}

// Intent announces the attempt a.Number. The request may start once it returns nil: a crash of the process will show this
// attempt, a power cut at least that the offset lies below a ceiling.
func (p *Partition) Intent(a Attempt) error {
	s := p.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := p.begin(2); err != nil {
		return p.explain("announcing an attempt at", a.Offset, err)
	}
	r := p.slot.find(a.Offset)
	if r == nil || r.progress != outstanding {
		return p.explain("announcing an attempt at", a.Offset, errNotOutstanding)
	}
	before := r.attempt()
	a.InDoubt = true
	r.note(a)
	ceiling := frame{}
	if s.sync.Window != 0 { // else the intent itself is on the disk before the request
		ceiling = p.slot.raise(a.Offset)
	}
	err := s.put2(ceiling, attemptFrame(intentKind, p.slot.number, a))
	if err == nil {
		err = s.announced(p.slot, ceiling.kind != 0, a.Offset)
	}
	if err == nil && p.released {
		return ErrReleased
	}
	if err == nil {
		return nil
	}
	if r := p.slot.find(a.Offset); r != nil && !p.released {
		r.note(before)
	}
	return p.explain("announcing an attempt at", a.Offset, err)
}

// Settled records that an attempt ended without a final outcome.
func (p *Partition) Settled(a Attempt) error {
	s := p.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := p.begin(1); err != nil {
		return p.explain("recording an attempt at", a.Offset, err)
	}
	r := p.slot.find(a.Offset)
	if r == nil || r.progress != outstanding {
		return p.explain("recording an attempt at", a.Offset, errNotOutstanding)
	}
	r.note(a)
	err := s.put(attemptFrame(settledKind, p.slot.number, a))
	if err == nil && s.sync.Window == 0 {
		err = s.flush(s.seq)
	}
	return p.explain("recording an attempt at", a.Offset, err)
}

// Done records the final outcome of an offset. The watermark moves only when it returns nil; after an error the caller calls
// again until it does.
func (p *Partition) Done(offset int64) error {
	s := p.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := p.begin(2); err != nil {
		return p.explain("recording", offset, err)
	}
	r := p.slot.find(offset)
	switch {
	case r == nil && offset < p.slot.next, r != nil && r.progress == recorded:
		return nil
	case r == nil:
		return p.explain("recording", offset, errNotOutstanding)
	}
	r.progress = written
	now := s.now().Unix()
	p.slot.at = max(p.slot.at, now)
	span, below := offset-r.from, frame{}
	if span > math.MaxUint32 {
		below, span = finishedFrame(p.slot.number, r.from, offset), 0
	}
	err := s.put2(below, doneFrame(p.slot.number, offset, span, now))
	if err == nil {
		s.unsynced++
		err = s.await()
	}
	if err != nil {
		return p.explain("recording", offset, err)
	}
	if !p.released {
		p.slot.finish(offset)
	}
	return nil
}

// Advance passes over offsets that hold no message (transaction markers) once nothing is outstanding.
func (p *Partition) Advance(position int64) {
	s := p.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.begin(1) != nil {
		return // the watermark in the file stays lower: those offsets are asked for again, and do not exist
	}
	from := p.slot.next
	if p.slot.advance(position) {
		_ = s.put(finishedFrame(p.slot.number, from, position)) // a failure shows in Err and in the next Done
	}
}

// Progress is what may be committed: the watermark, and what is recorded as finished above it.
func (p *Partition) Progress() (next int64, done Ranges) {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	return p.slot.next, p.slot.finished(recorded)
}

// Next is the watermark: every offset below it has its outcome.
func (p *Partition) Next() int64 {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	return p.slot.next
}

// Outstanding is the number of offsets that were handed over and are not finished.
func (p *Partition) Outstanding() int {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	return p.slot.waiting
}

// Committed notes that Kafka acknowledged a commit at offset. It reaches the disk with the next sync.
func (p *Partition) Committed(offset int64) {
	s := p.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.begin(1) != nil {
		return // the commit stands in Kafka all the same
	}
	p.slot.committed = offset
	_ = s.put(committedFrame(p.slot)) // a failure shows in Err and in the next Done
}

// Release ends the assignment at once: nothing of this partition is recorded any more, and every later call returns
// ErrReleased. As soon as all before is on disk the ceiling falls, and only attempts without an outcome stay in doubt.
func (p *Partition) Release() {
	s := p.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.released {
		return
	}
	p.released = true
	p.slot.owner = nil
	p.slot.release()
	p.slot.seq = s.seq
	s.lowering = true
	s.stir()
}

// begin makes room for n frames of this partition. No lock is given up between its return and the writing.
func (p *Partition) begin(n int) error {
	if p.released {
		return ErrReleased
	}
	err := p.store.begin(n)
	if p.released {
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
