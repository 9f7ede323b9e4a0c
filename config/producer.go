package config

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// ownedByProducer are the producer's properties that kpush must set itself, beside those that a consumer's name, too.
var ownedByProducer = []ownedProperty{
	{"acks request.required.acks enable.idempotence", "a 200 means that all in-sync replicas have the record, once"},
	{"transactional.id transaction.timeout.ms", "kpush publishes outside of transactions"},
	{"enable.gapless.guarantee", "a record that failed is told of, and those behind it go on"},
	{"queue.buffering.max.messages queue.buffering.max.kbytes queuing.strategy", "set KPUSH_BUFFER, which bounds the queue in bytes"},
	{"delivery.report.only.error produce.offset.report", "kpush answers with what Kafka reports"},
	{"topic.metadata.propagation.max.ms", "a topic that does not exist is answered with 404 in time"},
}

// Producer is what the user said about the client that produces: brokers, security, what of KPUSH_CONSUMER_CONF is about the
// connection, and KPUSH_PRODUCER_CONF. No value is empty. It holds secrets.
func (c *Config) Producer() map[string]string {
	all := c.Kafka()
	maps.DeleteFunc(all, func(name, _ string) bool {
		return name != "bootstrap.servers" && !slices.ContainsFunc(connection, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
	})
	maps.Copy(all, c.ProducerConf)
	return all
}

// connection begins the names of properties that are about the way to Kafka, whatever is done there.
var connection = []string{"security.", "sasl.", "ssl.", "https.", "enable.ssl.", "enable.sasl.", "broker.address.", "client.dns.", "socket."}

// maxDelivery keeps callers from waiting for ever.
const maxDelivery = 3_600_000

func (l *loader) checkProducerConf() {
	const name = "KPUSH_PRODUCER_CONF"
	for _, property := range slices.Sorted(maps.Keys(l.config.ProducerConf)) {
		answer := answerOf(ownedByProducer, property)
		if shared := ownedAnswer(property); answer == "" && !strings.Contains(consumers, " "+property+" ") {
			answer = shared
		}
		switch ms, err := strconv.Atoi(l.config.ProducerConf[property]); {
		case answer != "":
			l.wrong(name, "%s is not yours to set: %s", property, answer)
		case strings.Contains(consumers, " "+property+" "):
			l.wrong(name, "%s is a consumer's; set it in KPUSH_CONSUMER_CONF", property)
		case property == "delivery.timeout.ms" && (err != nil || ms < 1000 || ms > maxDelivery):
			l.wrong(name, "%s must be from 1000 to %d milliseconds: so long a caller may wait", property, maxDelivery)
		}
		for _, s := range l.config.security() {
			if s.value != "" && property == s.property {
				l.wrong(name, "%s is set through %s as well; set one of them", property, s.variable)
			}
		}
	}
}

// consumers are properties that mean nothing to a producer.
const consumers = " group.id group.instance.id group.protocol partition.assignment.strategy enable.auto.commit auto.commit.interval.ms auto.offset.reset " +
	"queued.min.messages queued.max.messages.kbytes enable.partition.eof session.timeout.ms max.poll.interval.ms heartbeat.interval.ms " +
	"fetch.wait.max.ms fetch.max.bytes max.partition.fetch.bytes fetch.min.bytes fetch.error.backoff.ms fetch.queue.backoff.ms isolation.level check.crcs "

// checkPublishTopics takes names, and prefixes with a * behind them.
func (l *loader) checkPublishTopics() {
	for _, topic := range l.config.PublishTopics {
		beginning, isPrefix := strings.CutSuffix(topic, "*")
		if topic != "*" && !(isPrefix && kafkaName.MatchString(beginning)) && !isKafkaName(topic) {
			l.wrong("KPUSH_PUBLISH_TOPICS", "%s is not a topic, nor the beginning of one with a * behind it; write orders,billing-*", shown(topic))
		}
	}
}

// spoolLeast has room for a few records of the usual size.
const spoolLeast = 1 << 20

// checkSpool wants room for records, or none.
func (l *loader) checkSpool() {
	if n := l.config.PublishSpool; n > 0 && n < spoolLeast {
		l.wrong("KPUSH_PUBLISH_SPOOL", "must be 0, or at least 1MiB: a record has to fit")
	}
}

// publishing are the variables that mean something where nothing is consumed.
var publishing = []string{"KPUSH_BROKERS", "KPUSH_CLUSTER", "KPUSH_TOPIC", "KPUSH_CONSUMER_CONF", "KPUSH_PRODUCER_CONF", "KPUSH_SECURITY_PROTOCOL",
	"KPUSH_SASL_MECHANISM", "KPUSH_SASL_USERNAME", "KPUSH_SASL_PASSWORD", "KPUSH_SSL_CA_FILE", "KPUSH_SSL_CERT_FILE", "KPUSH_SSL_KEY_FILE", "KPUSH_BUFFER",
	"KPUSH_DRAIN_TIMEOUT", "KPUSH_HEALTH_ADDR", "KPUSH_API_ADDR", "KPUSH_API_TOKEN", "KPUSH_PUBLISH_TOPICS", "KPUSH_PUBLISH_SPOOL", "KPUSH_LOG_LEVEL", "KPUSH_LOG_FORMAT"}

// PublishOnly tells whether nothing is consumed.
func (c *Config) PublishOnly() bool { return len(c.Topics) == 0 }
