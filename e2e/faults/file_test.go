package faults

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

const (
	headerSize = 512
	frameSize  = 32
)

// image is the file of a volume, and where its newest half is, as `kpush -offsets` says.
type image struct {
	path   string
	bytes  []byte
	half   int // where the newest half begins
	frames int // in it
}

var dumped = regexp.MustCompile(`half ([AB]), generation \d+, (\d+) frames`)

func (s *scene) image() *image {
	s.Helper()
	code, said := s.sc.Run(s, "-offsets", s.sc.Volume)
	found := dumped.FindStringSubmatch(said)
	if code != 0 || found == nil {
		s.Fatalf("kpush -offsets ended with %d and said %q.", code, said)
	}
	m := &image{path: filepath.Join(s.sc.Volume, "offsets")}
	m.bytes = m.read(s.T)
	m.frames, _ = strconv.Atoi(found[2]) // it matched
	if found[1] == "B" {
		m.half = len(m.bytes) / 2
	}
	return m
}

func (m *image) read(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile(m.path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (m *image) write(t *testing.T, b []byte) {
	t.Helper()
	if err := os.WriteFile(m.path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func (m *image) frame(n int) int { return m.half + headerSize + n*frameSize }

// lived is a volume after some thousand messages and a kill -9.
func lived(t *testing.T, story string) *scene {
	t.Helper()
	s := stage(t, story, setting{partitions: 8, concurrency: 8, bound: 8})
	s.stock(500)
	s.sc.Start(t)
	s.svc.Await(t, 2_500, patience)
	s.sc.Kill()
	s.crashed(func() {})
	return s
}

// TestDamagedFiles: what was safely on the disk and is not what it was is never believed and never replaced: kpush says which
// file it is and ends with exit code 2. Put back, the file serves as if nothing had been.
func TestDamagedFiles(t *testing.T) {
	const story = "damaged file: refused, untouched"
	s := lived(t, story)
	good := s.image()
	if good.frames < 2_000 {
		t.Fatalf("The file holds only %d frames.", good.frames)
	}
	rows := map[string]func([]byte) []byte{
		"truncated":   func(b []byte) []byte { return b[:len(b)-s.rng.IntN(len(b)/2)-1] },
		"a half gone": func(b []byte) []byte { return b[:len(b)/2] },
		"zeroed":      func(b []byte) []byte { clear(b); return b },
		"half zeroed": func(b []byte) []byte { clear(b[good.half:][:len(b)/2]); return b },
		"empty":       func(b []byte) []byte { return nil },
		"noise":       noise(s.rng),
		"newer":       newer,
	}
	for n := range times(40, 5) {
		rows[fmt.Sprintf("flipped bit %d", n)] = func(b []byte) []byte {
			// the newest are not on the disk yet, or nothing says so yet
			b[good.half+s.rng.IntN(headerSize+(good.frames-1_000)*frameSize)] ^= 1 << s.rng.IntN(8)
			return b
		}
	}
	for name, damage := range rows {
		bad := damage(bytes.Clone(good.bytes))
		good.write(t, bad)
		code, said := s.sc.Run(t)
		if code != 2 || !strings.Contains(said, good.path) {
			t.Errorf("%s: kpush ended with exit code %d, not 2, and said %q, which has to name the file.", name, code, said)
		}
		if !bytes.Equal(good.read(t), bad) {
			t.Errorf("%s: the damaged file was changed.", name)
		}
	}
	good.write(t, good.bytes)
	s.sc.Start(t)
	s.tell(fmt.Sprintf("%d damages: truncated, zeroed, empty, noise, a newer format, flipped bits", len(rows)))
}

func noise(rng *rand.Rand) func([]byte) []byte {
	return func(b []byte) []byte {
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
}

// newer is a whole file of the next format.
func newer(b []byte) []byte {
	for _, half := range []int{0, len(b) / 2} {
		header := b[half:][:headerSize]
		binary.LittleEndian.PutUint16(header[6:], binary.LittleEndian.Uint16(header[6:])+1)
		binary.LittleEndian.PutUint32(header[headerSize-4:], crc32.Checksum(header[:headerSize-4], crc32.MakeTable(crc32.Castagnoli)))
	}
	return b
}

// TestTornTail: what a power cut tore of the newest frames is left out, and costs repeats that are flagged.
func TestTornTail(t *testing.T) {
	const story, concurrency = "torn tail of the file", 8
	m := machine(t, story, 24, "")
	s := stage(t, story, setting{partitions: 8, concurrency: concurrency, bound: concurrency + unsynced, volume: m.Disk})
	m.Start(t, s.sc)
	for range times(20, 3) {
		s.stock(300)
		s.crash(1+s.rng.IntN(500), func() {
			s.sc.Kill()
			f := s.image()
			b := bytes.Clone(f.bytes)
			// the newest frame always, a few before it where nothing says that they are on the disk
			clear(b[f.frame(f.frames-1)+s.rng.IntN(frameSize):][:frameSize/2])
			f.write(t, b)
			m.Reboot(t)
		}, func() { m.Start(t, s.sc) })
	}
	if len(s.sc.Find("not whole")) == 0 {
		t.Error("No torn frame was ever mentioned in the log.")
	}
	s.tell("")
}

// TestStaleFile: an older copy of the volume is put back after a kill -9: what it does not know Kafka's commit does.
func TestStaleFile(t *testing.T) {
	const concurrency, interval = 8, 200 * time.Millisecond
	s := stage(t, "stale copy of the volume", setting{partitions: 8, concurrency: concurrency})
	s.sc.Start(t)
	s.svc.Rule(rig.Slow(5 * time.Millisecond))
	for range times(10, 2) {
		s.stock(600)
		s.svc.Await(t, s.svc.Delivered()+100, patience)
		old := s.image()
		bound := 0
		pass(3 * interval) // then every partition has committed more than the copy knows
		s.crash(0, func() {
			s.sc.Kill()
			bound = concurrency + len(s.svc.Since(time.Now().Add(-2*interval)))
			old.write(t, old.bytes)
		}, func() {
			s.bound = bound
			s.sc.Start(t)
		})
	}
	s.tell("the bound: concurrency, and what two commit intervals delivered")
}

// TestForeignFile: the file of another group's volume says nothing about this one, and everything is where Kafka says.
func TestForeignFile(t *testing.T) {
	s := stage(t, "another volume's file", setting{partitions: 8, concurrency: 8})
	s.stock(300)
	other := rig.NewSidecar(t, t.TempDir(), s.wiring("KPUSH_GROUP="+s.topic+"-other", "KPUSH_URL=/other")...)
	elsewhere := rig.StartService(t)
	other.Set(fmt.Sprintf("KPUSH_PORT=%d", elsewhere.Port))
	other.Start(t)
	elsewhere.Await(t, len(s.produced), patience)
	other.Shut(t, 15*time.Second)
	foreign, err := os.ReadFile(filepath.Join(other.Volume, "offsets"))
	if err != nil {
		t.Fatal(err)
	}
	s.sc.Start(t)
	s.svc.Await(t, 500, patience)
	s.sc.Shut(t, 15*time.Second)
	s.crashes++
	s.image().write(t, foreign)
	s.sc.Start(t)
	s.tell("a graceful stop before it")
}
