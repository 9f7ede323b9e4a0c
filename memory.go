package main

import (
	"runtime/debug"

	"github.com/kpush/kpush/kafka/librdkafka"
)

// giveBack gives memory back to the system that an idle process does not need: Go's, and librdkafka's.
func giveBack() {
	debug.FreeOSMemory()
	librdkafka.Trim()
}
