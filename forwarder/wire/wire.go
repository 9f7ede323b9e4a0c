package wire

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// idleTimeout is after how long an unused connection is closed.
const idleTimeout = 90 * time.Second

// AtOnce is how large a body may be to be sent in one piece with the head.
const AtOnce = 32 << 10

// Wire is the keep-alive connections to one host: HTTP/1.1 over TCP, TLS or a Unix socket.
type Wire struct {
	network, address string
	tls              func() *tls.Config // nil: none
	name             string             // of the host, as its certificate has to have it
	connTimeout      time.Duration      // of dial and handshake together
	most             int                // idle connections kept
	descriptors      int                // Options.Descriptors

	mu       sync.Mutex
	idle     []*conn                  // the one used last at the end, and taken first
	sweeping bool                     // a timer runs that closes what has been idle for too long
	busy     []*conn                  // those with an exchange under way
	users    map[context.Context]bool // whose end is waited for: all that busy has, and perhaps more
	beyond   syscall.RawConn          // the newest connection beyond descriptors
}

// Options of a Wire.
type Options struct {
	ConnTimeout time.Duration      // of dial and handshake together
	Idle        int                // connections kept while nobody uses them
	Descriptors int                // the process has more, which are for others; 0: none are. One connection may use those
	TLS         func() *tls.Config // of https, asked for each connection; nil: the system's authorities
}

// Gate is what a request goes out for. It is asked from the goroutine of its exchange.
type Gate interface {
	Context() context.Context          // ends when nobody waits for the answer any more
	Cleared() (waited bool, err error) // asked last, with a connection at hand; an error: nothing goes out
	Fresh() bool                       // none but a new connection will do
}

// New reads a service's URL: http, https, or http+unix://SOCKET/path, where SOCKET is the socket's path as
// url.PathEscape writes it. What it returns beside the wire is the URL of the requests.
func New(target string, o Options) (*Wire, *url.URL, error) {
	w := &Wire{network: "tcp", connTimeout: o.ConnTimeout, most: o.Idle, descriptors: o.Descriptors}
	if rest, ok := strings.CutPrefix(target, "http+unix://"); ok {
		host, path := rest, ""
		if i := strings.IndexAny(rest, "/?"); i >= 0 {
			host, path = rest[:i], rest[i:]
		}
		var err error
		if w.address, err = url.PathUnescape(host); err != nil || host == "" {
			return nil, nil, errors.New("the service's address names no socket: write http+unix://SOCKET/path, with %2F for each / of the socket's own path")
		}
		w.network, target = "unix", "http://localhost"+path
	}
	u, err := url.Parse(target)
	switch {
	case err != nil:
		return nil, nil, errors.New("the service's address is no URL") // not with err, which holds the password in it
	case u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, nil, fmt.Errorf("the service's address is no URL that begins with http://HOST or https://HOST: %s", u.Redacted())
	}
	port := "80"
	if u.Scheme == "https" {
		port, w.name, w.tls = "443", u.Hostname(), o.TLS
		if w.tls == nil {
			w.tls = func() *tls.Config { return &tls.Config{} }
		}
	}
	if w.network == "tcp" {
		w.address = net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port))
	}
	return w, u, nil
}

// Place is where it leads to: the same for all that can share connections.
func (w *Wire) Place() string {
	return fmt.Sprintf("%s %s TLS %t", w.network, strings.ToLower(w.address), w.tls != nil)
}

// Exchange sends head and body and reads the answer into a: within timeout (0: none), and for as long as g's context lasts, whose
// cause ends it otherwise. What breaks it off is in a.Err, or in a.BodyErr where a status had come.
func (w *Wire) Exchange(g Gate, timeout time.Duration, head, body []byte, a *Answer) {
	a.Reset()
	ctx, deadline := g.Context(), after(timeout)
	var err error
	for again, fresh := true, g.Fresh(); again; {
		if a.Err = context.Cause(ctx); a.Err != nil {
			return
		}
		var c *conn
		if !fresh {
			c = w.take()
		}
		idle := c != nil
		if !idle {
			if c, a.Err = w.dial(ctx, deadline); a.Err != nil {
				return
			}
		}
		w.enter(c, ctx)
		waited, no := g.Cleared()
		if a.Err = no; no != nil {
			w.leave(c, true)
			return
		}
		if waited {
			deadline = after(timeout)
		}
		began := time.Now()
		var reusable bool
		reusable, err = c.exchange(deadline, head, body, a)
		w.leave(c, reusable)
		a.Sent = !errors.Is(err, errUnasked) && !errors.Is(err, errUnsent)
		again = !a.Sent && (idle || waited) && !errors.Is(err, os.ErrDeadlineExceeded) // it had ended before: the next one
		if err != nil && a.Status == 0 && !again {
			a.Stale = idle && a.Sent && !c.begun && !errors.Is(err, os.ErrDeadlineExceeded)
			w.forget(began)
		}
		a.Last = idle && !reusable && a.Status != 0
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err, a.Stale = cause, false
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		err = context.DeadlineExceeded
	}
	if a.Status == 0 {
		a.Err = err
	} else {
		a.BodyErr = err
	}
}

// after is when a time that begins now is over; the zero Time for 0: never.
func after(timeout time.Duration) (deadline time.Time) {
	if timeout > 0 {
		deadline = time.Now().Add(timeout)
	}
	return deadline
}

// take is the idle connection that was used last; nil: there is none.
func (w *Wire) take() *conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := len(w.idle) - 1
	if last < 0 {
		return nil
	}
	c := w.idle[last]
	w.idle[last], w.idle = nil, w.idle[:last]
	return c
}

// enter has the exchange on c broken off when ctx ends. One call to context.AfterFunc serves all exchanges of a context, which
// are most often all of a partition's.
func (w *Wire) enter(c *conn, ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c.user, c.place = ctx, len(w.busy)
	w.busy = append(w.busy, c)
	if ctx.Done() == nil || w.users[ctx] {
		return
	}
	if w.users == nil {
		w.users = make(map[context.Context]bool)
	}
	w.users[ctx] = true
	context.AfterFunc(ctx, func() { w.breakOff(ctx) })
}

// breakOff ends the exchanges of a context that has ended.
func (w *Wire) breakOff(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.users, ctx) // whoever enters from now on calls AfterFunc again, which calls at once
	for _, c := range w.busy {
		if c.user == ctx {
			c.cut()
		}
	}
}

// forget closes the connections that have been idle since before an exchange that had no answer: they may lead to the same grave, and a
// new one perhaps to where the service is now.
func (w *Wire) forget(began time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.idle = slices.DeleteFunc(w.idle, func(c *conn) bool {
		old := c.used.Before(began)
		if old {
			c.cut()
		}
		return old
	})
}

// leave keeps a connection for the next exchange, or closes it. Whose context has ended meanwhile is cut, or about to be.
func (w *Wire) leave(c *conn, keep bool) {
	c.used = time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	keep = keep && c.user.Err() == nil
	last := len(w.busy) - 1
	w.busy[c.place] = w.busy[last]
	w.busy[c.place].place = c.place
	w.busy[last], w.busy = nil, w.busy[:last]
	c.user = nil
	if !keep || len(w.idle) >= w.most {
		c.cut()
		return
	}
	w.idle = append(w.idle, c)
	if !w.sweeping {
		w.sweeping = true
		time.AfterFunc(idleTimeout, w.sweep)
	}
}

// sweep closes what has been idle for too long, and comes back for the rest.
func (w *Wire) sweep() {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for n < len(w.idle) && time.Since(w.idle[n].used) >= idleTimeout {
		w.idle[n].cut()
		n++
	}
	w.idle = slices.Delete(w.idle, 0, n)
	if w.sweeping = len(w.idle) > 0; w.sweeping {
		time.AfterFunc(idleTimeout-time.Since(w.idle[0].used), w.sweep)
	}
}
