package librdkafka

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kpush/kpush/kafka"
)

// Properties are librdkafka's settings where c.Properties does not say otherwise, under a bound of c.Buffer bytes. The queue of
// librdkafka and what is on its way from the broker get half of the bound, messages waiting in lanes the other half.
// fetch.queue.backoff.ms belongs to the queue's size: its default of a second would throttle a small queue to about a thousand
// messages a second. max.partition.fetch.bytes bounds the run of one partition, so that the other lanes do not idle.
// fetch.wait.max.ms is left at its 500: so late a partition can join a fetch that waits, after a rebalance or a pause, and each fetch
// is work for nothing where nothing comes. check.crcs: what was damaged is not delivered. Of a buffer beyond 8 GiB librdkafka gets as
// much as it can count.
func Properties(c Config) map[string]any {
	buffer := c.Buffer
	return map[string]any{
		"partition.assignment.strategy":      kafka.Assignor,
		"enable.auto.commit":                 false,
		"enable.auto.offset.store":           false,
		"auto.offset.reset":                  "error",
		"session.timeout.ms":                 sessionTimeout,
		"heartbeat.interval.ms":              1000,
		"max.poll.interval.ms":               int(PollInterval(c) / time.Millisecond),
		"queued.min.messages":                2000,
		"queued.max.messages.kbytes":         int(min(2_097_151, max(256, buffer/4/1024))),
		"fetch.queue.backoff.ms":             10,
		"fetch.max.bytes":                    int(fetchMost(buffer)),
		"message.max.bytes":                  int(fetchMost(buffer)), // or librdkafka raises fetch.max.bytes to it
		"max.partition.fetch.bytes":          int(min(256<<10, max(16<<10, buffer/256))),
		"fetch.error.backoff.ms":             100,
		"check.crcs":                         true,
		"socket.timeout.ms":                  15000,
		"socket.keepalive.enable":            true,
		"reconnect.backoff.ms":               50,
		"reconnect.backoff.max.ms":           1000,
		"topic.metadata.refresh.interval.ms": 10000,
		"enable.metrics.push":                false,
		"log.connection.close":               false,
	}
}

// fetchMost is what a broker may answer to one fetch, in bytes. With max.partition.fetch.bytes, a sixteenth of it, it is the only bound of what
// is unpacked at once, of which nobody knows the size before, and librdkafka unpacks all of an answer: a batch that is larger than
// max.partition.fetch.bytes comes only as the first of an answer, so one of them. Less of each partition is also fairer: lanes do not idle
// behind the long run of one. Where producers' batches are larger, a fetch brings a single lane its messages, which costs a third of the pace.
func fetchMost(buffer int64) int64 { return min(4<<20, max(64<<10, buffer/16)) }

// producerProperties are a producer's, the user's on top. librdkafka looks for what is late once a second, so it gets a second and a half less
// than the caller waits. Its own bounds of the queue are out of the way of Producer's, which counts keys and headers, too. What goes to a
// broker together has batch bytes at the most, where that is less than librdkafka's own bound, or the user's.
func producerProperties(c Config, batch int) map[string]string {
	all := map[string]string{
		"client.id": "kpush-producer", "log.queue": "true", "acks": "all", "enable.idempotence": "true", "linger.ms": "0",
		"partitioner": "murmur2_random", "message.max.bytes": strconv.Itoa(RecordMost), "queue.buffering.max.messages": "0",
		"queue.buffering.max.kbytes": "2147483647", "allow.auto.create.topics": "false", "topic.metadata.propagation.max.ms": "1000",
		"topic.metadata.refresh.interval.ms": "10000", "socket.timeout.ms": "15000", "socket.keepalive.enable": "true",
		"reconnect.backoff.ms": "50", "reconnect.backoff.max.ms": "1000", "enable.metrics.push": "false", "log.connection.close": "false",
	}
	maps.Copy(all, c.Properties)
	if own, err := strconv.Atoi(all["batch.size"]); batch < batchMost && (err != nil || batch < own) {
		all["batch.size"] = strconv.Itoa(batch)
	}
	limit := DeliveryTimeout(c)
	all["delivery.timeout.ms"] = strconv.Itoa(int(max(limit-1500*time.Millisecond, limit/2) / time.Millisecond))
	return all
}

// RecordMost is how large a record may be, in bytes, where the user says nothing else; brokers and topics have bounds of their own.
const RecordMost = 8 << 20

// Session is how long the group waits for a member that is silent.
func Session(c Config) time.Duration {
	ms, err := strconv.Atoi(c.Properties["session.timeout.ms"])
	if err != nil {
		ms = sessionTimeout
	}
	return time.Duration(ms) * time.Millisecond
}

// PollInterval is how long the consumer may be without a poll: nobody polls it while a revoked partition drains, nor while
// the partitions that come next are looked up. The user's, where there is one; librdkafka wants the session's length at least,
// and a day at most.
func PollInterval(c Config) time.Duration {
	if ms, err := strconv.Atoi(c.Properties["max.poll.interval.ms"]); err == nil {
		return time.Duration(ms) * time.Millisecond
	}
	return min(24*time.Hour, max(5*time.Minute, c.DrainTimeout+time.Minute, Session(c)))
}

// sessionTimeout is in milliseconds.
const sessionTimeout = 10_000

// clusterKnows tells whether a property of the user's makes sense for a client that does not consume.
func clusterKnows(property string) bool {
	return slices.ContainsFunc([]string{"bootstrap.servers", "security.", "sasl.", "ssl.", "https.", "enable.ssl.", "enable.sasl.",
		"broker.address.", "client.dns.", "socket."}, func(prefix string) bool { return strings.HasPrefix(property, prefix) })
}
