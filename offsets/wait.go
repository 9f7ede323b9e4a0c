package offsets

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

// backlog is what of the writes is not on disk yet, and who waits for it. Guarded by Store.mu.
type backlog struct {
	seq      uint64        // writes since Open, failed ones included
	synced   uint64        // writes known to be on disk
	unsynced int           // finished offsets among those in between
	busy     bool          // somebody is at the disk
	atDisk   atomic.Int64  // nanoseconds since born: since when the disk has been about it; 0: it is back. Not guarded: the lock may take its time
	alarm    *time.Timer   // tells who waits when it takes too long
	took     time.Duration // of the newest sync
	burst    int           // finished offsets that came during a sync lately
	hurried  bool          // the next sync is asked for
	clock    int64         // Unix seconds, about
	waiters  []*waiter
	resting  []*waiter // for the next who wait
}

// waiter is a call that waits for the disk. It is woken once its own write is there, or when it has to run the next sync.
type waiter struct {
	seq  uint64
	wake chan struct{}
}

// park waits for rouse. The lock is given up meanwhile.
func (s *Store) park(seq uint64) {
	b := &s.backlog
	var w *waiter
	if n := len(b.resting); n > 0 {
		w, b.resting = b.resting[n-1], b.resting[:n-1]
	} else {
		w = &waiter{wake: make(chan struct{}, 1)}
	}
	w.seq = seq
	b.waiters = append(b.waiters, w)
	s.mu.Unlock()
	<-w.wake
	s.mu.Lock()
	b.resting = append(b.resting, w)
}

// hangTime is how long the disk may take until nobody waits for it any more: each call that would is answered with an error, until the
// disk is back.
const hangTime = 3 * time.Second

// born is what times are counted from: a clock that is set does not change them.
var born = time.Now()

// visit has do, which needs the disk, done without the lock. The caller is busy.
func (s *Store) visit(do func() error) error {
	b := &s.backlog
	b.atDisk.Store(int64(time.Since(born)))
	b.alarm.Reset(hangTime)
	s.mu.Unlock()
	err := do()
	b.atDisk.Store(0)
	s.mu.Lock()
	b.alarm.Stop()
	return err
}

// hangs tells whether the disk does not come back.
func (s *Store) hangs() bool {
	since := s.backlog.atDisk.Load()
	return since != 0 && time.Since(born)-time.Duration(since) >= hangTime
}

// hanging says so.
func (s *Store) hanging() error {
	return fmt.Errorf("%s %w (a slow disk, a frozen file system): nothing is delivered until it goes on", s.path, ErrHangs)
}

// A write that is well has the lock for microseconds. Who must not wait for one that hangs gives it writeTime, and once somebody has waited in
// vain only knownTime, until the lock is free again.
const (
	writeTime = time.Second
	knownTime = time.Millisecond
)

// lockSoon takes the lock; false: a write hangs with it. It is for who must not wait for a disk: the caller polls Kafka, has another lock, or
// answers how things are.
func (s *Store) lockSoon() bool {
	if !s.mu.TryLock() {
		most := writeTime
		if s.stuck.Load() {
			most = knownTime
		}
		end := time.Now().Add(most)
		for tries := 0; !s.mu.TryLock(); tries++ {
			switch {
			case tries < 100:
				runtime.Gosched()
			case time.Now().After(end):
				s.stuck.Store(true)
				return false
			default:
				time.Sleep(knownTime / 10)
			}
		}
	}
	if s.stuck.Load() {
		s.stuck.Store(false)
	}
	return true
}

// rouse wakes whoever has something to do now: those who wait for the other half, those whose write is on disk, and one of the
// rest, who runs the next sync; all of them where none is to come.
func (s *Store) rouse() {
	s.wake.Broadcast()
	b, all := &s.backlog, s.failed != nil || s.closed || s.hangs()
	left, leader := b.waiters[:0], false
	for _, w := range b.waiters {
		over := w.seq <= b.synced || all
		if !over && leader {
			left = append(left, w)
			continue
		}
		leader = leader || !over
		w.wake <- struct{}{}
	}
	b.waiters = left
}

// await holds a finished write back as long as Options.Sync asks.
func (s *Store) await() error {
	b, sy := &s.backlog, s.opt.Sync
	switch {
	case sy.Window == 0:
		return s.reach(b.seq)
	case sy.Window > 0:
		if !b.busy && !b.hurried && s.early() { // during a sync they are counted that it covers
			b.hurried = true
			poke(s.keeper.urgent)
		}
		for b.unsynced > sy.Unsynced {
			if err := s.reach(b.synced + 1); err != nil {
				return err
			}
		}
	}
	return nil
}

// early says whether enough is off disk for a sync before the window is over: late enough to be shared by many, early enough
// that twice as many as have lately come during a sync find room before anybody waits. To park and wake thirty-two lanes costs
// more than a sync.
func (s *Store) early() bool {
	most := s.opt.Sync.Unsynced
	return s.backlog.unsynced >= max(1, most/3, min(most*3/4, most-2*s.backlog.burst))
}

// second is the time in Unix seconds, and at most a sync old: a look at the clock for each offset costs a twentieth of a record.
func (s *Store) second() int64 {
	if s.backlog.synced == s.backlog.seq || s.opt.Sync.Window < 0 {
		s.backlog.clock = s.opt.Now().Unix()
	}
	return s.backlog.clock
}

// covered holds an intent, which was write number seq, back until a ceiling above it is on disk; with Window 0, until it is
// there itself.
func (s *Store) covered(t *slot, seq uint64, offset int64) error {
	if s.opt.Sync.Window == 0 {
		return s.reach(seq)
	}
	if offset < t.ceilingOn {
		return nil
	}
	if t.ceilingOn > 0 && t.seq > s.backlog.synced && s.opt.Sync.Window > 0 { // not the first one, for which everybody waits
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
	if s.opt.Sync.Window < 0 {
		return lazily
	}
	return s.opt.Sync.Window + s.backlog.took
}

// flush is reach, but with a negative Window nobody waits for the disk.
func (s *Store) flush(seq uint64) error {
	if s.opt.Sync.Window < 0 {
		return s.failed
	}
	return s.reach(seq)
}

// reach returns once the first seq writes are on disk: it runs the sync, or waits for whoever does. The lock is given up
// meanwhile.
func (s *Store) reach(seq uint64) error {
	for s.backlog.synced < seq {
		switch {
		case s.failed != nil:
			return s.failed
		case s.closed:
			return ErrClosed
		case s.hangs():
			return s.hanging()
		case s.backlog.busy:
			s.park(seq)
		default:
			if err := s.syncNow(); err != nil {
				return err
			}
		}
	}
	return nil
}

// syncNow puts all that is written on disk. The lock is given up meanwhile, and others may go on writing.
func (s *Store) syncNow() error {
	b, j := &s.backlog, &s.journal
	b.busy = true
	if s.opt.Sync.Window == 0 {
		s.mu.Unlock()
		runtime.Gosched() // whoever is about to write shares this sync
		s.mu.Lock()
	}
	seq, pos, unsynced := b.seq, j.pos, b.unsynced
	var began, end time.Time
	err := s.visit(func() error {
		began = s.opt.Now()
		err := j.disk.Sync()
		end = s.opt.Now()
		return err
	})
	b.busy = false
	defer s.rouse()
	if err != nil {
		return s.fail(err)
	}
	s.tell(end.Sub(began), nil)
	j.onDisk = pos
	b.synced, b.took, b.clock = seq, end.Sub(began), end.Unix()
	b.unsynced -= unsynced
	b.burst = max(b.unsynced, b.burst-(b.burst+7)/8) // what came meanwhile is remembered, of a slow sync for the next ten or so
	return nil
}
