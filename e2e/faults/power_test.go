package faults

import (
	"fmt"
	"testing"

	"github.com/kpush/kpush/e2e/rig"
)

// unsynced is how many finished messages guarantee 2 lets be off the disk at a time.
const unsynced = 128

// TestPowerCuts: the machine is gone and comes back with what was synced, and another boot id.
func TestPowerCuts(t *testing.T) {
	const concurrency = 32
	for guarantee := 2; guarantee <= 3; guarantee++ {
		t.Run(fmt.Sprint(guarantee), func(t *testing.T) {
			bound := concurrency
			if guarantee == 2 {
				bound += unsynced
			}
			story := fmt.Sprintf("power cut, guarantee %d", guarantee)
			m := machine(t, story, 24, "")
			s := stage(t, story, setting{partitions: concurrency, concurrency: concurrency, bound: bound, volume: m.Disk,
				env: []string{fmt.Sprintf("KPUSH_MESSAGE_DELIVERY_GUARANTEES=%d", guarantee)}})
			if guarantee == 3 { // every intent is on the disk before its request
				s.flagBound = 2 * concurrency
			}
			m.Start(t, s.sc)
			for range times(50, 3) {
				s.stock(60)
				s.crash(1+s.rng.IntN(600), func() { m.PowerCut(t, s.sc) }, func() { m.Start(t, s.sc) })
			}
			s.tell("ext4 in a loop device, EXT4_IOC_SHUTDOWN without its journal, another boot id")
		})
	}
}

// machine is a machine whose disk can be hurt; where there is none the story is left out by name.
func machine(t *testing.T, story string, mib int, options string) *rig.Machine {
	t.Helper()
	m, err := rig.NewMachine(t, mib, options)
	if err != nil {
		rig.NotRun(t, story, err.Error())
	}
	return m
}
