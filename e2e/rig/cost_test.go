package rig

import (
	"slices"
	"testing"
	"time"
)

// TestCosts: each line is one life of the sidecar, with the offsets that it sent.
func TestCosts(t *testing.T) {
	type sent struct {
		offset        int64
		doubt, failed bool
	}
	for name, c := range map[string]struct {
		lives [][]sent
		want  []Cost // the last one is of no kill
	}{
		"nothing":               {[][]sent{{{offset: 0}}, {{offset: 1}}}, []Cost{{}, {}}},
		"repeated":              {[][]sent{{{offset: 0}}, {{offset: 0, doubt: true}, {offset: 1}}}, []Cost{{1, 1}, {}}},
		"repeated a life later": {[][]sent{{{offset: 0}, {offset: 1}}, {{offset: 0, doubt: true}}, {{offset: 1, doubt: true}}}, []Cost{{2, 2}, {}, {}}},
		"twice":                 {[][]sent{{{offset: 0}}, {{offset: 0, doubt: true}}, {{offset: 0, doubt: true}}}, []Cost{{1, 1}, {1, 1}, {}}},
		"counted once":          {[][]sent{{{offset: 0}}, {{offset: 0, doubt: true, failed: true}, {offset: 0, doubt: true}}}, []Cost{{1, 1}, {}}},
		"in doubt, not done":    {[][]sent{{{offset: 0, failed: true}}, {{offset: 0, doubt: true}}}, []Cost{{0, 1}, {}}},
		"in vain":               {[][]sent{{{offset: 0}}, {{offset: 1, doubt: true}}}, []Cost{{0, 1}, {}}},
		"without a kill":        {[][]sent{{{offset: 0}, {offset: 0}}, {{offset: 1}, {offset: 1}}}, []Cost{{}, {2, 0}}},
		"in vain without one":   {[][]sent{{{offset: 0, doubt: true}}, {}}, []Cost{{}, {0, 1}}},
		"a timeout's doubt":     {[][]sent{{{offset: 0, failed: true}, {offset: 0, doubt: true}}}, []Cost{{0, 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			s, now := &Service{}, time.Now()
			var killed []time.Time
			for life, requests := range c.lives {
				if life > 0 {
					killed = append(killed, now)
				}
				for _, r := range requests {
					now = now.Add(time.Millisecond)
					s.requests = append(s.requests, &Request{Offset: r.offset, InDoubt: r.doubt, Done: !r.failed, Start: now, complete: true})
				}
				now = now.Add(time.Millisecond)
			}
			if got := s.Costs(killed); !slices.Equal(got, c.want) {
				t.Errorf("The costs are %v, want %v.", got, c.want)
			}
		})
	}
}
