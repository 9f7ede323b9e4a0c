package offsets

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestHolds: whoever keeps an Edition elsewhere learns whether the volume was put back from a copy made before it.
func TestHolds(t *testing.T) {
	windowed := func() Options {
		o := quiet()
		o.random, o.Sync = rand.Uint64, Sync{Window: time.Hour}
		return o
	}
	dir := t.TempDir()
	open := func() (*Store, *Partition) {
		s := mustOpen(t, dir, windowed())
		saved, ok := s.Saved(testKey)
		if !ok {
			saved = Saved{Lineage: 1, Committed: -1}
		}
		return s, mustAssign(t, s, testKey, Start{Next: saved.Next, Lineage: saved.Lineage, Committed: saved.Committed})
	}
	syncs := func(s *Store) string {
		s.tick()
		return s.Edition()
	}
	holds := func(s *Store, edition string, want bool, what string) {
		t.Helper()
		if s.Holds(edition) != want {
			t.Errorf("%s: holds %s is %t; found %+v", what, edition, !want, s.past)
		}
	}

	s, p := open()
	work(t, p, 2)
	first := syncs(s)
	whileRunning := readFile(t, dir)
	holds(s, first, true, "its own")
	work(t, p, 4)
	unsynced := s.Edition()
	if unsynced != first {
		t.Errorf("what is not on disk is not promised: %s, then %s", first, unsynced)
	}
	second := syncs(s)
	must(t, s.Close())
	atTheStop := readFile(t, dir)

	s, p = open()
	holds(s, first, true, "a later life")
	holds(s, second, true, "a later life")
	for n := range int64(400) { // through several halves
		work(t, p, 4+n)
	}
	third := syncs(s)
	holds(s, third, true, "its own, halves later")
	if s.journal.header.generation < 5 {
		t.Fatalf("only %d generations: nothing turned", s.journal.header.generation)
	}
	kill(s)
	killed := readFile(t, dir)

	s, _ = open()
	for _, e := range []string{first, second, third} {
		holds(s, e, true, "after kill -9")
	}
	kill(s)

	for _, row := range []struct {
		what                 string
		copied               []byte
		first, second, third bool
	}{
		{"a copy made while it ran", whileRunning, true, false, false},
		{"a copy made at the stop", atTheStop, true, true, false},
		{"a copy made after kill -9", killed, true, true, true},
	} {
		must(t, os.WriteFile(filePath(dir), row.copied, 0o644))
		for life := range historyMost - 2 { // of partitions that it does not reach
			s, p = open()
			what := fmt.Sprintf("%s, %d lives later", row.what, life)
			holds(s, first, row.first, what)
			holds(s, second, row.second, what)
			holds(s, third, row.third, what)
			for n := range int64(100 * (life % 3)) { // through several halves
				work(t, p, 1000*int64(life+1)+n)
			}
			kill(s)
		}
	}
}

// TestHoldsOfWhoLeftTheList: what a Store has said is held for ever, also right when its place in the header is taken.
func TestHoldsOfWhoLeftTheList(t *testing.T) {
	o := quiet()
	o.random = rand.Uint64
	dir := t.TempDir()
	var said []string
	for life := range historyMost + 4 {
		s := mustOpen(t, dir, o)
		for before, word := range said {
			if !s.Holds(word) {
				t.Errorf("life %d does not hold %s, which life %d has said; found %+v", life, word, before, s.past)
			}
		}
		work(t, mustAssign(t, s, testKey, Start{Next: int64(life), Lineage: 1, Committed: -1}), int64(life))
		said = append(said, s.Edition())
		kill(s)
	}
}

// TestHoldsOfAFileWithoutAList: one of before, or that an earlier kpush has written since, counts as whole.
func TestHoldsOfAFileWithoutAList(t *testing.T) {
	golden, err := os.ReadFile(filepath.Join("testdata", "format1-unlisted"))
	must(t, err)
	m, err := parse(bytes.Clone(golden), "offsets")
	must(t, err)
	at := func(generation uint64, frames, life uint32) string {
		return fmt.Sprintf(editionFormat, generation, frames, life, 0x77)
	}
	is := m.header
	for life := range historyMost + 2 {
		s := mustOpen(t, dirWith(t, golden), Options{half: 4096, boot: "b", random: rand.Uint64, idle: true})
		for word, want := range map[string]bool{
			at(is.generation-1, 1<<20, 5): true, at(is.generation, m.end, is.life): true, at(is.generation, m.end+1, is.life): false,
			at(is.generation, m.end, is.life+1): false, at(is.generation+1, 1, 5): false,
		} {
			if life < historyMost && s.Holds(word) != want {
				t.Errorf("life %d: holds %s: %t", life, word, !want)
			}
		}
		kill(s)
		golden = readFile(t, filepath.Dir(s.path))
	}
}

// TestHoldsOfAnotherBranch: two lives began from the same bytes; what one wrote the other does not hold, though it has as much.
func TestHoldsOfAnotherBranch(t *testing.T) {
	o := quiet()
	o.random = rand.Uint64
	dir := t.TempDir()
	must(t, mustOpen(t, dir, o).Close())
	root := readFile(t, dir)
	live := func() (edition string, left []byte) {
		s := mustOpen(t, dir, o)
		work(t, mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1}), 3)
		edition = s.Edition()
		kill(s)
		return edition, readFile(t, dir)
	}
	one, left := live()
	must(t, os.WriteFile(filePath(dir), root, 0o644))
	other, _ := live()
	if one == other || bytes.Equal(left, readFile(t, dir)) {
		t.Fatal("two lives are alike")
	}
	s := mustOpen(t, dir, o)
	if !s.Holds(other) || s.Holds(one) {
		t.Errorf("holds its own %t, the other branch's %t", s.Holds(other), s.Holds(one))
	}
}

func TestHoldsNothingThatIsNoEdition(t *testing.T) {
	s := mustOpen(t, t.TempDir(), quiet())
	for _, word := range []string{"", "1", "0.0.0", "-1.0.0.0", "x.0.0.0", "1.2.3.zz"} {
		if s.Holds(word) {
			t.Errorf("holds %q", word)
		}
	}
}
