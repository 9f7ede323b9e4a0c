package offsets

import "math"

// What a Partition was about, for the errors.
const (
	announcing = "announcing an attempt at"
	settling   = "recording an attempt at"
	recording  = "recording"
)

// Intent announces the attempt a.Number. The request may start once it returns nil: a crash of the process will show this
// attempt, a power cut at least that the offset lies below a ceiling.
func (p *Partition) Intent(a Attempt) error {
	s := p.store
	s.mu.Lock()
	defer s.mu.Unlock()
	err := p.begin(2)
	if err != nil {
		return p.explain(announcing, a.Offset, err)
	}
	before, err := p.announce(a)
	if err == nil {
		seq := s.seq + 1
		err = p.announced(before, seq, s.write())
	}
	return p.explain(announcing, a.Offset, err)
}

// IntentAll is Intent for each of many messages; where the disk is waited for, they share the wait. With an error none of the
// requests may start.
func (p *Partition) IntentAll(all []Attempt) error {
	s := p.store
	s.mu.Lock()
	defer s.mu.Unlock()
	before, highest := make([]Attempt, 0, len(all)), int64(-1)
	for _, a := range all {
		err := p.begin(2)
		if err == nil {
			var was Attempt
			if was, err = p.announce(a); err == nil {
				before, highest = append(before, was), max(highest, a.Offset)
				err = s.write()
			}
		}
		if err != nil {
			p.recall(before)
			return p.explain(announcing, a.Offset, err)
		}
	}
	if len(all) == 0 {
		return nil
	}
	err := p.usable(s.covered(p.slot, s.seq, highest))
	if err != nil {
		p.recall(before)
	}
	return p.explain(announcing, highest, err)
}

// Settled records that attempts ended without a final outcome.
func (p *Partition) Settled(all ...Attempt) error {
	s := p.store
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range all {
		err := p.begin(1)
		if err == nil {
			err = p.settle(a)
		}
		if err != nil {
			return p.explain(settling, a.Offset, err)
		}
	}
	if len(all) == 0 || s.sync.Window != 0 {
		return nil
	}
	return p.explain(settling, all[len(all)-1].Offset, s.reach(s.seq))
}

// settle writes the end of an attempt.
func (p *Partition) settle(a Attempt) error {
	r := p.slot.find(a.Offset)
	if r == nil || r.progress != outstanding {
		return errNotOutstanding
	}
	p.note(r, a)
	return p.store.put(attemptFrame(settledKind, p.slot.number, a))
}

// Done records the final outcome of an offset. The watermark moves only when it returns nil; after an error the caller calls
// again until it does.
func (p *Partition) Done(offset int64) error {
	s := p.store
	s.mu.Lock()
	defer s.mu.Unlock()
	err := p.begin(2)
	if err == nil {
		var added bool
		if added, err = p.conclude(offset); added {
			err = p.concluded(offset, s.write())
		}
	}
	return p.explain(recording, offset, err)
}

// DoneAll is Done for each of many offsets; where the disk is waited for, they share the wait. After an error the caller calls
// again with all of them.
func (p *Partition) DoneAll(all []int64) error {
	s := p.store
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, offset := range all {
		err := p.begin(2)
		if err == nil {
			var added bool
			if added, err = p.conclude(offset); added {
				if err = s.write(); err == nil {
					s.unsynced++
				}
			}
		}
		if err != nil {
			return p.explain(recording, offset, err)
		}
	}
	if len(all) == 0 {
		return nil
	}
	err := s.await()
	if err == nil && !p.released {
		for _, offset := range all {
			p.slot.finish(offset)
		}
	}
	return p.explain(recording, all[len(all)-1], err)
}

// DoneThen is Done(offset) and then next.Intent(a), in one write and, where the disk is waited for, in one sync. Either may
// hold without the other: each error is what its own call would have returned. Both partitions are of the same Store.
func (p *Partition) DoneThen(offset int64, next *Partition, a Attempt) (done, intent error) {
	s := p.store
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.begin(4)
	var added bool
	if done = p.usable(err); done == nil {
		added, done = p.conclude(offset)
	}
	var before Attempt
	if intent = next.usable(err); intent == nil {
		before, intent = next.announce(a)
	}
	seq := s.seq + 1
	err = s.write()
	if added {
		done = p.concluded(offset, err)
	}
	if intent == nil {
		intent = next.announced(before, seq, err)
	}
	return p.explain(recording, offset, done), next.explain(announcing, a.Offset, intent)
}

// announce adds an intent to the next write, with a ceiling above it where one is due. It returns what was known before.
func (p *Partition) announce(a Attempt) (before Attempt, err error) {
	s, t := p.store, p.slot
	r := t.find(a.Offset)
	if r == nil || r.progress != outstanding {
		return Attempt{}, errNotOutstanding
	}
	before = r.attempt()
	a.InDoubt = true
	p.note(r, a)
	if s.sync.Window != 0 && t.near(a.Offset) { // with Window 0 the intent itself is on the disk before the request
		if t.seq <= s.synced {
			t.ceilingOn = t.ceiling
		}
		s.add(t.lift(a.Offset, s.now(), s.lag()))
		t.seq = s.seq + 1
	}
	s.add(attemptFrame(intentKind, t.number, a))
	return before, nil
}

// announced waits for what an intent needs on the disk, unless write number seq failed with err.
func (p *Partition) announced(before Attempt, seq uint64, err error) error {
	if err == nil {
		err = p.usable(p.store.covered(p.slot, seq, before.Offset))
	}
	if err != nil {
		p.recall([]Attempt{before})
	}
	return err
}

// recall takes intents back: no request follows them.
func (p *Partition) recall(before []Attempt) {
	if p.released {
		return
	}
	for _, a := range before {
		if r := p.slot.find(a.Offset); r != nil {
			r.note(a)
		}
	}
}

// note remembers the newest attempt, so that Earlier looks for it.
func (p *Partition) note(r *row, a Attempt) {
	r.note(a)
	if a.Offset >= p.untried.Load() {
		p.untried.Store(a.Offset + 1)
	}
}

// conclude adds the outcome of an offset to the next write, if it is not on record yet.
func (p *Partition) conclude(offset int64) (added bool, err error) {
	t, now := p.slot, p.store.second()
	r := t.find(offset)
	switch {
	case r == nil && offset < t.next, r != nil && r.progress == recorded:
		return false, nil
	case r == nil:
		return false, errNotOutstanding
	}
	t.write(r)
	t.at = max(t.at, now)
	span := offset - r.from
	if span > math.MaxUint32 {
		p.store.add(finishedFrame(t.number, r.from, offset))
		span = 0
	}
	p.store.add(doneFrame(t.number, offset, span, now))
	return true, nil
}

// concluded moves the watermark once the outcome is as durable as Options.Sync asks, unless its write failed with err.
func (p *Partition) concluded(offset int64, err error) error {
	s := p.store
	if err == nil {
		s.unsynced++
		err = s.await()
	}
	if err == nil && !p.released {
		p.slot.finish(offset)
	}
	return err
}
