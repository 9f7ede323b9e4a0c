package rig

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Sidecar is kpush as a process with a volume of its own; both can be started again.
type Sidecar struct {
	Volume string
	health string // address, known once it listens
	api    string // the same
	env    []string
	begin  int // the log's length at the latest start

	process *process
	logFile *os.File
	mu      sync.Mutex
	lines   []Line
	partial []byte
	read    int64
}

// StartSidecar starts the built kpush with the environment, and nothing else, on a volume of its own.
// KPUSH_HEALTH_ADDR and KPUSH_API_ADDR are free ports of loopback unless given.
func StartSidecar(t T, env ...string) *Sidecar {
	t.Helper()
	return StartSidecarOn(t, t.TempDir(), env...)
}

// StartSidecarOn is StartSidecar on a given volume.
func StartSidecarOn(t T, volume string, env ...string) *Sidecar {
	t.Helper()
	sc := NewSidecar(t, volume, env...)
	sc.Start(t)
	return sc
}

// NewSidecar is StartSidecarOn without the start.
func NewSidecar(t T, volume string, env ...string) *Sidecar {
	t.Helper()
	logFile, err := os.CreateTemp(t.TempDir(), "sidecar-*.log")
	if err != nil {
		t.Fatalf("%v", err)
	}
	sc := &Sidecar{Volume: volume, logFile: logFile}
	sc.env = append([]string{"PATH=" + os.Getenv("PATH"), "KPUSH_OFFSETS_DIR=" + volume, "KPUSH_HEALTH_ADDR=127.0.0.1:0", "KPUSH_API_ADDR=127.0.0.1:0"}, env...)
	t.Cleanup(func() {
		if t.Failed() && sc.process != nil {
			sc.testify(t)
		}
		if sc.process != nil {
			sc.process.kill()
		}
		if t.Failed() {
			keep(logFile.Name(), t.ArtifactDir(), filepath.Base(logFile.Name()))
		}
		_ = logFile.Close() // only ever read by path
	})
	return sc
}

// testify puts what the sidecar says of itself into the output of a failed test; one that runs leaves its stacks in its log.
func (sc *Sidecar) testify(t T) {
	if sc.Alive() {
		ready := sc.Ask("/readyz")
		t.Logf("The sidecar runs. /readyz: %d %q %q", ready.Code, ready.Why, ready.Notes)
	}
	t.Logf("The end of its log:\n%s", sc.Tail(15))
	if sc.Alive() && sc.process.signal(syscall.SIGQUIT) == nil {
		sc.process.wait(2 * time.Second)
	}
}

// keep copies a file next to the other artifacts of a failed test.
func keep(file, dir, name string) {
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name), text, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "An artifact is missing:", err)
	}
}

// Set changes the environment of the next start.
func (sc *Sidecar) Set(env ...string) { sc.env = append(sc.env, env...) }

// Start starts it, again if it ran before, on the same volume.
func (sc *Sidecar) Start(t T) {
	t.Helper()
	binary, err := Binary()
	if err != nil {
		t.Fatalf("%v", err)
	}
	sc.launch(t, sc.env, binary)
}

// StartWith is Start with so many file descriptors.
func (sc *Sidecar) StartWith(t T, descriptors int) {
	t.Helper()
	binary, err := Binary()
	if err != nil {
		t.Fatalf("%v", err)
	}
	sc.launch(t, sc.env, "sh", "-c", `ulimit -n "$1" && exec "$2"`, "sh", strconv.Itoa(descriptors), binary)
}

// StartAs is Start on a machine of another host name; it needs root.
func (sc *Sidecar) StartAs(t T, host string) {
	t.Helper()
	binary, err := Binary()
	if err != nil {
		t.Fatalf("%v", err)
	}
	sc.launch(t, sc.env, "unshare", "--uts", "sh", "-c", `hostname "$1" && exec "$2"`, "sh", host, binary)
}

func (sc *Sidecar) launch(t T, env []string, argv ...string) {
	t.Helper()
	sc.health, sc.api, sc.begin = "", "", len(sc.Log())
	sc.launchInto(t, sc.logFile, env, argv...)
}

func (sc *Sidecar) launchInto(t T, log *os.File, env []string, argv ...string) {
	t.Helper()
	var err error
	if sc.process, err = spawn(argv, env, "", log, syscall.SIGKILL); err != nil {
		t.Fatalf("%v", err)
	}
}

// StartUnread is Start with stdout and stderr in a pipe. The caller, who has its other end, reads it, or does not.
func (sc *Sidecar) StartUnread(t T) *os.File {
	t.Helper()
	binary, err := Binary()
	if err != nil {
		t.Fatalf("%v", err)
	}
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer in.Close()
	t.Cleanup(func() { _ = out.Close() }) // the caller may have
	sc.begin = -1                         // its lines are the caller's
	sc.health = fmt.Sprintf("127.0.0.1:%d", Port(t))
	sc.launchInto(t, in, append(sc.env, "KPUSH_HEALTH_ADDR="+sc.health), binary)
	return out
}

// Run runs kpush with arguments in the same environment until it ends by itself, and returns exit code and output.
func (sc *Sidecar) Run(t T, args ...string) (int, string) {
	t.Helper()
	binary, err := Binary()
	if err != nil {
		t.Fatalf("%v", err)
	}
	out, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer out.Close()
	p, err := spawn(append([]string{binary}, args...), sc.env, "", out, syscall.SIGKILL)
	if err != nil {
		t.Fatalf("%v", err)
	}
	code, ended := p.wait(20 * time.Second)
	if !ended {
		p.kill()
		t.Fatalf("kpush %q still runs after 20 s.", args)
	}
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatalf("%v", err)
	}
	return code, string(text)
}

// Kill is kill -9; it returns when the process is gone.
func (sc *Sidecar) Kill() { sc.process.kill() }

// Term asks for a graceful stop. One that was only just started would die of it, so it gets as far as its first line before.
func (sc *Sidecar) Term(t T) {
	t.Helper()
	Until(2*time.Second, func() bool { return len(sc.Log()) > sc.begin || !sc.Alive() }) // some say nothing
	sc.Signal(t, syscall.SIGTERM)
}

// Signal sends any other signal: SIGSTOP, SIGCONT, SIGUSR1.
func (sc *Sidecar) Signal(t T, s syscall.Signal) {
	t.Helper()
	if err := sc.process.signal(s); err != nil {
		t.Fatalf("%v", err)
	}
}

// CPU is what the process used, known once it has ended.
func (sc *Sidecar) CPU() time.Duration {
	if sc.Alive() {
		return 0
	}
	state := sc.process.cmd.ProcessState
	return state.UserTime() + state.SystemTime()
}

// Started says whether it was ever started.
func (sc *Sidecar) Started() bool { return sc.process != nil }

// Alive says whether the process runs.
func (sc *Sidecar) Alive() bool { return sc.process.alive() }

// Wait waits for the end of the process, wants the exit code, and returns how long that took.
func (sc *Sidecar) Wait(t T, code int, limit time.Duration) time.Duration {
	t.Helper()
	begin := time.Now()
	got, ended := sc.process.wait(limit)
	switch {
	case !ended:
		t.Fatalf("The sidecar still runs after %v.\n%s", limit, sc.Tail(10))
	case got != code:
		t.Fatalf("The sidecar ended with exit code %d, not %d.\n%s", got, code, sc.Tail(10))
	}
	return time.Since(begin)
}

// Shut is SIGTERM and a graceful end within the limit.
func (sc *Sidecar) Shut(t T, limit time.Duration) time.Duration {
	t.Helper()
	sc.Term(t)
	return sc.Wait(t, 0, limit)
}

// Answer is what /healthz or /readyz says.
type Answer struct {
	OK    bool     `json:"ok"`
	Why   []string `json:"why"`
	Notes []string `json:"notes"`
	Code  int      `json:"-"`
}

// HealthAddr is where /healthz and /readyz are, "" until it listens.
func (sc *Sidecar) HealthAddr() string {
	if sc.health == "" {
		sc.health = sc.listens("health server listens")
	}
	return sc.health
}

// API is where the status page and the commands are, "" until it listens.
func (sc *Sidecar) API() string {
	if sc.api == "" {
		sc.api = sc.listens("api listens")
	}
	return sc.api
}

// listens is the address in the newest such line of this start.
func (sc *Sidecar) listens(message string) (addr string) {
	for _, line := range sc.Log()[max(0, sc.begin):] {
		if line.Message == message {
			addr, _ = line.Fields["addr"].(string)
		}
	}
	return addr
}

var asker = &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// Ask gets /healthz or /readyz; Code is 0 while nothing listens.
func (sc *Sidecar) Ask(path string) Answer {
	addr := sc.HealthAddr()
	if addr == "" {
		return Answer{}
	}
	response, err := asker.Get("http://" + addr + path)
	if err != nil {
		return Answer{Why: []string{err.Error()}}
	}
	defer response.Body.Close()
	answer := Answer{}
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&answer); err != nil {
		answer.Why = append(answer.Why, "the answer is not JSON: "+err.Error())
	}
	answer.Code = response.StatusCode
	return answer
}

// Ready waits until /readyz says yes and returns how long that took.
func (sc *Sidecar) Ready(t T, limit time.Duration) time.Duration {
	t.Helper()
	var last Answer
	took, ok := Until(limit, func() bool { last = sc.Ask("/readyz"); return last.Code == http.StatusOK || !sc.Alive() })
	if !ok || last.Code != http.StatusOK {
		t.Fatalf("The sidecar is not ready after %v: %d %q\n%s", took.Round(time.Millisecond), last.Code, last.Why, sc.Tail(10))
	}
	return took
}
