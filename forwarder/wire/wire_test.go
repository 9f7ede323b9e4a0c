package wire

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/forwarder/wire/wiretest"
)

func wireTo(t *testing.T, target string) *Wire {
	t.Helper()
	w, _, err := New(target, Options{ConnTimeout: 2 * time.Second, Idle: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for c := w.take(); c != nil; c = w.take() {
			c.cut()
		}
	})
	return w
}

// ask is one exchange: a POST of body, which is sent in one piece with the head where it is small.
func ask(ctx context.Context, w *Wire, timeout time.Duration, body []byte) *Answer {
	return post(asked{ctx}, w, timeout, body)
}

func post(g Gate, w *Wire, timeout time.Duration, body []byte) *Answer {
	head := fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: s\r\nContent-Length: %d\r\n\r\n", len(body))
	if len(body) <= AtOnce {
		head, body = append(head, body...), nil
	}
	a := new(Answer)
	w.Exchange(g, timeout, head, body, a)
	return a
}

// eventually waits for ok, some seconds at most.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for begun := time.Now(); !ok(); pass(time.Millisecond) {
		if time.Since(begun) > 5*time.Second {
			t.Fatalf("never: %s", what)
		}
	}
}

// What a service may answer, and whether the connection is good for another request afterwards. net/http reads the same.
func TestWireReadsAnswers(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\n"
	big := strings.Repeat("x", Limit)
	for _, row := range []struct {
		name, raw string
		status    int
		body      string
		reused    bool
	}{
		{"plain", head + "Content-Length: 2\r\n\r\nok", 200, "ok", true},
		{"empty", head + "content-LENGTH: 0\r\n\r\n", 200, "", true},
		{"no reason phrase", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, "", true},
		{"204", "HTTP/1.1 204 No Content\r\n\r\n", 204, "", true},
		{"304 with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", 304, "", true},
		{"chunked", head + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1;x=y\r\n!\r\n0\r\n\r\n", 200, "ok!", true},
		{"chunked with a trailer", head + "Transfer-Encoding: Chunked\r\nTrailer: A\r\n\r\n2\r\nok\r\n0\r\nA: 1\r\nB: 2\r\n\r\n", 200, "ok", true},
		{"chunked, empty", head + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200, "", true},
		{"chunked with a length, too", head + "Content-Length: 90\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "ok", true},
		{"until the end", head + "\r\nok", 200, "ok", false},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", false},
		{"HTTP/1.0 that stays", "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok", 200, "ok", true},
		{"close", head + "Connection: close\r\nContent-Length: 2\r\n\r\nok", 200, "ok", false},
		{"close in other words", head + "connection: x, Close\r\nContent-Length: 2\r\n\r\nok", 200, "ok", false},
		{"100 and 103 first", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 5\r\n\r\n" + head + "Content-Length: 2\r\n\r\nok", 200, "ok", true},
		{"102 again and again", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 500) + head + "Content-Length: 2\r\n\r\nok", 200, "ok", true},
		{"101 is final", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nwhatever", 101, "", false},
		{"101 with nothing behind it", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 101, "", false},
		{"more than was asked for", head + "Content-Length: 2\r\n\r\nok" + head + "Content-Length: 3\r\n\r\nbad", 200, "ok", false},
		{"as much as is read", head + fmt.Sprintf("Content-Length: %d\r\n\r\n", Limit) + big, 200, big, true},
		{"more than is read", head + fmt.Sprintf("Content-Length: %d\r\n\r\n", Limit+3) + big + "abc", 200, big, false},
		{"more than is read, the rest late", head + fmt.Sprintf("Content-Length: %d\r\n\r\n", Limit+3) + big, 200, big, false},
		{"more than is read, in chunks", head + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("10000\r\n"+big[:1<<16]+"\r\n", 17) + "0\r\n\r\n", 200, big, false},
		{"head of 30 KiB", head + strings.Repeat("X-Line: "+big[:1000]+"\r\n", 30) + "Content-Length: 2\r\n\r\nok", 200, "ok", true},
		{"line of 30 KiB", head + "X-Line: " + big[:30<<10] + "\r\nContent-Length: 2\r\n\r\nok", 200, "ok", true},
		{"lines that end in LF", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 200, "ok", true},
		{"bytes beyond ASCII", head + "X-Line: pä\xff\r\nContent-Length: 2\r\n\r\nok", 200, "ok", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			if a, err := netHTTP(row.raw); err != nil || a.Status != row.status || string(a.Body) != row.body {
				t.Errorf("net/http reads %d with %.40q (%v)", a.Status, a.Body, err)
			}
			var connections atomic.Int64
			w := wireTo(t, wiretest.Bare(t, func(_ int, c net.Conn, r *bufio.Reader) {
				connections.Add(1)
				for n := 0; wiretest.Read(r); n++ {
					io.WriteString(c, row.raw)
					if row.name == "until the end" {
						return
					}
				}
			}))
			for n := range int64(3) {
				a := ask(t.Context(), w, 5*time.Second, []byte("v"))
				if a.Status != row.status || string(a.Body) != row.body || a.Err != nil || a.BodyErr != nil || !a.Sent {
					t.Fatalf("%d with %.40q (%v, %v), want %d with %.40q", a.Status, a.Body, a.Err, a.BodyErr, row.status, row.body)
				}
				if got, want := connections.Load(), map[bool]int64{true: 1, false: n + 1}[row.reused]; got != want {
					t.Errorf("%d connections after %d requests, want %d", got, n+1, want)
				}
			}
		})
	}
}

// What is no answer, or half of one. A reason never holds what the service wrote.
func TestWireBrokenAnswers(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\n"
	for _, row := range []struct {
		name, raw string
		status    int // of those whose body broke off
		want      string
	}{
		{"nothing", "", 0, "EOF"},
		{"half a line", "HTTP/1.1 20", 0, "EOF"},
		{"another protocol", "220 secret ready\r\n\r\n", 0, "no HTTP answer"},
		{"no status", "HTTP/1.1 secret\r\n\r\n", 0, "no HTTP answer"},
		{"no header", head + "secret\r\n\r\n", 0, "no HTTP answer"},
		{"two lengths", head + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", 0, "no HTTP answer"},
		{"no length", head + "Content-Length: secret\r\n\r\nok", 0, "no HTTP answer"},
		{"negative length", head + "Content-Length: -1\r\n\r\nok", 0, "no HTTP answer"},
		{"unknown coding", head + "Transfer-Encoding: secret\r\n\r\nok", 0, "no HTTP answer"},
		{"only a 100", "HTTP/1.1 100 Continue\r\n\r\n", 0, "EOF"},
		{"endless head", head + strings.Repeat("X-Line: secret\r\n", 80000), 0, "larger than 1 MiB"},
		{"half a body", head + "Content-Length: 9\r\n\r\nsecret", 200, "unexpected EOF"},
		{"half of a body larger than is read", head + "Content-Length: 2000000\r\n\r\nsecret", 200, "unexpected EOF"},
		{"half a chunk", head + "Transfer-Encoding: chunked\r\n\r\n9\r\nsecret", 200, "unexpected EOF"},
		{"half of a chunk larger than is read", head + "Transfer-Encoding: chunked\r\n\r\nfffff0\r\nsecret", 200, "unexpected EOF"},
		{"no chunk", head + "Transfer-Encoding: chunked\r\n\r\nsecret\r\n", 200, "invalid byte in chunk length"},
		{"chunk longer than said", head + "Transfer-Encoding: chunked\r\n\r\n2\r\nsecret\r\n0\r\n\r\n", 200, "a chunk does not end"},
		{"blank in a chunk's length", head + "Transfer-Encoding: chunked\r\n\r\n0 2\r\nok\r\n0\r\n\r\n", 200, "invalid byte in chunk length"},
		{"blank before a chunk's length", head + "Transfer-Encoding: chunked\r\n\r\n 2\r\nok\r\n0\r\n\r\n", 200, "invalid byte in chunk length"},
		{"chunk without a length", head + "Transfer-Encoding: chunked\r\n\r\n ;secret\r\nok\r\n0\r\n\r\n", 200, "invalid byte in chunk length"},
		{"chunk with a sign", head + "Transfer-Encoding: chunked\r\n\r\n+2\r\nok\r\n0\r\n\r\n", 200, "invalid byte in chunk length"},
		{"chunk of more than there is", head + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nok\r\n0\r\n\r\n", 200, "invalid byte in chunk length"},
		{"chunk's line with LF", head + "Transfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n", 200, "invalid byte in chunk length"},
		{"nothing but LF for a chunk's line", head + "Transfer-Encoding: chunked\r\n\r\n\n2\r\nok\r\n0\r\n\r\n", 200, "invalid byte in chunk length"},
		{"nothing but LF behind a chunk", head + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n\nok\r\n", 200, "invalid byte in chunk length"},
		{"long line of a chunk", head + "Transfer-Encoding: chunked\r\n\r\n2;" + strings.Repeat("secret", headRoom/6) + "\r\nok\r\n0\r\n\r\n", 200, "too long"},
		{"long lines of chunks", head + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("2;"+strings.Repeat("secret", 100)+"\r\nok\r\n", 100) + "0\r\n\r\n", 200, "too long"},
		{"no last chunk", head + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", 200, "unexpected EOF"},
		{"half a trailer", head + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: secret\r\n", 200, "unexpected EOF"},
		{"endless trailer", head + "Transfer-Encoding: chunked\r\n\r\n0\r\nA: " + strings.Repeat("secret", Limit/5), 200, "larger than 1 MiB"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := wireTo(t, wiretest.Bare(t, func(_ int, c net.Conn, r *bufio.Reader) {
				if wiretest.Read(r) {
					io.WriteString(c, row.raw)
				}
			}))
			a := ask(t.Context(), w, 5*time.Second, []byte("v"))
			err := errors.Join(a.Err, a.BodyErr)
			if a.Status != row.status || err == nil || !a.Sent || (a.Status == 0) != (a.Err != nil) {
				t.Fatalf("%d, %v, %v", a.Status, a.Err, a.BodyErr)
			}
			if !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("the reason is %q, want one with %q", err, row.want)
			}
			if len(w.idle) != 0 {
				t.Error("the connection is kept")
			}
		})
	}
}

// An idle connection that the service has closed, or on which something came that nobody asked for, carries no request:
// no doubt, and each request is seen once.
func TestWireLooksBeforeItSends(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	for name, after := range map[string]func(c net.Conn, later chan struct{}){
		"closed at once":    func(c net.Conn, _ chan struct{}) { c.Close() },
		"reset at once":     func(c net.Conn, _ chan struct{}) { wiretest.Reset(c) },
		"closed later":      func(c net.Conn, later chan struct{}) { <-later; c.Close() },
		"half closed later": func(c net.Conn, later chan struct{}) { <-later; c.(*net.TCPConn).CloseWrite() },
		"408 later":         func(c net.Conn, later chan struct{}) { <-later; io.WriteString(c, "HTTP/1.1 408 Timeout\r\n\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			var seen atomic.Int64
			later, done := make(chan struct{}), make(chan struct{})
			w := wireTo(t, wiretest.Bare(t, func(n int, c net.Conn, r *bufio.Reader) {
				for wiretest.Read(r) {
					seen.Add(1)
					io.WriteString(c, ok)
					if n == 1 {
						after(c, later)
						close(done)
						n = 0
					}
				}
			}))
			if a := ask(t.Context(), w, 5*time.Second, nil); a.Status != 200 {
				t.Fatal(a)
			}
			close(later)
			<-done
			for range 2 {
				if a := ask(t.Context(), w, 5*time.Second, nil); a.Status != 200 || a.Err != nil {
					t.Errorf("%d, %v", a.Status, a.Err)
				}
			}
			if seen.Load() != 3 || len(w.idle) != 1 {
				t.Errorf("the service saw %d requests, and %d connections are kept; want 3 and 1", seen.Load(), len(w.idle))
			}
		})
	}
}

// What comes while whoever sends is asked a last time was not asked for, either. On an idle connection it costs nothing: the request
// takes another one, and so it does where a new one ended while it had to wait.
func TestWireLooksRightBeforeItSends(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	for name, then := range map[string]func(net.Conn){
		"closed":      func(c net.Conn) { c.Close() },
		"reset":       wiretest.Reset,
		"half closed": func(c net.Conn) { c.(*net.TCPConn).CloseWrite() },
		"answered":    func(c net.Conn) { io.WriteString(c, ok) },
	} {
		for _, idle := range []bool{true, false} {
			for _, size := range []int{0, AtOnce + 1} {
				t.Run(fmt.Sprintf("%s, idle %t, %d bytes", name, idle, size), func(t *testing.T) {
					act, acted := make(chan struct{}), make(chan struct{})
					var seen atomic.Int64
					w := wireTo(t, wiretest.Bare(t, func(n int, c net.Conn, r *bufio.Reader) {
						if n == 1 && idle && wiretest.Read(r) {
							io.WriteString(c, ok)
						}
						if n == 1 {
							<-act
							then(c)
							close(acted)
						}
						for wiretest.Read(r) {
							seen.Add(1)
							if n > 1 {
								io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
							}
						}
					}))
					if idle {
						ask(t.Context(), w, 5*time.Second, nil)
					}
					a := post(late{asked{t.Context()}, func() (bool, error) {
						select {
						case <-acted:
						default:
							close(act)
							<-acted
							pass(20 * time.Millisecond) // the poller hears it before anybody asks the poller
						}
						return true, nil
					}}, w, 2*time.Second, make([]byte, size))
					if a.Status != 204 || !a.Sent || seen.Load() != 1 || len(w.idle) != 1 {
						t.Errorf("%d, %v; sent %t, %d seen, %d connections are kept", a.Status, a.Err, a.Sent, seen.Load(), len(w.idle))
					}
				})
			}
		}
	}
}

// What came unasked is seen where TLS has read it already, too, and what TLS itself sends is nothing of the kind.
func TestWireLooksIntoTLS(t *testing.T) {
	const ok, unasked = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
	type moment int
	const (
		fresh moment = iota
		together
		later
	)
	for name, row := range map[string]struct {
		when moment
		then func(c *tls.Conn)
		sent bool
	}{
		"nothing":                    {together, func(*tls.Conn) {}, true},
		"an answer behind an answer": {together, func(c *tls.Conn) { io.WriteString(c, unasked) }, true},
		"a goodbye":                  {together, func(c *tls.Conn) { c.CloseWrite() }, true},
		"an answer later":            {later, func(c *tls.Conn) { io.WriteString(c, unasked) }, true},
		"a goodbye later":            {later, func(c *tls.Conn) { c.CloseWrite() }, true},
		"a reset later":              {later, func(c *tls.Conn) { wiretest.Reset(c.NetConn().(*wiretest.Corked).Conn) }, true},
		"an answer at first":         {fresh, func(c *tls.Conn) { io.WriteString(c, unasked) }, false},
		"a goodbye at first":         {fresh, func(c *tls.Conn) { c.CloseWrite() }, false},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(name+" "+tls.VersionName(version), func(t *testing.T) {
				greeted, act, acted := make(chan struct{}), make(chan struct{}), make(chan struct{})
				var connections, seen atomic.Int64
				target, roots := wiretest.BareTLS(t, func(n int, c net.Conn, r *bufio.Reader) {
					secure, first := c.(*tls.Conn), n == 1
					if connections.Add(1); secure.Handshake() != nil {
						return
					}
					if first && row.when == fresh {
						row.then(secure)
						close(acted)
					}
					if first {
						close(greeted)
					}
					for ; wiretest.Read(r); first = false {
						seen.Add(1)
						socket := secure.NetConn().(*wiretest.Corked)
						socket.Cork = first
						io.WriteString(secure, ok)
						if first && row.when == together {
							row.then(secure)
							close(acted)
						}
						if first {
							socket.Pull()
						}
						if first && row.when == later {
							<-act
							row.then(secure)
							close(acted)
						}
					}
				})
				w := wireTo(t, target)
				trusts(w, &tls.Config{RootCAs: roots, MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1)}) // without a cache nobody sends tickets
				clear := func() (bool, error) { <-greeted; return false, nil }
				if a := post(late{asked{t.Context()}, clear}, w, 5*time.Second, nil); a.Sent != row.sent || row.sent && a.Status != 200 || !row.sent && a.Err == nil {
					t.Fatalf("first %d, sent %t, %v", a.Status, a.Sent, a.Err)
				}
				close(act)
				<-acted
				for range 2 {
					if a := ask(t.Context(), w, 5*time.Second, nil); a.Status != 200 || a.Err != nil {
						t.Errorf("%d, %v", a.Status, a.Err)
					}
				}
				want := [2]int64{2, 2}
				if row.sent {
					want[0] = 3
				}
				if name == "nothing" {
					want[1] = 1
				}
				if got := [2]int64{seen.Load(), connections.Load()}; got != want {
					t.Errorf("%d requests over %d connections, want %d over %d", got[0], got[1], want[0], want[1])
				}
			})
		}
	}
}

func TestWireOverTLS(t *testing.T) {
	var connections atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.TLS == nil || r.ProtoMajor != 1 {
			w.WriteHeader(500)
		}
		w.Write(body)
	}))
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			connections.Add(1)
		}
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	w := wireTo(t, s.URL)
	if a := ask(t.Context(), w, 5*time.Second, nil); a.Sent || a.Err == nil || !strings.Contains(a.Err.Error(), "unknown authority") {
		t.Errorf("a stranger's certificate: sent %t, %v", a.Sent, a.Err)
	}
	own := &tls.Config{RootCAs: x509.NewCertPool()}
	own.RootCAs.AddCert(s.Certificate())
	trusts(w, own)
	connections.Store(0)
	for _, size := range []int{1, 1000, AtOnce, AtOnce + 1, Limit / 2} {
		body := strings.Repeat("b", size)
		if a := ask(t.Context(), w, 5*time.Second, []byte(body)); a.Status != 200 || string(a.Body) != body {
			t.Errorf("%d bytes: %d with %d bytes, %v", size, a.Status, len(a.Body), a.Err)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections for 5 requests", n)
	}
	s.CloseClientConnections()
	eventually(t, "the idle connection ends", func() bool { return w.idle[0].unasked() != nil })
	if a := ask(t.Context(), w, 5*time.Second, []byte("v")); a.Status != 200 {
		t.Errorf("after the service closed an idle connection: %d, %v", a.Status, a.Err)
	}
	elsewhere := wireTo(t, strings.Replace(s.URL, "127.0.0.1", "localhost", 1))
	trusts(elsewhere, own)
	if a := ask(t.Context(), elsewhere, 5*time.Second, nil); a.Sent || a.Err == nil || !strings.Contains(a.Err.Error(), "localhost") {
		t.Errorf("a certificate for another name: sent %t, %v", a.Sent, a.Err)
	}
}

// trusts has new connections use a configuration of their own.
func trusts(w *Wire, own *tls.Config) { w.tls = func() *tls.Config { return own } }

// Many servers leave out TLS's goodbye. Where the end of the connection is that of the body, it is one as without TLS; a reset is none, and
// what has a length, or chunks, has broken off.
func TestWireOverTLSWithoutAGoodbye(t *testing.T) {
	for name, row := range map[string]struct {
		raw   string
		end   func(socket net.Conn)
		whole bool
	}{
		"until the end":           {"HTTP/1.0 200 OK\r\n\r\nok", func(c net.Conn) { c.Close() }, true},
		"until the end, HTTP/1.1": {"HTTP/1.1 200 OK\r\n\r\nok", func(c net.Conn) { c.Close() }, true},
		"until a reset":           {"HTTP/1.0 200 OK\r\n\r\nok", func(c net.Conn) { pass(20 * time.Millisecond); wiretest.Reset(c) }, false},
		"a length":                {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", func(c net.Conn) { c.Close() }, false},
		"chunks":                  {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", func(c net.Conn) { c.Close() }, false},
		"no answer":               {"", func(c net.Conn) { c.Close() }, false},
	} {
		target, roots := wiretest.BareTLS(t, func(_ int, c net.Conn, r *bufio.Reader) {
			if wiretest.Read(r) {
				io.WriteString(c, row.raw)
				row.end(c.(*tls.Conn).NetConn().(*wiretest.Corked).Conn)
			}
		})
		w := wireTo(t, target)
		trusts(w, &tls.Config{RootCAs: roots})
		a := ask(t.Context(), w, 5*time.Second, nil)
		if whole := a.Status == 200 && a.BodyErr == nil; whole != row.whole || whole && string(a.Body) != "ok" || len(w.idle) > 0 {
			t.Errorf("%s: %d %q, %v, %v", name, a.Status, a.Body, a.Err, a.BodyErr)
		}
	}
}

func TestWireToASocketWhereNobodyListens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.sock")
	w := wireTo(t, "http+unix://"+url.PathEscape(path)+"/")
	if a := ask(t.Context(), w, time.Second, nil); a.Sent || a.Err == nil {
		t.Errorf("nobody listens: sent %t, %v", a.Sent, a.Err)
	}
}

func TestWireAddresses(t *testing.T) {
	for target, want := range map[string]string{
		"http://a":                           "tcp a:80 http://a",
		"http://a:8080/x?y=z":                "tcp a:8080 http://a:8080/x?y=z",
		"https://a/x":                        "tcp a:443 https://a/x",
		"http://[::1]:9/":                    "tcp [::1]:9 http://[::1]:9/",
		"http+unix://%2Frun%2Fapp.sock/x?y":  "unix /run/app.sock http://localhost/x?y",
		"http+unix://%2Frun%2Fapp.sock":      "unix /run/app.sock http://localhost",
		"http+unix://%2Frun%2Fapp.sock?y=%2": "unix /run/app.sock http://localhost?y=%2",
	} {
		w, u, err := New(target, Options{})
		if err != nil {
			t.Errorf("%s: %v", target, err)
		} else if got := w.network + " " + w.address + " " + u.String(); got != want {
			t.Errorf("%s is %s, want %s", target, got, want)
		}
	}
	for _, bad := range []string{"", "/x", "a:80", "ftp://a/", "http:///x", "http+unix:///run/app.sock", "http+unix://%2", "http://u:secret@[::1", "ftp://u:secret@a"} {
		if _, _, err := New(bad, Options{}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// full is a listener whose queue is full: a connection to it neither comes nor fails.
func full(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", at.(*syscall.SockaddrInet4).Port)
	for range 8 {
		c, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil {
			return "http://" + address
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the queue is never full")
	return ""
}

// Wherever an exchange is when its context ends, it ends with the cause, and nobody reads the body any more; likewise
// at its deadline.
func TestWireEndsWhereverItIs(t *testing.T) {
	hang := func(_ int, c net.Conn, _ *bufio.Reader) { <-t.Context().Done() }
	reads := func(then string) func(int, net.Conn, *bufio.Reader) {
		return func(_ int, c net.Conn, r *bufio.Reader) {
			if wiretest.Read(r) {
				io.WriteString(c, then)
				io.Copy(io.Discard, c)
			}
		}
	}
	silent := wiretest.Bare(t, hang)
	for _, row := range []struct {
		name, target string
		body         int
		sent         bool
		status       int
	}{
		{"dial", full(t), 1, false, 0},
		{"handshake", strings.Replace(silent, "http:", "https:", 1), 1, false, 0},
		{"write", silent, 8 << 20, true, 0},
		{"read", wiretest.Bare(t, reads("")), 1, true, 0},
		{"read of a large body's answer", wiretest.Bare(t, reads("")), 8 << 20, true, 0},
		{"body of the answer", wiretest.Bare(t, reads("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")), 1, true, 200},
	} {
		for _, how := range []string{"cancelled", "deadline", "cancelled without a deadline"} {
			t.Run(row.name+" "+how, func(t *testing.T) {
				w := wireTo(t, row.target)
				w.connTimeout = time.Minute
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				const begins = 300 * time.Millisecond // by then it is where the row says
				timeout, want := 30*time.Second, error(errLost)
				switch how {
				case "deadline":
					timeout, want = begins, context.DeadlineExceeded
				case "cancelled without a deadline":
					timeout = 0
					fallthrough
				default:
					defer time.AfterFunc(begins, func() { cancel(errLost) }).Stop()
				}
				begun := time.Now()
				a := ask(ctx, w, timeout, make([]byte, row.body))
				err := errors.Join(a.Err, a.BodyErr)
				if a.Sent != row.sent || a.Status != row.status || (a.Status == 0) != (a.Err != nil) {
					t.Errorf("sent %t, %d, %v, %v", a.Sent, a.Status, a.Err, a.BodyErr)
				}
				if timedOut := errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded); row.sent && !errors.Is(err, want) || how == "deadline" && !timedOut || how != "deadline" && !errors.Is(err, errLost) {
					t.Errorf("ended with %v, want %v", err, want)
				}
				if took := time.Since(begun); took > 5*time.Second {
					t.Errorf("took %s", took)
				}
				if len(w.idle) != 0 {
					t.Error("the connection is kept")
				}
			})
		}
	}
}

// Once the context has ended nothing is sent, over a new connection or an idle one.
func TestWireSendsNothingAfterTheEnd(t *testing.T) {
	var seen atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { seen.Add(1) }))
	defer s.Close()
	w := wireTo(t, s.URL)
	ask(t.Context(), w, time.Second, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errRevoked)
	for range 200 {
		if a := ask(ctx, w, time.Second, nil); a.Sent || !errors.Is(a.Err, errRevoked) {
			t.Fatalf("sent %t, %v", a.Sent, a.Err)
		}
	}
	if seen.Load() != 1 {
		t.Errorf("the service saw %d requests", seen.Load())
	}
}

// The deadline of one request is not that of the next one.
func TestWireForgetsTheDeadline(t *testing.T) {
	late := make(chan struct{})
	w := wireTo(t, wiretest.Bare(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for n := 0; wiretest.Read(r); n++ {
			if n == 1 {
				<-late
			}
			io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	}))
	begun := time.Now()
	if a := ask(t.Context(), w, time.Second, nil); a.Status != 204 {
		t.Fatal(a.Err)
	}
	time.AfterFunc(time.Until(begun.Add(1100*time.Millisecond)), func() { close(late) })
	if a := ask(t.Context(), w, 0, nil); a.Status != 204 {
		t.Errorf("without a deadline: %v", a.Err)
	}
}

// A service that answers a large body before it has read it is heard.
func TestWireEarlyAnswer(t *testing.T) {
	for name, then := range map[string]func(net.Conn){
		"and reads no further": func(c net.Conn) { <-t.Context().Done() },
		"and closes":           func(c net.Conn) { c.(*net.TCPConn).CloseWrite(); io.Copy(io.Discard, c) },
		"and reads the rest":   func(c net.Conn) { io.Copy(io.Discard, c) },
	} {
		w := wireTo(t, wiretest.Bare(t, func(_ int, c net.Conn, r *bufio.Reader) {
			if _, err := http.ReadRequest(r); err == nil {
				io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
				then(c)
			}
		}))
		if a := ask(t.Context(), w, 5*time.Second, make([]byte, 8<<20)); a.Status != 413 || string(a.Body) != "no" || a.BodyErr != nil {
			t.Errorf("%s: %d with %q, %v, %v", name, a.Status, a.Body, a.Err, a.BodyErr)
		}
	}
}

// Idle connections: the one used last is taken first, no more than the limit are kept, and those that nobody needs go.
func TestWireIdleConnections(t *testing.T) {
	var open atomic.Int64
	arrived, leave := make(chan struct{}), make(chan struct{})
	target := wiretest.Bare(t, func(_ int, c net.Conn, r *bufio.Reader) {
		open.Add(1)
		defer open.Add(-1)
		for wiretest.Read(r) {
			arrived <- struct{}{}
			<-leave
			io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	})
	w := wireTo(t, target)
	done := make(chan struct{})
	for range 6 {
		go func() { ask(context.Background(), w, 0, nil); done <- struct{}{} }()
		<-arrived
	}
	if open.Load() != 6 {
		t.Fatalf("%d connections for 6 requests at once", open.Load())
	}
	for range 6 {
		leave <- struct{}{}
		<-done
	}
	eventually(t, "4 connections are left", func() bool { return open.Load() == 4 })
	last := w.idle[3]
	go func() { ask(context.Background(), w, 0, nil); done <- struct{}{} }()
	<-arrived
	leave <- struct{}{}
	<-done
	if w.idle[3] != last || len(w.idle) != 4 {
		t.Error("not the connection that was used last was taken first")
	}
}

func TestWireClosesWhatIsIdle(t *testing.T) {
	var open atomic.Int64
	target := wiretest.Bare(t, func(_ int, c net.Conn, _ *bufio.Reader) { open.Add(1); io.Copy(io.Discard, c); open.Add(-1) })
	address := strings.TrimPrefix(target, "http://")
	synctest.Test(t, func(t *testing.T) {
		w := wireTo(t, target)
		put := func() {
			socket, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			c, err := newConn(t.Context(), socket, nil)
			if err != nil {
				t.Fatal(err)
			}
			w.enter(c, t.Context())
			w.leave(c, true)
		}
		idle := func(want int) {
			t.Helper()
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			if len(w.idle) != want {
				t.Errorf("%d idle connections, want %d", len(w.idle), want)
			}
		}
		put()
		pass(30 * time.Second)
		put()
		pass(59 * time.Second)
		idle(2)
		pass(2 * time.Second)
		idle(1)
		pass(30 * time.Second)
		idle(0)
		put() // the timer starts again
		pass(89 * time.Second)
		idle(1)
		pass(2 * time.Second)
		idle(0)
	})
	eventually(t, "the connections are closed", func() bool { return open.Load() == 0 })
}

// Whatever happens to them, 2,000 requests leave no descriptor behind.
func TestWireLeaksNothing(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // the collector closes what was forgotten
	count := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	target := wiretest.Bare(t, func(n int, c net.Conn, r *bufio.Reader) {
		for i := n; wiretest.Read(r); i++ {
			switch i % 5 {
			case 0:
				wiretest.Reset(c)
				return
			case 1:
				return
			case 2:
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
				return
			case 3:
				io.Copy(io.Discard, c)
			default:
				io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
			}
		}
	})
	w, secure, nobody := wireTo(t, target), wireTo(t, strings.Replace(target, "http:", "https:", 1)), wireTo(t, "http://"+wiretest.ClosedPort(t))
	secure.connTimeout = 3 * time.Millisecond
	before := count()
	for n := range 2000 {
		switch n % 20 {
		case 0:
			ask(t.Context(), secure, time.Second, nil)
		case 1:
			ask(t.Context(), nobody, time.Second, nil)
		case 2:
			ask(t.Context(), w, 2*time.Millisecond, make([]byte, 1<<20))
		default:
			ask(t.Context(), w, 2*time.Millisecond, nil)
		}
	}
	eventually(t, "the descriptors are closed", func() bool { return count() <= before+2*w.most })
}

var errLost, errRevoked = errors.New("lost"), errors.New("revoked")

// pass lets time go by.
func pass(d time.Duration) { <-time.After(d) }

// asked is what may go out at any time.
type asked struct{ ctx context.Context }

func (a asked) Context() context.Context { return a.ctx }
func (asked) Cleared() (bool, error)     { return false, nil }
func (asked) Fresh() bool                { return false }

// late is what goes out when the others let it.
type late struct {
	asked
	clear func() (bool, error)
}

func (l late) Cleared() (bool, error) { return l.clear() }

// Whoever sends is asked last, with a connection at hand. A no leaves the connection for the next one, and nothing is sent; a
// wait costs nothing of the time for the answer.
func TestWireAsksBeforeItSends(t *testing.T) {
	var conns, requests atomic.Int32
	w := wireTo(t, wiretest.Bare(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for conns.Add(1); wiretest.Read(r); requests.Add(1) {
			io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	}))
	head := []byte("POST / HTTP/1.1\r\nHost: s\r\nContent-Length: 0\r\n\r\n")
	var a Answer
	w.Exchange(late{asked{t.Context()}, func() (bool, error) { return true, errLost }}, time.Minute, head, nil, &a)
	if a.Err != errLost || a.Sent || len(w.idle) != 1 {
		t.Errorf("after a no: %v, sent %t, %d connections are kept", a.Err, a.Sent, len(w.idle))
	}
	w.Exchange(late{asked{t.Context()}, func() (bool, error) { pass(300 * time.Millisecond); return true, nil }}, 200*time.Millisecond, head, nil, &a)
	if a.Err != nil || a.Status != 204 || conns.Load() != 1 {
		t.Errorf("after a wait: %v, %d, %d connections", a.Err, a.Status, conns.Load())
	}
	eventually(t, "one request", func() bool { return requests.Load() == 1 })
}
