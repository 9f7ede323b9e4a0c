package wire

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"unsafe"
)

// errUnasked is of a connection on which something came that nobody asked for, or its end: a request on it would be lost or get
// somebody else's answer, so none goes out.
var errUnasked = errors.New("the service ended the connection, or wrote to it, before it was asked anything")

// errUnsent is of a request of which nothing went out, or nothing was taken in.
var errUnsent = errors.New("nothing of the request went out")

// unwelcome tells whether a new connection ended because the service does not take kpush's certificate, or wants one. In TLS 1.3 it says so
// behind what is a whole handshake for kpush, so a request may be under way already: it is read by nobody.
func (c *conn) unwelcome(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error" && strings.Contains(op.Err.Error(), "certificate") && c.used.IsZero() && !c.heard
}

// unasked is errUnasked where that has happened to a connection. Where step does the writing, it looks for itself.
func (c *conn) unasked() error {
	if c.under != nil {
		return c.unaskedTLS()
	}
	c.quiet = false
	if c.raw.Control(c.look) != nil || !c.quiet {
		return errUnasked
	}
	return nil
}

// quiet tells whether nothing has come on a socket, not even its end.
func quiet(fd uintptr) bool {
	var one [1]byte
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&one[0])), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	return errno == syscall.EAGAIN
}

// unaskedTLS looks into TLS, too, which may have read more than it gave out. What TLS itself has to say behind the handshake of a
// new connection is nothing unasked. Not seen is a record of which TLS has read a part together with the answer before.
func (c *conn) unaskedTLS() error {
	c.under.hurried, c.under.stirred = true, false
	n, err := c.Conn.Read(c.under.one[:])
	c.under.hurried = false
	switch {
	case n > 0:
		return errUnasked
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w: %w", errUnasked, err)
	case c.under.stirred && !c.used.IsZero():
		return errUnasked
	}
	return nil
}

// underTLS is the socket that TLS reads from. Hurried, a read takes what has come; where that is nothing, it is as if its deadline
// were over, after which TLS goes on as before. A real deadline in the past would not look at the socket, and be set twice.
type underTLS struct {
	net.Conn
	raw     syscall.RawConn
	hurried bool
	stirred bool             // a hurried read has brought something
	sip     func(fd uintptr) // a read that does not wait, into these
	into    []byte
	got     int
	failed  error
	one     [1]byte
}

func newUnderTLS(socket net.Conn, raw syscall.RawConn) *underTLS {
	u := &underTLS{Conn: socket, raw: raw}
	u.sip = func(fd uintptr) { u.got, u.failed = unannounced(syscall.SYS_READ, int(fd), u.into) }
	return u
}

func (u *underTLS) Read(p []byte) (int, error) {
	if !u.hurried {
		return u.Conn.Read(p)
	}
	u.into = p
	err := u.raw.Control(u.sip)
	u.into = nil
	switch {
	case err != nil:
		return 0, err
	case u.failed == syscall.EAGAIN:
		return 0, os.ErrDeadlineExceeded
	case u.failed != nil:
		return 0, u.failed
	case u.got == 0:
		return 0, io.EOF
	}
	u.stirred = true
	return u.got, nil
}
