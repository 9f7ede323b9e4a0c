package config

import (
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Config is everything a user can set, one field per environment variable, in the order of README's table.
//
// Tags: envconfig is the variable's full name, default its value where it is not set, else the words that stand for a
// default that is no constant, origin the option of the PHP system that kpush replaces, desc the meaning. oneof lists the
// values of an enum; min and max are bounds, why their reason; bare lists numbers that need no unit. secret marks what may
// never be printed: "value" all of it, "url" credentials within it, "conf" some of its properties; a variable with it can
// also be read from NAME_FILE.
//
// A Config from Load is checked: whoever uses it need not look again.
type Config struct {
	// Brokers are the ones to use, also where KPUSH_CLUSTER named them.
	Brokers []string `envconfig:"KPUSH_BROKERS" origin:"metadata.broker.list" desc:"host:port,… of Kafka. Required, or named through KPUSH_CLUSTER"`
	Cluster string   `envconfig:"KPUSH_CLUSTER" origin:"cluster" desc:"NAME: the brokers are then in KPUSH_BROKERS_NAME (one shared ConfigMap can list all clusters)"`
	Topics  []string `envconfig:"KPUSH_TOPIC" origin:"(file name)" desc:"topic(s), comma separated. Empty: publish only"`
	Group   string   `envconfig:"KPUSH_GROUP" origin:"(file name)" desc:"consumer group; required with a topic"`

	// Hosts, Port and URL are given out together by Targets. Hosts and Port also say what a whole URL names.
	Hosts  []string `envconfig:"KPUSH_HOST" origin:"host" default:"127.0.0.1" desc:"host(s) of the service, comma separated, unix:/path for a socket; every attempt picks one, a retry avoids the one that failed"`
	Port   int      `envconfig:"KPUSH_PORT" origin:"port" default:"80" min:"1" max:"65535" desc:"port of the service"`
	URL    string   `envconfig:"KPUSH_URL" origin:"url" default:"/" secret:"url" desc:"path and query; or a whole URL (https too), then KPUSH_HOST and KPUSH_PORT stay unset"`
	Domain string   `envconfig:"KPUSH_DOMAIN" origin:"domain" desc:"Host header"`

	Concurrency Concurrency `envconfig:"KPUSH_CONCURRENCY" origin:"concurrency" default:"16" desc:"HTTP requests in flight at once, over all partitions; auto: as many as the service takes best, found while it works"`
	Order       string      `envconfig:"KPUSH_ORDER" origin:"async_concurrency" default:"partition" oneof:"partition key none" desc:"partition: one message at a time per partition. key: one at a time per key. none: no order"`

	CanSkip       bool          `envconfig:"KPUSH_CAN_SKIP" origin:"can_skip" default:"false" desc:"may a message that keeps failing be given up?"`
	RetryNums     int           `envconfig:"KPUSH_RETRY_NUMS" origin:"retry_nums" default:"3" min:"0" desc:"message faults until it is given up: 3 = at the third; 0 is as 1"`
	GiveUpInARow  int           `envconfig:"KPUSH_GIVE_UP_IN_A_ROW" default:"12" min:"0" max:"1000000000" desc:"so many messages given up with no delivery in between, and no more are: the service is taken for down until one is delivered, or an operator skips; 0 = no bound"`
	RetryInterval time.Duration `envconfig:"KPUSH_RETRY_INTERVAL" origin:"retry_interval_ms" default:"2s" min:"1ms" why:"no pause at all would be a hot loop against a service that is down" desc:"first wait before a retry; constant unless the next is larger"`
	// RetryMaxInterval equals RetryInterval where it is not set.
	RetryMaxInterval time.Duration `envconfig:"KPUSH_RETRY_MAX_INTERVAL" else:"= interval" desc:"exponential with full jitter up to this"`

	ConnTimeout time.Duration `envconfig:"KPUSH_CONN_TIMEOUT" origin:"conn_timeout_ms" default:"10s" min:"1ms" desc:"how long a connection to the service may take"`
	ExecTimeout time.Duration `envconfig:"KPUSH_EXEC_TIMEOUT" origin:"exec_timeout_ms" default:"60s" min:"0s" bare:"0" desc:"how long an attempt may take; 0 = no limit, for work that takes hours"`
	SlowTime    time.Duration `envconfig:"KPUSH_SLOW_TIME" origin:"slow_time_ms" default:"1s" min:"0s" desc:"log a delivery that took longer; 0s = none"`

	Format      string `envconfig:"KPUSH_FORMAT" origin:"(always form)" default:"raw" oneof:"raw form json cloudevents cloudevents-structured" desc:"how a message becomes a request: raw, form (m, p, o as in the origin), json, cloudevents, cloudevents-structured"`
	EventType   string `envconfig:"KPUSH_CLOUDEVENTS_TYPE" default:"kafka.record" desc:"with KPUSH_FORMAT=cloudevents…: the type of a record that is no event yet"`
	ContentType string `envconfig:"KPUSH_CONTENT_TYPE" default:"application/octet-stream" desc:"what a value is where its record has no content-type header, or one that is no media type"`
	Ack         string `envconfig:"KPUSH_ACK" origin:"(always errno)" default:"status" oneof:"status errno dapr" desc:"what a 2xx must say: status nothing, errno JSON with errno 0, dapr its SUCCESS"`
	SkipOn      string `envconfig:"KPUSH_SKIP_ON" default:"message" oneof:"message any" desc:"any: faults of the service count towards giving up, too, as in the origin"`

	DeadLetterTopic string `envconfig:"KPUSH_DEAD_LETTER_TOPIC" desc:"where given-up messages go instead of the skip log; a message that keeps failing is given up then, whatever KPUSH_CAN_SKIP says, and counts as done once Kafka has acknowledged it there. It has to exist"`
	RedriveMax      int    `envconfig:"KPUSH_REDRIVE_MAX" default:"3" min:"0" max:"1000000000" desc:"how often a message may be sent back from there (kpush -redrive); 0 = never"`

	BatchSize   int           `envconfig:"KPUSH_BATCH_SIZE" default:"1" min:"1" max:"10000" desc:"above 1: up to so many messages of a partition in one request, as a JSON array"`
	BatchLinger time.Duration `envconfig:"KPUSH_BATCH_LINGER" default:"5ms" min:"0s" max:"1m" desc:"how long a batch waits to be full"`
	BatchBytes  Size          `envconfig:"KPUSH_BATCH_BYTES" default:"1MiB" min:"1KiB" desc:"bytes of its body at the most, where it has several messages; a 413 lowers it for what follows"`

	Guarantee  int    `envconfig:"KPUSH_MESSAGE_DELIVERY_GUARANTEES" origin:"message_delivery_guarantees" default:"2" min:"1" max:"3" desc:"1: cheap, may lose and repeat. 2: never lost, repeats only after a crash. 3: as 2, and a power cut repeats nothing that was recorded"`
	ConfirmURL string `envconfig:"KPUSH_CONFIRM_URL" secret:"url" desc:"asked before a message in doubt is sent again: GET …?id=MESSAGE-ID answers 200 = done, 404 = send, anything else = ask again. A path on the service, any host of it, or a whole URL"`

	OffsetsDir  string   `envconfig:"KPUSH_OFFSETS_DIR" origin:"log path /process" default:"/var/lib/kpush" desc:"the mounted volume. Guarantee 1 needs it for what is skipped only: at the start with KPUSH_CAN_SKIP, else from the first skip on; and, as publish only, for KPUSH_PUBLISH_SPOOL"`
	OffsetsSync SyncRule `envconfig:"KPUSH_OFFSETS_SYNC" else:"by guarantee" desc:"when a record reaches the disk: always, a duration, never. 50ms with guarantee 2, always with 3"`
	// UseSavedOffsetTime below zero means never.
	UseSavedOffsetTime time.Duration `envconfig:"KPUSH_USE_SAVED_OFFSET_TIME" origin:"use_saved_offset_time" default:"0s" bare:"0 -1" desc:"when the broker lost or rewound the committed offset: trust the saved one once it is this old; negative (-1s) = never"`
	// CommitInterval is 5s where it is not set and the guarantee is 1.
	CommitInterval  time.Duration `envconfig:"KPUSH_COMMIT_INTERVAL" origin:"auto.commit.interval.ms" default:"200ms" min:"10ms" max:"1m" desc:"how long progress may stay uncommitted (5s with guarantee 1); also committed when a partition is given up, drained or at a stop"`
	AutoOffsetReset string        `envconfig:"KPUSH_AUTO_OFFSET_RESET" origin:"auto.offset.reset" default:"earliest" oneof:"earliest latest error" desc:"earliest, latest, error: only where neither broker nor file knows"`

	// ConsumerConf is part of what Kafka returns.
	ConsumerConf Properties `envconfig:"KPUSH_CONSUMER_CONF" origin:"consumer_conf, consumer_topic_conf" secret:"conf" desc:"librdkafka properties a=b, one a line or ; apart. A value cannot hold a semicolon. What kpush must own is refused by name. What debug=… prints needs KPUSH_LOG_LEVEL=debug"`
	ProducerConf Properties `envconfig:"KPUSH_PRODUCER_CONF" origin:"setConf" secret:"conf" desc:"the same for the producer, which has brokers, security and connection from the variables above. delivery.timeout.ms (10000) is how long a caller of the publish door may wait"`

	// The security variables are part of what Kafka returns.
	SecurityProtocol string `envconfig:"KPUSH_SECURITY_PROTOCOL" else:"plaintext" oneof:"plaintext ssl sasl_plaintext sasl_ssl" desc:"plaintext, ssl, sasl_plaintext, sasl_ssl"`
	SASLMechanism    string `envconfig:"KPUSH_SASL_MECHANISM" oneof:"PLAIN SCRAM-SHA-256 SCRAM-SHA-512 OAUTHBEARER" desc:"PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER (its settings go into KPUSH_CONSUMER_CONF)"`
	SASLUsername     string `envconfig:"KPUSH_SASL_USERNAME" secret:"value" desc:"for PLAIN and SCRAM"`
	SASLPassword     string `envconfig:"KPUSH_SASL_PASSWORD" secret:"value" desc:"for PLAIN and SCRAM"`
	SSLCAFile        string `envconfig:"KPUSH_SSL_CA_FILE" else:"the system's" desc:"PEM file: the authorities that may sign a broker's certificate"`
	SSLCertFile      string `envconfig:"KPUSH_SSL_CERT_FILE" desc:"PEM file: kpush's own certificate"`
	SSLKeyFile       string `envconfig:"KPUSH_SSL_KEY_FILE" desc:"PEM file: its private key"`

	ServiceCAFile   string `envconfig:"KPUSH_SERVICE_CA_FILE" else:"the system's" desc:"PEM file: the authorities that may sign the certificate of a service with https"`
	ServiceCertFile string `envconfig:"KPUSH_SERVICE_CERT_FILE" desc:"PEM file: kpush's own certificate, for a service that wants one"`
	ServiceKeyFile  string `envconfig:"KPUSH_SERVICE_KEY_FILE" desc:"PEM file: its private key"`
	ServiceToken    string `envconfig:"KPUSH_SERVICE_TOKEN" secret:"value" desc:"shown to the service in each request: Authorization: Bearer TOKEN. This file and the three before are read again where they change"`

	// InstanceID is empty where kpush has to make one, and "none" for a dynamic member.
	InstanceID string `envconfig:"KPUSH_INSTANCE_ID" else:"made of volume and host" desc:"static membership: killed and restarted, the sidecar keeps its partitions. Made by kpush, a stop by SIGTERM leaves the group at once; set by you (StatefulSet: the pod's name), a stop keeps the partitions for the session timeout. Both end in a short hash of KPUSH_TOPIC: with other topics it is another member, and what the one before had comes after its session timeout. none = dynamic member"`

	Buffer       Size          `envconfig:"KPUSH_BUFFER" default:"16MiB" min:"1MiB" why:"a single message can be that large" desc:"bytes of messages held in memory, librdkafka's queues included; twice as much more, at the most, where the publish door is used, five times with KPUSH_PUBLISH_SPOOL"`
	DrainTimeout time.Duration `envconfig:"KPUSH_DRAIN_TIMEOUT" default:"25s" min:"1ms" desc:"how long a stop takes at the most, up to 23h59m: what is in flight has four fifths of it or more, the last commit and leaving the group the rest. librdkafka's max.poll.interval.ms follows it; where you set that one, a revoked partition has three quarters of it at most"`
	// RevokeTimeout is at most DrainTimeout.
	RevokeTimeout time.Duration `envconfig:"KPUSH_REVOKE_TIMEOUT" default:"5s" min:"1ms" desc:"how long a partition that goes to another member waits for what is in flight, while the whole group waits with it, and at most KPUSH_DRAIN_TIMEOUT: what takes longer is in doubt, and comes again there. Where requests take long, set it to what they take"`
	ReadyURL      string        `envconfig:"KPUSH_READY_URL" secret:"url" desc:"deliveries wait, once per start, until GET answers 2xx. A path on the service, any host of it, or a whole URL"`

	HealthAddr    string   `envconfig:"KPUSH_HEALTH_ADDR" default:":9400" desc:"/healthz /readyz /metrics: read only, for the kubelet and Prometheus"`
	APIAddr       string   `envconfig:"KPUSH_API_ADDR" default:"127.0.0.1:9401" desc:"publish, admin, status page. Anything but loopback needs KPUSH_API_TOKEN, else kpush refuses to start"`
	APIToken      string   `envconfig:"KPUSH_API_TOKEN" secret:"value" desc:"what a caller of KPUSH_API_ADDR has to show: Authorization: Bearer TOKEN; a browser asks for it as a password"`
	PublishTopics []string `envconfig:"KPUSH_PUBLISH_TOPICS" default:"*" desc:"topics that may be published to, comma separated; a trailing * is a prefix"`
	PublishSpool  Size     `envconfig:"KPUSH_PUBLISH_SPOOL" default:"0" desc:"a size, 1MiB or more: an async publish is on the volume before its 202, and sent when Kafka is back; beyond so many bytes it is answered 429. 0: it is in memory"`

	LogLevel  slog.Level `envconfig:"KPUSH_LOG_LEVEL" origin:"log path" default:"info" oneof:"debug info warn error" desc:"debug, info, warn, error"`
	LogFormat string     `envconfig:"KPUSH_LOG_FORMAT" default:"json" oneof:"json text" desc:"json, text; to stdout"`

	idle []string // what Idle returns; no variable, and therefore the last one
}

// Targets are the URLs of the service, one per host, path and query included.
func (c *Config) Targets() []string {
	if !strings.HasPrefix(c.URL, "/") {
		return []string{c.URL}
	}
	var targets []string
	for _, host := range c.Hosts {
		targets = append(targets, c.base(host)+c.URL)
	}
	return targets
}

// socketPrefix marks an entry of Hosts that is the path of a Unix socket.
const socketPrefix = "unix:"

// base is what stands before the path in the URLs of a host.
func (c *Config) base(host string) string {
	if socket, ok := strings.CutPrefix(host, socketPrefix); ok {
		return "http+unix://" + url.PathEscape(socket)
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(c.Port))
}

// ConfirmTargets are the whole URLs to ask about a message in doubt: of a path one per host, as in Targets. None: it is not asked.
func (c *Config) ConfirmTargets() []string { return c.onService(c.ConfirmURL) }

// ReadyTargets are the whole URLs that say when the service takes messages.
func (c *Config) ReadyTargets() []string { return c.onService(c.ReadyURL) }

// DomainOf is the Host header of a question, "" for its URL's: a path is asked of the service, as it is called in deliveries.
func (c *Config) DomainOf(question string) string {
	if !strings.HasPrefix(question, "/") {
		return ""
	}
	return c.Domain
}

// onService makes whole URLs of a path: with the scheme, credentials and host of a whole KPUSH_URL, else one on each host.
func (c *Config) onService(path string) (targets []string) {
	scheme, rest, whole := strings.Cut(c.URL, "://")
	switch {
	case path == "":
		return nil
	case !strings.HasPrefix(path, "/"):
		return []string{path}
	case whole && !strings.HasPrefix(c.URL, "/"):
		host, _, _ := strings.Cut(rest, "/")
		host, _, _ = strings.Cut(host, "?")
		return []string{scheme + "://" + host + path}
	}
	for _, host := range c.Hosts {
		targets = append(targets, c.base(host)+path)
	}
	return targets
}

// HostNames are the service's hosts for people, as in Targets: host:port, or unix:/path.
func (c *Config) HostNames() (names []string) {
	if u, err := url.Parse(c.URL); err == nil && u.Host != "" {
		return []string{u.Host}
	}
	for _, host := range c.Hosts {
		if !strings.HasPrefix(host, socketPrefix) {
			host = net.JoinHostPort(host, strconv.Itoa(c.Port))
		}
		names = append(names, host)
	}
	return names
}
