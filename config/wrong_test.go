package config

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// environ is a good environment with some of its variables set anew; NAME= takes one out.
func environ(set ...string) []string {
	return append(set, "KPUSH_BROKERS=kafka:9092", "KPUSH_TOPIC=orders", "KPUSH_GROUP=shop")
}

// load is Load on a good environment with some variables set anew.
func load(t *testing.T, set ...string) *Config {
	t.Helper()
	c, err := Load(environ(set...))
	if err != nil {
		t.Fatalf("%q is refused:\n%v", set, err)
	}
	return c
}

// secret stands in every value below that no error may show.
const secret = "s3cr3t"

// wrongs are the ways to get each variable wrong. The sentence is the whole error.
var wrongs = []struct{ set, sentence string }{
	{"KPUSH_BROKERS=", "KPUSH_BROKERS: is required, such as kafka-1:9092,kafka-2:9092; or set KPUSH_CLUSTER"},
	{"KPUSH_BROKERS=kafka", "KPUSH_BROKERS: kafka is not a broker; write host:port,… such as kafka-1:9092, nothing before the host"},
	{"KPUSH_BROKERS=kafka:0", "KPUSH_BROKERS: kafka:0 is not a broker; write host:port,… such as kafka-1:9092, nothing before the host"},
	{"KPUSH_BROKERS=kafka:09092", "KPUSH_BROKERS: kafka:09092 is not a broker; write host:port,… such as kafka-1:9092, nothing before the host"},
	{"KPUSH_BROKERS=kafka:65536", "KPUSH_BROKERS: kafka:65536 is not a broker; write host:port,… such as kafka-1:9092, nothing before the host"},
	{"KPUSH_BROKERS=kafka:http", "KPUSH_BROKERS: kafka:http is not a broker; write host:port,… such as kafka-1:9092, nothing before the host"},
	{"KPUSH_BROKERS=SSL://kafka:9092", "KPUSH_BROKERS: SSL://kafka:9092 is not a broker; write host:port,… such as kafka-1:9092, nothing before the host"},
	{"KPUSH_BROKERS=a:9092,,b:9092", `KPUSH_BROKERS: "" is not a broker; write host:port,… such as kafka-1:9092, nothing before the host`},
	{"KPUSH_BROKERS=:9092", "KPUSH_BROKERS: :9092 is not a broker; write host:port,… such as kafka-1:9092, nothing before the host"},
	{"KPUSH_BROKERS=::1:9092", "KPUSH_BROKERS: ::1:9092 is not a broker; write host:port,… such as kafka-1:9092, nothing before the host"},

	{"KPUSH_CLUSTER=eu", "KPUSH_CLUSTER=eu: KPUSH_BROKERS is set as well; set one of them"},
	{"KPUSH_CLUSTER=eu KPUSH_BROKERS=", "KPUSH_CLUSTER=eu: KPUSH_BROKERS_eu is not set; set it, or KPUSH_BROKERS"},
	{"KPUSH_CLUSTER=eu KPUSH_BROKERS= KPUSH_BROKERS_EU=a:1 KPUSH_BROKERS_AM=b:1",
		"KPUSH_CLUSTER=eu: KPUSH_BROKERS_eu is not set; the clusters there are: AM,EU"},
	{"KPUSH_CLUSTER=EU KPUSH_BROKERS= KPUSH_BROKERS_EU=a",
		"KPUSH_BROKERS_EU: a is not a broker; write host:port,… such as kafka-1:9092, nothing before the host"},

	{"KPUSH_TOPIC=a,,b", "KPUSH_TOPIC=a,,b: there is nothing between two commas; write orders,payments"},
	{"KPUSH_TOPIC=^a.*", "KPUSH_TOPIC=^a.*: patterns are not taken, for a topic that comes to match one would be consumed before anybody has asked for it; name every topic"},
	{"KPUSH_TOPIC=a/b", "KPUSH_TOPIC=a/b: a/b is not a topic; Kafka takes up to 249 letters, digits, dots, underscores and hyphens"},
	{"KPUSH_TOPIC=..", "KPUSH_TOPIC=..: .. is not a topic; Kafka takes up to 249 letters, digits, dots, underscores and hyphens"},
	{"KPUSH_TOPIC=" + strings.Repeat("a", 250), "KPUSH_TOPIC=" + strings.Repeat("a", 80) + "…: " + strings.Repeat("a", 80) +
		"… is not a topic; Kafka takes up to 249 letters, digits, dots, underscores and hyphens"},
	{"KPUSH_TOPIC=a,b,a", "KPUSH_TOPIC=a,b,a: a is there twice; keep one"},

	{"KPUSH_GROUP=", "KPUSH_GROUP: is required with KPUSH_TOPIC; name the consumer group"},
	{"KPUSH_GROUP=a\tb", `KPUSH_GROUP="a\tb": holds a control character; write the group's name on one line`},

	{"KPUSH_HOST=a,,b", "KPUSH_HOST=a,,b: there is nothing between two commas; write app-1,app-2"},
	{"KPUSH_HOST=http://app", "KPUSH_HOST=http://app: http://app is not a host; a whole URL goes into KPUSH_URL"},
	{"KPUSH_HOST=app:81", "KPUSH_HOST=app:81: app:81 is not a host; the port goes into KPUSH_PORT"},
	{"KPUSH_HOST=-app", "KPUSH_HOST=-app: -app is not a host; write a name, an address, or unix:/path"},
	{"KPUSH_HOST=[::1", "KPUSH_HOST=[::1: [::1 is not a host; write a name, an address, or unix:/path"},
	{"KPUSH_HOST=app,app", "KPUSH_HOST=app,app: app is there twice; keep one"},
	{"KPUSH_HOST=::1,[::1]", "KPUSH_HOST=::1,[::1]: [::1] is there twice; keep one"},
	{"KPUSH_HOST=app,unix:", "KPUSH_HOST=app,unix:: unix: is not a socket; write unix: and its absolute path, such as unix:/run/app.sock"},
	{"KPUSH_HOST=unix:app.sock", "KPUSH_HOST=unix:app.sock: unix:app.sock is not a socket; write unix: and its absolute path, such as unix:/run/app.sock"},
	{"KPUSH_HOST=unix:///run/app.sock", "KPUSH_HOST=unix:///run/app.sock: unix:///run/app.sock is not a socket; write unix: and its absolute path, such as unix:/run/app.sock"},
	{"KPUSH_HOST=unix:/run/", "KPUSH_HOST=unix:/run/: unix:/run/ is not a socket; write unix: and its absolute path, such as unix:/run/app.sock"},
	{"KPUSH_HOST=unix:/", "KPUSH_HOST=unix:/: unix:/ is not a socket; write unix: and its absolute path, such as unix:/run/app.sock"},
	{"KPUSH_HOST=UNIX:/run/app.sock", "KPUSH_HOST=UNIX:/run/app.sock: UNIX:/run/app.sock is not a host; a whole URL goes into KPUSH_URL"},
	{"KPUSH_HOST=unix:/run/app.sock,app,unix:/run/app.sock", "KPUSH_HOST=unix:/run/app.sock,app,unix:/run/app.sock: unix:/run/app.sock is there twice; keep one"},
	{"KPUSH_HOST=unix:/" + strings.Repeat("a", 107), "KPUSH_HOST=unix:/" + strings.Repeat("a", 74) + "…: the path of unix:/" + strings.Repeat("a", 74) +
		"… has 108 bytes, and a socket's may have 107; mount it at a shorter one"},
	{"KPUSH_HOST=unix:/run/app.sock KPUSH_URL=http://app/", "KPUSH_HOST=unix:/run/app.sock: KPUSH_URL is a whole URL and names the host itself; leave KPUSH_HOST unset"},

	{"KPUSH_PORT=0", "KPUSH_PORT=0: must be from 1 to 65535"},
	{"KPUSH_PORT=65536", "KPUSH_PORT=65536: must be from 1 to 65535"},
	{"KPUSH_PORT=-1", "KPUSH_PORT=-1: must be from 1 to 65535"},
	{"KPUSH_PORT=http", "KPUSH_PORT=http: must be a whole number, such as 10"},
	{"KPUSH_PORT=0x50", "KPUSH_PORT=0x50: must be a whole number, such as 10"},
	{"KPUSH_PORT=010", "KPUSH_PORT=010: must be a whole number, such as 10"},
	{"KPUSH_PORT=80.5", "KPUSH_PORT=80.5: must be a whole number, such as 10"},
	{"KPUSH_PORT=80 KPUSH_HOST=unix:/run/a.sock,unix:/run/b.sock", "KPUSH_PORT=80: each KPUSH_HOST is a socket, which has no port; leave KPUSH_PORT unset"},

	{"KPUSH_URL=" + secret, "KPUSH_URL: must begin with / or be a whole URL, http://host:port/path or https://…"},
	{"KPUSH_URL=ftp://u:" + secret + "@app/", "KPUSH_URL: must begin with / or be a whole URL, http://host:port/path or https://…"},
	{"KPUSH_URL=/%" + secret, "KPUSH_URL: is not a URL; write a path such as /orders?v=1, or http://host:port/path"},
	{"KPUSH_URL=http://u:" + secret + "@[::1/", "KPUSH_URL: is not a URL; write a path such as /orders?v=1, or http://host:port/path"},
	{"KPUSH_URL=http:///" + secret, "KPUSH_URL: has no proper host; write http://host:port/path"},
	{"KPUSH_URL=http://app:99999/" + secret, "KPUSH_URL: has no proper host; write http://host:port/path"},
	{"KPUSH_URL=http://app:/" + secret, "KPUSH_URL: has no proper host; write http://host:port/path"},
	{"KPUSH_URL=/a\tb" + secret, "KPUSH_URL: holds a space or something else that a URL cannot; write it as %20 and the like"},
	{"KPUSH_URL=/a?ö=" + secret, "KPUSH_URL: holds a space or something else that a URL cannot; write it as %20 and the like"},
	{"KPUSH_URL=/a#" + secret, "KPUSH_URL: no service ever sees what stands behind a #; leave it out"},
	{"KPUSH_URL=http://app/ KPUSH_HOST=app", "KPUSH_HOST=app: KPUSH_URL is a whole URL and names the host itself; leave KPUSH_HOST unset"},
	{"KPUSH_URL=http://app/ KPUSH_PORT=80", "KPUSH_PORT=80: KPUSH_URL is a whole URL and names the host itself; leave KPUSH_PORT unset"},

	{"KPUSH_DOMAIN=http://example.com", "KPUSH_DOMAIN=http://example.com: is not a Host header; write a name such as example.com, with a port if need be"},
	{"KPUSH_DOMAIN=example.com:0", "KPUSH_DOMAIN=example.com:0: is not a Host header; write a name such as example.com, with a port if need be"},
	{"KPUSH_DOMAIN=::1", "KPUSH_DOMAIN=::1: is not a Host header; write a name such as example.com, with a port if need be"},
	{"KPUSH_DOMAIN=a\nX:1", `KPUSH_DOMAIN="a\nX:1": is not a Host header; write a name such as example.com, with a port if need be`},

	{"KPUSH_CONCURRENCY=0", "KPUSH_CONCURRENCY=0: must be a whole number from 1 to 10000, or auto"},
	{"KPUSH_CONCURRENCY=-1", "KPUSH_CONCURRENCY=-1: must be a whole number from 1 to 10000, or auto"},
	{"KPUSH_CONCURRENCY=10001", "KPUSH_CONCURRENCY=10001: must be a whole number from 1 to 10000, or auto"},
	{"KPUSH_CONCURRENCY=010", "KPUSH_CONCURRENCY=010: must be a whole number from 1 to 10000, or auto"},
	{"KPUSH_CONCURRENCY=many", "KPUSH_CONCURRENCY=many: must be a whole number from 1 to 10000, or auto"},
	{"KPUSH_CONCURRENCY=99999999999999999999", "KPUSH_CONCURRENCY=99999999999999999999: must be a whole number from 1 to 10000, or auto"},
	{"KPUSH_ORDER=topic", "KPUSH_ORDER=topic: must be one of partition, key, none"},

	{"KPUSH_CAN_SKIP=yes", "KPUSH_CAN_SKIP=yes: must be true or false"},
	{"KPUSH_API_ADDR=127.0.0.1:9400", "KPUSH_API_ADDR=127.0.0.1:9400: has the port of KPUSH_HEALTH_ADDR=:9400: give each its own, as :9400 and 127.0.0.1:9401"},
	{"KPUSH_HEALTH_ADDR=127.0.0.1:9401", "KPUSH_API_ADDR: has the port of KPUSH_HEALTH_ADDR=127.0.0.1:9401: give each its own, as :9400 and 127.0.0.1:9401"},
	{"KPUSH_RETRY_NUMS=-1", "KPUSH_RETRY_NUMS=-1: must be at least 0"},
	{"KPUSH_RETRY_NUMS=3s", "KPUSH_RETRY_NUMS=3s: must be a whole number, such as 10"},
	{"KPUSH_GIVE_UP_IN_A_ROW=-1", "KPUSH_GIVE_UP_IN_A_ROW=-1: must be from 0 to 1000000000"},
	{"KPUSH_GIVE_UP_IN_A_ROW=never", "KPUSH_GIVE_UP_IN_A_ROW=never: must be a whole number, such as 10"},
	{"KPUSH_BUFFER=9999999999GiB", "KPUSH_BUFFER=9999999999GiB: is more bytes than any machine has"},
	{"KPUSH_RETRY_INTERVAL=5", "KPUSH_RETRY_INTERVAL=5: a duration needs a unit, such as 5s or 500ms"},
	{"KPUSH_RETRY_INTERVAL=soon", "KPUSH_RETRY_INTERVAL=soon: is not a duration; write it as 5s, 500ms or 1m30s"},
	{"KPUSH_RETRY_INTERVAL=0s", "KPUSH_RETRY_INTERVAL=0s: must be at least 1ms: no pause at all would be a hot loop against a service that is down"},
	{"KPUSH_RETRY_INTERVAL=-1s", "KPUSH_RETRY_INTERVAL=-1s: must be at least 1ms: no pause at all would be a hot loop against a service that is down"},
	{"KPUSH_RETRY_MAX_INTERVAL=10", "KPUSH_RETRY_MAX_INTERVAL=10: a duration needs a unit, such as 5s or 500ms"},
	{"KPUSH_RETRY_MAX_INTERVAL=1s", "KPUSH_RETRY_MAX_INTERVAL=1s: must be at least KPUSH_RETRY_INTERVAL, which is 2s"},
	{"KPUSH_RETRY_MAX_INTERVAL=-1s", "KPUSH_RETRY_MAX_INTERVAL=-1s: must be at least KPUSH_RETRY_INTERVAL, which is 2s"},

	{"KPUSH_CONN_TIMEOUT=10", "KPUSH_CONN_TIMEOUT=10: a duration needs a unit, such as 5s or 500ms"},
	{"KPUSH_CONN_TIMEOUT=0s", "KPUSH_CONN_TIMEOUT=0s: must be at least 1ms"},
	{"KPUSH_CONN_TIMEOUT=s", "KPUSH_CONN_TIMEOUT=s: is not a duration; write it as 5s, 500ms or 1m30s"},
	{"KPUSH_EXEC_TIMEOUT=60", "KPUSH_EXEC_TIMEOUT=60: a duration needs a unit, such as 5s or 500ms"},
	{"KPUSH_EXEC_TIMEOUT=-1s", "KPUSH_EXEC_TIMEOUT=-1s: must be at least 0s"},
	{"KPUSH_EXEC_TIMEOUT=1d", "KPUSH_EXEC_TIMEOUT=1d: is not a duration; write it as 5s, 500ms or 1m30s"},
	{"KPUSH_SLOW_TIME=0", "KPUSH_SLOW_TIME=0: a duration needs a unit, such as 5s or 500ms"},
	{"KPUSH_SLOW_TIME=-1ms", "KPUSH_SLOW_TIME=-1ms: must be at least 0s"},

	{"KPUSH_FORMAT=xml", "KPUSH_FORMAT=xml: must be one of raw, form, json, cloudevents, cloudevents-structured"},
	{"KPUSH_CLOUDEVENTS_TYPE=com.shop\torder", `KPUSH_CLOUDEVENTS_TYPE="com.shop\torder": takes up to 255 characters of visible ASCII, such as com.example.order.placed`},
	{"KPUSH_CLOUDEVENTS_TYPE=ü", "KPUSH_CLOUDEVENTS_TYPE=ü: takes up to 255 characters of visible ASCII, such as com.example.order.placed"},
	{"KPUSH_CLOUDEVENTS_TYPE=" + strings.Repeat("a", 256), "KPUSH_CLOUDEVENTS_TYPE=" + strings.Repeat("a", 80) + "…: takes up to 255 characters of visible ASCII, such as com.example.order.placed"},
	{"KPUSH_ACK=200", "KPUSH_ACK=200: must be one of status, errno, dapr"},
	{"KPUSH_SKIP_ON=all", "KPUSH_SKIP_ON=all: must be one of message, any"},

	{"KPUSH_DEAD_LETTER_TOPIC=a/b", "KPUSH_DEAD_LETTER_TOPIC=a/b: is not a topic; Kafka takes up to 249 letters, digits, dots, underscores and hyphens"},
	{"KPUSH_DEAD_LETTER_TOPIC=a,b", "KPUSH_DEAD_LETTER_TOPIC=a,b: is not a topic; Kafka takes up to 249 letters, digits, dots, underscores and hyphens"},
	{"KPUSH_DEAD_LETTER_TOPIC=b KPUSH_TOPIC=a,b", "KPUSH_DEAD_LETTER_TOPIC=b: is in KPUSH_TOPIC as well, so what was given up would come again at once; name another topic"},
	{"KPUSH_REDRIVE_MAX=-1", "KPUSH_REDRIVE_MAX=-1: must be from 0 to 1000000000"},
	{"KPUSH_CONTENT_TYPE=json", "KPUSH_CONTENT_TYPE=json: is no media type; write it as application/json"},
	{"KPUSH_CONTENT_TYPE=JSON;charset=utf-8", "KPUSH_CONTENT_TYPE=JSON;charset=utf-8: is no media type; write it as application/json"},
	{"KPUSH_CONTENT_TYPE=application/", "KPUSH_CONTENT_TYPE=application/: is no media type; write it as application/json"},
	{"KPUSH_CONTENT_TYPE=/json", "KPUSH_CONTENT_TYPE=/json: is no media type; write it as application/json"},
	{"KPUSH_CONTENT_TYPE=/", "KPUSH_CONTENT_TYPE=/: is no media type; write it as application/json"},
	{"KPUSH_CONTENT_TYPE=a/b/c", "KPUSH_CONTENT_TYPE=a/b/c: is no media type; write it as application/json"},
	{"KPUSH_CONTENT_TYPE=text/plain;charset", "KPUSH_CONTENT_TYPE=text/plain;charset: is no media type; write it as application/json"},
	{"KPUSH_CONTENT_TYPE=ü/x", "KPUSH_CONTENT_TYPE=ü/x: is no media type; write it as application/json"},
	{"KPUSH_CONTENT_TYPE=text/plain,text/html", "KPUSH_CONTENT_TYPE=text/plain,text/html: is no media type; write it as application/json"},
	{"KPUSH_CONTENT_TYPE=a/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "KPUSH_CONTENT_TYPE=a/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…: is no media type; write it as application/json"},
	{"KPUSH_BATCH_SIZE=0", "KPUSH_BATCH_SIZE=0: must be from 1 to 10000"},
	{"KPUSH_BATCH_SIZE=10001", "KPUSH_BATCH_SIZE=10001: must be from 1 to 10000"},
	{"KPUSH_BATCH_SIZE=1e3", "KPUSH_BATCH_SIZE=1e3: must be a whole number, such as 10"},
	{"KPUSH_BATCH_SIZE=auto KPUSH_BATCH_LINGER=1ms", "KPUSH_BATCH_SIZE=auto: must be a whole number, such as 10"},
	{"KPUSH_BATCH_SIZE=2 KPUSH_FORMAT=form", "KPUSH_BATCH_SIZE=2: must be 1 with KPUSH_FORMAT=form, since a form holds one message; leave one of them unset"},
	{"KPUSH_BATCH_SIZE=2 KPUSH_BATCH_LINGER=-1ms", "KPUSH_BATCH_LINGER=-1ms: must be from 0s to 1m"},
	{"KPUSH_BATCH_SIZE=2 KPUSH_BATCH_LINGER=61s", "KPUSH_BATCH_LINGER=61s: must be from 0s to 1m"},
	{"KPUSH_BATCH_SIZE=2 KPUSH_BATCH_LINGER=5", "KPUSH_BATCH_LINGER=5: a duration needs a unit, such as 5s or 500ms"},
	{"KPUSH_BATCH_SIZE=2 KPUSH_BATCH_LINGER=x", "KPUSH_BATCH_LINGER=x: is not a duration; write it as 5s, 500ms or 1m30s"},
	{"KPUSH_BATCH_SIZE=2 KPUSH_BATCH_BYTES=0", "KPUSH_BATCH_BYTES=0: must be at least 1KiB"},
	{"KPUSH_BATCH_SIZE=2 KPUSH_BATCH_BYTES=1048576", "KPUSH_BATCH_BYTES=1048576: a size needs a unit, KiB, MiB or GiB, such as 16MiB"},
	{"KPUSH_BATCH_BYTES=1MiB", "KPUSH_BATCH_BYTES=1MiB: has no effect unless KPUSH_BATCH_SIZE is above 1; set that, too, or leave KPUSH_BATCH_BYTES unset"},
	{"KPUSH_BATCH_LINGER=5ms", "KPUSH_BATCH_LINGER=5ms: has no effect unless KPUSH_BATCH_SIZE is above 1; set that, too, or leave KPUSH_BATCH_LINGER unset"},
	{"KPUSH_BATCH_SIZE=1 KPUSH_BATCH_LINGER=0s", "KPUSH_BATCH_LINGER=0s: has no effect unless KPUSH_BATCH_SIZE is above 1; set that, too, or leave KPUSH_BATCH_LINGER unset"},

	{"KPUSH_MESSAGE_DELIVERY_GUARANTEES=0", "KPUSH_MESSAGE_DELIVERY_GUARANTEES=0: must be from 1 to 3"},
	{"KPUSH_MESSAGE_DELIVERY_GUARANTEES=4", "KPUSH_MESSAGE_DELIVERY_GUARANTEES=4: must be from 1 to 3"},
	{"KPUSH_MESSAGE_DELIVERY_GUARANTEES=exactly", "KPUSH_MESSAGE_DELIVERY_GUARANTEES=exactly: must be a whole number, such as 10"},
	{"KPUSH_MESSAGE_DELIVERY_GUARANTEES=1 KPUSH_CONFIRM_URL=/has", "KPUSH_CONFIRM_URL: needs KPUSH_MESSAGE_DELIVERY_GUARANTEES=2 or 3: guarantee 1 keeps no record of deliveries"},
	{"KPUSH_MESSAGE_DELIVERY_GUARANTEES=3 KPUSH_INSTANCE_ID=none", "KPUSH_INSTANCE_ID=none: must not be none with KPUSH_MESSAGE_DELIVERY_GUARANTEES=3, which needs a static member"},
	{"KPUSH_MESSAGE_DELIVERY_GUARANTEES=3 KPUSH_INSTANCE_ID=None", "KPUSH_INSTANCE_ID=None: must not be none with KPUSH_MESSAGE_DELIVERY_GUARANTEES=3, which needs a static member"},
	{"KPUSH_CONFIRM_URL=ftp://u:" + secret + "@app/", "KPUSH_CONFIRM_URL: must begin with / or be a whole URL, http://host:port/path or https://…"},
	{"KPUSH_CONFIRM_URL=http://u:" + secret + "@app/#x", "KPUSH_CONFIRM_URL: no service ever sees what stands behind a #; leave it out"},

	{"KPUSH_OFFSETS_DIR=/var\x00/lib", `KPUSH_OFFSETS_DIR: holds a NUL byte; write it as plain text`},
	{"KPUSH_OFFSETS_SYNC=5", "KPUSH_OFFSETS_SYNC=5: write always, never, or how long a record may stay off the disk, such as 5ms (at least 1ms)"},
	{"KPUSH_OFFSETS_SYNC=1us", "KPUSH_OFFSETS_SYNC=1us: write always, never, or how long a record may stay off the disk, such as 5ms (at least 1ms)"},
	{"KPUSH_MESSAGE_DELIVERY_GUARANTEES=1 KPUSH_OFFSETS_SYNC=always", "KPUSH_OFFSETS_SYNC=always: needs KPUSH_MESSAGE_DELIVERY_GUARANTEES=2 or 3: guarantee 1 keeps no record of deliveries"},
	{"KPUSH_MESSAGE_DELIVERY_GUARANTEES=1 KPUSH_USE_SAVED_OFFSET_TIME=-1s", "KPUSH_USE_SAVED_OFFSET_TIME=-1s: needs KPUSH_MESSAGE_DELIVERY_GUARANTEES=2 or 3: guarantee 1 keeps no record of deliveries"},
	{"KPUSH_MESSAGE_DELIVERY_GUARANTEES=3 KPUSH_OFFSETS_SYNC=5ms", "KPUSH_OFFSETS_SYNC=5ms: must be always, or unset, with KPUSH_MESSAGE_DELIVERY_GUARANTEES=3: its promise is that a record is on the disk"},
	{"KPUSH_USE_SAVED_OFFSET_TIME=-2", "KPUSH_USE_SAVED_OFFSET_TIME=-2: a duration needs a unit, such as 5s or 500ms"},
	{"KPUSH_USE_SAVED_OFFSET_TIME=10", "KPUSH_USE_SAVED_OFFSET_TIME=10: a duration needs a unit, such as 5s or 500ms"},
	{"KPUSH_USE_SAVED_OFFSET_TIME=never", "KPUSH_USE_SAVED_OFFSET_TIME=never: is not a duration; write it as 5s, 500ms or 1m30s"},
	{"KPUSH_COMMIT_INTERVAL=9ms", "KPUSH_COMMIT_INTERVAL=9ms: must be from 10ms to 1m"},
	{"KPUSH_COMMIT_INTERVAL=61s", "KPUSH_COMMIT_INTERVAL=61s: must be from 10ms to 1m"},
	{"KPUSH_COMMIT_INTERVAL=200", "KPUSH_COMMIT_INTERVAL=200: a duration needs a unit, such as 5s or 500ms"},
	{"KPUSH_COMMIT_INTERVAL=ms", "KPUSH_COMMIT_INTERVAL=ms: is not a duration; write it as 5s, 500ms or 1m30s"},
	{"KPUSH_AUTO_OFFSET_RESET=none", "KPUSH_AUTO_OFFSET_RESET=none: must be one of earliest, latest, error"},

	{"KPUSH_SECURITY_PROTOCOL=tls", "KPUSH_SECURITY_PROTOCOL=tls: must be one of plaintext, ssl, sasl_plaintext, sasl_ssl"},
	{"KPUSH_SECURITY_PROTOCOL=sasl_ssl", "KPUSH_SASL_MECHANISM: is required with a SASL security protocol; set PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"},
	{"KPUSH_SASL_MECHANISM=MD5", "KPUSH_SASL_MECHANISM=MD5: must be one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER"},
	{"KPUSH_SASL_MECHANISM=GSSAPI", "KPUSH_SASL_MECHANISM=GSSAPI: " + noKerberos},
	{"KPUSH_SASL_MECHANISM=aws_msk_iam", "KPUSH_SASL_MECHANISM=aws_msk_iam: " + noAWS},
	{"KPUSH_SASL_MECHANISM=PLAIN", "KPUSH_SASL_MECHANISM=PLAIN: has no effect unless KPUSH_SECURITY_PROTOCOL is sasl_ssl or sasl_plaintext"},
	{"KPUSH_SASL_USERNAME=" + secret, "KPUSH_SASL_USERNAME: has no effect unless KPUSH_SECURITY_PROTOCOL is sasl_ssl or sasl_plaintext"},
	{"KPUSH_SASL_PASSWORD=" + secret, "KPUSH_SASL_PASSWORD: has no effect unless KPUSH_SECURITY_PROTOCOL is sasl_ssl or sasl_plaintext"},
	{"KPUSH_SECURITY_PROTOCOL=sasl_plaintext KPUSH_SASL_MECHANISM=PLAIN KPUSH_SASL_PASSWORD=" + secret,
		"KPUSH_SASL_USERNAME: is required with PLAIN; set it, or KPUSH_SASL_USERNAME_FILE"},
	{"KPUSH_SECURITY_PROTOCOL=sasl_plaintext KPUSH_SASL_MECHANISM=scram-sha-512 KPUSH_SASL_USERNAME=" + secret,
		"KPUSH_SASL_PASSWORD: is required with SCRAM-SHA-512; set it, or KPUSH_SASL_PASSWORD_FILE"},
	{"KPUSH_SECURITY_PROTOCOL=sasl_ssl KPUSH_SASL_MECHANISM=OAUTHBEARER", "KPUSH_SASL_MECHANISM=OAUTHBEARER: " + noTokens},
	{"KPUSH_SECURITY_PROTOCOL=sasl_ssl KPUSH_SASL_MECHANISM=OAUTHBEARER KPUSH_CONSUMER_CONF=sasl.oauthbearer.method=default;enable.sasl.oauthbearer.unsecure.jwt=false",
		"KPUSH_SASL_MECHANISM=OAUTHBEARER: " + noTokens},
	{"KPUSH_SSL_CA_FILE=/dev/null KPUSH_SECURITY_PROTOCOL=ssl", "KPUSH_SSL_CA_FILE=/dev/null: is not a regular file; name a PEM file"},
	{"KPUSH_SSL_CA_FILE=/no/ca.pem KPUSH_SECURITY_PROTOCOL=ssl",
		"KPUSH_SSL_CA_FILE=/no/ca.pem: cannot be read (no such file or directory); mount the file or correct the path"},
	{"KPUSH_SSL_CERT_FILE=/ KPUSH_SSL_KEY_FILE=/etc/passwd KPUSH_SECURITY_PROTOCOL=ssl",
		"KPUSH_SSL_CERT_FILE=/: is not a regular file; name a PEM file"},
	{"KPUSH_SSL_CERT_FILE=/etc/passwd KPUSH_SECURITY_PROTOCOL=ssl",
		"KPUSH_SSL_CERT_FILE=/etc/passwd: needs KPUSH_SSL_KEY_FILE as well; a certificate and its key go together"},
	{"KPUSH_SSL_KEY_FILE=/etc/passwd KPUSH_SECURITY_PROTOCOL=ssl",
		"KPUSH_SSL_KEY_FILE=/etc/passwd: needs KPUSH_SSL_CERT_FILE as well; a certificate and its key go together"},
	{"KPUSH_SSL_CA_FILE=/etc/passwd", "KPUSH_SSL_CA_FILE=/etc/passwd: has no effect unless KPUSH_SECURITY_PROTOCOL is ssl or sasl_ssl"},

	{"KPUSH_INSTANCE_ID=a/b", "KPUSH_INSTANCE_ID=a/b: Kafka takes up to 249 letters, digits, dots, underscores and hyphens"},
	{"KPUSH_INSTANCE_ID=.", "KPUSH_INSTANCE_ID=.: Kafka takes up to 249 letters, digits, dots, underscores and hyphens"},
	{"KPUSH_BUFFER=16", "KPUSH_BUFFER=16: a size needs a unit, KiB, MiB or GiB, such as 16MiB"},
	{"KPUSH_BUFFER=16MB", "KPUSH_BUFFER=16MB: a size needs a unit, KiB, MiB or GiB, such as 16MiB"},
	{"KPUSH_BUFFER=-1MiB", "KPUSH_BUFFER=-1MiB: a size needs a unit, KiB, MiB or GiB, such as 16MiB"},
	{"KPUSH_BUFFER=9999999999999MiB", "KPUSH_BUFFER=9999999999999MiB: is more bytes than any machine has"},
	{"KPUSH_BUFFER=1023KiB", "KPUSH_BUFFER=1023KiB: must be at least 1MiB: a single message can be that large"},
	{"KPUSH_BUFFER=0", "KPUSH_BUFFER=0: must be at least 1MiB: a single message can be that large"},
	{"KPUSH_DRAIN_TIMEOUT=0s", "KPUSH_DRAIN_TIMEOUT=0s: must be at least 1ms"},
	{"KPUSH_DRAIN_TIMEOUT=-25s", "KPUSH_DRAIN_TIMEOUT=-25s: must be at least 1ms"},
	{"KPUSH_DRAIN_TIMEOUT=25", "KPUSH_DRAIN_TIMEOUT=25: a duration needs a unit, such as 5s or 500ms"},
	{"KPUSH_DRAIN_TIMEOUT=ages", "KPUSH_DRAIN_TIMEOUT=ages: is not a duration; write it as 5s, 500ms or 1m30s"},
	{"KPUSH_REVOKE_TIMEOUT=0s", "KPUSH_REVOKE_TIMEOUT=0s: must be at least 1ms"},
	{"KPUSH_REVOKE_TIMEOUT=5", "KPUSH_REVOKE_TIMEOUT=5: a duration needs a unit, such as 5s or 500ms"},
	{"KPUSH_REVOKE_TIMEOUT=26s", "KPUSH_REVOKE_TIMEOUT=26s: must be at most KPUSH_DRAIN_TIMEOUT, which is 25s"},
	{"KPUSH_DRAIN_TIMEOUT=24h", "KPUSH_DRAIN_TIMEOUT=24h: must be at most 23h59m0s: nobody polls while a partition drains, and librdkafka's max.poll.interval.ms, which has to last a minute longer, ends at 24h"},
	{"KPUSH_READY_URL=" + secret, "KPUSH_READY_URL: must begin with / or be a whole URL, http://host:port/path or https://…"},
	{"KPUSH_READY_URL=http://u:" + secret + "@/", "KPUSH_READY_URL: has no proper host; write http://host:port/path"},
	{"KPUSH_READY_URL=/up?token=" + secret + "#x", "KPUSH_READY_URL: no service ever sees what stands behind a #; leave it out"},
	{"KPUSH_READY_URL=unix:/" + secret, "KPUSH_READY_URL: must begin with / or be a whole URL, http://host:port/path or https://…"},

	{"KPUSH_HEALTH_ADDR=9400", "KPUSH_HEALTH_ADDR=9400: is not an address to listen on; write :9400 or 127.0.0.1:9400"},
	{"KPUSH_HEALTH_ADDR=:65536", "KPUSH_HEALTH_ADDR=:65536: is not an address to listen on; write :9400 or 127.0.0.1:9400"},
	{"KPUSH_HEALTH_ADDR=.x:9400", "KPUSH_HEALTH_ADDR=.x:9400: is not an address to listen on; write :9400 or 127.0.0.1:9400"},
	{"KPUSH_HEALTH_ADDR=:http", "KPUSH_HEALTH_ADDR=:http: is not an address to listen on; write :9400 or 127.0.0.1:9400"},
	{"KPUSH_HEALTH_ADDR=http://app:9400", "KPUSH_HEALTH_ADDR=http://app:9400: is not an address to listen on; write :9400 or 127.0.0.1:9400"},
	{"KPUSH_API_ADDR=9401", "KPUSH_API_ADDR=9401: is not an address to listen on; write 127.0.0.1:9401"},
	{"KPUSH_API_ADDR=:http KPUSH_API_TOKEN=" + secret, "KPUSH_API_ADDR=:http: is not an address to listen on; write 127.0.0.1:9401"},
	{"KPUSH_API_ADDR=:9401", "KPUSH_API_ADDR=:9401: is not on loopback, where anybody could skip messages; set KPUSH_API_TOKEN or KPUSH_API_TOKEN_FILE, or write 127.0.0.1:9401"},
	{"KPUSH_API_ADDR=0.0.0.0:0", "KPUSH_API_ADDR=0.0.0.0:0: is not on loopback, where anybody could skip messages; set KPUSH_API_TOKEN or KPUSH_API_TOKEN_FILE, or write 127.0.0.1:9401"},
	{"KPUSH_API_ADDR=[::]:1", "KPUSH_API_ADDR=[::]:1: is not on loopback, where anybody could skip messages; set KPUSH_API_TOKEN or KPUSH_API_TOKEN_FILE, or write 127.0.0.1:9401"},
	{"KPUSH_API_ADDR=localhost.example:1", "KPUSH_API_ADDR=localhost.example:1: is not on loopback, where anybody could skip messages; set KPUSH_API_TOKEN or KPUSH_API_TOKEN_FILE, or write 127.0.0.1:9401"},
	{"KPUSH_SERVICE_CA_FILE=/no/such KPUSH_URL=https://app/", "KPUSH_SERVICE_CA_FILE=/no/such: cannot be read (no such file or directory); mount the file or correct the path"},
	{"KPUSH_SERVICE_CA_FILE=/dev/zero KPUSH_READY_URL=https://app/", "KPUSH_SERVICE_CA_FILE=/dev/zero: is not a regular file; name a PEM file"},
	{"KPUSH_SERVICE_CA_FILE=check.go", "KPUSH_SERVICE_CA_FILE=check.go: has no effect unless KPUSH_URL is a whole URL that begins with https://"},
	{"KPUSH_SERVICE_CERT_FILE=check.go KPUSH_URL=https://app/", "KPUSH_SERVICE_CERT_FILE=check.go: needs KPUSH_SERVICE_KEY_FILE as well; a certificate and its key go together"},
	{"KPUSH_SERVICE_KEY_FILE=check.go KPUSH_CONFIRM_URL=HTTPS://app/", "KPUSH_SERVICE_KEY_FILE=check.go: needs KPUSH_SERVICE_CERT_FILE as well; a certificate and its key go together"},
	{"KPUSH_SERVICE_TOKEN=ö" + secret, "KPUSH_SERVICE_TOKEN: travels in a header: it takes visible ASCII, and no spaces"},
	{"KPUSH_SERVICE_TOKEN=" + secret + " KPUSH_URL=http://u@app/", "KPUSH_SERVICE_TOKEN: KPUSH_URL holds a user, who is shown in the same header; keep one of them"},
	{"KPUSH_API_TOKEN=" + secret + " KPUSH_API_ADDR=9401", "KPUSH_API_ADDR=9401: is not an address to listen on; write 127.0.0.1:9401"},
	{"KPUSH_API_TOKEN=" + secret + "\t", "KPUSH_API_TOKEN: travels in a header: it takes visible ASCII, and no spaces"},
	{"KPUSH_API_TOKEN=ö" + secret, "KPUSH_API_TOKEN: travels in a header: it takes visible ASCII, and no spaces"},
	{"KPUSH_PUBLISH_TOPICS=a,b/c", "KPUSH_PUBLISH_TOPICS=a,b/c: b/c is not a topic, nor the beginning of one with a * behind it; write orders,billing-*"},
	{"KPUSH_PUBLISH_TOPICS=a*b", "KPUSH_PUBLISH_TOPICS=a*b: a*b is not a topic, nor the beginning of one with a * behind it; write orders,billing-*"},
	{"KPUSH_PUBLISH_TOPICS=a,,b", `KPUSH_PUBLISH_TOPICS=a,,b: "" is not a topic, nor the beginning of one with a * behind it; write orders,billing-*`},
	{"KPUSH_PUBLISH_TOPICS=..", "KPUSH_PUBLISH_TOPICS=..: .. is not a topic, nor the beginning of one with a * behind it; write orders,billing-*"},
	{"KPUSH_PUBLISH_SPOOL=1023KiB", "KPUSH_PUBLISH_SPOOL=1023KiB: must be 0, or at least 1MiB: a record has to fit"},
	{"KPUSH_LOG_LEVEL=trace", "KPUSH_LOG_LEVEL=trace: must be one of debug, info, warn, error"},
	{"KPUSH_LOG_LEVEL=info+1", "KPUSH_LOG_LEVEL=info+1: must be one of debug, info, warn, error"},
	{"KPUSH_LOG_FORMAT=xml", "KPUSH_LOG_FORMAT=xml: must be one of json, text"},
}

func TestEveryWayToGetAVariableWrong(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range wrongs {
		_, err := Load(environ(strings.Split(row.set, " ")...))
		if err == nil {
			t.Errorf("%q is taken\n  want %s", row.set, row.sentence)
			continue
		}
		if got := err.Error(); got != row.sentence {
			t.Errorf("%q\n  says %s\n  want %s", row.set, got, row.sentence)
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%q: the secret is in the error: %v", row.set, err)
		}
		for name := range strings.SplitSeq(row.set, " ") {
			name, _, _ = strings.Cut(name, "=")
			seen[name] = true
		}
	}
	seen["KPUSH_CONSUMER_CONF"], seen["KPUSH_PRODUCER_CONF"] = true, true // have tables of their own
	for _, f := range fields {
		if !seen[f.name] {
			t.Errorf("no row gets %s wrong", f.name)
		}
	}
}

func TestEveryWayToGetProducerConfWrong(t *testing.T) {
	for _, row := range []struct{ conf, sentence string }{
		{secret, "entry 1 is not a property"},
		{"acks=1", "acks is not yours to set: a 200 means that all in-sync replicas have the record, once"},
		{"request.required.acks=1", "request.required.acks is not yours to set: a 200"},
		{"enable.idempotence=false", "enable.idempotence is not yours to set: a 200"},
		{"transactional.id=" + secret, "transactional.id is not yours to set: kpush publishes outside of transactions"},
		{"enable.gapless.guarantee=true", "enable.gapless.guarantee is not yours to set: a record"},
		{"queue.buffering.max.kbytes=1", "queue.buffering.max.kbytes is not yours to set: set KPUSH_BUFFER"},
		{"delivery.report.only.error=true", "delivery.report.only.error is not yours"},
		{"topic.metadata.propagation.max.ms=1", "topic.metadata.propagation.max.ms is not yours"},
		{"bootstrap.servers=" + secret, "bootstrap.servers is not yours to set: set KPUSH_BROKERS"},
		{"allow.auto.create.topics=true", "allow.auto.create.topics is not yours to set: a mistyped topic must not come into being"},
		{"dr_msg_cb=x", "dr_msg_cb is not yours to set: callbacks are kpush's own"},
		{"log.queue=true", "log.queue is not yours"},
		{"go.batch.producer=true", "go.batch.producer is not yours"},
		{"fetch.wait.max.ms=1", "fetch.wait.max.ms is a consumer's; set it in KPUSH_CONSUMER_CONF"},
		{"group.id=a", "group.id is a consumer's"},
		{"delivery.timeout.ms=0", "delivery.timeout.ms must be from 1000 to 3600000 milliseconds: so long a caller may wait"},
		{"message.timeout.ms=soon", "delivery.timeout.ms must be from 1000"},
		{"linger.ms=1;queue.buffering.max.ms=1", "linger.ms and queue.buffering.max.ms are the same property, so it is there twice; keep one"},
	} {
		_, err := Load(environ("KPUSH_PRODUCER_CONF=" + row.conf))
		if err == nil || !strings.Contains(err.Error(), "KPUSH_PRODUCER_CONF: "+row.sentence) || strings.Contains(err.Error(), secret) {
			t.Errorf("%q\n  says %v\n  want %s", row.conf, err, row.sentence)
		}
	}
	if _, err := Load(environ("KPUSH_SECURITY_PROTOCOL=ssl", "KPUSH_PRODUCER_CONF=security.protocol=plaintext")); err == nil {
		t.Error("the security variables are overruled")
	}
}

func TestEveryWayToGetConsumerConfWrong(t *testing.T) {
	const form = "is not a property; write name=value, one a line or ; apart"
	for _, row := range []struct{ conf, sentence string }{
		{secret, "entry 1 " + form},
		{"client.id=a;" + secret + "+ = b", "entry 2 is not a property"},
		{"sasl.password=a\n" + strings.ToUpper(secret) + "==", "entry 2 " + form},
		{"=" + secret, "entry 1 " + form},
		{"ssl.key.pem=-----BEGIN PRIVATE KEY-----\nMII" + secret + "\n-----END", "entry 3 " + form},
		{"debug=", "debug has no value; librdkafka refuses that, so leave it out"},
		{"debug = ;client.id=a", "debug has no value; librdkafka refuses that, so leave it out"},
		{"sasl.password=" + secret + ";sasl.password=" + secret + "2", "sasl.password is there twice; keep one"},
		{"fetch.message.max.bytes=1;max.partition.fetch.bytes=2", "fetch.message.max.bytes and max.partition.fetch.bytes are the same property, so it is there twice; keep one"},
		{"sasl.mechanisms=PLAIN;sasl.mechanism=PLAIN", "sasl.mechanisms and sasl.mechanism are the same property, so it is there twice; keep one"},
		{"sasl.mechanism=PLAIN;sasl.mechanism=PLAIN", "sasl.mechanism is there twice; keep one"},
		{"bootstrap.servers=" + secret, "bootstrap.servers is not yours to set: set KPUSH_BROKERS"},
		{"metadata.broker.list=a", "metadata.broker.list is not yours to set: set KPUSH_BROKERS"},
		{"group.id=a", "group.id is not yours to set: set KPUSH_GROUP"},
		{"group.instance.id=a", "group.instance.id is not yours to set: set KPUSH_INSTANCE_ID"},
		{"group.protocol=consumer", "group.protocol is not yours to set: kpush's start and stop are built on the classic protocol"},
		{"group.protocol.type=consumer", "group.protocol.type is not yours to set: kpush's start"},
		{"group.remote.assignor=uniform", "group.remote.assignor is not yours to set: kpush's start"},
		{"partition.assignment.strategy=range", "partition.assignment.strategy is not yours to set: kpush drains partitions"},
		{"enable.auto.commit=true", "enable.auto.commit is not yours to set: kpush commits what was delivered, and nothing else"},
		{"auto.commit.enable=true", "auto.commit.enable is not yours to set: kpush commits what was delivered, and nothing else"},
		{"enable.auto.offset.store=true", "enable.auto.offset.store is not yours to set: kpush commits what"},
		{"offset.store.method=file", "offset.store.method is not yours to set: kpush keeps offsets in KPUSH_OFFSETS_DIR"},
		{"auto.commit.interval.ms=1", "auto.commit.interval.ms is not yours to set: set KPUSH_COMMIT_INTERVAL"},
		{"auto.offset.reset=latest", "auto.offset.reset is not yours to set: set KPUSH_AUTO_OFFSET_RESET"},
		{"queued.min.messages=1", "queued.min.messages is not yours to set: set KPUSH_BUFFER"},
		{"queued.max.messages.kbytes=1", "queued.max.messages.kbytes is not yours to set: set KPUSH_BUFFER"},
		{"enable.partition.eof=true", "enable.partition.eof is not yours to set: kpush would take the event for nothing"},
		{"allow.auto.create.topics=true", "allow.auto.create.topics is not yours to set: a mistyped topic must not come into being"},
		{"plugin.library.paths=/x", "plugin.library.paths is not yours to set: the static build loads no plugins"},
		{"statistics.interval.ms=1", "statistics.interval.ms is not yours to set: kpush reads no statistics of librdkafka"},
		{"rebalance_cb=x", "rebalance_cb is not yours to set: callbacks are kpush's own"},
		{"offset_commit_cb=x", "offset_commit_cb is not yours to set: callbacks are kpush's own"},
		{"opaque=x", "opaque is not yours to set: callbacks are kpush's own"},
		{"enabled_events=1", "enabled_events is not yours to set: events are kpush's own"},
		{"log.queue=true", "log.queue is not yours to set: the log is kpush's own; set KPUSH_LOG_LEVEL"},
		{"go.events.channel.enable=true", "go.events.channel.enable is not yours to set: the Go client is kpush's own"},
		{"security.protocol=sasl_ssl;sasl.mechanism=gssapi", noKerberos},
		{"security.protocol=sasl_ssl;sasl.mechanism=oauthbearer", noTokens},
		{"security.protocol=sasl_ssl;sasl.mechanism=AWS_MSK_IAM", noAWS},
		{"security.protocol=sasl_ssl;sasl.mechanism=OAUTHBEARER;sasl.oauthbearer.method=oidc;sasl.oauthbearer.metadata.authentication.type=aws_iam", noAWS},
	} {
		_, err := Load(environ("KPUSH_CONSUMER_CONF=" + row.conf))
		if err == nil {
			t.Errorf("%q is taken", row.conf)
			continue
		}
		if !strings.Contains(err.Error(), "KPUSH_CONSUMER_CONF: "+row.sentence) {
			t.Errorf("%q\n  says %v\n  want %s", row.conf, err, row.sentence)
		}
		if strings.Contains(strings.ToLower(err.Error()), secret) {
			t.Errorf("%q: the secret is in the error: %v", row.conf, err)
		}
	}
}

func TestConsumerConfAndTheSecurityVariablesDoNotMeet(t *testing.T) {
	pem := filepath.Join(t.TempDir(), "x.pem")
	if err := os.WriteFile(pem, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := environ("KPUSH_SECURITY_PROTOCOL=sasl_ssl", "KPUSH_SASL_MECHANISM=PLAIN", "KPUSH_SASL_USERNAME=u", "KPUSH_SASL_PASSWORD="+secret,
		"KPUSH_SSL_CA_FILE="+pem, "KPUSH_SSL_CERT_FILE="+pem, "KPUSH_SSL_KEY_FILE="+pem)
	for property, variable := range map[string]string{
		"security.protocol": "KPUSH_SECURITY_PROTOCOL", "sasl.mechanisms": "KPUSH_SASL_MECHANISM", "sasl.mechanism": "KPUSH_SASL_MECHANISM",
		"sasl.username": "KPUSH_SASL_USERNAME", "sasl.password": "KPUSH_SASL_PASSWORD", "ssl.ca.location": "KPUSH_SSL_CA_FILE",
		"ssl.certificate.location": "KPUSH_SSL_CERT_FILE", "ssl.key.location": "KPUSH_SSL_KEY_FILE",
	} {
		_, err := Load(append(base, "KPUSH_CONSUMER_CONF="+property+"="+secret))
		want := "KPUSH_CONSUMER_CONF: " + cmp.Or(aliases[property], property) + " is set through " + variable + " as well; set one of them"
		if err == nil || err.Error() != want {
			t.Errorf("%s\n  says %v\n  want %s", property, err, want)
		}
	}
}
