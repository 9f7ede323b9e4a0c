package offsets

import (
	"cmp"
	"time"
)

// A write that nobody waits for reaches the disk within this time when Options.Sync has no window.
const lazily = 5 * time.Millisecond

// keeper is how the only goroutine of a Store is told what to do. It needs no lock.
type keeper struct {
	kick       chan struct{} // there is something to do; room for one
	urgent     chan struct{} // the window is over; room for one
	quit, gone chan struct{}
}

// poke leaves a signal in c, unless one is there.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run is the only goroutine of a Store. It syncs, lowers ceilings, and gets the file going again after a failure.
func (s *Store) run() {
	defer close(s.keeper.gone)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-s.keeper.quit:
			return
		case <-s.keeper.kick:
		}
		for wait := cmp.Or(max(s.opt.Sync.Window, 0), lazily); wait > 0; wait = s.tick() {
			timer.Reset(wait)
			select {
			case <-s.keeper.quit:
				return
			case <-s.keeper.urgent:
			case <-timer.C:
			}
		}
	}
}

// tick does what is due and says when to come again, 0 = after the next stir.
func (s *Store) tick() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0
	}
	s.backlog.hurried = false
	if s.failed != nil {
		if wait := s.retryAt.Sub(s.opt.Now()); wait > 0 {
			return wait
		}
		s.heal()
	}
	s.sayNoted()
	if s.flush(s.backlog.seq) == nil {
		s.lower()
	}
	switch {
	case s.failed != nil, s.hangs(), s.noted.Load():
		return retryAfter
	case s.opt.Sync.Window > 0 && s.early():
		return 1 // they came while the sync was under way
	case s.opt.Sync.Window >= 0 && s.backlog.synced < s.backlog.seq:
		return max(s.opt.Sync.Window, lazily)
	}
	return 0
}

// heal tries to go on in the other half.
func (s *Store) heal() {
	for s.turning {
		s.wake.Wait()
	}
	if s.failed != nil && !s.closed {
		_ = s.turn() // the next tick tries again
	}
}

// note has the next tick write what was noted.
func (s *Store) note() {
	s.noted.Store(true)
	poke(s.keeper.kick)
}

// sayNoted writes what was noted. Where that fails, it is tried again.
func (s *Store) sayNoted() {
	if !s.noted.Swap(false) {
		return
	}
	for _, t := range s.table.sorted() {
		if t.hasNote() && s.say(t) != nil { // or room would be made for nothing
			s.noted.Store(true)
			return
		}
	}
}

// say writes what was noted of a slot.
func (s *Store) say(t *slot) error {
	if err := s.begin(2); err != nil {
		return err
	}
	t.mu.Lock()
	from, noted := t.next, t.noted
	if t.noted = false; noted {
		if t.advance(t.markers) {
			s.journal.add(finishedFrame(t.number, from, t.position))
		}
		s.journal.add(committedFrame(t))
	}
	t.mu.Unlock()
	return s.write()
}

// lower takes back the ceilings of partitions that were released, once all that they did is on disk.
func (s *Store) lower() {
	if !s.lowering {
		return
	}
	s.lowering = false
	for _, t := range s.table.sorted() {
		if t.owner != nil || t.ceiling == 0 {
			continue
		}
		if t.seq > s.backlog.synced || s.begin(1) != nil || t.owner != nil || t.ceiling == 0 {
			s.lowering = true // the next tick looks again
			continue
		}
		t.ceiling, t.ceilingOn = 0, 0
		_ = s.put(frame{kind: ceilingKind, slot: t.number}) // a failure shows in Err
	}
}

// Close puts everything on disk and marks the stop as clean: after it nothing is in doubt that was settled. Partitions still
// assigned are released. The lock of the volume goes in any case.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	for _, t := range s.table.current {
		if t.owner != nil {
			t.owner.end()
			t.seq = s.backlog.seq
		}
	}
	for s.backlog.busy { // however long it takes: who closes has a bound of his own
		s.wake.Wait()
	}
	s.heal()
	err := s.finish()
	s.closed = true
	s.rouse()
	for s.backlog.busy { // after a failure somebody may still be at the disk
		s.wake.Wait()
	}
	s.mu.Unlock()
	close(s.keeper.quit)
	<-s.keeper.gone
	if s.Keeps() {
		err = cmp.Or(err, s.journal.disk.Close())
	}
	_ = s.lock.Close() // gives up the flock; in memory there is none
	return err
}

// finish writes the clean frame, in a sync of its own: it vouches for all that is above it.
func (s *Store) finish() error {
	s.sayNoted()
	if err := s.reach(s.backlog.seq); err != nil {
		return err
	}
	if err := s.begin(1); err != nil {
		return err
	}
	if err := s.put(frame{kind: cleanKind, offset: int64(s.journal.onDisk)}); err != nil {
		return err
	}
	return s.reach(s.backlog.seq)
}
