// Package tracing opens a span around each attempt, and sends it to a collector by OTLP over HTTP.
//
// It promises that a trace goes from the producer through kpush to the service: the span hangs below the record's traceparent, and the
// request carries the span's own. It is in the build that has the tag otel; every other build has the same words, and they do nothing.
// Where no collector is named nothing is wrapped, and nothing runs. It owns the spans that wait for the collector, a bounded number: it
// must hold up neither a delivery nor a stop, and it must not know what follows from a verdict.
//
// Its variables are OpenTelemetry's own, OTEL_*, and read by its SDK: config knows those of kpush alone.
package tracing

import (
	"cmp"
	"log/slog"
	"os"
	"strings"
	"time"
)

// Options are what the spans have to know of the process.
type Options struct {
	Version string        // of kpush
	Hosts   []string      // the service's, as Attempt.Host counts them
	Batch   int           // messages of a request, at the most
	Drain   time.Duration // what a stop may take, traces included
	Log     *slog.Logger
}

// endpoints name a collector: either of them turns traces on.
var endpoints = []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"}

// asked is the variable that asks for traces, "": none does, or another one turns them off. Of those that turn them off the SDK for Go
// reads neither.
func asked() string {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return ""
	}
	set := func(i int) string {
		if strings.TrimSpace(os.Getenv(endpoints[i])) == "" {
			return "" // empty is as good as not set, says the specification
		}
		return endpoints[i]
	}
	return cmp.Or(set(0), set(1))
}
