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

// TestSimulatedDisk: the files alone, on a disk that tears, reorders and forgets, with crashes in the recovery, too. `make unit`
// looks at some of these states; this is a million, and of the spool's, which are whole directories, sixty thousand.
func TestSimulatedDisk(t *testing.T) {
	for _, row := range []struct{ story, room, states, came string }{
		{"crash states of the file, simulated disk", "./offsets", "1000000", "no false fact, no synced fact lost"},
		{"crash states of the spool, simulated disk", "./publisher/spool", "60000", "no record lost, out of its order, or sent although refused; repeats within the window"},
	} {
		t.Run(row.room, func(t *testing.T) {
			t.Parallel()
			if !*all {
				rig.NotRun(t, row.story, row.states+" in make faults, some in make unit")
			}
			rig.Broken(t, row.story)
			cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "-timeout", "8m", "-run", "^TestSimulated$", row.room,
				"-states", row.states, "-seed", fmt.Sprint(*seed))
			cmd.Dir = "../.."
			cmd.Env = append(os.Environ(), "GOGC=800") // its heap is small and mostly garbage: to collect it takes a quarter of the time
			out, err := cmd.CombinedOutput()
			found := simulated.FindSubmatch(out)
			if err != nil || found == nil {
				t.Fatalf("%v\n%s", err, out[max(0, len(out)-4000):])
			}
			rig.Tell(t, rig.Row{Story: row.story, Runs: string(found[1]), Repeats: "-", Flagged: "all",
				Remark: fmt.Sprintf("in %s lives: %s; torn, reordered, crashes in the recovery", found[2], row.came)})
		})
	}
}
