package faults

import (
	"fmt"
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// TestServiceDown: a service that answers nothing but 503 for a minute sees one request per retry interval, and the group
// stays as it is.
func TestServiceDown(t *testing.T) {
	t.Parallel()
	const partitions, interval = 8, time.Second
	length := time.Duration(times(60, 5)) * time.Second
	s := stage(t, "service down for a minute", setting{partitions: partitions, concurrency: 16, env: []string{"KPUSH_RETRY_INTERVAL=1s"}})
	s.flagBound = 0
	s.stock(200)
	s.sc.Start(t)
	s.svc.Await(t, 200, patience)
	members := s.k.Describe(t, s.topic).Members
	down := time.Now()
	s.svc.Rule(rig.Status(http.StatusServiceUnavailable))
	rig.Throughout(t, length, func() error {
		if now := s.k.Describe(t, s.topic); now.State != "Stable" || !maps.Equal(now.Members, members) {
			return fmt.Errorf("the group is %+v; its members were %v", now, members)
		}
		return nil
	})
	back := time.Now()
	s.svc.Rule(nil)
	next := s.svc.Next(t, back, patience)
	// It is down after three faults in a row. Where answers from before come between the first ones, the second attempts of those say nothing
	// new, and it is the third ones, two intervals later, that make it three.
	hasty, probes := s.svc.Hasty("127.0.0.1", down.Add(3*interval), back, interval)
	if len(hasty) > 0 || probes < int(length/interval)/2-1 {
		rig.Missed(t, "%d requests came in %v, the interval is %v: %q", probes, length, interval, hasty)
	}
	s.crashes++
	s.tell(fmt.Sprintf("%v: %d requests, interval %v; next delivery %v after it was back", length, probes, interval, next.Round(time.Millisecond)))
}
