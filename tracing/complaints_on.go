//go:build otel

package tracing

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/go-logr/logr"
)

// complaintsPause is the least time between two lines about traces once kpush has started.
const complaintsPause = time.Minute

// complaints puts into the log what the SDK has to complain of: a collector that does not answer, as a rule.
type complaints struct {
	log *slog.Logger

	mu       sync.Mutex
	starting bool // all is said: it is about settings, and said once
	last     time.Time
	unsaid   int // since the last line
}

// Handle says err, unless something was said within the minute.
func (c *complaints) Handle(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.starting {
		if time.Since(c.last) < complaintsPause {
			c.unsaid++
			return
		}
		c.last = time.Now()
	}
	c.log.Warn("traces are incomplete: OpenTelemetry has a complaint; deliveries go on", "error", err, "unsaid", c.unsaid)
	c.unsaid = 0
}

func (c *complaints) started() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.starting = false
}

// sink is the SDK's own log: its errors and warnings are complaints. The pairs beside them stay out, for they quote settings, and
// OTEL_EXPORTER_OTLP_HEADERS is a secret.
type sink struct{ *complaints }

func (sink) Init(logr.RuntimeInfo)                 {}
func (sink) Enabled(level int) bool                { return level <= 1 } // 1 is the SDK's warning
func (s sink) Info(_ int, msg string, _ ...any)    { s.Handle(errors.New(msg)) }
func (s sink) WithValues(...any) logr.LogSink      { return s }
func (s sink) WithName(string) logr.LogSink        { return s }
func (s sink) Error(err error, m string, _ ...any) { s.Handle(fmt.Errorf("%s: %w", m, err)) }
