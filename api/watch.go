package api

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"
	"time"
)

// watch asks what may hang with the volume, once at a time: that holds up one goroutine, however many wait for the answer.
type watch[T any] struct {
	what    string
	ask     func() T
	mu      sync.Mutex
	waiting *question[T] // nil: none is under way
}

// question is one; done is closed when it has its answer.
type question[T any] struct {
	done   chan struct{}
	answer T
	bug    error
}

func (w *watch[T]) begin() *question[T] {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting != nil {
		return w.waiting
	}
	q := &question[T]{done: make(chan struct{})}
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

// now is the answer, or a sentence where there is none within statusTime.
func (w *watch[T]) now(ctx context.Context) (none T, err error) {
	q, late := w.begin(), time.NewTimer(statusTime)
	defer late.Stop()
	select {
	case <-q.done:
		return q.answer, q.bug
	case <-ctx.Done():
		return none, fmt.Errorf("nobody waits for it any more: %w", ctx.Err())
	case <-late.C:
		return none, refuse(http.StatusServiceUnavailable,
			"the %s is not known: it has not come within %v, most likely because the volume does not answer; /healthz and /readyz at KPUSH_HEALTH_ADDR say more", w.what, statusTime)
	}
}
