package offsets

import (
	"runtime"
	"time"
)

// waiter is a call that waits for the disk. It is woken once its own write is there, or when it has to run the next sync.
type waiter struct {
	seq  uint64
	wake chan struct{}
}

// await holds a finished write back as long as Options.Sync asks.
func (s *Store) await() error {
	switch {
	case s.sync.Window == 0:
		return s.reach(s.seq)
	case s.sync.Window > 0:
		if !s.busy && !s.hurried && s.unsynced >= s.early() { // during a sync they are counted that it covers
			s.hurried = true
			s.hurry()
		}
		for s.unsynced > s.sync.Unsynced {
			if err := s.reach(s.synced + 1); err != nil {
				return err
			}
		}
	}
	return nil
}

// early is so many finished offsets off disk that the sync begins before the window is over: late enough to be shared by many,
// early enough that twice as many as have lately come during a sync find room before anybody waits. To park and wake
// thirty-two lanes costs more than a sync.
func (s *Store) early() int {
	most := s.sync.Unsynced
	return max(1, most/3, min(most*3/4, most-2*s.burst))
}

// meanwhile remembers how many offsets finished during a sync: a slow one for the next ten or so.
func (s *Store) meanwhile(n int) { s.burst = max(n, s.burst-(s.burst+7)/8) }

// second is the time in Unix seconds, and at most a sync old: a look at the clock for each offset costs a twentieth of a record.
func (s *Store) second() int64 {
	if s.synced == s.seq || s.sync.Window < 0 {
		s.clock = s.now().Unix()
	}
	return s.clock
}

// covered holds an intent, which was write number seq, back until a ceiling above it is on disk; with Window 0, until it is
// there itself.
func (s *Store) covered(t *slot, seq uint64, offset int64) error {
	if s.sync.Window == 0 {
		return s.reach(seq)
	}
	if offset < t.ceilingOn {
		return nil
	}
	if t.ceilingOn > 0 && t.seq > s.synced && s.sync.Window > 0 { // not the first one, for which everybody waits
		t.stood = true
	}
	ceiling := t.ceiling
	if err := s.flush(t.seq); err != nil {
		return err
	}
	t.ceilingOn = max(t.ceilingOn, ceiling)
	return nil
}

// lag is about how long a write takes to the disk when nobody waits for it.
func (s *Store) lag() time.Duration {
	if s.sync.Window < 0 {
		return lazily
	}
	return s.sync.Window + s.took
}

// flush is reach, but with a negative Window nobody waits for the disk.
func (s *Store) flush(seq uint64) error {
	if s.sync.Window < 0 {
		return s.failed
	}
	return s.reach(seq)
}

// reach returns once the first seq writes are on disk: it runs the sync, or waits for whoever does. The lock is given up
// meanwhile.
func (s *Store) reach(seq uint64) error {
	for s.synced < seq {
		switch {
		case s.failed != nil:
			return s.failed
		case s.closed:
			return ErrClosed
		case s.busy:
			s.park(seq)
		default:
			if err := s.syncNow(); err != nil {
				return err
			}
		}
	}
	return nil
}

// park waits for rouse. The lock is given up meanwhile.
func (s *Store) park(seq uint64) {
	var w *waiter
	if n := len(s.resting); n > 0 {
		w, s.resting = s.resting[n-1], s.resting[:n-1]
	} else {
		w = &waiter{wake: make(chan struct{}, 1)}
	}
	w.seq = seq
	s.waiters = append(s.waiters, w)
	s.mu.Unlock()
	<-w.wake
	s.mu.Lock()
	s.resting = append(s.resting, w)
}

// rouse wakes whoever waits for nothing any more, and one of the rest, who runs the next sync.
func (s *Store) rouse() {
	s.wake.Broadcast()
	left, leader := s.waiters[:0], false
	for _, w := range s.waiters {
		over := w.seq <= s.synced || s.failed != nil || s.closed
		if !over && leader {
			left = append(left, w)
			continue
		}
		leader = leader || !over
		w.wake <- struct{}{}
	}
	s.waiters = left
}

// syncNow puts all that is written on disk. The lock is given up meanwhile, and others may go on writing.
func (s *Store) syncNow() error {
	s.busy = true
	if s.sync.Window == 0 {
		s.mu.Unlock()
		runtime.Gosched() // whoever is about to write shares this sync
		s.mu.Lock()
	}
	seq, pos, unsynced := s.seq, s.pos, s.unsynced
	s.mu.Unlock()
	began := s.now()
	err := s.disk.Sync()
	end := s.now()
	s.mu.Lock()
	s.busy = false
	defer s.rouse()
	if err != nil {
		return s.fail(err)
	}
	s.synced, s.onDisk, s.took, s.clock = seq, pos, end.Sub(began), end.Unix()
	s.unsynced -= unsynced
	s.meanwhile(s.unsynced)
	return nil
}
