package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Source is whose health is told. Each answer is a list of sentences; an empty one means that all is well.
type Source interface {
	Live() []string  // why the process cannot make progress by itself any more
	Ready() []string // what it is waiting for before it can work
	Notes() []string // worth knowing, but no reason for either
}

// report is the body of /healthz and /readyz.
type report struct {
	OK    bool     `json:"ok"`
	Why   []string `json:"why"`
	Notes []string `json:"notes,omitempty"`
}

// Health answers GET /healthz and /readyz: 200 or 503, and why.
func Health(sources ...Source) http.Handler {
	mux := http.NewServeMux()
	answer := func(ask func(Source) []string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			r := report{Why: []string{}}
			for _, s := range sources {
				r.Why = append(r.Why, ask(s)...)
				r.Notes = append(r.Notes, s.Notes()...)
			}
			r.OK = len(r.Why) == 0
			w.Header().Set("Content-Type", "application/json")
			if !r.OK {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			_ = json.NewEncoder(w).Encode(r) // an error here means that the caller has gone
		}
	}
	mux.Handle("GET /healthz", answer(Source.Live))
	mux.Handle("GET /readyz", answer(Source.Ready))
	return mux
}

// Serve answers on addr until ctx ends. It returns once it listens; an address that cannot be had is the error.
func Serve(ctx context.Context, addr string, h http.Handler, log *slog.Logger) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("KPUSH_HEALTH_ADDR=%s cannot be listened on: %w", addr, err)
	}
	log.Info("health server listens", "addr", l.Addr().String())
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	context.AfterFunc(ctx, func() { s.Close() })
	go func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the health server has ended", "error", err)
		}
	}()
	return nil
}
