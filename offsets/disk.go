package offsets

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/kpush/kpush/volume"
)

// disk is where the file is.
type disk = volume.File

func filePath(dir string) string { return filepath.Join(dir, "offsets") }

// openFile opens the file of a volume, made new where there is none.
func openFile(dir string, o Options) (disk, error) {
	f, err := volume.Open(filePath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		if err = create(dir, o); err == nil {
			f, err = volume.Open(filePath(dir))
		}
	}
	if err != nil {
		return nil, unusable(dir, err)
	}
	return f, nil
}

// create writes all of the file, so that a full disk later cannot stop a write into it.
func create(dir string, o Options) error {
	return volume.Create(filePath(dir), func(f disk) error {
		if err := fill(f, o); err != nil {
			return err
		}
		Crash("file written, not named")
		return nil
	})
}

func fill(d disk, o Options) error {
	var zeros [16 << 10]byte
	first, size := newFile(o)
	for at := int64(0); at < size; at += int64(len(zeros)) {
		if _, err := d.WriteAt(zeros[:min(int64(len(zeros)), size-at)], at); err != nil {
			return err
		}
	}
	if _, err := d.WriteAt(first, 0); err != nil {
		return err
	}
	return d.Sync()
}

// newFile is how a file begins, and its size: the first half sealed and empty, then zeros.
func newFile(o Options) (first []byte, size int64) {
	o = o.complete()
	half := cmp.Or(o.half, defaultHalf)
	first, _ = new(table).snapshot(header{size: half, generation: 1, life: uint32(o.random()), volume: o.random(),
		created: o.Now().Unix(), boot: o.boot})
	return first, 2 * half
}

// lockDir keeps every other process off a volume until the file is closed. The kernel does that when the process ends, however it
// ends.
func lockDir(dir string) (*os.File, error) {
	if err := isVolume(dir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, unusable(dir, err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil {
		defer f.Close()
		if err != syscall.EWOULDBLOCK {
			return nil, unusable(dir, os.NewSyscallError("flock", err))
		}
		holder, _ := io.ReadAll(io.LimitReader(f, 300)) // only for the sentence
		return nil, &OpenError{Reason: ErrLocked, Path: dir, Sentence: fmt.Sprintf(
			"another kpush process (%s) uses volume %s: one process per volume", strings.TrimSpace(string(holder)), dir)}
	}
	host, _ := os.Hostname()
	_ = f.Truncate(0) // the flock is the lock; what the file says is only for the sentence
	_, _ = f.WriteAt(fmt.Appendf(nil, "pid %d on %s\n", os.Getpid(), host), 0)
	return f, nil
}

// isVolume says why there is no directory by this name.
func isVolume(dir string) error {
	st, err := os.Stat(dir)
	if err != nil {
		return unusable(dir, err)
	}
	if !st.IsDir() {
		return &OpenError{Reason: ErrVolume, Path: dir,
			Sentence: fmt.Sprintf("%s is not a directory: set KPUSH_OFFSETS_DIR to the directory where the volume is mounted", dir)}
	}
	return nil
}

// Lock takes a volume for a process that keeps no file on it, and shows that files can be made there. Nobody can Lock or
// Open it until it is released.
func Lock(dir string) (release func(), err error) {
	lock, err := lockProbe(dir)
	if err != nil {
		return nil, err
	}
	return func() { _ = lock.Close() }, nil
}

// lockProbe is lockDir, and shows that files can be made there.
func lockProbe(dir string) (*os.File, error) {
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	probe, err := os.CreateTemp(dir, "probe-")
	if err == nil {
		err = errors.Join(probe.Close(), os.Remove(probe.Name()))
	}
	if err != nil {
		_ = lock.Close()
		return nil, unusable(dir, err)
	}
	return lock, nil
}

// unusable explains why a directory or the file in it cannot be used, and what to do.
func unusable(dir string, err error) error {
	advice := "check the volume"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		advice = "create it, or mount the volume there, or set KPUSH_OFFSETS_DIR"
	case errors.Is(err, fs.ErrPermission):
		advice = fmt.Sprintf("give user id %d write access to it", os.Getuid())
	case errors.Is(err, syscall.EROFS):
		advice = "mount the volume writable"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		advice = "make room on the volume: kpush needs 8 MiB once"
	}
	return &OpenError{Reason: errors.Join(ErrVolume, err), Path: dir,
		Sentence: fmt.Sprintf("the volume %s cannot be used (%v): %s", dir, err, advice)}
}

// bootID changes with every start of the machine; "" where the system has none.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return fmt.Sprintf("unknown, read at %d", time.Now().UnixNano()) // never the same: rather in doubt than wrong
	}
	return strings.TrimSpace(string(b))
}
