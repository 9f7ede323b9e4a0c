package forwarder

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// F1: a skipped message is in the skip log, whole, before it is on record; while the log cannot be written it is not skipped.
func TestSkipLogIsWrittenFirst(t *testing.T) {
	for _, bySignal := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "skipped.jsonl"), 0o700); err != nil {
				t.Fatal(err)
			}
			r := newRig(t, local(func(c *settings) {
				c.CanSkip, c.RetryNums, c.SkipLog = !bySignal, 3, filepath.Join(dir, "skipped.jsonl")
			}), nil)
			s := serving(r, func(q *http.Request) (*http.Response, error) {
				if q.Header.Get("Kafka-Offset") == "0" {
					return says(q, 500)
				}
				return says(q, 200)
			})
			p := r.partition(t0)
			m := &kafka.Message{Partition: kafka.Partition{Topic: "t"}, Offset: 0, Timestamp: 12, Key: []byte{0xff, 0}, Value: []byte("v\xfe"), Headers: []kafka.Header{{Name: "a", Value: nil}, {Name: "a", Value: []byte{}}, {Name: "b", Value: []byte("\x00\r\n")}}}
			p.push(m)
			p.push(&kafka.Message{Partition: kafka.Partition{Topic: "t"}, Offset: 1, Value: []byte("next")})
			if bySignal {
				r.until("blocked", func() bool { return len(r.f.failures.blocked()) == 1 })
				r.f.SkipBlocked()
			} else {
				r.until("3 attempts", func() bool { return s.count() == 3 })
			}
			attempts := s.count()
			pass(time.Hour)
			if next, done := p.rec.Progress(); next != 0 || len(done) != 0 || p.rec.Outstanding() != 2 || s.count() != attempts {
				t.Fatalf("recorded up to %d %s without a skip log, %d requests after %d", next, done, s.count(), attempts)
			}
			if n := len(r.logs.With("volume does not take records")); n < 1 || n > 70 {
				t.Errorf("%d lines about the volume in an hour", n)
			}
			if why := strings.Join(r.f.Ready(), "; "); !strings.Contains(why, "cannot write t/0/0 to the skip log") {
				t.Errorf("ready says %q", why)
			}
			if one := r.f.failures.oldest()[t0]; !strings.Contains(one.Reason, "it is given up, and waits for the skip log") {
				t.Errorf("failing: %+v", one)
			}
			if _, err := r.f.Skip(t.Context(), "op", Selection{Position: kafka.Position{Partition: t0}}); err == nil || !strings.Contains(err.Error(), "cannot write t/0/0 to the skip log") {
				t.Errorf("a skip meanwhile: %v", err)
			}
			if err := os.Remove(filepath.Join(dir, "skipped.jsonl")); err != nil {
				t.Fatal(err)
			}
			r.until("both are done", func() bool { next, _ := p.rec.Progress(); return next == 2 })
			b, err := os.ReadFile(filepath.Join(dir, "skipped.jsonl"))
			if err != nil || strings.Count(string(b), "\n") != 1 {
				t.Fatalf("skip log %q, %v", b, err)
			}
			var line skipped
			if err := json.Unmarshal(b, &line); err != nil {
				t.Fatal(err)
			}
			if line.ID != "t/0/0/T" || line.Attempts != attempts || string(line.Key) != "\xff\x00" || string(line.Value) != "v\xfe" || line.ValueText != "" ||
				line.Reason == "" || line.Timestamp != 12 || fmt.Sprint(line.Headers) != "[[a <nil>] [a ] [b AA0K]]" {
				t.Errorf("line %+v", line)
			}
			if why := strings.Join(r.f.Ready(), "; "); strings.Contains(why, "skip log") {
				t.Errorf("when it can be written again, ready says %q", why)
			}
			drained(p, time.Second, errStopping)
		})
	}
}

// An outcome that is not on record yet keeps its slot: a crash leaves no more in doubt than there are slots.
func TestUnrecordedOutcomesHoldTheirSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "later")
		r := newRig(t, local(func(c *settings) { c.Concurrency, c.SkipLog = 2, filepath.Join(dir, "skipped.jsonl") }), nil)
		s := serving(r, func(q *http.Request) (*http.Response, error) { return says(q, 200, "Kafka-Action", "skip") })
		var lanes []*partition
		for n := range int32(6) {
			lanes = append(lanes, r.partition(kafka.Partition{Topic: "t", Number: n}))
			lanes[n].push(&kafka.Message{Partition: kafka.Partition{Topic: "t", Number: n}})
		}
		pass(time.Hour)
		if n := s.count(); n != 2 {
			t.Errorf("%d messages have been answered and are not on record, with 2 slots", n)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		if n := s.count(); n != 6 || r.turnsTaken() != 0 {
			t.Errorf("%d of 6 answered, %d slots are held", n, r.turnsTaken())
		}
		for _, p := range lanes {
			drained(p, 0, errStopping)
		}
	})
}

// Guarantee 1 needs no volume until it skips; then it has one for itself, until it ends.
func TestGuaranteeOneSkipsOnAVolumeOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(always)) // its store has the volume
		p := r.partition(t0)
		d := given(p, kafka.Message{Offset: 1})
		r.assemble(small(), handle(always), offsets.InMemory(offsets.Options{}), slog.New(slog.DiscardHandler))
		r.run()
		if err := r.f.skips.write(d); !errors.Is(err, offsets.ErrLocked) || !strings.Contains(err.Error(), "so it is not skipped: another kpush process") {
			t.Errorf("skipped on somebody else's volume: %v", err)
		}
		drained(p, 0, errStopping)
		if err := r.store.Close(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := r.f.skips.write(d); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := offsets.Open(r.dir, offsets.Options{}); !errors.Is(err, offsets.ErrLocked) {
			t.Errorf("another process may write to the skip log: %v", err)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		store, err := offsets.Open(r.dir, offsets.Options{})
		if err != nil {
			t.Fatalf("the volume is not given back: %v", err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A disk that takes a line for ever does not hold up the end.
func TestSkipLogEndsWhileItWrites(t *testing.T) {
	s, over := &skipLog{path: filepath.Join(t.TempDir(), "skipped.jsonl"), locked: true, unlock: func() {}}, make(chan struct{})
	s.mu.Lock() // as write does
	defer s.mu.Unlock()
	go func() { defer close(over); s.close() }()
	select {
	case <-over:
	case <-time.After(5 * time.Second):
		t.Error("the end waits for the disk")
	}
}

// A message in the skip log stays readable: lines are whole even after one that failed, and a rotated file begins anew.
func TestSkipLogLines(t *testing.T) {
	r := newRig(t, small(), handle(func(*Delivery) Verdict { return Verdict{} }))
	p := r.partition(t0)
	path := r.f.skips.path
	write := func(offset int64) error {
		return r.f.skips.write(given(p, kafka.Message{Offset: offset, Value: []byte("text\n")}))
	}
	for o := range int64(3) {
		if err := write(o); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := write(3); err == nil || !strings.Contains(err.Error(), "t/0/3") || strings.Contains(err.Error(), "text") {
		t.Errorf("a directory was written to: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := write(4); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]int64{path + ".1": {0, 1, 2}, path: {4}} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for line := range strings.Lines(string(b)) {
			var l skipped
			if err := json.Unmarshal([]byte(line), &l); err != nil || l.ValueText != "text\n" {
				t.Errorf("%q: %v", line, err)
			}
			got = append(got, l.Offset)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s has offsets %v, want %v", name, got, want)
		}
		if st, err := os.Stat(name); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s is open to others: %v %v", name, st.Mode(), err)
		}
	}
}

// Half a line, which a crash has left, spoils no other: what is skipped next is a line of its own.
func TestSkipLogAfterATornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "skipped.jsonl")
	if err := os.WriteFile(path, []byte("{\"id\":\"t/0/0\"}\n{\"id\":\"t/0/"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, small(), handle(always))
	p := r.partition(t0)
	s := &skipLog{path: path, locked: true}
	for offset := range int64(2) {
		if err := s.write(given(p, kafka.Message{Offset: offset + 5})); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	lines := strings.Split(string(b), "\n")
	if err != nil || len(lines) != 5 || lines[4] != "" || !json.Valid([]byte(lines[2])) || !json.Valid([]byte(lines[3])) {
		t.Errorf("%q, %v", lines, err)
	}
}
