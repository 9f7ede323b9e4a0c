package spool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/volume"
	"github.com/kpush/kpush/volume/sim"
)

// sink is a producer that answers by the value.
type sink struct {
	kafka.Producer
	mu     sync.Mutex
	got    []string
	hold   bool // no answer comes before release
	held   []func()
	answer func(topic, value string, company bool) error
	under  int
}

func (s *sink) Queue(r kafka.Record, done func(kafka.Produced, error)) error {
	topic, value := r.Topic, string(r.Value) // the bytes are the caller's
	answer := func() {
		s.mu.Lock()
		company, err := s.under > 1, error(nil)
		if s.answer != nil {
			err = s.answer(topic, value, company)
		}
		if err == nil {
			s.got = append(s.got, topic+"/"+value)
		}
		s.under--
		s.mu.Unlock()
		done(kafka.Produced{}, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.under++; s.hold {
		s.held = append(s.held, answer)
	} else {
		time.AfterFunc(time.Millisecond, answer)
	}
	return nil
}

func (s *sink) release() {
	s.mu.Lock()
	s.hold = false
	held := s.held
	s.mu.Unlock()
	for _, answer := range held {
		answer()
	}
}

func (s *sink) Flush(context.Context) int { return 0 }

func (s *sink) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

// stage is a spool with a sink on a simulated volume, or on the one of the options.
func stage(t testing.TB, k *sink, change ...func(*Options)) (*Spool, *sim.Volume) {
	t.Helper()
	v := sim.NewVolume(&sim.Power{Rng: rand.New(rand.NewPCG(1, 1))})
	o := Options{Dir: "/v", Limit: 1 << 20, Buffer: 1 << 20, Producer: k, Came: func(error) {}, Log: slog.New(slog.DiscardHandler), disk: v}
	for _, c := range change {
		c(&o)
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s, v
}

func add(s *Spool, topic, key string, values ...string) error {
	var list []kafka.Record
	for _, v := range values {
		r := kafka.Record{Partition: -1, Value: []byte(v)}
		if key != "" {
			r.Key = []byte(key)
		}
		list = append(list, r)
	}
	ctx, end := context.WithTimeout(context.Background(), 5*time.Second)
	defer end()
	return s.Add(ctx, topic, 3, list)
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// disks are a volume whose segments are synced as a test wants.
type disks struct {
	*sim.Volume
	sync func() error // before each sync of a segment
}

type watched struct {
	volume.File
	sync func() error
}

func (d *disks) Open(name string) (volume.File, error) {
	f, err := d.Volume.Open(name)
	if strings.HasSuffix(name, "/mark") {
		return f, err
	}
	return watched{f, d.sync}, err
}

func (f watched) Sync() error {
	if err := f.sync(); err != nil {
		return err
	}
	return f.File.Sync()
}

func onDisks(d *disks) func(*Options) {
	return func(o *Options) { d.Volume = o.disk.(*sim.Volume); o.disk = d }
}

// One caller waits for its own sync alone; many share one.
func TestManyShareASync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		syncs, d := 0, &disks{}
		d.sync = func() error { syncs++; time.Sleep(3 * time.Millisecond); return nil }
		s, _ := stage(t, &sink{}, onDisks(d))
		defer s.Close(t.Context())
		for n := range 3 {
			begin := time.Now()
			if err := add(s, "a", "k", fmt.Sprint(n)); err != nil {
				t.Fatal(err)
			}
			want(t, "one caller's wait", time.Since(begin), 3*time.Millisecond)
		}
		syncs = 0
		begin := time.Now()
		var all sync.WaitGroup
		for n := range 200 {
			all.Go(func() {
				if err := add(s, "a", fmt.Sprint(n), "x"); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if syncs > 2 || time.Since(begin) > 6*time.Millisecond {
			t.Errorf("200 callers took %d syncs and %v", syncs, time.Since(begin))
		}
	})
}

// A disk that hangs costs a caller its deadline, those behind it nothing, and no record.
func TestADiskThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang, d, k := make(chan struct{}), &disks{}, &sink{}
		d.sync = func() error { <-hang; return nil }
		s, _ := stage(t, k, onDisks(d))
		defer s.Close(t.Context())
		var all sync.WaitGroup
		come := func(after time.Duration, value string, kind error, within time.Duration) {
			all.Go(func() {
				time.Sleep(after)
				begin := time.Now()
				if err := add(s, "a", "k", value); !errors.Is(err, kind) || time.Since(begin) > within {
					t.Errorf("%s: %v after %v, want %v", value, err, time.Since(begin), kind)
				}
			})
		}
		come(0, "on its way", kafka.ErrUnknown, 5*time.Second)
		come(500*time.Millisecond, "behind it", kafka.ErrUnknown, 5*time.Second)
		come(4*time.Second, "when it is known", ErrVolume, 0)
		all.Wait()
		if notes := fmt.Sprint(s.Notes(0)); !strings.Contains(notes, "the volume has taken nothing for 6s") {
			t.Error(notes)
		}
		close(hang)
		synctest.Wait()
		want(t, "a new one", add(s, "a", "k", "new"), nil)
		time.Sleep(time.Second)
		want(t, "S4: what is sent", k.all(), "[a/on its way a/behind it a/new]")
		want(t, "the notes", s.Notes(0), "[]")
	})
}

// A disk without room, or one that fails, is said to be that; it goes on by itself, and what was refused is not sent.
func TestADiskThatFails(t *testing.T) {
	for fault, kind := range map[sim.Fault]error{sim.Full: ErrVolume, sim.FailLost: kafka.ErrUnknown, sim.FailPartly: kafka.ErrUnknown} {
		synctest.Test(t, func(t *testing.T) {
			k := &sink{}
			s, v := stage(t, k)
			failing := atomic.Bool{}
			v.Fault = func(int) sim.Fault {
				if failing.Load() {
					return fault
				}
				return sim.None
			}
			want(t, "the first", add(s, "a", "k", "0"), nil)
			failing.Store(true)
			if err := add(s, "a", "k", "refused"); !errors.Is(err, kind) {
				t.Errorf("%v: %v, want %v", fault, err, kind)
			}
			if err := add(s, "a", "k", "refused"); !errors.Is(err, ErrVolume) || !strings.HasPrefix(err.Error(), "the spool cannot be written: ") {
				t.Errorf("%v: %v", fault, err)
			}
			time.Sleep(3 * time.Second)
			if notes := fmt.Sprint(s.Notes(0)); !strings.Contains(notes, "the spool cannot be written for a, so async=true is refused") {
				t.Error(notes)
			}
			failing.Store(false)
			time.Sleep(3 * time.Second)
			want(t, "the notes", s.Notes(0), "[]")
			want(t, "the next", add(s, "a", "k", "1"), nil)
			time.Sleep(time.Second)
			want(t, "S4: what is sent", k.all(), "[a/0 a/1]")
			s.Close(t.Context())
			want(t, "a file on which a write has failed is not written any more, so it is gone", v.Files["a/00000000000000000000"] == nil, true)
			next, _ := stage(t, k, func(o *Options) { o.disk = v.After(false) })
			left, _ := next.Status()
			want(t, "S4: left", left, 0)
			next.Close(t.Context())
		})
	}
}

// The spool is bounded by what is on the disk, and has room again when Kafka has taken some of it.
func TestFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &sink{hold: true}
		s, v := stage(t, k, func(o *Options) { o.Limit, o.segment = 100_000, 10_000 })
		defer s.Close(t.Context())
		if err := add(s, "a", "k", strings.Repeat("x", 100_000)); !errors.Is(err, kafka.ErrTooLarge) {
			t.Errorf("larger than the spool: %v", err)
		}
		taken := 0
		for ; taken < 1000; taken++ {
			if err := add(s, "a", fmt.Sprint(taken), strings.Repeat("x", 1000)); err != nil {
				if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "of 100000") {
					t.Error(err)
				}
				break
			}
		}
		bytes := 0
		synctest.Wait()
		for _, d := range v.Files {
			bytes += len(d.Cache)
		}
		if _, said := s.Status(); taken < 60 || bytes > 100_000 || int(said) != bytes {
			t.Errorf("%d records, %d bytes on the disk, %d are said", taken, bytes, said)
		}
		k.release()
		time.Sleep(time.Second)
		want(t, "when there is room", add(s, "a", "k", strings.Repeat("x", 1000)), nil)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		want(t, "files of what is sent", len(v.Files), 1)
		want(t, "sent", len(k.all()), taken+1)
	})
}

// What Kafka refuses for its own sake goes into a file from which it can be published again; what it was sent with does not, and what is behind it in
// order comes.
func TestRefusedRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var came []string
		k := &sink{answer: func(_, value string, company bool) error {
			if strings.HasPrefix(value, "big") || company && value == "innocent" {
				return fmt.Errorf("%w: of 9 bytes", kafka.ErrTooLarge)
			}
			return nil
		}}
		s, v := stage(t, k, func(o *Options) { o.Came = func(err error) { came = append(came, fmt.Sprint(err)) } })
		defer s.Close(t.Context())
		want(t, "add", add(s, "a", "k", "1", "big", "2"), nil)
		want(t, "add", add(s, "a", "", "innocent", "3"), nil)
		want(t, "add", s.Add(t.Context(), "a", 3, []kafka.Record{{Partition: 2, Timestamp: 7, Key: []byte{}, Value: []byte("big\xff"), Headers: []kafka.Header{{Name: "h"}, {Name: "", Value: []byte("v")}}}}), nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		got := k.all()
		slices.Sort(got)
		want(t, "sent", got, "[a/1 a/2 a/3 a/innocent]")
		slices.Sort(came)
		want(t, "told", came, "[<nil> <nil> <nil> <nil> the record is larger than the broker or topic allows: of 9 bytes the record is larger than the broker or topic allows: of 9 bytes]")
		lines := strings.Split(strings.TrimSpace(string(v.Files[refusedName].Cache)), "\n")
		want(t, "lines", len(lines), 2)
		for i, holds := range []string{
			`"topic":"a","reason":"the record is larger than the broker or topic allows: of 9 bytes","records":[{"key":"aw==","value":"Ymln","timestamp":`,
			`,"records":[{"key":"","value":"Ymln/w==","partition":2,"timestamp":7,"headers":[{"key":"h","value":null},{"key":"","value":"dg=="}]}]}`,
		} {
			if !json.Valid([]byte(lines[i])) || !strings.Contains(lines[i], holds) {
				t.Errorf("%s\nwant %s", lines[i], holds)
			}
		}
		if notes := fmt.Sprint(s.Notes(0)); !strings.Contains(notes, "Kafka has refused 2 records of the spool since the start; they are in /v/spool/refused.jsonl") {
			t.Error(notes)
		}
	})
}

// strict is a producer that knows at once that a topic has no partition from the third on, as librdkafka does.
type strict struct{ *sink }

func (s strict) Queue(r kafka.Record, done func(kafka.Produced, error)) error {
	if r.Partition > 1 {
		return fmt.Errorf("%w: Local: Unknown partition", kafka.ErrNoTopic)
	}
	return s.sink.Queue(r, done)
}

// A record whose partition is gone, because the topic was made again with fewer, holds up nothing behind it once Kafka has said so. Until then, and where the
// topic is gone, all wait.
func TestPartitionsThatAreGone(t *testing.T) {
	for _, atOnce := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			k := &sink{answer: func(_, value string, _ bool) error {
				if strings.HasPrefix(value, "gone") {
					return fmt.Errorf("%w: Local: Unknown partition", kafka.ErrNoTopic)
				}
				return nil
			}}
			var described atomic.Bool
			s, v := stage(t, k, func(o *Options) {
				if atOnce {
					o.Producer = strict{k}
				}
				o.Lacks = func(_ string, partition int32) bool { return described.Load() && partition > 1 }
			})
			defer s.Close(t.Context())
			for i := range 3 {
				list := []kafka.Record{{Partition: int32(i), Value: []byte([]string{"1", "2", "gone"}[i])}, {Partition: kafka.AnyPartition, Key: []byte{byte(i)}, Value: []byte("any")}}
				want(t, "add", s.Add(t.Context(), "a", 3, list), nil)
			}
			time.Sleep(time.Minute)
			want(t, "in the file before Kafka has described the topic", v.Files[refusedName] == nil, true)
			described.Store(true)
			time.Sleep(5 * time.Second)
			synctest.Wait()
			got := k.all()
			slices.Sort(got)
			want(t, "sent", got, "[a/1 a/2 a/any a/any a/any]")
			if text := string(v.Files[refusedName].Cache); strings.Count(text, "\n") != 1 || !strings.Contains(text, `"reason":"Kafka does not take the record: the topic has no partition 2 any more"`) {
				t.Error(text)
			}
		})
	}
}

// A topic that is not there waits by name, and no other waits with it.
func TestATopicThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := true
		var log bytes.Buffer
		k := &sink{answer: func(topic, _ string, _ bool) error {
			if topic == "gone" && gone {
				return kafka.ErrNoTopic
			}
			return nil
		}}
		s, _ := stage(t, k, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
		defer s.Close(t.Context())
		for n := range 30 {
			want(t, "add", add(s, "gone", "k", fmt.Sprint(n)), nil)
			want(t, "add", add(s, "there", "k", fmt.Sprint(n)), nil)
		}
		time.Sleep(time.Hour)
		want(t, "sent", len(k.all()), 30)
		if notes := fmt.Sprint(s.Notes(time.Minute)); !strings.Contains(notes, "30 records of gone wait in the spool, the oldest since 2000-01-01T00:00:00Z: topic does not exist") || strings.Contains(notes, "there") {
			t.Error(notes)
		}
		want(t, "known topics", s.Topics(), "map[gone:3 there:3]")
		k.mu.Lock()
		gone, k.got = false, nil
		k.mu.Unlock()
		time.Sleep(2 * time.Second)
		for n, got := range k.all() {
			want(t, "in order", got, fmt.Sprint("gone/", n))
		}
		want(t, "sent", len(k.all()), 30)
		if n := strings.Count(log.String(), "wait in the spool"); n < 50 || n > 61 {
			t.Errorf("it was said %d times in an hour", n)
		}
	})
}

// A stop sends what Kafka takes, does not wait for a Kafka that takes nothing, and loses nothing.
func TestDrain(t *testing.T) {
	for _, away := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			k := &sink{answer: func(string, string, bool) error {
				if away {
					return kafka.ErrNoBroker
				}
				return nil
			}}
			s, v := stage(t, k)
			for n := range 3000 {
				if err := add(s, "a", "k", fmt.Sprint(n)); err != nil {
					t.Fatal(err)
				}
			}
			begin := time.Now()
			s.Drain(t.Context())
			s.Close(t.Context())
			left, _ := s.Status()
			if took := time.Since(begin); !away && left > 0 || away && (left != 3000 || took > 3*time.Second) {
				t.Errorf("Kafka away: %v; %d are left after %v", away, left, took)
			}
			away = false
			next, _ := stage(t, k, func(o *Options) { o.disk = v.After(true) })
			next.Drain(t.Context())
			next.Close(t.Context())
			for n, got := range k.all() {
				want(t, "in order, once", got, fmt.Sprint("a/", n))
			}
			want(t, "sent", len(k.all()), 3000)
		})
	}
}

// A real directory, and what is printed of it.
func TestDump(t *testing.T) {
	dir, k := t.TempDir(), &sink{answer: func(topic, value string, _ bool) error {
		if value == "big" {
			return kafka.ErrTooLarge
		}
		return map[string]error{"away": kafka.ErrNoBroker}[topic]
	}}
	real := func(o *Options) { o.Dir, o.disk = dir, nil }
	s, _ := stage(t, k, real)
	want(t, "empty", Holds(dir), false)
	want(t, "add", add(s, "away", "k", "0", "1", "2"), nil)
	want(t, "add", add(s, "there", "", "0", "big"), nil)
	for end := time.Now().Add(10 * time.Second); len(s.Notes(time.Hour)) == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	dump := func() string {
		t.Helper()
		var out strings.Builder
		if err := Dump(&out, dir); err != nil {
			t.Error(err)
		}
		return out.String()
	}
	running := dump()
	s.Close(t.Context())
	want(t, "after the end", dump(), running)
	want(t, "with records", Holds(dir), true)
	is, err := os.Stat(filepath.Join(Directory(dir), refusedName)) // a moment has up to nine digits behind its point
	want(t, "the file of what was refused", err, nil)
	for _, part := range []string{fmt.Sprintf("spool %s/spool: format 1, refused %d bytes\n", dir, is.Size()), "spooled away: records=3 bytes=285 oldest=20", " files=1 position=0\n", "spooled there: records=0 bytes=0 oldest=- "} {
		if !strings.Contains(running, part) {
			t.Errorf("%q is not in %s", part, running)
		}
	}
	s, _ = stage(t, k, real)
	defer s.Close(t.Context())
	left, _ := s.Status()
	want(t, "left", left, 3)
	var out strings.Builder
	if err := Dump(&out, t.TempDir()); err != nil || out.Len() > 0 {
		t.Errorf("without a spool: %v %s", err, out.String())
	}
}

// damaged are ways to hurt the files of a topic with three segments, of which the last has an unsynced tail.
var damages = []struct {
	name   string
	hurt   func(v *sim.Volume, segments []string)
	holds  string // of the error; "": it is none
	record int
}{
	{"nothing", func(*sim.Volume, []string) {}, "", 30},
	{"a torn tail", func(v *sim.Volume, s []string) {
		v.Files[s[2]].Cache = v.Files[s[2]].Cache[:len(v.Files[s[2]].Cache)-1]
	}, "", 29},
	{"two of the three records of a group", func(v *sim.Volume, s []string) {
		d := v.Files[s[2]]
		h, _ := decodeHead(d.Cache)
		var group []byte
		for range 3 {
			group = appendFrame(group, &kafka.Record{Value: []byte("x")}, time.Now())
		}
		at := h.position + int64(len(d.Cache)) - headSize
		seal(group, h.life, at, at)
		d.Cache = append(d.Cache, group[:len(group)/3*2]...)
	}, "", 30},
	{"zeros at the end", func(v *sim.Volume, s []string) {
		v.Files[s[2]].Cache = append(v.Files[s[2]].Cache, make([]byte, 5000)...)
	}, "", 30},
	{"half a file without a name", func(v *sim.Volume, s []string) { v.Files[s[2]+".new"] = v.Files[s[0]] }, "", 30},
	{"a byte in the middle of the last", func(v *sim.Volume, s []string) { v.Files[s[2]].Cache[700] ^= 1 }, "is damaged at byte 512, in a part that was safely on disk. Bring the file back as it was; or move the directory a away", 0},
	{"a byte in the middle of the first", func(v *sim.Volume, s []string) { v.Files[s[0]].Cache[700] ^= 1 }, "is damaged at byte 512, in a part", 0},
	{"zeros in the first", func(v *sim.Volume, s []string) { clear(v.Files[s[0]].Cache[1000:]) }, "in a part that was safely on disk", 0},
	{"a header", func(v *sim.Volume, s []string) { v.Files[s[1]].Cache[20] ^= 1 }, "begins with what kpush has not written", 0},
	{"no header", func(v *sim.Volume, s []string) { v.Files[s[1]].Cache = nil }, "begins with what kpush has not written", 0},
	{"the mark", func(v *sim.Volume, s []string) { v.Files["a/mark"].Cache[20] ^= 1; v.Files["a/mark"].Cache[532] ^= 1 }, "a/mark begins with what kpush has not written", 0},
	{"one half of the mark", func(v *sim.Volume, s []string) { clear(v.Files["a/mark"].Cache[512:]) }, "", 30},
	{"no mark", func(v *sim.Volume, s []string) { delete(v.Files, "a/mark") }, "a/mark is not there", 0},
	{"the first is missing", func(v *sim.Volume, s []string) { delete(v.Files, s[0]) }, "names a file that is not there", 0},
	{"one is missing", func(v *sim.Volume, s []string) { delete(v.Files, s[1]) }, "ends before the next file begins: one is not there, or it was cut", 0},
	{"the first is cut", func(v *sim.Volume, s []string) { v.Files[s[0]].Cache = v.Files[s[0]].Cache[:2000] }, "is damaged at byte", 0},
	{"one has another name", func(v *sim.Volume, s []string) { v.Files["a/1"] = v.Files[s[1]]; delete(v.Files, s[1]) }, "a/1 has another name than kpush gave it", 0},
	{"a newer one", func(v *sim.Volume, s []string) {
		b := v.Files[s[0]].Cache[:512]
		b[7]++
		le.PutUint32(b[508:], crc32.Checksum(b[:508], castagnoli))
	}, "was written by a newer kpush", 0},
}

// TestDamage: S5. What was on the disk and is not what it was is refused with a sentence, and left as it is; what a crash can leave is not.
func TestDamage(t *testing.T) {
	for _, row := range damages {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &sink{hold: true}
				s, v := stage(t, k, func(o *Options) { o.segment = 4200 })
				for n := range 30 {
					want(t, "add", add(s, "a", "k", fmt.Sprint(n, strings.Repeat("x", 200))), nil)
				}
				s.Close(t.Context())
				var segments []string
				for name := range v.Files {
					if name != "a/mark" {
						segments = append(segments, name)
					}
				}
				slices.Sort(segments)
				want(t, "segments", len(segments), 3)
				row.hurt(v, segments)
				before := map[string]string{}
				for name, d := range v.Files {
					before[name] = string(d.Cache)
				}
				s, err := Open(Options{Dir: "/v", Limit: 1 << 20, Buffer: 1, Producer: k, Log: slog.New(slog.DiscardHandler), disk: v, idle: true})
				if row.holds == "" {
					if err != nil {
						t.Fatal(err)
					}
					left, _ := s.Status()
					want(t, "records", left, row.record)
					return
				}
				if err == nil || !strings.Contains(err.Error(), row.holds) || !strings.HasPrefix(err.Error(), "the spool /v/spool cannot be used: a/") {
					t.Errorf("%v, want %s", err, row.holds)
				}
				for name, d := range v.Files {
					if before[name] != string(d.Cache) {
						t.Errorf("S5: %s was changed", name)
					}
				}
			})
		})
	}
}

// What was only written when the process died is on the disk before a start believes it: a power cut after it changes nothing.
func TestAPowerCutAfterAStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, v := stage(t, &sink{hold: true}, func(o *Options) { o.segment = 1000 })
		for n := range 9 {
			want(t, "add", add(s, "a", "k", strings.Repeat(fmt.Sprint(n), 500)), nil)
		}
		q := s.queue("a")
		second, end := q.segments[1].base, q.end
		s.Close(t.Context())
		mark, _ := v.Open("a/mark")
		if _, err := mark.WriteAt(head{life: 3, position: second, end: end, topic: "a"}.encode(), headSize); err != nil {
			t.Fatal(err)
		}
		s, _ = stage(t, &sink{}, func(o *Options) { o.disk, o.idle = v.After(false), true })
		left, _ := s.Status()
		for range 20 {
			next, err := Open(Options{Dir: "/v", Limit: 1 << 20, Log: slog.New(slog.DiscardHandler), disk: s.disk.(*sim.Volume).After(true), idle: true})
			if err != nil {
				t.Fatal(err)
			}
			now, _ := next.Status()
			want(t, "left", now, left)
		}
	})
}

// The bytes of format 1 are read for ever.
func TestGolden(t *testing.T) {
	at := time.UnixMilli(1_795_000_000_123)
	group := appendFrame(nil, &kafka.Record{Partition: -1, Key: []byte("customer-17"), Value: []byte(`{"total":12}`), Headers: []kafka.Header{{Name: "source", Value: []byte("web")}, {Name: "", Value: nil}}}, at)
	group = appendFrame(group, &kafka.Record{Partition: 3, Timestamp: 1, Key: []byte{}}, at)
	group = appendFrame(group, &kafka.Record{Partition: 0, Timestamp: 2, Value: []byte{}}, at)
	seal(group, 42, 1000, 1000)
	files := map[string][]byte{
		"orders/00000000000000001000": append(head{life: 42, position: 1000, topic: "orders"}.encode(), group...),
		"orders/mark":                 append(head{life: 6, position: 1000, end: 1000, topic: "orders"}.encode(), make([]byte, headSize)...),
	}
	for name, b := range files {
		path := filepath.Join("testdata", "v1", filepath.FromSlash(name))
		golden, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			_ = os.MkdirAll(filepath.Dir(path), 0o755)
			golden, err = b, os.WriteFile(path, b, 0o644)
			t.Errorf("%s was not there, and is now", path)
		}
		if err != nil || !bytes.Equal(golden, b) {
			t.Errorf("%s is not what is written today: %v", path, err)
		}
	}
	all, err := look(dir(filepath.Join("testdata", "v1")))
	if err != nil || len(all) != 1 || all[0].records != 3 || !all[0].oldest.Equal(at) || all[0].mark.life != 6 {
		t.Fatalf("%+v %v", all, err)
	}
	var shown []string
	for s, p := all[0].segments[0], int64(1000); p < all[0].end; {
		f, err := new(reader).frame(s, p, all[0].end)
		if err != nil {
			t.Fatal(err)
		}
		r, err := f.record("orders")
		shown = append(shown, fmt.Sprintf("%d %d key %q %v value %q %v headers %q %v", r.Partition, r.Timestamp, r.Key, r.Key == nil, r.Value, r.Value == nil, r.Headers, err))
		p += f.size
	}
	want(t, "records", strings.Join(shown, "\n"), `-1 1795000000123 key "customer-17" false value "{\"total\":12}" false headers [{"source" "web"} {"" ""}] <nil>
3 1 key "" false value "" true headers [] <nil>
0 2 key "" true value "" false headers [] <nil>`)
}

// Nothing that is not a frame is taken for one.
func FuzzDecode(f *testing.F) {
	frame := appendFrame(nil, &kafka.Record{Key: []byte("k"), Value: []byte("v"), Headers: []kafka.Header{{Name: "n", Value: []byte("v")}}}, time.Now())
	seal(frame, 1, 2, 2)
	f.Add(frame)
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := decodeFrame(b, 1, 2); err == nil && !bytes.Equal(b[8:], frame[8:]) {
			if _, err := got.record("t"); err != nil {
				t.Error(err)
			}
		}
	})
}

// BenchmarkAdd is a caller's wait on this machine's disk; 64: of many.
func BenchmarkAdd(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			dir := b.TempDir()
			s, _ := stage(b, &sink{}, func(o *Options) { o.Dir, o.disk, o.Limit = dir, nil, 1<<30 })
			value := strings.Repeat("x", 200)
			b.SetParallelism(callers)
			var n int
			var mu sync.Mutex
			each := func() {
				mu.Lock()
				n++
				key := fmt.Sprint(n % 997)
				mu.Unlock()
				if err := add(s, "orders", key, value); err != nil {
					b.Error(err)
				}
			}
			if callers == 1 {
				for b.Loop() {
					each()
				}
			} else {
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						each()
					}
				})
			}
			b.StopTimer()
			s.Drain(b.Context())
			s.Close(b.Context())
		})
	}
}

// What Kafka has taken behind a record that is stuck is not sent again by the lives that follow, and is not counted; what is of the stuck one's key waits.
func TestAStopKeepsWhatIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &sink{answer: func(_, value string, _ bool) error {
			if value == "stuck" {
				return kafka.ErrNoBroker
			}
			return nil
		}}
		s, v := stage(t, k)
		for life := range 3 {
			if life == 0 {
				want(t, "added", errors.Join(add(s, "orders", "a", "stuck", "behind"), add(s, "orders", "", "1", "2"), add(s, "orders", "b", "3")), error(nil))
			} else {
				want(t, "added", add(s, "orders", "c", fmt.Sprint("life ", life)), nil)
			}
			time.Sleep(5 * time.Second)
			s.Drain(t.Context())
			s.Close(t.Context())
			records, _ := s.Status()
			want(t, "left", records, 2)
			s, _ = stage(t, k, func(o *Options) { o.disk = v })
			records, _ = s.Status()
			want(t, "left after a start", records, 2)
		}
		want(t, "sent", slices.Sorted(slices.Values(k.all())), []string{"orders/1", "orders/2", "orders/3", "orders/life 1", "orders/life 2"})
		k.mu.Lock()
		k.answer = nil
		k.mu.Unlock()
		time.Sleep(5 * time.Second)
		want(t, "sent at last", k.all()[5:], []string{"orders/stuck", "orders/behind"})
		records, _ := s.Status()
		want(t, "left at last", records, 0)
		s.Close(t.Context())
	})
}

// Nor is it forgotten by a life that does not come to it: nobody answers, and there is room for one record.
func TestAStopKeepsWhatTheLifeBeforeKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := true
		k := &sink{answer: func(_, value string, _ bool) error {
			if stuck && (value == "stuck" || value == "mid") {
				return kafka.ErrNoBroker
			}
			return nil
		}}
		s, v := stage(t, k)
		for _, value := range []string{"stuck", "1", "mid", "2"} {
			want(t, "added", add(s, "orders", value, value), error(nil))
		}
		end := func() {
			time.Sleep(5 * time.Second)
			s.Drain(t.Context())
			s.Close(t.Context())
		}
		end()
		silent := &sink{hold: true}
		s, _ = stage(t, silent, func(o *Options) { o.disk, o.Buffer = v, 1 })
		end()
		stuck = false
		s, _ = stage(t, k, func(o *Options) { o.disk = v })
		end()
		want(t, "sent", slices.Sorted(slices.Values(k.all())), []string{"orders/1", "orders/2", "orders/mid", "orders/stuck"})
	})
}
