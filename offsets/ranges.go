package offsets

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// Range is the offsets From ≤ n < To.
type Range struct{ From, To int64 }

// Ranges is a set of offsets: ranges in ascending order that neither overlap nor touch.
type Ranges []Range

// String prints both ends of every range: "1-2,4-5", or "" for the empty set.
func (r Ranges) String() string {
	ends := make([]string, len(r))
	for i, x := range r {
		ends[i] = fmt.Sprintf("%d-%d", x.From, x.To-1)
	}
	return strings.Join(ends, ",")
}

// Contains says whether offset is in the set.
func (r Ranges) Contains(offset int64) bool {
	i := sort.Search(len(r), func(i int) bool { return r[i].To > offset })
	return i < len(r) && r[i].From <= offset
}

// Add returns the set with from ≤ n < to in it. It may reuse the memory of r.
func (r Ranges) Add(from, to int64) Ranges {
	if from >= to {
		return r
	}
	n := len(r)
	if n == 0 || r[n-1].To < from {
		return append(r, Range{from, to})
	}
	if r[n-1].From <= from {
		r[n-1].To = max(r[n-1].To, to)
		return r
	}
	i := sort.Search(n, func(i int) bool { return r[i].To >= from })
	j := i + sort.Search(n-i, func(j int) bool { return r[i+j].From > to })
	if i == j {
		return slices.Insert(r, i, Range{from, to})
	}
	r[i] = Range{min(from, r[i].From), max(to, r[j-1].To)}
	return slices.Delete(r, i+1, j)
}

// Union returns what is in either set, in memory of its own.
func (r Ranges) Union(o Ranges) Ranges {
	out := make(Ranges, 0, len(r)+len(o))
	for len(r) > 0 || len(o) > 0 {
		if len(r) == 0 || len(o) > 0 && o[0].From < r[0].From {
			r, o = o, r
		}
		out = out.Add(r[0].From, r[0].To)
		r = r[1:]
	}
	return out
}

// Below returns what lies below offset, in memory of its own.
func (r Ranges) Below(offset int64) (out Ranges) {
	for _, x := range r {
		out = out.Add(x.From, min(x.To, offset))
	}
	return out
}

// TrimBelow returns what lies at or above offset. It may change and reuse the memory of r.
func (r Ranges) TrimBelow(offset int64) Ranges {
	i := sort.Search(len(r), func(i int) bool { return r[i].To > offset })
	r = r[i:]
	if len(r) > 0 && r[0].From < offset {
		r[0].From = offset
	}
	return r
}
