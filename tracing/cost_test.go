package tracing

import (
	"log/slog"
	"runtime"
	"testing"

	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/kafka"
)

// answering is a Handler that makes no request.
type answering struct{ push.Verdict }

func (h *answering) Push(*push.Attempt) push.Verdict { return h.Verdict }

// quiet clears what the environment of the tests may say of traces.
func quiet(t testing.TB) {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"} {
		t.Setenv(name, "")
	}
}

// Where no collector is named, in either build: the same Handler, no goroutine, no allocation, nothing to stop.
func TestNoCollectorNoCost(t *testing.T) {
	for name, variables := range map[string][2]string{
		"none":     {"KPUSH_TOPIC", "t"},
		"disabled": {"OTEL_SDK_DISABLED", "true"},
		"no trace": {"OTEL_TRACES_EXPORTER", "none"},
	} {
		t.Run(name, func(t *testing.T) {
			quiet(t)
			if name != "none" {
				t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
			}
			t.Setenv(variables[0], variables[1])
			before := runtime.NumGoroutine()
			traces := Start(t.Context(), Options{Log: slog.New(slog.DiscardHandler)})
			defer traces.Stop()
			var plain push.Handler = new(answering)
			h := traces.Wrap(plain)
			if h != plain {
				t.Error("the Handler is wrapped")
			}
			a := push.Attempt{Items: []*push.Item{{Message: &kafka.Message{}}}}
			if n := testing.AllocsPerRun(100, func() { h.Push(&a) }); n != 0 {
				t.Errorf("%v allocations an attempt", n)
			}
			// One of an earlier test may have ended meanwhile.
			if n := runtime.NumGoroutine() - before; n > 0 {
				t.Errorf("%d goroutines more", n)
			}
			if idle := Idle(); len(idle) > 0 {
				t.Errorf("said: %q", idle)
			}
		})
	}
}
