package api

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/kpush/kpush/publisher"
)

// published is a publisher that takes everything, and has some counts.
type published struct{ took *[]string }

func (p published) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	*p.took = append(*p.took, r.URL.Path)
	w.WriteHeader(202)
}

func (published) Counts() publisher.Counts {
	spread := publisher.Histogram{Bounds: []float64{0.1, 1}, Counts: []uint64{3, 5}, Count: 6, Sum: 7.5}
	return publisher.Counts{Requests: map[publisher.Request]int64{{Mode: "async", Code: 202}: 8, {Mode: "sync", Code: 207}: 1, {Mode: "sync", Code: 404}: 2, {Mode: "question", Code: 404}: 1, {Mode: "async", Code: 429}: 5}, Duration: map[string]publisher.Histogram{"async": spread},
		Failed: map[string]int64{"no_broker": 2, "unknown": 1, "invalid": 0}, Sent: 1005, Queued: 4, Spooled: 9, Silent: noon}
}

// Whoever may not call does not publish either, and is told so in that API's words.
func TestDoorOfTopics(t *testing.T) {
	for _, row := range callers {
		method, path, _ := strings.Cut(row.request, " ")
		if path != "/pause" || row.want != 200 && row.want != 401 && row.want != 403 {
			continue
		}
		var took []string
		token := ""
		if row.token {
			token = testToken
		}
		a := newTest(&fake{}, token)
		a.about.Publish = published{&took}
		w := ask(t, a, method+" /topics/orders", "v", strings.Split(row.headers, "|")...)
		if row.want == 200 && (w.Code != 202 || fmt.Sprint(took) != "[/topics/orders]") ||
			row.want != 200 && (w.Code != row.want || len(took) > 0 || !strings.Contains(w.Body.String(), fmt.Sprintf(`{"error_code":%d,"message":`, row.want))) {
			t.Errorf("%s: %d %s, took %v", row.headers, w.Code, w.Body, took)
		}
	}
	if w := ask(t, newTest(&fake{}, ""), "POST /topics/orders", "v"); w.Code != 404 {
		t.Errorf("without a door: %d", w.Code)
	}
}

func TestPublishIsShown(t *testing.T) {
	a := newTest(&fake{status: busy()}, "")
	a.about.Publish = published{}
	const want = `"publish":{"queued":4,"spooled":9,"sent":1005,"failed":3,"failedBy":{"no_broker":2,"unknown":1},"refused":{"404":3,"429":5},"unacknowledgedSince":"2026-11-30T12:00:00Z"}`
	if w := ask(t, a, "GET /status", ""); !strings.Contains(w.Body.String(), want) {
		t.Error(w.Body)
	}
	for _, shown := range []string{"<dt>Published</dt><dd>1,005</dd>", "<dt>Queued</dt><dd>4</dd>", "<dt>On the volume</dt><dd>9</dd>", `<dt>Not published</dt><dd class="bad">3</dd>`,
		"<code>no_broker</code></dt><dd>2</dd>", "<dt>Requests answered 404</dt><dd>3</dd>", `<dt>No acknowledgement since</dt><dd class="bad">12:00:00 UTC</dd>`} {
		if w := ask(t, a, "GET /", ""); !strings.Contains(w.Body.String(), shown) {
			t.Errorf("the page does not show %s", shown)
		}
	}
	only := New(PublishOnly{}, About{Addr: "127.0.0.1:9401", Publish: published{}}, slog.New(slog.DiscardHandler))
	page := ask(t, only, "GET /", "").Body.String()
	for text, there := range map[string]bool{"Publishing": true, "<dt>Service</dt>": false, "Partitions": false, "Skipped messages": false, "Dead letters": false} {
		if strings.Contains(page, text) != there {
			t.Errorf("publish only: the page has %q: %t", text, !there)
		}
	}
	for request, want := range map[string]int{"GET /status": 200, "GET /": 200, "POST /pause": 409, "POST /skip": 400, "GET /skipped": 409} {
		if w := ask(t, only, request, "{}"); w.Code != want || want != 400 && !strings.Contains(w.Body.String(), PublishOnlyNote) {
			t.Errorf("publish only: %s: %d %s", request, w.Code, w.Body)
		}
	}
	scraped := ask(t, Metrics(Build{}, PublishOnly{}, published{}, func() int64 { return 0 }), "GET /metrics", "")
	if scraped.Code != 200 || !strings.Contains(scraped.Body.String(), "kpush_publish_queue_messages 4") || strings.Contains(scraped.Body.String(), "kpush_assigned") {
		t.Error(scraped.Body)
	}
}

// Many publishers have a connection each at the same time.
func TestManyPublishers(t *testing.T) {
	var took []string
	a := newTest(&fake{}, "")
	a.about.Publish = published{&took}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	if err := Serve(t.Context(), Port{Variable: "KPUSH_API_ADDR", Name: "api", Addr: addr, Publish: true}, a, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var conns []net.Conn
	for range 200 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	for _, c := range conns {
		fmt.Fprint(c, "GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
		all.Go(func() {
			b := make([]byte, 12)
			if _, err := c.Read(b); err != nil || string(b) != "HTTP/1.1 200" {
				t.Errorf("%q %v", b, err)
			}
		})
	}
	all.Wait()
}

// Descriptors that are for others are none for callers.
func TestCallersLeaveDescriptors(t *testing.T) {
	for descriptors, want := range map[int]string{1: "EOF", 1 << 20: "HTTP/1.1 200"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		l.Close()
		port := Port{Variable: "KPUSH_API_ADDR", Name: "api", Addr: addr, Descriptors: descriptors}
		if err := Serve(t.Context(), port, newTest(&fake{}, ""), slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
		b := make([]byte, 12)
		if n, err := c.Read(b); n == 0 && want != "EOF" || n > 0 && string(b) != want {
			t.Errorf("%d: %q, %v", descriptors, b, err)
		}
		c.Close()
	}
}
