package rig

import (
	"fmt"
	"sync"
	"time"
)

// StartToCrash starts a build that dies as by kill -9 when it comes to the named point for the nth time.
func (sc *Sidecar) StartToCrash(t T, point string, n int) {
	t.Helper()
	binary, err := crashing()
	if err != nil {
		t.Fatalf("%v", err)
	}
	sc.launch(t, append(sc.env[:len(sc.env):len(sc.env)], fmt.Sprintf("CRASH_AT=%s:%d", point, n)), binary)
}

// crashing builds the binary that has crash points.
var crashing = sync.OnceValues(func() (string, error) {
	plain, err := Binary()
	if err != nil {
		return "", err
	}
	root, err := goCommand("", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return "", err
	}
	path := plain + "-crash"
	_, err = goCommand(root, "build", "-tags", "crashpoints", "-o", path, ".")
	return path, err
})

// Dead waits until the process has been ended by SIGKILL.
func (sc *Sidecar) Dead(t T, limit time.Duration) {
	t.Helper()
	if code, ended := sc.process.wait(limit); !ended || code != -1 {
		t.Fatalf("The sidecar was to die by SIGKILL within %v (ended %t, exit code %d).\n%s", limit, ended, code, sc.Tail(10))
	}
}
