//go:build otel

package tracing

import (
	"context"
	"encoding/hex"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	otlp "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/kafka"
)

const (
	traceID = "0af7651916cd43dd8448eb211c80319c"
	above   = "00-" + traceID + "-b7ad6b7169203331-01"
)

// open is a gate that holds nobody.
type open struct{}

func (open) Context() context.Context { return context.Background() }
func (open) Cleared() (bool, error)   { return false, nil }
func (open) Fresh() bool              { return false }

func message(offset int64, headers ...string) *push.Item {
	m := &kafka.Message{Partition: kafka.Partition{Topic: "orders", Number: 3}, Offset: offset, Key: []byte("customer-17"), Value: []byte("v")}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		m.Headers = append(m.Headers, kafka.Header{Name: name, Value: []byte(value)})
	}
	return &push.Item{Message: m, Group: "billing", Attempt: 1}
}

// A message's trace goes from its producer through the span to the service.
func TestTraceGoesThrough(t *testing.T) {
	for name, row := range map[string]struct {
		headers []string
		parent  string
		state   string
	}{
		"in a trace":         {[]string{"traceparent: " + above, "tracestate: a=1"}, "b7ad6b7169203331", "a=1"},
		"in none":            {nil, "", ""},
		"in one that is not": {[]string{"traceparent: 00-1-2-01", "tracestate: a=1"}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			traces, done := collect(t)
			var arrived http.Header
			service := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { arrived = r.Header }))
			defer service.Close()
			s, err := push.New(push.Config{Targets: []string{service.URL}, Most: 1, ConnTimeout: time.Second, ExecTimeout: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			a := push.Attempt{Items: []*push.Item{message(42, row.headers...)}, Gate: open{}}
			if v := traces.Wrap(s).Push(&a); v.Class != push.Delivered || a.Trace != (push.Trace{}) {
				t.Errorf("%+v; left in the attempt: %v", v, a.Trace)
			}
			got := done()
			if len(got.got) != 1 {
				t.Fatalf("%d spans", len(got.got))
			}
			span := got.got[0]
			if hex.EncodeToString(span.ParentSpanId) != row.parent || span.TraceState != row.state || (hex.EncodeToString(span.TraceId) == traceID) != (row.parent != "") {
				t.Errorf("the span is in %x below %x, %q", span.TraceId, span.ParentSpanId, span.TraceState)
			}
			if all := arrived["Traceparent"]; len(all) != 1 || all[0] != traceparent(span) || arrived.Get("Tracestate") != row.state {
				t.Errorf("the service got %q and %q, want %q", all, arrived["Tracestate"], traceparent(span))
			}
			if span.Name != "process orders" || span.Kind != otlp.Span_SPAN_KIND_CONSUMER || span.Status.GetCode() != otlp.Status_STATUS_CODE_UNSET {
				t.Errorf("%s, %v, %v", span.Name, span.Kind, span.Status)
			}
			same(t, "attributes", span.Attributes, map[string]string{
				"messaging.system": "kafka", "messaging.operation.type": "process", "messaging.operation.name": "process",
				"messaging.destination.name": "orders", "messaging.destination.partition.id": "3", "messaging.consumer.group.name": "billing",
				"messaging.kafka.offset": "42", "messaging.kafka.message.key": "customer-17", "http.response.status_code": "200",
				"kpush.attempt": "1", "kpush.outcome": "delivered", "kpush.host": "127.0.0.1:8080",
			})
			if got.resource["service.name"] != "kpush" || got.resource["service.version"] != "1.2.3" {
				t.Errorf("of %v", got.resource)
			}
		})
	}
}

// The span's status is the verdict's.
func TestVerdicts(t *testing.T) {
	for name, row := range map[string]struct {
		v             push.Verdict
		fault, reason string
	}{
		"delivered":     {push.Verdict{Status: 204}, "", ""},
		"message_fault": {push.Verdict{Class: push.MessageFault, Status: 500, Reason: "the service answered 500", Answer: "a body"}, "message_fault", "the service answered 500"},
		"service_fault": {push.Verdict{Class: push.ServiceFault, Reason: "refused"}, "service_fault", "refused"},
		"busy":          {push.Verdict{Class: push.Busy, Status: 429, Reason: "busy"}, "busy", "busy"},
		"skip":          {push.Verdict{Class: push.Skip, Status: 200}, "", ""},
		"give_up":       {push.Verdict{Class: push.GiveUp, Status: 200, Reason: "asked for"}, "give_up", "asked for"},
		"aborted":       {push.Verdict{Class: push.Aborted, Reason: "kpush is stopping"}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			traces, done := collect(t)
			it := message(42)
			it.Attempt, it.InDoubt, it.Key, it.Value = 7, true, []byte{0xff}, nil
			traces.Wrap(&answering{row.v}).Push(&push.Attempt{Items: []*push.Item{it}})
			span := done().got[0]
			about := values(span.Attributes)
			if about["kpush.outcome"] != name || about["error.type"] != row.fault || span.Status.GetMessage() != row.reason ||
				(span.Status.GetCode() == otlp.Status_STATUS_CODE_ERROR) != (row.fault != "") {
				t.Errorf("%v, %v", about, span.Status)
			}
			_, key := about["messaging.kafka.message.key"] // it is no text
			if _, status := about["http.response.status_code"]; key || status != (row.v.Status != 0) ||
				about["kpush.attempt"] != "7" || about["kpush.in_doubt"] != "true" || about["messaging.kafka.message.tombstone"] != "true" {
				t.Errorf("%v", about)
			}
		})
	}
}

// A batch has one span, below none of its messages, with a link to each that is in a trace.
func TestBatch(t *testing.T) {
	traces, done := collect(t)
	items := []*push.Item{message(42, "traceparent: "+above), message(43), message(45, "traceparent: "+strings.Replace(above, traceID, strings.Repeat("ab", 16), 1))}
	items[2].Attempt, items[2].InDoubt, items[2].Key = 4, true, nil
	traces.Wrap(&answering{push.Verdict{Status: 200, Failed: []int64{43}}}).Push(&push.Attempt{Items: items, Host: 1})
	all := done().got
	if len(all) != 1 {
		t.Fatalf("%d spans", len(all))
	}
	span := all[0]
	same(t, "attributes", span.Attributes, map[string]string{
		"messaging.system": "kafka", "messaging.operation.type": "process", "messaging.operation.name": "process",
		"messaging.destination.name": "orders", "messaging.destination.partition.id": "3", "messaging.consumer.group.name": "billing",
		"messaging.batch.message_count": "3", "http.response.status_code": "200", "error.type": "message_fault",
		"kpush.attempt": "4", "kpush.in_doubt": "true", "kpush.outcome": "delivered", "kpush.first_offset": "42", "kpush.last_offset": "45", "kpush.failed_count": "1",
	})
	if len(span.ParentSpanId) > 0 || hex.EncodeToString(span.TraceId) == traceID || span.Status.Message != "the service named 1 of 3 messages" {
		t.Errorf("in %x below %x, %v", span.TraceId, span.ParentSpanId, span.Status)
	}
	if len(span.Links) != 2 {
		t.Fatalf("%d links", len(span.Links))
	}
	for i, want := range []string{traceID, strings.Repeat("ab", 16)} {
		if l := span.Links[i]; hex.EncodeToString(l.TraceId) != want || hex.EncodeToString(l.SpanId) != "b7ad6b7169203331" {
			t.Errorf("link %d: %x %x", i, l.TraceId, l.SpanId)
		}
	}
	same(t, "the first link", span.Links[0].Attributes, map[string]string{"messaging.kafka.offset": "42", "kpush.attempt": "1"})
	same(t, "the second link", span.Links[1].Attributes, map[string]string{"messaging.kafka.offset": "45", "kpush.attempt": "4", "kpush.in_doubt": "true"})
}

// What may be large stays out: spans wait in memory.
func TestLongKeyStaysOut(t *testing.T) {
	traces, done := collect(t)
	it := message(42)
	it.Key = []byte(strings.Repeat("k", keyMost+1))
	traces.Wrap(new(answering)).Push(&push.Attempt{Items: []*push.Item{it}})
	if _, there := values(done().got[0].Attributes)["messaging.kafka.message.key"]; there {
		t.Error("the key is there")
	}
}

// The standard variables count.
func TestVariables(t *testing.T) {
	traces, done := collect(t, "OTEL_SERVICE_NAME=billing-push", "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test", "OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20x")
	traces.Wrap(new(answering)).Push(&push.Attempt{Items: []*push.Item{message(1)}})
	got := done()
	if got.resource["service.name"] != "billing-push" || got.resource["deployment.environment.name"] != "test" || got.requests[0].Get("Authorization") != "Bearer x" {
		t.Errorf("%v, %v", got.resource, got.requests)
	}
}

// https speaks TLS, with the authority that a variable names; http does not.
func TestTLS(t *testing.T) {
	s := new(spans)
	s.Server = httptest.NewTLSServer(s)
	defer s.Close()
	authority := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	traces, log := begin(t, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="+s.URL+"/v1/traces", "OTEL_EXPORTER_OTLP_CERTIFICATE="+authority)
	traces.Wrap(new(answering)).Push(&push.Attempt{Items: []*push.Item{message(1)}})
	if traces.Stop(); len(s.got) != 1 || len(s.wrong) > 0 {
		t.Errorf("%d spans came, and %q; said: %s", len(s.got), s.wrong, log.String())
	}
}

// What is not sampled is not sent; the service learns that, and in which trace it is all the same.
func TestSampler(t *testing.T) {
	for sampler, headers := range map[string][]string{
		"always_off":            {"traceparent: " + above},
		"parentbased_always_on": {"traceparent: " + strings.TrimSuffix(above, "01") + "00"},
	} {
		traces, done := collect(t, "OTEL_TRACES_SAMPLER="+sampler)
		var carried push.Trace
		traces.Wrap(handle(func(a *push.Attempt) { carried = a.Trace })).Push(&push.Attempt{Items: []*push.Item{message(1, headers...)}})
		if got := done(); len(got.got) != 0 || !strings.HasPrefix(carried.Parent, "00-"+traceID) || !strings.HasSuffix(carried.Parent, "-00") {
			t.Errorf("%s: %d spans, %v", sampler, len(got.got), carried)
		}
	}
}

type handle func(*push.Attempt)

func (h handle) Push(a *push.Attempt) push.Verdict { h(a); return push.Verdict{} }

// A wrong setting is said at the start, each, and without what may be a secret.
func TestWrongSettingsAreSaid(t *testing.T) {
	traces, log := begin(t, "OTEL_EXPORTER_OTLP_ENDPOINT=http://user:hunter2@127.0.0.1:1", "OTEL_TRACES_SAMPLER=sometimes", "OTEL_EXPORTER_OTLP_HEADERS=hunter2", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc")
	defer traces.Stop()
	said := log.String()
	for _, want := range []string{"sometimes", "parse headers", "grpc is not a valid protocol"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not said", want)
		}
	}
	if strings.Contains(said, "hunter2") {
		t.Errorf("a secret is said: %s", said)
	}
}

// An attempt with a span that is recorded, and with one that is not.
func BenchmarkSpan(b *testing.B) {
	quiet(b)
	for _, sampler := range []string{"always_on", "always_off"} {
		b.Run(sampler, func(b *testing.B) {
			gone := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			defer gone.Close()
			traces, _ := begin(b, "OTEL_EXPORTER_OTLP_ENDPOINT="+gone.URL, "OTEL_TRACES_SAMPLER="+sampler)
			defer traces.Stop()
			h := traces.Wrap(new(answering))
			a := push.Attempt{Items: []*push.Item{message(42, "traceparent: "+above)}}
			b.ReportAllocs()
			for b.Loop() {
				h.Push(&a)
			}
		})
	}
}
