package offsets

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// reopen ends a life without a clean stop and starts the next, on the same machine or after a power cut.
func reopen(t *testing.T, s *Store, dir string, boot string) *Store {
	t.Helper()
	kill(s)
	o := quiet()
	o.boot = boot
	return mustOpen(t, dir, o)
}

// again is the Start that goes on from what is saved.
func again(t *testing.T, s *Store, k Key) Start {
	t.Helper()
	v, ok := s.Saved(k)
	if !ok {
		t.Fatalf("nothing saved for %v", k)
	}
	return Start{Next: v.Next, Done: v.Done, Attempts: v.Attempts, Ceiling: v.Ceiling, Lineage: v.Lineage, Committed: v.Committed, Had: v.Had}
}

// TestSavedRoundTrip: all that Start says is on disk when Assign returns, whatever the shape.
func TestSavedRoundTrip(t *testing.T) {
	for name, st := range map[string]Start{
		"zero":     {Committed: -1},
		"all":      {Next: 1 << 40, Done: Ranges{{1<<40 + 5, 1<<40 + 7}, {1<<40 + 100, 1<<40 + 1000}}, Lineage: 1 << 63, Committed: 77, Ceiling: 1<<40 + 9, Attempts: []Attempt{{Offset: 1 << 40, Number: 70000, Faults: 66000}, {Offset: 1<<40 + 3, Number: 1, InDoubt: true}}},
		"absorbed": {Next: 5, Done: Ranges{{5, 9}}, Committed: 5},
		"rewound":  {Next: 5, Done: Ranges{{7, 9}}, Committed: 5, Had: Ranges{{0, 20}, {21, 22}, {40, 1 << 41}}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := mustOpen(t, dir, quiet())
			mustAssign(t, s, testKey, st)
			s = reopen(t, s, dir, "boot 0")
			got, _ := s.Saved(testKey)
			if st.Done != nil && st.Next == st.Done[0].From {
				st.Had = st.Had.Add(st.Next, st.Done[0].To)
				st.Next, st.Done = st.Done[0].To, nil
			}
			want := Saved{st.Next, st.Done, st.Had, st.Attempts, st.Ceiling, false, st.Committed, st.Lineage, time.Unix(1_800_000_000, 0)}
			if got.Next != want.Next || got.Done.String() != want.Done.String() || got.Had.String() != want.Had.String() || !slices.Equal(got.Attempts, want.Attempts) ||
				got.Ceiling != want.Ceiling || got.Committed != want.Committed || got.Lineage != want.Lineage || !got.At.Equal(want.At) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

// TestSnapshotKeepsAll: a store turned many times remembers what one that never turned does.
func TestSnapshotKeepsAll(t *testing.T) {
	dir, o := t.TempDir(), quiet()
	s := mustOpen(t, dir, o)
	p := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
	work(t, p, 2000, 500, 1500)
	p.Committed(500)
	if s.journal.header.generation < 20 {
		t.Fatalf("only %d generations: this does not test a turn", s.journal.header.generation)
	}
	s = reopen(t, s, dir, "boot 0")
	if got, want := savedText(t, s, testKey), "500 501-1499,1501-1999 500 [{500 1 0 true} {1500 1 0 true}]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestIdentity: facts of one Key never apply to another; what is alike is told by Foreign.
func TestIdentity(t *testing.T) {
	s := mustOpen(t, t.TempDir(), quiet())
	variants := []Key{testKey, testKey, testKey, testKey}
	variants[1].Cluster, variants[2].Group, variants[3].TopicID = "cluster-2", "other", "another-id"
	for i, k := range variants[:3] {
		p := mustAssign(t, s, k, Start{Next: int64(100 * i), Lineage: 1, Committed: -1})
		p.Release()
	}
	if _, ok := s.Saved(variants[3]); ok {
		t.Error("a topic that was made again inherits the offsets of the old one")
	}
	if got := s.Foreign(variants[3]); !slices.Equal(got, []Key{variants[0], variants[2], variants[1]}) {
		t.Errorf("foreign: %v", got)
	}
	other := testKey
	other.Partition++
	if got := s.Foreign(other); len(got) != 0 {
		t.Errorf("foreign to another partition: %v", got)
	}
	for i, k := range []Key{other, {Cluster: other.Cluster, Group: other.Group, Topic: other.Topic, TopicID: "another-id", Partition: other.Partition},
		{Cluster: "cluster-3", Group: other.Group, Topic: other.Topic, TopicID: "another-id"}, {Cluster: other.Cluster, Group: "third", Topic: other.Topic, TopicID: "another-id"},
		{Cluster: other.Cluster, Group: other.Group, Topic: other.Topic}} {
		if _, _, remade, err := s.Recall(k); remade != (i == 1) || err != nil {
			t.Errorf("%v: made again %t, %v", k, remade, err)
		}
	}
	for i, k := range variants[:3] {
		if v, _ := s.Saved(k); v.Next != int64(100*i) {
			t.Errorf("%v: next %d", k, v.Next)
		}
	}
}

// TestPrune: a topic made again drops the old one from the file at the next turn; without an id nobody knows.
func TestPrune(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, quiet())
	made, noID, second := testKey, testKey, testKey
	made.TopicID, noID.TopicID, second.Partition = "made-again", "", 4
	for _, k := range []Key{testKey, second, noID, made} {
		mustAssign(t, s, k, Start{Lineage: 1, Committed: -1}).Release()
	}
	s = reopen(t, s, dir, "boot 0")
	for k, want := range map[Key]bool{testKey: false, second: false, noID: true, made: true} {
		if _, ok := s.Saved(k); ok != want {
			t.Errorf("%v: remembered %v, want %v", k, ok, want)
		}
	}
}

// TestLineage: the facts of the file go on in the same lineage, and never apply again in another.
func TestLineage(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, quiet())
	p := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
	work(t, p, 30, 7)
	if _, err := s.Assign(testKey, Start{Lineage: 1}); err == nil {
		t.Error("assigned twice at once")
	}
	p.Release()

	p = mustAssign(t, s, testKey, Start{Next: 3, Done: Ranges{{40, 42}}, Lineage: 1, Committed: 5})
	if next, done := p.Progress(); next != 7 || done.String() != "8-29,40-41" {
		t.Errorf("same lineage: next %d done %s", next, done)
	}
	p.Release()

	p = mustAssign(t, s, testKey, Start{Next: 2, Lineage: 2, Committed: -1})
	s = reopen(t, s, dir, "boot 0")
	if got, want := savedText(t, s, testKey), "2  -1 []"; got != want {
		t.Errorf("rewound: got %s, want %s", got, want)
	}
	p = mustAssign(t, s, testKey, Start{Next: 2, Lineage: 2, Committed: -1})
	if !p.Fetched(2) || !p.Fetched(3) {
		t.Error("the operator's rewind is filtered")
	}
}

// TestInDoubt: who is in doubt after which end. Offset 1 hangs, 2 failed definitely, 3 timed out, 4 was only fetched.
func TestInDoubt(t *testing.T) {
	for _, row := range []struct {
		name, boot string
		end        func(*testing.T, *Store, *Partition)
		ceiling    int64
		doubt      string
	}{
		{"kill -9", "boot 0", func(*testing.T, *Store, *Partition) {}, 0, "1,3"},
		{"power cut", "boot 1", func(*testing.T, *Store, *Partition) {}, 16, "1,2,3,4"},
		{"clean stop", "boot 1", func(t *testing.T, s *Store, _ *Partition) { must(t, s.Close()) }, 0, "1,3"},
		{"handover, then a power cut", "boot 1", func(_ *testing.T, s *Store, p *Partition) {
			p.Release()
			s.tick()
		}, 0, "1,3"},
		{"kill -9 after a sync that failed and took a page from memory", "boot 0", func(t *testing.T, s *Store, _ *Partition) {
			_, err := s.journal.disk.WriteAt(make([]byte, frameSize), s.journal.header.byteOf(s.journal.half, int(s.journal.pos)-2))
			must(t, err)
		}, 16, "1,2,3,4"},
		{"handover, power cut before the sync", "boot 1", func(_ *testing.T, s *Store, p *Partition) { p.Release() }, 16, "1,2,3,4"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir, o := t.TempDir(), quiet()
			o.Sync = DefaultSync
			s := mustOpen(t, dir, o)
			p := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
			for n := range int64(5) {
				p.Fetched(n)
			}
			for n := range int64(4) {
				must(t, p.Intent(Attempt{Offset: n, Number: 1}))
			}
			must(t, p.Done(0), p.Settled(Attempt{Offset: 2, Number: 1, Faults: 1}), p.Settled(Attempt{Offset: 3, Number: 1, Faults: 1, InDoubt: true}))
			row.end(t, s, p)
			s = reopen(t, s, dir, row.boot)
			for life := range 2 { // the next life ends by kill -9, and does not forget
				v, _ := s.Saved(testKey)
				if v.Ceiling != row.ceiling {
					t.Errorf("life %d: ceiling %d, want %d", life, v.Ceiling, row.ceiling)
				}
				p = mustAssign(t, s, testKey, again(t, s, testKey))
				var doubt Ranges
				for n := int64(1); n < 5; n++ {
					p.Fetched(n)
					a := p.Earlier(n)
					if a.InDoubt {
						doubt = doubt.Add(n, n+1)
					}
					if want := min(1, int(4-n)); a.Number != want || a.Offset != n {
						t.Errorf("life %d: offset %d: %+v, want %d attempts", life, n, a, want)
					}
				}
				if got := expand(doubt); got != row.doubt {
					t.Errorf("life %d: in doubt %s, want %s", life, got, row.doubt)
				}
				s = reopen(t, s, dir, row.boot)
			}
		})
	}
}

func expand(r Ranges) string {
	var out []string
	for _, x := range r {
		for n := x.From; n < x.To; n++ {
			out = append(out, string(rune('0'+n)))
		}
	}
	return strings.Join(out, ",")
}

// TestLowerWaits: a ceiling falls only after a sync that began when all the attempts under it were written.
func TestLowerWaits(t *testing.T) {
	o, d := quiet(), &counting{}
	o.Sync = DefaultSync
	o.wrap = func(inner disk) disk { d.disk = inner; return d }
	s := mustOpen(t, t.TempDir(), o)
	p := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
	work(t, p, 3)
	p.Fetched(3)
	d.during = func() {
		d.during = nil
		must(t, p.Intent(Attempt{Offset: 3, Number: 1})) // not part of the sync under way
		p.Release()
	}
	s.tick()
	if p.slot.ceiling == 0 {
		t.Error("the ceiling fell while an intent under it was not on disk")
	}
	s.tick()
	if p.slot.ceiling != 0 {
		t.Errorf("the ceiling of a released partition is still %d", p.slot.ceiling)
	}
}

// TestReleased: after Release nothing is recorded and every call says so.
func TestReleased(t *testing.T) {
	s := mustOpen(t, t.TempDir(), quiet())
	p := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
	work(t, p, 3, 1)
	p.Fetched(3)
	p.Release()
	p.Release()
	pos := s.journal.pos
	for i, err := range []error{p.Done(1), p.Intent(Attempt{Offset: 3, Number: 1}), p.Settled(Attempt{Offset: 1, Number: 1})} {
		if !errors.Is(err, ErrReleased) {
			t.Errorf("call %d: got %v", i, err)
		}
	}
	p.Advance(10)
	p.Committed(10)
	if p.Fetched(4) {
		t.Error("an offset of a released partition is to be delivered")
	}
	if s.journal.pos != pos {
		t.Errorf("%d frames were written after Release", s.journal.pos-pos)
	}
	if got, want := savedText(t, s, testKey), "1 2-2 -1 [{1 1 0 true}]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestRefused: calls that break the order are answered, not recorded.
func TestRefused(t *testing.T) {
	s := mustOpen(t, t.TempDir(), quiet())
	p := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
	work(t, p, 3, 1)
	for name, err := range map[string]error{
		"done, never fetched":     p.Done(9),
		"intent, never fetched":   p.Intent(Attempt{Offset: 9, Number: 1}),
		"intent, finished":        p.Intent(Attempt{Offset: 2, Number: 2}),
		"settled, never fetched":  p.Settled(Attempt{Offset: 9, Number: 1}),
		"settled, finished below": p.Settled(Attempt{Offset: 0, Number: 1}),
	} {
		if err == nil || !strings.Contains(err.Error(), "orders partition 3: it was not handed over, or is finished already") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	must(t, p.Done(0), p.Done(2), s.Close())
	if err := p.Done(1); !errors.Is(err, ErrReleased) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := s.Assign(testKey, Start{}); !errors.Is(err, ErrClosed) {
		t.Errorf("Assign after Close: %v", err)
	}
	if err := s.Close(); err != ErrClosed {
		t.Errorf("Close after Close: %v", err)
	}
}

// TestNoRoom: a partition too many is refused by itself; the others go on.
func TestNoRoom(t *testing.T) {
	s := mustOpen(t, t.TempDir(), quiet())
	first := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
	var err error
	k := testKey
	for k.Partition = 4; err == nil && k.Partition < 40; k.Partition++ {
		_, err = s.Assign(k, Start{Lineage: 1, Committed: -1})
	}
	if err == nil {
		t.Fatal("40 partitions fit into 112 frames")
	}
	wantText(t, err.Error(), "frames have to be remembered", "begins with 56 at most", "use more volumes")
	work(t, first, 300)
	must(t, s.Err())
	long := testKey
	long.Group = strings.Repeat("g", 70000)
	if _, err := s.Assign(long, Start{}); err == nil {
		t.Error("a name of 70,000 bytes was taken")
	}
}

// TestWindow: a record is on disk one window after it was written, and a write waits when too much is not.
func TestWindow(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o := quiet()
		o.idle, o.Sync = false, Sync{Window: 5 * time.Millisecond, Unsynced: 10}
		s, err := Open(dir, o)
		must(t, err)
		p := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
		time.Sleep(time.Second)
		synctest.Wait()
		behind := func() uint64 {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.backlog.seq - s.backlog.synced
		}
		ahead := 0
		for n := range int64(35) {
			p.Fetched(n)
			must(t, p.Done(n))
			got := behind()
			if got > 10 {
				t.Fatalf("after %d: %d unsynced, 10 are allowed", n, got)
			}
			if got > 0 {
				ahead++
			}
		}
		if ahead == 0 {
			t.Fatal("every write waited for the disk: there is no window")
		}
		time.Sleep(5*time.Millisecond + 1)
		synctest.Wait()
		if got := behind(); got != 0 {
			t.Errorf("%d unsynced a window later", got)
		}
		p.Committed(35)
		time.Sleep(5*time.Millisecond + 1)
		synctest.Wait()
		if got := behind(); got != 0 {
			t.Errorf("%d unsynced a window after a commit", got)
		}
		must(t, s.Close())
	})
}

// TestCeiling: no intent goes at or above a ceiling that is not on disk, and a ceiling costs a sync every few hundred offsets.
func TestCeiling(t *testing.T) {
	o, d := quiet(), &counting{}
	o.half, o.Sync = 1<<20, Sync{Window: time.Hour, Unsynced: 1 << 30}
	o.wrap = func(inner disk) disk { d.disk = inner; return d }
	s := mustOpen(t, t.TempDir(), o)
	p := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
	before := d.syncs.Load()
	for n := range int64(10_000) {
		p.Fetched(n)
		must(t, p.Intent(Attempt{Offset: n, Number: 1}))
		if on := p.slot.ceilingOn; on <= n {
			t.Fatalf("offset %d may be sent under a ceiling of %d", n, on)
		}
		must(t, p.Done(n))
	}
	if n := d.syncs.Load() - before; n > 10_000/200 {
		t.Errorf("%d syncs for 10,000 intents", n)
	}
}

// counting is a disk that counts its syncs and writes, and can do something during a sync.
type counting struct {
	disk
	syncs, writes atomic.Int64
	during        func()
}

func (d *counting) WriteAt(b []byte, at int64) (int, error) {
	d.writes.Add(1)
	return d.disk.WriteAt(b, at)
}

func (d *counting) Sync() error {
	d.syncs.Add(1)
	if d.during != nil {
		d.during()
	}
	return d.disk.Sync()
}

// TestGroupCommit: with Window 0 every record is on disk when Done returns, and many share a sync. Releases, turns and Progress
// come in between.
func TestGroupCommit(t *testing.T) {
	const workers, each = 32, 150
	dir, o, d := t.TempDir(), quiet(), &counting{}
	o.idle, o.half = false, 64<<10
	o.random = nil
	o.wrap = func(inner disk) disk { d.disk = inner; return d }
	s := mustOpen(t, dir, o)
	var parts []*Partition
	for i := range 4 {
		k := testKey
		k.Partition = int32(i)
		parts = append(parts, mustAssign(t, s, k, Start{Lineage: 1, Committed: -1}))
		for n := range int64(workers * each / 4) {
			parts[i].Fetched(n)
		}
	}
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			p := parts[w%4]
			for i := range int64(each) {
				o := int64(w/4) + i*workers/4
				if err := errors.Join(p.Intent(Attempt{Offset: o, Number: 1}), p.Done(o)); err != nil {
					t.Error(err)
					return
				}
				if next, done := p.Progress(); o >= next && !done.Contains(o) {
					t.Errorf("F1: %d is done and not recorded", o)
				}
			}
		})
	}
	all.Wait()
	if n := d.syncs.Load(); n > workers*each {
		t.Errorf("%d syncs for %d writes: nobody shares", n, 2*workers*each)
	}
	kill(s)
	next := mustOpen(t, dir, quiet64())
	for i := range parts {
		k := testKey
		k.Partition = int32(i)
		if got, want := savedText(t, next, k), "1200  -1 []"; got != want {
			t.Errorf("partition %d: got %s, want %s", i, got, want)
		}
	}
}

func quiet64() Options {
	o := quiet()
	o.half = 64 << 10
	return o
}

// TestStress: everything at once, with a disk that fails now and then; run with -race. What Done vouched for is there after it.
func TestStress(t *testing.T) {
	dir, o, d := t.TempDir(), quiet64(), &sick{err: errors.New("now and then")}
	o.idle, o.random, o.Sync = false, nil, Sync{Window: time.Millisecond, Unsynced: 16}
	tick := atomic.Int64{}
	o.Now = func() time.Time { return time.Unix(1_800_000_000+tick.Add(1), 0) } // every look is a second later
	o.wrap = func(inner disk) disk { d.disk = inner; return d }
	s := mustOpen(t, dir, o)
	acked := make([]int64, 4)
	var failures atomic.Int64
	var workers, all sync.WaitGroup
	for i := range acked {
		workers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 5))
			k := testKey
			k.Partition = int32(i)
			for round := 0; round < 60 || failures.Load() < 3 && round < 1_000_000; { // a disk in memory is quick
				v, _ := s.Saved(k)
				p, err := s.Assign(k, Start{Next: v.Next, Done: v.Done, Attempts: v.Attempts, Lineage: 1, Committed: -1})
				if err != nil {
					runtime.Gosched()
					continue
				}
				round++
				from, _ := p.Progress()
				if from != acked[i] && from != acked[i]+1 { // a Done that failed may have been recorded all the same
					t.Errorf("partition %d: begins at %d, recorded to %d", i, from, acked[i])
				}
				acked[i] = from
				for n := from; n < from+int64(rng.IntN(200)); n++ {
					p.Fetched(n)
					if p.Intent(Attempt{Offset: n, Number: 1}) != nil || p.Done(n) != nil {
						break
					}
					acked[i] = n + 1
				}
				p.Release()
			}
		})
	}
	var over atomic.Bool
	all.Go(func() {
		for i := 0; !over.Load(); i++ {
			d.syncs.Store(i%20 == 7)
			d.writes.Store(i%20 == 13)
			if s.Err() != nil {
				failures.Add(1)
			}
			s.tick()
			_ = Dump(io.Discard, dir)
		}
		d.syncs.Store(false)
		d.writes.Store(false)
	})
	workers.Wait()
	over.Store(true)
	all.Wait()
	s.mu.Lock()
	for s.backlog.busy { // a failure may be under way
		s.wake.Wait()
	}
	s.mu.Unlock()
	if failures.Load() == 0 {
		t.Error("the disk never failed: this tests less than it says")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir, quiet64())
	for i, want := range acked {
		k := testKey
		k.Partition = int32(i)
		v, ok := s.Saved(k)
		if want == 0 || !ok || v.Next != want && v.Next != want+1 {
			t.Errorf("partition %d: next %d, recorded %d", i, v.Next, want)
		}
	}
}

// A topic's id is shown as Kafka's tools write it, and kept as Kafka has it.
func TestDumpShowsTopicIDsAsKafka(t *testing.T) {
	var out bytes.Buffer
	dir, key := t.TempDir(), testKey
	key.TopicID = "+A/uGuid4SO6eyhBBMXZ4g=="
	s, err := Open(dir, Options{})
	must(t, err)
	_, err = s.Assign(key, Start{Lineage: 1, Committed: -1})
	must(t, err, s.Close(), Dump(&out, dir))
	if !strings.Contains(out.String(), " topic-id=-A_uGuid4SO6eyhBBMXZ4g ") {
		t.Errorf("got\n%s", &out)
	}
	s, err = Open(dir, Options{})
	must(t, err)
	if _, known := s.Saved(key); !known {
		t.Error("the file does not know the id that it was given")
	}
	must(t, s.Close())
}

// TestDump: a person can read what the file says.
func TestDump(t *testing.T) {
	var out bytes.Buffer
	dir := dirWith(t, lived(t))
	must(t, Dump(&out, dir))
	want := filePath(dir) + `: format 1, volume 3c6ef372fe94f82a, created 2027-01-15T08:00:00Z, half B, generation 4, 103 frames of 112, 0 torn, stopped cleanly
orders/3 cluster=cluster-1 topic-id=tAuGuid4SO6eyhBBMXZ4fQ group=group next=11 done=12-34,36-59 replay=70-79,200-299 committed=11 ceiling=0 in-doubt-below=0 lineage=7 at=2027-01-15T08:00:00Z
  offset 11: attempts 1, message faults 0 in doubt
  offset 35: attempts 1, message faults 0 in doubt
`
	if out.String() != want+legend {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
	for line := range strings.Lines(legend) { // a reader by line passes over it
		if !strings.HasPrefix(line, "# ") {
			t.Errorf("%q", line)
		}
	}
	for _, word := range regexp.MustCompile(`[a-z-]+=|, [a-z]+ |attempts|faults|in doubt|torn|stopped cleanly`).FindAllString(want, -1) {
		if word = strings.Trim(word, "=, "); word != "created" && !strings.Contains(legend, word) {
			t.Errorf("%s is not explained", word)
		}
	}
	empty := t.TempDir()
	if err := Dump(&out, empty); err == nil || err.Error() != empty+" holds no offsets file: no kpush has run there yet, or only with guarantee 1, which keeps none" {
		t.Errorf("an empty volume: %v", err)
	}
	if err := Dump(&out, filepath.Join(empty, "missing")); !errors.Is(err, ErrVolume) || !strings.Contains(err.Error(), "create it, or mount") {
		t.Errorf("a missing volume: %v", err)
	}
	if err := Dump(&out, t.TempDir()); !errors.Is(err, ErrVolume) {
		t.Errorf("no file: %v", err)
	}
}

// TestNoAllocations: recording allocates nothing.
func TestNoAllocations(t *testing.T) {
	o := quiet()
	o.half, o.Sync = 4<<20, Sync{Window: time.Hour, Unsynced: 1 << 30}
	s := mustOpen(t, t.TempDir(), o)
	p, n := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1}), int64(0)
	if got := testing.AllocsPerRun(5000, func() {
		p.Fetched(n)
		if p.Intent(Attempt{Offset: n, Number: 1}) != nil || p.Settled(Attempt{Offset: n, Number: 1}) != nil || p.Done(n) != nil {
			t.Fatal("not recorded")
		}
		n++
	}); got > 0 {
		t.Errorf("%v allocations a message", got)
	}
	p.Fetched(n)
	must(t, p.Intent(Attempt{Offset: n, Number: 1}))
	if got := testing.AllocsPerRun(5000, func() {
		p.Fetched(n + 1)
		recorded, announced := p.Write([]int64{n}, p, []Attempt{{Offset: n + 1, Number: 1}})
		if recorded != nil || announced != nil {
			t.Fatal("not recorded")
		}
		n++
	}); got > 0 {
		t.Errorf("%v allocations for an outcome and an intent", got)
	}
}

// Health and the status page ask at any time, also while the process ends: the file's number is not the store's any more then.
func TestErrWhileItCloses(t *testing.T) {
	for range 50 {
		s := mustOpen(t, t.TempDir(), quiet())
		var asking sync.WaitGroup
		for range 2 {
			asking.Go(func() {
				for s.Err() == nil {
				}
			})
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		asking.Wait()
	}
}
