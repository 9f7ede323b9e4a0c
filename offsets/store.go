package offsets

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Store remembers outcomes: in the file of a volume, or with InMemory nowhere else. It is safe for concurrent use.
type Store struct {
	opt  Options  // with nothing left out
	path string   // of the file
	lock *os.File // open: no other process has the volume; nil without one
	past history  // as Open found it, and this Store

	said  atomic.Pointer[string] // the newest Edition
	noted atomic.Bool            // the next tick has something to write that was noted
	stuck atomic.Bool            // who last waited for the lock for writeTime has not got it

	mu      sync.Mutex // guards all below but keeper; held for a write, never for a sync or a snapshot's way to the disk
	wake    sync.Cond  // backlog.busy or turning changed
	table   table
	journal journal
	backlog backlog

	lowering bool // a released partition may have a ceiling to take back
	turning  bool // the other half is being written; nobody else writes
	failed   error
	retryAt  time.Time
	closed   bool

	keeper keeper
	told   func(sync time.Duration, failed error) // see Observe
}

// Observe has told called with what each sync took, and with each failure of a write or sync. It must not call back, and must not
// wait. To be called before the Store is used.
func (s *Store) Observe(told func(sync time.Duration, failed error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = told
}

func (s *Store) tell(sync time.Duration, failed error) {
	if s.told != nil {
		s.told(sync, failed)
	}
}

func newStore(o Options, path string) *Store {
	s := &Store{opt: o.complete(), path: path, table: table{current: make(map[Key]*slot)}}
	s.keeper = keeper{make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}), make(chan struct{})}
	s.wake.L = &s.mu
	s.backlog.alarm = time.AfterFunc(hangTime, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.rouse()
	})
	s.backlog.alarm.Stop()
	s.backlog.burst = s.opt.Sync.Unsynced / 3
	return s
}

// InMemory is a Store without a file, for guarantee 1: nothing outlives the process but what was committed to Kafka. Progress
// passes over what was sent, so a crash loses what is in flight; see HandOver. Nothing of it fails or waits.
func InMemory(o Options) *Store {
	o.Sync, o.boot = Sync{}, "none" // nothing is ever off disk
	s := newStore(o, "")
	close(s.keeper.gone)
	return s
}

// Lock makes the volume this process's until Close, for one who keeps other things on it than offsets.
func (s *Store) Lock(dir string) (err error) {
	if !s.Locked() {
		s.lock, err = lockProbe(dir)
	}
	return err
}

// Locked says whether a volume is this process's.
func (s *Store) Locked() bool { return s.lock != nil }

// Keeps says whether anything is remembered beside Kafka's commit.
func (s *Store) Keeps() bool { return s.journal.disk != nil }

func random() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails: it ends the process instead
	return binary.LittleEndian.Uint64(b[:])
}

// VolumeID is 16 hex digits, drawn when the file was created; "" without a file.
func (s *Store) VolumeID() string {
	if !s.Keeps() {
		return ""
	}
	return fmt.Sprintf("%016x", s.journal.header.volume)
}

// Recall is what the file knows of exactly this Key, in its newest lineage, nil where that is nothing; the entries for the same topic and
// partition that do not apply to it: another cluster, group or topic id; and whether the topic was made again since it was consumed: any of its
// partitions, in this cluster and group. It does not wait for a disk that hangs: that is an error.
func (s *Store) Recall(k Key) (saved *Saved, foreign []Key, remade bool, err error) {
	if !s.lockSoon() {
		return nil, nil, false, s.hanging()
	}
	defer s.mu.Unlock()
	if t, ok := s.table.current[k]; ok {
		t.mu.Lock()
		v := t.saved()
		t.mu.Unlock()
		saved = &v
	}
	for o := range s.table.current {
		if o.Topic == k.Topic && o.Partition == k.Partition && o != k {
			foreign = append(foreign, o)
		}
		remade = remade || o.Topic == k.Topic && o.Cluster == k.Cluster && o.Group == k.Group && Remade(o.TopicID, k.TopicID)
	}
	slices.SortFunc(foreign, compareKeys)
	return saved, foreign, remade, nil
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
	t := s.table.current[k]
	if t != nil && t.owner != nil {
		return nil, errors.New("it is assigned already: release it first")
	}
	fresh := t == nil || t.lineage != st.Lineage
	if fresh {
		s.table.slots++
		t = newSlot(s.table.slots)
		t.key, t.lineage, t.first, t.at = k, st.Lineage, st.Next, s.opt.Now().Unix()
	}
	p := &Partition{store: s, slot: t}
	t.mu.Lock()
	changed, unvouched := t.join(st), t.unvouched
	t.mu.Unlock()
	t.unvouched = false
	if t.unwritten = s.Keeps() && (changed || fresh || unvouched || t.unwritten); t.unwritten {
		if err := s.enter(t, fresh); err != nil {
			t.unvouched = unvouched
			return nil, err
		}
		t.unwritten = false
	}
	t.owner = p
	if err := s.flush(s.backlog.seq); err != nil || s.failed != nil {
		t.owner, t.unvouched = nil, unvouched
		return nil, cmp.Or(err, s.failed)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.handedOver, t.sentCounts, t.markers = false, !s.Keeps(), 0
	t.start()
	untried := t.doubt
	for o := range t.attempts {
		untried = max(untried, o+1)
	}
	p.untried.Store(untried)
	return p, nil
}

// enter writes what a slot begins with; a fresh one takes the place of the one before it, if there is room.
func (s *Store) enter(t *slot, fresh bool) error {
	old := s.table.current[t.key]
	back := func() {
		if s.table.remove(t.key); old != nil {
			s.table.take(old)
		}
	}
	s.table.take(t)
	before := len(s.table.current)
	if most := s.journal.header.capacity() / 2; fresh && !s.fits(most) {
		n := s.table.size
		back()
		return fmt.Errorf("with it, %d frames have to be remembered, and %s begins with %d at most, to leave room for "+
			"what happens: use more volumes with fewer partitions each", n, s.path, most)
	}
	frames, forgotten := t.frames(nil, fresh), len(s.table.current) < before
	if len(frames) > s.journal.room() || forgotten { // the file has to forget it, too
		err := s.turn()
		if err != nil {
			back()
		}
		return err
	}
	for _, f := range frames {
		s.journal.add(f)
	}
	_ = s.write() // it shows in s.failed
	return nil
}

// Err is why nothing can be recorded now, nil while the file can be written. It does not wait for a disk that hangs.
func (s *Store) Err() error {
	if !s.lockSoon() {
		return s.hanging()
	}
	err, closed, hangs := s.failed, s.closed, s.hangs()
	s.mu.Unlock()
	switch {
	case hangs:
		return s.hanging()
	case err != nil:
		return err
	case closed:
		return ErrClosed
	case s.Keeps():
		if why := s.journal.disk.Unfit(); why != "" {
			return fmt.Errorf("%s %s", s.path, why)
		}
	}
	return nil
}
