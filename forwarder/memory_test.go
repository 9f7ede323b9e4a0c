package forwarder

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// resident is a line of /proc/self/status in KiB.
func resident(t *testing.T, name string) int {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); fields[0] == name+":" {
			n, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s in /proc/self/status", name)
	return 0
}

// The code that the start needed is unmapped, and what is needed again comes back.
func TestForgetCode(t *testing.T) {
	before := resident(t, "RssFile")
	forgetCode()
	after := resident(t, "RssFile")
	if after > before-1024 { // what runs now comes back at once, and its neighbours with it
		t.Errorf("%d KiB of files are mapped, %d before", after, before)
	}
}

// Memory is given back when messages have stopped coming, and now and then as long as none comes.
func TestMemoryIsGivenBackWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(func(*Delivery) Verdict { return good })).run()
		r.kafka.give(t0)
		tidied := func() (at time.Time) {
			r.kafka.call(func() { at = r.f.tidied })
			return at
		}
		for range 20 {
			r.kafka.produce(t0, 1, 10)
			pass(idleTime / 2)
		}
		if at := tidied(); !at.IsZero() {
			t.Errorf("given back at %s although messages came all the time", at)
		}
		pass(idleTime)
		first := tidied()
		if first.IsZero() {
			t.Error("not given back")
		}
		pass(tidyTime / 2)
		if again := tidied(); again != first {
			t.Error("given back again at once")
		}
		pass(tidyTime)
		if again := tidied(); !again.After(first) {
			t.Error("not given back again")
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}
