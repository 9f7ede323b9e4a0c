// Package e2e tells what the built kpush does between a real Apache Kafka and a real HTTP service, in stories.
// It imports no room of the house: only what a user can see counts.
package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.Main(m)) }

// patience bounds waits whose length is not the point.
const patience = 2 * time.Minute

func kafka(t *testing.T) *rig.Kafka { t.Helper(); return rig.Shared(t) }

func service(t *testing.T, hosts ...string) *rig.Service {
	t.Helper()
	return rig.StartService(t, hosts...)
}

// mayRename leaves out a story of another machine where this one cannot be given another name.
func mayRename(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("another host name needs root, for unshare --uts")
	}
}

// sidecar starts kpush between the topic and the service; the group is named after the topic.
func sidecar(t *testing.T, k *rig.Kafka, topic string, svc *rig.Service, env ...string) *rig.Sidecar {
	t.Helper()
	return rig.StartSidecar(t, wiring(k, topic, svc, env...)...)
}

func wiring(k *rig.Kafka, topic string, svc *rig.Service, env ...string) []string {
	return append([]string{"KPUSH_BROKERS=" + k.Brokers, "KPUSH_TOPIC=" + topic, "KPUSH_GROUP=" + topic,
		fmt.Sprintf("KPUSH_PORT=%d", svc.Port), "KPUSH_RETRY_INTERVAL=50ms"}, env...)
}

// keyed makes count messages with keys, values and headers that are worth comparing.
func keyed(count int) []rig.Record {
	records := make([]rig.Record, count)
	for i := range records {
		records[i] = rig.Record{Partition: -1, Key: fmt.Appendf(nil, "customer-%d", i*7919%997),
			Value:   fmt.Appendf(nil, `{"order":%d,"note":"%s"}`, i, strings.Repeat("äöü ", i%20)),
			Headers: []rig.Header{{Name: "Trace-Id", Value: fmt.Appendf(nil, "%08x", i)}, {Name: "source", Value: []byte("e2e")}}}
		if i%50 == 0 { // something that does not fit Kafka-Key and Kafka-Header-*
			records[i].Key = []byte{0, byte(i), 0xff}
			records[i].Headers = append(records[i].Headers, rig.Header{Name: "not a token", Value: []byte("\x00\r\n")})
		}
	}
	return records
}

// committedIsEnd wants the group to have committed each partition's end.
func committedIsEnd(t *testing.T, k *rig.Kafka, topic string) {
	t.Helper()
	commits := k.Committed(t, topic, topic)
	for partition, end := range k.EndOffsets(t, topic) {
		if end > 0 && commits[partition].Offset != end {
			t.Errorf("Partition %d is committed up to %d after the stop, its end is %d.", partition, commits[partition].Offset, end)
		}
	}
}

// below reports when what began at a moment took longer than its bound.
func below(t *testing.T, what string, begin time.Time, took, bound time.Duration) {
	t.Helper()
	if allowed := allowed(begin, took, bound); took > allowed {
		rig.Missed(t, "%s took %v, the bound is %v, %v on a machine that was away at times.", what, took.Round(time.Millisecond), bound, allowed.Round(time.Millisecond))
	}
}

// allowed is a bound and what is added to it for the time that this machine was away: twice, because it may have hit both
// what is timed and what tells of it.
func allowed(begin time.Time, took, bound time.Duration) time.Duration {
	return bound + 2*rig.Late(begin, begin.Add(took))
}

// spread says p50 and max of some times.
func spread(times []time.Duration) string {
	if len(times) == 0 {
		return "no times"
	}
	sorted := slices.Sorted(slices.Values(times))
	return fmt.Sprintf("p50 %v, max %v", sorted[len(sorted)/2].Round(time.Millisecond), sorted[len(sorted)-1].Round(time.Millisecond))
}
