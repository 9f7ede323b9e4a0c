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
	if after > before*3/4 {
		t.Errorf("%d KiB of files are mapped, %d before", after, before)
	}
}

// Memory is given back once when messages have stopped coming, and then the loop looks less often.
func TestMemoryIsGivenBackOnceAfterEachBusyTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(func(*Delivery) Verdict { return good })).run()
		r.kafka.give(t0)
		r.kafka.produce(t0, 10, 10)
		idle := func() (is bool) {
			r.kafka.call(func() { is = r.f.busy.IsZero() })
			return is
		}
		pass(idleTime / 2)
		if idle() {
			t.Error("idle although messages came just now")
		}
		pass(idleTime)
		if !idle() {
			t.Error("not idle")
		}
		r.kafka.produce(t0, 1, 10)
		pass(time.Second)
		if idle() {
			t.Error("idle although a message came")
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}
