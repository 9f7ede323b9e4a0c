package push

import "github.com/kpush/kpush/kafka"

// Trace is a place in a trace, as W3C writes it in traceparent and tracestate.
type Trace struct{ Parent, State string }

// TraceOf is what the record itself says, as a request without another Attempt.Trace carries it.
func TraceOf(m *kafka.Message) Trace {
	return Trace{string(last(m.Headers, "traceparent", fits)), string(last(m.Headers, "tracestate", fits))}
}

// appendTrace appends the lines of a Trace that is not the record's; nothing where there is none.
func appendTrace(b []byte, t Trace) []byte {
	if t.Parent != "" {
		b = appendLine(b, "Traceparent: ", t.Parent)
	}
	if t.State != "" {
		b = appendLine(b, "Tracestate: ", t.State)
	}
	return b
}
