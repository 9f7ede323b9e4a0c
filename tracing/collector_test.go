//go:build otel

package tracing

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// spans is a collector of OTLP over HTTP, and what it got.
type spans struct {
	*httptest.Server
	mu       sync.Mutex
	got      []*otlp.Span
	resource map[string]string
	requests []http.Header
	wrong    []string
}

func (s *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var q collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &q)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		s.wrong = append(s.wrong, r.Method+" "+r.URL.Path+" "+r.Header.Get("Content-Type"))
	}
	s.requests = append(s.requests, r.Header)
	for _, of := range q.ResourceSpans {
		s.resource = values(of.Resource.Attributes)
		for _, scope := range of.ScopeSpans {
			s.got = append(s.got, scope.Spans...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// collect starts a collector, and traces that go there; done stops them and returns what came.
func collect(t *testing.T, variables ...string) (traces *Traces, done func() *spans) {
	s := new(spans)
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	traces, log := begin(t, append([]string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + s.URL}, variables...)...)
	return traces, func() *spans {
		traces.Stop()
		// The SDK's handlers are the process's: another test's provider may still complain of its collector.
		if said := log.String(); strings.Contains(said, "limit reached") || strings.Contains(said, s.URL+"/") || strings.Contains(said, "in time") {
			t.Errorf("said: %s", said)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.wrong) > 0 {
			t.Errorf("the collector got %q", s.wrong)
		}
		return s
	}
}

// begin starts traces in an environment.
func begin(t testing.TB, variables ...string) (*Traces, *buffer) {
	quiet(t)
	for _, v := range variables {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	log := new(buffer)
	life, end := context.WithCancel(context.Background())
	t.Cleanup(end)
	return Start(life, Options{Version: "1.2.3", Hosts: []string{"127.0.0.1:8080"}, Drain: 25 * time.Second, Log: slog.New(slog.NewTextHandler(log, nil))}), log
}

type buffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// values are attributes in words.
func values(list []*common.KeyValue) map[string]string {
	m := map[string]string{}
	for _, kv := range list {
		switch v := kv.Value.Value.(type) {
		case *common.AnyValue_StringValue:
			m[kv.Key] = v.StringValue
		case *common.AnyValue_IntValue:
			m[kv.Key] = strconv.FormatInt(v.IntValue, 10)
		case *common.AnyValue_BoolValue:
			m[kv.Key] = strconv.FormatBool(v.BoolValue)
		default:
			m[kv.Key] = kv.Value.String()
		}
	}
	return m
}

// same tells whether the attributes are those, and no others.
func same(t *testing.T, what string, got []*common.KeyValue, want map[string]string) {
	t.Helper()
	if have := values(got); !maps.Equal(have, want) {
		t.Errorf("%s:\n%v, want\n%v", what, have, want)
	}
}

// traceparent is a sampled span's place, as a request carries it.
func traceparent(s *otlp.Span) string {
	return "00-" + hex.EncodeToString(s.TraceId) + "-" + hex.EncodeToString(s.SpanId) + "-01"
}
