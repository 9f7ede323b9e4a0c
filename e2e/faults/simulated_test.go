package faults

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"testing"

	"github.com/kpush/kpush/e2e/rig"
)

var simulated = regexp.MustCompile(`(\d+) crash states, (\d+) lives`)

// TestSimulatedDisk: the file alone, on a disk that tears, reorders and forgets, with crashes in the recovery, too. `make unit`
// looks at some of these states; this is a million.
func TestSimulatedDisk(t *testing.T) {
	t.Parallel()
	const story = "crash states of the file, simulated disk"
	if !*all {
		rig.NotRun(t, story, "a million in make faults, 30,000 in make unit")
	}
	rig.Broken(t, story)
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "-timeout", "8m", "-run", "^TestSimulated$", "./offsets",
		"-states", "1000000", "-seed", fmt.Sprint(*seed))
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GOGC=800") // its heap is small and mostly garbage: to collect it takes a quarter of the time
	out, err := cmd.CombinedOutput()
	found := simulated.FindSubmatch(out)
	if err != nil || found == nil {
		t.Fatalf("%v\n%s", err, out[max(0, len(out)-4000):])
	}
	rig.Tell(t, rig.Row{Story: story, Runs: string(found[1]), Repeats: "-", Flagged: "all",
		Remark: fmt.Sprintf("in %s lives: no false fact, no synced fact lost; torn, reordered, crashes in the recovery", found[2])})
}
