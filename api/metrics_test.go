package api

import (
	"bufio"
	"io"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/kpush/kpush/forwarder"
)

// measured is a forwarder that says what it holds.
type measured struct {
	status forwarder.Status
	counts forwarder.Counts
	hangs  atomic.Pointer[chan struct{}] // the volume, until it is closed
}

func (m *measured) Status() forwarder.Status {
	if hangs := m.hangs.Load(); hangs != nil {
		<-*hangs
	}
	return m.status
}

func (m *measured) Counts() forwarder.Counts { return m.counts }

// counted has everything that can be told.
func counted() *measured {
	spread := forwarder.Histogram{Bounds: []float64{0.1, 1}, Counts: []uint64{3, 5}, Count: 6, Sum: 7.5}
	m := &measured{}
	m.counts = forwarder.Counts{
		Topics: map[string]forwarder.TopicCounts{"orders": {Fetched: 100, Slow: 2, Deliveries: map[string]int64{"delivered": 90, "busy": 4}, Done: map[string]int64{"delivered": 90, "skipped": 1},
			Retries: map[string]int64{"busy": 4}, Attempt: spread, EndToEnd: spread}},
		Rebalances: map[string]int64{"assigned": 3, "lost": 1}, Commits: map[string]int64{"ok": 9, "failed": 1}, Rewinds: map[string]int64{"operator": 1},
		Stalled: map[string]int64{"service": 1, "unknown": 0}, CommitTime: spread, SyncTime: spread, Suppressed: 5, InDoubt: 6, Lost: 7, FileErrors: 8, WaitingBytes: 4096, Degraded: true,
	}
	one := forwarder.PartitionStatus{Next: 1042, Committed: 1040, End: 1100, High: 1100, Done: 8, Oldest: 1500 * time.Millisecond, Failing: 2, Paused: []string{"operator"}}
	one.Topic, one.Number = "orders", 3
	fresh := forwarder.PartitionStatus{Next: 7, Committed: -1, End: -1, High: -1}
	fresh.Topic, fresh.Number = "orders", 4
	var stuck forwarder.BlockedStatus
	stuck.Topic, stuck.Partition.Number, stuck.Key, stuck.Reason = "orders", 3, []byte("customer-17"), "the service answered 500"
	m.status = forwarder.Status{Partitions: []forwarder.PartitionStatus{one, fresh}, Pending: make([]forwarder.PendingStatus, 1), Blocked: []forwarder.BlockedStatus{stuck}}
	m.status.Service.InFlight, m.status.Service.Limit, m.status.Service.Waiting, m.status.Service.Failing = 3, 16, 57, 2
	m.status.Letters.Waiting = 1
	m.status.Service.Names = []string{"10.0.0.5", "unix:/run/app.sock"}
	m.status.Service.Hosts = slices.Grow(m.status.Service.Hosts, 2)[:2]
	m.status.Service.Hosts[0].Up = true
	return m
}

// scrape is what GET /metrics says.
func scrape(t *testing.T, m *measured) string {
	t.Helper()
	w := httptest.NewRecorder()
	Metrics(Build{"1.2.3", "2.15.0"}, m, published{}, func() int64 { return 11 }).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// series are the names in an exposition with the labels that each has.
func series(text string) map[string]string {
	out := map[string]string{}
	label := regexp.MustCompile(`(\w+)="`)
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		if !strings.HasPrefix(line, "kpush_") {
			continue
		}
		end := strings.IndexAny(line, "{ ")
		var labels []string
		for _, m := range label.FindAllStringSubmatch(line[end:], -1) {
			labels = append(labels, m[1])
		}
		slices.Sort(labels)
		out[line[:end]] = strings.Join(labels, " ")
	}
	return out
}

// The names and labels are those of the contract, no more and no less. Labels in their order of the alphabet.
func TestMetricNames(t *testing.T) {
	want := map[string]string{
		"build_info": "librdkafka version", "messages_fetched_total": "topic", "deliveries_total": "outcome topic", "messages_done_total": "how topic",
		"delivery_duration_seconds": "topic histogram", "end_to_end_seconds": "topic histogram", "slow_deliveries_total": "topic", "retries_total": "reason topic",
		"in_flight": "", "concurrency_limit": "", "waiting_messages": "", "waiting_bytes": "", "failing_messages": "", "dead_letters_waiting": "", "blocked_messages": "partition topic", "service_up": "host",
		"stalled": "reason", "lag_messages": "partition topic", "oldest_seconds": "partition topic", "offset": "kind partition topic", "paused": "partition reason topic",
		"assigned_partitions": "", "rebalances_total": "kind", "commits_total": "result", "commit_duration_seconds": "histogram", "repeats_suppressed_total": "", "in_doubt_total": "",
		"publish_requests_total": "code mode", "publish_duration_seconds": "mode histogram", "publish_failed_total": "reason", "publish_queue_messages": "", "publish_spool_messages": "",
		"rewinds_total": "by", "offsets_lost_total": "", "file_sync_duration_seconds": "histogram", "file_errors_total": "", "file_degraded": "", "log_dropped_total": "",
	}
	got := series(scrape(t, counted()))
	for name, labels := range want {
		name = "kpush_" + name
		if rest, ok := strings.CutSuffix(labels, "histogram"); ok {
			rest = strings.TrimSpace(rest)
			if got[name+"_bucket"] != strings.TrimSpace("le "+rest) || got[name+"_sum"] != rest || got[name+"_count"] != rest {
				t.Errorf("%s is no histogram by [%s]: %v", name, rest, got)
			}
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				delete(got, name+suffix)
			}
			continue
		}
		if found, ok := got[name]; !ok || found != labels {
			t.Errorf("%s has labels [%s], want [%s], there: %t", name, found, labels, ok)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("not in the contract: %v", got)
	}
	problems, err := promlint.New(strings.NewReader(scrape(t, counted()))).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint says %v, %v", problems, err)
	}
}

// What the snapshots hold is what is told.
func TestMetricValues(t *testing.T) {
	text := scrape(t, counted())
	for line := range strings.Lines(`
kpush_build_info{librdkafka="2.15.0",version="1.2.3"} 1
kpush_log_dropped_total 11
kpush_messages_fetched_total{topic="orders"} 100
kpush_deliveries_total{outcome="busy",topic="orders"} 4
kpush_messages_done_total{how="skipped",topic="orders"} 1
kpush_retries_total{reason="busy",topic="orders"} 4
kpush_slow_deliveries_total{topic="orders"} 2
kpush_delivery_duration_seconds_bucket{topic="orders",le="0.1"} 3
kpush_delivery_duration_seconds_bucket{topic="orders",le="+Inf"} 6
kpush_end_to_end_seconds_sum{topic="orders"} 7.5
kpush_commit_duration_seconds_count 6
kpush_file_sync_duration_seconds_bucket{le="1"} 5
kpush_rebalances_total{kind="lost"} 1
kpush_commits_total{result="failed"} 1
kpush_rewinds_total{by="operator"} 1
kpush_stalled{reason="service"} 1
kpush_stalled{reason="unknown"} 0
kpush_repeats_suppressed_total 5
kpush_in_doubt_total 6
kpush_offsets_lost_total 7
kpush_file_errors_total 8
kpush_file_degraded 1
kpush_waiting_bytes 4096
kpush_publish_requests_total{code="202",mode="async"} 8
kpush_publish_duration_seconds_bucket{mode="async",le="0.1"} 3
kpush_publish_failed_total{reason="no_broker"} 2
kpush_publish_queue_messages 4
kpush_publish_spool_messages 9
kpush_waiting_messages 57
kpush_in_flight 3
kpush_concurrency_limit 16
kpush_failing_messages 2
kpush_dead_letters_waiting 1
kpush_assigned_partitions 3
kpush_service_up{host="10.0.0.5"} 1
kpush_service_up{host="unix:/run/app.sock"} 0
kpush_blocked_messages{partition="3",topic="orders"} 1
kpush_blocked_messages{partition="4",topic="orders"} 0
kpush_lag_messages{partition="3",topic="orders"} 58
kpush_oldest_seconds{partition="3",topic="orders"} 1.5
kpush_oldest_seconds{partition="4",topic="orders"} 0
kpush_offset{kind="next",partition="3",topic="orders"} 1042
kpush_offset{kind="committed",partition="3",topic="orders"} 1040
kpush_offset{kind="end",partition="3",topic="orders"} 1100
kpush_offset{kind="next",partition="4",topic="orders"} 7
kpush_paused{partition="3",reason="operator",topic="orders"} 1
kpush_paused{partition="3",reason="flow",topic="orders"} 0
`) {
		if !strings.Contains(text, line) {
			t.Errorf("it does not say %s", line)
		}
	}
	for _, not := range []string{`kind="end",partition="4"`, `kind="committed",partition="4"`, `kpush_lag_messages{partition="4"`, "customer-17", "answered 500"} {
		if strings.Contains(text, not) {
			t.Errorf("it says %s", not)
		}
	}
}

// No series outlives its partition; counters stay.
func TestRevokedPartitionsHaveNoSeries(t *testing.T) {
	m := counted()
	m.status.Partitions, m.status.Pending, m.status.Blocked = nil, nil, nil
	text := scrape(t, m)
	if strings.Contains(text, "partition=") || !strings.Contains(text, `kpush_messages_fetched_total{topic="orders"} 100`) || !strings.Contains(text, "kpush_assigned_partitions 0") {
		t.Error(text)
	}
}

// A volume that hangs holds up no scrape for long, however many there are, and is told of.
func TestMetricsWaitForNoVolume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := counted()
		hangs := make(chan struct{})
		m.hangs.Store(&hangs)
		h := Metrics(Build{}, m, nil, func() int64 { return 0 })
		get := func() string {
			w := httptest.NewRecorder()
			begun := time.Now()
			h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
			if took := time.Since(begun); took > statusTime {
				t.Errorf("a scrape took %s", took)
			}
			return w.Body.String()
		}
		for range 3 {
			if text := get(); !strings.Contains(text, "kpush_file_degraded 1") || strings.Contains(text, "kpush_in_flight ") {
				t.Error(text)
			}
		}
		m.hangs.Store(nil)
		close(hangs)
		synctest.Wait()
		if text := get(); !strings.Contains(text, "kpush_in_flight 3") {
			t.Error(text)
		}
	})
}

// BenchmarkScrape is what a scrape costs with 100 partitions.
func BenchmarkScrape(b *testing.B) {
	m := counted()
	for n := range int32(100) {
		p := m.status.Partitions[0]
		p.Number = n + 10
		m.status.Partitions = append(m.status.Partitions, p)
	}
	h := Metrics(Build{"1", "2"}, m, published{}, func() int64 { return 0 })
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		_, _ = io.Copy(io.Discard, w.Body)
	}
}
