package rig

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// process is one child. It is only ever signalled by its own handle.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
}

// starter runs functions on one thread that never ends: the kernel sends a parent-death signal when the
// thread that started the child ends, not when the process does.
var starter = func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
}()

// spawn starts argv with exactly env, its output going to log; death is the signal it gets if we die first.
func spawn(argv, env []string, dir string, log *os.File, death syscall.Signal) (*process, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = env, dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: death, Setpgid: true}
	started := make(chan error)
	starter <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("%s does not start: %w", argv[0], err)
	}
	p := &process{cmd: cmd, exited: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // the exit code is read from ProcessState
		close(p.exited)
	}()
	return p, nil
}

func (p *process) alive() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

func (p *process) signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %v to process %d: %w", s, p.cmd.Process.Pid, err)
	}
	return nil
}

// wait returns the exit code: -1 for a death by signal, and false if it still runs after the limit.
func (p *process) wait(limit time.Duration) (int, bool) {
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode(), true
	case <-time.After(limit):
		return 0, false
	}
}

// kill ends it for good, also when it is stopped, and waits until it is gone.
func (p *process) kill() {
	_ = p.signal(syscall.SIGKILL) // fails only when it is gone already
	<-p.exited
}

// Spent is the processor's time that the running process has had so far, to 10 ms.
func (sc *Sidecar) Spent(t T) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", sc.process.cmd.Process.Pid))
	if err != nil {
		t.Fatalf("%v", err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // behind the name
	fields := strings.Fields(rest)
	var user, system int64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		t.Fatalf("/proc/PID/stat has no times: %v", err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// Peak is the most memory that the running process had so far, in MiB.
func (sc *Sidecar) Peak(t T) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", sc.process.cmd.Process.Pid))
	if err != nil {
		t.Fatalf("%v", err)
	}
	var kib float64
	_, rest, found := strings.Cut(string(text), "\nVmHWM:")
	if _, err := fmt.Sscan(rest, &kib); !found || err != nil {
		t.Fatalf("/proc/PID/status has no VmHWM: %v", err)
	}
	return kib / 1024
}
