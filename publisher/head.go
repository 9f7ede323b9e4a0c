package publisher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/kpush/kpush/kafka"
)

// Listen keeps the head of the request under way on each connection as it was sent: net/http forgets the order of headers and the
// case of their names, and a Kafka header has both.
func Listen(l net.Listener) net.Listener { return listener{l, new(atomic.Int64)} }

type listener struct {
	net.Listener
	large *atomic.Int64 // bytes of heads beyond headUsual
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, large: l.large}, nil
}

type connKey struct{}

// ConnContext is a server's, whose listener is from Listen.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// conn keeps what is read until the end of a head, and begins anew behind an answer.
type conn struct {
	net.Conn
	mu       sync.Mutex
	head     []byte
	whole    bool // head ends where it ends
	answered bool
	last     bool // the answer says that no other head comes
	large    *atomic.Int64
	took     int64 // of large
}

// HeadMost is as much of a head as is taken, or kept.
const HeadMost = 256 << 10

// A head is read before anybody knows who sends it: what is beyond headUsual of all of them is bounded together.
const (
	headUsual = 8 << 10
	largeMost = 16 << 20
)

var errLarge = errors.New("too many large heads at once")

var headEnd = []byte("\r\n\r\n")

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answered && n > 0 {
		c.answered, c.whole, c.head = false, false, c.head[:0]
		c.give()
	}
	if c.whole || len(c.head) > HeadMost+headUsual {
		return n, err
	}
	from := max(0, len(c.head)-len(headEnd)+1)
	c.head = append(c.head, p[:n]...)
	if at := bytes.Index(c.head[from:], headEnd); at >= 0 {
		c.head, c.whole = c.head[:from+at], true
	}
	if more := int64(len(c.head)-headUsual) - c.took; more > 0 {
		if c.took += more; c.large.Add(more) > largeMost {
			return 0, errLarge
		}
	}
	return n, err
}

// give forgets a large head. The caller holds mu.
func (c *conn) give() {
	if cap(c.head) > headUsual {
		c.head = nil
	}
	c.large.Add(-c.took)
	c.took = 0
}

func (c *conn) Close() error {
	c.mu.Lock()
	c.give()
	c.mu.Unlock()
	return c.Conn.Close()
}

func (c *conn) Write(p []byte) (int, error) {
	if !bytes.HasPrefix(p, []byte("HTTP/1.1 100 ")) {
		c.mu.Lock()
		head, _, _ := bytes.Cut(p, headEnd)
		c.last = c.last || bytes.HasPrefix(p, []byte("HTTP/1.1 ")) && bytes.Contains(head, []byte("\r\nConnection: close"))
		c.answered = !c.last
		c.mu.Unlock()
	}
	return c.Conn.Write(p)
}

// lines are the headers of r that begin with prefix, in their order and with the rest of their names as they were sent. Where that is
// not known, a client that has sent its next request already for one, they are sorted, and their names in lower case.
func lines(r *http.Request, prefix string) (out []kafka.Header) {
	want := 0
	for name, values := range r.Header {
		if hasPrefixFold(name, prefix) {
			want += len(values)
		}
	}
	if want == 0 {
		return nil
	}
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		c.mu.Lock()
		head, whole := c.head, c.whole && !c.answered
		if whole {
			out = linesOf(head, prefix)
		}
		c.mu.Unlock()
		if len(out) == want {
			return out
		}
		out = nil
	}
	for name, values := range r.Header {
		for _, v := range values {
			if hasPrefixFold(name, prefix) {
				out = append(out, kafka.Header{Name: strings.ToLower(name[len(prefix):]), Value: []byte(v)})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b kafka.Header) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// linesOf reads them. A line that begins with a blank goes on with the one before, with one blank in between, as net/http has it.
func linesOf(head []byte, prefix string) (out []kafka.Header) {
	ours := false // the line before
	for line := range bytes.Lines(head) {
		name, value, ok := bytes.Cut(line, []byte(":"))
		switch text := bytes.TrimRight(line, "\r\n"); {
		case len(text) == 0:
			return out // what is behind it is a body
		case text[0] == ' ' || text[0] == '\t':
			if ours {
				last := &out[len(out)-1]
				last.Value = bytes.Trim(fmt.Appendf(last.Value, " %s", bytes.Trim(text, " \t")), " ")
			}
		default:
			if ours = ok && hasPrefixFold(string(name), prefix); ours {
				out = append(out, kafka.Header{Name: string(name[len(prefix):]), Value: append([]byte{}, bytes.Trim(value, " \t\r\n")...)})
			}
		}
	}
	return out
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
