package config

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
)

// Idle is a sentence for each variable that is set and has no effect beside the others. It is no error: the user may turn on later what
// it waits for. What contradicts another variable is refused instead.
func (c *Config) Idle() []string { return slices.Clone(c.idle) }

// noteIdle finds them. A variable that is not set is nobody's expectation, so its default is not spoken of.
func (l *loader) noteIdle() {
	c := &l.config
	set := func(name string) bool { return l.vars[name] != "" }
	note := func(what, why string) { c.idle = append(c.idle, what+" has no effect: "+why) }
	say := func(name, format string, args ...any) {
		what := name
		if !isSecret(name) {
			what += "=" + shown(l.vars[name])
		}
		note(what, fmt.Sprintf(format, args...))
	}
	if c.PublishOnly() {
		for _, f := range fields {
			spools := f.name == "KPUSH_OFFSETS_DIR" && c.PublishSpool > 0
			if set(f.name) && !spools && !slices.Contains(publishing, f.name) {
				say(f.name, "KPUSH_TOPIC is empty, so nothing is consumed")
			}
		}
		return
	}
	if !c.CanSkip && c.DeadLetterTopic == "" {
		for _, name := range []string{"KPUSH_RETRY_NUMS", "KPUSH_GIVE_UP_IN_A_ROW", "KPUSH_SKIP_ON"} {
			halves := name == "KPUSH_SKIP_ON" && c.BatchSize > 1 // then a fault of the service halves the next request
			if set(name) && !halves {
				say(name, "nothing is given up unless KPUSH_CAN_SKIP=true or there is a KPUSH_DEAD_LETTER_TOPIC, so a message is retried until it is delivered")
			}
		}
	}
	if set("KPUSH_REDRIVE_MAX") && c.DeadLetterTopic == "" {
		say("KPUSH_REDRIVE_MAX", "there is no KPUSH_DEAD_LETTER_TOPIC to send anything back from")
	}
	events := strings.HasPrefix(c.Format, "cloudevents")
	if set("KPUSH_CLOUDEVENTS_TYPE") && !events {
		say("KPUSH_CLOUDEVENTS_TYPE", "with KPUSH_FORMAT=%s no message is sent as an event", c.Format)
	}
	switch {
	case !set("KPUSH_CONTENT_TYPE") || events:
	case c.Format == "form":
		say("KPUSH_CONTENT_TYPE", "KPUSH_FORMAT=form sends a form")
	case c.Format == "json":
		say("KPUSH_CONTENT_TYPE", "with KPUSH_FORMAT=json a request is application/json")
	case c.BatchSize > 1:
		say("KPUSH_CONTENT_TYPE", "with KPUSH_BATCH_SIZE above 1 a request is application/json")
	}
	if set("KPUSH_RETRY_MAX_INTERVAL") && c.RetryMaxInterval == c.RetryInterval {
		say("KPUSH_RETRY_MAX_INTERVAL", "it equals KPUSH_RETRY_INTERVAL, so each wait is the same; a larger one makes the waits grow")
	}
	if set("KPUSH_CONN_TIMEOUT") && c.ExecTimeout > 0 && c.ConnTimeout >= c.ExecTimeout {
		say("KPUSH_CONN_TIMEOUT", "the whole attempt, its connection included, ends after KPUSH_EXEC_TIMEOUT, which is %v", c.ExecTimeout)
	}
	if set("KPUSH_SLOW_TIME") && c.SlowTime > 0 {
		switch {
		case c.LogLevel > slog.LevelWarn:
			say("KPUSH_SLOW_TIME", "KPUSH_LOG_LEVEL=error leaves warnings out, and a slow delivery is one")
		case c.ExecTimeout > 0 && c.SlowTime > c.ExecTimeout:
			say("KPUSH_SLOW_TIME", "no attempt takes that long: KPUSH_EXEC_TIMEOUT ends it after %v", c.ExecTimeout)
		}
	}
	if mechanism := strings.ToUpper(c.Kafka()["sasl.mechanisms"]); mechanism == "OAUTHBEARER" {
		for _, name := range []string{"KPUSH_SASL_USERNAME", "KPUSH_SASL_PASSWORD"} {
			if set(name) {
				say(name, "OAUTHBEARER shows a token, and neither name nor password")
			}
		}
	}
	for _, property := range slices.Sorted(maps.Keys(c.ConsumerConf)) {
		if why := c.idleProperty(property); why != "" {
			note(property+" in KPUSH_CONSUMER_CONF", why)
		}
	}
}

// producers are librdkafka's properties that a consumer passes over; it says so itself, at level INFO.
const producers = " acks batch.num.messages batch.size compression.codec compression.level compression.type delivery.report.only.error delivery.timeout.ms " +
	"enable.gapless.guarantee enable.idempotence linger.ms message.send.max.retries message.timeout.ms partitioner produce.offset.report " +
	"queue.buffering.backpressure.threshold queue.buffering.max.kbytes queue.buffering.max.messages queue.buffering.max.ms queuing.strategy " +
	"request.required.acks request.timeout.ms retries sticky.partitioning.linger.ms transaction.timeout.ms transactional.id "

// others are those of a consumer that gets its messages in another way than kpush does.
const others = " consume.callback.max.messages max.poll.records share.acknowledgement.mode "

// idleProperty is why a property of KPUSH_CONSUMER_CONF has no effect, or "".
func (c *Config) idleProperty(property string) string {
	protocol := strings.ToLower(c.Kafka()["security.protocol"])
	switch {
	case strings.Contains(producers, " "+property+" "):
		return "it is a producer's, and kpush consumes"
	case strings.Contains(others, " "+property+" "):
		return "it is of another way to consume than kpush's"
	case property == "debug" && c.LogLevel > slog.LevelDebug:
		return "what it prints needs KPUSH_LOG_LEVEL=debug"
	case strings.HasPrefix(property, "sasl.") && !strings.HasPrefix(protocol, "sasl_"):
		return "KPUSH_SECURITY_PROTOCOL is neither sasl_ssl nor sasl_plaintext"
	case strings.HasPrefix(property, "ssl.") && !strings.HasSuffix(protocol, "ssl"):
		return "KPUSH_SECURITY_PROTOCOL is neither ssl nor sasl_ssl"
	}
	return ""
}
