package wire

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

const (
	headRoom  = 8 << 10               // a connection's read buffer; no limit of what is read
	writeRest = 50 * time.Millisecond // how long a request may still be on its way when its answer is there
)

// conn is one connection. It belongs to one exchange at a time.
type conn struct {
	net.Conn // the socket, or TLS on it
	cut      func()
	raw      syscall.RawConn
	look     func(fd uintptr) // made once, as step is: a closure per request would be an allocation
	quiet    bool             // what look saw
	under    *underTLS        // nil without TLS
	in       *bufio.Reader
	head     answerHead
	heard    bool  // something has come in this exchange, and
	begun    bool  // it begins as an answer does
	failed   error // what Read failed with, even behind a whole answer

	step   func(fd uintptr) bool // nil with TLS
	unsent []byte                // what step writes before it reads
	into   []byte                // where it reads to
	got    int
	stuck  error // what it failed with

	aside chan error // what another goroutine's writing came to; nil: there is none

	deadline time.Time // of the exchange; zero: none
	alarm    time.Time // what the poller knows of it: earlier at times, see limit
	used     time.Time
	user     context.Context // whose exchange it is; guarded by Wire.mu, as is place
	place    int             // in Wire.busy
}

func newConn(ctx context.Context, socket net.Conn, config *tls.Config) (*conn, error) {
	raw, err := socket.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: socket, raw: raw}
	// The socket, not TLS, whose Close waits for its goodbye to be written.
	c.cut = func() { socket.Close() }
	c.look = func(fd uintptr) { c.quiet = quiet(fd) }
	if config == nil {
		c.step = func(fd uintptr) bool { return c.writeOrRead(int(fd)) }
	} else {
		c.under = newUnderTLS(socket, raw)
		secure := tls.Client(c.under, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("TLS handshake: %w", err)
		}
		c.Conn = secure
	}
	c.in = bufio.NewReaderSize(c, headRoom)
	return c, nil
}

func (c *conn) Read(p []byte) (n int, err error) {
	if c.step != nil {
		n, err = c.writeThenRead(p)
	} else {
		n, err = c.Conn.Read(p)
	}
	if !c.heard && n > 0 {
		c.heard, c.begun = true, bytes.HasPrefix([]byte("HTTP/"), p[:min(n, len("HTTP/"))])
	}
	if err != nil {
		c.failed = err
	}
	return n, err
}

// writeThenRead writes what is unsent, and reads what comes. The poller listens before the request goes out, so the first look at the
// socket is when there is something to read: one call to the kernel less than a Write and a Read.
func (c *conn) writeThenRead(p []byte) (int, error) {
	c.into = p
	for {
		c.got, c.stuck = 0, nil
		err := c.raw.Read(c.step)
		switch {
		case err != nil:
			if !errors.Is(err, os.ErrDeadlineExceeded) || !time.Now().Before(c.deadline) {
				return 0, err
			}
			c.alarm = c.deadline // it went off early
			if err := c.SetReadDeadline(c.deadline); err != nil {
				return 0, err
			}
		case c.stuck != nil:
			return 0, c.stuck
		case len(c.unsent) > 0: // more than the socket takes at once
			if err := c.SetWriteDeadline(c.deadline); err != nil {
				return 0, err
			}
			c.writeAside(c.unsent, nil)
			c.unsent = nil
		case c.got == 0 && len(p) > 0:
			return 0, io.EOF
		default:
			return c.got, nil
		}
	}
}

// writeOrRead is called when the poller listens, and whenever it has heard something; false: wait for more. What came before the
// poller listened it will not tell again: the look finds it, and nothing is written.
func (c *conn) writeOrRead(fd int) bool {
	if len(c.unsent) > 0 {
		if !quiet(uintptr(fd)) {
			c.stuck = errUnasked
			return true
		}
		n, err := unannounced(syscall.SYS_WRITE, fd, c.unsent)
		c.unsent = c.unsent[n:]
		if err != nil && err != syscall.EAGAIN {
			c.stuck = c.opError("write", err)
		}
		return c.stuck != nil || len(c.unsent) > 0
	}
	n, err := unannounced(syscall.SYS_READ, fd, c.into)
	if err == syscall.EAGAIN {
		return false
	}
	c.got = n
	if err != nil {
		c.stuck = c.opError("read", err)
	}
	return true
}

// opError is what a net.Conn would have said.
func (c *conn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: c.RemoteAddr().Network(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, err)}
}

// limit sets until when the exchange may last. Unless it has to be exact, the poller keeps the alarm of an earlier exchange:
// when it goes off, writeThenRead looks at the clock. To set one costs as much as a call to the kernel.
func (c *conn) limit(deadline time.Time, exact bool) error {
	c.deadline = deadline
	if early := deadline.Sub(c.alarm); early == 0 || early > 0 && !exact && !c.alarm.IsZero() {
		return nil
	}
	c.alarm = deadline
	return c.SetDeadline(deadline)
}

// exchange is one request and its answer. The connection is reusable when both were whole and nothing follows them. errUnasked
// means that nothing went out.
func (c *conn) exchange(deadline time.Time, head, body []byte, a *Answer) (reusable bool, err error) {
	c.heard, c.begun = false, false
	if err := c.limit(deadline, c.step == nil || len(body) > 0); err != nil { // exact where writeThenRead does not write
		return false, err
	}
	if c.step != nil && len(body) == 0 {
		c.unsent = head
	} else if err = c.unasked(); err != nil {
		return false, err
	} else if len(body) > 0 || len(head) > AtOnce {
		c.writeAside(head, body)
	} else if n, err := c.Write(head); err != nil {
		if n == 0 {
			err = fmt.Errorf("%w: %w", errUnsent, err)
		}
		return false, err
	}
	reusable, err = c.receive(a)
	if err != nil && (len(c.unsent) > 0 && len(c.unsent) == len(head) || c.unwelcome(err)) {
		err = fmt.Errorf("%w: %w", errUnsent, err)
	}
	c.unsent = nil
	return c.join(reusable) && reusable, err
}

// writeAside has what does not go out at once written by another goroutine: a service may answer before it has read a large
// request, and read no further.
func (c *conn) writeAside(head, body []byte) {
	c.aside = make(chan error, 1)
	go func(done chan<- error) {
		_, err := (&net.Buffers{head, body}).WriteTo(c.Conn)
		done <- err
	}(c.aside)
}

// join ends the writing aside, and tells whether the request went out whole: nobody reads it any more then. Where the answer
// left the connection reusable, the rest has a moment.
func (c *conn) join(reusable bool) bool {
	if c.aside == nil {
		return true
	}
	if reusable {
		c.alarm = time.Now()                           // sets it anew the next time
		_ = c.SetWriteDeadline(c.alarm.Add(writeRest)) // fails only where the write does
	} else {
		c.cut()
	}
	err := <-c.aside
	c.aside = nil
	return err == nil
}

func (c *conn) receive(a *Answer) (reusable bool, err error) {
	for a.Status == 0 {
		if err := c.head.read(c.in); err != nil {
			return false, err
		}
		if s := c.head.status; s >= 200 || s == http.StatusSwitchingProtocols { // others with 1xx come before the answer
			a.Status = s
		}
	}
	a.Action, a.RetryAfter, a.Encoding = c.head.action, c.head.retryAfter, c.head.encoding
	whole, err := c.readBody(a)
	return whole && err == nil && c.failed == nil && c.in.Buffered() == 0 && !c.head.closing(), err
}

// readBody reads the body, up to Limit, and keeps what is asked for. whole: its end was seen, and the connection goes on behind it.
func (c *conn) readBody(a *Answer) (whole bool, err error) {
	status, length := c.head.status, c.head.length
	switch {
	case status == http.StatusSwitchingProtocols: // the body is the connection, and has no end
		return false, nil
	case status == http.StatusNoContent:
		return length <= 0 && !c.head.chunked, nil // who says that there is a body may send one
	case status == http.StatusNotModified:
		return true, nil
	case c.head.chunked:
		if size, err := a.read(&chunks{in: c.in}, Limit); err != nil || size == Limit {
			return false, err
		}
		return true, c.skipTrailer()
	case length >= 0:
		size, err := a.read(c.in, min(length, Limit))
		if err == nil && size < min(length, Limit) {
			err = io.ErrUnexpectedEOF
		}
		return length <= Limit, err
	}
	_, err = a.read(c.in, Limit)
	return false, err
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
