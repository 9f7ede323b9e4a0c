//go:build otel

package tracing

import (
	"context"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/kpush/kpush/forwarder/push"
)

const (
	flushMost = 2 * time.Second        // what the end of the process waits for the collector
	margin    = 500 * time.Millisecond // of KPUSH_DRAIN_TIMEOUT, which what comes after has
)

// Traces are the process's. Without a provider they are off.
type Traces struct {
	o        Options
	provider *sdk.TracerProvider
	links    int          // of a span, at the most; negative: any number
	stopping atomic.Int64 // since when, in Unix nanoseconds; 0: not yet
}

// Start connects nothing yet. The stop begins when life ends. What is wrong with a setting is said, and no reason not to start.
func Start(life context.Context, o Options) *Traces {
	t := &Traces{o: o}
	name := asked()
	if name == "" {
		return t
	}
	c := &complaints{log: o.Log, starting: true}
	otel.SetErrorHandler(c)
	otel.SetLogger(logr.New(sink{c}))
	exporter, err := otlptracehttp.New(life)
	if err != nil {
		c.Handle(err)
		return t
	}
	about, err := resource.New(life, resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName("kpush"), semconv.ServiceVersion(o.Version)),
		resource.WithFromEnv()) // the last one counts
	if err != nil {
		c.Handle(err) // what could be read of it is there
	}
	t.links = sdk.NewSpanLimits().LinkCountLimit
	t.provider = sdk.NewTracerProvider(sdk.WithBatcher(exporter, queue(o.Batch)...), sdk.WithResource(about))
	context.AfterFunc(life, func() { t.stopping.Store(time.Now().UnixNano()) })
	c.started()
	if u, err := url.Parse(os.Getenv(name)); err == nil {
		o.Log.Info("traces are sent", "to", u.Redacted())
	}
	return t
}

// queue is where spans wait for the collector; what it has no room for is left out, and blocks nobody. A batch's span is as large as
// its links are many, so there are fewer of them, unless a variable says how many.
func queue(batch int) (o []sdk.BatchSpanProcessorOption) {
	room := max(sdk.DefaultMaxQueueSize/max(batch, 1), 64)
	if os.Getenv("OTEL_BSP_MAX_QUEUE_SIZE") == "" {
		o = append(o, sdk.WithMaxQueueSize(room))
		if os.Getenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE") == "" {
			o = append(o, sdk.WithMaxExportBatchSize(min(sdk.DefaultMaxExportBatchSize, room)))
		}
	}
	return o
}

// Wrap returns a Handler that makes h's attempts, each in a span; h itself where traces are off.
func (t *Traces) Wrap(h push.Handler) push.Handler {
	if t.provider == nil {
		return h
	}
	tracer := t.provider.Tracer("github.com/kpush/kpush", trace.WithInstrumentationVersion(t.o.Version), trace.WithSchemaURL(semconv.SchemaURL))
	return &handler{next: h, tracer: tracer, hosts: t.o.Hosts, links: t.links}
}

// Stop sends what waits, for 2 s at the most and within what is left of the time for the stop. What the collector does not take by
// then is lost.
func (t *Traces) Stop() {
	if t.provider == nil {
		return
	}
	ctx, end := context.WithTimeout(context.Background(), t.left(time.Now()))
	defer end()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.o.Log.Warn("the collector has not taken the last spans in time: they are lost", "error", err)
	}
}

// left is what Stop may take from now on.
func (t *Traces) left(now time.Time) time.Duration {
	left := t.o.Drain - margin
	if since := t.stopping.Load(); since != 0 {
		left -= now.Sub(time.Unix(0, since))
	}
	return min(flushMost, left)
}

// Idle has nothing to say: what is wrong with a variable of OpenTelemetry its SDK says itself.
func Idle() []string { return nil }
