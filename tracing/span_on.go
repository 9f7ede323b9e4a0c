//go:build otel

package tracing

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/kafka"
)

// keyMost bounds the bytes of a key that a span holds on to: thousands of spans may wait. A longer one is left out.
const keyMost = 1 << 10

// What OpenTelemetry has no name for.
const (
	attemptKey = attribute.Key("kpush.attempt")      // counted over restarts; of a batch: its largest
	inDoubtKey = attribute.Key("kpush.in_doubt")     // true: it was sent flagged, one of a batch at least
	outcomeKey = attribute.Key("kpush.outcome")      // the class
	hostKey    = attribute.Key("kpush.host")         // of the service
	firstKey   = attribute.Key("kpush.first_offset") // of a batch
	lastKey    = attribute.Key("kpush.last_offset")
	failedKey  = attribute.Key("kpush.failed_count") // messages that a service named in its 2xx to a batch
)

// handler makes the attempts of another one, each in a span. It is safe for concurrent use.
type handler struct {
	next   push.Handler
	tracer trace.Tracer
	hosts  []string
	links  int // of a span, at the most; negative: any number
}

// Push makes one attempt. The span's parent is the message's, or there is none where the messages are many: then it has links. The
// request carries the span's place also where nobody records it.
func (h *handler) Push(a *push.Attempt) push.Verdict {
	above := context.Background()
	if len(a.Items) == 1 {
		above = place(above, a.Items[0].Message)
	}
	ctx, span := h.tracer.Start(above, "process "+a.Items[0].Topic, trace.WithSpanKind(trace.SpanKindConsumer))
	var own carrier
	propagation.TraceContext{}.Inject(ctx, &own)
	a.Trace = push.Trace(own)
	v := h.next.Push(a)
	a.Trace = push.Trace{} // the next attempt is another span's
	if span.IsRecording() {
		h.describe(span, a, &v)
	}
	span.End()
	return v
}

// describe says what is known only now or costs something, so nothing of it where the span is not recorded. No sampler that a variable
// can choose asks for it before.
func (h *handler) describe(span trace.Span, a *push.Attempt, v *push.Verdict) {
	first := a.Items[0]
	about := append(make([]attribute.KeyValue, 0, 20),
		semconv.MessagingSystemKafka, semconv.MessagingOperationTypeProcess, semconv.MessagingOperationName("process"),
		semconv.MessagingDestinationName(first.Topic), semconv.MessagingDestinationPartitionID(strconv.Itoa(int(first.Number))),
		semconv.MessagingConsumerGroupName(first.Group), outcomeKey.String(word(v.Class)))
	if a.Host < len(h.hosts) {
		about = append(about, hostKey.String(h.hosts[a.Host]))
	}
	if v.Status != 0 {
		about = append(about, semconv.HTTPResponseStatusCode(v.Status))
	}
	if len(a.Items) == 1 {
		about = append(about, ofMessage(first)...)
		if first.Key != nil && len(first.Key) <= keyMost && utf8.Valid(first.Key) {
			about = append(about, semconv.MessagingKafkaMessageKey(string(first.Key)))
		}
	} else {
		about = append(about, h.ofBatch(span, a.Items)...)
	}
	fault, why := failure(v, len(a.Items))
	if fault != "" {
		about = append(about, semconv.ErrorTypeKey.String(fault))
		span.SetStatus(codes.Error, why)
	}
	if len(v.Failed) > 0 {
		about = append(about, failedKey.Int(len(v.Failed)))
	}
	span.SetAttributes(about...)
}

// failure is the kind of error that an attempt ended with, "" where it did not, and why. What the service asked to pass over it has
// processed; what was ended from outside is nobody's fault.
func failure(v *push.Verdict, messages int) (kind, why string) {
	switch {
	case v.Class == push.Delivered && len(v.Failed) > 0:
		return word(push.MessageFault), fmt.Sprintf("the service named %d of %d messages", len(v.Failed), messages)
	case v.Class == push.Delivered, v.Class == push.Skip, v.Class == push.Aborted:
		return "", ""
	}
	return word(v.Class), v.Reason
}

// word is a class as the metrics write it.
func word(c push.Class) string { return strings.ReplaceAll(c.String(), " ", "_") }

// ofMessage is what is said of one message: on the span, or on its link of a batch's.
func ofMessage(it *push.Item) []attribute.KeyValue {
	about := append(make([]attribute.KeyValue, 0, 4), semconv.MessagingKafkaOffset(int(it.Offset)), attemptKey.Int(it.Attempt))
	if it.InDoubt {
		about = append(about, inDoubtKey.Bool(true))
	}
	if it.Value == nil {
		about = append(about, semconv.MessagingKafkaMessageTombstone(true))
	}
	return about
}

// ofBatch links the span to each message's own trace, up to the bound of links, and says what is said of all of them. A message
// without a trace has no link.
func (h *handler) ofBatch(span trace.Span, items []*push.Item) []attribute.KeyValue {
	attempt, doubt, links := 0, false, 0
	for _, it := range items {
		attempt, doubt = max(attempt, it.Attempt), doubt || it.InDoubt
		if links == h.links {
			continue
		}
		if sc := trace.SpanContextFromContext(place(context.Background(), it.Message)); sc.IsValid() {
			links++
			span.AddLink(trace.Link{SpanContext: sc, Attributes: ofMessage(it)})
		}
	}
	about := []attribute.KeyValue{semconv.MessagingBatchMessageCount(len(items)), attemptKey.Int(attempt),
		firstKey.Int64(items[0].Offset), lastKey.Int64(items[len(items)-1].Offset)}
	if doubt {
		about = append(about, inDoubtKey.Bool(true))
	}
	return about
}

// place is ctx below what the record says of its trace.
func place(ctx context.Context, m *kafka.Message) context.Context {
	own := carrier(push.TraceOf(m))
	if own.Parent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, &own)
}

// carrier is a push.Trace as the propagator reads and writes it.
type carrier push.Trace

func (c *carrier) at(name string) *string {
	if name == "traceparent" {
		return &c.Parent
	}
	return &c.State
}

// Get is for the propagator, as Set and Keys are.
func (c *carrier) Get(name string) string { return *c.at(name) }

// Set takes one of the two headers.
func (c *carrier) Set(name, value string) { *c.at(name) = value }

// Keys are both.
func (*carrier) Keys() []string { return propagation.TraceContext{}.Fields() }
