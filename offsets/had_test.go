package offsets

import "testing"

// What was finished is remembered over rewinds, restarts and snapshots, for who asks: nothing is kept back for it, and what nobody has
// finished is not in it.
func TestHad(t *testing.T) {
	dir, o := t.TempDir(), quiet()
	s := mustOpen(t, dir, o)
	check := func(what, had, replay string) {
		t.Helper()
		for i := range 3 {
			if v, _ := s.Saved(testKey); v.Had.String() != had || v.Had.TrimBelow(v.Next).String() != replay {
				t.Errorf("%s, start %d: had %s, of it to come %s; want %s, %s", what, i, v.Had, v.Had.TrimBelow(v.Next), had, replay)
			}
			s = reopen(t, s, dir, "boot 0")
		}
	}
	rewind := func(next int64, lineage uint64) *Partition {
		v, _ := s.Saved(testKey)
		return mustAssign(t, s, testKey, Start{Next: next, Lineage: lineage, Committed: -1, Had: v.Had.Union(v.Done)})
	}
	work(t, rewind(10, 1), 30, 20, 25) // began at 10, as "latest" does; 20 and 25 fail
	check("first", "10-19", "")
	p := rewind(5, 2)
	for o := int64(5); o < 13; o++ {
		if !p.Fetched(o) {
			t.Errorf("%d is wanted again, and kept back", o)
		}
	}
	must(t, p.Done(5))
	check("rewound", "5-5,10-19,21-24,26-29", "10-19,21-24,26-29")
	work(t, mustAssign(t, s, testKey, again(t, s, testKey)), 25)
	check("gone on", "5-24,26-29", "26-29")
	rewind(40, 3)
	check("passed over", "5-24,26-29", "")
	rewind(0, 4)
	check("all of it", "5-24,26-29", "5-24,26-29")
	work(t, mustAssign(t, s, testKey, again(t, s, testKey)), 40)
	check("caught up", "0-39", "")
}
