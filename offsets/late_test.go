package offsets

import (
	"errors"
	"fmt"
	"testing"
)

// TestLate: O1. What an attempt of a released partition comes to says nothing about the assignment that has its slot now.
func TestLate(t *testing.T) {
	for _, doubt := range []bool{false, true} {
		t.Run(fmt.Sprint(doubt), func(t *testing.T) {
			dir := t.TempDir()
			s := mustOpen(t, dir, quiet())
			p := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
			p.Fetched(0)
			must(t, p.Intent(Attempt{Offset: 0, Number: 1}))
			p.Release()
			q := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
			q.Fetched(0)
			must(t, q.Intent(Attempt{Offset: 0, Number: 2}))
			if doubt {
				p.Doubt(Attempt{Offset: 0, Number: 1})
			} else if err := p.Settled(Attempt{Offset: 0, Number: 1}); !errors.Is(err, ErrReleased) {
				t.Error(err)
			}
			if a := q.Earlier(0); a != (Attempt{Offset: 0, Number: 2, InDoubt: true}) {
				t.Errorf("the new assignment knows of %+v", a)
			}
			s.mu.Lock()
			s.turn() // a snapshot says what memory says
			s.mu.Unlock()
			kill(s)
			if got, want := savedText(t, mustOpen(t, dir, quiet()), testKey), "0  -1 [{0 2 0 true}]"; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// TestNotSettled: an attempt that nobody has settled may have been sent, also once the next one is under way.
func TestNotSettled(t *testing.T) {
	p := mustAssign(t, mustOpen(t, t.TempDir(), quiet()), testKey, Start{Lineage: 1, Committed: -1})
	p.Fetched(0)
	must(t, p.Intent(Attempt{Offset: 0, Number: 1}), p.Intent(Attempt{Offset: 0, Number: 2}))
	if got := fmt.Sprint(p.Unfinished()); got != "[{0 1 0 true}]" {
		t.Errorf("got %s", got)
	}
}
