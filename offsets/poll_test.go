package offsets

import (
	"errors"
	"testing"
	"time"
)

// TestWhoPollsWaitsForNoWrite: a write that hangs has the Store's lock. What polls Kafka, commits, has another lock or answers how things are
// goes on all the same, and all of it counts, and is in the file, when the disk is back.
func TestWhoPollsWaitsForNoWrite(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, quiet())
	p := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1, Done: Ranges{{11, 13}}})
	other := testKey
	other.Partition++
	q := mustAssign(t, s, other, Start{Lineage: 1, Committed: -1})
	work(t, p, 10, 8)
	edition := s.Edition()
	s.mu.Lock()
	told := func(what string, most time.Duration, do func() (ok bool)) {
		t.Helper()
		began, answer := time.Now(), make(chan bool, 1)
		go func() { answer <- do() }()
		select {
		case ok := <-answer:
			if took := time.Since(began); !ok || took > most {
				t.Errorf("%s: as it should be %t, after %v", what, ok, took)
			}
		case <-time.After(most + writeTime):
			t.Errorf("%s waits for the disk", what)
		}
	}
	const atOnce, soon = writeTime * 7 / 10, writeTime * 3 / 2 // who waits for the lock in vain takes writeTime
	told("messages", atOnce, func() bool { return p.Fetched(10) && !p.Fetched(10) && !p.Fetched(11) && p.Fetched(20) })
	told("where it stands", atOnce, func() bool {
		next, done, open := p.Standing()
		return next == 8 && p.Next() == 8 && done == 3 && open == 3 && p.Outstanding() == 3 && p.Earlier(8).Number == 1
	})
	told("a position behind markers", atOnce, func() bool { q.Advance(30); return q.Next() == 0 })
	told("the doubt of a message", atOnce, func() bool { p.Doubt(Attempt{Offset: 20, Number: 1, InDoubt: true}); return true })
	told("a commit", soon, func() bool { p.Committed(8); return true })
	told("a next commit", atOnce, func() bool { q.Committed(0); return true })
	told("a hand-over", atOnce, func() bool {
		p.HandOver()
		next, done := p.Progress()
		left := p.Unfinished()
		return next == 8 && done.String() == "9-9,11-12" && len(left) == 2 && left[0] == Attempt{Offset: 8, Number: 1, InDoubt: true} && left[1].InDoubt
	})
	told("what the file knows", atOnce, func() bool {
		_, _, _, err := s.Recall(testKey)
		return errors.Is(err, ErrHangs) && errors.Is(s.Err(), ErrHangs) && s.Edition() == edition
	})
	s.mu.Unlock()
	must(t, s.Err())
	for _, offset := range []int64{8, 10, 20} {
		must(t, p.Done(offset))
	}
	s.tick()
	kill(s)
	s = mustOpen(t, dir, quiet())
	if got := savedText(t, s, testKey) + ", " + savedText(t, s, other); got != "21  8 [], 30  0 []" {
		t.Errorf("in the file: %s", got)
	}
}
