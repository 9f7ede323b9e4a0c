package main

import (
	"os"
	"runtime/debug"
	"syscall"

	"github.com/kpush/kpush/config"
	"github.com/kpush/kpush/kafka/librdkafka"
)

// idleMost is what the process holds at the most while it is idle, in bytes: 8 MiB of its own at the most, the rest is the program, whose pages
// the kernel takes back where it needs them.
const idleMost = 28 << 20

// memory is what to plan for, in bytes. Half of KPUSH_BUFFER is librdkafka's. The other half is Go's, whose collector lets garbage grow to
// the size of what is alive, so it counts twice. docs/benchmarks.md holds the peak against it. Not in it: what the service answers, up to
// 1 MiB a request where it says so much.
func memory(c *config.Config) int64 { return idleMost + int64(c.Buffer)*3/2 }

// largeMemory is what to plan for where messages are larger than a MiB, beside twice the largest one: of those one is delivered, and
// another one is unpacked or stuck.
func largeMemory(c *config.Config) int64 { return 64<<20 + int64(c.Buffer) }

// makeRoom has Go's collector hold to that as soon as a message of so many bytes has come: librdkafka has two of them for moments, one that
// is being copied and one that it unpacks, and some MiB of its own. Go has to have room for one beside another all the same.
func makeRoom(c *config.Config) func(size int64) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return nil // the user's
	}
	return func(size int64) { debug.SetMemoryLimit(max(largeMemory(c)-librdkafkaMost, 2*size+16<<20)) }
}

// librdkafkaMost is what librdkafka, the program and what is not Go's take without a message, in bytes.
const librdkafkaMost = 20 << 20

// publishMemory is what the door may take at the most: bodies, and records in the client's queue; with the spool, bodies as they are to be
// written, too, each by itself and together, base64.
func publishMemory(c *config.Config) int64 {
	if c.PublishSpool > 0 {
		return 5 * int64(c.Buffer)
	}
	return 2 * int64(c.Buffer)
}

// descriptorsKept are for the health port, Kafka's sockets and files, whatever the service and callers take; a quarter where there are few.
const descriptorsKept = 32

// descriptors is how many the connections to the service, and those of callers, may use.
func descriptors() int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	most := int(min(limit.Cur, 1<<30))
	return most - min(descriptorsKept, most/4)
}

// giveBack gives memory back to the system that an idle process does not need: Go's, and librdkafka's.
func giveBack() {
	debug.FreeOSMemory()
	librdkafka.Trim()
}
