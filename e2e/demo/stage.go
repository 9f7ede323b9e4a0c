package main

import (
	"fmt"
	"os"
	"runtime"
)

// stage is what a test is to the rig, for a program: the first failure ends the show, and clean-up always runs.
type stage struct {
	failed   bool
	cleanups []func()
}

func newStage() *stage { return &stage{} }

// run performs the show in a goroutine of its own, which Fatalf can end.
func (s *stage) run(show func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			for i := len(s.cleanups) - 1; i >= 0; i-- {
				s.cleanups[i]()
			}
		}()
		show()
	}()
	<-done
}

func (s *stage) Helper()                         {}
func (s *stage) Name() string                    { return "demo" }
func (s *stage) Logf(format string, args ...any) { fmt.Printf(format+"\n", args...) }
func (s *stage) Failed() bool                    { return s.failed }
func (s *stage) Cleanup(f func())                { s.cleanups = append(s.cleanups, f) }

func (s *stage) Errorf(format string, args ...any) {
	s.failed = true
	fmt.Printf(format+"\n", args...)
}

func (s *stage) Fatalf(format string, args ...any) {
	s.Errorf(format, args...)
	runtime.Goexit()
}

func (s *stage) TempDir() string {
	dir, err := os.MkdirTemp("", "kpush-demo-")
	if err != nil {
		s.Fatalf("%v", err)
	}
	s.Cleanup(func() { _ = os.RemoveAll(dir) }) // under the system's temporary directory anyway
	return dir
}

// ArtifactDir is where the logs of a failed show stay.
func (s *stage) ArtifactDir() string {
	dir, err := os.MkdirTemp("", "kpush-demo-logs-")
	if err != nil {
		s.Fatalf("%v", err)
	}
	fmt.Println("The sidecar's log is in", dir)
	return dir
}
