//go:build otel

package tracing

import (
	"log/slog"
	"net"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/forwarder/push"
)

// However many messages there are, a span has no more links than the SDK keeps, and says no word of it.
func TestLinksAreBounded(t *testing.T) {
	for limit, want := range map[string]int{"": 128, "2": 2, "-1": 300} {
		traces, done := collect(t, "OTEL_SPAN_LINK_COUNT_LIMIT="+limit)
		var items []*push.Item
		for i := range int64(300) {
			items = append(items, message(i, "traceparent: "+above))
		}
		traces.Wrap(new(answering)).Push(&push.Attempt{Items: items})
		if span := done().got[0]; len(span.Links) != want || span.DroppedLinksCount != 0 || values(span.Attributes)["messaging.batch.message_count"] != "300" {
			t.Errorf("limit %q: %d links, %d dropped", limit, len(span.Links), span.DroppedLinksCount)
		}
	}
}

// Spans that no collector takes have a bound, also those of large batches. The newest are left out.
func TestMemoryIsBounded(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, batch := range []int{1, 100, 1000} {
		quiet(t)
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+silent.Addr().String())
		traces := Start(t.Context(), Options{Batch: batch, Log: slog.New(slog.DiscardHandler)})
		h := traces.Wrap(new(answering))
		var items []*push.Item
		for i := range int64(batch) {
			items = append(items, message(i, "traceparent: "+above))
		}
		before := alive()
		for range 3000 {
			h.Push(&push.Attempt{Items: items})
		}
		if more := alive() - before; more > 12<<20 {
			t.Errorf("batches of %d: %d KiB more", batch, more>>10)
		}
		traces.Stop()
	}
}

// alive is what the heap holds.
func alive() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A collector that does not answer, or is not there, holds up neither deliveries nor the stop, and is said once a minute at the most.
func TestDeadCollector(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	gone := httptest.NewServer(nil)
	gone.Close()
	for name, row := range map[string]struct{ url, said string }{
		"silent":  {"http://" + silent.Addr().String(), "the collector has not taken the last spans in time"},
		"refused": {gone.URL, "traces are incomplete"},
	} {
		t.Run(name, func(t *testing.T) {
			traces, log := begin(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+row.url, "OTEL_BSP_SCHEDULE_DELAY=10", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=64")
			h := traces.Wrap(new(answering))
			begun := time.Now()
			for i := range int64(10_000) { // five queues
				h.Push(&push.Attempt{Items: []*push.Item{message(i)}})
			}
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("10,000 attempts took %v", took)
			}
			time.Sleep(100 * time.Millisecond)
			begun = time.Now()
			traces.Stop()
			if took := time.Since(begun); took > flushMost+time.Second {
				t.Errorf("the stop took %v", took)
			}
			if said := log.String(); strings.Count(said, row.said) != 1 {
				t.Errorf("said: %s", said)
			}
		})
	}
}

// The flush has what is left of the drain, and no more.
func TestFlushIsWithinTheDrain(t *testing.T) {
	now := time.Now()
	for _, row := range []struct{ drain, since, want time.Duration }{
		{25 * time.Second, 0, flushMost}, {25 * time.Second, time.Second, flushMost}, {25 * time.Second, 23500 * time.Millisecond, time.Second},
		{25 * time.Second, 24600 * time.Millisecond, -100 * time.Millisecond}, {time.Second, 0, 500 * time.Millisecond},
	} {
		traces := &Traces{o: Options{Drain: row.drain}}
		if row.since > 0 {
			traces.stopping.Store(now.Add(-row.since).UnixNano())
		}
		if got := traces.left(now); got.Round(time.Millisecond) != row.want {
			t.Errorf("%v of %v are over: %v left, want %v", row.since, row.drain, got, row.want)
		}
	}
}
