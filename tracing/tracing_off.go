//go:build !otel

package tracing

import (
	"context"

	"github.com/kpush/kpush/forwarder/push"
)

// Traces are none in this build.
type Traces struct{}

// Start does nothing.
func Start(context.Context, Options) *Traces { return nil }

// Wrap returns h.
func (*Traces) Wrap(h push.Handler) push.Handler { return h }

// Stop does nothing.
func (*Traces) Stop() {}

// Idle says that traces are asked for and this build has none.
func Idle() []string {
	if name := asked(); name != "" {
		return []string{name + " has no effect: this build has no traces; one made with `go build -tags otel` (docker build --build-arg TAGS=otel) has"}
	}
	return nil
}
