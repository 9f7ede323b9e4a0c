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
)

// disk is the file as this package uses it. A write may be partial after an error; nothing is durable before Sync returns nil.
type disk interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Sync() error
	ReadOnly() bool
}

func filePath(dir string) string { return filepath.Join(dir, "offsets") }

// file is the real disk.
type file struct {
	*os.File
	fd int // for a write without what os.File does around it: a Store never writes or syncs once it began to close
}

func newFileDisk(f *os.File) file { return file{f, int(f.Fd())} }

func (f file) WriteAt(b []byte, off int64) (int, error) {
	n := 0
	for n < len(b) {
		m, err := syscall.Pwrite(f.fd, b[n:], off+int64(n))
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return n, os.NewSyscallError("pwrite", err)
		case m == 0:
			return n, io.ErrShortWrite
		default:
			n += m
		}
	}
	return n, nil
}

func (f file) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// Sync does not write the times of the file: its size never changes.
func (f file) Sync() error {
	for {
		if err := syscall.Fdatasync(f.fd); err != syscall.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

// ReadOnly may be asked while the file is being closed: its number may be another file's by then.
func (f file) ReadOnly() bool {
	const readOnly = 1 // ST_RDONLY
	var st syscall.Statfs_t
	conn, err := f.SyscallConn()
	if err != nil {
		return false
	}
	var failed error
	err = conn.Control(func(fd uintptr) { failed = syscall.Fstatfs(int(fd), &st) })
	return err == nil && failed == nil && st.Flags&readOnly != 0
}

// openFile opens the file of a volume, made new where there is none.
func openFile(dir string, o Options) (disk, error) {
	path := filePath(dir)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err = create(dir, o); err == nil {
			f, err = os.OpenFile(path, os.O_RDWR, 0)
		}
	}
	if err != nil {
		return nil, unusable(dir, err)
	}
	return newFileDisk(f), nil
}

// create writes the whole file under another name, so that there is never half a file, and a full disk later cannot stop a
// write into it.
func create(dir string, o Options) error {
	path := filePath(dir) + ".new"
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	err = fill(newFileDisk(f), o)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(path) // half a new file, known to nobody
		return err
	}
	Crash("file written, not named")
	if err := os.Rename(path, filePath(dir)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
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
	first, _ = table{}.snapshot(header{size: half, generation: 1, life: uint32(o.random()), volume: o.random(),
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
	return func() { _ = lock.Close() }, nil
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
