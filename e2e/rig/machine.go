package rig

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// Machine has a disk of its own, an ext4 in a file, and can lose its power. It needs root and a loop device.
type Machine struct {
	Disk  string // where it is mounted
	image string
	boot  string // the file that is its boot id
	boots int
}

// NewMachine returns why it cannot be had here as an error.
func NewMachine(t T, mib int, options string) (*Machine, error) {
	t.Helper()
	if os.Getuid() != 0 {
		return nil, fmt.Errorf("a disk that can fail needs root, for mount and a loop device")
	}
	dir := t.TempDir()
	m := &Machine{Disk: filepath.Join(dir, "disk"), image: filepath.Join(dir, "image"), boot: filepath.Join(dir, "boot_id")}
	if err := os.Mkdir(m.Disk, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(m.image, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(m.image, int64(mib)<<20); err != nil {
		return nil, err
	}
	if err := tool("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^resize_inode", m.image); err != nil {
		return nil, err
	}
	if err := m.mount(options); err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = tool("umount", "-l", m.Disk) }) // a story may have left it without
	m.Reboot(t)
	return m, nil
}

func tool(argv ...string) error {
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (m *Machine) mount(options string) error {
	return tool("mount", "-o", strings.TrimSuffix("loop,"+options, ","), m.image, m.Disk)
}

// Reboot gives the machine another boot id.
func (m *Machine) Reboot(t T) {
	t.Helper()
	m.boots++
	if err := os.WriteFile(m.boot, fmt.Appendf(nil, "%08d-0000-4000-8000-%012d\n", m.boots, os.Getpid()), 0o644); err != nil {
		t.Fatalf("%v", err)
	}
}

// Start starts a sidecar on this machine: it sees the machine's boot id, in a mount namespace of its own.
func (m *Machine) Start(t T, sc *Sidecar) {
	t.Helper()
	binary, err := Binary()
	if err != nil {
		t.Fatalf("%v", err)
	}
	sc.launch(t, sc.env, "unshare", "--mount", "sh", "-c", `mount --bind "$1" /proc/sys/kernel/random/boot_id && exec "$2"`, "sh", m.boot, binary)
}

// PowerCut takes the power away from the machine and the sidecar on it, and gives it back to the machine alone: what was
// not synced is lost, and the boot id is another one.
func (m *Machine) PowerCut(t T, sc *Sidecar) {
	t.Helper()
	sc.Freeze(t)
	if err := m.shutDown(); err != nil {
		t.Fatalf("%v", err)
	}
	sc.Kill()
	m.Remount(t, "")
	m.Reboot(t)
}

// Freeze is SIGSTOP, and returns when it has taken effect.
func (sc *Sidecar) Freeze(t T) {
	t.Helper()
	sc.Signal(t, syscall.SIGSTOP)
	stat := fmt.Sprintf("/proc/%d/stat", sc.process.cmd.Process.Pid)
	Within(t, 5*time.Second, "the stop of the process", func() bool {
		text, err := os.ReadFile(stat)
		return err != nil || strings.Contains(string(text), ") T ")
	})
}

// shutDown stops the file system at once: from here nothing reaches the disk, not even its journal.
func (m *Machine) shutDown() error {
	const shutdown, noLogFlush = 0x8004587d, 2
	d, err := os.Open(m.Disk)
	if err != nil {
		return err
	}
	defer d.Close()
	flag := uint32(noLogFlush)
	return ioctl(d, "EXT4_IOC_SHUTDOWN", shutdown, unsafe.Pointer(&flag))
}

func ioctl(d *os.File, name string, request uintptr, argument unsafe.Pointer) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, d.Fd(), request, uintptr(argument)); errno != 0 {
		return os.NewSyscallError("ioctl "+name, errno)
	}
	return nil
}

// Hold freezes the file system: whoever writes waits until the function that it returns is called.
func (m *Machine) Hold(t T) (thaw func()) {
	t.Helper()
	const freeze, unfreeze = 0xc0045877, 0xc0045878
	d, err := os.Open(m.Disk)
	if err != nil {
		t.Fatalf("%v", err)
	}
	if err := ioctl(d, "FIFREEZE", freeze, nil); err != nil {
		t.Fatalf("%v", err)
	}
	thaw = sync.OnceFunc(func() {
		defer d.Close()
		if err := ioctl(d, "FITHAW", unfreeze, nil); err != nil {
			t.Errorf("%v", err)
		}
	})
	t.Cleanup(thaw)
	return thaw
}

// Die makes every write to the disk fail from now on, with the machine running.
func (m *Machine) Die(t T) {
	t.Helper()
	if err := m.shutDown(); err != nil {
		t.Fatalf("%v", err)
	}
}

// Remount takes the disk out and in again; its journal is replayed. No process may use it.
func (m *Machine) Remount(t T, options string) {
	t.Helper()
	var err error
	if _, ok := Until(10*time.Second, func() bool { err = tool("umount", m.Disk); return err == nil }); !ok {
		t.Fatalf("%v", err)
	}
	// a mount namespace that has ended may hold the file system for a moment longer: it has to be read anew
	Within(t, 10*time.Second, "the end of the loop device", func() bool {
		out, err := exec.Command("losetup", "-j", m.image).Output()
		return err == nil && len(out) == 0
	})
	if err := m.mount(options); err != nil {
		t.Fatalf("%v", err)
	}
	probe := filepath.Join(m.Disk, "probe")
	if err := os.WriteFile(probe, []byte("alive"), 0o600); err != nil {
		t.Fatalf("The disk came back as it was, shut down: something else holds it: %v", err)
	}
	_ = os.Remove(probe) // it is in nobody's way
}

// Fill leaves no room on the disk until the function that it returns is called.
func (m *Machine) Fill(t T) (empty func()) {
	t.Helper()
	path := filepath.Join(m.Disk, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer f.Close()
	for size := 1 << 20; size >= 512; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("The disk does not get full: %v", err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatalf("%v", err)
		}
	}
}

// ErrorReadOnly lets the kernel find an error in the file system, which was mounted with errors=remount-ro.
func (m *Machine) ErrorReadOnly(t T) {
	t.Helper()
	out, err := exec.Command("findmnt", "-n", "-o", "SOURCE", m.Disk).Output()
	if err != nil {
		t.Fatalf("findmnt %s: %v", m.Disk, err)
	}
	trigger := filepath.Join("/sys/fs/ext4", filepath.Base(strings.TrimSpace(string(out))), "trigger_fs_error")
	if err := os.WriteFile(trigger, []byte("kpush e2e"), 0o200); err != nil {
		t.Fatalf("%v", err)
	}
}

// Inject makes system calls of the running sidecar fail or wait, each as strace writes it (fdatasync:error=EIO), until the
// function that it returns is called. CanInject says whether that works here.
func (sc *Sidecar) Inject(t T, faults ...string) (heal func()) {
	t.Helper()
	pid := sc.process.cmd.Process.Pid
	argv := []string{"strace", "-f", "-qq", "-o", "/dev/null", "-p", fmt.Sprint(pid)}
	for _, f := range faults {
		name, _, _ := strings.Cut(f, ":")
		argv = append(argv, "-e", "trace="+name, "-e", "inject="+f)
	}
	p, err := spawn(argv, os.Environ(), "", sc.logFile, syscall.SIGTERM)
	if err != nil {
		t.Fatalf("%v", err)
	}
	stop := func() {
		if p.alive() {
			_ = p.signal(syscall.SIGTERM) // it detaches
			if _, ended := p.wait(10 * time.Second); !ended {
				p.kill()
			}
		}
	}
	t.Cleanup(stop)
	Within(t, 10*time.Second, "strace's hold on every thread", func() bool {
		if !p.alive() {
			t.Fatalf("strace has ended: %s", sc.Tail(3))
		}
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
		for _, file := range threads {
			if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), "\nTracerPid:\t0\n") {
				return false
			}
		}
		return len(threads) > 0
	})
	return stop
}

// CanInject is nil where Inject works: strace is there, and allowed.
func CanInject() error {
	if err := tool("strace", "-qq", "-o", "/dev/null", "-e", "inject=fdatasync:error=EIO", "true"); err != nil {
		return fmt.Errorf("system calls cannot be made to fail here: %w", err)
	}
	if scope, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); err == nil && os.Getuid() != 0 && strings.TrimSpace(string(scope)) != "0" {
		return fmt.Errorf("system calls cannot be made to fail here: ptrace_scope is %s", strings.TrimSpace(string(scope)))
	}
	return nil
}
