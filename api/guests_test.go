package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/publisher"
)

// A caller that ends its side behind a whole request, as nc -N does, still reads: nothing that waits ends for that.
func TestCallersWhoHaveSaidAll(t *testing.T) {
	addr := serve(t, t.Context(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-r.Context().Done():
			w.WriteHeader(504)
		case <-time.After(200 * time.Millisecond):
		}
	}))
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET / HTTP/1.0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nv",
		"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nv\r\n0\r\n\r\n",
	} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, request)
		_ = c.(*net.TCPConn).CloseWrite()
		if w, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || w.StatusCode != 200 {
			t.Errorf("%q: %v %v", request, w, err)
		}
	}
}

// Who writes all of a body before it reads, as most clients do, sees why it is refused, however large the body is.
func TestAnswersBeforeTheBody(t *testing.T) {
	a := newTest(&fake{}, "")
	a.about.Publish = publisher.New(publisher.Config{Topics: []string{"orders"}, BodyMost: 8 << 20, Buffer: 32 << 20}, publisher.Parts{}, a.log)
	addr := serveAt(t, t.Context(), Port{Variable: "KPUSH_API_ADDR", Name: "api", Addr: "127.0.0.1:0", Publish: true}, a)
	for _, row := range []struct {
		request string
		size    int
		want    int
	}{
		{"POST /topics/orders", 8<<20 + 1, 413}, {"POST /topics/orders", 100 << 20, 413}, {"POST /topics/secret", 20 << 20, 403},
		{"POST /topics/orders?kye=k", 20 << 20, 400}, {"PUT /topics/orders", 20 << 20, 405}, {"POST /skip", 20 << 20, 413},
		{"POST /status", 20 << 20, 405}, {"POST /nothing", 300 << 10, 404}, {"GET /audit", 20 << 20, 200},
	} {
		for _, head := range []string{fmt.Sprintf("Content-Length: %d\r\n\r\n", row.size), fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", row.size)} {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			all := net.Buffers{fmt.Appendf(nil, "%s HTTP/1.1\r\nHost: localhost\r\n%s", row.request, head), make([]byte, row.size)}
			if strings.Contains(head, "chunked") {
				all = append(all, []byte("\r\n0\r\n\r\n"))
			}
			if _, err := all.WriteTo(c); err != nil {
				t.Errorf("%s, %d bytes, %.20s: it cannot say all: %v", row.request, row.size, head, err)
			}
			if w, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || w.StatusCode != row.want {
				t.Errorf("%s, %d bytes, %.20s: %v %v, want %d", row.request, row.size, head, w, err, row.want)
			}
			c.Close()
		}
	}
}

// Who never ends its body, or never lets go, is not listened to for ever.
func TestAnswersBeforeABodyWithoutEnd(t *testing.T) {
	const most = 300 * time.Millisecond
	server := httptest.NewServer(lingering(newTest(&fake{}, ""), most))
	defer server.Close()
	for _, rest := range []string{"", "x"} {
		c, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "POST /skip HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1073741824\r\n\r\n")
		begin, from := time.Now(), bufio.NewReader(c)
		_ = c.SetReadDeadline(begin.Add(5 * time.Second))
		if w, err := http.ReadResponse(from, nil); err != nil || w.StatusCode != 413 || time.Since(begin) > most/2 {
			t.Errorf("%v %v after %v", w, err, time.Since(begin))
		} else if _, err := io.Copy(io.Discard, w.Body); err != nil || time.Since(begin) > most/2 {
			t.Errorf("the answer is not whole at once: %v after %v", err, time.Since(begin))
		}
		for err = nil; err == nil && time.Since(begin) < 5*time.Second; time.Sleep(time.Millisecond) {
			_, err = io.WriteString(c, rest)
			if rest == "" {
				_, err = from.ReadByte()
			}
		}
		if took := time.Since(begin); took < most || took > most+2*time.Second {
			t.Errorf("%q: closed after %v", rest, took)
		}
	}
}

// pipes is a listener in a bubble.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (p pipes) Close() error { return nil }

func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// A body that does not come is said so, on each port; one that comes late leaves a command its time.
func TestSlowBodies(t *testing.T) {
	for _, row := range []struct {
		request, body  string
		comes, command time.Duration
		want           int
		after          time.Duration
	}{
		{"POST /pause", "", time.Hour, 0, 408, requestTime},
		{"POST /pause", "{", 0, 0, 408, requestTime},
		{"POST /resend", "", time.Hour, 0, 408, requestTime},
		{"POST /pause", "{}", 14 * time.Second, 11 * time.Second, 200, 25 * time.Second},
		{"POST /resend", `{"all":true}`, 14 * time.Second, time.Minute, 200, 74 * time.Second},
		{"POST /nothing", "", time.Hour, 0, 404, requestTime},
		{"GET /healthz", "", time.Hour, 0, 404, requestTime},
		{"POST /topics/orders", "", time.Hour, 0, 408, requestTime},
	} {
		for _, head := range []string{"Content-Length: 12\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nc\r\n"} {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{hangs: make(chan struct{})}
				a := newTest(f, "")
				a.about.Publish = publisher.New(publisher.Config{Topics: []string{"orders"}, BodyMost: 8 << 20, Buffer: 32 << 20}, publisher.Parts{}, a.log)
				l := make(pipes)
				serveOn(t.Context(), l, Port{Name: "api", Publish: true}, a, a.log)
				c, there := net.Pipe()
				l <- there
				go func() {
					_, _ = io.WriteString(c, row.request+" HTTP/1.1\r\nHost: localhost\r\n"+head)
					pass(row.comes)
					body := row.body
					if row.want == 200 {
						body = fmt.Sprintf("%-12s", body)
						if strings.Contains(head, "chunked") {
							body += "\r\n0\r\n\r\n"
						}
					}
					_, _ = io.WriteString(c, body) // it may be closed by now
					pass(row.command)
					close(f.hangs)
				}()
				begin := time.Now()
				w, err := http.ReadResponse(bufio.NewReader(c), nil)
				if took := time.Since(begin); err != nil || w.StatusCode != row.want || took != row.after {
					t.Errorf("%s %q %.20s: %v %v after %v, want %d after %v", row.request, row.body, head, w, err, took, row.want, row.after)
				}
				c.Close()
				close(l)
				<-f.hangs
			})
		}
	}
}

// Who waits is let go where its connection is closed for one more: no more wait than there are connections.
func TestGuestsWhoAreSentAway(t *testing.T) {
	var inside atomic.Int64
	addr := serve(t, t.Context(), http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		inside.Add(1)
		defer inside.Add(-1)
		<-r.Context().Done()
	}))
	for n := range guestsMost + 20 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		_ = c.(*net.TCPConn).CloseWrite()
		for end := time.Now().Add(5 * time.Second); inside.Load() != int64(min(n+1, guestsMost)) && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		if got := inside.Load(); got != int64(min(n+1, guestsMost)) {
			t.Fatalf("%d callers wait, %d have come", got, n+1)
		}
	}
}
