package offsets

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"time"
)

// Key names whose offsets these are. Facts of one Key never apply to another.
type Key struct {
	Cluster, Group, Topic string
	TopicID               string // "" where the cluster has none
	Partition             int32
}

// Sync says when a record reaches the disk. The zero value is always: a write returns only when it is on disk, many writers
// share a sync.
type Sync struct {
	Window   time.Duration // sync this long after the first write; negative: leave it to the operating system
	Unsynced int           // with a window: so many finished offsets may be off disk before a write waits; 0 means 128
}

// DefaultSync survives kill -9 with every record, a power cut with all but the newest few milliseconds.
var DefaultSync = Sync{Window: 5 * time.Millisecond, Unsynced: 128}

// Options of Open. The zero value is good.
type Options struct {
	Sync Sync
	Now  func() time.Time // nil: time.Now
	Log  *slog.Logger     // nil: slog.Default

	half   int64           // size of a half when the file is created; 0: 4 MiB
	boot   string          // "": the running system's boot id
	random func() uint64   // nil: crypto/rand
	wrap   func(disk) disk // nil: the file itself
	idle   bool            // no goroutine: whoever tests calls tick
}

// Saved is what the file knows of a Key.
type Saved struct {
	Next      int64     // every offset below has its final outcome, or is not this group's business
	Done      Ranges    // finished at or above Next
	Attempts  []Attempt // unfinished messages that were tried, or may have been, by offset
	Ceiling   int64     // >0 only if intents may have been lost: any unfinished offset below may have been sent
	Committed int64     // the newest offset whose commit Kafka acknowledged, -1 = none
	Lineage   uint64    // see Start
	At        time.Time // of the newest fact
}

// Attempt is what is known of the attempts at one offset.
type Attempt struct {
	Offset  int64
	Number  int  // attempts started
	Faults  int  // message faults so far
	InDoubt bool // one of them may have reached the service
}

// Start is what a new assignment begins with.
type Start struct {
	Next      int64
	Done      Ranges
	Attempts  []Attempt
	Ceiling   int64  // unfinished offsets below it are in doubt
	Lineage   uint64 // the same as Saved.Lineage: the facts of the file go on. Another: they never apply again
	Committed int64
}

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
	wake    sync.Cond  // busy, turning, synced, failed or closed changed
	current map[Key]*slot
	slots   uint32 // the highest slot number ever given

	disk     disk
	header   header // of the newest half; generation counts failed writings, too
	half     int    // that is written now
	place    place
	pos      uint32 // number of the next frame
	onDisk   uint32 // frames of this half known to be on disk
	marked   uint32 // onDisk of the newest synced frame
	seq      uint64 // writes since Open
	synced   uint64 // writes known to be on disk
	unsynced int    // finished offsets among those in between
	busy     bool   // somebody is at disk.Sync
	turning  bool   // the other half is being written; nobody else writes
	failed   error
	retryAt  time.Time
	closed   bool
	buf      [4 * frameSize]byte

	kick       chan struct{}
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
		current: make(map[Key]*slot), kick: make(chan struct{}, 1), quit: make(chan struct{}), gone: make(chan struct{}),
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
	lost := !m.clean && m.header.boot != s.boot
	for _, t := range m.current {
		if lost {
			t.doubt = max(t.doubt, t.ceiling)
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
		if err := s.open(t, fresh); err != nil {
			s.current[k] = old
			if old == nil {
				delete(s.current, k)
			}
			return nil, err
		}
	}
	t.owner = p
	if err := s.flush(s.seq); err != nil || s.failed != nil {
		t.owner = nil
		return nil, cmp.Or(err, s.failed)
	}
	t.start()
	return p, nil
}

// open writes all there is to say about a slot. Its error says that there is no room, ever; a failed write is left to flush.
func (s *Store) open(t *slot, identity bool) error {
	frames := t.frames(nil, identity)
	if int(s.pos)+len(frames)+spare <= s.capacity() {
		_ = s.putAll(frames) // it shows in s.failed
		return nil
	}
	if n := len(s.all()); !s.fits(n) {
		return fmt.Errorf("what has to be remembered takes %d frames of the %d that %s has", n, s.capacity(), s.path)
	}
	s.turn()
	return nil
}

// Err is why nothing can be recorded now, nil while the file can be written.
func (s *Store) Err() error {
	s.mu.Lock()
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

// snapshot is all of memory as the beginning of a half: header, frames, seal.
func (s *Store) snapshot(h header) (b []byte, frames int) {
	s.prune()
	for _, t := range s.current {
		if t.owner == nil {
			t.ceiling, t.ceilingOn = 0, 0 // its attempts are exact, in the same snapshot
		}
	}
	all := s.all()
	b = make([]byte, headerSize+(len(all)+1)*frameSize)
	h.encode(b)
	p := h.place()
	for i, f := range all {
		p.encode(b[headerSize+i*frameSize:], uint32(i), f)
	}
	end := headerSize + len(all)*frameSize
	p.encode(b[end:], uint32(len(all)), frame{kind: sealKind, offset: int64(len(all)), value: uint64(crc32.Checksum(b[:end], castagnoli))})
	return b, len(all) + 1
}

// all is everything there is to say.
func (s *Store) all() []frame {
	var all []frame
	for _, t := range s.sorted() {
		all = t.frames(all, true)
	}
	return all
}

// sorted is every slot that counts, oldest first.
func (s *Store) sorted() []*slot {
	return slices.SortedFunc(maps.Values(s.current), func(a, b *slot) int { return cmp.Compare(a.number, b.number) })
}

// prune forgets topics that were deleted and made again: same names, another topic id, an older slot.
func (s *Store) prune() {
	newest := make(map[Key]*slot)
	general := func(k Key) Key { k.TopicID, k.Partition = "", 0; return k }
	for k, t := range s.current {
		if n := newest[general(k)]; k.TopicID != "" && (n == nil || n.number < t.number) {
			newest[general(k)] = t
		}
	}
	for k, t := range s.current {
		if n := newest[general(k)]; k.TopicID != "" && n.key.TopicID != k.TopicID && t.owner == nil {
			delete(s.current, k)
		}
	}
}
