package offsets

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// TestDoneThen: either half holds without the other, and each error is its own call's. Partition 3 has 0 under way and 1 waiting,
// partition 4 has 0 waiting.
func TestDoneThen(t *testing.T) {
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
				done, intent := p.DoneThen(0, next, a)
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

// TestDoneThenOnce: one write, and with Window 0 one sync; a disk that is well again takes both.
func TestDoneThenOnce(t *testing.T) {
	dir, o := t.TempDir(), quiet()
	d := &counting{}
	o.wrap = func(inner disk) disk { d.disk = inner; return d }
	s := mustOpen(t, dir, o)
	p, q := twoPartitions(t, s)
	seq, syncs := s.seq, d.syncs.Load()
	done, intent := p.DoneThen(0, q, Attempt{Offset: 0, Number: 1})
	must(t, done, intent)
	if s.seq-seq != 1 || d.syncs.Load()-syncs != 1 || s.synced != s.seq {
		t.Errorf("%d writes and %d syncs", s.seq-seq, d.syncs.Load()-syncs)
	}
	if next, _ := p.Progress(); next != 1 || p.Outstanding() != 1 {
		t.Errorf("next %d, outstanding %d", next, p.Outstanding())
	}
	s.mu.Lock()
	s.fail(errors.New("once"))
	s.mu.Unlock()
	if done, intent = q.DoneThen(0, p, Attempt{Offset: 1, Number: 1}); done == nil || intent == nil {
		t.Errorf("while nothing can be written: %v, %v", done, intent)
	}
	s.mu.Lock()
	s.heal()
	s.mu.Unlock()
	done, intent = q.DoneThen(0, p, Attempt{Offset: 1, Number: 1})
	must(t, done, intent)
}
