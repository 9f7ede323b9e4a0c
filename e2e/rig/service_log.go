package rig

import (
	"slices"
	"time"
)

// Requests returns the finished requests in the order of their arrival.
func (s *Service) Requests() []*Request {
	return s.After(0)
}

// After returns those of Requests that came after so many Attempts.
func (s *Service) After(attempts int) []*Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	var finished []*Request
	for _, r := range s.requests[attempts:] {
		if r.complete {
			finished = append(finished, r)
		}
	}
	return finished
}

// Delivered is how many different messages it has answered with a completed 2xx.
func (s *Service) Delivered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.done)
}

// DeliveredIn is how many of them are of a partition, over all topics.
func (s *Service) DeliveredIn(partition int32) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doneIn[partition]
}

// Repeats is how many requests have arrived for messages that it had answered with a completed 2xx.
func (s *Service) Repeats() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.repeats
}

// Attempts is how many requests have arrived.
func (s *Service) Attempts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

// InFlight is how many requests are being answered now.
func (s *Service) InFlight() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.load.now
}

func (s *Service) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open == 0
}

// Load returns the requests in flight since the last call, averaged over time, and their maximum.
func (s *Service) Load() (average float64, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.load.change(0, now)
	average, most = float64(s.load.area)/float64(max(1, now.Sub(s.load.begin))), s.load.max
	s.load = load{now: s.load.now, max: s.load.now, begin: now, last: now}
	return average, most
}

// Await waits until count different messages are delivered.
func (s *Service) Await(t T, count int, limit time.Duration) time.Duration {
	t.Helper()
	begin := time.Now()
	took, ok := Until(limit, func() bool { return s.Delivered() >= count })
	if !ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		t.Fatalf("Only %d of %d messages were delivered within %v, in which the machine was away for %v; by partition: %v.",
			len(s.done), count, limit, Late(begin, time.Now()).Round(time.Millisecond), s.doneIn)
	}
	return took
}

// Next waits for the first delivery completed after the moment and returns how long after it that was.
func (s *Service) Next(t T, since time.Time, limit time.Duration) time.Duration {
	t.Helper()
	var found time.Time
	Within(t, limit, "the next delivery", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i := len(s.requests) - 1; i >= 0; i-- {
			r := s.requests[i]
			if r.Start.Before(since) {
				break
			}
			if r.Done {
				found = r.End
			}
		}
		return !found.IsZero()
	})
	return found.Sub(since)
}

// Since returns the finished requests that began after the moment, the latest first.
func (s *Service) Since(moment time.Time) []*Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*Request
	for i := len(s.requests) - 1; i >= 0 && s.requests[i].Start.After(moment); i-- {
		if s.requests[i].complete {
			found = append(found, s.requests[i])
		}
	}
	return found
}

// Seen are the partitions of the finished requests that began after the moment; of those with one of the paths, where any is given.
func (s *Service) Seen(since time.Time, paths ...string) map[int32]bool {
	seen := map[int32]bool{}
	for _, r := range s.Since(since) {
		if len(paths) == 0 || slices.Contains(paths, r.Path) {
			seen[r.Partition] = true
		}
	}
	return seen
}
