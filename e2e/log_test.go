package e2e

import (
	"bufio"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// TestALogThatNobodyReads: a pipe that is full, or whose reader has died, holds up neither a delivery nor a stop.
func TestALogThatNobodyReads(t *testing.T) {
	const count, bound = 2_000, 5 * time.Second
	for name, row := range map[string]struct {
		dies bool
		note string
	}{
		"asleep": {note: "nobody reads the log (stdout)"},
		"dead":   {dies: true, note: "the log cannot be written"},
	} {
		t.Run(name, func(t *testing.T) {
			k, svc := kafka(t), service(t)
			topic := k.Topic(t, 4)
			produced := k.ProduceEvenly(t, topic, 4, count, 100)
			sc := rig.NewSidecar(t, t.TempDir(), wiring(k, topic, svc, "KPUSH_SLOW_TIME=1ns", "KPUSH_LOG_LEVEL=debug")...)
			out := sc.StartUnread(t)
			if row.dies {
				_ = out.Close() // closing the read end of a pipe does not fail
			}
			svc.Await(t, count, patience)
			rig.Within(t, patience, "a note about the log", func() bool {
				return strings.Contains(strings.Join(sc.Ask("/readyz").Notes, "\n"), row.note)
			})
			sc.Ready(t, patience)
			begin := time.Now()
			took := sc.Shut(t, patience)
			svc.Judge(produced).Kept(t, 0)
			committedIsEnd(t, k, topic)
			below(t, "A stop of a process whose log nobody reads", begin, took, bound)
			t.Logf("%d messages with a line each into a log whose reader is %s: all delivered, stopped in %v.", count, name, took.Round(time.Millisecond))
		})
	}
}

// TestALogThatIsReadLate has every line there was room for, then a line that says how many are missing.
func TestALogThatIsReadLate(t *testing.T) {
	const count = 12_000
	k, svc := kafka(t), service(t)
	topic := k.Topic(t, 4)
	k.ProduceEvenly(t, topic, 4, count, 100)
	sc := rig.NewSidecar(t, t.TempDir(), wiring(k, topic, svc, "KPUSH_SLOW_TIME=1ns", "KPUSH_LOG_LEVEL=debug")...)
	out := sc.StartUnread(t)
	svc.Await(t, count, patience)
	var lines, missing int
	told := make(chan struct{})
	go func() {
		defer close(told)
		for all := bufio.NewScanner(out); all.Scan(); lines++ {
			if _, number, found := strings.Cut(all.Text(), `"msg":"lines are missing here: nobody read the log, or it could not be written","lines":`); found {
				if _, err := fmt.Sscan(strings.TrimSuffix(number, "}"), &missing); err != nil {
					t.Errorf("A line about missing lines does not say how many: %s", all.Text())
				}
			}
		}
	}()
	rig.Within(t, patience, "the end of the note", func() bool { return !strings.Contains(strings.Join(sc.Ask("/readyz").Notes, "\n"), "the log") })
	sc.Shut(t, 10*time.Second)
	select {
	case <-told:
	case <-time.After(10 * time.Second):
		t.Fatal("The log does not end with the process.")
	}
	if missing == 0 || lines+missing < count {
		t.Errorf("The log has %d lines and says that %d are missing, of %d messages with one each.", lines, missing, count)
	}
	t.Logf("A log read late has %d lines and says that %d are missing.", lines, missing)
}
