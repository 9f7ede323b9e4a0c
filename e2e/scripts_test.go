package e2e

import (
	"os/exec"
	"testing"

	"github.com/kpush/kpush/e2e/rig"
)

// TestTheSimulatedGroupDoesAsABroker: the scripts that a simulated group comes to are played with a real one.
func TestTheSimulatedGroupDoesAsABroker(t *testing.T) {
	t.Parallel() // it mostly waits
	k := rig.Shared(t)
	out, err := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-parallel=8", "-timeout=2m", "-run=TestScripts", "../simulation", "-brokers="+k.Brokers).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
