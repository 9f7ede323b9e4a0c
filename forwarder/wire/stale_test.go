package wire

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kpush/kpush/forwarder/wire/wiretest"
)

// After an attempt without an answer the connections that were idle meanwhile are gone: the service may have moved behind its name. Those
// that had an answer since stay.
func TestWireForgetsConnectionsAfterSilence(t *testing.T) {
	var frozen atomic.Bool
	var conns atomic.Int64
	w := wireTo(t, wiretest.Bare(t, func(n int, c net.Conn, r *bufio.Reader) {
		conns.Add(1)
		for wiretest.Read(r) {
			if frozen.Load() {
				io.Copy(io.Discard, r) // it never answers
				return
			}
			io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	}))
	const kept = 4
	gates := make(chan struct{})
	done := make(chan *Answer, kept)
	for range kept {
		go func() {
			done <- post(late{asked{t.Context()}, func() (bool, error) { <-gates; return false, nil }}, w, 5*time.Second, nil)
		}()
	}
	eventually(t, "as many connections", func() bool { return conns.Load() == kept })
	for range kept {
		gates <- struct{}{}
	}
	for range kept {
		if a := <-done; a.Status != 204 {
			t.Fatal(a.Err)
		}
	}
	if n := len(w.idle); n != kept || conns.Load() != kept {
		t.Fatalf("%d of %d connections are kept", n, conns.Load())
	}
	frozen.Store(true)
	if a := ask(t.Context(), w, 100*time.Millisecond, nil); a.Status != 0 || !a.Sent || a.Stale {
		t.Errorf("%+v", a)
	}
	if n := len(w.idle); n != 0 {
		t.Errorf("%d connections are kept after silence", n)
	}
	frozen.Store(false)
	if a := ask(t.Context(), w, 5*time.Second, nil); a.Status != 204 || conns.Load() != kept+1 {
		t.Errorf("%+v over %d connections", a, conns.Load())
	}
}

// The end of a connection that had served before, without a byte of an answer, or with the rest of another one, is told from that of a new
// one, and from an answer that breaks off; the request may have been read, so it is in doubt.
func TestWireTellsAStaleConnection(t *testing.T) {
	for name, row := range map[string]struct {
		then  func(net.Conn)
		first bool // the connection is new
		stale bool
	}{
		"closed":          {func(c net.Conn) { c.Close() }, false, true},
		"reset":           {wiretest.Reset, false, true},
		"a byte":          {func(c net.Conn) { io.WriteString(c, "H"); c.Close() }, false, false},
		"half an answer":  {func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\n"); c.Close() }, false, false},
		"a late body":     {func(c net.Conn) { io.WriteString(c, `{"errno":0}HTTP/1.1 200 OK`+"\r\nContent-Length: 0\r\n\r\n") }, false, true},
		"half of one":     {func(c net.Conn) { io.WriteString(c, "He"); pass(5 * time.Millisecond); wiretest.Reset(c) }, false, true},
		"an empty line":   {func(c net.Conn) { io.WriteString(c, "\r\n"); c.Close() }, false, true},
		"no answer":       {func(c net.Conn) { io.WriteString(c, "HTTP/3 200\r\n\r\n"); c.Close() }, false, false},
		"new, and a body": {func(c net.Conn) { io.WriteString(c, `{"errno":0}HTTP/1.1 200 OK`+"\r\nContent-Length: 0\r\n\r\n") }, true, false},
		"new, and closed": {func(c net.Conn) { c.Close() }, true, false},
		"new, and reset":  {wiretest.Reset, true, false},
	} {
		for _, size := range []int{0, 100, AtOnce + 1} {
			w := wireTo(t, wiretest.Bare(t, func(n int, c net.Conn, r *bufio.Reader) {
				for served := row.first; wiretest.Read(r); served = true {
					if served && n == 1 {
						row.then(c)
						return
					}
					io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
				}
			}))
			if !row.first {
				ask(t.Context(), w, 5*time.Second, nil)
			}
			a := post(asked{t.Context()}, w, 5*time.Second, make([]byte, size))
			if a.Stale != row.stale || !a.Sent || a.Status != 0 && a.BodyErr == nil {
				t.Errorf("%s, %d bytes: stale %t, sent %t, %d %v %v", name, size, a.Stale, a.Sent, a.Status, a.Err, a.BodyErr)
			}
			if len(w.idle) != 0 {
				t.Errorf("%s: %d connections are kept", name, len(w.idle))
			}
		}
	}
}

// The last answer on a connection that had served before is told from others: it may be about what came before the request.
func TestWireTellsALastAnswer(t *testing.T) {
	for name, row := range map[string]struct {
		answer      string
		first, last bool
	}{
		"kept":             {"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n", false, false},
		"closed":           {"HTTP/1.1 400 Bad\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", false, true},
		"closed, HTTP/1.0": {"HTTP/1.0 501 Bad\r\nContent-Length: 0\r\n\r\n", false, true},
		"new, and closed":  {"HTTP/1.1 400 Bad\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", true, false},
	} {
		w := wireTo(t, wiretest.Bare(t, func(_ int, c net.Conn, r *bufio.Reader) {
			for served := row.first; wiretest.Read(r); served = true {
				if served {
					io.WriteString(c, row.answer)
				} else {
					io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
				}
			}
		}))
		if !row.first {
			ask(t.Context(), w, 5*time.Second, nil)
		}
		if a := ask(t.Context(), w, 5*time.Second, nil); a.Last != row.last || a.Status == 204 || a.Err != nil {
			t.Errorf("%s: last %t, %d, %v", name, a.Last, a.Status, a.Err)
		}
	}
}

// What never went out is not in doubt.
func TestWireKnowsWhatWasNotSent(t *testing.T) {
	w := wireTo(t, wiretest.Bare(t, func(n int, c net.Conn, r *bufio.Reader) { io.Copy(io.Discard, c) }))
	c, err := w.dial(t.Context(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.raw.Control(func(fd uintptr) { err = syscall.Shutdown(int(fd), syscall.SHUT_WR) }); err != nil {
		t.Fatal(err)
	}
	var a Answer
	if _, err := c.exchange(time.Now().Add(time.Second), []byte("POST / HTTP/1.1\r\n\r\n"), nil, &a); !errors.Is(err, errUnsent) {
		t.Errorf("a write that fails: %v", err)
	}
	c, err = w.dial(t.Context(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.exchange(time.Now().Add(-time.Second), []byte("POST / HTTP/1.1\r\n\r\n"), nil, &a); !errors.Is(err, errUnsent) {
		t.Errorf("a time that is over: %v", err)
	}
}

// A connection of a context that ended between the exchange and its end is not kept: it was cut, or is about to be.
func TestWireKeepsNoConnectionOfAnEndedContext(t *testing.T) {
	w := wireTo(t, wiretest.Bare(t, func(n int, c net.Conn, r *bufio.Reader) { io.Copy(io.Discard, c) }))
	ctx, cancel := context.WithCancel(t.Context())
	c, err := w.dial(ctx, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	w.enter(c, ctx)
	cancel()
	if w.leave(c, true); len(w.idle) != 0 {
		t.Error("it is kept")
	}
}

const tcpUserTimeout = 0x12 // of linux/tcp.h

// A peer that the network does not reach any more ends an exchange of any length; one that has no room for a request does not.
func TestWireBoundsADeadPeer(t *testing.T) {
	w := wireTo(t, wiretest.Bare(t, func(n int, c net.Conn, r *bufio.Reader) { io.Copy(io.Discard, c) }))
	c, err := w.dial(t.Context(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[int]int{tcpUserTimeout: 0, syscall.TCP_KEEPIDLE: 15, syscall.TCP_KEEPINTVL: 5, syscall.TCP_KEEPCNT: 3}
	for option, value := range want {
		var got int
		if e := c.raw.Control(func(fd uintptr) { got, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, option) }); e != nil || err != nil || got != value {
			t.Errorf("option %d is %d, want %d: %v %v", option, got, value, e, err)
		}
	}
}
