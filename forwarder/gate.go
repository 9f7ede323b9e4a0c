package forwarder

import (
	"context"
	"sync"

	"github.com/kpush/kpush/forwarder/push"
)

// errPaused ends an attempt that has not gone out when an operator pauses its partition.
const errPaused push.Ending = "an operator has paused the partition"

// gate is what an operator's pause shuts: no attempt begins while it is.
type gate struct {
	mu    sync.Mutex
	opens chan struct{} // nil: it is open
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opens == nil {
		g.opens = make(chan struct{})
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opens != nil {
		close(g.opens)
		g.opens = nil
	}
}

// isShut tells whether an operator has paused the partition.
func (g *gate) isShut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.opens != nil
}

// wait returns once the gate is open, or with the cause when ctx has ended.
func (g *gate) wait(ctx context.Context) error {
	g.mu.Lock()
	opens := g.opens
	g.mu.Unlock()
	if opens == nil {
		return nil
	}
	select {
	case <-opens:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
