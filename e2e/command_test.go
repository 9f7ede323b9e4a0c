package e2e

import (
	"strings"
	"testing"
	"time"
)

// TestWhatOneCanAskABinaryWithoutAShell: its health, and what its volume holds, also while it runs.
func TestWhatOneCanAskABinaryWithoutAShell(t *testing.T) {
	k, svc := kafka(t), service(t)
	topic := k.Topic(t, 1)
	k.ProduceEvenly(t, topic, 1, 50, 20)
	sc := sidecar(t, k, topic, svc)
	svc.Await(t, 50, patience)
	sc.Ready(t, patience)
	sc.Set("KPUSH_HEALTH_ADDR=" + sc.HealthAddr())
	if code, said := sc.Run(t, "-healthz"); code != 0 || !strings.Contains(said, "healthy: 1 partitions assigned") {
		t.Errorf("kpush -healthz of a healthy sidecar: exit code %d, %q", code, said)
	}
	code, said := sc.Run(t, "-check")
	for _, want := range []string{"used by another kpush process", ": it connects\n", "done out of order", topic + "/0 ", "memory to plan for: 48 MiB"} {
		if code != 0 || !strings.Contains(said, want) {
			t.Errorf("kpush -check beside a running sidecar: exit code %d, %q, which lacks %q", code, said, want)
		}
	}
	for _, running := range []bool{true, false} {
		if !running {
			sc.Shut(t, 10*time.Second)
		}
		if code, said := sc.Run(t, "-offsets", sc.Volume); code != 0 || !strings.Contains(said, topic) || !strings.Contains(said, "50") {
			t.Errorf("kpush -offsets (running: %t): exit code %d, %q, which does not say that 50 is next in %s.", running, code, said, topic)
		}
	}
	if code, said := sc.Run(t, "-healthz"); code == 0 || said == "" {
		t.Errorf("kpush -healthz of a stopped sidecar: exit code %d, %q", code, said)
	}
	if code, said := sc.Run(t, "-help"); code != 0 || !strings.Contains(said, "KPUSH_BROKERS") {
		t.Errorf("kpush -help: exit code %d, %q", code, said)
	}
}
