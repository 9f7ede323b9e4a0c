package offsets

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kpush/kpush/volume/sim"
)

// TestWrite: either half holds without the other, and each error is its own call's. Partition 3 has 0 under way and 1 waiting,
// partition 4 has 0 waiting.
func TestWrite(t *testing.T) {
	for _, row := range []struct {
		name         string
		before       func(s *Store, d *sick, p, q *Partition)
		same         bool // the intent is at 1 of partition 3, not at 0 of 4
		done, intent string
		saved3       string // "": a torn write keeps either
		saved4       string
	}{
		{"both", nil, false, "", "", "1  -1 []", "0  -1 [{0 1 0 true}]"},
		{"of the same partition", nil, true, "", "", "1  -1 [{1 1 0 true}]", "0  -1 []"},
		{"done already", func(_ *Store, _ *sick, p, _ *Partition) { must(t, p.Done(0)) }, false, "", "", "1  -1 []", "0  -1 [{0 1 0 true}]"},
		{"the next is finished", func(_ *Store, _ *sick, _, q *Partition) { must(t, q.Done(0)) }, false,
			"", "announcing an attempt at offset 0 of orders partition 4: it was not handed over", "1  -1 []", "1  -1 []"},
		{"released", func(_ *Store, _ *sick, p, _ *Partition) { p.Release() }, false, ErrReleased.Error(), "", "0  -1 [{0 1 0 true}]", "0  -1 [{0 1 0 true}]"},
		{"the next is released", func(_ *Store, _ *sick, _, q *Partition) { q.Release() }, false, "", ErrReleased.Error(), "1  -1 []", "0  -1 []"},
		{"both are released", func(_ *Store, _ *sick, p, q *Partition) { p.Release(); q.Release() }, false,
			ErrReleased.Error(), ErrReleased.Error(), "0  -1 [{0 1 0 true}]", "0  -1 []"},
		{"the write fails", func(_ *Store, d *sick, _, _ *Partition) { d.writes.Store(true) }, false,
			"recording offset 0 of orders partition 3", "announcing an attempt at offset 0 of orders partition 4", "", "0  -1 []"},
		{"the file failed before", func(_ *Store, d *sick, p, _ *Partition) {
			d.writes.Store(true)
			_ = p.Settled(Attempt{Offset: 0, Number: 1, InDoubt: true})
		}, true, "recording offset 0", "announcing an attempt at offset 1 of orders partition 3", "0  -1 [{0 1 0 true}]", "0  -1 []"},
	} {
		for _, sy := range []Sync{{}, {Window: 1}} {
			t.Run(fmt.Sprint(row.name, sy.Window), func(t *testing.T) {
				dir, o, d := t.TempDir(), quiet(), &sick{err: syscall.EIO}
				o.Sync = sy
				o.wrap = func(inner disk) disk { d.disk = inner; return d }
				s := mustOpen(t, dir, o)
				p, q := twoPartitions(t, s)
				if row.before != nil {
					row.before(s, d, p, q)
				}
				next, a := q, Attempt{Offset: 0, Number: 1}
				if row.same {
					next, a.Offset = p, 1
				}
				done, intent := p.Write([]int64{0}, next, []Attempt{a})
				wantError(t, "done", done, row.done)
				wantError(t, "intent", intent, row.intent)
				if failed := row.intent != ""; failed != (next.Earlier(a.Offset).Number == 0) {
					t.Errorf("attempts after the call: %+v", next.Earlier(a.Offset))
				}
				kill(s)
				s = mustOpen(t, dir, quiet())
				for i, want := range []string{row.saved3, row.saved4} {
					k := testKey
					k.Partition += int32(i)
					if got := savedText(t, s, k); want != "" && got != want {
						t.Errorf("partition %d: got %s, want %s", k.Partition, got, want)
					}
				}
			})
		}
	}
}

// twoPartitions: partition 3 with 0 under way and 1 waiting, partition 4 with 0 waiting.
func twoPartitions(t *testing.T, s *Store) (p, q *Partition) {
	k := testKey
	p = mustAssign(t, s, k, Start{Lineage: 1, Committed: -1})
	k.Partition++
	q = mustAssign(t, s, k, Start{Lineage: 1, Committed: -1})
	p.Fetched(0)
	p.Fetched(1)
	q.Fetched(0)
	must(t, p.Intent(Attempt{Offset: 0, Number: 1}))
	return p, q
}

func wantError(t *testing.T, what string, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("%s: got %v, want %q", what, err, want)
	}
}

// TestWriteOnce: one write, and with Window 0 one sync; a disk that is well again takes both.
func TestWriteOnce(t *testing.T) {
	dir, o := t.TempDir(), quiet()
	d := &counting{}
	o.wrap = func(inner disk) disk { d.disk = inner; return d }
	s := mustOpen(t, dir, o)
	p, q := twoPartitions(t, s)
	seq, syncs, writes := s.backlog.seq, d.syncs.Load(), d.writes.Load()
	done, intent := p.Write([]int64{0}, q, []Attempt{{Offset: 0, Number: 1}})
	must(t, done, intent)
	if s.backlog.seq-seq != 1 || d.writes.Load()-writes != 1 || d.syncs.Load()-syncs != 1 || s.backlog.synced != s.backlog.seq {
		t.Errorf("%d writes and %d syncs", s.backlog.seq-seq, d.syncs.Load()-syncs)
	}
	if next, _ := p.Progress(); next != 1 || p.Outstanding() != 1 {
		t.Errorf("next %d, outstanding %d", next, p.Outstanding())
	}
	s.mu.Lock()
	s.fail(errors.New("once"))
	s.mu.Unlock()
	if done, intent = q.Write([]int64{0}, p, []Attempt{{Offset: 1, Number: 1}}); done == nil || intent == nil {
		t.Errorf("while nothing can be written: %v, %v", done, intent)
	}
	s.mu.Lock()
	s.heal()
	s.mu.Unlock()
	done, intent = q.Write([]int64{0}, p, []Attempt{{Offset: 1, Number: 1}})
	must(t, done, intent)
}

// TestWriteMany: hundreds of outcomes and intents, of two partitions, go into the file in one write and one sync; where a half
// ends in the middle of them, in as many writes as it takes, and nothing is lost.
func TestWriteMany(t *testing.T) {
	const n = 300
	for _, row := range []struct {
		half   int64
		writes int64
	}{{1 << 20, 1}, {1 << 14, 0}} {
		for _, sy := range []Sync{{}, {Window: time.Hour, Unsynced: 1 << 20}} {
			t.Run(fmt.Sprint(row.half, sy.Window), func(t *testing.T) {
				dir, o, d := t.TempDir(), quiet(), &counting{}
				o.Sync, o.half = sy, row.half
				o.wrap = func(inner disk) disk { d.disk = inner; return d }
				s := mustOpen(t, dir, o)
				p, all, first := many(t, s, n)
				k := testKey
				k.Partition++
				q := mustAssign(t, s, k, Start{Lineage: 1, Committed: -1})
				for o := range int64(n) {
					q.Fetched(o)
				}
				must(t, announce(p, first))
				writes, syncs, generation := d.writes.Load(), d.syncs.Load(), s.journal.header.generation
				recorded, announced := p.Write(all, q, first)
				must(t, recorded, announced)
				writes, syncs = d.writes.Load()-writes, d.syncs.Load()-syncs
				if turned := s.journal.header.generation > generation; turned != (row.writes == 0) ||
					!turned && (writes != row.writes || syncs != 1) {
					t.Errorf("%d writes, %d syncs, turned %t", writes, syncs, turned)
				}
				if p.Next() != n || p.Outstanding() != 0 || q.Outstanding() != n || q.slot.ceilingOn < n && sy.Window > 0 {
					t.Errorf("next %d, %d and %d outstanding, ceiling %d", p.Next(), p.Outstanding(), q.Outstanding(), q.slot.ceilingOn)
				}
				kill(s)
				s = mustOpen(t, dir, quiet())
				if got := savedText(t, s, testKey); got != "300  -1 []" {
					t.Errorf("got %s", got)
				}
				if v, _ := s.Saved(k); v.Next != 0 || len(v.Attempts) != n || !v.Attempts[n-1].InDoubt {
					t.Errorf("next %d, %d attempts", v.Next, len(v.Attempts))
				}
			})
		}
	}
}

// TestWriteAtTheEndOfAHalf: wherever in the half a call begins, and whichever of its writes fails, what it vouches for is there.
func TestWriteAtTheEndOfAHalf(t *testing.T) {
	for _, sy := range []Sync{{}, {Window: time.Hour}} {
		for at := 74; at < 98; at++ { // the half ends before, among or behind what is written
			for fails := range int64(4) {
				o := quiet()
				o.Sync = sy
				first, size := newFile(o)
				d := &nth{Disk: sim.New(nil, append(first, make([]byte, int(size)-len(first))...))}
				s, err := recoverFrom(d, "offsets", o)
				must(t, err)
				p, q := twoPartitions(t, s)
				for range at {
					p.Committed(0)
				}
				q.Fetched(1)
				must(t, q.Intent(Attempt{Offset: 1, Number: 1}), p.Intent(Attempt{Offset: 1, Number: 1}))
				d.left = fails
				recorded, announced := p.Write([]int64{1, 0}, q, []Attempt{{Offset: 0, Number: 1}, {Offset: 1, Number: 2}})
				if known := q.Earlier(0).Number + q.Earlier(1).Number; known != 3 && announced == nil || known != 1 && announced != nil {
					t.Fatalf("window %v, at %d, %d: %d attempts are known after %v", sy.Window, at, fails, known, announced)
				}
				if next := p.Next(); (next == 2) != (recorded == nil) {
					t.Fatalf("window %v, at %d, %d: the watermark is %d after %v", sy.Window, at, fails, next, recorded)
				}
				s, err = recoverFrom(sim.New(nil, d.Cache), "offsets", quiet())
				must(t, err)
				v, _ := s.Saved(testKey)
				if recorded == nil && v.Next != 2 {
					t.Fatalf("window %v, at %d, %d: recorded, and the file says next %d done %s", sy.Window, at, fails, v.Next, v.Done)
				}
				k := testKey
				k.Partition++
				if v, _ = s.Saved(k); announced == nil && sprint(v.Next, v.Done, v.Committed, v.Attempts) != "0  -1 [{0 1 0 true} {1 2 0 true}]" {
					t.Fatalf("window %v, at %d, %d: announced, and the file says %+v", sy.Window, at, fails, v)
				}
			}
		}
	}
}

// nth is a disk of which one write fails: that with so many before it.
type nth struct {
	*sim.Disk
	left int64
}

func (d *nth) WriteAt(b []byte, at int64) (int, error) {
	if d.left--; d.left == 0 {
		return 0, syscall.EIO
	}
	return d.Disk.WriteAt(b, at)
}
