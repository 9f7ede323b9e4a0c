package config

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// refusal of Load, as lines.
func refused(t *testing.T, environ ...string) []string {
	t.Helper()
	_, err := Load(environ)
	if err == nil {
		t.Fatalf("%q is taken", environ)
	}
	return strings.Split(err.Error(), "\n")
}

func TestAllErrorsInOneReportInTheTablesOrder(t *testing.T) {
	got := refused(t, "KPUSH_LOG_LEVEL=loud", "KPUSH_TOPCI=a", "KPUSH_BUFFER=1", "KPUSH_ACK=yes", "KPUSH_TOPIC=a,a", "KPUSH_CAN_SKIP=ja",
		"KPUSH_RETRY_INTERVAL=5", "KPUSH_SLOW_TIME=slow", "KPUSH_CONSUMER_CONF=group.id=x;debug=", "KPUSH_AAA=1", "PATH=/bin",
		"KPUSH_SERVICE_HOST=10.0.0.1", "KPUSH_SASL_PASSWORD_FILE=/no/such")
	want := []string{
		"KPUSH_BROKERS: is required, such as kafka-1:9092,kafka-2:9092; or set KPUSH_CLUSTER",
		"KPUSH_TOPIC=a,a: a is there twice; keep one",
		"KPUSH_GROUP: is required with KPUSH_TOPIC; name the consumer group",
		"KPUSH_CAN_SKIP=ja: must be true or false",
		"KPUSH_RETRY_INTERVAL=5: a duration needs a unit, such as 5s or 500ms",
		"KPUSH_SLOW_TIME=slow: is not a duration; write it as 5s, 500ms or 1m30s",
		"KPUSH_ACK=yes: must be one of status, errno, dapr",
		"KPUSH_CONSUMER_CONF: debug has no value; librdkafka refuses that, so leave it out",
		"KPUSH_CONSUMER_CONF: group.id is not yours to set: set KPUSH_GROUP",
		"KPUSH_SASL_PASSWORD_FILE=/no/such: cannot be read (no such file or directory); it takes the path of a file that holds KPUSH_SASL_PASSWORD",
		"KPUSH_BUFFER=1: a size needs a unit, KiB, MiB or GiB, such as 16MiB",
		"KPUSH_LOG_LEVEL=loud: must be one of debug, info, warn, error",
		"KPUSH_SERVICE_HOST: set by Kubernetes, because a Service's name begins with kpush; put enableServiceLinks: false into the pod's spec",
		"KPUSH_AAA: there is no such variable; kpush -help lists them all",
		"KPUSH_TOPCI: there is no such variable; did you mean KPUSH_TOPIC?",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the report is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestUnknownNames(t *testing.T) {
	for name, want := range map[string]string{
		"KPUSH_TOPICS":             "did you mean KPUSH_TOPIC?",
		"KPUSH_TOPCI":              "did you mean KPUSH_TOPIC?",
		"KPUSH_BROKER":             "did you mean KPUSH_BROKERS?",
		"KPUSH_RETRY_NUM":          "did you mean KPUSH_RETRY_NUMS?",
		"KPUSH_SASL_PASWORD":       "did you mean KPUSH_SASL_PASSWORD?",
		"KPUSH_SASL_PASSWORD_FIEL": "did you mean KPUSH_SASL_PASSWORD_FILE?",
		"KPUSH_URI":                "did you mean KPUSH_URL?",
		"KPUSH_":                   "kpush -help lists them all",
		"KPUSH_FOO":                "kpush -help lists them all",
		"KPUSH_VOLUME":             "kpush -help lists them all",
		"KPUSH_TOPIC_FILE":         "only what can hold a secret is read from a file, set KPUSH_TOPIC",
		"KPUSH_SSL_CA_FILE_FILE":   "only what can hold a secret is read from a file, set KPUSH_SSL_CA_FILE",
	} {
		got := refused(t, environ(name+"="+secret)...)
		if len(got) != 1 || got[0] != name+": there is no such variable; "+want {
			t.Errorf("%s: %q, want %s", name, got, want)
		}
	}
	if got := refused(t, environ("KPUSH_BROKERS_EU=a:1")...); got[0] != "KPUSH_BROKERS_EU: there is no such variable unless KPUSH_CLUSTER names a cluster" {
		t.Errorf("brokers of a cluster that nobody named: %q", got)
	}
	load(t, "KPUSHER=1", "kpush_topic=x", "KPUSH=1", "HOME=/")
}

func TestServiceLinks(t *testing.T) {
	const answer = ": set by Kubernetes, because a Service's name begins with kpush; put enableServiceLinks: false into the pod's spec"
	links := []string{"KPUSH_PORT=tcp://10.0.0.1:80", "KPUSH_PORT_80_TCP=tcp://10.0.0.1:80", "KPUSH_PORT_80_TCP_ADDR=10.0.0.1",
		"KPUSH_PORT_80_TCP_PORT=80", "KPUSH_PORT_80_TCP_PROTO=tcp", "KPUSH_SERVICE_HOST=10.0.0.1", "KPUSH_SERVICE_PORT=80", "KPUSH_SERVICE_PORT_HTTP=80"}
	want := []string{"KPUSH_PORT, KPUSH_PORT_80_TCP, KPUSH_PORT_80_TCP_ADDR, KPUSH_PORT_80_TCP_PORT, KPUSH_PORT_80_TCP_PROTO, " +
		"KPUSH_SERVICE_HOST, KPUSH_SERVICE_PORT, KPUSH_SERVICE_PORT_HTTP" + answer}
	if got := refused(t, environ(links...)...); !slices.Equal(got, want) {
		t.Errorf("a Service named kpush: %q, want %q", got, want)
	}
	// A Service named kpush-brokers-eu looks like a cluster.
	for _, link := range []string{"KPUSH_BROKERS_EU_SERVICE_HOST=a", "KPUSH_BROKERS_EU_PORT=udp://10.0.0.1:80", "KPUSH_BROKERS_PORT_53_UDP_ADDR=a"} {
		name, _, _ := strings.Cut(link, "=")
		got := refused(t, "KPUSH_CLUSTER=EU", "KPUSH_BROKERS_EU=a:1", "KPUSH_TOPIC=a", "KPUSH_GROUP=g", link)
		if len(got) != 1 || got[0] != name+answer {
			t.Errorf("%s: %q", link, got)
		}
	}
}

func TestSecretsFromFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	password, user := file("password", " p\nq \r\n\n"), file("user", "u")
	conf, url := file("conf", "client.id=a\nfetch.min.bytes=2\n"), file("url", "https://u:p@app/in\n")
	c := load(t, "KPUSH_SASL_PASSWORD_FILE="+password, "KPUSH_SASL_USERNAME_FILE="+user, "KPUSH_CONSUMER_CONF_FILE="+conf, "KPUSH_URL_FILE="+url,
		"KPUSH_SECURITY_PROTOCOL=sasl_ssl", "KPUSH_SASL_MECHANISM=PLAIN")
	if c.SASLPassword != " p\nq " || c.SASLUsername != "u" || c.URL != "https://u:p@app/in" ||
		!reflect.DeepEqual(c.ConsumerConf, Properties{"client.id": "a", "fetch.min.bytes": "2"}) {
		t.Errorf("read %q, %q, %q, %q", c.SASLPassword, c.SASLUsername, c.URL, c.ConsumerConf)
	}

	unreadable := "; it takes the path of a file that holds KPUSH_SASL_PASSWORD"
	for _, row := range []struct{ path, want string }{
		{dir, "KPUSH_SASL_PASSWORD_FILE=" + dir + ": cannot be read (not a regular file)" + unreadable},
		{"/dev/zero", "KPUSH_SASL_PASSWORD_FILE=/dev/zero: cannot be read (not a regular file)" + unreadable},
		{"/no/such", "KPUSH_SASL_PASSWORD_FILE=/no/such: cannot be read (no such file or directory)" + unreadable},
		{secret, "KPUSH_SASL_PASSWORD_FILE: cannot be read (no such file or directory)" + unreadable},
		{file("empty", ""), "KPUSH_SASL_PASSWORD_FILE=" + dir + "/empty: the file is empty; it has to hold KPUSH_SASL_PASSWORD"},
		{file("newline", "\n"), "KPUSH_SASL_PASSWORD_FILE=" + dir + "/newline: the file is empty; it has to hold KPUSH_SASL_PASSWORD"},
		{file("large", strings.Repeat(secret, 1<<20/6+1)), "KPUSH_SASL_PASSWORD_FILE=" + dir + "/large: cannot be read (larger than 1 MiB)" + unreadable},
		{file("binary", secret+"\x00"), "KPUSH_SASL_PASSWORD: holds a NUL byte; write it as plain text"},
	} {
		got := refused(t, environ("KPUSH_SECURITY_PROTOCOL=sasl_ssl", "KPUSH_SASL_MECHANISM=PLAIN", "KPUSH_SASL_USERNAME=u", "KPUSH_SASL_PASSWORD_FILE="+row.path)...)
		if len(got) != 1 || got[0] != row.want {
			t.Errorf("%s: %q, want %q", row.path, got, row.want)
		}
	}
	for _, f := range fields {
		if f.secret == "" {
			continue
		}
		got := refused(t, environ(f.name+"="+secret, f.name+"_FILE="+password)...)
		want := f.name + ": " + f.name + "_FILE is set as well; set one of them"
		if !slices.Equal(got, []string{want}) {
			t.Errorf("%s and its file: %q, want %q", f.name, got, want)
		}
		if bad := refused(t, environ(f.name+"_FILE="+secret)...); strings.Contains(strings.Join(bad, ""), secret) {
			t.Errorf("%s_FILE: the secret is in the error: %q", f.name, bad)
		}
	}
}

// Envconfig reads the process's environment: what stands there must not count, and must be as it was afterwards.
func TestOnlyTheGivenEnvironmentCounts(t *testing.T) {
	t.Setenv("KPUSH_PORT", "none of Load's business")
	t.Setenv("KPUSH_GROUP", "other")
	t.Setenv("KPUSH_SASL_PASSWORD", secret)
	before := os.Environ()
	c := load(t, "KPUSH_CONCURRENCY=3")
	if c.Port != 80 || c.Group != "shop" || c.SASLPassword != "" || c.Concurrency != 3 {
		t.Errorf("port %d, group %q, concurrency %d", c.Port, c.Group, c.Concurrency)
	}
	refused(t, environ("KPUSH_CAN_SKIP=ja", "KPUSH_BUFFER=1")...)
	after := os.Environ()
	slices.Sort(before)
	slices.Sort(after)
	if !slices.Equal(before, after) {
		t.Errorf("the process's environment was\n%q, and is\n%q", before, after)
	}
}

// A bare name would count if envconfig were given a prefix.
func TestBareNamesDoNotCount(t *testing.T) {
	t.Setenv("PORT", "81")
	t.Setenv("GROUP", "bare")
	if c := load(t, "PORT=81", "GROUP=bare"); c.Port != 80 || c.Group != "shop" {
		t.Errorf("port %d, group %q", c.Port, c.Group)
	}
}

var reportLine = regexp.MustCompile(`^"?KPUSH_[^\n]*[^ \n]$`)

// survive holds what must be true of every environment.
func survive(t *testing.T, environ []string) {
	t.Helper()
	c, err := Load(environ)
	if c == nil {
		t.Fatalf("%q gives nothing to look further for what is wrong, and %v", environ, err)
	}
	c.Producer()
	c.Member("")
	if err == nil {
		if attrs := c.Effective(); len(attrs) == 0 || len(c.Targets()) == 0 {
			t.Fatalf("%q is taken, and says nothing", environ)
		}
		for name, value := range c.Kafka() {
			if value == "" {
				t.Fatalf("%q leaves %s empty", environ, name)
			}
		}
		return
	}
	c.Kafka()
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if !reportLine.MatchString(line) {
			t.Fatalf("%q is reported in a line that names no variable: %q", environ, line)
		}
	}
}

func TestNoEnvironmentMakesItPanic(t *testing.T) {
	values := []string{"", " ", "0", "-1", "5", "1h", "16MiB", "true", "auto", ",", ",,a", "a=b;c", "a\nb", "\x00", "\xff\xfe", "ö", "none", "%", "http://",
		"http://[", "https://u:p@h:1/?a#b", "//", "/", "[", "[]", ":", "::", ":0", "a:1", "=", ";;", "=;=", "^", "tcp://1:2", "sasl_ssl", "PLAIN", "OAUTHBEARER",
		strings.Repeat("9", 400), strings.Repeat("a.", 5000), "/etc/passwd", "/", "unix:/x", "eu", "security.protocol=ssl", "sasl.mechanisms=PLAIN"}
	names := []string{"KPUSH_BROKERS_eu", "KPUSH_BROKERS_", "KPUSH_BROKERS_a\nb", "KPUSH_", "KPUSH_PORT_1_TCP", "KPUSH_X", "KPUSH_\xff", "", "PATH"}
	for _, f := range fields {
		names = append(names, f.name, f.name, f.name+"_FILE")
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		var set []string
		for range random.IntN(12) {
			set = append(set, names[random.IntN(len(names))]+"="+values[random.IntN(len(values))])
		}
		survive(t, append(set, "no equals sign"))
		survive(t, environ(set...))
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("KPUSH_CONSUMER_CONF", "a=b;group.id=c", "KPUSH_URL", "http://u:p@h/?a=b#c")
	f.Add("KPUSH_BROKERS_eu", "a:1", "KPUSH_CLUSTER", "eu")
	f.Add("KPUSH_SERVICE_HOST", "a", "KPUSH_BUFFER", "9MiB")
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		survive(t, environ(name1+"="+value1, name2+"="+value2))
	})
}
