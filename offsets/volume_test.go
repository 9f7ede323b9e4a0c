package offsets

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestMain is also the second process of the tests here.
func TestMain(m *testing.M) {
	switch role, dir := os.Getenv("OFFSETS_ROLE"), os.Getenv("OFFSETS_DIR"); role {
	case "":
		os.Exit(m.Run())
	case "hold":
		child(hold(dir))
	case "write":
		child(writeOn(dir))
	case "open":
		s, err := Open(dir, Options{})
		if err == nil {
			err = s.Close()
		}
		child(err)
	}
}

func child(err error) {
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(2)
	}
	os.Exit(0)
}

// hold keeps the volume until its standard input ends.
func hold(dir string) error {
	s, err := Open(dir, Options{})
	if err != nil {
		return err
	}
	fmt.Println("open")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return s.Close()
}

// writeOn records one offset after the other and says each before its intent, and after its record.
func writeOn(dir string) error {
	s, err := Open(dir, Options{Sync: DefaultSync, half: 64 << 10})
	if err != nil {
		return err
	}
	saved, _ := s.Saved(testKey)
	p, err := s.Assign(testKey, Start{Next: saved.Next, Done: saved.Done, Attempts: saved.Attempts, Ceiling: saved.Ceiling, Lineage: saved.Lineage})
	if err != nil {
		return err
	}
	next, _ := p.Progress()
	for n := next; ; n++ {
		p.Fetched(n)
		if err := p.Intent(Attempt{Offset: n, Number: p.Earlier(n).Number + 1}); err != nil {
			return err
		}
		fmt.Println("sent", n)
		if err := p.Done(n); err != nil {
			return err
		}
		fmt.Println("done", n)
	}
}

// start runs this test binary in another role. It is killed when the test ends.
func start(t *testing.T, role, dir string) (cmd *exec.Cmd, in io.WriteCloser, out *bufio.Reader) {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	cmd = exec.Command(exe)
	cmd.Env = append(os.Environ(), "OFFSETS_ROLE="+role, "OFFSETS_DIR="+dir)
	in, err = cmd.StdinPipe()
	must(t, err)
	pipe, err := cmd.StdoutPipe()
	must(t, err, cmd.Start())
	stop := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() {
		stop.Stop()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, in, bufio.NewReader(pipe)
}

// TestLock: O3. A second process is told who holds the volume; kill -9 of the holder frees it.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	cmd, _, out := start(t, "hold", dir)
	if line, err := out.ReadString('\n'); line != "open\n" {
		t.Fatalf("%q %v", line, err)
	}
	_, err := Open(dir, quiet())
	if !errors.Is(err, ErrLocked) {
		t.Fatalf("got %v", err)
	}
	host, _ := os.Hostname()
	wantText(t, err.Error(), fmt.Sprintf("another kpush process (pid %d on %s) uses volume %s: one process per volume", cmd.Process.Pid, host, dir))
	must(t, Dump(io.Discard, dir), cmd.Process.Kill())
	_ = cmd.Wait()
	s := mustOpen(t, dir, quiet())

	_, _, out = start(t, "open", dir)
	line, _ := out.ReadString('\n')
	wantText(t, line, "error: another kpush process (pid "+strconv.Itoa(os.Getpid())+" on "+host+")")
	must(t, s.Close())
	again := mustOpen(t, dir, quiet())
	must(t, again.Close())
}

// TestLockWithoutAFile: O3 holds as well for who keeps no file.
func TestLockWithoutAFile(t *testing.T) {
	dir := t.TempDir()
	release, err := Lock(dir)
	must(t, err)
	if _, err := Lock(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("locked twice: %v", err)
	}
	if _, err := Open(dir, quiet()); !errors.Is(err, ErrLocked) {
		t.Errorf("opened while locked: %v", err)
	}
	release()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || left[0].Name() != "lock" {
		t.Errorf("it leaves %v, %v", left, err)
	}
	must(t, mustOpen(t, dir, quiet()).Close())
	if _, err := Lock(filepath.Join(dir, "missing")); !errors.Is(err, ErrVolume) {
		t.Errorf("a missing directory: %v", err)
	}
}

// TestKill: kill -9 of a writer loses no record, and exactly the message under way is in doubt. Dump works meanwhile.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	total := int64(0)
	for life := range 12 {
		cmd, _, out := start(t, "write", dir)
		sent, done := total-1, total-1
		for range 40 + 300*life {
			line, err := out.ReadString('\n')
			if err != nil {
				t.Fatal("the writer ended by itself", line, err)
			}
			fmt.Sscanf(line, "sent %d", &sent)
			fmt.Sscanf(line, "done %d", &done)
		}
		if life == 3 {
			var b bytes.Buffer
			must(t, Dump(&b, dir))
			wantText(t, b.String(), "orders/3 cluster=cluster-1", "in use, or not stopped cleanly")
		}
		must(t, cmd.Process.Kill())
		for { // what was still in the pipe
			line, err := out.ReadString('\n')
			if err != nil {
				break
			}
			fmt.Sscanf(line, "sent %d\n", &sent)
			fmt.Sscanf(line, "done %d\n", &done)
		}
		_ = cmd.Wait()
		s := mustOpen(t, dir, Options{idle: true})
		v, _ := s.Saved(testKey)
		if v.Next < done+1 || v.Next > sent+2 || len(v.Done) != 0 {
			t.Fatalf("life %d: sent %d, done %d, but next %d done %s", life, sent, done, v.Next, v.Done)
		}
		if v.Ceiling != 0 || len(v.Attempts) > 1 || v.Next == sent && (len(v.Attempts) != 1 || !v.Attempts[0].InDoubt) {
			t.Fatalf("life %d: sent %d, next %d, in doubt %+v, ceiling %d", life, sent, v.Next, v.Attempts, v.Ceiling)
		}
		total = v.Next
		kill(s)
	}
}

// TestVolume: what is wrong with a volume is one sentence that says what to do.
func TestVolume(t *testing.T) {
	dir := t.TempDir()
	notADir := filepath.Join(dir, "file")
	must(t, os.WriteFile(notADir, nil, 0o644))
	for _, row := range []struct{ name, dir, text string }{
		{"missing", filepath.Join(dir, "missing"), "create it, or mount the volume there"},
		{"not a directory", notADir, "is not a directory: set KPUSH_OFFSETS_DIR"},
		{"below a file", filepath.Join(notADir, "x"), "not a directory"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := Open(row.dir, quiet())
			var open *OpenError
			if !errors.Is(err, ErrVolume) || !errors.As(err, &open) || open.Path != row.dir {
				t.Fatalf("got %v", err)
			}
			wantText(t, err.Error(), row.dir, row.text)
		})
	}
	for errno, text := range map[syscall.Errno]string{
		syscall.EACCES: "write access", syscall.EROFS: "mount the volume writable", syscall.ENOSPC: "make room",
	} {
		err := unusable(dir, &os.PathError{Op: "open", Path: filePath(dir), Err: errno})
		wantText(t, err.Error(), dir, errno.Error(), text)
		if !errors.Is(err, ErrVolume) || !errors.Is(err, errno) {
			t.Errorf("%v is not found in %v", errno, err)
		}
	}
}

// TestReadOnlyVolume uses a read-only mount where it may, else a directory that may not be written.
func TestReadOnlyVolume(t *testing.T) {
	dir := t.TempDir()
	text := "write access"
	if os.Getuid() == 0 {
		text = "mount the volume writable"
		if syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_RDONLY, "size=1m") == nil {
			t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
		} else {
			dir, text = "/sys/kernel", "cannot be used" // nobody writes there
		}
	} else {
		must(t, os.Chmod(dir, 0o555))
	}
	_, err := Open(dir, quiet())
	_, lockErr := Lock(dir)
	for _, err := range []error{err, lockErr} {
		if !errors.Is(err, ErrVolume) {
			t.Fatalf("got %v", err)
		}
		wantText(t, err.Error(), dir, text)
	}
}

// TestCreate: a crash in the middle of the creation leaves no file by that name, and the next start makes one.
func TestCreate(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filePath(dir)+".new", []byte("half a file"), 0o644))
	o := quiet64()
	s := mustOpen(t, dir, o)
	must(t, s.Close())
	if st, err := os.Stat(filePath(dir)); err != nil || st.Size() != 2*o.half {
		t.Errorf("%v %v", st, err)
	}
	if names, _ := filepath.Glob(dir + "/*.new"); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
	var st syscall.Stat_t
	must(t, syscall.Stat(filePath(dir), &st))
	if st.Blocks*512 < 2*o.half {
		t.Errorf("the file has %d bytes on the volume: a full disk could stop a write", st.Blocks*512)
	}
}

// sick is a disk that fails while it is told to.
type sick struct {
	disk
	writes, syncs, readOnly atomic.Bool
	err                     error
}

func (d *sick) WriteAt(b []byte, off int64) (int, error) {
	if d.writes.Load() {
		n, _ := d.disk.WriteAt(b[:len(b)/2], off)
		return n, d.err
	}
	return d.disk.WriteAt(b, off)
}

func (d *sick) Sync() error {
	if d.syncs.Load() {
		return d.err
	}
	return d.disk.Sync()
}

func (d *sick) Unfit() string {
	if d.readOnly.Load() {
		return "is on a read-only file system"
	}
	return d.disk.Unfit()
}

// TestSickDisk: while the disk fails nothing is recorded, it is said, and it goes on by itself, with all that was done before.
func TestSickDisk(t *testing.T) {
	for _, row := range []struct {
		name          string
		writes, syncs bool
		sync          Sync
		err           error
	}{
		{"write EIO", true, false, Sync{}, syscall.EIO},
		{"write ENOSPC", true, true, DefaultSync, syscall.ENOSPC},
		{"write EROFS, never synced", true, false, Sync{Window: -1}, syscall.EROFS},
		{"sync EIO", false, true, Sync{}, syscall.EIO},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir, o := t.TempDir(), quiet()
			d := &sick{err: row.err}
			now := time.Unix(1_800_000_000, 0)
			var log bytes.Buffer
			o.Sync, o.Now = row.sync, func() time.Time { return now }
			o.Log = textLog(&log)
			o.wrap = func(inner disk) disk { d.disk = inner; return d }
			s := mustOpen(t, dir, o)
			p := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
			work(t, p, 4)
			for n := range int64(3) {
				p.Fetched(4 + n)
				must(t, p.Intent(Attempt{Offset: 4 + n, Number: 1}))
			}
			d.writes.Store(row.writes)
			d.syncs.Store(row.syncs)
			for range 3 {
				err := p.Done(5)
				if !errors.Is(err, row.err) {
					t.Fatalf("Done: got %v", err)
				}
				wantText(t, err.Error(), "recording offset 5 of orders partition 3", "cannot be written")
				if next, done := p.Progress(); next != 4 || len(done) != 0 || p.Outstanding() != 3 {
					t.Fatalf("F1: next %d, done %s while nothing can be recorded", next, done)
				}
				if err := p.Intent(Attempt{Offset: 6, Number: 2}); !errors.Is(err, row.err) {
					t.Fatalf("Intent: got %v", err)
				}
				if err := s.Err(); !errors.Is(err, row.err) {
					t.Fatalf("Err: got %v", err)
				}
				now = now.Add(2 * time.Second)
				if s.tick() == 0 {
					t.Fatal("nothing would try again")
				}
			}
			d.writes.Store(false)
			d.syncs.Store(false)
			now = now.Add(2 * time.Second)
			s.tick()
			must(t, s.Err(), p.Done(5), p.Done(4), p.Intent(Attempt{Offset: 6, Number: 2}))
			if n := strings.Count(log.String(), "\n"); n != 2 {
				t.Errorf("%d lines of log instead of one when it began and one when it ended:\n%s", n, &log)
			}
			kill(s)
			s = mustOpen(t, dir, quiet())
			if got, want := savedText(t, s, testKey), "6  -1 [{6 2 0 true}]"; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// TestHealsWhateverTheWindow: a disk that works again is tried within seconds, also where syncs are an hour apart.
func TestHealsWhateverTheWindow(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o, d := quiet64(), &sick{err: syscall.ENOSPC}
		o.idle, o.Now, o.Sync = false, time.Now, Sync{Window: time.Hour}
		o.wrap = func(inner disk) disk { d.disk = inner; return d }
		s, err := Open(dir, o)
		must(t, err)
		p := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
		for _, wait := range []time.Duration{0, time.Minute} { // the window has just begun, or not yet
			time.Sleep(wait)
			synctest.Wait()
			d.writes.Store(true)
			p.Fetched(0)
			if err := p.Intent(Attempt{Offset: 0, Number: 1}); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("Intent: got %v", err)
			}
			d.writes.Store(false)
			time.Sleep(2 * retryAfter)
			synctest.Wait()
			must(t, s.Err())
		}
		must(t, s.Close())
	})
}

// TestUnvouched: after a power cut a file that was never synced says so, until its partitions start.
func TestUnvouched(t *testing.T) {
	for _, row := range []struct {
		window time.Duration
		boot   string
		want   bool
	}{{-1, "boot 1", true}, {-1, "boot 0", false}, {time.Hour, "boot 1", false}} {
		dir, o := t.TempDir(), quiet()
		o.Sync = Sync{Window: row.window}
		s := mustOpen(t, dir, o)
		work(t, mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1}), 4)
		kill(s)
		o.boot = row.boot
		for range 3 { // lives that end before the partition starts
			s = mustOpen(t, dir, o)
			if saved, ok := s.Saved(testKey); !ok || saved.Unvouched != row.want {
				t.Errorf("window %v, %s: unvouched %t, want %t", row.window, row.boot, saved.Unvouched, row.want)
			}
			kill(s)
		}
		s = mustOpen(t, dir, o)
		mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
		kill(s)
		s = mustOpen(t, dir, o)
		if saved, _ := s.Saved(testKey); saved.Unvouched {
			t.Errorf("window %v, %s: unvouched although it goes on", row.window, row.boot)
		}
		must(t, s.Close())
	}
}

// TestReadOnlyNoticed: Err notices a read-only volume before a write does.
func TestReadOnlyNoticed(t *testing.T) {
	d, o := &sick{}, quiet()
	o.wrap = func(inner disk) disk { d.disk = inner; return d }
	s := mustOpen(t, t.TempDir(), o)
	must(t, s.Err())
	d.readOnly.Store(true)
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("got %v", err)
	}
	d.readOnly.Store(false)
	must(t, s.Err(), s.Close())
	if err := s.Err(); err != ErrClosed {
		t.Errorf("got %v", err)
	}
}

// TestRemovedNoticed: Err notices that the file is gone, which no write does.
func TestRemovedNoticed(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, quiet())
	must(t, s.Err(), os.RemoveAll(dir))
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "was removed: what is recorded is gone with this process") {
		t.Errorf("got %v", err)
	}
}

// gated is a disk whose Sync waits for the test.
type gated struct {
	disk
	gate chan struct{} // nil: open
}

func (d *gated) Sync() error {
	if d.gate != nil {
		<-d.gate
	}
	return d.disk.Sync()
}

// TestErrOfADiskThatHangs: whoever asks how the file is gets an answer while a write does not end.
func TestErrOfADiskThatHangs(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(dir, quiet())
		must(t, err)
		s.mu.Lock() // as during a write
		if err := s.Err(); !errors.Is(err, ErrHangs) || !strings.Contains(err.Error(), filePath(dir)) {
			t.Errorf("got %v", err)
		}
		s.mu.Unlock()
		must(t, s.Err(), s.Close())
	})
}

// TestSlowSync: while a sync hangs, nobody waits but who has to.
func TestSlowSync(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o, d := quiet64(), &gated{}
		o.idle, o.Sync = false, DefaultSync
		o.wrap = func(inner disk) disk { d.disk = inner; return d }
		s, err := Open(dir, o)
		must(t, err)
		p := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
		work(t, p, 400) // the ceiling is far ahead, and on disk
		time.Sleep(time.Second)
		synctest.Wait()
		d.gate = make(chan struct{})
		work(t, p, 420)
		time.Sleep(time.Second)
		synctest.Wait() // run hangs in Sync
		work(t, p, 500)
		if next, _ := p.Progress(); next != 500 || p.Outstanding() != 0 || s.Err() != nil {
			t.Errorf("next %d, outstanding %d, %v", next, p.Outstanding(), s.Err())
		}
		p.Committed(500)
		p.Release() // a revoke does not wait for the disk
		close(d.gate)
		must(t, s.Close())
	})
}
