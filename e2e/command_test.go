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
	if code, said := sc.Run(t, "-healthz"); code != 0 {
		t.Errorf("kpush -healthz of a healthy sidecar: exit code %d, %q", code, said)
	}
	sc.Set("KPUSH_API_ADDR=" + sc.API())
	if code, said := sc.Run(t, "-status"); code != 0 || !strings.Contains(said, topic+"/0") {
		t.Errorf("kpush -status of a healthy sidecar: exit code %d, %q", code, said)
	}
	if code, said := sc.Run(t, "-status", "-json"); code != 0 || !strings.Contains(said, `"topic":"`+topic+`","partition":0,"next":50,`) {
		t.Errorf("kpush -status -json of a healthy sidecar: exit code %d, %q", code, said)
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
	if code, said := sc.Run(t, "-status"); code != 1 || !strings.Contains(said, "no kpush answers") {
		t.Errorf("kpush -status of a stopped sidecar: exit code %d, %q", code, said)
	}
	if code, said := sc.Run(t, "-help"); code != 0 || !strings.Contains(said, "KPUSH_BROKERS") {
		t.Errorf("kpush -help: exit code %d, %q", code, said)
	}
}
