package rig

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
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

// CommitHistory returns every offset that the group has committed for a topic, in the order of Kafka's own log: what a
// coordinator answers may be behind that for a moment after it has moved.
func (k *Kafka) CommitHistory(t T, group, topic string) map[int32][]int64 {
	t.Helper()
	const internal = "__consumer_offsets"
	ctx, cancel := limited()
	defer cancel()
	ends, at, left := k.EndOffsets(t, internal), map[int32]kgo.Offset{}, 0
	for p, end := range ends {
		if at[p] = kgo.NewOffset().AtStart(); end > 0 {
			left++
		}
	}
	reader, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(k.Brokers, ",")...), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.KeepControlRecords(), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{internal: at}))
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer reader.Close()
	history := map[int32][]int64{}
	for left > 0 {
		fetched := reader.PollFetches(ctx)
		if err := fetched.Err(); err != nil {
			t.Fatalf("%s cannot be read: %v", internal, err)
		}
		fetched.EachRecord(func(r *kgo.Record) {
			if r.Offset == ends[r.Partition]-1 {
				left--
			}
			key, value := kmsg.NewOffsetCommitKey(), kmsg.NewOffsetCommitValue()
			if len(r.Key) < 2 || r.Key[0] != 0 || r.Key[1] > 1 || key.ReadFrom(r.Key) != nil || value.ReadFrom(r.Value) != nil {
				return // of a group's membership, or a deletion
			}
			if key.Group == group && key.Topic == topic {
				history[key.Partition] = append(history[key.Partition], value.Offset)
			}
		})
	}
	return history
}

// Started says whether it was ever started.
func (sc *Sidecar) Started() bool { return sc.process != nil }
