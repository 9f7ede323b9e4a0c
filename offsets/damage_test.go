package offsets

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"hash/crc32"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/kpush/kpush/volume/sim"
)

var updateGolden = flag.Bool("update", false, "write testdata/format1 anew; never for a format that was released")

// lived is a file with a history in both halves: turned, killed, used again, stopped.
func lived(t testing.TB) []byte {
	t.Helper()
	dir, o := t.TempDir(), quiet()
	s := mustOpen(t, dir, o)
	p := mustAssign(t, s, testKey, Start{Next: 0, Lineage: 7, Committed: -1})
	work(t, p, 40, 11, 35)
	p.Committed(11)
	must(t, p.Settled(Attempt{Offset: 35, Number: 1, Faults: 1}))
	kill(s)
	o.random = func() uint64 { return 0xabcdef }
	s = mustOpen(t, dir, o)
	saved, _ := s.Saved(testKey)
	p = mustAssign(t, s, testKey, Start{Next: saved.Next, Done: saved.Done, Attempts: saved.Attempts, Lineage: 7, Committed: 11, Had: Ranges{{70, 80}, {200, 300}}})
	work(t, p, 60, 11, 35)
	must(t, s.Close())
	return readFile(t, dir)
}

const livedSaved = "11 12-34,36-59 11 [{11 1 0 true} {35 1 0 true}]"

func savedText(t testing.TB, s *Store, k Key) string {
	t.Helper()
	v, ok := s.Saved(k)
	if !ok {
		t.Fatalf("nothing is saved for %+v", k)
	}
	return sprint(v.Next, v.Done, v.Committed, v.Attempts)
}

// TestGolden: a file of format 1 is read by every version, and written the same by this one.
func TestGolden(t *testing.T) {
	path := filepath.Join("testdata", "format1")
	b := lived(t)
	if *updateGolden {
		must(t, os.MkdirAll("testdata", 0o755), os.WriteFile(path, b, 0o644))
	}
	golden, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(b, golden) {
		t.Error("this version writes format 1 in another way than it was written")
	}
	for _, name := range []string{"format1", "format1-unlisted"} { // the second one: before a header told who had written the file
		golden, err := os.ReadFile(filepath.Join("testdata", name))
		must(t, err)
		s := mustOpen(t, dirWith(t, golden), quiet())
		if got := savedText(t, s, testKey); got != livedSaved {
			t.Errorf("%s: got  %s\nwant %s", name, got, livedSaved)
		}
		if got, want := s.VolumeID(), "3c6ef372fe94f82a"; got != want {
			t.Errorf("%s: volume %s, want %s", name, got, want)
		}
	}
}

// believed is where the newest half begins, and how many frames of it are in use.
func believed(t testing.TB, b []byte) (at, frames int) {
	t.Helper()
	m, err := parse(bytes.Clone(b), "offsets")
	must(t, err)
	return m.half * len(b) / 2, int(m.end)
}

// TestDamage: O4. What was safely on disk and is not what it was is refused with a sentence, and left as it is.
func TestDamage(t *testing.T) {
	good := lived(t)
	at, frames := believed(t, good)
	other := len(good)/2 - at
	newer := func(b []byte, half int) {
		binary.LittleEndian.PutUint16(b[half+6:], version+1)
		binary.LittleEndian.PutUint32(b[half+508:], crc32.Checksum(b[half:half+508], castagnoli))
	}
	for _, row := range []struct {
		name   string
		damage func(b []byte) []byte
		reason error
		text   string
	}{
		{"empty", func(b []byte) []byte { return nil }, ErrCorrupt, "is empty"},
		{"zeroed", func(b []byte) []byte { clear(b); return b }, ErrCorrupt, "nothing but zeros"},
		{"noise", func(b []byte) []byte {
			rng := rand.New(rand.NewPCG(1, 1))
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			return b
		}, ErrCorrupt, "not an offsets file of kpush"},
		{"text", func(b []byte) []byte { return []byte("p=1 o=42\n") }, ErrCorrupt, "not an offsets file of kpush"},
		{"truncated to a half", func(b []byte) []byte { return b[:len(b)/2] }, ErrCorrupt, "4096 bytes instead of 8192"},
		{"truncated by one byte", func(b []byte) []byte { return b[:len(b)-1] }, ErrCorrupt, "8191 bytes instead of 8192"},
		{"truncated within the header", func(b []byte) []byte { return b[:100] }, ErrCorrupt, "truncated"},
		{"longer", func(b []byte) []byte { return append(b, 0, 0) }, ErrCorrupt, "8194 bytes instead of 8192"},
		{"both headers flipped", func(b []byte) []byte { b[20] ^= 1; b[len(b)/2+20] ^= 1; return b }, ErrCorrupt, "headers are damaged"},
		{"newest header flipped", func(b []byte) []byte { b[at+20] ^= 1; return b }, ErrCorrupt, "other half"},
		{"newest header zeroed", func(b []byte) []byte { clear(b[at:][:512]); return b }, ErrCorrupt, "other half"},
		{"newest half zeroed", func(b []byte) []byte { clear(b[at:][:len(b)/2]); return b }, ErrCorrupt, "other half"},
		{"snapshot flipped", func(b []byte) []byte { b[at+512+3*32+20] ^= 4; return b }, ErrCorrupt, "other half"},
		{"fact flipped", func(b []byte) []byte { b[at+512+(frames-3)*32+20] ^= 4; return b }, ErrCorrupt, "safely on disk"},
		{"fact zeroed", func(b []byte) []byte { clear(b[at+512+(frames-3)*32:][:32]); return b }, ErrCorrupt, "safely on disk"},
		{"facts exchanged", func(b []byte) []byte {
			x, y := b[at+512+(frames-4)*32:][:32], b[at+512+(frames-3)*32:][:32]
			z := bytes.Clone(x)
			copy(x, y)
			copy(y, z)
			return b
		}, ErrCorrupt, "safely on disk"},
		{"two files", func(b []byte) []byte {
			o := quiet()
			o.random = func() uint64 { return 99 }
			first, _ := newFile(o)
			copy(b[other:], first)
			return b
		}, ErrCorrupt, "put together from two files"},
		{"newer version", func(b []byte) []byte { newer(b, at); return b }, ErrNewer, "format 2; this one knows 1"},
		{"newer version, older half", func(b []byte) []byte { newer(b, other); return b }, ErrNewer, "format 2; this one knows 1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := row.damage(bytes.Clone(good))
			dir := dirWith(t, b)
			_, err := Open(dir, quiet())
			var open *OpenError
			if !errors.Is(err, row.reason) || !errors.As(err, &open) {
				t.Fatalf("got %v, want %v", err, row.reason)
			}
			wantText(t, err.Error(), filePath(dir), row.text, "aside to start without it")
			unchanged(t, dir, b)
			if err := Dump(&bytes.Buffer{}, dir); !errors.Is(err, row.reason) {
				t.Errorf("Dump: got %v", err)
			}
		})
	}
}

// TestFlips: no flipped bit anywhere makes a false fact or a crash; where it hits the believed half it is refused.
func TestFlips(t *testing.T) {
	good := lived(t)
	at, frames := believed(t, good)
	vouched := at + 512 + (frames-2)*32 // the last two are synced and clean: nothing vouches for them
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 1 << (i % 8)
		m, err := parse(b, "offsets")
		switch inside := i >= at && i < vouched; {
		case inside && err == nil:
			t.Fatalf("a flip at byte %d went unnoticed", i)
		case !inside && err != nil:
			t.Fatalf("a flip at byte %d, where it does not matter: %v", i, err)
		case err == nil && m.current[testKey].next != 11:
			t.Fatalf("a flip at byte %d: next %d", i, m.current[testKey].next)
		}
	}
}

// TestTornTail: what was never synced may be torn: it is left out, counted, said.
func TestTornTail(t *testing.T) {
	dir, o := t.TempDir(), quiet()
	o.Sync = DefaultSync
	s := mustOpen(t, dir, o)
	p := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
	for n := range int64(6) {
		p.Fetched(n)
		must(t, p.Done(n))
	}
	kill(s)
	b := readFile(t, dir)
	at, frames := believed(t, b)
	b[at+512+(frames-1)*32+17] ^= 1 // the newest: offset 5
	clear(b[at+512+(frames-3)*32:][:32])
	var log bytes.Buffer
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	s = mustOpen(t, dirWith(t, b), o)
	if got, want := savedText(t, s, testKey), "3 4-4 -1 []"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	wantText(t, log.String(), "level=WARN", "torn=2")
}

// TestStaleCopy: an old copy of the file knows less, and nothing false (O1).
func TestStaleCopy(t *testing.T) {
	dir, o := t.TempDir(), quiet()
	s := mustOpen(t, dir, o)
	p := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
	work(t, p, 5)
	stale := readFile(t, dir)
	work(t, p, 30)
	must(t, s.Close())
	s = mustOpen(t, dirWith(t, stale), o)
	if got, want := savedText(t, s, testKey), "5  -1 []"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestStaleFrames: what a crash left of a longer snapshot is not read as facts of the next writing of that half, not even when
// both have the same generation. Its slot numbers are used again by then.
func TestStaleFrames(t *testing.T) {
	o := quiet()
	o.Sync = Sync{Window: 1 << 40, Unsynced: 1000}
	first, size := newFile(o)
	d := sim.New(rand.New(rand.NewPCG(1, 1)), append(first, make([]byte, int(size)-len(first))...))
	s, err := recoverFrom(d, "offsets", o)
	must(t, err)
	p := mustAssign(t, s, testKey, Start{Lineage: 1, Committed: -1})
	for n := range int64(40) {
		p.Fetched(n)
		must(t, p.Settled(Attempt{Offset: n, Number: 1}))
	}
	before := bytes.Clone(d.Durable)
	s.mu.Lock()
	d.Fault = func(int) sim.Fault { return sim.PowerDone }
	s.turn()
	s.mu.Unlock()
	half := len(before) / 2
	at := (1 - s.journal.half) * half
	copy(before[at+512:at+half], d.Cache[at+512:at+half]) // all but the header came through
	d = sim.New(d.Rng, before)
	s, err = recoverFrom(d, "offsets", o)
	must(t, err)
	m, err := parse(d.Cache, "offsets")
	must(t, err)
	if m.end != s.journal.pos || m.torn != 0 {
		t.Errorf("%d frames are read where %d were written, %d torn", m.end, s.journal.pos, m.torn)
	}
}

// FuzzDecode: no bytes make parse crash or hang, also behind sound checksums.
func FuzzDecode(f *testing.F) {
	good := lived(f)
	f.Add(good, []byte{3, 0, 0, 0})
	f.Add([]byte("kpush\x00"), bytes.Repeat([]byte{0xff, 5}, 40))
	f.Fuzz(func(t *testing.T, raw, frames []byte) {
		_, _ = parse(bytes.Clone(raw), "offsets")
		b := bytes.Clone(good)
		at, n := believed(t, good)
		h, _, _ := parseHeader(b[at:])
		for len(frames) > 0 && n < 112 {
			var body [24]byte
			frames = frames[copy(body[:], frames):]
			le := binary.LittleEndian
			h.place().encode(b[at+512+n*32:], uint32(n), frame{kind: kind(body[0]) % 15, flags: body[1], count: le.Uint16(body[2:]),
				slot: le.Uint32(body[4:]) % 4, offset: int64(le.Uint64(body[8:])), value: le.Uint64(body[16:])})
			n++
		}
		m, err := parse(b, "offsets")
		if err != nil {
			return
		}
		for k, s := range m.current {
			v := s.saved()
			for i, r := range v.Done {
				if r.From >= r.To || r.From < v.Next || i > 0 && v.Done[i-1].To >= r.From {
					t.Fatalf("%v: next %d, done %v", k, v.Next, v.Done)
				}
			}
		}
		if _, err := recoverFrom(sim.New(rand.New(rand.NewPCG(1, 1)), b), "offsets", quiet()); err != nil && errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	})
}
