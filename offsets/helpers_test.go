package offsets

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var testKey = Key{"cluster-1", "group", "orders", "tAuGuid4SO6eyhBBMXZ4fQ", 3}

// quiet are options for a small file, reproducible to the byte, without a goroutine.
func quiet() Options {
	n := uint64(0)
	return Options{
		Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.Unix(1_800_000_000, 0) },
		half: 4096, boot: "boot 0", random: func() uint64 { n++; return n * 0x9e3779b97f4a7c15 }, idle: true,
	}
}

func mustOpen(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func mustAssign(t testing.TB, s *Store, k Key, st Start) *Partition {
	t.Helper()
	p, err := s.Assign(k, st)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// must fails the test at the first error.
func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// kill ends a life as kill -9 does, if it has not ended: the lock goes, the file stays as it is.
func kill(s *Store) {
	s.mu.Lock()
	ended := s.closed
	s.closed = true
	s.mu.Unlock()
	if ended {
		return
	}
	close(s.keeper.quit)
	_ = s.journal.disk.Close()
	_ = s.lock.Close()
}

// work delivers the offsets below n but for those in open, which are only tried.
func work(t testing.TB, p *Partition, n int64, open ...int64) {
	t.Helper()
	left := make(map[int64]bool)
	for _, o := range open {
		left[o] = true
	}
	for o := range n {
		if p.Fetched(o) {
			must(t, p.Intent(Attempt{Offset: o, Number: 1}))
			if !left[o] {
				must(t, p.Done(o))
			}
		}
	}
}

// Saved is what Recall has of exactly this Key.
func (s *Store) Saved(k Key) (Saved, bool) {
	saved, _, _, err := s.Recall(k)
	if saved == nil || err != nil {
		return Saved{}, false
	}
	return *saved, true
}

// Foreign is what Recall has of others.
func (s *Store) Foreign(k Key) []Key {
	_, foreign, _, _ := s.Recall(k)
	return foreign
}

// Done is Write for one outcome.
func (p *Partition) Done(offset int64) error { return record(p, []int64{offset}) }

// Intent is Write for one intent.
func (p *Partition) Intent(a Attempt) error { return announce(p, []Attempt{a}) }

// Count is the number of offsets in the set.
func (r Ranges) Count() int64 {
	var n int64
	for _, x := range r {
		n += x.To - x.From
	}
	return n
}

// announce is Write for many intents of p.
func announce(p *Partition, all []Attempt) error {
	_, announced := p.Write(nil, p, all)
	return announced
}

// record is Write for many outcomes.
func record(p *Partition, all []int64) error {
	recorded, _ := p.Write(all, nil, nil)
	return recorded
}

func readFile(t testing.TB, dir string) []byte {
	t.Helper()
	b, err := os.ReadFile(filePath(dir))
	must(t, err)
	return b
}

// dirWith is a volume that holds the given bytes as its file.
func dirWith(t testing.TB, b []byte) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "offsets"), b, 0o644))
	return dir
}

// unchanged checks O4.
func unchanged(t testing.TB, dir string, b []byte) {
	t.Helper()
	if !bytes.Equal(readFile(t, dir), b) {
		t.Error("O4: the file was changed")
	}
}

func sprint(next int64, done Ranges, committed int64, tried []Attempt) string {
	return fmt.Sprintf("%d %s %d %v", next, done, committed, tried)
}

func wantText(t testing.TB, got string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(got, p) {
			t.Errorf("%q does not contain %q", got, p)
		}
	}
}

func textLog(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
