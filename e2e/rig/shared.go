package rig

import (
	"errors"
	"fmt"
	"os"
	"slices"
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

var errNoKafka = errors.New("no real Kafka can be had")

// runners are the ways to run brokers here, containers first. KPUSH_E2E_KAFKA=jars or =container allows only that way.
var runners = sync.OnceValues(func() ([]runner, error) {
	only := os.Getenv("KPUSH_E2E_KAFKA")
	var ways []runner
	var why []error
	if only != "jars" {
		if c, err := findContainers(); err == nil {
			ways = append(ways, c)
		} else {
			why = append(why, err)
		}
	}
	if only != "container" {
		if j, err := findJars(); err == nil {
			ways = append(ways, j)
		} else {
			why = append(why, err)
		}
	}
	if len(ways) == 0 {
		return nil, fmt.Errorf("%w: %w", errNoKafka, errors.Join(why...))
	}
	return ways, nil
})

// controlled prefers jars: their processes can be killed and frozen in microseconds.
func controlled() ([]runner, error) {
	ways, err := runners()
	ways = slices.Clone(ways)
	slices.Reverse(ways)
	return ways, err
}

// startFirst starts the cluster in the first way that works: an engine may answer and yet run nothing.
func startFirst(ways []runner, dir string, nodes int, props ...string) (*Kafka, error) {
	var why []error
	for _, way := range ways {
		k, err := startKafka(way, dir, nodes, props...)
		if err == nil {
			return k, nil
		}
		why = append(why, err)
	}
	return nil, errors.Join(why...)
}

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
	ways, err := runners()
	if err != nil {
		return nil, err
	}
	if shared.dir, err = os.MkdirTemp("", "kpush-e2e-"); err != nil {
		return nil, err
	}
	return startFirst(ways, shared.dir, 1)
}

// leaveOut skips a story where no real Kafka can be had; it fails where one is required, or was found and broke.
func leaveOut(t T, why error) {
	t.Helper()
	skipper, can := t.(interface{ Skipf(string, ...any) })
	if os.Getenv("KPUSH_E2E_KAFKA") != "" || !errors.Is(why, errNoKafka) || !can {
		t.Fatalf("%v", why)
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
