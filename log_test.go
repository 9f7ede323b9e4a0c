package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/config"
)

// reader is whoever reads the log.
type reader struct {
	mu     sync.Mutex
	asleep chan struct{} // nil: it reads
	gone   bool
	got    bytes.Buffer
}

func (r *reader) Write(p []byte) (int, error) {
	r.mu.Lock()
	asleep := r.asleep
	r.mu.Unlock()
	if asleep != nil {
		<-asleep
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return 0, syscall.EPIPE
	}
	return r.got.Write(p)
}

func (r *reader) sleeps() (wake func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	bed := make(chan struct{})
	r.asleep = bed
	return func() {
		r.mu.Lock()
		r.asleep = nil
		r.mu.Unlock()
		close(bed)
	}
}

func (r *reader) dies(gone bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = gone
}

func (r *reader) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got.String()
}

// logging runs test with a log that r reads; it ends by itself.
func logging(t *testing.T, cfg config.Config, test func(*lines, *reader)) {
	synctest.Test(t, func(t *testing.T) {
		r := new(reader)
		l := newLog(&cfg, r)
		defer close(l.stirs)
		test(l, r)
	})
}

func TestTheLogIsWrittenInOrder(t *testing.T) {
	for format, want := range map[string]string{"json": `"msg":"line","n":%d}`, "text": "msg=line n=%d"} {
		logging(t, config.Config{LogFormat: format}, func(l *lines, r *reader) {
			var all []string
			for i := range 1_000 {
				l.Info("line", "n", i)
				l.Debug("not asked for")
				all = append(all, fmt.Sprintf(want, i))
			}
			l.flush(time.Second)
			got := strings.Split(strings.TrimSpace(r.text()), "\n")
			if len(got) != len(all) {
				t.Fatalf("%d lines, want %d", len(got), len(all))
			}
			for i, line := range got {
				if !strings.HasSuffix(line, all[i]) {
					t.Fatalf("line %d is %s", i, line)
				}
			}
			if notes := l.Notes(); notes != nil {
				t.Error(notes)
			}
		})
	}
}

// Whoever logs never waits for whoever reads; what there is no room for is counted, and told of once somebody reads again.
func TestALogThatNobodyReads(t *testing.T) {
	logging(t, config.Config{}, func(l *lines, r *reader) {
		wake := r.sleeps()
		l.Info("the first")
		time.Sleep(slowLog + time.Second)
		if notes := strings.Join(l.Notes(), ""); !strings.Contains(notes, "nobody reads the log (stdout): it has taken no line since 2000-01-01T00:00:00Z") {
			t.Errorf("notes %q", notes)
		}
		begin, long := time.Now(), strings.Repeat("x", 1_000)
		for range 3_000 {
			l.Warn(long)
		}
		if took := time.Since(begin); took > 0 {
			t.Errorf("logging waited for %v", took)
		}
		begin = time.Now()
		l.flush(lastLine)
		if took := time.Since(begin); took < lastLine || took > lastLine+10*time.Millisecond {
			t.Errorf("the end waited for %v", took)
		}
		notes := strings.Join(l.Notes(), "")
		var lost int
		if _, err := fmt.Sscanf(notes, "nobody reads the log (stdout): %d lines are lost since", &lost); err != nil || lost < 1_900 || lost > 2_100 {
			t.Errorf("notes %q", notes)
		}
		if waiting := len(l.waiting); waiting > logRoom {
			t.Errorf("%d bytes wait", waiting)
		}
		wake()
		l.flush(time.Second)
		synctest.Wait()
		text := r.text()
		if got := strings.Count(text, long); got != 3_000-lost {
			t.Errorf("%d lines came, %d were counted as lost", got, lost)
		}
		if want := fmt.Sprintf(`"lines":%d}`, lost); strings.Count(text, want) != 1 || strings.Count(text, "lines are missing here") != 1 {
			t.Errorf("the log does not say what is missing: %s", text[max(0, len(text)-300):])
		}
		if l.Notes() != nil {
			t.Error(l.Notes())
		}
	})
}

// A reader that dies is nobody's end, and another one may come.
func TestALogWhoseReaderDies(t *testing.T) {
	logging(t, config.Config{}, func(l *lines, r *reader) {
		r.dies(true)
		for range 3 {
			l.Info("lost")
			synctest.Wait()
		}
		if notes := strings.Join(l.Notes(), ""); !strings.Contains(notes, "the log cannot be written: 3 lines are lost since") || !strings.Contains(notes, "broken pipe") {
			t.Errorf("notes %q", notes)
		}
		r.dies(false)
		l.Info("back")
		synctest.Wait()
		if text := r.text(); strings.Contains(text, `"lost"`) || !strings.Contains(text, `"back"`) || !strings.Contains(text, `"lines":3}`) {
			t.Errorf("the log is %s", text)
		}
	})
}

// The log costs no memory behind a burst.
func TestTheLogGivesItsRoomBack(t *testing.T) {
	logging(t, config.Config{}, func(l *lines, r *reader) {
		wake := r.sleeps()
		for range 3_000 {
			l.Warn(strings.Repeat("x", 1_000))
		}
		wake()
		for range 3 {
			l.flush(time.Second)
			l.Info("one")
		}
		l.flush(time.Second)
		synctest.Wait()
		if size := cap(l.waiting); size > 64<<10 {
			t.Errorf("%d bytes are kept", size)
		}
	})
}

func TestEveryLineIsALine(t *testing.T) {
	l := newLog(&config.Config{}, io.Discard)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				l.Info("side by side")
			}
		})
	}
	all.Wait()
	l.flush(time.Second)
	if l.Notes() != nil {
		t.Error(l.Notes())
	}
}
