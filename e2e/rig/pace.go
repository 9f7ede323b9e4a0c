package rig

import (
	"fmt"
	"slices"
	"time"
)

// Between returns the finished requests that began within [from, to), by their beginning.
func (s *Service) Between(from, to time.Time) []*Request {
	found := slices.DeleteFunc(s.Requests(), func(r *Request) bool { return r.Start.Before(from) || !r.Start.Before(to) })
	slices.SortStableFunc(found, func(a, b *Request) int { return a.Start.Compare(b.Start) })
	return found
}

// Completed is how many requests were answered with a whole 2xx within [from, to).
func (s *Service) Completed(from, to time.Time) (count int) {
	for _, r := range s.Requests() {
		if r.Done && !r.End.Before(from) && r.End.Before(to) {
			count++
		}
	}
	return count
}

// Hasty holds the requests that came to a host within [from, to) against an interval: each has to begin no earlier than that
// after the end of the one before. It also returns how many there were.
func (s *Service) Hasty(host string, from, to time.Time, interval time.Duration) (hasty []string, probes int) {
	var last *Request
	for _, r := range s.Between(from, to) {
		if !r.To(host) {
			continue
		}
		if probes++; last != nil && r.Start.Sub(last.End) < interval {
			hasty = append(hasty, fmt.Sprintf("%s, %v after the end of %s", r, r.Start.Sub(last.End).Round(time.Millisecond), last))
		}
		last = r
	}
	return hasty, probes
}
