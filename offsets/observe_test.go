package offsets

import (
	"errors"
	"syscall"
	"testing"
	"time"
)

// Each sync that somebody waits for is told with what it took, each failure with why.
func TestObserve(t *testing.T) {
	o, d := quiet(), &sick{err: syscall.ENOSPC}
	o.wrap = func(inner disk) disk { d.disk = inner; return d }
	s := mustOpen(t, t.TempDir(), o)
	syncs, failures := 0, 0
	s.Observe(func(_ time.Duration, failed error) {
		if failed == nil {
			syncs++
		} else if failures++; !errors.Is(failed, syscall.ENOSPC) {
			t.Errorf("it failed for %v", failed)
		}
	})
	p := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
	syncs = 0
	p.Fetched(0)
	recorded, announced := p.Write(nil, p, []Attempt{{Offset: 0, Number: 1}})
	must(t, recorded, announced)
	if syncs != 1 || failures != 0 {
		t.Errorf("%d syncs and %d failures of a write that is waited for", syncs, failures)
	}
	d.syncs.Store(true)
	if recorded, _ := p.Write([]int64{0}, nil, nil); recorded == nil || failures != 1 {
		t.Errorf("%v, %d failures", recorded, failures)
	}
}

// Standing counts what is done above the oldest one without an outcome, gaps and what was done before included.
func TestStanding(t *testing.T) {
	s := mustOpen(t, t.TempDir(), quiet())
	p := mustAssign(t, s, testKey, Start{Next: 10, Done: Ranges{{14, 16}, {100, 110}}, Lineage: 1, Committed: -1})
	is := func(next, done int64, outstanding int) {
		t.Helper()
		if n, d, o := p.Standing(); n != next || d != done || o != outstanding {
			t.Errorf("next %d, done %d, outstanding %d; want %d, %d, %d", n, d, o, next, done, outstanding)
		}
	}
	is(10, 12, 0)
	for _, o := range []int64{10, 11, 13, 14, 15, 16} { // there is no 12
		p.Fetched(o)
	}
	is(10, 12, 4)
	finish := func(o int64) {
		recorded, _ := p.Write([]int64{o}, nil, nil)
		must(t, recorded)
	}
	finish(13)
	is(10, 14, 3)
	finish(10)
	is(11, 14, 2)
	finish(11)
	is(16, 10, 1)
	finish(16)
	is(17, 10, 0)
}
