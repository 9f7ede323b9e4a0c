//go:build crashpoints

package offsets

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// CRASH_AT=NAME:N ends the process with SIGKILL when it comes to the point NAME for the N-th time.
var (
	crashName, crashCount, _ = strings.Cut(os.Getenv("CRASH_AT"), ":")
	crashLeft                atomic.Int64
)

func init() {
	n, err := strconv.ParseInt(crashCount, 10, 64)
	if err != nil {
		n = 1
	}
	crashLeft.Store(n)
}

// Crash ends the process at a named point, as kill -9 does.
func Crash(point string) {
	if point == crashName && crashLeft.Add(-1) == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}
