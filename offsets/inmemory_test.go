package offsets

import (
	"errors"
	"fmt"
	"os"
	"testing"
)

// A story is written with words: f fetched, x fetched and known as done, s sent, d done, H handed over; what follows is the
// offset.
func TestInMemory(t *testing.T) {
	for _, row := range []struct {
		steps []string
		next  int64
		open  int
		done  string
	}{
		{nil, 5, 0, "20-21"},
		{[]string{"f7"}, 7, 1, "20-21"},
		{[]string{"f7", "s7"}, 8, 1, "20-21"},
		{[]string{"f7", "s7", "d7"}, 8, 0, "20-21"},
		{[]string{"f7", "f8", "s8"}, 7, 2, "20-21"},
		{[]string{"f7", "f8", "f9", "s7", "s8"}, 9, 3, "20-21"},
		{[]string{"f7", "f8", "s7", "s8", "d8"}, 9, 1, "20-21"},
		{[]string{"f7", "f8", "s7", "s8", "d8", "H0"}, 7, 1, "8-8,20-21"},
		{[]string{"f7", "f8", "s7", "d7", "s8", "H0"}, 8, 1, "20-21"},
		{[]string{"f7", "f8", "f9", "f10", "d8", "d9", "H0"}, 7, 2, "8-9,20-21"},
		{[]string{"f7", "d7", "H0"}, 8, 0, "20-21"},
		{[]string{"f7", "x20"}, 7, 1, "8-21"}, // 8 to 19 do not exist
		{[]string{"f7", "x20", "d7"}, 22, 0, ""},
		{[]string{"f7", "x20", "x21", "f22", "d7", "H0"}, 22, 1, ""},
		{[]string{"f7", "s7", "x20", "x21"}, 22, 1, ""},
		{[]string{"f7", "s7", "x20"}, 21, 1, "21-21"},
	} {
		p := mustAssign(t, InMemory(quiet()), testKey, Start{Next: 5, Done: Ranges{{From: 20, To: 22}}})
		for _, s := range row.steps {
			var what rune
			var o int64
			if _, err := fmt.Sscanf(s, "%c%d", &what, &o); err != nil {
				t.Fatal(err)
			}
			var err error
			switch what {
			case 'f', 'x':
				if p.Fetched(o) != (what == 'f') {
					t.Errorf("%v: %d is filtered: %v", row.steps, o, what == 'f')
				}
			case 's':
				err = p.Intent(Attempt{Offset: o})
			case 'd':
				err = p.Done(o)
			case 'H':
				p.HandOver()
			}
			if err != nil {
				t.Errorf("%v: %v", row.steps, err)
			}
		}
		if next, done := p.Progress(); next != row.next || done.String() != row.done || p.Outstanding() != row.open {
			t.Errorf("%v: next %d, done %s, %d open; want %d, %s, %d", row.steps, next, done, p.Outstanding(), row.next, row.done, row.open)
		}
	}
}

// TestInMemoryEnds: markers are passed over, and after the release nothing is recorded.
func TestInMemoryEnds(t *testing.T) {
	p := mustAssign(t, InMemory(quiet()), testKey, Start{Next: 5})
	p.Advance(9)
	if next, _ := p.Progress(); next != 9 || p.Next() != 9 {
		t.Errorf("next %d behind markers, want 9", next)
	}
	p.Release()
	if err := p.Done(9); !errors.Is(err, ErrReleased) || p.Fetched(10) {
		t.Errorf("after the release: %v", err)
	}
}

// TestSentCounts: a failed attempt counts as sent; the watermark itself, and what was tried before the assignment, do not.
func TestSentCounts(t *testing.T) {
	p := mustAssign(t, InMemory(quiet()), testKey, Start{Attempts: []Attempt{{Offset: 1, Number: 3, Faults: 2, InDoubt: true}}, Ceiling: 9})
	for n := range int64(3) {
		p.Fetched(n)
	}
	must(t, p.Intent(Attempt{Offset: 0, Number: 1}), p.Settled(Attempt{Offset: 0, Number: 1, InDoubt: true}))
	if next, _ := p.Progress(); next != 1 || p.Next() != 0 {
		t.Errorf("may be committed: %d, want 1; watermark %d", next, p.Next())
	}
	for n, want := range []Attempt{{Offset: 0, Number: 1}, {Offset: 1, Number: 3, Faults: 2}, {Offset: 2}} {
		if got := p.Earlier(int64(n)); got != want {
			t.Errorf("got %+v, want %+v: nothing is in doubt with guarantee 1", got, want)
		}
	}
	_, announced := p.Write([]int64{0}, p, []Attempt{{Offset: 1, Number: 4}, {Offset: 9, Number: 1}})
	wantError(t, "one that was not handed over", announced, "announcing an attempt at offset 9 of orders partition 3")
	if next, _ := p.Progress(); next != 1 || p.Earlier(1).Number != 3 {
		t.Errorf("an intent that was recalled counts as sent: %d, %+v", next, p.Earlier(1))
	}
}

// TestInMemoryKeepsNothing: no volume, no file, no memory of a partition that was released.
func TestInMemoryKeepsNothing(t *testing.T) {
	t.Chdir(t.TempDir())
	s := InMemory(Options{})
	if s.Keeps() || !mustOpen(t, t.TempDir(), quiet()).Keeps() {
		t.Error("a Store in memory keeps nothing, one in a file does")
	}
	other := testKey
	other.TopicID = "made-again"
	for life := range 3 {
		p := mustAssign(t, s, testKey, Start{Lineage: 1})
		work(t, p, 9, 3)
		p.Committed(4)
		for _, released := range []bool{false, true} {
			if released {
				p.Release()
				p.Release()
			}
			saved, ok := s.Saved(testKey)
			if ok || saved.Next != 0 || saved.Done != nil || len(s.Foreign(other)) > 0 || s.VolumeID() != "" || s.Edition() != "" || !s.Holds("1.2.3.4") {
				t.Errorf("life %d, released %t: saved %+v, foreign %v, %q %q", life, released, saved, s.Foreign(other), s.VolumeID(), s.Edition())
			}
		}
	}
	p, n := mustAssign(t, s, testKey, Start{}), int64(0)
	p.Fetched(0)
	if got := testing.AllocsPerRun(5000, func() {
		p.Fetched(n + 1)
		if recorded, announced := p.Write([]int64{n}, p, []Attempt{{Offset: n + 1, Number: 1}}); recorded != nil || announced != nil {
			t.Fatal("not recorded")
		}
		n++
	}); got > 0 || s.journal.pos > 0 || s.backlog.seq > 0 {
		t.Errorf("%v allocations a message, %d frames in %d writes", got, s.journal.pos, s.backlog.seq)
	}
	must(t, s.Err(), s.Close())
	if err := p.Done(n); !errors.Is(err, ErrClosed) || s.Err() != ErrClosed || s.Close() != ErrClosed {
		t.Errorf("after Close: %v, %v", err, s.Err())
	}
	if left, err := os.ReadDir("."); err != nil || len(left) > 0 {
		t.Errorf("it leaves %v, %v", left, err)
	}
}

// TestUnfinished: a commit tells of attempts that are over at messages without an outcome, with a file and without.
func TestUnfinished(t *testing.T) {
	first := func(o int64) Attempt { return Attempt{Offset: o, Number: 1} }
	for _, row := range []struct {
		name string
		do   func(p *Partition) error
		want string
	}{
		{"known from the start", func(*Partition) error { return nil }, "[{2 3 1 true} {8 1 0 false} {9 0 0 true}]"},
		{"under way", func(p *Partition) error { return p.Intent(first(1)) }, "[{2 3 1 true} {8 1 0 false} {9 0 0 true}]"},
		{"over", func(p *Partition) error { return errors.Join(p.Intent(first(1)), p.Settled(Attempt{1, 1, 1, true})) },
			"[{1 1 1 true} {2 3 1 true} {8 1 0 false} {9 0 0 true}]"},
		{"the next is under way", func(p *Partition) error {
			return errors.Join(p.Intent(first(1)), p.Settled(Attempt{1, 1, 1, false}), p.Intent(Attempt{1, 2, 1, false}))
		}, "[{1 1 1 false} {2 3 1 true} {8 1 0 false} {9 0 0 true}]"},
		{"the next of the start's", func(p *Partition) error { return p.Intent(Attempt{2, 4, 1, true}) }, "[{2 3 1 true} {8 1 0 false} {9 0 0 true}]"},
		{"done", func(p *Partition) error { return p.Done(2) }, "[{8 1 0 false} {9 0 0 true}]"},
		{"left in doubt", func(p *Partition) error { p.Doubt(Attempt{1, 1, 0, true}); return nil },
			"[{1 1 0 true} {2 3 1 true} {8 1 0 false} {9 0 0 true}]"},
		{"left in doubt, under way before", func(p *Partition) error {
			err := p.Intent(first(1))
			p.Doubt(Attempt{1, 1, 0, true})
			return err
		}, "[{1 1 0 true} {2 3 1 true} {8 1 0 false} {9 0 0 true}]"},
		{"left in doubt, then done", func(p *Partition) error {
			p.Doubt(Attempt{1, 1, 0, true})
			err := p.Done(1)
			p.Doubt(Attempt{1, 1, 0, true}) // it has its outcome: nothing to tell
			return err
		}, "[{2 3 1 true} {8 1 0 false} {9 0 0 true}]"},
		{"gone from the log", func(p *Partition) error {
			for o := range int64(3) {
				must(t, p.Done(o))
			}
			p.Fetched(9)
			return nil
		}, "[{9 0 0 true}]"},
		{"handed over as finished", func(p *Partition) error { p.Fetched(8); p.Fetched(20); return p.Done(8) }, "[{2 3 1 true} {9 0 0 true}]"},
	} {
		for _, keeps := range []bool{true, false} {
			t.Run(fmt.Sprint(row.name, keeps), func(t *testing.T) {
				s := InMemory(quiet())
				if keeps {
					s = mustOpen(t, t.TempDir(), quiet())
				}
				p := mustAssign(t, s, testKey, Start{Committed: -1, Done: Ranges{{20, 21}},
					Attempts: []Attempt{{2, 3, 1, true}, {8, 1, 0, false}, {9, 0, 0, true}, {20, 1, 0, true}}})
				for o := range int64(3) {
					p.Fetched(o)
				}
				must(t, row.do(p))
				if got := fmt.Sprint(p.Unfinished()); got != row.want {
					t.Errorf("got %s, want %s", got, row.want)
				}
			})
		}
	}
}

// TestUnfinishedOfASickDisk: what the file could not take is told all the same.
func TestUnfinishedOfASickDisk(t *testing.T) {
	o, d := quiet(), &sick{err: errors.New("sick")}
	o.wrap = func(inner disk) disk { d.disk = inner; return d }
	s := mustOpen(t, t.TempDir(), o)
	p, _, first := many(t, s, 3)
	must(t, announce(p, first))
	d.writes.Store(true)
	for i := range first {
		first[i].Faults = 1
	}
	if p.Done(0) == nil || p.Settled(first...) == nil {
		t.Fatal("it takes records")
	}
	if got := fmt.Sprint(p.Unfinished()); got != "[{0 1 1 false} {1 1 1 false} {2 1 1 false}]" {
		t.Errorf("got %s", got)
	}
	p.Doubt(Attempt{Offset: 0, Number: 1, InDoubt: true})
	d.writes.Store(false)
	s.mu.Lock()
	s.heal()
	s.mu.Unlock()
	must(t, s.Err(), p.Done(1))
	if got := fmt.Sprint(p.Unfinished()); got != "[{0 1 0 true} {2 1 1 false}]" {
		t.Errorf("got %s", got)
	}
	must(t, p.Done(0))
	if got := fmt.Sprint(p.Unfinished()); got != "[{2 1 1 false}]" {
		t.Errorf("got %s", got)
	}
}
