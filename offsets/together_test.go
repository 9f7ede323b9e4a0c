package offsets

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
)

// many hands over n offsets of one partition, and returns all of them backwards: what shares a call is in no order.
func many(t *testing.T, s *Store, n int64) (p *Partition, all []int64, first []Attempt) {
	t.Helper()
	p = mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
	for o := range n {
		p.Fetched(o)
		all = append(all, n-1-o)
		first = append(first, Attempt{Offset: n - 1 - o, Number: 1})
	}
	return p, all, first
}

// TestTogether: many messages share one sync where the disk is waited for, and all of them are on it when the call returns.
func TestTogether(t *testing.T) {
	const n = 300
	for _, sy := range []Sync{{}, {Window: 1}, {Window: -1}} {
		t.Run(fmt.Sprint(sy.Window), func(t *testing.T) {
			dir, o, d := t.TempDir(), quiet(), &counting{}
			o.Sync, o.half = sy, 1<<16
			o.wrap = func(inner disk) disk { d.disk = inner; return d }
			s := mustOpen(t, dir, o)
			p, all, first := many(t, s, n)
			second := make([]Attempt, 0, n)
			for i := range first {
				second = append(second, Attempt{Offset: first[i].Offset, Number: 2, InDoubt: i%2 == 0})
			}
			for _, step := range []struct {
				name string
				do   func() error
				most int64 // syncs with Window 0
			}{
				{"first intent", func() error { return p.Intent(first[n-1]) }, 1},
				{"intents", func() error { return announce(p, first[:n-1]) }, 1},
				{"Settled", func() error { return p.Settled(second...) }, 1},
				{"outcomes", func() error { return record(p, all[n/2:]) }, 1},
				{"outcomes again", func() error { return record(p, all[n/2:]) }, 0},
				{"nothing", func() error { return errors.Join(announce(p, nil), p.Settled(), record(p, nil)) }, 0},
			} {
				syncs := d.syncs.Load()
				must(t, step.do())
				syncs = d.syncs.Load() - syncs
				if sy.Window == 0 && (syncs != step.most || s.backlog.synced != s.backlog.seq) || sy.Window < 0 && syncs > 0 {
					t.Errorf("%s: %d syncs, %d of %d writes are on disk", step.name, syncs, s.backlog.synced, s.backlog.seq)
				}
				if step.name == "outcomes" && sy.Window > 0 && syncs != 1 {
					t.Errorf("%d syncs for %d outcomes, of which 128 may be off the disk", syncs, n/2)
				}
				if step.name == "intents" && sy.Window > 0 && p.slot.ceilingOn < n {
					t.Errorf("requests up to %d may start, the ceiling on the disk is %d", n-1, p.slot.ceilingOn)
				}
			}
			if next, done := p.Progress(); next != n/2 || len(done) > 0 || p.Outstanding() != n/2 {
				t.Errorf("next %d, done %s, %d outstanding", next, done, p.Outstanding())
			}
			kill(s)
			saved, _ := mustOpen(t, dir, quiet()).Saved(testKey)
			if saved.Next != n/2 || len(saved.Attempts) != n/2 || saved.Attempts[1] != (Attempt{Offset: n/2 + 1, Number: 2, InDoubt: second[n/2-2].InDoubt}) {
				t.Errorf("saved: next %d, %d attempts, %+v", saved.Next, len(saved.Attempts), saved.Attempts[:2])
			}
		})
	}
}

// TestTogetherOrNot: an error tells that no request may start, and that outcomes have to be recorded again; it names what it is
// about.
func TestTogetherOrNot(t *testing.T) {
	const n = 9
	for _, row := range []struct {
		name         string
		before       func(d *sick, p *Partition)
		intent, done string
		again        bool // once the disk is well again, both hold
	}{
		{"not handed over", func(_ *sick, p *Partition) { must(t, p.Intent(Attempt{Offset: 4, Number: 1}), p.Done(4)) },
			"announcing an attempt at offset 4 of orders partition 3: it was not handed over", "", false},
		{"released", func(_ *sick, p *Partition) { p.Release() }, ErrReleased.Error(), ErrReleased.Error(), false},
		{"writes fail", func(d *sick, _ *Partition) { d.writes.Store(true) }, "announcing an attempt at offset 8 of orders partition 3",
			"recording offset 8 of orders partition 3", true},
		{"syncs fail", func(d *sick, _ *Partition) { d.syncs.Store(true) }, "announcing an attempt at offset 8 of orders partition 3",
			"recording offset 8 of orders partition 3", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir, o, d := t.TempDir(), quiet(), &sick{err: syscall.EIO}
			o.wrap = func(inner disk) disk { d.disk = inner; return d }
			s := mustOpen(t, dir, o)
			p, all, first := many(t, s, n)
			row.before(d, p)
			wantError(t, "intents", announce(p, first), row.intent)
			if e := p.Earlier(8); e.Number != 0 {
				t.Errorf("an attempt that never started is known: %+v", e)
			}
			wantError(t, "done", record(p, all), row.done)
			if next := p.Next(); (next == n) != (row.done == "") {
				t.Errorf("the watermark is %d after %q", next, row.done)
			}
			if !row.again {
				return
			}
			d.writes.Store(false)
			d.syncs.Store(false)
			s.mu.Lock()
			s.heal()
			s.mu.Unlock()
			must(t, record(p, all))
			if next := p.Next(); next != n {
				t.Errorf("the watermark is %d once the disk is well again", next)
			}
			kill(s)
			if saved, _ := mustOpen(t, dir, quiet()).Saved(testKey); saved.Next != n {
				t.Errorf("saved: %+v", saved)
			}
		})
	}
}
