package push

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
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
	"time"

	"github.com/kpush/kpush/forwarder/wire"
	"github.com/kpush/kpush/forwarder/wire/wiretest"
	"github.com/kpush/kpush/kafka"
)

// hasty has waits that a test with real sockets can afford.
func hasty(targets ...string) Config {
	return Config{Targets: targets, Format: "raw", Ack: "status", Most: 16, ConnTimeout: 2 * time.Second, ExecTimeout: 5 * time.Second}
}

func service(t testing.TB, cfg Config) *Service {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// open is a gate that lets everything through until its context ends.
type open struct{ ctx context.Context }

func (g open) Context() context.Context { return g.ctx }
func (open) Cleared() (bool, error)     { return false, nil }
func (open) Fresh() bool                { return false }

// item is a message of t/0, where it does not say another partition, before its first attempt.
func item(m kafka.Message) *Item {
	if m.Topic == "" {
		m.Topic = "t"
	}
	return &Item{Message: &m, TopicID: "T", Group: "g"}
}

func header(name, value string) kafka.Header { return kafka.Header{Name: name, Value: []byte(value)} }
func null(name string) kafka.Header          { return kafka.Header{Name: name} }

// try makes the next attempt at the item, on the first host.
func try(s *Service, it *Item) Verdict { return tryAt(context.Background(), s, it, 0) }

// tryAt is try on another host, until ctx ends.
func tryAt(ctx context.Context, s *Service, it *Item, host int) Verdict {
	it.Attempt++
	v := s.Push(&Attempt{Items: []*Item{it}, Host: host, Gate: open{ctx}})
	it.InDoubt = it.InDoubt || v.InDoubt
	return v
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
			s := service(t, cfg)
			begun := time.Now()
			v := try(s, item(kafka.Message{Offset: 5, Value: []byte("v")}))
			if v.Class != row.class || v.InDoubt != row.inDoubt {
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
		v := try(service(t, cfg), item(kafka.Message{Offset: 5, Value: []byte("v")}))
		if v.Class != ServiceFault || v.InDoubt || !strings.Contains(v.Reason, "no connection") {
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
	s := service(t, hasty(url))
	headers := []kafka.Header{header("Idempotency-Key", "k"), header("X-Idempotency-Key", "k"), header("idempotency-key", "k")}
	if v := try(s, item(kafka.Message{Offset: 1, Value: []byte("v"), Headers: headers})); v.Class != Delivered {
		t.Fatal(v)
	}
	it := item(kafka.Message{Offset: 2, Value: []byte("v"), Headers: headers})
	if v := try(s, it); v.Class != Aborted || !v.Stale || !v.InDoubt {
		t.Errorf("the broken attempt is %s, in doubt %t: %s", v.Class, v.InDoubt, v.Reason)
	}
	if n := seen.Load(); n != 2 {
		t.Errorf("the service saw %d requests for 2 attempts", n)
	}
	if v := try(s, it); v.Class != Delivered || seen.Load() != 3 {
		t.Errorf("third attempt: %s, %d requests", v.Class, seen.Load())
	}
}

// Without EXEC_TIMEOUT work may take as long as it likes, and a stop still ends the waiting for it.
func TestHTTPWithoutExecTimeout(t *testing.T) {
	arrived, leave := make(chan struct{}, 8), make(chan struct{})
	far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // only then the server notices that the client has gone
		arrived <- struct{}{}
		select {
		case <-leave:
		case <-r.Context().Done():
		}
	}))
	defer far.Close()
	cfg := hasty(far.URL)
	cfg.ExecTimeout = 0
	s, verdict := service(t, cfg), make(chan Verdict)
	go func() { verdict <- try(s, item(kafka.Message{Offset: 1, Value: []byte("v")})) }()
	<-arrived
	leave <- struct{}{}
	if v := <-verdict; v.Class != Delivered {
		t.Errorf("%s: %s", v.Class, v.Reason)
	}
	ctx, end := context.WithCancelCause(context.Background())
	go func() { verdict <- tryAt(ctx, s, item(kafka.Message{Offset: 2, Value: []byte("v")}), 0) }()
	<-arrived
	end(Ending("revoked"))
	if v := <-verdict; v.Class != Aborted || !v.InDoubt || v.Reason != "revoked" {
		t.Errorf("%s, in doubt %t: %s", v.Class, v.InDoubt, v.Reason)
	}
}

// deliverAll repeats each message until it is delivered, as many at a time as there are lanes.
func deliverAll(t *testing.T, s *Service, lanes, each int) {
	t.Helper()
	var wg sync.WaitGroup
	for l := range lanes {
		wg.Go(func() {
			for o := range each {
				it := item(kafka.Message{Partition: kafka.Partition{Topic: "t", Number: int32(l)}, Offset: int64(o), Value: []byte("v")})
				for v := try(s, it); v.Class != Delivered; v = try(s, it) {
					if it.Attempt == 100 {
						t.Errorf("%s: %s: %s", it.ID(), v.Class, v.Reason)
						return
					}
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
	cfg.Most = 8
	deliverAll(t, service(t, cfg), 8, 125)
	if n := requests.Load(); n < 1200 {
		t.Errorf("%d requests: too few failed", n)
	}
	if n := connections.Load(); n > 24 { // now and then one is dialed while another becomes free
		t.Errorf("%d connections for %d requests at concurrency 8", n, requests.Load())
	}
}

// Each attempt goes to the host that it names, and to no other whatever that one answers.
func TestHTTPSeveralHosts(t *testing.T) {
	var good, bad atomic.Int64
	up := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if good.Add(1); r.RequestURI != "/up" {
			t.Errorf("asked for %s", r.RequestURI)
		}
	}))
	defer up.Close()
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { bad.Add(1); w.WriteHeader(503) }))
	defer down.Close()
	s := service(t, hasty(down.URL, up.URL+"/up"))
	for n := range int64(10) {
		it := item(kafka.Message{Offset: n, Value: []byte("v")})
		first, second := tryAt(context.Background(), s, it, 0), tryAt(context.Background(), s, it, 1)
		if first.Class != ServiceFault || second.Class != Delivered || good.Load() != n+1 || bad.Load() != n+1 {
			t.Errorf("%s, then %s; %d good and %d bad attempts, want %d each", first.Class, second.Class, good.Load(), bad.Load(), n+1)
		}
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
		deliverAll(t, service(t, cfg), 1, 1)
		r := <-got
		if r.Method != "POST" || r.RequestURI != row.uri || r.Host != row.host || r.Header.Get("Authorization") != row.auth || r.ProtoMinor != 1 {
			t.Errorf("%s: %s %s host %s auth %q", row.target, r.Method, r.RequestURI, r.Host, r.Header.Get("Authorization"))
		}
		if enc := r.Header.Get("Accept-Encoding"); enc != "identity" {
			t.Errorf("asks for answers in %q", enc)
		}
	}
}

// A redirect is an answer like any other: nothing is sent anywhere else, and the POST never becomes a GET.
func TestHTTPFollowsNoRedirect(t *testing.T) {
	var elsewhere atomic.Int64
	away := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer away.Close()
	for _, code := range []int{301, 302, 303, 307, 308} {
		here := 0
		far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if here++; r.Method != "POST" {
				t.Errorf("%d: the service saw a %s", code, r.Method)
			}
			http.Redirect(w, r, away.URL, code)
		}))
		s, it := service(t, hasty(far.URL)), item(kafka.Message{Offset: 1, Value: []byte("v")})
		for n := range 3 {
			if v := try(s, it); v.Class != ServiceFault || v.Status != code || v.InDoubt || here != n+1 {
				t.Errorf("%d: %s with %d, in doubt %t, after %d requests in %d attempts", code, v.Class, v.Status, v.InDoubt, here, n+1)
			}
		}
		far.Close()
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
		far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			if attempts, bodies = append(attempts, r.Header), append(bodies, string(b)); len(attempts) == 1 {
				w.WriteHeader(row.status)
			}
		}))
		s := service(t, hasty(far.URL))
		it := item(kafka.Message{Offset: 1, Key: []byte(strings.Repeat("k", row.key)), Value: []byte("v"),
			Headers: []kafka.Header{header("a", strings.Repeat("h", row.header)), header("Content-Type", "application/json")}})
		first, second := try(s, it), try(s, it)
		far.Close()
		if first.Class != MessageFault || first.Spared != row.slim || strings.Contains(first.Reason, "leaves key and headers out") != row.slim ||
			second.Class != Delivered || second.Spared || len(attempts) != 2 {
			t.Errorf("%+v: %+v, then %+v, after %d attempts", row, first, second, len(attempts))
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

// scripted is a service without a network.
type scripted func(q *http.Request) (status int)

func (s scripted) Exchange(_ wire.Gate, _ time.Duration, head, body []byte, a *wire.Answer) {
	a.Reset()
	a.Sent, a.Status = true, s(parse(head, body))
}

// A 400 that is about the message and not about its headers is a message fault like any other: key and headers are left out once,
// to see. A 431 is about them, whatever comes after it.
func TestSlimOnlyWhereItHelps(t *testing.T) {
	for _, row := range []struct {
		answers, slim string // an attempt each; the last answer repeats until three attempts count
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
		words, slim := strings.Fields(row.answers), ""
		cfg := hasty("http://service/")
		cfg.Line = scripted(func(q *http.Request) int {
			slim += map[bool]string{true: "S", false: "."}[q.Header.Get("Kafka-Headers-Left-Out") != ""]
			status, err := strconv.Atoi(words[min(len(slim), len(words))-1])
			if err != nil || q.Header.Get("Kafka-Attempt") != strconv.Itoa(len(slim)) {
				t.Errorf("%s: request %d is attempt %q", row.answers, len(slim), q.Header.Get("Kafka-Attempt"))
			}
			return status
		})
		s, it := service(t, cfg), item(kafka.Message{Offset: 1, Value: []byte("v"), Key: []byte(strings.Repeat("k", 5000))})
		slimmer := ""
		for faults := 0; faults < 3; {
			v := try(s, it)
			slimmer += map[bool]string{true: "S", false: "."}[v.Spared]
			if v.Class == Delivered {
				break
			}
			if v.Class == MessageFault && !v.Spared {
				faults++
			}
		}
		if slim != row.slim {
			t.Errorf("%s: %q, want %q", row.answers, slim, row.slim)
		}
		for i := range slimmer { // said right before the first of those that are slim
			if was := slim[i] == 'S'; (slimmer[i] == 'S') != (!was && i+1 < len(slim) && slim[i+1] == 'S') {
				t.Errorf("%s: attempts %q were said to come slimmer by %q", row.answers, slim, slimmer)
			}
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
				cfg := hasty(target)
				if roots != nil {
					w, _, err := wire.New(target, wire.Options{ConnTimeout: 2 * time.Second, Idle: 4, TLS: func() *tls.Config { return &tls.Config{RootCAs: roots} }})
					if err != nil {
						t.Fatal(err)
					}
					cfg.Line = w
				}
				s, it := service(t, cfg), item(kafka.Message{Offset: 1, Headers: []kafka.Header{header("a", strings.Repeat("\x00", size))}})
				if v := try(s, it); v.Status != status || v.Class != MessageFault || !v.Spared || v.InDoubt {
					t.Fatalf("the first attempt is %s with %d, in doubt %t: %s", v.Class, v.Status, v.InDoubt, v.Reason)
				}
				if v := try(s, it); v.Class != Delivered || (<-slim).Get("Kafka-Headers-Left-Out") != "1" {
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
	if v := try(service(t, hasty(s.URL)), item(kafka.Message{Offset: 1, Key: []byte("k"), Value: []byte("v")})); v.Class != Skip || v.Spared {
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
	if v := try(service(t, cfg), item(kafka.Message{Offset: 1, Value: []byte("v")})); v.Class != Delivered {
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
	s, it := service(t, hasty(url)), item(kafka.Message{Offset: 1, Value: []byte("v")})
	first := try(s, it)
	for range 5 {
		if v := try(s, it); v.Reason != first.Reason {
			t.Errorf("%q, then %q", first.Reason, v.Reason)
		}
	}
}

func TestHTTPRefusesABadURL(t *testing.T) {
	const bad = "http://[::1"
	confirm, ready := hasty("http://service/"), hasty("http://service/")
	confirm.ConfirmURLs, ready.ReadyURLs = []string{bad}, []string{bad}
	for name, cfg := range map[string]Config{"": hasty(bad), "KPUSH_CONFIRM_URL": confirm, "KPUSH_READY_URL": ready} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "no URL") || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, want it to name %s", err, name)
		}
	}
}

// A message over a Unix socket.
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
		deliverAll(t, service(t, cfg), 1, 1)
		if r := <-got; r.Host != row.host || r.RequestURI != "/in/box?a=1" || r.Header.Get("Kafka-Topic") != "t" {
			t.Errorf("%s %s", r.Host, r.RequestURI)
		}
	}
}

// A large message leaves no large buffer behind.
func TestHTTPKeepsNoLargeBuffers(t *testing.T) {
	var s Service
	for _, r := range []*room{{request: make([]byte, 0, 65<<10)}, {body: make([]byte, 0, 65<<10)}, {Answer: wire.Answer{Body: make([]byte, 0, 65<<10)}}} {
		s.keep(r)
		for range 100 {
			if s.rooms.Get() == r {
				t.Fatal("a large buffer came back")
			}
		}
	}
}

// A 2xx that has to be read and cannot be says nothing: the batch fails as one, with errno the message does. What need not be read
// may be anything.
func TestHTTPAnswersThatCannotBeRead(t *testing.T) {
	const named = `{"batchItemFailures":[{"itemIdentifier":"orders/4/0/T"}]}`
	wide := func(text string) (out []byte) {
		for _, c := range []byte(text) {
			out = append(out, c, 0)
		}
		return out
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, named)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		encoding string
		body     []byte
		reason   string // "" where it can be read
	}{
		"gzip":                    {"gzip", zipped.Bytes(), `Content-Encoding "gzip"`},
		"gzip, not said":          {"", zipped.Bytes(), "no text in UTF-8"},
		"said, and not done":      {"br", []byte(`{"errno":0}`), `Content-Encoding "br"`},
		"a list of them":          {"deflate, gzip", zipped.Bytes(), `Content-Encoding "deflate, gzip"`},
		"identity":                {"Identity", []byte(`{"errno":0}`), ""},
		"nothing":                 {"gzip", nil, ""},
		"UTF-16":                  {"", wide(named), "no text in UTF-8"},
		"UTF-16 with its mark":    {"", append([]byte{0xff, 0xfe}, wide(named)...), "no text in UTF-8"},
		"Latin-1":                 {"", []byte("{\"errno\":0,\"note\":\"gr\xfc\xdfe\"}"), "no text in UTF-8"},
		"UTF-8 beyond ASCII":      {"", []byte(`{"errno":0,"note":"grüße"}`), ""},
		"UTF-8 with its mark":     {"", []byte("\xef\xbb\xbf" + `{"errno":0}`), ""},
		"cut within a character":  {"", []byte(`{"errno":0,"note":"grü`)[:22], "no text in UTF-8"},
		"no coding":               {"utf-8", []byte(`{"errno":0}`), ""},
		"none of them":            {"identity, none", []byte(`{"errno":0}`), ""},
		"one of them":             {"identity, gzip", zipped.Bytes(), `Content-Encoding "identity, gzip"`},
		"a name nobody can print": {strings.Repeat("x", 100), []byte("ok"), `Content-Encoding "xxxxxxxxxxxxxxxxxxxx", although`},
	} {
		far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if row.encoding != "" {
				w.Header().Set("Content-Encoding", row.encoding)
			}
			w.Write(row.body)
		}))
		for _, mode := range []string{"status", "errno", "dapr", "batch"} {
			cfg := hasty(far.URL)
			if cfg.Batch = mode == "batch"; !cfg.Batch {
				cfg.Ack = mode
			}
			v := try(service(t, cfg), item(kafka.Message{Offset: 0, Value: []byte("v")}))
			switch readable := row.reason == ""; {
			case mode == "status" || readable && (mode == "batch" || mode == "dapr" || len(row.body) > 0):
				if v.Class != Delivered {
					t.Errorf("%s, %s: %s: %s", name, mode, v.Class, v.Reason)
				}
			case readable:
			case v.Class != MessageFault || !v.InDoubt || v.Status != 200 || len(v.Failed) > 0 || !strings.Contains(v.Reason, row.reason):
				t.Errorf("%s, %s: %s, in doubt %t: %s", name, mode, v.Class, v.InDoubt, v.Reason)
			}
		}
		far.Close()
	}
}

// A fault of the message's says what of the request may be why, for whoever gets it for each message.
func TestHTTPSaysWhatWasSent(t *testing.T) {
	far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(415) }))
	defer far.Close()
	for want, change := range map[string]func(*Config){
		"Host: " + strings.TrimPrefix(far.URL, "http://") + " and Content-Type: text/plain":       func(*Config) {},
		"Host: shop.example and Content-Type: text/plain":                                         func(c *Config) { c.Domain = "shop.example" },
		"Host: " + strings.TrimPrefix(far.URL, "http://") + " and Content-Type: application/json": func(c *Config) { c.Batch = true },
		"Host: shop and Content-Type: application/x-www-form-urlencoded":                          func(c *Config) { c.Domain, c.Format = "shop", "form" },
	} {
		cfg := hasty(far.URL)
		change(&cfg)
		v := try(service(t, cfg), item(kafka.Message{Value: []byte("secret"), Headers: []kafka.Header{header("content-type", "text/plain")}}))
		if v.Class != MessageFault || v.Sent != want {
			t.Errorf("%s: sent %q, want %q", v.Class, v.Sent, want)
		}
	}
}

// Each host is connected to as a request would be, and nothing is sent there.
func TestReach(t *testing.T) {
	for name, row := range map[string]struct{ target, said, err string }{
		"http": {target: wiretest.Bare(t, func(_ int, _ net.Conn, r *bufio.Reader) {
			if _, err := r.ReadByte(); err != io.EOF {
				t.Errorf("something was sent: %v", err)
			}
		}), said: "it connects"},
		"nobody listens":    {target: "http://" + nobody(t), err: "connect: connection refused"},
		"no socket":         {target: "http+unix://" + url.PathEscape(filepath.Join(t.TempDir(), "s")), err: "no such file"},
		"TLS of a stranger": {target: secure(t), err: "TLS handshake: "},
		"TLS where there is none": {target: strings.Replace(wiretest.Bare(t, func(_ int, c net.Conn, _ *bufio.Reader) {
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
		}), "http:", "https:", 1), err: "TLS handshake: "},
	} {
		got := service(t, hasty(row.target)).Reach(t.Context())
		if len(got) != 1 || got[0].Said != row.said || (got[0].Err == nil) != (row.err == "") || row.err != "" && !strings.Contains(got[0].Err.Error(), row.err) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// nobody is an address where nobody listens.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// secure is a service with a certificate that nobody here trusts.
func secure(t *testing.T) string {
	t.Helper()
	far := httptest.NewTLSServer(http.NotFoundHandler())
	far.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(far.Close)
	return far.URL
}

// A 2xx whose body has a say is read to its end, however long it is.
func TestHTTPReadsWhatHasASay(t *testing.T) {
	long := `{"data":"` + strings.Repeat("x", 100<<10) + `",`
	for ack, row := range map[string]struct {
		end  string
		want Class
	}{"errno": {`"errno":0}`, Delivered}, "dapr": {`"status":"DROP"}`, Drop}, "status": {`"errno":1}`, Delivered}} {
		far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, long+row.end) }))
		cfg := hasty(far.URL)
		cfg.Ack = ack
		if v := try(service(t, cfg), item(kafka.Message{Value: []byte("v")})); v.Class != row.want {
			t.Errorf("%s: %s: %s", ack, v.Class, v.Reason)
		}
		far.Close()
	}
}
