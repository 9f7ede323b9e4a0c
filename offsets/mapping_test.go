package offsets

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestMappedWrites: what is stored through the mapping, wherever it is, is what everybody reads; the size stays.
func TestMappedWrites(t *testing.T) {
	const size = 3*mapSize + 5*4096 + 512
	for _, mapped := range []bool{true, false} {
		path := filepath.Join(t.TempDir(), "file")
		want := make([]byte, size)
		must(t, os.WriteFile(path, want, 0o644))
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		must(t, err)
		d := newFileDisk(f)
		if mapped {
			if d.mapped = newMapping(f); d.mapped == nil {
				t.Fatalf("%s cannot be mapped: is its file system one of mappable?", path)
			}
		}
		r := rand.New(rand.NewPCG(1, 2))
		pages := map[int64]bool{}
		at := 0
		for range 20_000 {
			b := make([]byte, frameSize*(1+r.IntN(mapMost/frameSize+1))) // one in six is too long to be stored
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			if at += len(b); at+len(b) > size || r.IntN(1000) == 0 {
				at = r.IntN(size - len(b))
			}
			n, err := d.WriteAt(b, int64(at))
			if n != len(b) || err != nil {
				t.Fatalf("%d bytes at %d: %d, %v", len(b), at, n, err)
			}
			copy(want[at:], b)
			if mapped && len(b) <= mapMost {
				if d.mapped.b == nil || int64(at) < d.mapped.at || len(d.mapped.b) > mapSize {
					t.Fatalf("after a write at %d, %d bytes from %d on are mapped", at, len(d.mapped.b), d.mapped.at)
				}
				pages[d.mapped.at] = true
			}
		}
		for _, read := range []func() ([]byte, error){
			func() ([]byte, error) { return os.ReadFile(path) },
			func() ([]byte, error) { b := make([]byte, size); _, err := d.ReadAt(b, 0); return b, err },
		} {
			if got, err := read(); err != nil || !bytes.Equal(got, want) {
				t.Errorf("mapped %v: another content is read (%d bytes of %d, %v)", mapped, len(got), size, err)
			}
		}
		if mapped && len(pages) < 20 {
			t.Errorf("only %d parts of the file were mapped", len(pages))
		}
		if n := mappings(t, path); mapped && n != 1 || !mapped && n != 0 {
			t.Errorf("mapped %v: %d parts of the file are mapped at once", mapped, n)
		}
		must(t, d.Sync(), d.Close())
		if n := mappings(t, path); n != 0 {
			t.Errorf("mapped %v: %d parts of the file are mapped after Close", mapped, n)
		}
	}
}

// mappings counts those of a file in this process.
func mappings(t *testing.T, path string) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/maps")
	must(t, err)
	return bytes.Count(b, []byte(path))
}

// TestWrittenWhereItCannotBeMapped: what comes of it is the write's to say.
func TestWrittenWhereItCannotBeMapped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, make([]byte, 4096), 0o644))
	f, err := os.Open(path) // a mapping to write needs more than to read
	must(t, err)
	d := newFileDisk(f)
	d.mapped = newMapping(f)
	if _, err := d.WriteAt(make([]byte, frameSize), 0); !errors.Is(err, syscall.EBADF) {
		t.Errorf("got %v", err)
	}
	must(t, d.Close())
	proc, err := os.Open("/proc/self/status")
	must(t, err)
	defer proc.Close()
	if newMapping(proc) != nil {
		t.Error("a file system that is not known is mapped")
	}
}

// TestEveryRecordIsStored through the mapping, on a volume as the real ones are.
func TestEveryRecordIsStored(t *testing.T) {
	s := mustOpen(t, t.TempDir(), quiet())
	m := s.disk.(file).mapped
	if m == nil {
		t.Fatal("the file of a volume is not mapped")
	}
	p := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
	work(t, p, 10)
	if m.b == nil || m.at > s.byteOf(s.half, s.pos) {
		t.Errorf("ten messages later %d bytes from %d on are mapped, and frame %d is next", len(m.b), m.at, s.pos)
	}
}

// TestAPageThatIsNotThere: a file cut short, as a disk that fails, answers a stored frame with SIGBUS. That is an error like
// any other: nothing is recorded, it is said, and the other half takes over.
func TestAPageThatIsNotThere(t *testing.T) {
	dir, o := t.TempDir(), quiet()
	now := time.Unix(1_800_000_000, 0)
	var log bytes.Buffer
	o.half, o.Sync, o.Log, o.Now = 16<<10, DefaultSync, textLog(&log), func() time.Time { return now }
	s := mustOpen(t, dir, o)
	p := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
	work(t, p, 4)
	p.Fetched(4)
	must(t, p.Intent(Attempt{Offset: 4, Number: 1}))
	must(t, os.Truncate(filePath(dir), 0))
	for range 2 {
		err := p.Done(4)
		if !errors.Is(err, errPage) {
			t.Fatalf("Done: got %v", err)
		}
		wantText(t, err.Error(), "recording offset 4 of orders partition 3", "cannot be written", "does not take a page")
		if next, _ := p.Progress(); next != 4 || !errors.Is(s.Err(), errPage) {
			t.Fatalf("F1: next %d, %v while nothing can be recorded", next, s.Err())
		}
	}
	must(t, os.Truncate(filePath(dir), 2*o.half)) // and what was in it is gone
	now = now.Add(2 * time.Second)
	s.tick()
	must(t, s.Err(), p.Done(4))
	if n := bytes.Count(log.Bytes(), []byte("\n")); n != 2 {
		t.Errorf("%d lines of log instead of one when it began and one when it ended:\n%s", n, &log)
	}
	work(t, p, 40) // through a new mapping
	kill(s)
	s = mustOpen(t, dir, quiet64())
	if got, want := savedText(t, s, testKey), "40  -1 []"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestOnlyFaultsBecomeErrors: a mistake in the program stays one.
func TestOnlyFaultsBecomeErrors(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a write in front of the file was taken for a fault of the disk")
		}
	}()
	m := &mapping{fd: -1}
	_, _ = m.store(make([]byte, 1), -1) // it panics
}
