package offsets

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/volume/sim"
)

// sleepy is a disk whose syncs take their time. Its mutex lets the test look at the disk below meanwhile.
type sleepy struct {
	disk
	mu *sync.Mutex
}

func (d sleepy) Sync() error {
	time.Sleep(time.Millisecond)
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.disk.Sync()
}

func (d sleepy) WriteAt(b []byte, at int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.disk.WriteAt(b, at)
}

// TestPace: at a steady pace almost nobody waits for a ceiling, and a power cut flags little more than a few windows sent.
func TestPace(t *testing.T) {
	for rate, length := range map[int]int{50: 300, 200: 300, 2000: 300, 20_000: 90} { // in windows, of which the first third is the beginning
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := quiet()
				o.idle, o.half, o.Sync, o.Now = false, 2<<20, DefaultSync, nil
				var mu sync.Mutex
				o.wrap = func(inner disk) disk { return sleepy{inner, &mu} }
				first, size := newFile(o)
				d := sim.New(nil, append(first, make([]byte, int(size)-len(first))...))
				s, err := recoverFrom(d, "offsets", o)
				must(t, err)
				p := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
				began, waits, windows, most := time.Now(), 0, 0, int64(0)
				for n := int64(0); time.Since(began) < time.Duration(length)*o.Sync.Window; n++ {
					p.Fetched(n)
					at := time.Now()
					must(t, p.Intent(Attempt{Offset: n, Number: 1}))
					steady := at.Sub(began) > time.Duration(length/3)*o.Sync.Window
					if steady && time.Since(at) > 0 {
						waits++
					}
					if windows = int(at.Sub(began) / o.Sync.Window); steady && n%8 == 0 {
						most = max(most, p.slot.ceiling-n)
					}
					must(t, p.Done(n))
					time.Sleep(time.Until(began.Add(time.Duration(n+1) * time.Second / time.Duration(rate))))
				}
				if windows < length-10 || waits > 2+rate/2000 {
					t.Errorf("%d waits in the last %d of %d windows", waits, length*2/3, windows)
				}
				sent := int64(rate) * 4 * int64(o.Sync.Window) / int64(time.Second)
				o.boot, o.idle = "boot 1", true
				mu.Lock()
				left := d.Crash(false)
				mu.Unlock()
				after, err := recoverFrom(sim.New(nil, left), "offsets", o)
				must(t, err)
				v, _ := after.Saved(testKey)
				if flagged := v.Ceiling - v.Next; max(flagged, most) > 2*sent+32 || v.Ceiling == 0 {
					t.Errorf("a power cut flags %d, %d at other moments; 4 windows sent %d", flagged, most, sent)
				}
				t.Logf("%d waits, ceiling at most %d ahead, 4 windows sent %d", waits, most, sent)
				must(t, s.Close())
			})
		})
	}
}

// TestSlowing: a partition that was fast and is slow now comes back from its far ceiling.
func TestSlowing(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	tr := slot{number: 1}
	offset := int64(0)
	send := func(n int, every time.Duration) {
		for range n {
			now = now.Add(every)
			offset++
			if tr.near(offset) {
				tr.lift(offset, now, 5*time.Millisecond)
			}
		}
	}
	send(4000, 20*time.Microsecond)
	if tr.reach != farthestReach {
		t.Errorf("fast: reaches %d ahead", tr.reach)
	}
	send(600, 5*time.Millisecond)
	if tr.reach != nearestReach {
		t.Errorf("slow since 3 s: reaches %d ahead", tr.reach)
	}
	tr.stood = true
	send(10, 5*time.Millisecond)
	if tr.reach != 2*nearestReach {
		t.Errorf("somebody had to wait: reaches %d ahead", tr.reach)
	}
}

// TestEarlySync: a sync begins before the window is over: at a third of what may be off disk where much comes during one, at
// three quarters where nothing does.
func TestEarlySync(t *testing.T) {
	const most = 120
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o, d := quiet(), &counting{}
		o.idle, o.half, o.Sync = false, 1<<20, Sync{Window: time.Hour, Unsynced: most}
		o.wrap = func(inner disk) disk { d.disk = inner; return d }
		s, err := Open(dir, o)
		must(t, err)
		p := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
		next := int64(0)
		one := func() {
			n := next
			next++ // before Done, which may wake whoever goes on
			p.Fetched(n)
			must(t, p.Done(n))
		}
		// begins tells with how many off disk the next sync begins.
		begins := func() int {
			t.Helper()
			before := d.syncs.Load()
			for n := 1; n <= most; n++ {
				one()
				if synctest.Wait(); d.syncs.Load() > before {
					return n
				}
			}
			t.Fatalf("%d are off disk, and no sync", most)
			return 0
		}
		first := begins()
		for range 40 {
			begins()
		}
		if first >= most/2 {
			t.Errorf("the first sync begins with %d, before it is known how much comes during one", first)
		}
		if n := begins(); n != most*3/4 {
			t.Errorf("where nothing comes during a sync it begins with %d, want %d", n, most*3/4)
		}
		during := func(n int) {
			d.during = func() { // of this sync alone
				d.during = nil
				for range n {
					one()
				}
			}
		}
		during(most / 4)
		begins()
		if n := begins(); n != most/4 { // with those that came: half of what may be off disk
			t.Errorf("behind a sync during which a quarter came the next begins with %d more, want %d", n, most/4)
		}
		during(most / 3)
		begins()
		time.Sleep(time.Millisecond)
		synctest.Wait()
		s.mu.Lock()
		if s.backlog.unsynced > 0 { // they were enough to begin again at once
			t.Errorf("%d are off disk after a slow sync", s.backlog.unsynced)
		}
		s.mu.Unlock()
		must(t, s.Close())
	})
}

// TestEarlyAgain: what comes while a sync is under way does not wait for a window, either.
func TestEarlyAgain(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o, d := quiet(), &gated{}
		o.idle, o.Sync = false, Sync{Window: time.Hour, Unsynced: 10}
		o.wrap = func(inner disk) disk { d.disk = inner; return d }
		s, err := Open(dir, o)
		must(t, err)
		p := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
		d.gate = make(chan struct{})
		for n := range int64(10) {
			p.Fetched(n)
			must(t, p.Done(n))
			synctest.Wait() // from the third on, run is at the disk
		}
		close(d.gate)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if s.backlog.unsynced != 0 {
			t.Errorf("%d are still off disk", s.backlog.unsynced)
		}
		must(t, s.Close())
	})
}

// TestSharedSync: whoever comes during a sync shares the next one, which one of them runs.
func TestSharedSync(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o, d, g := quiet(), &counting{}, &gated{}
		o.wrap = func(inner disk) disk { g.disk = inner; d.disk = g; return d }
		s, err := Open(dir, o) // no goroutine of its own: the writers have to help themselves
		must(t, err)
		p := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
		before := d.syncs.Load()
		g.gate = make(chan struct{})
		for n := range int64(6) {
			p.Fetched(n)
			go func() {
				if err := p.Done(n); err != nil {
					t.Error(err)
				}
			}()
			synctest.Wait() // the first is at the disk, the others wait
		}
		if len(s.backlog.waiters) != 5 {
			t.Errorf("%d wait", len(s.backlog.waiters))
		}
		g.gate <- struct{}{}
		synctest.Wait()
		if next, _ := p.Progress(); next != 1 || len(s.backlog.waiters) != 4 {
			t.Errorf("after one sync: next %d, %d wait, want 4 and one at the disk", next, len(s.backlog.waiters))
		}
		close(g.gate)
		synctest.Wait()
		if next, _ := p.Progress(); next != 6 || d.syncs.Load()-before != 2 {
			t.Errorf("next %d after %d syncs", next, d.syncs.Load()-before)
		}
		must(t, s.Close())
	})
}
