// Package wiretest is services on bare sockets, which answer what a test wants, byte for byte, and break off where it wants.
//
// It is for tests alone: of package wire, and of what sends through one. What it starts ends with the test. It knows no kpush.
package wiretest

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// Bare is a service on the bare socket: serve gets the n-th connection, from 1.
func Bare(t *testing.T, serve func(n int, c net.Conn, r *bufio.Reader)) string {
	t.Helper()
	return "http://" + Listening(t, "tcp", "127.0.0.1:0", serve)
}

// BareTLS is Bare behind TLS, over a Corked socket, and what a client has to trust.
func BareTLS(t *testing.T, serve func(n int, c net.Conn, r *bufio.Reader)) (string, *x509.CertPool) {
	t.Helper()
	s := httptest.NewTLSServer(nil) // for its certificate
	s.Close()
	s.TLS.ClientAuth = tls.RequestClientCert // its tickets come behind the handshake then, as other servers' do
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return "https://" + Listening(t, "tcp", "127.0.0.1:0", func(n int, c net.Conn, _ *bufio.Reader) {
		secure := tls.Server(&Corked{Conn: c}, s.TLS)
		defer secure.Close()
		serve(n, secure, bufio.NewReader(secure))
	}), roots
}

// Corked is a socket that can hold back what is written, so that it goes out in one piece.
type Corked struct {
	net.Conn
	Cork bool
	held []byte
}

func (c *Corked) Write(p []byte) (int, error) {
	if c.Cork {
		c.held = append(c.held, p...)
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// Pull lets go what was held back.
func (c *Corked) Pull() {
	c.Cork = false
	c.SetWriteDeadline(time.Time{}) // TLS's goodbye leaves one
	c.Conn.Write(c.held)
}

// Listening serves each connection of a listener until the test ends, and says where.
func Listening(t *testing.T, network, address string, serve func(n int, c net.Conn, r *bufio.Reader)) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	open.Go(func() {
		for n := 1; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				context.AfterFunc(t.Context(), func() { c.Close() })
				defer c.Close()
				serve(n, c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() { l.Close(); open.Wait() })
	return l.Addr().String()
}

// Read takes a whole request from the wire; false at the end of the connection.
func Read(r *bufio.Reader) bool {
	req, err := http.ReadRequest(r)
	if err == nil {
		_, err = io.Copy(io.Discard, req.Body)
	}
	return err == nil
}

// Reset ends the connection with RST.
func Reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// ClosedPort is an address where nobody listens.
func ClosedPort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
