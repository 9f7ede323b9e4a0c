package config

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Properties are librdkafka's, by name.
type Properties map[string]string

// propertyName is strict, so that a piece of a secret that spans lines is not taken for a name and shown.
var propertyName = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z0-9_]+)*$`)

// aliases are librdkafka's second names, and the one of each pair that kpush uses: a client that is given both takes the
// value of either. Those of owned properties are in owned.
var aliases = map[string]string{
	"fetch.message.max.bytes":                           "max.partition.fetch.bytes",
	"sasl.mechanism":                                    "sasl.mechanisms",
	"sasl.oauthbearer.client.credentials.client.id":     "sasl.oauthbearer.client.id",
	"sasl.oauthbearer.client.credentials.client.secret": "sasl.oauthbearer.client.secret",
	"max.in.flight":                                     "max.in.flight.requests.per.connection",
	"message.timeout.ms":                                "delivery.timeout.ms",
	"queue.buffering.max.ms":                            "linger.ms",
	"message.send.max.retries":                          "retries",
	"compression.codec":                                 "compression.type",
}

// Decode reads a=b, one a line or ; apart, and keeps it under the name that kpush uses. Envconfig calls it. Its
// errors show names of properties at most.
func (p *Properties) Decode(value string) error {
	*p = Properties{}
	var wrong []error
	number, spelled := 0, map[string]string{}
	for entry := range strings.FieldsFuncSeq(value, func(r rune) bool { return r == '\n' || r == ';' }) {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		number++
		as, v, found := strings.Cut(entry, "=")
		as, v = strings.TrimSpace(as), strings.TrimSpace(v)
		name := cmp.Or(aliases[as], as)
		before, twice := spelled[name]
		switch {
		case !found || !propertyName.MatchString(as):
			wrong = append(wrong, fmt.Errorf("entry %d is not a property; write name=value, one a line or ; apart", number))
		case v == "":
			wrong = append(wrong, fmt.Errorf("%s has no value; librdkafka refuses that, so leave it out", as))
		case twice && before != as:
			wrong = append(wrong, fmt.Errorf("%s and %s are the same property, so it is there twice; keep one", before, as))
		case twice:
			wrong = append(wrong, fmt.Errorf("%s is there twice; keep one", as))
		default:
			(*p)[name], spelled[name] = v, as
		}
	}
	return errors.Join(wrong...)
}

// ownedProperty is what kpush sets itself, and why.
type ownedProperty struct{ names, answer string }

// owned are the consumer's properties that kpush must set itself, and the answer to who wants another value.
// A * stands for whatever a name has there.
var owned = []ownedProperty{
	{"bootstrap.servers metadata.broker.list", "set KPUSH_BROKERS"},
	{"group.id", "set KPUSH_GROUP"},
	{"group.instance.id", "set KPUSH_INSTANCE_ID"},
	{"group.protocol group.protocol.type group.remote.assignor", "kpush's start and stop are built on the classic protocol"},
	{"partition.assignment.strategy", "kpush drains partitions as cooperative-sticky hands them over"},
	{"enable.auto.commit auto.commit.enable enable.auto.offset.store", "kpush commits what was delivered, and nothing else"},
	{"offset.store.*", "kpush keeps offsets in KPUSH_OFFSETS_DIR"},
	{"auto.commit.interval.ms", "set KPUSH_COMMIT_INTERVAL"},
	{"auto.offset.reset", "set KPUSH_AUTO_OFFSET_RESET"},
	{"queued.min.messages queued.max.messages.kbytes", "set KPUSH_BUFFER"},
	{"enable.partition.eof", "kpush would take the event for nothing"},
	{"allow.auto.create.topics", "a mistyped topic must not come into being"},
	{"plugin.library.paths", "the static build loads no plugins"},
	{"statistics.interval.ms", "kpush reads no statistics of librdkafka"},
	{"*_cb opaque", "callbacks are kpush's own"},
	{"enabled_events", "events are kpush's own"},
	{"log.queue", "the log is kpush's own; set KPUSH_LOG_LEVEL"},
	{"go.*", "the Go client is kpush's own"},
}

// ownedAnswer is why a consumer property is refused, or "".
func ownedAnswer(property string) string { return answerOf(owned, property) }

func answerOf(owned []ownedProperty, property string) string {
	for _, o := range owned {
		for name := range strings.FieldsSeq(o.names) {
			if match, _ := path.Match(name, property); match {
				return o.answer
			}
		}
	}
	return ""
}

// setting is what a variable says, and, where it is Kafka's, as which property of librdkafka.
type setting struct{ variable, property, value string }

// serviceFiles are the files for https to the service.
func (c *Config) serviceFiles() []setting {
	return []setting{{"KPUSH_SERVICE_CA_FILE", "", c.ServiceCAFile}, {"KPUSH_SERVICE_CERT_FILE", "", c.ServiceCertFile}, {"KPUSH_SERVICE_KEY_FILE", "", c.ServiceKeyFile}}
}

// security is what the security variables say.
func (c *Config) security() []setting {
	return []setting{
		{"KPUSH_SECURITY_PROTOCOL", "security.protocol", c.SecurityProtocol},
		{"KPUSH_SASL_MECHANISM", "sasl.mechanisms", c.SASLMechanism},
		{"KPUSH_SASL_USERNAME", "sasl.username", c.SASLUsername},
		{"KPUSH_SASL_PASSWORD", "sasl.password", c.SASLPassword},
		{"KPUSH_SSL_CA_FILE", "ssl.ca.location", c.SSLCAFile},
		{"KPUSH_SSL_CERT_FILE", "ssl.certificate.location", c.SSLCertFile},
		{"KPUSH_SSL_KEY_FILE", "ssl.key.location", c.SSLKeyFile},
	}
}

// Member is the static member's id: the user's, or one made of volume and host, so that the process that comes after this
// one is the same member, and a copy of the volume elsewhere is not. comesBack: a stop keeps its partitions.
func (c *Config) Member(volume string) (id string, comesBack bool) {
	switch {
	case c.dynamic(), c.InstanceID == "" && volume == "": // guarantee 1: nothing stays that could make two lives one member
		return "", false
	case c.InstanceID == "":
		host, err := os.Hostname()
		if err != nil {
			host = "host"
		}
		return fmt.Sprintf("kpush-%s-%s-%s", volume, host, c.topicsHash()), false
	}
	return c.InstanceID + "-" + c.topicsHash(), true
}

// topicsHash ends each member's id: a static member that is back within its session gets from the group what it had, without a
// look at what it subscribes to now, so with other topics it is another member.
func (c *Config) topicsHash() string {
	h := fnv.New32a()
	for _, t := range slices.Sorted(slices.Values(c.Topics)) {
		h.Write([]byte(t + "\n"))
	}
	return fmt.Sprintf("%08x", h.Sum32())
}

// dynamic tells whether the user wants no static member.
func (c *Config) dynamic() bool { return strings.EqualFold(c.InstanceID, "none") }

// Kafka is what the user said about Kafka's client: brokers, security and KPUSH_CONSUMER_CONF, by librdkafka's names.
// No value is empty. It holds secrets.
func (c *Config) Kafka() map[string]string {
	all := map[string]string{"bootstrap.servers": strings.Join(c.Brokers, ",")}
	maps.Copy(all, c.ConsumerConf)
	for _, s := range c.security() {
		if s.value != "" {
			all[s.property] = s.value
		}
	}
	return all
}
