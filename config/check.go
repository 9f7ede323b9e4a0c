package config

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// checkAll finds what is wrong beyond the form of single values. brokers are the KPUSH_BROKERS_NAME.
func (l *loader) checkAll(brokers map[string]string) {
	c := &l.config
	for _, list := range [][]string{c.Topics, c.Hosts, c.PublishTopics} {
		for i, entry := range list {
			list[i] = strings.TrimSpace(entry)
		}
	}
	l.checkBounds()
	l.checkBrokers(brokers)
	l.checkTopics()
	l.checkDeadLetters()
	l.checkHosts()
	l.checkURLs()
	l.checkBatch()
	l.checkRetry()
	l.checkGuarantee()
	l.checkConsumerConf()
	l.checkProducerConf()
	l.checkPublishTopics()
	l.checkSpool()
	l.checkDrain()
	l.checkSecurity()
	l.checkService()
	l.checkFiles()
	if !isVisible(c.EventType) || len(c.EventType) > 255 {
		l.wrong("KPUSH_CLOUDEVENTS_TYPE", "takes up to 255 characters of visible ASCII, such as com.example.order.placed")
	}
	if !isMediaType(c.ContentType) {
		l.wrong("KPUSH_CONTENT_TYPE", "is no media type; write it as application/json")
	}
	if c.Domain != "" && !isHostPort(c.Domain, 1) && !isHostPort(c.Domain+":80", 1) {
		l.wrong("KPUSH_DOMAIN", "is not a Host header; write a name such as example.com, with a port if need be")
	}
	if !isListening(c.HealthAddr) {
		l.wrong("KPUSH_HEALTH_ADDR", "is not an address to listen on; write :9400 or 127.0.0.1:9400")
	}
	l.checkAPI()
	if sharePort(c.HealthAddr, c.APIAddr) {
		l.wrong("KPUSH_API_ADDR", "has the port of KPUSH_HEALTH_ADDR=%s: give each its own, as :9400 and 127.0.0.1:9401", c.HealthAddr)
	}
	if c.InstanceID != "" && !isKafkaName(c.InstanceID) {
		l.wrong("KPUSH_INSTANCE_ID", "Kafka takes up to 249 letters, digits, dots, underscores and hyphens")
	}
}

// given reports whether a variable is set, rightly or not.
func (l *loader) given(name string) bool {
	return l.vars[name] != "" || len(l.problems[name]) > 0
}

// checkBounds holds every number against the min and max of its field's tags.
func (l *loader) checkBounds() {
	values := reflect.ValueOf(l.config)
	for i, f := range fields {
		least, most := f.Tag.Get("min"), f.Tag.Get("max")
		if least == "" || l.vars[f.name] == "" || len(l.problems[f.name]) > 0 {
			continue
		}
		n := values.Field(i).Int()
		low := n < bound(f.Type, least)
		high := most != "" && n > bound(f.Type, most)
		switch why := f.Tag.Get("why"); {
		case (low || high) && most != "":
			l.wrong(f.name, "must be from %s to %s", least, most)
		case low && why != "":
			l.wrong(f.name, "must be at least %s: %s", least, why)
		case low:
			l.wrong(f.name, "must be at least %s", least)
		}
	}
}

// bound reads a min or max tag as a value of type t.
func bound(t reflect.Type, tag string) int64 {
	switch t {
	case reflect.TypeFor[time.Duration]():
		d, _ := time.ParseDuration(tag)
		return int64(d)
	case reflect.TypeFor[Size]():
		var s Size
		_ = s.Decode(tag)
		return int64(s)
	default:
		n, _ := strconv.ParseInt(tag, 10, 64)
		return n
	}
}

func (l *loader) checkBrokers(brokers map[string]string) {
	c := &l.config
	variable := "KPUSH_BROKERS"
	switch {
	case c.Cluster != "" && l.given(variable):
		l.wrong("KPUSH_CLUSTER", "KPUSH_BROKERS is set as well; set one of them")
	case c.Cluster != "":
		variable = brokersOf + c.Cluster
		if brokers[c.Cluster] == "" {
			instead := "set it, or KPUSH_BROKERS"
			if len(brokers) > 0 {
				instead = "the clusters there are: " + shown(strings.Join(slices.Sorted(maps.Keys(brokers)), ","))
			}
			l.wrong("KPUSH_CLUSTER", "%s is not set; %s", shown(variable), instead)
			return
		}
		c.Brokers = strings.Split(brokers[c.Cluster], ",")
	case !l.given(variable):
		l.wrong(variable, "is required, such as kafka-1:9092,kafka-2:9092; or set KPUSH_CLUSTER")
	}
	for i, broker := range c.Brokers {
		c.Brokers[i] = strings.TrimSpace(broker)
		if !isHostPort(c.Brokers[i], 1) {
			l.problems["KPUSH_BROKERS"] = append(l.problems["KPUSH_BROKERS"],
				fmt.Errorf("%s: %s is not a broker; write host:port,… such as kafka-1:9092, nothing before the host",
					shown(variable), shown(c.Brokers[i])))
		}
	}
}

func (l *loader) checkTopics() {
	c := &l.config
	for i, topic := range c.Topics {
		switch {
		case topic == "":
			l.wrong("KPUSH_TOPIC", "there is nothing between two commas; write orders,payments")
		case strings.HasPrefix(topic, "^"):
			l.wrong("KPUSH_TOPIC", "patterns are not taken, for a topic that comes to match one would be consumed before anybody has asked for it; name every topic")
		case !isKafkaName(topic):
			l.wrong("KPUSH_TOPIC", "%s is not a topic; Kafka takes up to 249 letters, digits, dots, underscores and hyphens", shown(topic))
		case slices.Contains(c.Topics[:i], topic):
			l.wrong("KPUSH_TOPIC", "%s is there twice; keep one", topic)
		}
	}
	switch {
	case len(c.Topics) > 0 && !l.given("KPUSH_GROUP"):
		l.wrong("KPUSH_GROUP", "is required with KPUSH_TOPIC; name the consumer group")
	case strings.ContainsFunc(c.Group, unicode.IsControl):
		l.wrong("KPUSH_GROUP", "holds a control character; write the group's name on one line")
	}
}

func (l *loader) checkDeadLetters() {
	const name = "KPUSH_DEAD_LETTER_TOPIC"
	switch topic := l.config.DeadLetterTopic; {
	case topic == "":
	case !isKafkaName(topic):
		l.wrong(name, "is not a topic; Kafka takes up to 249 letters, digits, dots, underscores and hyphens")
	case slices.Contains(l.config.Topics, topic):
		l.wrong(name, "is in KPUSH_TOPIC as well, so what was given up would come again at once; name another topic")
	}
}

func (l *loader) checkHosts() {
	c := &l.config
	for i, host := range c.Hosts {
		path, isSocket := strings.CutPrefix(host, socketPrefix)
		if !isSocket {
			c.Hosts[i] = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
		}
		switch {
		case isSocket && (!strings.HasPrefix(path, "/") || filepath.Clean(path) != path || path == "/"):
			l.wrong("KPUSH_HOST", "%s is not a socket; write unix: and its absolute path, such as unix:/run/app.sock", shown(host))
		case isSocket && len(path) > maxSocketPath:
			l.wrong("KPUSH_HOST", "the path of %s has %d bytes, and a socket's may have %d; mount it at a shorter one", shown(host), len(path), maxSocketPath)
		case host == "":
			l.wrong("KPUSH_HOST", "there is nothing between two commas; write app-1,app-2")
		case !isSocket && strings.Contains(host, "/"):
			l.wrong("KPUSH_HOST", "%s is not a host; a whole URL goes into KPUSH_URL", shown(host))
		case isHostPort(host, 1):
			l.wrong("KPUSH_HOST", "%s is not a host; the port goes into KPUSH_PORT", shown(host))
		case !isSocket && !isHost(host):
			l.wrong("KPUSH_HOST", "%s is not a host; write a name, an address, or unix:/path", shown(host))
		case slices.Contains(c.Hosts[:i], c.Hosts[i]):
			l.wrong("KPUSH_HOST", "%s is there twice; keep one", shown(host))
		}
	}
	isName := func(host string) bool { return !strings.HasPrefix(host, socketPrefix) }
	if !slices.ContainsFunc(c.Hosts, isName) && l.given("KPUSH_PORT") {
		l.wrong("KPUSH_PORT", "each KPUSH_HOST is a socket, which has no port; leave KPUSH_PORT unset")
	}
}

// maxSocketPath is Linux's bound: sun_path has 108 bytes, the last of them 0.
const maxSocketPath = 107

// checkURLs takes a path on the service or a whole URL.
func (l *loader) checkURLs() {
	if u := l.checkURL("KPUSH_URL", l.config.URL); u != nil && !strings.HasPrefix(l.config.URL, "/") {
		for _, part := range []string{"KPUSH_HOST", "KPUSH_PORT"} {
			if l.given(part) {
				l.wrong(part, "KPUSH_URL is a whole URL and names the host itself; leave %s unset", part)
			}
		}
		l.config.Hosts = []string{u.Hostname()}
		l.config.Port, _ = strconv.Atoi(cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])) // it is a port
	}
	l.checkURL("KPUSH_CONFIRM_URL", l.config.ConfirmURL)
	l.checkURL("KPUSH_READY_URL", l.config.ReadyURL)
}

// checkURL returns nil where the value is no URL of a service, and says why without the value: it may hold credentials.
func (l *loader) checkURL(name, value string) *url.URL {
	whole := value
	if strings.HasPrefix(value, "/") {
		whole = "http://localhost" + value
	}
	u, err := url.Parse(whole)
	switch {
	case value == "": // nothing is asked there
	case !isVisible(value):
		l.wrong(name, "holds a space or something else that a URL cannot; write it as %%20 and the like")
	case err != nil:
		l.wrong(name, "is not a URL; write a path such as /orders?v=1, or http://host:port/path")
	case u.Scheme != "http" && u.Scheme != "https":
		l.wrong(name, "must begin with / or be a whole URL, http://host:port/path or https://…")
	case !isHost(u.Hostname()) || u.Port() != "" && !isPort(u.Port(), 1) || strings.HasSuffix(u.Host, ":"):
		l.wrong(name, "has no proper host; write http://host:port/path")
	case strings.Contains(value, "#"):
		l.wrong(name, "no service ever sees what stands behind a #; leave it out")
	default:
		return u
	}
	return nil
}

// checkBatch refuses what has no meaning in a batch, or without one.
func (l *loader) checkBatch() {
	c := &l.config
	switch many := c.BatchSize > 1; {
	case len(l.problems["KPUSH_BATCH_SIZE"]) > 0:
	case !many:
		for _, name := range []string{"KPUSH_BATCH_LINGER", "KPUSH_BATCH_BYTES"} {
			if l.given(name) {
				l.wrong(name, "has no effect unless KPUSH_BATCH_SIZE is above 1; set that, too, or leave %s unset", name)
			}
		}
	case c.Format == "form":
		l.wrong("KPUSH_BATCH_SIZE", "must be 1 with KPUSH_FORMAT=form, since a form holds one message; leave one of them unset")
	}
}

func (l *loader) checkRetry() {
	c := &l.config
	if !l.given("KPUSH_RETRY_MAX_INTERVAL") {
		c.RetryMaxInterval = c.RetryInterval
	} else if c.RetryMaxInterval < c.RetryInterval && len(l.problems["KPUSH_RETRY_MAX_INTERVAL"]) == 0 {
		l.wrong("KPUSH_RETRY_MAX_INTERVAL", "must be at least KPUSH_RETRY_INTERVAL, which is %v", c.RetryInterval)
	}
}

// checkGuarantee holds the guarantee against what would break it.
func (l *loader) checkGuarantee() {
	c := &l.config
	switch c.Guarantee {
	case 1:
		if !l.given("KPUSH_COMMIT_INTERVAL") {
			c.CommitInterval = 5 * time.Second
		}
		for _, name := range []string{"KPUSH_OFFSETS_SYNC", "KPUSH_USE_SAVED_OFFSET_TIME", "KPUSH_CONFIRM_URL"} {
			if l.given(name) {
				l.wrong(name, "needs KPUSH_MESSAGE_DELIVERY_GUARANTEES=2 or 3: guarantee 1 keeps no record of deliveries")
			}
		}
	case 3:
		if l.given("KPUSH_OFFSETS_SYNC") && c.OffsetsSync != "always" {
			l.wrong("KPUSH_OFFSETS_SYNC", "must be always, or unset, with KPUSH_MESSAGE_DELIVERY_GUARANTEES=3: its promise is that a record is on the disk")
		}
		if c.dynamic() {
			l.wrong("KPUSH_INSTANCE_ID", "must not be none with KPUSH_MESSAGE_DELIVERY_GUARANTEES=3, which needs a static member")
		}
	}
}

// maxDrain leaves a minute of librdkafka's largest max.poll.interval.ms for what comes behind a drain.
const maxDrain = 24*time.Hour - time.Minute

// checkDrain holds the drains against each other, and against the max.poll.interval.ms that the client derives from them.
func (l *loader) checkDrain() {
	const name, revoke = "KPUSH_DRAIN_TIMEOUT", "KPUSH_REVOKE_TIMEOUT"
	c := &l.config
	switch {
	case !l.given(revoke):
		c.RevokeTimeout = min(c.RevokeTimeout, c.DrainTimeout)
	case c.RevokeTimeout > c.DrainTimeout && len(l.problems[revoke])+len(l.problems[name]) == 0:
		l.wrong(revoke, "must be at most KPUSH_DRAIN_TIMEOUT, which is %v", c.DrainTimeout)
	}
	if len(l.problems[name]) == 0 && l.config.DrainTimeout > maxDrain {
		l.wrong(name, "must be at most %v: nobody polls while a partition drains, and librdkafka's max.poll.interval.ms, which has to last a minute longer, ends at 24h", maxDrain)
	}
}
