package forwarder

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/forwarder/wire"
	"github.com/kpush/kpush/forwarder/wire/wiretest"
)

// hasty is small, with waits that a test with real sockets can afford.
func hasty(targets ...string) Config {
	c := small()
	c.Targets = targets
	c.RetryInterval, c.RetryMaxInterval, c.ConnTimeout, c.ExecTimeout = time.Millisecond, time.Millisecond, 2*time.Second, 5*time.Second
	return c
}

// handed is a delivery of m as the lane begins it.
func handed(p *partition, m Message) *Delivery {
	m.Topic, m.Partition, m.TopicID, m.Group = p.topic, p.partition, p.topicID, "g"
	if !p.rec.Fetched(m.Offset) {
		panic("the tracker calls it finished")
	}
	return newDelivery(p, &m)
}

// try makes one attempt and returns its verdict.
func try(t *testing.T, f *Forwarder, d *Delivery) Verdict {
	t.Helper()
	if err := f.handler.(*httpHandler).attempt(d); err != nil {
		t.Fatal(err)
	}
	return d.verdict
}

// In doubt exactly when the request may have reached the service and no whole answer came back.
func TestHTTPInDoubt(t *testing.T) {
	answers := func(raw string, then func(net.Conn)) func(int, net.Conn, *bufio.Reader) {
		return func(_ int, c net.Conn, r *bufio.Reader) {
			if wiretest.Read(r) {
				io.WriteString(c, raw)
				then(c)
			}
		}
	}
	hang := func(c net.Conn) { io.Copy(io.Discard, c) }
	rest := func(net.Conn) {}
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: "
	for _, row := range []struct {
		name    string
		serve   func(int, net.Conn, *bufio.Reader) // nil: a closed port
		ack     string
		class   Class
		inDoubt bool
	}{
		{"refused", nil, "status", ServiceFault, false},
		{"reset at the first byte", func(_ int, c net.Conn, r *bufio.Reader) {
			if _, err := r.Peek(1); err == nil {
				wiretest.Reset(c)
			}
		}, "status", ServiceFault, true},
		{"reset after reading", answers("", wiretest.Reset), "status", ServiceFault, true},
		{"closed after reading", answers("", rest), "status", ServiceFault, true},
		{"no answer in time", answers("", hang), "status", MessageFault, true},
		{"half a status line", answers("HTTP/1.1 20", rest), "status", ServiceFault, true},
		{"no HTTP", answers("220 smtp ready\r\n\r\n", rest), "status", ServiceFault, true},
		{"headers break off", answers("HTTP/1.1 200 OK\r\nContent-Le", rest), "status", ServiceFault, true},
		{"headers never end", answers("HTTP/1.1 200 OK\r\nX: 1\r\n", hang), "status", MessageFault, true},
		{"2xx with half a body", answers(ok+"10\r\n\r\nabc", rest), "status", ServiceFault, true},
		{"2xx with half a body, reset", answers(ok+"10\r\n\r\nabc", wiretest.Reset), "errno", ServiceFault, true},
		{"2xx with a slow body", answers(ok+"10\r\n\r\nabc", hang), "status", MessageFault, true},
		{"2xx with a slow body", answers(ok+"10\r\n\r\nabc", hang), "errno", MessageFault, true},
		{"2xx with broken chunks", answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", rest), "status", ServiceFault, true},
		{"2xx until the connection ends", answers("HTTP/1.0 200 OK\r\n\r\n{\"errno\":0}", rest), "errno", Delivered, false},
		{"2xx without a body", answers("HTTP/1.1 204 No Content\r\n\r\n", hang), "status", Delivered, false},
		{"100 first", answers("HTTP/1.1 100 Continue\r\n\r\n"+ok+"0\r\n\r\n", rest), "status", Delivered, false},
		{"500", answers("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", rest), "status", MessageFault, false},
		{"500 with half a body", answers("HTTP/1.1 500 Oops\r\nContent-Length: 10\r\n\r\nabc", wiretest.Reset), "status", MessageFault, false},
		{"503", answers("HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n", rest), "errno", ServiceFault, false},
		{"101 that stays open", answers("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", hang), "status", MessageFault, false},
		{"101 that stays open", answers("HTTP/1.1 101 Switching Protocols\r\n\r\n", hang), "errno", MessageFault, false},
	} {
		t.Run(row.name+" "+row.ack, func(t *testing.T) {
			t.Parallel()
			url := "http://" + wiretest.ClosedPort(t)
			if row.serve != nil {
				url = wiretest.Bare(t, row.serve)
			}
			cfg := hasty(url)
			cfg.Ack, cfg.ExecTimeout = row.ack, 300*time.Millisecond
			r := newRig(t, cfg, nil)
			d := handed(r.partition(tp{"t", 0}), Message{Offset: 5, Value: []byte("v")})
			begun := time.Now()
			v := try(t, r.f, d)
			if v.Class != row.class || v.InDoubt != row.inDoubt || d.InDoubt() != row.inDoubt && v.Class != Delivered {
				t.Errorf("%s, in doubt %t (%s); want %s, %t", v.Class, v.InDoubt, v.Reason, row.class, row.inDoubt)
			}
			if took := time.Since(begun); took > 3*time.Second {
				t.Errorf("took %s with an EXEC_TIMEOUT of %s", took, cfg.ExecTimeout)
			}
		})
	}
}

// A handshake that fails, or a connection that is not there in time, has carried no request.
func TestHTTPNotInDoubtWithoutAConnection(t *testing.T) {
	plain := wiretest.Bare(t, func(_ int, c net.Conn, _ *bufio.Reader) { io.WriteString(c, "HTTP/1.1 400 plain\r\n\r\n") })
	silent := wiretest.Bare(t, func(_ int, c net.Conn, _ *bufio.Reader) { io.Copy(io.Discard, c) })
	stranger := httptest.NewUnstartedServer(http.NotFoundHandler())
	stranger.Config.ErrorLog = log.New(io.Discard, "", 0)
	stranger.StartTLS()
	defer stranger.Close()
	for name, target := range map[string]string{
		"no TLS there":         strings.Replace(plain, "http:", "https:", 1),
		"handshake never ends": strings.Replace(silent, "http:", "https:", 1),
		"unknown authority":    stranger.URL,
	} {
		cfg := hasty(target)
		cfg.ConnTimeout = 200 * time.Millisecond
		r := newRig(t, cfg, nil)
		d := handed(r.partition(tp{"t", 0}), Message{Offset: 5, Value: []byte("v")})
		if v := try(t, r.f, d); v.Class != ServiceFault || v.InDoubt || !strings.Contains(v.Reason, "no connection") {
			t.Errorf("%s: %s, in doubt %t: %s", name, v.Class, v.InDoubt, v.Reason)
		}
	}
}

// A keep-alive connection that the service closed while it was idle is not the message's fault: whatever happens, the
// service sees each attempt that it answers once, and no more requests than attempts.
func TestHTTPNeverResendsByItself(t *testing.T) {
	var seen atomic.Int64
	url := wiretest.Bare(t, func(n int, c net.Conn, r *bufio.Reader) {
		for first := true; wiretest.Read(r); first = false {
			seen.Add(1)
			if n == 1 && !first {
				wiretest.Reset(c) // the second request of the first connection: read, then the connection breaks
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	r := newRig(t, hasty(url), nil)
	p := r.partition(tp{"t", 0})
	headers := []Header{{"Idempotency-Key", []byte("k")}, {"X-Idempotency-Key", []byte("k")}, {"idempotency-key", []byte("k")}}
	if v := try(t, r.f, handed(p, Message{Offset: 1, Value: []byte("v"), Headers: headers})); v.Class != Delivered {
		t.Fatal(v)
	}
	d := handed(p, Message{Offset: 2, Value: []byte("v"), Headers: headers})
	if v := try(t, r.f, d); v.Class != ServiceFault || !v.InDoubt {
		t.Errorf("the broken attempt is %s, in doubt %t: %s", v.Class, v.InDoubt, v.Reason)
	}
	if n := seen.Load(); n != 2 {
		t.Errorf("the service saw %d requests for 2 attempts", n)
	}
	if v := try(t, r.f, d); v.Class != Delivered || seen.Load() != 3 {
		t.Errorf("third attempt: %s, %d requests", v.Class, seen.Load())
	}
}

// Without EXEC_TIMEOUT work may take as long as it likes, and a stop still ends the waiting for it.
func TestHTTPWithoutExecTimeout(t *testing.T) {
	arrived, leave := make(chan struct{}, 8), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // only then the server notices that the client has gone
		arrived <- struct{}{}
		select {
		case <-leave:
		case <-r.Context().Done():
		}
	}))
	defer s.Close()
	cfg := hasty(s.URL)
	cfg.ExecTimeout = 0
	r := newRig(t, cfg, nil)
	p := r.partition(tp{"t", 0})
	verdict := make(chan Verdict)
	d := handed(p, Message{Offset: 1, Value: []byte("v")})
	go func() { verdict <- try(t, r.f, d) }()
	<-arrived
	leave <- struct{}{}
	if v := <-verdict; v.Class != Delivered {
		t.Errorf("%s: %s", v.Class, v.Reason)
	}
	d = handed(p, Message{Offset: 2, Value: []byte("v")})
	go func() { verdict <- try(t, r.f, d) }()
	<-arrived
	p.stop(errRevoked)
	p.abandon(errRevoked)
	if v := <-verdict; v.Class != Aborted || !v.InDoubt || !d.attempt.InDoubt || d.again {
		t.Errorf("%s, in doubt %t, again %t: %s", v.Class, v.InDoubt, d.again, v.Reason)
	}
}

// deliverAll hands n messages with delivery offsets from 1 to the handler, as many at a time as there are lanes.
func deliverAll(t *testing.T, r *rig, lanes, each int) {
	t.Helper()
	var wg sync.WaitGroup
	for l := range lanes {
		p := r.partition(tp{"t", int32(l)})
		wg.Go(func() {
			for o := range each {
				d := handed(p, Message{Offset: int64(o), Value: []byte("v")})
				if out, err := r.f.handler.Handle(d); err != nil || out.Class != Delivered {
					t.Errorf("%s: %v %v", d.ID(), out, err)
				}
				finish(d)
				if err := p.rec.Done(d.Offset); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// One failing lane must not cost the others their connections.
func TestHTTPReusesConnections(t *testing.T) {
	var requests, connections atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if requests.Add(1)%5 == 0 {
			w.WriteHeader(500)
		}
		fmt.Fprint(w, strings.Repeat("answer ", 100))
	}))
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			connections.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	cfg := hasty(s.URL)
	cfg.Concurrency = 8
	deliverAll(t, newRig(t, cfg, nil), 8, 125)
	if n := requests.Load(); n < 1200 {
		t.Errorf("%d requests: too few failed", n)
	}
	if n := connections.Load(); n > 24 { // now and then one is dialed while another becomes free
		t.Errorf("%d connections for %d requests at concurrency 8", n, requests.Load())
	}
}

// With several hosts a retry goes elsewhere, and one that is down gets no more than a request per retry interval.
func TestHTTPSeveralHosts(t *testing.T) {
	var good, bad atomic.Int64
	up := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { good.Add(1) }))
	defer up.Close()
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { bad.Add(1); w.WriteHeader(503) }))
	defer down.Close()
	cfg := hasty(down.URL, up.URL)
	cfg.RetryInterval, cfg.RetryMaxInterval = 50*time.Millisecond, 50*time.Millisecond
	r := newRig(t, cfg, nil)
	begun := time.Now()
	deliverAll(t, r, 1, 200)
	most := downAfter + int64(time.Since(begun)/cfg.RetryInterval)
	if g, b := good.Load(), bad.Load(); g != 200 || b < downAfter || b > most {
		t.Errorf("%d good and %d bad attempts for 200 messages: want 200, and between %d and %d", g, b, downAfter, most)
	}
}

// What the service sees of a request that is not the message's: method, path, query, host, auth.
func TestHTTPRequestLine(t *testing.T) {
	got := make(chan *http.Request, 1)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r }))
	defer s.Close()
	host := strings.TrimPrefix(s.URL, "http://")
	for _, row := range []struct{ target, domain, uri, host, auth string }{
		{s.URL, "", "/", host, ""},
		{s.URL + "/in/box?a=1&b=%20x", "", "/in/box?a=1&b=%20x", host, ""},
		{s.URL + "/a%2Fb", "shop.example", "/a%2Fb", "shop.example", ""},
		{"http://user:p%40ss@" + host + "/x", "", "/x", host, "Basic " + base64.StdEncoding.EncodeToString([]byte("user:p@ss"))},
	} {
		cfg := hasty(row.target)
		cfg.Domain = row.domain
		rig := newRig(t, cfg, nil)
		deliverAll(t, rig, 1, 1)
		r := <-got
		if r.Method != "POST" || r.RequestURI != row.uri || r.Host != row.host || r.Header.Get("Authorization") != row.auth || r.ProtoMinor != 1 {
			t.Errorf("%s: %s %s host %s auth %q", row.target, r.Method, r.RequestURI, r.Host, r.Header.Get("Authorization"))
		}
		if enc := r.Header.Get("Accept-Encoding"); enc != "" {
			t.Errorf("asks for compressed answers: %s", enc)
		}
	}
}

// A redirect is an answer like any other: nothing is sent anywhere else, and the POST never becomes a GET.
func TestHTTPFollowsNoRedirect(t *testing.T) {
	var elsewhere atomic.Int64
	away := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer away.Close()
	for _, code := range []int{301, 302, 303, 307, 308} {
		here := make(chan struct{})
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != "POST" {
				t.Errorf("%d: the service saw a %s", code, r.Method)
			}
			select {
			case here <- struct{}{}:
			default:
			}
			http.Redirect(w, r, away.URL, code)
		}))
		r := newRig(t, hasty(s.URL), nil)
		d := handed(r.partition(tp{"t", 0}), Message{Offset: 1, Value: []byte("v")})
		done := make(chan struct{})
		go func() { defer close(done); r.f.handler.Handle(d) }()
		for range 3 {
			<-here
		}
		d.p.stop(errStopping)
		d.p.abandon(errStopping)
		<-done
		if d.final || d.verdict.Class != ServiceFault && d.verdict.Class != Aborted {
			t.Errorf("%d: %s, final %t", code, d.verdict.Class, d.final)
		}
		s.Close()
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("%d requests followed a redirect", n)
	}
}

// No message is undeliverable because of its headers: what the service calls too large is left out of the next attempt.
func TestHTTPSlimAfterTooLargeHeaders(t *testing.T) {
	for _, row := range []struct {
		status, key, header int
		slim                bool
	}{{431, 10, 10, true}, {431, 0, 20000, true}, {431, 20000, 0, true}, {400, 0, 20000, true}, {400, 20000, 0, true}, {400, 10, 10, false}, {500, 0, 20000, false}} {
		var attempts []http.Header
		var bodies []string
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			if attempts, bodies = append(attempts, r.Header), append(bodies, string(b)); len(attempts) == 1 {
				w.WriteHeader(row.status)
			}
		}))
		cfg := hasty(s.URL)
		cfg.CanSkip, cfg.RetryNums = true, 1 // one message fault would skip it
		if !row.slim {
			cfg.RetryNums = 2
		}
		r := newRig(t, cfg, nil)
		m := Message{Offset: 1, Key: []byte(strings.Repeat("k", row.key)), Value: []byte("v"),
			Headers: []Header{{"a", []byte(strings.Repeat("h", row.header))}, {"Content-Type", []byte("application/json")}}}
		d := handed(r.partition(tp{"t", 0}), m)
		out, err := r.f.handler.Handle(d)
		s.Close()
		if err != nil || out.Class != Delivered || len(attempts) != 2 {
			t.Errorf("%+v: %v %v after %d attempts", row, out, err, len(attempts))
			continue
		}
		h := attempts[1]
		if got := h.Get("Kafka-Headers-Left-Out") == "2" && h.Get("Kafka-Key") == "" && h.Get("Kafka-Header-A") == ""; got != row.slim {
			t.Errorf("%+v: slim %t: %v", row, got, h)
		}
		if h.Get("Content-Type") != "application/json" || h.Get("Kafka-Message-Id") != "t/0/1/T" || h.Get("Kafka-Attempt") != "2" || bodies[1] != "v" {
			t.Errorf("%+v: the second attempt lost what it is about: %v %q", row, h, bodies)
		}
		if h.Get("Kafka-In-Doubt") != "" {
			t.Errorf("%+v: in doubt after an answer", row)
		}
	}
}

// A 400 that is about the message and not about its headers is a message fault like any other: key and headers are left out once,
// to see, and the pace stays as it is. A 431 is about them, whatever comes after it.
func TestSlimOnlyWhereItHelps(t *testing.T) {
	for _, row := range []struct {
		answers, slim string // an attempt each; the last answer repeats until the message is skipped
	}{
		{"400", ".S.."},
		{"400 500 400", ".SS."},
		{"400 503 200", ".SS"},
		{"431", ".SSS"},
		{"431 400", ".SSS"},
		{"400 431 400", ".SSS"},
		{"400 400 431 400", ".S.SS"},
		{"500", "..."},
	} {
		for _, auto := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, local(func(c *Config) { c.CanSkip, c.Adaptive = true, auto }), nil)
				words, slim := strings.Fields(row.answers), ""
				serving(r, func(q *http.Request) (*http.Response, error) {
					slim += map[bool]string{true: "S", false: "."}[q.Header.Get("Kafka-Headers-Left-Out") != ""]
					status, err := strconv.Atoi(words[min(attemptOf(q), len(words))-1])
					if err != nil {
						panic(err)
					}
					return says(q, status)
				})
				limit := r.f.pace.limit.Load()
				d := handed(r.partition(t0), Message{Offset: 1, Value: []byte("v"), Key: []byte(strings.Repeat("k", 5000))})
				out, err := r.f.handler.Handle(d)
				if finish(d); err != nil || slim != row.slim || (out.Class == Skip) != (words[len(words)-1] != "200") {
					t.Errorf("%s: %v %v after %q, want %q", row.answers, out, err, slim, row.slim)
				}
				if a := r.f.pace.adaptive; r.f.pace.limit.Load() != limit || auto && a.refused > 1 {
					t.Errorf("%s: the pace is %d", row.answers, r.f.pace.limit.Load())
				}
			})
		}
	}
}

// A service that refuses a head before it has read it is heard, however little of the head goes out at once.
func TestHTTPSlimAfterAnEarlyAnswer(t *testing.T) {
	for _, status := range []int{431, 400} {
		for network, size := range map[string]int{"unix": 1 << 20, "tcp": 12 << 20, "tls": 12 << 20} { // more than the sockets hold
			t.Run(fmt.Sprint(status, " ", network), func(t *testing.T) {
				slim := make(chan http.Header, 1)
				serve := func(n int, c net.Conn, r *bufio.Reader) {
					if n == 1 {
						io.CopyN(io.Discard, r, 4<<10)
						fmt.Fprintf(c, "HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n", status)
						return
					}
					if q, err := http.ReadRequest(r); err == nil {
						slim <- q.Header
						io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
					}
				}
				var target string
				var roots *x509.CertPool
				switch network {
				case "unix":
					target = "http+unix://" + url.PathEscape(wiretest.Listening(t, "unix", filepath.Join(t.TempDir(), "s"), serve))
				case "tcp":
					target = wiretest.Bare(t, serve)
				default:
					target, roots = wiretest.BareTLS(t, serve)
				}
				r := newRig(t, hasty(target), nil)
				if roots != nil {
					w, _, err := wire.New(target, wire.Options{ConnTimeout: 2 * time.Second, Idle: 4, TLS: &tls.Config{RootCAs: roots}})
					if err != nil {
						t.Fatal(err)
					}
					r.f.handler.(*httpHandler).hosts[0].line = w
				}
				d := handed(r.partition(t0), Message{Offset: 1, Headers: []Header{{"a", make([]byte, size)}}})
				if v := try(t, r.f, d); v.Status != status || v.Class != MessageFault || d.attempt.Faults != 0 || v.InDoubt || !d.slim {
					t.Fatalf("the first attempt is %s with %d, in doubt %t: %s", v.Class, v.Status, v.InDoubt, v.Reason)
				}
				if v := try(t, r.f, d); v.Class != Delivered || (<-slim).Get("Kafka-Headers-Left-Out") != "1" {
					t.Errorf("the second attempt is %s: %s", v.Class, v.Reason)
				}
			})
		}
	}
}

// What the service says of the message itself wins over the size of the headers.
func TestHTTPActionWinsOverTooLargeHeaders(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Kafka-Action", "skip")
		w.WriteHeader(431)
	}))
	defer s.Close()
	r := newRig(t, hasty(s.URL), nil)
	d := handed(r.partition(tp{"t", 0}), Message{Offset: 1, Key: []byte("k"), Value: []byte("v")})
	if v := try(t, r.f, d); v.Class != Skip || !d.final {
		t.Errorf("%s: %s", v.Class, v.Reason)
	}
}

// What a service answers is read up to a limit, and a lane is not held by what lies behind it.
func TestHTTPAnswerWithoutEnd(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}))
	defer s.Close()
	cfg := hasty(s.URL)
	cfg.ExecTimeout = 500 * time.Millisecond
	r := newRig(t, cfg, nil)
	d := handed(r.partition(tp{"t", 0}), Message{Offset: 1, Value: []byte("v")})
	if v := try(t, r.f, d); v.Class != Delivered {
		t.Errorf("%s: %s", v.Class, v.Reason)
	}
}

// A broken connection gives the same reason each time: a blocked message is said once, not at every attempt.
func TestHTTPReasonsRepeat(t *testing.T) {
	url := wiretest.Bare(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if wiretest.Read(r) {
			wiretest.Reset(c)
		}
	})
	r := newRig(t, hasty(url), nil)
	d := handed(r.partition(tp{"t", 0}), Message{Offset: 1, Value: []byte("v")})
	first := try(t, r.f, d)
	for range 5 {
		if v := try(t, r.f, d); v.Reason != first.Reason {
			t.Errorf("%q, then %q", first.Reason, v.Reason)
		}
	}
}

func TestHTTPRefusesABadURL(t *testing.T) {
	if _, err := newHTTP(hasty("http://[::1")); err == nil || !strings.Contains(err.Error(), "no URL") {
		t.Errorf("error %v", err)
	}
}

// The first attempt needs no retryablehttp; the others come through it, each after its wait.
func TestHTTPFirstAttemptIsDirect(t *testing.T) {
	for failures, want := range []int{0, 2, 3} {
		var requests atomic.Int64
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if requests.Add(1) <= int64(failures) {
				w.WriteHeader(503)
			}
		}))
		r := newRig(t, hasty(s.URL), nil)
		h, trips := r.f.handler.(*httpHandler), 0
		h.client.HTTPClient.Transport = tripper(func(q *http.Request) (*http.Response, error) { trips++; return h.attempts.RoundTrip(q) })
		deliverAll(t, r, 1, 1)
		if trips != want || requests.Load() != int64(failures+1) {
			t.Errorf("%d failures: %d round trips, want %d; %d requests", failures, trips, want, requests.Load())
		}
		s.Close()
	}
}

// A message through the Handler over a Unix socket.
func TestHTTPOverAUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b", "app.sock")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan *http.Request, 1)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r }))
	s.Listener.Close()
	s.Listener = l
	s.Start()
	defer s.Close()
	for _, row := range []struct{ domain, host string }{{"", "localhost"}, {"shop.example", "shop.example"}} {
		cfg := hasty("http+unix://" + url.PathEscape(path) + "/in/box?a=1")
		cfg.Domain = row.domain
		deliverAll(t, newRig(t, cfg, nil), 1, 1)
		if r := <-got; r.Host != row.host || r.RequestURI != "/in/box?a=1" || r.Header.Get("Kafka-Topic") != "t" {
			t.Errorf("%s %s", r.Host, r.RequestURI)
		}
	}
}

// A large message leaves no large buffer behind.
func TestHTTPKeepsNoLargeBuffers(t *testing.T) {
	var a attempts
	for _, c := range []*call{{request: make([]byte, 0, 65<<10)}, {Answer: wire.Answer{Body: make([]byte, 0, 65<<10)}}} {
		a.done(c)
		for range 100 {
			if a.call() == c {
				t.Fatal("a large buffer came back")
			}
		}
	}
}

type tripper func(*http.Request) (*http.Response, error)

func (t tripper) RoundTrip(q *http.Request) (*http.Response, error) { return t(q) }
