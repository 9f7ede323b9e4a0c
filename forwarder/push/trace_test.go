package push

import (
	"strings"
	"testing"

	"github.com/kpush/kpush/kafka"
)

// A request carries the attempt's own place in a trace instead of the record's, which stays to be seen as a Kafka header.
func TestTrace(t *testing.T) {
	const theirs, ours = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"
	it := item(kafka.Message{Headers: []kafka.Header{{Name: "traceparent", Value: []byte(theirs)}, {Name: "tracestate", Value: []byte("a=1")}}})
	if got := TraceOf(it.Message); got != (Trace{theirs, "a=1"}) {
		t.Errorf("the record says %v", got)
	}
	slim := *it
	slim.slim = true
	single := func(it *Item, tr Trace) string {
		var r room
		r.write(it, &Config{}, tr)
		return string(r.request)
	}
	batch := func(it *Item, tr Trace) string {
		var r room
		r.writeBatch([]*Item{it}, &Config{}, tr)
		return string(r.request)
	}
	for name, row := range map[string]struct{ got, want string }{
		"the record's":   {single(it, Trace{}), "Traceparent: " + theirs + "\r\nTracestate: a=1\r\n"},
		"a span's":       {single(it, Trace{ours, "b=2"}), "Traceparent: " + ours + "\r\nTracestate: b=2\r\n"},
		"without state":  {single(it, Trace{Parent: ours}), "Traceparent: " + ours + "\r\n"},
		"slim":           {single(&slim, Trace{}), ""},
		"slim, a span's": {single(&slim, Trace{ours, "b=2"}), "Traceparent: " + ours + "\r\n"},
		"batch":          {batch(it, Trace{}), ""},
		"batch, span's":  {batch(it, Trace{ours, "b=2"}), "Traceparent: " + ours + "\r\nTracestate: b=2\r\n"},
	} {
		var got strings.Builder
		for line := range strings.Lines(row.got) {
			if strings.HasPrefix(line, "Trace") {
				got.WriteString(line)
			}
		}
		if got.String() != row.want {
			t.Errorf("%s: %q, want %q", name, got.String(), row.want)
		}
	}
	if got := single(it, Trace{Parent: ours}); !strings.Contains(got, "Kafka-Header-traceparent: "+theirs+"\r\n") {
		t.Errorf("the record's own is lost: %q", got)
	}
}
