package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/kpush/kpush/publisher"
)

// Port is an address to listen on: the variable that names it, what listens there, and whether records are published there.
type Port struct {
	Variable, Name, Addr string
	Publish              bool
	Descriptors          int // that its connections may use; 0: all
}

// HealthPort is KPUSH_HEALTH_ADDR.
func HealthPort(addr string) Port {
	return Port{Variable: "KPUSH_HEALTH_ADDR", Name: "health server", Addr: addr}
}

// What a caller may cost, on either port. Nobody needs more, and a sidecar has little to give.
const (
	headTime    = 5 * time.Second
	requestTime = 15 * time.Second // to the end of the body
	answerTime  = 30 * time.Second // from the end of the head: a body may take its time, and a command commandTime
	idleTime    = 30 * time.Second
	headMost    = 8 << 10
	guestsMost  = 64
	callersMost = 1024 // instead, where records are published: each waits for Kafka
)

// Serve answers on the port until ctx ends. It returns once it listens; an address that cannot be had is the error.
func Serve(ctx context.Context, p Port, h http.Handler, log *slog.Logger) error {
	l, err := net.Listen("tcp", p.Addr)
	if err != nil {
		return fmt.Errorf("%s=%s cannot be listened on: %w", p.Variable, p.Addr, err)
	}
	log.Info(p.Name+" listens", "addr", l.Addr().String())
	serveOn(ctx, l, p, h, log)
	return nil
}

func serveOn(ctx context.Context, l net.Listener, p Port, h http.Handler, log *slog.Logger) {
	if p.Descriptors > 0 {
		l = frugal{l, p.Descriptors}
	}
	g := &guests{most: guestsMost, all: map[net.Conn]*guest{}}
	s := &http.Server{Handler: patient(lingering(careful(h), lingerTime)), ReadHeaderTimeout: headTime, ReadTimeout: requestTime, WriteTimeout: answerTime,
		IdleTimeout: idleTime, MaxHeaderBytes: headMost, BaseContext: func(net.Listener) context.Context { return ctx }, ConnContext: g.meet, ConnState: g.change,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)} // what strangers send is no error of ours
	if p.Publish {
		g.most, s.MaxHeaderBytes = callersMost, publisher.HeadMost
		s.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return g.meet(publisher.ConnContext(ctx, c), c) }
		l = publisher.Listen(l)
	}
	context.AfterFunc(ctx, func() { s.Close() })
	go func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("a port is not answered any more", "port", p.Name, "error", err)
		}
	}()
}

// frugal is a listener that closes a connection whose descriptor is one of those that are for others.
type frugal struct {
	net.Listener
	descriptors int
}

func (l frugal) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if raw, err := c.(syscall.Conn).SyscallConn(); err == nil {
			beyond := false
			_ = raw.Control(func(fd uintptr) { beyond = int(fd) >= l.descriptors }) // fails where it is closed already
			if !beyond {
				return c, nil
			}
		}
		_ = c.Close()
	}
}

// precautions are what every answer says to a browser. Answers share them.
var precautions = http.Header{"X-Content-Type-Options": {"nosniff"}, "Cache-Control": {"no-store"}, "X-Frame-Options": {"DENY"},
	"Cross-Origin-Resource-Policy": {"same-origin"}, "Referrer-Policy": {"same-origin"}}

// careful sets them.
func careful(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		maps.Copy(w.Header(), precautions)
		h.ServeHTTP(w, r)
	})
}
