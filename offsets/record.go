package offsets

import (
	"cmp"
	"math"
)

// What a Partition was about, for the errors.
const (
	announcing = "announcing an attempt at"
	settling   = "recording an attempt at"
	recording  = "recording"
)

// Write records the final outcomes of the offsets done of p, and announces intents of next, a partition of the same Store: in
// as few writes as there can be and, where the disk is waited for, in one sync. Either may hold without the other.
//
// The watermark of p moves only when recorded is nil; after an error the caller calls again with all of done. The requests of
// intents may start once announced is nil: a crash of the process will show these attempts, a power cut at least that their
// offsets lie below a ceiling. With an error none of them may start, and none is known of. Without intents, next may be nil.
func (p *Partition) Write(done []int64, next *Partition, intents []Attempt) (recorded, announced error) {
	s := p.store
	s.mu.Lock()
	defer s.mu.Unlock()
	var at, to int64
	for _, at = range done {
		if recorded = p.conclude(at); recorded != nil {
			break
		}
	}
	var one [1]row // most calls announce one
	before := one[:0]
	if len(intents) > 0 {
		to, before, announced = next.announceAll(before, intents)
	}
	_ = s.write() // it shows in s.failed, like that of a part which begin has written
	err, seq := s.failed, s.backlog.seq
	if len(done) > 0 && recorded == nil {
		recorded = p.concluded(done, err)
	}
	if len(intents) > 0 && announced == nil {
		announced = next.announced(before, to, seq, err)
	}
	return p.explain(recording, at, recorded), next.explain(announcing, to, announced)
}

// Settled records that attempts ended without a final outcome. In memory they have ended also after an error.
func (p *Partition) Settled(all ...Attempt) error {
	s := p.store
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range all {
		p.ended(a)
	}
	at, err := int64(0), error(nil)
	for i := 0; i < len(all) && err == nil; i++ {
		at = all[i].Offset
		if err = p.begin(1); err == nil {
			err = p.settle(all[i])
		}
	}
	err = cmp.Or(err, s.write())
	if err == nil && len(all) > 0 && s.opt.Sync.Window == 0 {
		err = s.reach(s.backlog.seq)
	}
	return p.explain(settling, at, err)
}

// settle adds the end of an attempt to the next write.
func (p *Partition) settle(a Attempt) error {
	p.slot.mu.Lock()
	defer p.slot.mu.Unlock()
	if r := p.slot.find(a.Offset); r == nil || r.progress != outstanding {
		return errNotOutstanding
	}
	p.store.journal.add(attemptFrame(settledKind, p.slot.number, a))
	return nil
}

// Doubt notes what is known of a message whose outcome could not be recorded. It writes nothing.
func (p *Partition) Doubt(a Attempt) {
	p.ended(a)
}

// ended notes the end of an attempt in memory. The slot of a released partition may be another one's by now.
func (p *Partition) ended(a Attempt) {
	p.slot.mu.Lock()
	defer p.slot.mu.Unlock()
	if p.released.Load() {
		return
	}
	if r := p.slot.find(a.Offset); r != nil && r.progress != recorded {
		p.note(r, a, settled)
	}
}

// announceAll adds intents to the next write. It returns their rows as they were before, and which offset an error is about.
func (p *Partition) announceAll(before []row, intents []Attempt) (at int64, _ []row, err error) {
	for _, a := range intents {
		if err = p.begin(2); err == nil {
			before, err = p.announce(before, a)
		}
		if err != nil {
			p.recall(before)
			return a.Offset, nil, err
		}
		at = max(at, a.Offset)
	}
	return at, before, nil
}

// announce adds one intent to the next write, with a ceiling above it where one is due.
func (p *Partition) announce(before []row, a Attempt) ([]row, error) {
	s, t := p.store, p.slot
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.find(a.Offset)
	if r == nil || r.progress != outstanding {
		return before, errNotOutstanding
	}
	before = append(before, *r)
	a.InDoubt = r.doubt || r.stage == underWay // nobody has told how the one before ended
	p.note(r, a, underWay)
	if s.opt.Sync.Window != 0 && t.near(a.Offset) { // with Window 0 the intent itself is on the disk before the request
		if t.seq <= s.backlog.synced {
			t.ceilingOn = t.ceiling
		}
		s.journal.add(t.lift(a.Offset, s.opt.Now(), s.lag()))
		t.seq = s.backlog.seq + 1
	}
	s.journal.add(attemptFrame(intentKind, t.number, a))
	return before, nil
}

// announced waits for what intents need on the disk: they were written with write number seq, which came to err.
func (p *Partition) announced(before []row, highest int64, seq uint64, err error) error {
	if err == nil {
		err = p.usable(p.store.covered(p.slot, seq, highest))
	}
	if err != nil {
		p.recall(before)
	}
	return err
}

// recall takes intents back: no request follows them.
func (p *Partition) recall(before []row) {
	p.slot.mu.Lock()
	defer p.slot.mu.Unlock()
	if p.released.Load() {
		return
	}
	for _, b := range before {
		if r := p.slot.find(b.offset); r != nil {
			r.number, r.faults, r.doubt, r.stage = b.number, b.faults, b.doubt, b.stage
		}
	}
}

// note remembers the newest attempt, so that Earlier looks for it.
func (p *Partition) note(r *row, a Attempt, s stage) {
	r.note(a, s)
	if a.Offset >= p.untried.Load() {
		p.untried.Store(a.Offset + 1)
	}
}

// conclude adds the outcome of an offset to the next write, if it is not on record yet.
func (p *Partition) conclude(offset int64) error {
	if err := p.begin(2); err != nil {
		return err
	}
	s, t := p.store, p.slot
	t.mu.Lock()
	defer t.mu.Unlock()
	now, r := s.second(), t.find(offset)
	switch {
	case r == nil && offset < t.next, r != nil && r.progress == recorded:
		return nil
	case r == nil:
		return errNotOutstanding
	}
	t.write(r)
	t.at = max(t.at, now)
	span := offset - r.from
	if span > math.MaxUint32 {
		s.journal.add(finishedFrame(t.number, r.from, offset))
		span = 0
	}
	s.journal.add(doneFrame(t.number, offset, span, now))
	s.backlog.unsynced++
	return nil
}

// concluded moves the watermark once outcomes are as durable as Options.Sync asks, unless their write failed with err.
func (p *Partition) concluded(done []int64, err error) error {
	if err == nil {
		err = p.store.await()
	}
	if err == nil && !p.released.Load() {
		p.slot.mu.Lock()
		defer p.slot.mu.Unlock()
		for _, offset := range done {
			p.slot.finish(offset)
		}
	}
	return err
}
