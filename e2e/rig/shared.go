package rig

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
)

var shared struct {
	sync.Mutex
	kafka *Kafka
	err   error
	dir   string
	left  []string
}

// findRunner looks once for a way to run brokers. KPUSH_E2E_KAFKA=jars or =container allows only that way.
var findRunner = sync.OnceValues(func() (runner, error) {
	only := os.Getenv("KPUSH_E2E_KAFKA")
	var why []error
	if only != "jars" {
		c, err := findContainers()
		if err == nil {
			return c, nil
		}
		why = append(why, err)
	}
	if only != "container" {
		j, err := findJars()
		if err == nil {
			return j, nil
		}
		why = append(why, err)
	}
	return nil, fmt.Errorf("no real Kafka can be had: %w", errors.Join(why...))
})

// findControlled prefers jars: their processes can be killed and frozen in microseconds.
var findControlled = sync.OnceValues(func() (runner, error) {
	if os.Getenv("KPUSH_E2E_KAFKA") != "container" {
		if j, err := findJars(); err == nil {
			return j, nil
		}
	}
	return findRunner()
})

// Shared returns the broker that all stories of this process use side by side: KPUSH_TEST_BROKERS if set,
// else a container, else the jars.
func Shared(t T) *Kafka {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.kafka == nil && shared.err == nil {
		shared.kafka, shared.err = startShared()
		if shared.err == nil {
			t.Logf("The stories run on %s.", shared.kafka)
		}
	}
	if shared.err != nil {
		leaveOut(t, shared.err)
	}
	return shared.kafka
}

func startShared() (*Kafka, error) {
	if brokers := os.Getenv("KPUSH_TEST_BROKERS"); brokers != "" {
		return connect(&Kafka{Brokers: brokers})
	}
	run, err := findRunner()
	if err != nil {
		return nil, err
	}
	if shared.dir, err = os.MkdirTemp("", "kpush-e2e-"); err != nil {
		return nil, err
	}
	return startKafka(run, shared.dir, 1)
}

// leaveOut skips a story that needs a real Kafka, or fails it where one is required.
func leaveOut(t T, why error) {
	t.Helper()
	skipper, can := t.(interface{ Skipf(string, ...any) })
	if os.Getenv("KPUSH_E2E_KAFKA") != "" || !can {
		t.Fatalf("KPUSH_E2E_KAFKA asks for a real Kafka: %v", why)
	}
	shared.left = append(shared.left, t.Name())
	skipper.Skipf("%v", why)
}

func leftOut() string {
	if len(shared.left) == 0 {
		return ""
	}
	return "NOT RUN for want of a real Kafka (Docker, or a JDK 17 with Maven): " + strings.Join(shared.left, ", ")
}

func closeShared() {
	if shared.kafka != nil {
		shared.kafka.close(false, nil)
	}
	if shared.dir != "" {
		_ = os.RemoveAll(shared.dir) // under the system's temporary directory anyway
	}
}
