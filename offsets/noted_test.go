package offsets

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/volume/sim"
)

// noting is a Store with two partitions, on a simulated disk. The test is its keeper.
type noting struct {
	*Store
	t     *testing.T
	disk  *sim.Disk
	clock time.Time
	p, q  *Partition // 0 to 9 of p are delivered, nothing of q is
	qKey  Key
}

func newNoting(t *testing.T, wrap func(disk) disk) *noting {
	n := &noting{t: t, clock: time.Unix(1_800_000_000, 0), qKey: testKey}
	n.qKey.Partition++
	o := quiet()
	o.Now, o.wrap = func() time.Time { return n.clock }, wrap
	first, size := newFile(o)
	n.disk = sim.New(rand.New(rand.NewPCG(1, 1)), append(first, make([]byte, int(size)-len(first))...))
	var err error
	n.Store, err = recoverFrom(n.disk, "offsets", o)
	must(t, err)
	n.p = mustAssign(t, n.Store, testKey, Start{Lineage: 1, Committed: -1})
	n.q = mustAssign(t, n.Store, n.qKey, Start{Lineage: 1, Committed: -1})
	work(t, n.p, 10)
	return n
}

// committed is Committed while another's write has the lock.
func (n *noting) committed(p *Partition, offset int64) {
	n.stuck.Store(true) // it does not wait for long
	n.mu.Lock()
	defer n.mu.Unlock()
	p.Committed(offset)
}

// ticks lets the keeper come so many times, each time after retryAfter.
func (n *noting) ticks(times int) {
	for range times {
		n.tick()
		n.clock = n.clock.Add(retryAfter)
	}
}

// fail has the next writes and syncs fail.
func (n *noting) fail(times int) {
	from := n.disk.Steps
	n.disk.Fault = func(step int) sim.Fault {
		if step < from+times {
			return sim.FailLost
		}
		return sim.None
	}
}

// again gives p away and takes it back.
func (n *noting) again(st Start) {
	n.p.Release()
	st.Committed = -1
	n.p = mustAssign(n.t, n.Store, testKey, st)
}

// file is what the next life finds after a power cut.
func (n *noting) file() string {
	n.t.Helper()
	s, err := recoverFrom(sim.New(nil, n.disk.Durable), "offsets", quiet())
	must(n.t, err)
	return savedText(n.t, s, testKey) + ", " + savedText(n.t, s, n.qKey)
}

// TestNoted: what was only noted is in the file after the next tick that can write, or after Close, whatever comes in between; and it holds
// for nobody but the assignment that noted it, or for none.
func TestNoted(t *testing.T) {
	type row struct {
		name string
		do   func(n *noting)
		want string
	}
	rows := []row{
		{"nothing before the tick", func(n *noting) { n.p.Advance(30); n.committed(n.q, 7) }, "10  -1 [], 0  -1 []"},
		{"a tick", func(n *noting) { n.p.Advance(30); n.ticks(1) }, "30  -1 [], 0  -1 []"},
		{"a commit", func(n *noting) { n.committed(n.q, 7); n.ticks(1) }, "10  -1 [], 0  7 []"},
		{"a commit that need not be noted writes both", func(n *noting) { n.p.Advance(30); n.p.Committed(10); n.disk.Durable = n.disk.Cache }, "30  10 [], 0  -1 []"},
		{"released before the tick", func(n *noting) { n.p.Advance(30); n.p.Release(); n.ticks(1) }, "30  -1 [], 0  -1 []"},
		{"noted by one that was released", func(n *noting) { n.p.Release(); n.p.Advance(30); n.committed(n.p, 7); n.ticks(1) }, "10  -1 [], 0  -1 []"},
		{"assigned again where it was", func(n *noting) { n.p.Advance(30); n.again(Start{Lineage: 1}); n.ticks(1) }, "10  -1 [], 0  -1 []"},
		{"assigned again, a commit stays", func(n *noting) { n.committed(n.p, 10); n.again(Start{Lineage: 1}); n.ticks(1) }, "10  10 [], 0  -1 []"},
		{"assigned again farther on", func(n *noting) { n.p.Advance(30); n.again(Start{Lineage: 1, Next: 20}); n.ticks(1) }, "20  -1 [], 0  -1 []"},
		{"assigned again behind it", func(n *noting) { n.p.Advance(30); n.again(Start{Lineage: 1, Next: 40}); n.ticks(1) }, "40  -1 [], 0  -1 []"},
		{"assigned again after the tick", func(n *noting) { n.p.Advance(30); n.p.Release(); n.ticks(1); n.again(Start{Lineage: 1, Next: 20}) }, "30  -1 [], 0  -1 []"},
		{"messages where there were none", func(n *noting) {
			n.p.Advance(30)
			n.again(Start{Lineage: 1})
			n.p.Fetched(25)
			must(n.t, n.p.Done(25))
			n.p.Committed(26)
			if n.ticks(1); !n.p.Fetched(27) {
				n.t.Error("a message is passed over, for what an assignment before has noted")
			}
		}, "26  26 [], 0  -1 []"},
		{"a new lineage", func(n *noting) {
			n.p.Advance(30)
			n.committed(n.p, 10)
			n.again(Start{Lineage: 2, Next: 5})
			n.ticks(1)
		}, "5  -1 [], 0  -1 []"},
		{"closed", func(n *noting) { n.p.Advance(30); n.committed(n.q, 7); must(n.t, n.Close()) }, "30  -1 [], 0  7 []"},
		{"closed after a failure", func(n *noting) {
			n.p.Advance(30)
			n.q.Advance(40)
			n.fail(1)
			n.ticks(1)
			must(n.t, n.Close())
		}, "30  -1 [], 40  -1 []"},
	}
	for fails := range 4 { // the write; then ways out of the failure
		rows = append(rows, row{fmt.Sprint("fails ", fails), func(n *noting) {
			n.p.Advance(30)
			n.q.Advance(40)
			n.committed(n.p, 10)
			n.committed(n.q, 7)
			n.fail(fails)
			if n.ticks(fails); fails > 0 && n.Err() == nil {
				n.t.Error("nothing has failed: this row shows nothing")
			}
			n.ticks(1)
		}, "30  10 [], 40  7 []"})
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			n := newNoting(t, nil)
			row.do(n)
			if got := n.file(); got != row.want {
				t.Errorf("in the file: %s, want %s", got, row.want)
			}
		})
	}
}

// TestNotedIsWrittenOnce: what is noted of one slot costs a write and a sync, and none of another's that was noted before.
func TestNotedIsWrittenOnce(t *testing.T) {
	n := newNoting(t, nil)
	for at, row := range []struct {
		note  func()
		steps int
	}{
		{func() { n.p.Advance(30) }, 2},
		{func() { n.q.Advance(40) }, 2},
		{func() { n.p.Advance(30) }, 0}, // it is there already
		{func() { n.committed(n.p, 30) }, 2},
		{func() {}, 0},
	} {
		before := n.disk.Steps
		row.note()
		if n.ticks(1); n.disk.Steps-before != row.steps {
			t.Errorf("%d: %d writes and syncs, want %d", at, n.disk.Steps-before, row.steps)
		}
	}
}

// TestCommittedDuringATurn: the half that is being written does not have it, and nobody waits for the disk; the next tick writes it.
func TestCommittedDuringATurn(t *testing.T) {
	for _, since := range []time.Duration{0, hangTime} {
		synctest.Test(t, func(t *testing.T) {
			d := &gated{}
			n := newNoting(t, func(inner disk) disk { d.disk = inner; return d })
			d.gate = make(chan struct{})
			turned := make(chan error, 1)
			go func() {
				n.mu.Lock()
				defer n.mu.Unlock()
				turned <- errors.Join(n.turn(), n.failed)
			}()
			time.Sleep(since)
			synctest.Wait()
			began := time.Now()
			n.p.Committed(10)
			if took, hangs := time.Since(began), errors.Is(n.Err(), ErrHangs); took > 0 || hangs != (since == hangTime) {
				t.Errorf("after %v: it took %v; the disk is said to hang: %t", since, took, hangs)
			}
			close(d.gate)
			must(t, <-turned)
			synctest.Wait()
			if got := n.file(); got != "10  -1 [], 0  -1 []" {
				t.Errorf("after %v, before the tick: %s", since, got)
			}
			n.ticks(1)
			if got := n.file(); got != "10  10 [], 0  -1 []" {
				t.Errorf("after %v, in the file: %s", since, got)
			}
		})
	}
}
