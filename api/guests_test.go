package api

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
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
