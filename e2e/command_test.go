package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
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
	for _, want := range []string{"used by another kpush process", ": it connects\n", "done out of order", topic + "/0 ", "memory to plan for: 52 MiB", "with messages above 1 MiB: 80 MiB and twice the largest one"} {
		if code != 0 || !strings.Contains(said, want) {
			t.Errorf("kpush -check beside a running sidecar: exit code %d, %q, which lacks %q", code, said, want)
		}
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

// TestWhatOneCanTellABinaryWithoutAShell: each command does in a running sidecar what it says.
func TestWhatOneCanTellABinaryWithoutAShell(t *testing.T) {
	sc, svc, topic := stuckAt(t, 5)
	sc.Set("KPUSH_API_ADDR=" + sc.API())
	tell := func(want int, says string, args ...string) {
		t.Helper()
		if code, said := sc.Run(t, args...); code != want || !strings.Contains(said, says) {
			t.Errorf("kpush %q: exit code %d, %q; want %d, %q", args, code, said, want, says)
		}
	}
	tell(0, topic+"/0/5", "-status")
	tell(1, "not failing", "-skip", topic+"/0/6")
	tell(1, "no such topic", "-pause", "nonsense")
	tell(0, "skipped: 1", "-skip", topic+"/0/5")
	svc.Await(t, 97, patience) // one has gone to the dead letters before, and one to the skip log, by the service's own word
	tell(0, topic+"/1/3", "-skipped")
	tell(1, "not delivered", "-resend", topic+"/1/3")
	svc.Rule(nil)
	tell(0, topic+"/1/3 delivered", "-resend", "all")
	svc.Await(t, 98, patience)
	tell(0, topic+"/1", "-pause", topic+"/1")
	tell(0, "paused by operator", "-status")
	tell(0, topic+"/1", "-resume")
	tell(0, topic+"/1@48", "-seek", topic+"/1@48")
	rig.Within(t, patience, "two messages once more", func() bool { return svc.Repeats() >= 2 })
	tell(0, "seek", "-audit")
	sc.Shut(t, 10*time.Second)
	tell(1, "no kpush answers", "-pause")
}

// TestAnOperatorWithoutAVolume: where nobody knows an offset and none may be guessed, and there is no volume, the sentence of /readyz names
// the command that starts it; a pause, and its end, need no volume either.
func TestAnOperatorWithoutAVolume(t *testing.T) {
	t.Parallel()
	k, svc := kafka(t), service(t)
	topic := k.Topic(t, 2)
	produced := k.Produce(t, topic, numbered("order", 2, 40)...)
	sc := sidecar(t, k, topic, svc, "KPUSH_AUTO_OFFSET_RESET=error", "KPUSH_MESSAGE_DELIVERY_GUARANTEES=1", "KPUSH_OFFSETS_DIR=/nonexistent")
	rig.Within(t, patience, "the way out in /readyz", func() bool {
		return strings.Contains(strings.Join(sc.Ask("/readyz").Why, " "), "kpush -seek "+topic+"/1@OFFSET")
	})
	sc.Set("KPUSH_API_ADDR=" + sc.API())
	tell := func(want int, says string, args ...string) {
		t.Helper()
		if code, said := sc.Run(t, args...); code != want || !strings.Contains(said, says) {
			t.Errorf("kpush %q: exit code %d, %q; want %d, %q", args, code, said, want, says)
		}
	}
	tell(1, topic+"/0 is assigned to this process, and not started", "-pause", topic)
	tell(0, topic+"/0@0", "-seek", topic+"/0@0")
	tell(0, "of the 2 partitions of "+topic+" this process has 2, of which are not started: "+topic+"/1\n", "-pause", topic)
	tell(0, topic+"/1@0", "-seek", topic+"/1@beginning")
	tell(0, topic+"/1", "-resume")
	hears(t, svc, 0, produced)
	tell(1, "/nonexistent", "-skip", "blocked")
	said(t, sc, "there is no volume for the audit")
	sc.Shut(t, 10*time.Second)
}
