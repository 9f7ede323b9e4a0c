package wire

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kpush/kpush/forwarder/wire/wiretest"
)

// A head larger than the socket takes at once arrives whole, and its answer is read; where nobody reads it, the deadline ends it.
func TestConnLargeHead(t *testing.T) {
	head := fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: s\r\nContent-Length: 0\r\nX: %s\r\n\r\n", strings.Repeat("x", 16<<20))
	var got atomic.Int64
	w := wireTo(t, wiretest.Bare(t, func(_ int, c net.Conn, r *bufio.Reader) {
		pass(50 * time.Millisecond) // the buffers fill up
		n, err := io.CopyN(io.Discard, r, int64(len(head)))
		got.Store(n)
		if err == nil {
			io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
			wiretest.Read(r)
		}
	}))
	var a Answer
	if w.Exchange(asked{t.Context()}, 20*time.Second, head, nil, &a); a.Status != 204 || got.Load() != int64(len(head)) || len(w.idle) != 1 {
		t.Errorf("%d, %v; the service got %d of %d bytes, %d connections are kept", a.Status, a.Err, got.Load(), len(head), len(w.idle))
	}
	deaf := wireTo(t, wiretest.Bare(t, func(_ int, _ net.Conn, _ *bufio.Reader) { <-t.Context().Done() }))
	begun := time.Now()
	deaf.Exchange(asked{t.Context()}, 200*time.Millisecond, head, nil, &a)
	if took := time.Since(begun); !errors.Is(a.Err, context.DeadlineExceeded) || took < 200*time.Millisecond || took > 10*time.Second {
		t.Errorf("nobody reads: %v after %s", a.Err, took)
	}
}

// Each exchange has its whole time, and not more, whatever the one before it left with the poller.
func TestConnAlarm(t *testing.T) {
	const timeout = 600 * time.Millisecond
	answers := make(chan time.Duration, 4)
	w := wireTo(t, wiretest.Bare(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for wiretest.Read(r) {
			select {
			case <-time.After(<-answers):
			case <-t.Context().Done():
				return
			}
			io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	}))
	for n, wait := range []time.Duration{200 * time.Millisecond, 500 * time.Millisecond} { // the second answer comes behind the first one's deadline
		answers <- wait
		if a := ask(t.Context(), w, timeout, nil); a.Status != 204 {
			t.Fatalf("answer %d: %v", n, a.Err)
		}
	}
	pass(timeout) // the alarm goes off while nobody listens
	answers <- 0
	if a := ask(t.Context(), w, timeout, nil); a.Status != 204 || len(w.idle) != 1 {
		t.Fatalf("after a rest: %v, %d connections", a.Err, len(w.idle))
	}
	answers <- time.Hour
	begun := time.Now()
	a := ask(t.Context(), w, timeout, nil)
	if took := time.Since(begun); !errors.Is(a.Err, context.DeadlineExceeded) || took < timeout || took > timeout+5*time.Second {
		t.Errorf("no answer: %v after %s, the timeout is %s", a.Err, took, timeout)
	}
}

// The end of a context breaks off all that was asked under it, and nothing else.
func TestWireBreaksOffWhatBelongsToTheContext(t *testing.T) {
	answer := make(chan struct{})
	w := wireTo(t, wiretest.Bare(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for wiretest.Read(r) {
			<-answer
			io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	}))
	ending, end := context.WithCancelCause(t.Context())
	lasting, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var broken, answered atomic.Int64
	for n := range 12 {
		ctx := ending
		if n%3 == 0 {
			ctx = lasting
		}
		wg.Go(func() {
			switch a := ask(ctx, w, 20*time.Second, []byte("x")); {
			case ctx == ending && errors.Is(a.Err, errRevoked):
				broken.Add(1)
			case ctx == lasting && a.Status == 204:
				answered.Add(1)
			default:
				t.Errorf("%d, %v", a.Status, a.Err)
			}
		})
	}
	busy := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.busy)
	}
	eventually(t, "all are under way", func() bool { return busy() == 12 })
	end(errRevoked)
	eventually(t, "the others alone are under way", func() bool { return busy() == 4 })
	close(answer)
	wg.Wait()
	if broken.Load() != 8 || answered.Load() != 4 {
		t.Errorf("%d broken off, %d answered", broken.Load(), answered.Load())
	}
	stop()
	eventually(t, "no context is kept", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.users) == 0 && len(w.busy) == 0
	})
}

// The peer's end and its reset are told apart, by their system call.
func TestConnSaysWhatFailed(t *testing.T) {
	for want, then := range map[string]func(net.Conn){
		"EOF":                      func(c net.Conn) { c.Close() },
		"connection reset by peer": wiretest.Reset,
	} {
		w := wireTo(t, wiretest.Bare(t, func(_ int, c net.Conn, r *bufio.Reader) {
			if wiretest.Read(r) {
				then(c)
			}
		}))
		a := ask(t.Context(), w, 5*time.Second, bytes.Repeat([]byte("x"), 100))
		if !a.Sent || a.Err == nil || !strings.Contains(a.Err.Error(), want) {
			t.Errorf("%v, want %s", a.Err, want)
		}
	}
}

// Descriptors beyond Options.Descriptors are for others, but for one connection at a time: another is not even begun.
func TestWireLeavesDescriptors(t *testing.T) {
	var connections atomic.Int64
	release := make(chan struct{})
	target := wiretest.Bare(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for connections.Add(1); wiretest.Read(r); {
			<-release
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	w, _, err := New(target, Options{ConnTimeout: time.Second, Idle: 4, Descriptors: 1})
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan *Answer)
	go func() { first <- ask(context.Background(), w, 5*time.Second, nil) }()
	eventually(t, "a request", func() bool { return connections.Load() == 1 })
	for range 3 {
		if a := ask(t.Context(), w, time.Second, nil); !errors.Is(a.Err, syscall.EMFILE) || a.Sent || connections.Load() != 1 {
			t.Errorf("another one: %v, sent %t, %d connections", a.Err, a.Sent, connections.Load())
		}
	}
	close(release)
	if a := <-first; a.Status != 200 {
		t.Errorf("the first: %v", a.Err)
	}
	w.take().cut()
	if a := ask(t.Context(), w, time.Second, nil); a.Status != 200 || connections.Load() != 2 {
		t.Errorf("after its end: %v, %d connections", a.Err, connections.Load())
	}
	w.take().cut()
}

// The system has no address for what it has no way to, and none where the local ports are used up: UDP tells which it is.
func TestWireTellsNoWayFromNoPort(t *testing.T) {
	at := &net.TCPAddr{IP: net.IPv6loopback, Port: 80}
	failed := func(network string, errno syscall.Errno) error {
		return &net.OpError{Op: "dial", Net: network, Addr: at, Err: os.NewSyscallError("connect", errno)}
	}
	for name, row := range map[string]struct{ tcp, udp, want syscall.Errno }{
		"no IPv6":           {syscall.EADDRNOTAVAIL, syscall.EADDRNOTAVAIL, syscall.ENETUNREACH},
		"no ports left":     {syscall.EADDRNOTAVAIL, 0, syscall.EADDRNOTAVAIL},
		"nor a descriptor":  {syscall.EADDRNOTAVAIL, syscall.EMFILE, syscall.EADDRNOTAVAIL},
		"refused":           {syscall.ECONNREFUSED, syscall.EADDRNOTAVAIL, syscall.ECONNREFUSED},
		"nothing is failed": {0, syscall.EADDRNOTAVAIL, 0},
	} {
		var err error
		if row.tcp != 0 {
			err = failed("tcp", row.tcp)
		}
		got := unroutable(err, func(network, address string) (net.Conn, error) {
			if network != "udp" || address != "[::1]:80" {
				t.Errorf("%s: dialed %s %s", name, network, address)
			}
			if row.udp != 0 {
				return nil, failed("udp", row.udp)
			}
			c, _ := net.Pipe()
			return c, nil
		})
		if row.want == 0 && got != nil || row.want != 0 && !errors.Is(got, row.want) {
			t.Errorf("%s: %v, want %v", name, got, row.want)
		}
	}
}
