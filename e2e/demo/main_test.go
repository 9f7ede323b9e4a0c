package main

import (
	"testing"
	"time"
)

// TestDemo is what a newcomer runs first: it must hold, and within 15 seconds once the binary is built.
func TestDemo(t *testing.T) {
	begin := time.Now()
	if code := perform(false); code != 0 {
		t.Errorf("the demo ends with exit code %d", code)
	}
	if took := time.Since(begin); took > 15*time.Second {
		t.Errorf("the demo took %v", took)
	}
}
