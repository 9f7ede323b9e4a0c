package offsets

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// Look says of a volume what a start would, and leaves everything as it is.
func TestLook(t *testing.T) {
	dir := t.TempDir()
	lived := dirWith(t, lived(t))
	held := mustOpen(t, filepath.Join(mkdir(t, dir, "held")), quiet())
	work(t, mustAssign(t, held, testKey, Start{Lineage: 1, Committed: -1}), 4)
	release, err := Lock(mkdir(t, dir, "locked"))
	must(t, err)
	defer release()
	notADir, damaged := filepath.Join(dir, "file"), mkdir(t, dir, "damaged")
	must(t, os.WriteFile(notADir, nil, 0o644), os.WriteFile(filePath(damaged), []byte("no offsets"), 0o644))
	for _, row := range []struct {
		name, dir   string
		keeps       bool
		holder, is  string // of what is there
		partitions  int
		new, refuse bool
	}{
		{name: "empty", dir: t.TempDir(), keeps: true, new: true, is: "no offsets file, "},
		{name: "empty, no file kept", dir: t.TempDir(), new: true},
		{name: "lived on", dir: lived, keeps: true, partitions: 1, is: "1 partitions known, "},
		{name: "in use", dir: filepath.Join(dir, "held"), keeps: true, holder: "pid ", partitions: 1, is: "used by another kpush process (pid "},
		{name: "in use, no file kept", dir: filepath.Join(dir, "locked"), new: true, holder: "pid "},
		{name: "missing", dir: filepath.Join(dir, "missing"), keeps: true, refuse: true},
		{name: "missing, no file kept", dir: filepath.Join(dir, "missing"), refuse: true},
		{name: "no directory", dir: notADir, keeps: true, refuse: true},
		{name: "below a file", dir: filepath.Join(notADir, "x"), keeps: true, refuse: true},
		{name: "damaged", dir: damaged, keeps: true, refuse: true},
	} {
		before := files(t, row.dir)
		v, err := Look(row.dir, row.keeps)
		if after := files(t, row.dir); !slices.Equal(before, after) {
			t.Errorf("%s: it leaves %q, was %q", row.name, after, before)
		}
		if row.refuse {
			want := open(row.dir, row.keeps)
			if err == nil || want == nil || err.Error() != want.Error() || !errors.As(err, new(*OpenError)) {
				t.Errorf("%s: %v, and a start says %v", row.name, err, want)
			}
			continue
		}
		if err != nil || v.New != row.new || v.Partitions != row.partitions || !strings.HasPrefix(v.Holder, row.holder) || (v.Holder == "") != (row.holder == "") ||
			v.Free < 1<<20 || !strings.Contains(v.String(), row.is) {
			t.Errorf("%s: %+v (%s), %v", row.name, v, v, err)
		}
	}
	must(t, held.Close())
	if v, err := Look(filepath.Join(dir, "held"), true); err != nil || v.Holder != "" {
		t.Errorf("released: %+v, %v", v, err)
	}
}

// A volume that may not be written is refused in a start's words, too.
func TestLookAtWhatMayNotBeWritten(t *testing.T) {
	dir := t.TempDir()
	if os.Getuid() != 0 {
		must(t, os.Chmod(dir, 0o555))
	} else if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_RDONLY, "size=1m"); err != nil {
		t.Skipf("root may write everywhere, and nothing can be mounted here: %v", err)
	} else {
		t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	}
	for _, keeps := range []bool{true, false} {
		_, err := Look(dir, keeps)
		if want := open(dir, keeps); err == nil || want == nil || err.Error() != want.Error() {
			t.Errorf("%v, and a start says %v", err, want)
		}
	}
}

// A volume without the room for the file is refused before a start finds out.
func TestLookForRoom(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("nothing can be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	_, err := Look(dir, true)
	if want := open(dir, true); err == nil || want == nil || !errors.Is(err, syscall.ENOSPC) || err.Error() != want.Error() {
		t.Errorf("%v, and a start says %v", err, want)
	}
	if _, err := Look(dir, false); err != nil {
		t.Errorf("where no file is kept: %v", err)
	}
}

// open is what a start says to a volume.
func open(dir string, keeps bool) error {
	if !keeps {
		release, err := Lock(dir)
		if err == nil {
			release()
		}
		return err
	}
	s, err := Open(dir, Options{})
	if err == nil {
		err = s.Close()
	}
	return err
}

func mkdir(t *testing.T, dir, name string) string {
	t.Helper()
	dir = filepath.Join(dir, name)
	must(t, os.Mkdir(dir, 0o755))
	return dir
}

// files are the names below dir.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		names = append(names, path)
		return err
	})
	return names
}
