package offsets

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/kpush/kpush/volume/sim"
)

// ahead is a tracker with a window of n offsets: the lowest stays open, of the others every second is recorded.
func ahead(n int64) *tracker {
	t := &tracker{}
	for o := range n {
		t.fetched(o)
	}
	for o := int64(1); o < n; o += 2 {
		t.finish(o)
	}
	return t
}

// TestProgressIsCheap: what is handed over above the highest finished offset costs nothing, holes cost one allocation.
func TestProgressIsCheap(t *testing.T) {
	const n = 10_000
	tr := ahead(n)
	if got := tr.finished(recorded); len(got) != n/2 || got.Count() != n/2 || got[0] != (Range{1, 2}) {
		t.Errorf("%d ranges, %d offsets, from %v", len(got), got.Count(), got[0])
	}
	if got := testing.AllocsPerRun(10, func() { tr.finished(recorded) }); got > 1 {
		t.Errorf("%v allocations for %d holes", got, n/2)
	}
	var queue tracker
	for o := range int64(n) {
		queue.fetched(o)
	}
	if got := testing.AllocsPerRun(10, func() { queue.finished(recorded) }); got > 0 || queue.top != 0 {
		t.Errorf("%v allocations where nothing is finished, top %d", got, queue.top)
	}
}

// TestFindWithHoles: where offsets are missing, rows are found all the same, and what is missing is not.
func TestFindWithHoles(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	var tr tracker
	have := make(map[int64]bool)
	for o := int64(7); len(have) < 500; o += 1 + int64(rng.IntN(2)*rng.IntN(1000)) {
		tr.fetched(o)
		have[o] = true
	}
	for o := int64(-3); o < tr.position+3; o++ {
		if r := tr.find(o); (r != nil) != have[o] || r != nil && r.offset != o {
			t.Fatalf("find(%d): %+v, want %v", o, r, have[o])
		}
	}
}

// TestSnapshotOfWindows: 8 partitions, each with 10,000 offsets that are recorded or tried by turns, fit into a half; too many
// of them are refused in a sentence, and nothing of the file changes.
func TestSnapshotOfWindows(t *testing.T) {
	for _, row := range []struct {
		half int64
		fits bool
	}{{defaultHalf, true}, {1 << 20, false}} {
		t.Run(fmt.Sprint(row.half), func(t *testing.T) {
			o := quiet()
			o.half, o.Sync = row.half, Sync{Window: -1}
			first, size := newFile(o)
			d := sim.New(nil, append(first, make([]byte, int(size)-len(first))...))
			d.Never = true
			s, err := recoverFrom(d, "offsets", o)
			must(t, err)
			var err2 error
			k := testKey
			var parts []*Partition
			for k.Partition = range int32(8) { // k is the last one
				parts = append(parts, mustAssign(t, s, k, Start{Lineage: 1, Committed: -1}))
			}
			for _, p := range parts {
				for n := range int64(10_000) {
					p.Fetched(n)
					if n%2 == 0 {
						err2 = p.Intent(Attempt{Offset: n, Number: 1})
					} else {
						err2 = p.Done(n)
					}
					if err2 != nil {
						break
					}
				}
				if err2 != nil {
					break
				}
			}
			s.mu.Lock()
			frames := len(s.table.frames())
			s.mu.Unlock()
			t.Logf("%d frames of %d", frames, s.journal.header.capacity())
			if !row.fits {
				if err2 == nil {
					t.Fatal("it fits")
				}
				wantText(t, err2.Error(), "what has to be remembered takes", "frames of the 32752 that a half holds")
				return
			}
			must(t, err2)
			s.mu.Lock()
			s.turn()
			s.mu.Unlock()
			must(t, s.Err())
			m, err := parse(slices.Clone(d.Cache), "offsets")
			must(t, err)
			if v := m.current[k].saved(); v.Done.Count() != 5000 || len(v.Attempts) != 5000 || v.Next != 0 {
				t.Errorf("next %d, %d done, %d tried", v.Next, v.Done.Count(), len(v.Attempts))
			}
		})
	}
}
