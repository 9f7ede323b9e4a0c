//go:build !otel

package tracing

import (
	"strings"
	"testing"
)

// A build without traces says so where they are asked for, and which one has them.
func TestBuildWithoutTracesSaysSo(t *testing.T) {
	for _, name := range endpoints {
		quiet(t)
		t.Setenv(name, "http://127.0.0.1:4318")
		idle := Idle()
		if len(idle) != 1 || !strings.HasPrefix(idle[0], name+" has no effect: ") || !strings.Contains(idle[0], "-tags otel") {
			t.Errorf("%s: %q", name, idle)
		}
	}
}
