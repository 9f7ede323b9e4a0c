package api

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What a probe says, in one line: the exit code is health's alone, what the process waits for is said beside it.
func TestProbe(t *testing.T) {
	port := func(addr string) string { return addr[strings.LastIndex(addr, ":"):] }
	at := func(h http.Handler) string { return serve(t, t.Context(), h) }
	answers := func(status int, body string) string {
		return at(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}))
	}
	notes := []string{"4 partitions assigned", "the service is down\n(refused)"}
	well := at(Health("", sentences{notes: notes}))
	waiting := at(Health("", sentences{ready: []string{"waiting for a broker", "stopping"}, notes: notes[:1]}))
	ill := at(Health("", sentences{live: []string{"fenced by another"}, ready: []string{"stopping"}, notes: notes[:1]}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	l.Close()
	stuck := http.NewServeMux()
	stuck.Handle("/healthz", Health("", sentences{}))
	stuck.HandleFunc("/readyz", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	t.Setenv("HTTP_PROXY", "http://"+closed)
	const noted = "healthy: 4 partitions assigned; the service is down (refused)"
	for addr, want := range map[string]struct{ said, err string }{
		well:                               {said: noted},
		port(well):                         {said: noted},
		"0.0.0.0" + port(well):             {said: noted},
		"localhost" + port(well):           {said: noted},
		at(Health("")):                     {said: "healthy"},
		waiting:                            {said: "healthy: 4 partitions assigned; not ready (no reason for exit code 1): waiting for a broker; stopping"},
		at(stuck):                          {said: "healthy; /readyz does not answer (no reason for exit code 1)"},
		ill:                                {err: "not healthy: fenced by another; 4 partitions assigned"},
		"0.0.0.0" + port(ill):              {err: "fenced by another"},
		closed:                             {err: "no kpush answers"},
		"[::]" + port(well):                {err: "no kpush answers"}, // not on IPv6
		answers(200, "<html>"):             {err: "is no kpush: status 200"},
		answers(503, `{"ok":true}`):        {err: "is no kpush: status 503"},
		answers(404, "404 page not found"): {err: "is no kpush: status 404"},
		at(newTest(&fake{}, "")):           {err: "is no kpush: status 404"}, // KPUSH_API_ADDR
		"9400":                             {err: "KPUSH_HEALTH_ADDR=9400"},
		"":                                 {err: "KPUSH_HEALTH_ADDR="},
		"local host:9400":                  {err: "nobody can be asked"},
	} {
		begun := time.Now()
		said, err := Probe(t.Context(), addr, "")
		if said != want.said || (err == nil) != (want.err == "") || err != nil && !strings.Contains(err.Error(), want.err) {
			t.Errorf("%s: %q, %v, want %+v", addr, said, err, want)
		}
		if took := time.Since(begun); took > probeTime+time.Second {
			t.Errorf("%s: it took %s, longer than a health check may", addr, took)
		}
	}
}

// An IPv6 wildcard is asked on IPv6, where there is one.
func TestProbeOnIPv6(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		return // none here
	}
	s := &http.Server{Handler: Health("", sentences{})}
	defer s.Close()
	go s.Serve(l)
	if _, err := Probe(t.Context(), fmt.Sprintf("[::]:%d", l.Addr().(*net.TCPAddr).Port), ""); err != nil {
		t.Error(err)
	}
}

// Who answers with another volume is another sidecar: this one cannot have started.
func TestProbeOfAnotherSidecar(t *testing.T) {
	addr := serve(t, t.Context(), Health("a", sentences{}))
	for volume, well := range map[string]bool{"a": true, "": true, "b": false} {
		if _, err := Probe(t.Context(), addr, volume); (err == nil) != well || err != nil && !strings.Contains(err.Error(), "two in one network need two addresses") {
			t.Errorf("volume %q: %v", volume, err)
		}
	}
}
