package api

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/kpush/kpush/forwarder"
)

// watch asks for the status, once at a time: an answer that hangs with the volume holds up one goroutine, however many wait for it.
type watch struct {
	ask     func() forwarder.Status
	mu      sync.Mutex
	waiting *question // nil: none is under way
}

// question is one; done is closed when it has its answer.
type question struct {
	done   chan struct{}
	answer forwarder.Status
	bug    error
}

func (w *watch) begin() *question {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting != nil {
		return w.waiting
	}
	q := &question{done: make(chan struct{})}
	w.waiting = q
	go func() {
		defer func() {
			if p := recover(); p != nil {
				q.bug = refuse(http.StatusInternalServerError, "kpush has a bug here: %v\n%s", p, debug.Stack())
			}
			w.mu.Lock()
			w.waiting = nil
			w.mu.Unlock()
			close(q.done)
		}()
		q.answer = w.ask()
	}()
	return q
}

// status is the answer, or a sentence where there is none within statusTime.
func (w *watch) status(ctx context.Context) (forwarder.Status, error) {
	q, late := w.begin(), time.NewTimer(statusTime)
	defer late.Stop()
	select {
	case <-q.done:
		return q.answer, q.bug
	case <-ctx.Done():
		return forwarder.Status{}, fmt.Errorf("nobody waits for it any more: %w", ctx.Err())
	case <-late.C:
		return forwarder.Status{}, refuse(http.StatusServiceUnavailable,
			"the status is not known: it has not come within %v, most likely because the volume does not answer; /healthz and /readyz at KPUSH_HEALTH_ADDR say more", statusTime)
	}
}
