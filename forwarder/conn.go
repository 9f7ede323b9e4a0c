package forwarder

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"syscall"
	"time"
)

const (
	headRoom  = 8 << 10               // a connection's read buffer; no limit of what is read
	writeRest = 50 * time.Millisecond // how long a body may still be on its way when its answer is there
)

// conn is one connection. It belongs to one exchange at a time.
type conn struct {
	net.Conn // the socket, or TLS on it
	cut      func()
	raw      syscall.RawConn
	look     func(fd uintptr) // made once: a closure per request would be an allocation
	quiet    bool             // what look saw
	in       *bufio.Reader
	head     answerHead
	failed   error // what Read failed with, even behind a whole answer
	limited  bool  // a deadline is set
	used     time.Time
}

func newConn(ctx context.Context, socket net.Conn, config *tls.Config) (*conn, error) {
	raw, err := socket.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: socket, raw: raw}
	// The socket, not TLS, whose Close waits for its goodbye to be written.
	c.cut = func() { socket.Close() }
	var one [1]byte
	c.look = func(fd uintptr) {
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		c.quiet = err == syscall.EAGAIN
	}
	if config != nil {
		secure := tls.Client(socket, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("TLS handshake: %w", err)
		}
		c.Conn = secure
	}
	c.in = bufio.NewReaderSize(c, headRoom)
	return c, nil
}

// silent tells whether an idle connection is still good. The end of the stream, or anything else that came without
// being asked for, means that a request on it would be lost or get somebody else's answer.
func (c *conn) silent() bool {
	c.quiet = false
	return c.raw.Control(c.look) == nil && c.quiet
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.failed = err
	}
	return n, err
}

// exchange is one request and its answer. The connection is reusable when both were whole and nothing follows them.
func (c *conn) exchange(deadline time.Time, head, body []byte, a *answer) (reusable bool, err error) {
	if c.limited || !deadline.IsZero() {
		c.limited = !deadline.IsZero()
		if err := c.SetDeadline(deadline); err != nil {
			return false, err
		}
	}
	if len(body) == 0 {
		if _, err := c.Write(head); err != nil {
			return false, err
		}
		return c.receive(a)
	}
	// A service may answer before it has read a large body, and read no further.
	sent := make(chan error, 1)
	go func() {
		_, err := (&net.Buffers{head, body}).WriteTo(c.Conn)
		sent <- err
	}()
	if reusable, err = c.receive(a); reusable {
		c.limited = true
		_ = c.SetWriteDeadline(time.Now().Add(writeRest)) // fails only where the write does
	} else {
		c.cut()
	}
	return <-sent == nil && reusable, err // and nobody reads body any more
}

func (c *conn) receive(a *answer) (reusable bool, err error) {
	for a.status == 0 {
		if err := c.head.read(c.in); err != nil {
			return false, err
		}
		if s := c.head.status; s >= 200 || s == http.StatusSwitchingProtocols { // others with 1xx come before the answer
			a.status = s
		}
	}
	a.action, a.retryAfter = c.head.action, c.head.retryAfter
	whole, err := c.readBody(a)
	return whole && err == nil && c.failed == nil && c.in.Buffered() == 0 && !c.head.closing(), err
}

// readBody reads the body, up to answerLimit. whole: its end was seen, and the connection goes on behind it.
func (c *conn) readBody(a *answer) (whole bool, err error) {
	status, length := c.head.status, c.head.length
	switch {
	case status == http.StatusSwitchingProtocols: // the body is the connection, and has no end
		return false, nil
	case status == http.StatusNoContent, status == http.StatusNotModified:
		return true, nil
	case c.head.chunked:
		if err = a.read(httputil.NewChunkedReader(c.in), answerLimit); err != nil || len(a.body) == answerLimit {
			return false, err
		}
		return true, c.skipTrailer()
	case length >= 0:
		err = a.read(c.in, min(length, answerLimit))
		if err == nil && len(a.body) < min(length, answerLimit) {
			err = io.ErrUnexpectedEOF
		}
		return length <= answerLimit, err
	}
	return false, a.read(c.in, answerLimit)
}

// skipTrailer reads what follows the last chunk, through its empty line.
func (c *conn) skipTrailer() error {
	for {
		line, err := c.head.line(c.in)
		switch {
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		case err != nil || len(line) == 0:
			return err
		}
	}
}
