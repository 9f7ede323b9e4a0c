package offsets

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// A row is a story: fN fetched and to be delivered, xN fetched and filtered, dN done, aN advanced; then next, done, outstanding.
func TestTrackerRows(t *testing.T) {
	for _, row := range []struct {
		name, start, story, want string
	}{
		{"nothing", "0", "", "0 [] 0"},
		{"in order", "0", "f0 d0 f1 d1 f2 d2", "3 [] 0"},
		{"one open", "0", "f0 f1 d0", "1 [] 1"},
		{"out of order", "0", "f0 f1 f2 f3 d2 d1", "0 [1-2] 2"},
		{"out of order, closed", "0", "f0 f1 f2 d2 d1 d0", "3 [] 0"},
		{"two gaps", "0", "f0 f1 f2 f3 f4 f5 d1 d2 d4 d5", "0 [1-2,4-5] 2"},
		{"start in the middle", "1000", "f1000 f1001 d1000", "1001 [] 1"},
		{"a hole before the first", "5", "f9", "9 [] 1"},
		{"a hole below the lowest outstanding", "0", "f0 d0 f7", "7 [] 1"},
		{"holes between are finished with their message", "0", "f0 f5 f9 d5 d9", "0 [1-9] 1"},
		{"holes below an open one are not", "0", "f0 f5 f9 d9", "0 [6-9] 2"},
		{"a hole of a thousand million", "0", "f0 d0 f4000000000 d4000000000", "4000000001 [] 0"},
		{"done twice", "0", "f0 d0 d0 f1", "1 [] 1"},
		{"advance over markers", "0", "f0 d0 a3", "3 [] 0"},
		{"advance with something outstanding", "0", "f0 f1 d1 a5", "0 [1-1] 1"},
		{"advance backwards", "7", "a5", "7 [] 0"},
		{"after an advance", "0", "a4 f4 d4 f5", "5 [] 1"},
		{"filtered", "0 1-2", "f0 x1 x2 f3 d0", "3 [] 1"},
		{"filtered, still open below", "0 1-2", "f0 x1 x2 f3 d3", "0 [1-3] 1"},
		{"finished before it was fetched", "0 5-9", "f0 d0", "1 [5-9] 0"},
		{"finished and compacted away since", "0 5-9", "f0 d0 f12", "12 [] 1"},
		{"finished at the start", "3 3-4", "", "5 [] 0"},
		{"finished at the watermark", "0 1-3", "f0 d0", "4 [] 0"},
		{"behind the position", "0 1-3", "f0 d0 x2 f4", "4 [] 1"},
		{"finished across the start", "5 2-8", "", "9 [] 0"},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := startTracker(row.start)
			for _, step := range strings.Fields(row.story) {
				var o int64
				fmt.Sscan(step[1:], &o)
				switch step[0] {
				case 'f', 'x':
					if got := p.fetched(o); got != (step[0] == 'f') {
						t.Fatalf("fetched %d: deliver = %v", o, got)
					}
				case 'd':
					p.finish(o)
				case 'a':
					p.advance(o)
				}
			}
			got := fmt.Sprintf("%d [%s] %d", p.next, p.finished(recorded), p.waiting)
			if got != row.want {
				t.Errorf("%s: got %s, want %s", row.story, got, row.want)
			}
		})
	}
}

func startTracker(start string) *tracker {
	t := &tracker{}
	fields := strings.Fields(start)
	fmt.Sscan(fields[0], &t.next)
	for _, f := range fields[1:] {
		var from, to int64
		fmt.Sscanf(f, "%d-%d", &from, &to)
		t.done = t.done.Add(from, to+1)
	}
	t.absorb()
	t.start()
	return t
}

// TestTrackerModel: F2 in random orders over a log with holes, through releases and new assignments.
func TestTrackerModel(t *testing.T) {
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 2))
		var log []int64 // the offsets that exist
		for o := int64(rng.IntN(5)); len(log) < 300; o += 1 + int64(rng.IntN(2))*int64(rng.IntN(9)) {
			log = append(log, o)
		}
		end := log[len(log)-1] + 1
		done := make(map[int64]bool)
		tr := startTracker("0")
		read := 0 // index into log of what the consumer hands over next
		var open []int64
		for len(done) < len(log) {
			switch n := rng.IntN(40); {
			case n == 0:
				tr.release()
				tr.start()
				open = nil
				read = slices.IndexFunc(log, func(o int64) bool { return o >= tr.next })
			case n < 20 && read >= 0 && read < len(log):
				if o := log[read]; tr.fetched(o) {
					open = append(open, o)
					if done[o] {
						t.Fatalf("seed %d: %d is done and is delivered again", seed, o)
					}
				} else if !done[o] {
					t.Fatalf("seed %d: %d is not done and was filtered", seed, o)
				}
				read++
			case len(open) > 0:
				i := rng.IntN(len(open))
				done[open[i]] = true
				tr.finish(open[i])
				open = slices.Delete(open, i, i+1)
			}
			if tr.waiting != len(open) {
				t.Fatalf("seed %d: %d outstanding, want %d", seed, tr.waiting, len(open))
			}
			above := tr.finished(recorded)
			for _, o := range log {
				if (o < tr.next || above.Contains(o)) != done[o] {
					t.Fatalf("seed %d: offset %d: next %d, above %s, done %v", seed, o, tr.next, above, done[o])
				}
			}
		}
		if tr.next != end {
			t.Fatalf("seed %d: next %d at the end, want %d", seed, tr.next, end)
		}
	}
}

// TestRanges compares the set with a plain map.
func TestRanges(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 3))
		var r, other Ranges
		want := make(map[int64]bool)
		for range 30 {
			from := int64(rng.IntN(80))
			to := from + int64(rng.IntN(9)) - 1
			if rng.IntN(3) == 0 {
				other = other.Add(from, to)
			} else {
				r = r.Add(from, to)
			}
			for o := from; o < to; o++ {
				want[o] = true
			}
		}
		r = r.Union(other)
		below := int64(rng.IntN(30))
		r = r.TrimBelow(below)
		for i, x := range r {
			if x.From >= x.To || i > 0 && r[i-1].To >= x.From {
				t.Fatalf("seed %d: not a sorted set: %s", seed, r)
			}
		}
		count := int64(0)
		for o := int64(-1); o < 100; o++ {
			if in := want[o] && o >= below; r.Contains(o) != in {
				t.Fatalf("seed %d: %d in %s: want %v", seed, o, r, in)
			} else if in {
				count++
			}
		}
		if r.Count() != count {
			t.Fatalf("seed %d: %s counts %d, want %d", seed, r, r.Count(), count)
		}
	}
	if got := (Ranges{{1, 3}, {4, 6}}).String(); got != "1-2,4-5" {
		t.Errorf("got %q", got)
	}
}

// TestDoneFrames: a packed set unpacks to itself, in few frames.
func TestDoneFrames(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 4))
		var r Ranges
		for at := int64(rng.IntN(100)); len(r) < 40; {
			to := at + 1 + int64(rng.IntN([]int{2, 100, 300}[rng.IntN(3)]))
			r = r.Add(at, to)
			at = to + 1 + int64(rng.IntN([]int{2, 70}[rng.IntN(2)]))
		}
		frames := setFrames(nil, 1, r, finishedKind, bitsKind)
		rd := reader{slots: make(map[uint32]*found)}
		for _, f := range frames {
			rd.take(f)
		}
		if got := rd.slots[1].done; !slices.Equal(got, r) || len(frames) > len(r) {
			t.Fatalf("seed %d: %s became %s in %d frames", seed, r, got, len(frames))
		}
	}
}

// TestRowsAreGivenBack: a partition that once had many messages in memory keeps little room for them when all are recorded.
func TestRowsAreGivenBack(t *testing.T) {
	var k tracker
	k.start()
	for _, row := range []struct{ messages, most int }{{50_000, 0}, {rowsKept / 2, rowsKept}} {
		from := k.position
		for o := range int64(row.messages) {
			k.fetched(from + o)
		}
		for o := range int64(row.messages) {
			if cap(k.rows) == 0 {
				t.Fatalf("no room while %d messages are outstanding", k.waiting)
			}
			k.finish(from + o)
		}
		if k.next != from+int64(row.messages) || k.waiting != 0 || cap(k.rows) > row.most {
			t.Errorf("after %d messages: next %d, %d waiting, room for %d more, want at most %d", row.messages, k.next, k.waiting, cap(k.rows), row.most)
		}
	}
	if cap(k.rows) == 0 {
		t.Error("a partition with few messages at a time has to find new room for each")
	}
}

func TestInDoubtOfAStart(t *testing.T) {
	attempts := []Attempt{{Offset: 9, InDoubt: true}, {Offset: 12, InDoubt: true}, {Offset: 13}, {Offset: 15, InDoubt: true}, {Offset: 40, InDoubt: true}}
	for _, row := range []struct {
		start Start
		want  int64
	}{
		{Start{Next: 10}, 0},
		{Start{Next: 10, Ceiling: 5}, 0},
		{Start{Next: 10, Ceiling: 14}, 4},
		{Start{Next: 10, Ceiling: 1000}, 10}, // no more than there are
		{Start{Next: 10, Ceiling: 14, Done: Ranges{{11, 12}, {13, 30}}}, 2},
		{Start{Next: 10, Attempts: attempts, Done: Ranges{{15, 16}}}, 2 - 1}, // 12
		{Start{Next: 10, Ceiling: 14, Attempts: attempts}, 4 + 1},
	} {
		if got := row.start.InDoubt(20); got != row.want {
			t.Errorf("%+v: %d, want %d", row.start, got, row.want)
		}
	}
}
