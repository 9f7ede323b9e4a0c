package config

import (
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// contract is the table that users rely on, written down a second time: variable, origin's option, default.
var contract = [][3]string{
	{"KPUSH_BROKERS", "metadata.broker.list", "–"},
	{"KPUSH_CLUSTER", "cluster", "–"},
	{"KPUSH_TOPIC", "(file name)", "–"},
	{"KPUSH_GROUP", "(file name)", "–"},
	{"KPUSH_HOST", "host", "127.0.0.1"},
	{"KPUSH_PORT", "port", "80"},
	{"KPUSH_URL", "url", "/"},
	{"KPUSH_DOMAIN", "domain", "–"},
	{"KPUSH_CONCURRENCY", "concurrency", "16"},
	{"KPUSH_ORDER", "async_concurrency", "partition"},
	{"KPUSH_CAN_SKIP", "can_skip", "false"},
	{"KPUSH_RETRY_NUMS", "retry_nums", "3"},
	{"KPUSH_GIVE_UP_IN_A_ROW", "", "12"},
	{"KPUSH_RETRY_INTERVAL", "retry_interval_ms", "2s"},
	{"KPUSH_RETRY_MAX_INTERVAL", "", "= interval"},
	{"KPUSH_CONN_TIMEOUT", "conn_timeout_ms", "10s"},
	{"KPUSH_EXEC_TIMEOUT", "exec_timeout_ms", "60s"},
	{"KPUSH_SLOW_TIME", "slow_time_ms", "1s"},
	{"KPUSH_FORMAT", "(always form)", "raw"},
	{"KPUSH_CLOUDEVENTS_TYPE", "", "kafka.record"},
	{"KPUSH_CONTENT_TYPE", "", "application/octet-stream"},
	{"KPUSH_ACK", "(always errno)", "status"},
	{"KPUSH_SKIP_ON", "", "message"},
	{"KPUSH_DEAD_LETTER_TOPIC", "", "–"},
	{"KPUSH_REDRIVE_MAX", "", "3"},
	{"KPUSH_BATCH_SIZE", "", "1"},
	{"KPUSH_BATCH_LINGER", "", "5ms"},
	{"KPUSH_BATCH_BYTES", "", "1MiB"},
	{"KPUSH_MESSAGE_DELIVERY_GUARANTEES", "message_delivery_guarantees", "2"},
	{"KPUSH_CONFIRM_URL", "", "–"},
	{"KPUSH_OFFSETS_DIR", "log path /process", "/var/lib/kpush"},
	{"KPUSH_OFFSETS_SYNC", "", "by guarantee"},
	{"KPUSH_USE_SAVED_OFFSET_TIME", "use_saved_offset_time", "0s"},
	{"KPUSH_COMMIT_INTERVAL", "auto.commit.interval.ms", "200ms"},
	{"KPUSH_AUTO_OFFSET_RESET", "auto.offset.reset", "earliest"},
	{"KPUSH_CONSUMER_CONF", "consumer_conf, consumer_topic_conf", "–"},
	{"KPUSH_PRODUCER_CONF", "setConf", "–"},
	{"KPUSH_SECURITY_PROTOCOL", "", "plaintext"},
	{"KPUSH_SASL_MECHANISM", "", "–"},
	{"KPUSH_SASL_USERNAME", "", "–"},
	{"KPUSH_SASL_PASSWORD", "", "–"},
	{"KPUSH_SSL_CA_FILE", "", "the system's"},
	{"KPUSH_SSL_CERT_FILE", "", "–"},
	{"KPUSH_SSL_KEY_FILE", "", "–"},
	{"KPUSH_SERVICE_CA_FILE", "", "the system's"},
	{"KPUSH_SERVICE_CERT_FILE", "", "–"},
	{"KPUSH_SERVICE_KEY_FILE", "", "–"},
	{"KPUSH_SERVICE_TOKEN", "", "–"},
	{"KPUSH_INSTANCE_ID", "", "made of volume and host"},
	{"KPUSH_BUFFER", "", "16MiB"},
	{"KPUSH_DRAIN_TIMEOUT", "", "25s"},
	{"KPUSH_REVOKE_TIMEOUT", "", "5s"},
	{"KPUSH_READY_URL", "", "–"},
	{"KPUSH_HEALTH_ADDR", "", ":9400"},
	{"KPUSH_API_ADDR", "", "127.0.0.1:9401"},
	{"KPUSH_API_TOKEN", "", "–"},
	{"KPUSH_PUBLISH_TOPICS", "", "*"},
	{"KPUSH_PUBLISH_SPOOL", "", "0"},
	{"KPUSH_LOG_LEVEL", "log path", "info"},
	{"KPUSH_LOG_FORMAT", "", "json"},
}

func TestFieldsAreTheContracts(t *testing.T) {
	var got [][3]string
	for _, f := range fields {
		got = append(got, [3]string{f.name, f.Tag.Get("origin"), f.otherwise()})
		if f.Tag.Get("desc") == "" {
			t.Errorf("%s has no description", f.name)
		}
	}
	if !slices.Equal(got, contract) {
		for i := range min(len(got), len(contract)) {
			if got[i] != contract[i] {
				t.Errorf("row %d is %q, want %q", i, got[i], contract[i])
			}
		}
		t.Errorf("%d rows, want %d", len(got), len(contract))
	}
}

// Users put secrets where the contract says they can; each such variable needs its _FILE.
func TestWhatCanHoldASecret(t *testing.T) {
	want := []string{"KPUSH_URL", "KPUSH_CONFIRM_URL", "KPUSH_CONSUMER_CONF", "KPUSH_PRODUCER_CONF", "KPUSH_SASL_USERNAME",
		"KPUSH_SASL_PASSWORD", "KPUSH_SERVICE_TOKEN", "KPUSH_READY_URL", "KPUSH_API_TOKEN"}
	var got []string
	for _, f := range fields {
		if f.secret != "" {
			got = append(got, f.name)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("secret are %q, want %q", got, want)
	}
}

func TestDefaults(t *testing.T) {
	want := &Config{
		Brokers: []string{"kafka:9092"}, Topics: []string{"orders"}, Group: "shop",
		Hosts: []string{"127.0.0.1"}, Port: 80, URL: "/", Concurrency: 16, Order: "partition",
		RetryNums: 3, GiveUpInARow: 12, RetryInterval: 2 * time.Second, RetryMaxInterval: 2 * time.Second,
		ConnTimeout: 10 * time.Second, ExecTimeout: time.Minute, SlowTime: time.Second,
		Format: "raw", EventType: "kafka.record", ContentType: "application/octet-stream", Ack: "status", SkipOn: "message", RedriveMax: 3, BatchSize: 1, BatchLinger: 5 * time.Millisecond, BatchBytes: 1 << 20,
		Guarantee: 2, OffsetsDir: "/var/lib/kpush", CommitInterval: 200 * time.Millisecond, AutoOffsetReset: "earliest",
		Buffer: 16 << 20, DrainTimeout: 25 * time.Second, RevokeTimeout: 5 * time.Second, HealthAddr: ":9400", APIAddr: "127.0.0.1:9401",
		PublishTopics: []string{"*"}, LogLevel: slog.LevelInfo, LogFormat: "json",
	}
	if got := load(t); !reflect.DeepEqual(got, want) {
		t.Errorf("defaults are\n%+v, want\n%+v", got, want)
	}
}

// Empty is how compose files and Helm charts say "not set".
func TestEmptyCountsAsNotSet(t *testing.T) {
	var empty []string
	for _, row := range contract {
		switch row[0] {
		case "KPUSH_BROKERS", "KPUSH_TOPIC", "KPUSH_GROUP":
		default:
			empty = append(empty, row[0]+"=", row[0]+"_FILE=")
		}
	}
	empty = append(empty, "KPUSH_NO_SUCH_THING=", "KPUSH_SERVICE_HOST=", "KPUSH_BROKERS_EU=")
	if got, want := load(t, empty...), load(t); !reflect.DeepEqual(got, want) {
		t.Errorf("with empty variables the configuration is\n%+v, want\n%+v", got, want)
	}
	if got := load(t, "KPUSH_DOMAIN=  ", "KPUSH_RETRY_NUMS= 4\n"); got.Domain != "" || got.RetryNums != 4 {
		t.Errorf("spaces around a value count: %q, %d", got.Domain, got.RetryNums)
	}
}

func TestEveryVariableReachesItsField(t *testing.T) {
	pem := filepath.Join(t.TempDir(), "some.pem")
	if err := os.WriteFile(pem, []byte("pem"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := load(t,
		"KPUSH_BROKERS= a:1 , [::1]:2,10.0.0.1:3", "KPUSH_TOPIC=a, b.c_d-e", "KPUSH_GROUP=g 1",
		"KPUSH_HOST=app_1, [::1],10.0.0.2, unix:/run/[a] b.sock]", "KPUSH_PORT=8080", "KPUSH_URL=/in?x=%20", "KPUSH_DOMAIN=shop.example:8443",
		"KPUSH_CONCURRENCY=10000", "KPUSH_ORDER=Key", "KPUSH_CAN_SKIP=true", "KPUSH_RETRY_NUMS=0",
		"KPUSH_RETRY_INTERVAL=500ms", "KPUSH_RETRY_MAX_INTERVAL=1m30s", "KPUSH_CONN_TIMEOUT=1ms", "KPUSH_EXEC_TIMEOUT=0",
		"KPUSH_DEAD_LETTER_TOPIC=dead.a", "KPUSH_REDRIVE_MAX=0", "KPUSH_SLOW_TIME=0s", "KPUSH_FORMAT=Raw", "KPUSH_CONTENT_TYPE=application/json; charset=utf-8", "KPUSH_ACK=ERRNO", "KPUSH_SKIP_ON=ANY",
		"KPUSH_BATCH_SIZE=10000", "KPUSH_BATCH_LINGER=0s", "KPUSH_BATCH_BYTES=1KiB", "KPUSH_READY_URL=https://app/up?x=1",
		"KPUSH_MESSAGE_DELIVERY_GUARANTEES=2", "KPUSH_OFFSETS_DIR=/data", "KPUSH_USE_SAVED_OFFSET_TIME=-1",
		"KPUSH_COMMIT_INTERVAL=60s", "KPUSH_AUTO_OFFSET_RESET=latest",
		"KPUSH_CONSUMER_CONF= session.timeout.ms = 45000 \r\n;; client.id=a=b;debug=cgrp,topic\n",
		"KPUSH_SECURITY_PROTOCOL=SASL_SSL", "KPUSH_SASL_MECHANISM=scram-sha-256", "KPUSH_SASL_USERNAME=u", "KPUSH_SASL_PASSWORD= p ",
		"KPUSH_SSL_CA_FILE="+pem, "KPUSH_SSL_CERT_FILE="+pem, "KPUSH_SSL_KEY_FILE="+pem, "KPUSH_INSTANCE_ID=shop-0",
		"KPUSH_PUBLISH_TOPICS=a, b.*", "KPUSH_PRODUCER_CONF=message.timeout.ms=2000;compression.type=lz4",
		"KPUSH_BUFFER=2048KiB", "KPUSH_DRAIN_TIMEOUT=2ms", "KPUSH_REVOKE_TIMEOUT=1ms", "KPUSH_HEALTH_ADDR=127.0.0.1:0", "KPUSH_API_ADDR=:9", "KPUSH_API_TOKEN=s~!", "KPUSH_LOG_LEVEL=DEBUG", "KPUSH_LOG_FORMAT=text")
	want := load(t)
	want.Brokers, want.Topics, want.Group = []string{"a:1", "[::1]:2", "10.0.0.1:3"}, []string{"a", "b.c_d-e"}, "g 1"
	want.Hosts, want.Port, want.URL, want.Domain = []string{"app_1", "::1", "10.0.0.2", "unix:/run/[a] b.sock]"}, 8080, "/in?x=%20", "shop.example:8443"
	want.Concurrency, want.Order, want.CanSkip, want.RetryNums = 10000, "key", true, 0
	want.DeadLetterTopic, want.RedriveMax = "dead.a", 0
	want.SkipOn, want.BatchSize, want.BatchLinger, want.BatchBytes, want.ReadyURL = "any", 10000, 0, 1<<10, "https://app/up?x=1"
	want.RetryInterval, want.RetryMaxInterval, want.ConnTimeout = 500*time.Millisecond, 90*time.Second, time.Millisecond
	want.ExecTimeout, want.SlowTime, want.Format, want.ContentType, want.Ack = 0, 0, "raw", "application/json; charset=utf-8", "errno"
	want.OffsetsDir, want.UseSavedOffsetTime, want.CommitInterval, want.AutoOffsetReset = "/data", -time.Second, time.Minute, "latest"
	want.ConsumerConf = Properties{"session.timeout.ms": "45000", "client.id": "a=b", "debug": "cgrp,topic"}
	want.SecurityProtocol, want.SASLMechanism, want.SASLUsername, want.SASLPassword = "sasl_ssl", "SCRAM-SHA-256", "u", " p "
	want.SSLCAFile, want.SSLCertFile, want.SSLKeyFile, want.InstanceID = pem, pem, pem, "shop-0"
	want.Buffer, want.DrainTimeout, want.RevokeTimeout, want.HealthAddr = 2<<20, 2*time.Millisecond, time.Millisecond, "127.0.0.1:0"
	want.APIAddr, want.APIToken = ":9", "s~!"
	want.LogLevel, want.LogFormat, want.idle = slog.LevelDebug, "text", c.idle
	want.PublishTopics, want.ProducerConf = []string{"a", "b.*"}, Properties{"delivery.timeout.ms": "2000", "compression.type": "lz4"}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("the configuration is\n%+v, want\n%+v", c, want)
	}
}

func TestTargets(t *testing.T) {
	for _, row := range []struct {
		set  []string
		want []string
	}{
		{nil, []string{"http://127.0.0.1:80/"}},
		{[]string{"KPUSH_HOST=a,::1", "KPUSH_PORT=8080", "KPUSH_URL=/in?x=1&y=%2F"}, []string{"http://a:8080/in?x=1&y=%2F", "http://[::1]:8080/in?x=1&y=%2F"}},
		{[]string{"KPUSH_URL=//a"}, []string{"http://127.0.0.1:80//a"}},
		{[]string{"KPUSH_URL=https://u:p@app.example/in?x=1"}, []string{"https://u:p@app.example/in?x=1"}},
		{[]string{"KPUSH_URL=http://[::1]:81"}, []string{"http://[::1]:81"}},
		{[]string{"KPUSH_HOST=unix:/run/app.sock", "KPUSH_URL=/in?x=1"}, []string{"http+unix://%2Frun%2Fapp.sock/in?x=1"}},
		{[]string{"KPUSH_HOST=unix:/a?b%20]", "KPUSH_FORMAT=form", "KPUSH_BATCH_SIZE=1"}, []string{"http+unix://%2Fa%3Fb%2520%5D/"}},
		{[]string{"KPUSH_HOST=a,unix:/" + strings.Repeat("s", 106), "KPUSH_PORT=81"}, []string{"http://a:81/", "http+unix://%2F" + strings.Repeat("s", 106) + "/"}},
	} {
		if got := load(t, row.set...).Targets(); !slices.Equal(got, row.want) {
			t.Errorf("%q gives %q, want %q", row.set, got, row.want)
		}
	}
	for url, port := range map[string]int{"https://app/": 443, "http://app": 80, "https://app:444/": 444} {
		if c := load(t, "KPUSH_URL="+url); !slices.Equal(c.Hosts, []string{"app"}) || c.Port != port {
			t.Errorf("%s is at %q, port %d, want app, port %d", url, c.Hosts, c.Port, port)
		}
	}
}

func TestConfirmTargetsAndReadyTargets(t *testing.T) {
	const domain = "shop.example"
	for _, row := range []struct{ service, set, want, domain string }{
		{"KPUSH_HOST=10.0.0.1,10.0.0.2", "", "", ""},
		{"KPUSH_HOST=10.0.0.1,10.0.0.2", "/has?x=1", "http://10.0.0.1:80/has?x=1 http://10.0.0.2:80/has?x=1", domain},
		{"KPUSH_HOST=10.0.0.1,unix:/run/app.sock", "https://b/has", "https://b/has", ""},
		{"KPUSH_HOST=10.0.0.1", "http://10.0.0.1:80/has", "http://10.0.0.1:80/has", ""},
		{"KPUSH_HOST=unix:/run/app.sock,10.0.0.1", "/has?x=1", "http+unix://%2Frun%2Fapp.sock/has?x=1 http://10.0.0.1:80/has?x=1", domain},
		{"KPUSH_URL=https://u:p@app:8443/in?a=1", "/has", "https://u:p@app:8443/has", domain},
		{"KPUSH_URL=https://app?to=http://x/", "/has", "https://app/has", domain},
		{"KPUSH_URL=http://app", "//has", "http://app//has", domain},
		{"KPUSH_URL=/in?to=http://x/", "/has", "http://127.0.0.1:80/has", domain},
	} {
		c := load(t, row.service, "KPUSH_DOMAIN="+domain, "KPUSH_CONFIRM_URL="+row.set, "KPUSH_READY_URL="+row.set)
		if want := strings.Fields(row.want); !slices.Equal(c.ConfirmTargets(), want) || !slices.Equal(c.ReadyTargets(), want) {
			t.Errorf("%s, %s: asked are %q and %q, want %q", row.service, row.set, c.ConfirmTargets(), c.ReadyTargets(), want)
		}
		if c.DomainOf(c.ConfirmURL) != row.domain || c.DomainOf(c.ReadyURL) != row.domain {
			t.Errorf("%s, %s: the Host headers are %q and %q, want %q", row.service, row.set, c.DomainOf(c.ConfirmURL), c.DomainOf(c.ReadyURL), row.domain)
		}
	}
	if c := load(t, "KPUSH_MESSAGE_DELIVERY_GUARANTEES=1", "KPUSH_READY_URL=/up"); len(c.ReadyTargets()) == 0 {
		t.Error("guarantee 1 knows nothing of a service's readiness")
	}
}

func TestGuaranteeOneCommitsSeldom(t *testing.T) {
	if c := load(t, "KPUSH_MESSAGE_DELIVERY_GUARANTEES=1"); c.CommitInterval != 5*time.Second {
		t.Errorf("commit interval %s, want 5s", c.CommitInterval)
	}
	c := load(t, "KPUSH_MESSAGE_DELIVERY_GUARANTEES=1", "KPUSH_COMMIT_INTERVAL=1s", "KPUSH_OFFSETS_DIR=/nowhere")
	if c.CommitInterval != time.Second {
		t.Errorf("commit interval %s, want what was set", c.CommitInterval)
	}
	if id, _ := c.Member(""); id != "" {
		t.Errorf("member %q: without a volume nothing makes two lives one member", id)
	}
}

// A member with other topics is another one, whoever chose its id; their order is no difference.
func TestMemberOfOtherTopics(t *testing.T) {
	for _, set := range [][]string{nil, {"KPUSH_INSTANCE_ID=pod-0"}} {
		ids := map[string]bool{}
		for _, topics := range []string{"a", "b", "a,b", "b,a", "ab"} {
			id, _ := load(t, append(set, "KPUSH_TOPIC="+topics)...).Member("0123456789abcdef")
			ids[id] = true
		}
		if len(ids) != 4 || ids[""] || ids["pod-0"] {
			t.Errorf("%v: five ways to write four sets of topics make the members %v", set, ids)
		}
	}
}

func TestRetryMaxIntervalFollowsTheInterval(t *testing.T) {
	if c := load(t, "KPUSH_RETRY_INTERVAL=7s"); c.RetryMaxInterval != 7*time.Second {
		t.Errorf("it is %v, want 7s", c.RetryMaxInterval)
	}
}

func TestKafka(t *testing.T) {
	for _, row := range []struct {
		set  []string
		want map[string]string
	}{
		{nil, map[string]string{"bootstrap.servers": "kafka:9092"}},
		{[]string{"KPUSH_CLUSTER=eu-1", "KPUSH_BROKERS=", "KPUSH_BROKERS_eu-1=a:1, b:2", "KPUSH_BROKERS_US=c"},
			map[string]string{"bootstrap.servers": "a:1,b:2"}},
		{[]string{"KPUSH_SECURITY_PROTOCOL=Sasl_Plaintext", "KPUSH_SASL_MECHANISM=PLAIN", "KPUSH_SASL_USERNAME=u", "KPUSH_SASL_PASSWORD=p;=\n"},
			map[string]string{"bootstrap.servers": "kafka:9092", "security.protocol": "sasl_plaintext", "sasl.mechanisms": "PLAIN",
				"sasl.username": "u", "sasl.password": "p;=\n"}},
		{[]string{"KPUSH_SECURITY_PROTOCOL=ssl", "KPUSH_SSL_CA_FILE=config.go", "KPUSH_SSL_CERT_FILE=config.go", "KPUSH_CONSUMER_CONF=ssl.key.pem=x;ssl.key.password=y"},
			map[string]string{"bootstrap.servers": "kafka:9092", "security.protocol": "ssl", "ssl.ca.location": "config.go",
				"ssl.certificate.location": "config.go", "ssl.key.pem": "x", "ssl.key.password": "y"}},
		{[]string{"KPUSH_CONSUMER_CONF=security.protocol=sasl_ssl;sasl.mechanism=PLAIN;sasl.username=u", "KPUSH_SASL_PASSWORD=p"},
			map[string]string{"bootstrap.servers": "kafka:9092", "security.protocol": "sasl_ssl", "sasl.mechanisms": "PLAIN", "sasl.username": "u", "sasl.password": "p"}},
		{[]string{"KPUSH_CONSUMER_CONF=fetch.message.max.bytes=7;max.in.flight=2"},
			map[string]string{"bootstrap.servers": "kafka:9092", "max.partition.fetch.bytes": "7", "max.in.flight.requests.per.connection": "2"}},
		{[]string{"KPUSH_SECURITY_PROTOCOL=sasl_ssl", "KPUSH_SASL_MECHANISM=OAUTHBEARER", "KPUSH_CONSUMER_CONF=sasl.oauthbearer.method=oidc\nfetch.wait.max.ms=100\nmax.poll.interval.ms=1000\nisolation.level=read_uncommitted"},
			map[string]string{"bootstrap.servers": "kafka:9092", "security.protocol": "sasl_ssl", "sasl.mechanisms": "OAUTHBEARER",
				"sasl.oauthbearer.method": "oidc", "fetch.wait.max.ms": "100", "max.poll.interval.ms": "1000", "isolation.level": "read_uncommitted"}},
	} {
		if got := load(t, row.set...).Kafka(); !maps.Equal(got, row.want) {
			t.Errorf("%q gives\n%q, want\n%q", row.set, got, row.want)
		}
	}
}

// The producer has the way to Kafka from the variables of all, and its own settings on top.
func TestProducer(t *testing.T) {
	got := load(t, "KPUSH_SECURITY_PROTOCOL=sasl_ssl", "KPUSH_SASL_MECHANISM=OAUTHBEARER", "KPUSH_CONSUMER_CONF=sasl.oauthbearer.method=oidc;fetch.max.bytes=1;socket.timeout.ms=1;client.id=c",
		"KPUSH_PRODUCER_CONF=queue.buffering.max.ms=5;socket.timeout.ms=2").Producer()
	want := map[string]string{"bootstrap.servers": "kafka:9092", "security.protocol": "sasl_ssl", "sasl.mechanisms": "OAUTHBEARER", "sasl.oauthbearer.method": "oidc",
		"linger.ms": "5", "socket.timeout.ms": "2"}
	if !maps.Equal(got, want) {
		t.Errorf("it has %q, want %q", got, want)
	}
}

func TestUnsecuredTokensAreTaken(t *testing.T) {
	load(t, "KPUSH_CONSUMER_CONF=security.protocol=sasl_plaintext;sasl.mechanism=OAUTHBEARER;enable.sasl.oauthbearer.unsecure.jwt=True")
}

func TestLongDrainsAreTaken(t *testing.T) {
	load(t, "KPUSH_DRAIN_TIMEOUT=23h59m", "KPUSH_REVOKE_TIMEOUT=23h59m")
	load(t, "KPUSH_CONSUMER_CONF=max.poll.interval.ms=10000") // the drain of a revoke is what gives way
	if got := load(t, "KPUSH_DRAIN_TIMEOUT=3s").RevokeTimeout; got != 3*time.Second {
		t.Errorf("a revoke has %v of a drain of 3s", got)
	}
}

func TestKafkaIsACopy(t *testing.T) {
	c := load(t, "KPUSH_CONSUMER_CONF=client.id=a")
	c.Kafka()["client.id"] = "b"
	if got := c.Kafka()["client.id"]; got != "a" {
		t.Errorf("writing into what Kafka returned changed the configuration to %q", got)
	}
}

// A number is the user's; auto looks for one, and begins somewhere.
func TestConcurrency(t *testing.T) {
	for value, want := range map[string]struct {
		shown    string
		first    int
		adaptive bool
	}{"": {"16", 16, false}, "1": {"1", 1, false}, "10000": {"10000", 10000, false}, "auto": {"auto", 16, true}, "Auto": {"auto", 16, true}} {
		c := load(t, "KPUSH_CONCURRENCY="+value, "KPUSH_ORDER=partition")
		if got := c.Concurrency; got.String() != want.shown || got.First() != want.first || (got == Auto) != want.adaptive {
			t.Errorf("KPUSH_CONCURRENCY=%s is shown as %s and begins with %d, adaptive %v; want %v", value, got, got.First(), got == Auto, want)
		}
	}
}

// However it is spelled, none is no id that two processes could share.
func TestInstanceIDOfNone(t *testing.T) {
	for _, none := range []string{"none", "None", "NONE"} {
		if id, comesBack := load(t, "KPUSH_INSTANCE_ID="+none).Member("0123456789abcdef"); id != "" || comesBack {
			t.Errorf("KPUSH_INSTANCE_ID=%s makes member %q, which comes back: %t", none, id, comesBack)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "1KiB": 1 << 10, "512KiB": 512 << 10, "16MiB": 16 << 20, "1GiB": 1 << 30, "1025MiB": 1025 << 20, "999999999MiB": 999999999 << 20, "999999999GiB": 999999999 << 30} {
		var s Size
		if err := s.Decode(text); err != nil || s != want || s.String() != text {
			t.Errorf("%s is read as %d and written as %s (%v), want %d", text, s, s, err, want)
		}
	}
	for _, text := range []string{"", "1", "1B", "1kib", "1 MiB", "1.5MiB", "+1MiB", "1TiB", "MiB"} {
		var s Size
		if err := s.Decode(text); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q is read as %d (%v)", text, s, err)
		}
	}
}

// Loopback by its very name needs no token; anything else is heard from outside.
func TestAPIOnLoopbackNeedsNoToken(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "127.8.9.1:9401", "[::1]:9401", "localhost:9401", "LOCALHOST:9401"} {
		load(t, "KPUSH_API_ADDR="+addr)
	}
	load(t, "KPUSH_API_ADDR=:9401", "KPUSH_API_TOKEN=x")
}

// A command needs three variables, and whatever is wrong with the others is not its business.
func TestCaller(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("s3cr3t\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		environ []string
		want    Caller
		wrong   string
	}{
		{nil, Caller{Addr: "127.0.0.1:9401"}, ""},
		{[]string{"KPUSH_API_ADDR= :9 \n", "KPUSH_API_TOKEN=x", "KPUSH_TOPIC=a, b", "KPUSH_PORT=wrong", "KPUSH_NONE=1"}, Caller{":9", "x", []string{"a", "b"}}, ""},
		{[]string{"KPUSH_API_TOKEN_FILE=" + file}, Caller{"127.0.0.1:9401", "s3cr3t", nil}, ""},
		{[]string{"KPUSH_API_TOKEN_FILE=/no/such"}, Caller{}, "KPUSH_API_TOKEN_FILE=/no/such: cannot be read"},
		{[]string{"KPUSH_API_TOKEN_FILE=" + file, "KPUSH_API_TOKEN=x"}, Caller{}, "set one of them"},
		{[]string{"KPUSH_API_ADDR=9401"}, Caller{}, "is not an address"},
	} {
		got, err := LoadCaller(row.environ)
		if (err == nil) != (row.wrong == "") || err != nil && !strings.Contains(err.Error(), row.wrong) {
			t.Errorf("%q: %v, want %q", row.environ, err, row.wrong)
		} else if err == nil && !reflect.DeepEqual(*got, row.want) {
			t.Errorf("%q gives %+v, want %+v", row.environ, *got, row.want)
		}
	}
}
