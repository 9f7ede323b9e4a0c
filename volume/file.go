package volume

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// File is one whose every write is followed. A write may be partial after an error; nothing is durable before Sync returns nil.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Sync() error
	Unfit() string // why it is of no use any more to write to it, after its name; "": it is
}

// file is a File of the operating system's.
type file struct {
	*os.File
	fd int // for a write without what os.File does around it: its owner never writes or syncs once it began to close
}

// New is f as a File.
func New(f *os.File) File { return file{f, int(f.Fd())} }

// Open is a file that there is, for reading and writing.
func Open(path string) (File, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return New(f), nil
}

// Create makes a file, or replaces one. It is written whole under another name, so that there is never half of it; fill has to sync.
func Create(path string, fill func(File) error) error {
	f, err := os.OpenFile(path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	err = fill(New(f))
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(path + ".new") // half a new file, known to nobody
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir puts the names in a directory on the disk.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// AppendLine adds a line or leaves the file as it was: half a line would spoil the next one. One that a crash has left is ended
// first. The file is opened anew each time, so that it can be rotated or removed.
func AppendLine(path string, line []byte) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer file.Close() // what matters is synced
	end, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if last := []byte{0}; end > 0 {
		if _, err := file.ReadAt(last, end-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			line = append([]byte{'\n'}, line...)
		}
	}
	if _, err = file.Write(line); err == nil {
		err = file.Sync()
	}
	if err == nil && end == 0 {
		err = SyncDir(filepath.Dir(path))
	}
	if err != nil {
		_ = file.Truncate(end)
	}
	return err
}

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

// Sync does not write the times of the file.
func (f file) Sync() error {
	for {
		if err := syscall.Fdatasync(f.fd); err != syscall.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

// Unfit may be asked while the file is being closed: its number may be another file's by then.
func (f file) Unfit() (why string) {
	const readOnly = 1 // ST_RDONLY
	conn, err := f.SyscallConn()
	if err != nil {
		return ""
	}
	_ = conn.Control(func(fd uintptr) {
		var on syscall.Statfs_t
		var is syscall.Stat_t
		switch {
		case syscall.Fstat(int(fd), &is) == nil && is.Nlink == 0:
			why = "was removed: what is recorded is gone with this process. See to the volume, and start kpush again"
		case syscall.Fstatfs(int(fd), &on) == nil && on.Flags&readOnly != 0:
			why = "is on a read-only file system: nothing is delivered until it can be written again"
		}
	})
	return why
}
