package api

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// guests are the connections of a port, so many at the most. One more closes the one of which nothing new was heard for longest,
// whether it is idle or sends its request slowly: who only holds connections never locks out a caller that asks and leaves, such as
// the kubelet.
type guests struct {
	most int
	mu   sync.Mutex
	all  map[net.Conn]*guest
}

// guest is one of them. Its context ends when it is closed on this side.
type guest struct {
	since time.Time // when it became as it is; guarded by guests.mu
	open  context.Context
	leave context.CancelFunc
}

type guestKey struct{}

// meet is the server's ConnContext.
func (g *guests) meet(ctx context.Context, c net.Conn) context.Context {
	one := &guest{since: time.Now()}
	one.open, one.leave = context.WithCancel(context.WithValue(ctx, guestKey{}, one))
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all[c] = one
	return one.open
}

// change is the server's ConnState.
func (g *guests) change(c net.Conn, s http.ConnState) {
	g.mu.Lock()
	defer g.mu.Unlock()
	one := g.all[c]
	switch {
	case one == nil: // it was closed below, and does not know it yet
	case s == http.StateClosed || s == http.StateHijacked:
		one.leave()
		delete(g.all, c)
	default:
		one.since = time.Now()
	}
	if len(g.all) <= g.most {
		return
	}
	var out net.Conn
	for other, is := range g.all {
		if out == nil || is.since.Before(g.all[out].since) {
			out = other
		}
	}
	g.all[out].leave()
	delete(g.all, out)
	_ = out.Close() // its reader notices
}

// patient has a request's context end with its connection, and with nothing less. net/http's ends when the caller says nothing more,
// and who has shut down its side behind a whole request still waits for the answer.
func patient(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(r.Context().Value(guestKey{}).(*guest).open))
	})
}
