package main

import (
	"cmp"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/kpush/kpush"

// rooms are the packages of the binary: what each may import of the others, what its tests may beside that, and why. e2e is
// absent from every row and has none: it knows the binary only from outside.
var rooms = map[string]struct{ may, tests, why string }{
	".":       {"api config forwarder forwarder/pace forwarder/push kafka kafka/librdkafka offsets publisher publisher/spool tracing", "forwarder/start logbook", "main alone joins them, and maps the variables onto their options"},
	"api":     {"forwarder kafka publisher", "forwarder/pace", "it reads the others and decides nothing for them"},
	"config":  {"", "", "a variable says what the user means, not what a room does with it"},
	"offsets": {"volume", "volume/sim", "it holds numbers, and knows nothing of messages"},

	"volume":     {"", "", "files, whatever they hold"},
	"volume/sim": {"volume", "", "a disk that fails, for tests"},

	"simulation": {"forwarder forwarder/push forwarder/start kafka offsets volume/sim", "kafka/librdkafka", "the core in a world that is made up; nobody imports it"},

	"publisher":       {"kafka publisher/spool", "", "a request becomes records, by whatever client"},
	"publisher/spool": {"kafka volume", "volume/sim", "it keeps records, whoever asks for it, and whatever sends them"},

	"kafka":            {"", "", "words for everybody, and no client"},
	"kafka/librdkafka": {"kafka", "logbook", "it translates, and decides nothing"},

	"forwarder":               {"forwarder/pace forwarder/push forwarder/start kafka offsets volume", "forwarder/wire logbook", "a message's way, and its record"},
	"forwarder/pace":          {"kafka", "", "who may send next depends on no protocol"},
	"forwarder/push":          {"forwarder/wire kafka", "forwarder/wire/wiretest", "one attempt knows no other, and nothing of records"},
	"forwarder/start":         {"kafka offsets", "", "a decision asks nobody"},
	"forwarder/wire":          {"", "forwarder/wire/wiretest", "it sends bytes, and knows no message"},
	"forwarder/wire/wiretest": {"", "", "services on the bare socket, for tests"},

	"logbook": {"", "", "what was logged, for tests"},

	"tracing": {"forwarder/push kafka", "", "it watches an attempt, and decides nothing"},

	"examples/inplace": {"forwarder forwarder/push kafka kafka/librdkafka offsets", "", "a program of somebody's own"},
}

// doors are the files through which a third-party package enters, and why only there.
var doors = map[string]struct{ files, why string }{
	"github.com/kelseyhightower/envconfig":       {"config/*.go", "the environment is read in one place"},
	"github.com/hashicorp/go-retryablehttp":      {"forwarder/retry.go e2e/bench/*", "what repeats a request must be seen at one glance"},
	"github.com/valyala/fasthttp":                {"e2e/bench/*", "what kpush is compared with; its client repeats requests by itself"},
	"github.com/confluentinc/confluent-kafka-go": {"kafka/librdkafka/* e2e/bench/*", "everything else is tested without librdkafka"},
	"github.com/prometheus/client_golang":        {"api/metrics.go *_test.go", "what speaks of series and labels is a rendering, and the hot path only adds"},
	"go.opentelemetry.io":                        {"tracing/*.go", "what speaks of spans stands around an attempt, and is in one build alone"},
	"github.com/go-logr/logr":                    {"tracing/*.go", "OpenTelemetry's way to say what is wrong with it"},
	"google.golang.org/protobuf":                 {"tracing/*_test.go", "what a collector gets is read by tests only"},
	"github.com/yannh/kubeconform":               {"deploy_test.go", "the files in deploy are held against the schemas of Kubernetes and KEDA"},
	"gopkg.in/yaml.v3":                           {"*_test.go", "the files in deploy are read by tests only"},
	"github.com/valyala/quicktemplate":           {"api/page.qtpl.go api/page_test.go", "the status page is compiled: html/template would keep 3.4 MB in the binary"},
	"github.com/chromedp/chromedp":               {"e2e/page_test.go", "the status page is seen as a browser shows it; the binary knows no browser"},
	"github.com/chromedp/cdproto":                {"e2e/page_test.go", "the words of what chromedp has no name for: dark mode, a page without scripts"},
	"github.com/cloudevents/sdk-go":              {"forwarder/push/*_test.go", "the oracle for events: what it writes to Kafka and reads from a request"},
	"github.com/IBM/sarama":                      {"forwarder/push/*_test.go", "the words in which that SDK writes records; nothing connects"},
	"github.com/twmb/franz-go":                   {"*_test.go e2e/*", "a second client is for tests and the demo: the binary links one"},
}

func TestImports(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != "." {
			return cmp.Or(err, fs.SkipDir)
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range file.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			if why := importRefused(filepath.ToSlash(path), name); why != "" {
				t.Errorf("%s imports %s: %s", path, name, why)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// importRefused is why the file at path may not import name, or "".
func importRefused(path, name string) string {
	room, test := filepath.ToSlash(filepath.Dir(path)), strings.HasSuffix(path, "_test.go")
	if other, ours := strings.CutPrefix(name, module+"/"); ours {
		if strings.HasPrefix(room, "e2e") && strings.HasPrefix(other, "e2e/") {
			return ""
		}
		if r := rooms[room]; !slices.Contains(strings.Fields(r.may), other) && !(test && slices.Contains(strings.Fields(r.tests), other)) {
			return "of kpush it may import [" + r.may + "]: " + cmp.Or(r.why, "e2e knows the binary only from outside")
		}
		return ""
	}
	if first, _, _ := strings.Cut(name, "/"); !strings.Contains(first, ".") {
		return "" // standard library
	}
	for prefix, door := range doors {
		if name != prefix && !strings.HasPrefix(name, prefix+"/") {
			continue
		}
		for _, pattern := range strings.Fields(door.files) {
			if folder, all := strings.CutSuffix(pattern, "/*"); all && strings.HasPrefix(path, folder+"/") {
				return ""
			}
			if ok, _ := filepath.Match(pattern, path); ok || test && pattern == "*_test.go" {
				return ""
			}
		}
		return "it enters through " + door.files + ": " + door.why
	}
	return "no row says why it is needed"
}

// The rule itself refuses what it is there for.
func TestImportRules(t *testing.T) {
	for _, bad := range [][2]string{
		{"offsets/store.go", module + "/forwarder"}, {"offsets/store.go", "golang.org/x/sys/unix"}, {"offsets/store.go", module + "/volume/sim"}, {"volume/file.go", module + "/offsets"}, {"forwarder/pace/lane.go", module + "/api"},
		{"e2e/kill_test.go", module + "/offsets"}, {"e2e/rig/rig.go", module + "/forwarder"}, {"main.go", module + "/e2e/rig"}, {"api/health.go", module},
		{"forwarder/consumer.go", "github.com/confluentinc/confluent-kafka-go/v2/kafka"}, {"main.go", "github.com/hashicorp/go-retryablehttp"},
		{"forwarder/counts.go", "github.com/prometheus/client_golang/prometheus"}, {"main.go", "github.com/prometheus/client_golang/prometheus/promhttp"},
		{"main.go", "github.com/kelseyhightower/envconfig"}, {"kafka/librdkafka/consumer.go", "github.com/twmb/franz-go/pkg/kgo"}, {"main.go", "github.com/pkg/errors"},
		{"config.go", "github.com/kelseyhightower/envconfig"}, {"main.go", "go.opentelemetry.io/otel"}, {"tracing/span_on.go", "google.golang.org/protobuf/proto"},
		{"forwarder/push/event.go", "github.com/cloudevents/sdk-go/v2/event"}, {"forwarder/push/event.go", "github.com/IBM/sarama"}, {"e2e/kill_test.go", "github.com/IBM/sarama"},
		{"forwarder/push/service.go", module + "/tracing"}, {"tracing/span_on.go", module + "/forwarder"}, {"tracing/doc.go", module + "/config"},
		{"config/load.go", module + "/offsets"}, {"forwarder/consumer.go", module + "/config"}, {"api/health.go", module + "/config"},
		{"forwarder/wire/conn.go", "github.com/valyala/fasthttp"}, {"forwarder/wire/wire.go", module + "/offsets"}, {"forwarder/pace/hosts.go", module + "/forwarder/push"}, {"forwarder/push/judge.go", module + "/offsets"},
		{"forwarder/deliver.go", module + "/kafka/librdkafka"}, {"forwarder/deliver.go", module + "/forwarder/wire"}, {"kafka/kafka.go", module + "/offsets"}, {"forwarder/wire/wire_test.go", module + "/forwarder"},
		{"forwarder/push/service.go", module + "/forwarder/wire/wiretest"}, {"forwarder/wire/wire.go", module + "/forwarder/wire/wiretest"},
		{"forwarder/wire/wiretest/wiretest.go", module + "/forwarder/wire"}, {"api/health.go", module + "/forwarder/wire"},
	} {
		if importRefused(bad[0], bad[1]) == "" {
			t.Errorf("%s may import %s", bad[0], bad[1])
		}
	}
}

// What is linked is what the rows say: one Kafka client, no test broker, no browser, and no OpenTelemetry without its tag.
func TestBinaryLinksOneKafkaClient(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := string(out)
	if strings.Contains(deps, "opentelemetry") {
		t.Error("the binary links OpenTelemetry: it costs 3.5 MB, and is for builds with the tag otel")
	}
	if strings.Contains(deps, "html/template") {
		t.Error("the binary links html/template: with it the linker keeps every exported method, 3.4 MB of them")
	}
	if strings.Contains(deps, "franz-go") || !strings.Contains(deps, "confluent-kafka-go") || strings.Contains(deps, module+"/e2e") || strings.Contains(deps, "chromedp") || strings.Contains(deps, "sarama") {
		t.Error("the binary links a test broker, a browser, or no Kafka client")
	}
}

// The core needs no C: it can be tested, and simulated, without librdkafka.
func TestForwarderBuildsWithoutCgo(t *testing.T) {
	build := exec.Command("go", "build", "./forwarder/...", "./offsets", "./kafka", "./config", "./api", "./publisher", "./tracing")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
