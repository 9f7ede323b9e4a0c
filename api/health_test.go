package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
)

// sentences is a Source that says what it holds.
type sentences struct{ live, ready, notes []string }

func (s sentences) Live() []string  { return s.live }
func (s sentences) Ready() []string { return s.ready }
func (s sentences) Notes() []string { return s.notes }

func TestHealth(t *testing.T) {
	well := sentences{notes: []string{"2 partitions assigned"}}
	waiting := sentences{ready: []string{"waiting for a broker"}}
	ill := sentences{live: []string{"fenced"}, ready: []string{"fenced", "stopping"}}
	for _, row := range []struct {
		path    string
		sources []Source
		status  int
		want    report
	}{
		{"/healthz", nil, 200, report{OK: true, Why: []string{}}},
		{"/healthz", []Source{well}, 200, report{OK: true, Why: []string{}, Notes: []string{"2 partitions assigned"}}},
		{"/readyz", []Source{well}, 200, report{OK: true, Why: []string{}, Notes: []string{"2 partitions assigned"}}},
		{"/healthz", []Source{waiting}, 200, report{OK: true, Why: []string{}}},
		{"/readyz", []Source{waiting}, 503, report{Why: []string{"waiting for a broker"}}},
		{"/healthz", []Source{well, ill}, 503, report{Why: []string{"fenced"}, Notes: []string{"2 partitions assigned"}}},
		{"/readyz", []Source{well, waiting, ill}, 503, report{Why: []string{"waiting for a broker", "fenced", "stopping"}, Notes: []string{"2 partitions assigned"}}},
	} {
		w := httptest.NewRecorder()
		Health("", row.sources...).ServeHTTP(w, httptest.NewRequest("GET", row.path, nil))
		var got report
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != row.status || !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s of %+v: %d %s, want %d %+v", row.path, row.sources, w.Code, w.Body, row.status, row.want)
		}
		if ct := w.Header().Get("Content-Type"); ct != "application/json" {
			t.Errorf("%s: Content-Type %s", row.path, ct)
		}
		if !strings.Contains(w.Body.String(), `"why":[`) {
			t.Errorf("%s: why is no list: %s", row.path, w.Body)
		}
	}
}

// The health address is read only, and answers nothing else.
func TestHealthAnswersNothingElse(t *testing.T) {
	for request, want := range map[string]int{"POST /healthz": 405, "DELETE /readyz": 405, "GET /": 404, "GET /healthz/": 404, "GET /debug/pprof/": 404, "HEAD /healthz": 200} {
		method, path, _ := strings.Cut(request, " ")
		w := httptest.NewRecorder()
		Health("", sentences{}).ServeHTTP(w, httptest.NewRequest(method, path, nil))
		if w.Code != want {
			t.Errorf("%s: %d, want %d", request, w.Code, want)
		}
	}
}

// serve starts Serve on a free port and returns the address it logged.
func serve(t *testing.T, ctx context.Context, h http.Handler) string {
	t.Helper()
	return serveAt(t, ctx, HealthPort("127.0.0.1:0"), h)
}

func serveAt(t *testing.T, ctx context.Context, p Port, h http.Handler) string {
	t.Helper()
	var log bytes.Buffer
	if err := Serve(ctx, p, h, slog.New(slog.NewJSONHandler(&log, nil))); err != nil {
		t.Fatal(err)
	}
	var line struct{ Addr string }
	if err := json.Unmarshal(log.Bytes(), &line); err != nil || line.Addr == "" {
		t.Fatalf("the log does not say the address: %s", log.String())
	}
	return line.Addr
}

func TestServeUntilItsContextEnds(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	addr := serve(t, ctx, Health("", sentences{}))
	resp, err := http.Get("http://" + addr + "/readyz")
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	c, err := net.Dial("tcp", addr) // a caller that never says anything
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	end()
	if _, err := io.ReadAll(c); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
	if _, err := Probe(t.Context(), addr, ""); err == nil {
		t.Error("it still answers")
	}
}

func TestServeSaysWhatIsWrong(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, addr := range []string{l.Addr().String(), "nonsense", "256.0.0.1:80"} {
		err := Serve(t.Context(), HealthPort(addr), nil, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), "KPUSH_HEALTH_ADDR="+addr+" cannot be listened on") {
			t.Errorf("%s: %v", addr, err)
		}
	}
}
