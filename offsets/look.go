package offsets

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Volume is what Look finds of one that can be used.
type Volume struct {
	Free       int64  // bytes that there is room for; -1: the file system does not say
	Holder     string // the process that has it, in words; "" where nobody does
	New        bool   // there is no offsets file
	Partitions int    // that the file knows
}

// Look finds out whether Open would take the volume dir or, where keeps is false, Lock would. It changes nothing there. The error is
// theirs, but for a volume that another process holds: that is in Volume, and the file is looked at as well. To find it Look has to
// hold the lock itself for the time of one system call; a process that starts in just this moment is refused.
func Look(dir string, keeps bool) (v Volume, err error) {
	if err := isVolume(dir); err != nil {
		return v, err
	}
	lock, inside := filepath.Join(dir, "lock"), filePath(dir)
	if !keeps {
		inside = filepath.Join(dir, "probe-")
	}
	if err = mayWrite(lock); err == nil {
		err = mayWrite(inside)
	}
	if err == nil {
		v.Holder, err = holder(lock)
	}
	if err != nil {
		return v, unusable(dir, err)
	}
	_, err = os.Stat(inside)
	v.Free, v.New = free(dir), err != nil
	switch {
	case keeps && !v.New:
		m, err := read(dir)
		if err == nil {
			v.Partitions = len(m.current)
		}
		return v, err
	case keeps && v.Free >= 0 && v.Free < 2*defaultHalf:
		return v, unusable(dir, os.NewSyscallError("pwrite", syscall.ENOSPC))
	}
	return v, nil
}

// mayWrite says as opening the file for writing would, created where there is none, whether it may be.
func mayWrite(path string) error {
	const write, enter = 2, 1 // W_OK, X_OK
	err := syscall.Access(path, write)
	if errors.Is(err, syscall.ENOENT) {
		err = syscall.Access(filepath.Dir(path), write|enter)
	}
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return nil
}

// holder is who has the lock, "" for nobody.
func holder(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close() // which ends the lock, where there is one
	switch err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); err {
	case nil:
		return "", nil
	case syscall.EWOULDBLOCK:
		who, _ := io.ReadAll(io.LimitReader(f, 300)) // only for the sentence
		if said := strings.TrimSpace(string(who)); said != "" {
			return said, nil
		}
		return "which does not say its name", nil
	}
	return "", os.NewSyscallError("flock", err)
}

// free is the room on dir's file system for this user.
func free(dir string) int64 {
	var st syscall.Statfs_t
	if syscall.Statfs(dir, &st) != nil || st.Blocks == 0 {
		return -1
	}
	blocks := st.Bavail
	if os.Geteuid() == 0 {
		blocks = st.Bfree
	}
	return int64(blocks) * st.Bsize
}

// String is the volume in a clause.
func (v Volume) String() string {
	said := fmt.Sprintf("%d partitions known", v.Partitions)
	if v.New {
		said = "no offsets file"
	}
	if v.Free >= 0 {
		said += fmt.Sprintf(", %d MiB free", v.Free>>20)
	}
	if v.Holder != "" {
		said += fmt.Sprintf(", used by another kpush process (%s)", v.Holder)
	}
	return said
}

// VolumeOf is the id of a volume (Store.VolumeID), "" where there is none that can be read.
func VolumeOf(dir string) string {
	m, err := read(dir)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%016x", m.header.volume)
}
