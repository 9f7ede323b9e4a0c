package bench

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// programs builds what is compared, and the service, once, and returns their directory. kpush is built as the Dockerfile does.
var programs = sync.OnceValues(func() (string, error) {
	kpush, err := rig.Binary()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(filepath.Dir(kpush), "bench")
	for _, argv := range [][]string{
		{"go", "build", "-o", dir + "/", "./caller", "./floor", "./loop", "./proxy", "./service"},
		{"make", "-s", "-C", "../..", "static", "OUT=" + filepath.Join(dir, "kpush")},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("the programs of the benchmark do not build: %w\n%s", err, out)
		}
	}
	return dir, nil
})

func find(program string) (string, error) {
	dir, err := programs()
	return filepath.Join(dir, program), err
}

// process is one of them, running. Nothing outlives the runner.
type process struct {
	cmd    *exec.Cmd
	log    string
	exited chan struct{}
}

// starter is one thread that never ends: the kernel sends a parent-death signal when the starting thread ends.
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

func start(t rig.T, program string, env ...string) *process {
	t.Helper()
	path, err := find(program)
	if err != nil {
		t.Fatalf("%v", err)
	}
	log, err := os.CreateTemp(t.TempDir(), program+"-*.log")
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer log.Close()
	cmd := exec.Command(path)
	cmd.Env, cmd.Stdout, cmd.Stderr = append([]string{"PATH=" + os.Getenv("PATH")}, env...), log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error)
	starter <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		t.Fatalf("%s does not start: %v", program, err)
	}
	p := &process{cmd: cmd, log: log.Name(), exited: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // the exit code is read from ProcessState
		close(p.exited)
	}()
	t.Cleanup(p.end)
	return p
}

func (p *process) alive() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// end is kill -9: nothing that is measured comes after it.
func (p *process) end() {
	_ = p.cmd.Process.Kill() // fails only when it is gone already
	<-p.exited
}

// said is the end of its log.
func (p *process) said() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// refused is the sentence with which kpush refuses what it cannot do yet, "" where it does not.
func (p *process) refused() string {
	if p.alive() || p.cmd.ProcessState.ExitCode() != 2 {
		return ""
	}
	for line := range strings.Lines(p.said()) {
		if strings.Contains(line, "not supported yet") {
			return "not supported yet"
		}
	}
	return ""
}

// cpu is what the process has used so far, exact to 10 ms.
func (p *process) cpu(t rig.T) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		t.Fatalf("%v\n%s", err, p.said())
	}
	used, err := cpuOf(string(text))
	if err != nil {
		t.Fatalf("%v", err)
	}
	return used
}

// cpuOf adds utime and stime, the 14th and 15th field of /proc/PID/stat; the second one may hold spaces.
func cpuOf(stat string) (time.Duration, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/PID/stat has no CPU time: %q", stat)
	}
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/PID/stat has no CPU time: %q", stat)
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / 100), nil // USER_HZ is 100 on every Linux that Go knows
}

// memory is a field of /proc/PID/status in MiB: VmHWM is the peak, VmRSS the present.
func (p *process) memory(t rig.T, field string) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatalf("%v\n%s", err, p.said())
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			if kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64); err == nil {
				return kib / 1024
			}
		}
	}
	t.Fatalf("/proc/PID/status has no %s", field)
	return 0
}

// service is the business service, a process of its own.
type service struct {
	*process
	port string
}

// count is what the service says of itself; see service/main.go.
type count struct {
	Requests, Messages int64
	First, Last        int64
	P50, P99           time.Duration
}

func startService(t rig.T, env ...string) *service {
	t.Helper()
	s := &service{process: start(t, "service", env...)}
	rig.Within(t, 10*time.Second, "the service's port", func() bool {
		var ok bool
		s.port, ok = strings.CutSuffix(s.said(), "\n")
		return ok
	})
	return s
}

var asker = &http.Client{Timeout: 5 * time.Second}

func (s *service) count(t rig.T) (c count) {
	t.Helper()
	response, err := asker.Get("http://127.0.0.1:" + s.port + "/count")
	if err != nil {
		t.Fatalf("The service does not answer: %v\n%s", err, s.said())
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&c); err != nil {
		t.Fatalf("The service's count cannot be read: %v", err)
	}
	return c
}
