package forwarder

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
	"net/http/httputil"
	"strings"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	headRoom  = 8 << 10               // a connection's read buffer; an answer whose head is larger costs its connection
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
	head     fasthttp.ResponseHeader
	failed   error // what Read failed with: the parser tells less
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
	in, err := c.readHead()
	if err != nil {
		return false, err
	}
	a.status = c.head.StatusCode()
	a.action, a.retryAfter = string(c.head.Peek("Kafka-Action")), string(c.head.Peek("Retry-After"))
	whole, err := c.readBody(in, a)
	return whole && err == nil && c.failed == nil && in == c.in && in.Buffered() == 0 && !c.closing(), err
}

var (
	errNotHTTP   = errors.New("what came is no HTTP answer")
	errHeadLarge = errors.New("the head of the answer is larger than 1 MiB")
)

// readHead reads the head of the answer, past those with 1xx that come before it. in has the body.
func (c *conn) readHead() (in *bufio.Reader, err error) {
	in = c.in
	for {
		err := c.head.Read(in)
		switch status := c.head.StatusCode(); {
		case err == nil && (status < 100 || status >= 200 || status == http.StatusSwitchingProtocols):
			return in, nil
		case err == nil:
		case !tooSmall(err) && c.failed != nil:
			return nil, c.failed
		case !tooSmall(err):
			return nil, errNotHTTP // err holds what the service wrote
		case in != c.in:
			return nil, errHeadLarge
		default:
			in = bufio.NewReaderSize(in, answerLimit)
		}
	}
}

func tooSmall(err error) bool {
	var small *fasthttp.ErrSmallBuffer
	return errors.As(err, &small)
}

// readBody reads the body, up to answerLimit. whole: its end was seen, and the connection goes on behind it.
func (c *conn) readBody(in *bufio.Reader, a *answer) (whole bool, err error) {
	status, length := c.head.StatusCode(), c.head.ContentLength()
	switch {
	case status == http.StatusSwitchingProtocols: // the body is the connection, and has no end
		return false, nil
	case status == http.StatusNoContent, status == http.StatusNotModified, length == 0:
		return true, nil
	case length > 0:
		err = a.read(in, min(length, answerLimit))
		if err == nil && len(a.body) < min(length, answerLimit) {
			err = io.ErrUnexpectedEOF
		}
		return length <= answerLimit, err
	case length == -1:
		if err = a.read(httputil.NewChunkedReader(in), answerLimit); err != nil || len(a.body) == answerLimit {
			return false, err
		}
		return true, skipTrailer(in)
	}
	return false, a.read(in, answerLimit)
}

// skipTrailer reads what follows the last chunk, through its empty line.
func skipTrailer(in *bufio.Reader) error {
	for {
		line, err := in.ReadSlice('\n')
		switch {
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		case len(bytes.TrimRight(line, "\r\n")) == 0:
			return nil
		}
	}
}

// closing tells whether the service ends the connection behind this answer.
func (c *conn) closing() bool {
	if c.head.ConnectionClose() {
		return true
	}
	for _, line := range c.head.PeekAll("Connection") {
		for token := range bytes.SplitSeq(line, []byte{','}) {
			if strings.EqualFold(string(bytes.TrimSpace(token)), "close") {
				return true
			}
		}
	}
	return false
}
