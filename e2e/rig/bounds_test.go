package rig

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestAMissedBoundIsGivenASecondLook, and no third one: this binary runs itself with a story that misses its bound.
func TestAMissedBoundIsGivenASecondLook(t *testing.T) {
	const misses = "KPUSH_RIG_MISSES"
	switch how := os.Getenv(misses); {
	case how == "wrong":
		t.Error("not about time")
		fallthrough
	case how == "always", how == "once" && os.Getenv(onceMore) == "":
		t.Run("part", func(t *testing.T) { Missed(t, "a bound of %d ms", 7) })
		return
	case how != "":
		return
	}
	for _, row := range []struct {
		how           string
		passes, again bool
	}{{"never", true, false}, {"once", true, true}, {"always", false, true}, {"wrong", false, false}} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestAMissedBoundIsGivenASecondLook$", "-test.v")
		cmd.Env = append(os.Environ(), misses+"="+row.how)
		out, err := cmd.CombinedOutput()
		if passes := err == nil; passes != row.passes {
			t.Errorf("A story that misses its bound %s: passes %v, want %v: %s", row.how, passes, row.passes, out)
		}
		if again := strings.Contains(string(out), "Once more, for a bound of time or pace was missed: TestAMissedBoundIsGivenASecondLook."); again != row.again {
			t.Errorf("A story that misses its bound %s: told once more %v, want %v: %s", row.how, again, row.again, out)
		}
	}
}
