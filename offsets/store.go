package offsets

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"
)

// Store is the open file of a volume. It is safe for concurrent use.
type Store struct {
	sync   Sync
	now    func() time.Time
	log    *slog.Logger
	random func() uint64
	boot   string
	path   string // of the file
	lock   *lock

	mu      sync.Mutex // held for memory and for a write, never for a sync or a snapshot's way to the disk
	wake    sync.Cond  // busy or turning changed
	current map[Key]*slot
	slots   uint32 // the highest slot number ever given

	read    edition // what Open found
	opening uint32  // random: this Store

	disk     disk
	header   header // of the newest half; generation counts failed writings, too
	half     int    // that is written now
	written  uint64 // generation of that half
	place    place
	pos      uint32        // number of the next frame
	onDisk   uint32        // frames of this half known to be on disk
	marked   uint32        // onDisk of the newest synced frame
	seq      uint64        // writes since Open, failed ones included
	synced   uint64        // writes known to be on disk
	unsynced int           // finished offsets among those in between
	took     time.Duration // of the newest sync
	burst    int           // finished offsets that came during a sync lately
	hurried  bool          // the next sync is asked for
	clock    int64         // Unix seconds, about
	waiters  []*waiter
	resting  []*waiter // for the next who wait
	busy     bool      // somebody is at disk.Sync
	lowering bool      // a released partition may have a ceiling to take back
	turning  bool      // the other half is being written; nobody else writes
	failed   error
	retryAt  time.Time
	closed   bool
	added    uint32              // frames in buf that are not written yet
	buf      [5 * frameSize]byte // what one call about a message adds: synced, a done in two frames, ceiling, intent

	kick       chan struct{} // there is something to sync
	urgent     chan struct{} // and not only after a window
	quit, gone chan struct{}
}

// Open locks the volume, then creates the file or recovers what it knows. It returns an OpenError where a person has to act.
func Open(dir string, o Options) (*Store, error) {
	l, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	d, err := openFile(dir, o)
	if err == nil {
		var s *Store
		if s, err = recoverFrom(d, filePath(dir), o); err == nil {
			s.lock = l
			return s, nil
		}
		_ = d.Close() // nothing was written that matters
	}
	l.release()
	return nil, err
}

// recoverFrom believes what d holds and goes on in the half that is not the newest.
func recoverFrom(d disk, path string, o Options) (*Store, error) {
	s := &Store{
		sync: o.Sync, now: o.Now, log: o.Log, random: o.random, boot: o.boot, path: path, disk: d,
		current: make(map[Key]*slot), kick: make(chan struct{}, 1), urgent: make(chan struct{}, 1), quit: make(chan struct{}), gone: make(chan struct{}),
	}
	s.wake.L = &s.mu
	s.defaults()
	if o.wrap != nil {
		s.disk = o.wrap(d)
	}
	m, err := load(s.disk, path)
	if err != nil {
		return nil, err
	}
	s.adopt(m)
	s.mu.Lock()
	s.turn()
	err = s.failed
	s.mu.Unlock()
	if err != nil {
		return nil, unusable(path, err)
	}
	if o.idle {
		close(s.gone)
	} else {
		go s.run()
	}
	return s, nil
}

func (s *Store) defaults() {
	if s.sync.Unsynced == 0 {
		s.sync.Unsynced = 128
	}
	s.burst = s.sync.Unsynced / 3
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.boot == "" {
		s.boot = bootID()
	}
	if s.random == nil {
		s.random = random
	}
}

func random() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails: it ends the process instead
	return binary.LittleEndian.Uint64(b[:])
}

// adopt takes over what was read. After a power cut the ceilings are all that is known of lost intents: they become doubt.
func (s *Store) adopt(m *image) {
	s.header, s.half, s.place, s.pos, s.slots = m.header, m.half, m.header.place(), m.end, m.slots
	s.read, s.opening = edition{m.header.generation, m.end, m.header.life, 0}, uint32(random())
	lost := !m.clean && m.header.boot != s.boot
	for _, t := range m.current {
		if lost {
			t.doubt = max(t.doubt, t.ceiling)
			t.unvouched = s.sync.Window < 0
		}
		t.ceiling = 0
		s.current[t.key] = t
	}
	if m.torn > 0 {
		s.log.Warn("offsets: the newest frames were not whole and are left out; their messages may come again",
			"file", s.path, "torn", m.torn, "read", m.frames)
	}
}

// VolumeID is 16 hex digits, drawn when the file was created.
func (s *Store) VolumeID() string { return fmt.Sprintf("%016x", s.header.volume) }

// Saved is what the file knows of exactly this Key, in its newest lineage.
func (s *Store) Saved(k Key) (Saved, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.current[k]
	if !ok {
		return Saved{}, false
	}
	return t.saved(), true
}

// Foreign lists entries for the same topic and partition that do not apply to k: another cluster, group or topic id.
func (s *Store) Foreign(k Key) []Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Key
	for o := range s.current {
		if o.Topic == k.Topic && o.Partition == k.Partition && o != k {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, compareKeys)
	return out
}

func compareKeys(a, b Key) int {
	return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Topic, b.Topic),
		cmp.Compare(a.TopicID, b.TopicID), cmp.Compare(a.Partition, b.Partition))
}

// Assign opens a partition for recording. What it starts with is on disk when it returns.
func (s *Store) Assign(k Key, st Start) (*Partition, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.assign(k, st)
	if err != nil {
		return nil, fmt.Errorf("assigning %s partition %d at offset %d: %w", k.Topic, k.Partition, st.Next, err)
	}
	return p, nil
}

func (s *Store) assign(k Key, st Start) (*Partition, error) {
	if len(keyText(k)) > math.MaxUint16 {
		return nil, errors.New("the names of cluster, group and topic are longer than the file can hold")
	}
	if err := s.begin(1); err != nil {
		return nil, err
	}
	old := s.current[k]
	if old != nil && old.owner != nil {
		return nil, errors.New("it is assigned already: release it first")
	}
	t := old
	fresh := t == nil || t.lineage != st.Lineage
	if fresh {
		s.slots++
		t = &slot{number: s.slots, key: k, lineage: st.Lineage, committed: -1, at: s.now().Unix()}
	}
	p := &Partition{store: s, slot: t}
	if t.join(st) || fresh {
		s.current[k] = t
		if n := len(s.all()); fresh && n > s.capacity()/2 {
			s.current[k] = old
			if old == nil {
				delete(s.current, k)
			}
			return nil, fmt.Errorf("with it, %d frames have to be remembered, and %s begins with %d at most, to leave room for "+
				"what happens: use more volumes with fewer partitions each", n, s.path, s.capacity()/2)
		}
		if frames := t.frames(nil, fresh); int(s.pos)+len(frames)+spare <= s.capacity() {
			_ = s.putAll(frames) // it shows in s.failed
		} else {
			s.turn()
		}
	}
	t.owner = p
	if err := s.flush(s.seq); err != nil || s.failed != nil {
		t.owner = nil
		return nil, cmp.Or(err, s.failed)
	}
	t.unvouched = false
	t.start()
	p.untried.Store(max(t.doubt, t.lastTried()+1))
	return p, nil
}

// lockWithin locks mu unless a write holds it for longer than d.
func (s *Store) lockWithin(d time.Duration) bool {
	for end := time.Now().Add(d); !s.mu.TryLock(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// Err is why nothing can be recorded now, nil while the file can be written. It does not wait for a disk that hangs.
func (s *Store) Err() error {
	if !s.lockWithin(time.Second) {
		return fmt.Errorf("%s %w (a slow disk, a frozen file system): nothing is delivered until it goes on", s.path, ErrHangs)
	}
	err, closed := s.failed, s.closed
	s.mu.Unlock()
	switch {
	case err != nil:
		return err
	case closed:
		return ErrClosed
	case s.disk.ReadOnly():
		return fmt.Errorf("%s is on a read-only file system: nothing is delivered until it can be written again", s.path)
	}
	return nil
}
