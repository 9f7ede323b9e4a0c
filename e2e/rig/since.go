package rig

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

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

// Confirms opens a door that answers whether the service has a message, as KPUSH_CONFIRM_URL asks it: 200 or 404. It
// answers only once no request of that message is under way. It returns the door's URL, and how to count its answers.
func (s *Service) Confirms(t T) (url string, answers func() int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("The service cannot listen: %v", err)
	}
	var mu sync.Mutex
	asked := 0
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, h *http.Request) {
		mu.Lock()
		asked++
		mu.Unlock()
		has := false
		Until(5*time.Second, func() bool {
			var open bool
			has, open = s.has(h.URL.Query().Get("id"))
			return !open
		})
		if !has {
			w.WriteHeader(http.StatusNotFound)
		}
	})}
	go func() { _ = server.Serve(l) }() // ends with the test
	t.Cleanup(func() { _ = server.Close() })
	return fmt.Sprintf("http://%s/has", l.Addr()), func() int {
		mu.Lock()
		defer mu.Unlock()
		return asked
	}
}

func (s *Service) has(id string) (done, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range slices.Backward(s.requests) {
		if r.ID == id {
			done, open = done || r.Done, open || !r.complete
		}
	}
	return done, open
}

// WatchCommits looks at the group's commits again and again, also through faults of the broker, until the function that it
// returns is called; that says where a committed offset went back, and how often it looked.
func (k *Kafka) WatchCommits(t T, group, topic string) (stop func() (backward []string, looks int)) {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	var backward []string
	looks := 0
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		newest := map[int32]int64{}
		for ctx.Err() == nil {
			question, done := context.WithTimeout(ctx, 2*time.Second)
			fetched, err := k.client.admin.FetchOffsets(question, group)
			done()
			if err == nil && fetched.Error() == nil {
				looks++
				for _, p := range slices.Sorted(maps.Keys(fetched[topic])) {
					if at := fetched[topic][p].At; at < newest[p] {
						backward = append(backward, fmt.Sprintf("partition %d from %d to %d", p, newest[p], at))
					}
					newest[p] = max(newest[p], fetched[topic][p].At)
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() ([]string, int) {
		cancel()
		<-gone
		return backward, looks
	}
}

// Started says whether it was ever started.
func (sc *Sidecar) Started() bool { return sc.process != nil }
