package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kpush/kpush/forwarder"
	"github.com/kpush/kpush/forwarder/pace"
	"github.com/kpush/kpush/kafka"
)

// fake is an Operator that notes what it is asked for, and fails where it is told to.
type fake struct {
	status             forwarder.Status
	err                error
	remark, pausedHere string        // beside what is asked for
	hangs              chan struct{} // what it is asked for ends when this is closed
	mu                 sync.Mutex
	asked              []string
}

func (f *fake) note(format string, args ...any) {
	if f.hangs != nil {
		<-f.hangs
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, fmt.Sprintf(format, args...))
}

func (f *fake) took() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := strings.Join(f.asked, "; ")
	f.asked = nil
	return all
}

func (f *fake) Wanted() {}

func (f *fake) Status() forwarder.Status {
	if f.hangs != nil {
		<-f.hangs
	}
	return f.status
}

func (f *fake) Skip(_ context.Context, who string, s forwarder.Selection) (forwarder.SkipOutcome, error) {
	f.note("skip %s/%d/%d %q %t by %s", s.Topic, s.Number, s.Offset, s.Key, s.Blocked, who)
	return forwarder.SkipOutcome{Skipped: 3, Note: f.remark}, f.err
}

func (f *fake) Rest(context.Context, string, int) string { return f.remark }

func (f *fake) PausedHere() string { return f.pausedHere }

func (f *fake) Pause(_ context.Context, who, topic string, n int32) ([]kafka.Partition, error) {
	f.note("pause %s/%d by %s", topic, n, who)
	return []kafka.Partition{{Topic: "orders", Number: 1}, {Topic: "orders", Number: 2}}, f.err
}

func (f *fake) Resume(_ context.Context, who, topic string, n int32) ([]kafka.Partition, error) {
	f.note("resume %s/%d by %s", topic, n, who)
	return nil, f.err
}

func (f *fake) Seek(_ context.Context, who, topic string, n int32, to forwarder.Target) ([]kafka.Position, error) {
	at := ""
	if !to.Time.IsZero() {
		at = to.Time.UTC().Format(time.RFC3339Nano)
	}
	f.note("seek %s/%d %d %s %t %t by %s", topic, n, to.Offset, at, to.Beginning, to.End, who)
	return []kafka.Position{{Partition: kafka.Partition{Topic: topic, Number: 1}, Offset: 7}}, f.err
}

func (f *fake) Skipped(after int64, limit int) (forwarder.SkippedPage, error) {
	f.note("skipped %d %d", after, limit)
	page := forwarder.SkippedPage{Messages: skips()}
	if after == 0 {
		page.Next = 7000
	}
	return page, f.err
}

func (f *fake) SkipCounts() (forwarder.SkipCounts, error) {
	if f.hangs != nil {
		<-f.hangs
	}
	return forwarder.SkipCounts{Skipped: 1_234_567, Resent: 17, Newest: skips()}, f.err
}

func skips() []forwarder.SkippedMessage {
	at := kafka.Position{Partition: kafka.Partition{Topic: "orders", Number: 1}, Offset: 5}
	return []forwarder.SkippedMessage{{Position: at, ID: "orders/1/5/x", Key: []byte{0xff}, Size: 9, Attempts: 3, Reason: "400", Skipped: noon},
		{Position: at, InDoubt: true, Skipped: noon, Resent: noon}}
}

func (f *fake) Resend(_ context.Context, who string, which []kafka.Position) ([]forwarder.Resent, error) {
	names := []string{}
	for _, w := range which {
		names = append(names, fmt.Sprintf("%s/%d", w.Partition, w.Offset))
	}
	f.note("resend %v by %s", names, who)
	at := kafka.Position{Partition: kafka.Partition{Topic: "orders", Number: 1}, Offset: 5}
	return []forwarder.Resent{{Position: at, Delivered: true}, {Position: at, Reason: "500"}}, f.err
}

func (f *fake) Redrive(_ context.Context, who string, limit int) (forwarder.Redriven, error) {
	f.note("redrive %d by %s", limit, who)
	return forwarder.Redriven{Sent: 2, Refused: 1, Left: 7}, f.err
}

func (f *fake) Audit() ([]forwarder.Moved, error) {
	f.note("audit")
	return []forwarder.Moved{{Time: noon, Who: "me", Did: "skip", To: "blocked"}}, f.err
}

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// busy is a forwarder in the middle of everything.
func busy() forwarder.Status {
	p := func(n int32) kafka.Partition { return kafka.Partition{Topic: "orders", Number: n} }
	return forwarder.Status{
		State: forwarder.Running, Ready: true, Notes: []string{"2 partitions assigned"}, Cluster: "c-1", Group: "billing", InstanceID: "pod-0",
		Service: forwarder.ServiceStatus{Status: pace.Status{Up: true, Hosts: []pace.Host{{Up: true}, {Since: noon}}, Taken: 3, Limit: 16, Failing: 7, Paused: noon},
			Names: []string{"10.0.0.5:80", "unix:/run/a.sock"}, Waiting: 57, Failing: 1},
		Partitions: []forwarder.PartitionStatus{
			{Partition: p(0), Next: 1042, Committed: 1040, End: 1100, High: 1110, Done: 8, Oldest: 1200 * time.Millisecond, PerSecond: 120.5,
				Outstanding: 58, InFlight: 1, Failing: 1, Paused: []string{"operator"}, Bounded: "10,000 offsets", Stall: "held back"},
			{Partition: p(1), Next: 7, Committed: -1, End: -1, High: -1},
		},
		Blocked: []forwarder.BlockedStatus{{Position: kafka.Position{Partition: p(0), Offset: 1042}, Key: []byte("k"), Attempts: 12, Status: 500, Reason: "500 Internal Server Error", Answer: "no such customer", Since: noon}},
		Letters: forwarder.LettersStatus{Topic: "orders-dead", Sent: map[string]int64{"orders": 7, "returns": 1000}, Waiting: 1, Why: "orders/0/9 is given up and waits", Redriven: 3, Refused: 2},
	}
}

const testToken = "s3cr3t"

// api is an API over a fake, called without sockets.
func newTest(f Operator, token string) *API {
	return New(f, About{Version: "1.2", Guarantee: 2, Addr: "127.0.0.1:9401", Token: token, Config: []slog.Attr{slog.String("KPUSH_TOPIC", "orders"), slog.String("KPUSH_API_TOKEN", "***")}},
		slog.New(slog.DiscardHandler))
}

// ask calls with headers as Name: value.
func ask(t *testing.T, h http.Handler, request, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	method, path, _ := strings.Cut(request, " ")
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "127.0.0.1:9401"
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		if name == "Host" {
			r.Host = value
		} else {
			r.Header.Set(name, value)
		}
	}
	w := httptest.NewRecorder()
	careful(h).ServeHTTP(w, r)
	return w
}
