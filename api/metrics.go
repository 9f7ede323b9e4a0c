package api

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/kpush/kpush/forwarder"
	"github.com/kpush/kpush/publisher"
)

// Measured is what the metrics tell of.
type Measured interface {
	Status() forwarder.Status // may wait for a volume that hangs
	Counts() forwarder.Counts
}

// Build is what is running.
type Build struct{ Version, Librdkafka string }

// Metrics answers GET /metrics, in the words of Prometheus: two snapshots, and nothing that is asked of Kafka or of the service.
// logDropped is how many lines of the log were left out. A label never holds what is a message's.
func Metrics(b Build, m Measured, p Publishing, logDropped func() int64) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(&collector{build: b, m: m, p: p, logDropped: logDropped, watch: watch[forwarder.Status]{what: "status", ask: m.Status}},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{DisableCompression: true}) // to compress takes a megabyte a scrape
}

// The kinds of metrics.
const (
	counter      = prometheus.CounterValue
	gauge        = prometheus.GaugeValue
	distribution = prometheus.UntypedValue // a histogram: nothing else is one
)

// families are all metrics: first what was counted since the start, then what is so now.
var families = []struct {
	name   string // without kpush_
	kind   prometheus.ValueType
	help   string
	labels string
}{
	{"messages_fetched_total", counter, "Messages that Kafka has brought.", "topic"},
	{"deliveries_total", counter, "Attempts, each message of a batch counted, by what they came to.", "topic outcome"},
	{"messages_done_total", counter, "Messages that have their outcome on record, by how.", "topic how"},
	{"delivery_duration_seconds", distribution, "How long one request took.", "topic"},
	{"end_to_end_seconds", distribution, "From a record's timestamp to its 2xx.", "topic"},
	{"slow_deliveries_total", counter, "Requests that took longer than KPUSH_SLOW_TIME.", "topic"},
	{"retries_total", counter, "Attempts that another one has to follow, by why.", "topic reason"},
	{"rebalances_total", counter, "Changes of this member's partitions by the group.", "kind"},
	{"commits_total", counter, "Commits, by what Kafka said.", "result"},
	{"commit_duration_seconds", distribution, "How long Kafka took for a commit.", ""},
	{"repeats_suppressed_total", counter, "Messages that came again and were not sent again, for they were done.", ""},
	{"in_doubt_total", counter, "Attempts at messages in doubt, which an earlier one may have delivered.", ""},
	{"rewinds_total", counter, "Starts below what was done or committed before, by who decided them.", "by"},
	{"offsets_lost_total", counter, "Offsets that were gone from Kafka without an outcome.", ""},
	{"file_sync_duration_seconds", distribution, "How long the volume took to have records on disk.", ""},
	{"file_errors_total", counter, "Writes and syncs of the offsets file that failed.", ""},
	{"log_dropped_total", counter, "Lines of the log that were left out: nobody read it, or it could not be written.", ""},
	{"publish_requests_total", counter, "Requests to the publish door, by the status of their answers.", "mode code"},
	{"publish_duration_seconds", distribution, "From a request to the publish door to its answer.", "mode"},
	{"publish_failed_total", counter, "Records that were queued and that Kafka has not acknowledged, by why.", "reason"},
	{"build_info", gauge, "What is running.", "version librdkafka"},
	{"publish_queue_messages", gauge, "Records that wait for Kafka's acknowledgement.", ""},
	{"publish_spool_messages", gauge, "Records on the volume that Kafka has not acknowledged yet.", ""},
	{"in_flight", gauge, "Requests under way.", ""},
	{"concurrency_limit", gauge, "Requests that may be under way at once.", ""},
	{"waiting_messages", gauge, "Messages in memory without an outcome that are not under way.", ""},
	{"waiting_bytes", gauge, "What messages in memory hold of KPUSH_BUFFER.", ""},
	{"failing_messages", gauge, "Messages that have failed and have no outcome.", ""},
	{"dead_letters_waiting", gauge, "Messages that were given up and are not in the dead letter topic yet.", ""},
	{"service_up", gauge, "Whether a host of the service is up.", "host"},
	{"stalled", gauge, "Partitions of which nothing has moved for a minute although there is something, by why.", "reason"},
	{"file_degraded", gauge, "Whether the volume takes no records, so that nothing is delivered.", ""},
	{"assigned_partitions", gauge, "Partitions that the group has given to this process.", ""},
	{"blocked_messages", gauge, "Messages that failed ten times or more.", "topic partition"},
	{"lag_messages", gauge, "Offsets from the oldest message without an outcome to the end.", "topic partition"},
	{"oldest_seconds", gauge, "How old the oldest message without an outcome is.", "topic partition"},
	{"offset", gauge, "Offsets: of the oldest message without an outcome, of the newest commit, of the end.", "topic partition kind"},
	{"paused", gauge, "Whether the partition is paused, and by whom.", "topic partition reason"},
}

// catalog are the families, for the library.
var catalog = func() map[string]described {
	all := make(map[string]described, len(families))
	for _, f := range families {
		all[f.name] = described{prometheus.NewDesc("kpush_"+f.name, f.help, strings.Fields(f.labels), nil), f.kind}
	}
	return all
}()

type described struct {
	*prometheus.Desc
	kind prometheus.ValueType
}

// collector makes metrics of snapshots, so that no series outlives what it is about.
type collector struct {
	build      Build
	m          Measured
	p          Publishing
	logDropped func() int64
	watch      watch[forwarder.Status]
}

func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range catalog {
		to <- d.Desc
	}
}

// Collect tells what is counted in any case, and how it is now where that can be known in statusTime.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	to := exposition(ch)
	to.put("build_info", 1, c.build.Version, c.build.Librdkafka)
	to.put("log_dropped_total", float64(c.logDropped()))
	counts := c.m.Counts()
	to.counts(counts)
	for topic, t := range counts.Topics {
		to.topic(topic, t)
	}
	if c.p != nil {
		to.published(c.p.Counts())
	}
	if _, only := c.m.(PublishOnly); only {
		return // a member without partitions is an alarm
	}
	if s, err := c.watch.now(context.Background()); err == nil { // file_degraded tells of a volume that hangs
		to.status(s)
		for _, p := range s.Partitions {
			to.partition(p)
		}
		to.blocked(s)
	}
}

// exposition is where metrics go.
type exposition chan<- prometheus.Metric

func (to exposition) put(name string, value float64, labels ...string) {
	to <- prometheus.MustNewConstMetric(catalog[name].Desc, catalog[name].kind, value, labels...)
}

func (to exposition) all(name string, by map[string]int64, labels ...string) {
	for word, n := range by {
		to.put(name, float64(n), append(labels[:len(labels):len(labels)], word)...)
	}
}

func (to exposition) histogram(name string, h forwarder.Histogram, labels ...string) {
	buckets := make(map[float64]uint64, len(h.Bounds))
	for i, bound := range h.Bounds {
		buckets[bound] = h.Counts[i]
	}
	to <- prometheus.MustNewConstHistogram(catalog[name].Desc, h.Count, h.Sum, buckets, labels...)
}

func (to exposition) published(c publisher.Counts) {
	for r, n := range c.Requests {
		to.put("publish_requests_total", float64(n), r.Mode, strconv.Itoa(r.Code))
	}
	for mode, h := range c.Duration {
		to.histogram("publish_duration_seconds", forwarder.Histogram(h), mode)
	}
	to.all("publish_failed_total", c.Failed)
	to.put("publish_queue_messages", float64(c.Queued))
	to.put("publish_spool_messages", float64(c.Spooled))
}

func (to exposition) counts(c forwarder.Counts) {
	to.all("rebalances_total", c.Rebalances)
	to.all("commits_total", c.Commits)
	to.all("rewinds_total", c.Rewinds)
	to.all("stalled", c.Stalled)
	to.histogram("commit_duration_seconds", c.CommitTime)
	to.histogram("file_sync_duration_seconds", c.SyncTime)
	to.put("repeats_suppressed_total", float64(c.Suppressed))
	to.put("in_doubt_total", float64(c.InDoubt))
	to.put("offsets_lost_total", float64(c.Lost))
	to.put("file_errors_total", float64(c.FileErrors))
	to.put("waiting_bytes", float64(c.WaitingBytes))
	to.put("file_degraded", flag(c.Degraded))
}

func (to exposition) topic(topic string, t forwarder.TopicCounts) {
	to.put("messages_fetched_total", float64(t.Fetched), topic)
	to.put("slow_deliveries_total", float64(t.Slow), topic)
	to.all("deliveries_total", t.Deliveries, topic)
	to.all("messages_done_total", t.Done, topic)
	to.all("retries_total", t.Retries, topic)
	to.histogram("delivery_duration_seconds", t.Attempt, topic)
	to.histogram("end_to_end_seconds", t.EndToEnd, topic)
}

func (to exposition) status(s forwarder.Status) {
	to.put("in_flight", float64(s.Service.InFlight))
	to.put("concurrency_limit", float64(s.Service.Limit))
	to.put("waiting_messages", float64(s.Service.Waiting))
	to.put("failing_messages", float64(s.Service.Failing))
	to.put("dead_letters_waiting", float64(s.Letters.Waiting))
	to.put("assigned_partitions", float64(len(s.Partitions)+len(s.Pending)))
	for i, name := range s.Service.Names {
		to.put("service_up", flag(s.Service.Hosts[i].Up), name)
	}
}

func (to exposition) partition(p forwarder.PartitionStatus) {
	topic, number := p.Topic, strconv.Itoa(int(p.Number))
	to.put("oldest_seconds", p.Oldest.Seconds(), topic, number)
	to.put("offset", float64(p.Next), topic, number, "next")
	if p.Committed >= 0 {
		to.put("offset", float64(p.Committed), topic, number, "committed")
	}
	if p.End >= 0 {
		behind, _ := p.Lag()
		to.put("offset", float64(p.End), topic, number, "end")
		to.put("lag_messages", float64(behind), topic, number)
	}
	by := map[string]int64{"operator": 0, "flow": 0}
	for _, reason := range p.Paused {
		by[reason] = 1
	}
	to.all("paused", by, topic, number)
}

func (to exposition) blocked(s forwarder.Status) {
	type partition = struct {
		topic  string
		number int32
	}
	count := map[partition]int{}
	for _, b := range s.Blocked {
		count[partition{b.Topic, b.Partition.Number}]++
	}
	for _, p := range s.Partitions {
		to.put("blocked_messages", float64(count[partition{p.Topic, p.Number}]), p.Topic, strconv.Itoa(int(p.Number)))
	}
}

func flag(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
