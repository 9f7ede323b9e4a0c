package offsets

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestADiskThatHangs: who waits for it is told after hangTime, but for the one that is at the disk; what is under way then is told to the
// next owner. All goes on when the disk is back, and what was told as recorded is there.
func TestADiskThatHangs(t *testing.T) {
	for _, rule := range []Sync{{}, DefaultSync} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			o, d := quiet64(), &gated{}
			o.idle, o.Sync = false, rule
			o.wrap = func(inner disk) disk { d.disk = inner; return d }
			s, err := Open(dir, o)
			must(t, err)
			p := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
			work(t, p, 10)
			time.Sleep(time.Second)
			synctest.Wait()
			for at := range int64(400) {
				p.Fetched(10 + at)
			}
			deliver := func(from, to int64) (err error) {
				for at := from; at < to && err == nil; at++ {
					if err = p.Intent(Attempt{Offset: at, Number: 1}); err == nil || errors.Is(err, errNotOutstanding) { // it has its outcome
						err = p.Done(at)
					}
				}
				return err
			}
			d.gate = make(chan struct{})
			var all sync.WaitGroup
			all.Go(func() { _ = deliver(10, 11) }) // it may be the one at the disk
			time.Sleep(100 * time.Millisecond)
			began := time.Now()
			told := func(what string, do func() error) {
				all.Go(func() {
					if err, took := do(), time.Since(began); !errors.Is(err, ErrHangs) || took > hangTime {
						t.Errorf("%v: %s was told %v after %v", rule, what, err, took)
					}
				})
			}
			told("a delivery", func() error { return deliver(11, 410) })
			told("an assignment", func() error {
				other := testKey
				other.Partition++
				_, err := s.Assign(other, Start{Lineage: 1, Committed: -1})
				return err
			})
			time.Sleep(hangTime)
			synctest.Wait()
			if err := s.Err(); !errors.Is(err, ErrHangs) || !strings.Contains(err.Error(), filePath(dir)) {
				t.Errorf("the volume is said to be %v", err)
			}
			next, done := p.Progress()
			p.HandOver()
			left := p.Unfinished()
			if waits := rule.Window == 0; waits && (len(left) == 0 || !left[0].InDoubt || left[0].Offset < next) || done.Count() > 0 {
				t.Errorf("%v: behind %d %v is done and %v told", rule, next, done, left)
			}
			close(d.gate)
			all.Wait()
			synctest.Wait()
			must(t, s.Err(), deliver(10, 410))
			if next, _ := p.Progress(); next != 410 {
				t.Errorf("next is %d afterwards", next)
			}
			must(t, s.Close())
		})
		s := mustOpen(t, dir, quiet64())
		if saved, _ := s.Saved(testKey); saved.Next != 410 {
			t.Errorf("%+v is on the disk", saved)
		}
	}
}

// TestATurnThatHangs: neither does anybody wait for room that is made at such a disk, nor is a slot taken for written that is not.
func TestATurnThatHangs(t *testing.T) {
	dir, other := t.TempDir(), testKey
	other.Partition++
	// hanging is a store with a disk that hangs, and so much room left in its half.
	hanging := func(left int) (s *Store, p *Partition, d *gated) {
		o := quiet()
		d = &gated{}
		o.idle, o.Sync = false, DefaultSync
		o.wrap = func(inner disk) disk { d.disk = inner; return d }
		s, err := Open(dir, o)
		must(t, err)
		p = mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
		time.Sleep(time.Second)
		synctest.Wait()
		d.gate = make(chan struct{})
		p.Fetched(1)
		must(t, p.Settled(Attempt{Offset: 1, Number: 1}))
		time.Sleep(time.Second) // the keeper is at the disk
		for n := 2; roomOf(s) > left; n++ {
			must(t, p.Settled(Attempt{Offset: 1, Number: n})) // waits for nobody but for room
		}
		return s, p, d
	}
	synctest.Test(t, func(t *testing.T) {
		s, _, d := hanging(5)
		began := time.Now()
		if _, err := s.Assign(other, Start{Lineage: 1, Committed: -1}); !errors.Is(err, ErrHangs) || time.Since(began) > hangTime {
			t.Errorf("an assignment without room came to %v after %v", err, time.Since(began))
		}
		close(d.gate)
		time.Sleep(time.Second)
		synctest.Wait()
		if roomOf(s) != 5 {
			t.Fatal("there is room again: this test shows nothing")
		}
		work(t, mustAssign(t, s, other, Start{Lineage: 1, Committed: -1}), 1)
		kill(s)
		synctest.Wait()
	})
	s := mustOpen(t, dir, quiet())
	if saved, ok := s.Saved(other); !ok || saved.Next != 1 {
		t.Errorf("%+v of what was assigned after it", saved)
	}
	must(t, s.Close())
	synctest.Test(t, func(t *testing.T) {
		s, p, d := hanging(0)
		time.Sleep(hangTime)
		began := time.Now()
		if err := p.Settled(Attempt{Offset: 1, Number: 9999}); time.Since(began) > 0 || !errors.Is(err, ErrHangs) || !errors.Is(s.Err(), ErrHangs) {
			t.Errorf("a write without room took %v, and the volume is said to be %v", time.Since(began), s.Err())
		}
		close(d.gate)
		must(t, s.Close())
	})
}

func roomOf(s *Store) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.journal.room()
}
