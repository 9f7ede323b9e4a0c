// Package rig is the bench on which the built kpush is tried: a real Kafka or an embedded one, a business
// service that remembers every request and can misbehave on demand, and the sidecar as a process of its own
// that can be killed, stopped and started again. The stories, the demo and the benchmarks stand on it.
//
// Everything listens on loopback, every wait is bounded, and no process outlives the one that started it:
// children carry a parent-death signal (which makes the rig Linux only).
package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// T is what the rig needs of a test. *testing.T and *testing.B have it; the demo brings its own.
type T interface {
	Helper()
	Name() string
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Failed() bool
	Cleanup(func())
	TempDir() string
	ArtifactDir() string
}

// Within polls until holds says true and fails the test with what was awaited after the limit.
// It returns how long that took.
func Within(t T, limit time.Duration, what string, holds func() bool) time.Duration {
	t.Helper()
	took, ok := Until(limit, holds)
	if !ok {
		t.Fatalf("%s did not happen within %v.", what, limit)
	}
	return took
}

// Until is Within for callers that go on either way.
func Until(limit time.Duration, holds func() bool) (time.Duration, bool) {
	begin := time.Now()
	for !holds() {
		if time.Since(begin) > limit {
			return time.Since(begin), holds()
		}
		time.Sleep(2 * time.Millisecond)
	}
	return time.Since(begin), true
}

// Throughout asks again and again for as long as the time given whether all is still well, and fails the test
// with the first answer that is not nil.
func Throughout(t T, length time.Duration, well func() error) {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < length; time.Sleep(20 * time.Millisecond) {
		if err := well(); err != nil {
			t.Fatalf("%v into %v: %v", time.Since(begin).Round(time.Millisecond), length, err)
		}
	}
}

// Main runs a test binary's tests and takes the shared broker down afterwards; then the stories run once more that have
// only missed a bound of time. Where no real Kafka or no browser could be had it names the stories that were left out, on stdout and in
// the file named by KPUSH_E2E_NOTE.
func Main(m *testing.M) int {
	watch()
	if signal.Ignored(syscall.SIGHUP) { // under nohup; what is started here would ignore it, too, and is to hear of it
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	code := m.Run()
	closeShared()
	if code == 0 {
		code = tellOnceMore()
	}
	for _, note := range []string{leftOut(), leftWanting()} {
		if note == "" {
			continue
		}
		fmt.Println(note)
		if file := os.Getenv("KPUSH_E2E_NOTE"); file != "" {
			if err := appendTo(file, note+"\n"); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
	}
	return code
}

func appendTo(file, text string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

// Binary builds kpush once per process and returns its path; with KPUSH_E2E_RACE=1 the race detector is in it.
var Binary = sync.OnceValues(func() (string, error) {
	root, err := goCommand("", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return "", err
	}
	name, args := "kpush-e2e", []string{"build"}
	if os.Getenv("KPUSH_E2E_RACE") == "1" {
		name, args = "kpush-e2e-race", append(args, "-race")
	}
	dir, err := cache()
	if err != nil {
		return "", err
	}
	// one file per checkout, so that two checkouts do not test each other's binary
	path := filepath.Join(dir, strings.ReplaceAll(strings.Trim(root, "/"), "/", "-"), name)
	if _, err := goCommand(root, append(args, "-o", path, ".")...); err != nil {
		return "", err
	}
	return path, nil
})

func goCommand(dir string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go %s failed: %w\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// cache is where things that are dear to make are kept between runs.
func cache() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, "kpush-e2e")
	return dir, os.MkdirAll(dir, 0o755)
}
