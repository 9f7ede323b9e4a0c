package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/kpush/kpush/config"
)

// logRoom bounds the bytes of lines that wait for whoever reads the log.
const logRoom = 1 << 20

const (
	slowLog  = 2 * time.Second        // a write that takes longer is worth a note
	lastLine = 250 * time.Millisecond // what the end of the process waits for its last lines
)

// lines is the way to the log. A line waits in memory until the log takes it, and nobody waits for that: a pipe that is not
// read, or a disk that hangs, must hold up neither a delivery nor a stop. What there is no room for is left out, and counted.
type lines struct {
	*slog.Logger
	out   io.Writer
	stirs chan struct{}
	note  func(dropped int) []byte // the line that tells of lines left out

	mu      sync.Mutex
	waiting []byte
	writing time.Time // since when a write is under way; zero: none is
	dropped int       // lines left out since the log took one
	lost    int64     // lines left out since the start
	since   time.Time // the first of them
	failed  error     // what became of the newest write
}

// newLog is the process's log, written to out.
func newLog(cfg *config.Config, out io.Writer) *lines {
	handler := func(to io.Writer) slog.Handler {
		options := &slog.HandlerOptions{Level: cfg.LogLevel}
		if cfg.LogFormat == "text" {
			return slog.NewTextHandler(to, options)
		}
		return slog.NewJSONHandler(to, options)
	}
	l := &lines{out: out, stirs: make(chan struct{}, 1)}
	l.note = func(dropped int) []byte {
		var line bytes.Buffer
		slog.New(handler(&line)).Error("lines are missing here: nobody read the log, or it could not be written", "lines", dropped)
		return line.Bytes()
	}
	l.Logger = slog.New(handler(l))
	go l.run()
	return l
}

// Write takes a line, or leaves it out. It waits for nobody.
func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting)+len(line) > logRoom {
		l.drop(1)
		return len(line), nil
	}
	l.waiting = append(l.waiting, line...)
	l.stir()
	return len(line), nil
}

func (l *lines) drop(n int) {
	if l.dropped == 0 {
		l.since = time.Now()
	}
	l.dropped += n
	l.lost += int64(n)
}

func (l *lines) stir() {
	select {
	case l.stirs <- struct{}{}:
	default:
	}
}

// run writes what waits, in as few pieces as there can be, for as long as the process lives.
func (l *lines) run() {
	var piece []byte
	for range l.stirs {
		l.mu.Lock()
		piece, l.waiting = l.waiting, piece[:0]
		if l.dropped > 0 && l.failed == nil {
			piece = append(piece, l.note(l.dropped)...)
			l.dropped = 0
		}
		l.writing = time.Now()
		l.mu.Unlock()
		n, err := l.out.Write(piece)
		l.mu.Lock()
		l.writing, l.failed = time.Time{}, err
		if err != nil {
			l.drop(bytes.Count(piece[n:], []byte{'\n'}))
		} else if l.dropped > 0 {
			l.stir() // to tell of them
		}
		l.mu.Unlock()
		if cap(piece) > 64<<10 {
			piece = nil
		}
	}
}

// flush waits until the log has what there is, for so long at the most.
func (l *lines) flush(atMost time.Duration) {
	for end := time.Now().Add(atMost); time.Now().Before(end); time.Sleep(time.Millisecond) {
		l.mu.Lock()
		done := len(l.waiting) == 0 && l.writing.IsZero()
		l.mu.Unlock()
		if done {
			return
		}
	}
}

// left is how many lines were left out since the start.
func (l *lines) left() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// Live has nothing to say: a log that nobody reads is no ill health.
func (l *lines) Live() []string { return nil }

// Ready has nothing to say either.
func (l *lines) Ready() []string { return nil }

// Notes say that lines of the log are missing, as long as it takes none.
func (l *lines) Notes() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	since := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	switch {
	case l.dropped > 0 && l.failed != nil:
		return []string{fmt.Sprintf("the log cannot be written: %d lines are lost since %s: %v", l.dropped, since(l.since), l.failed)}
	case l.dropped > 0:
		return []string{fmt.Sprintf("nobody reads the log (stdout): %d lines are lost since %s", l.dropped, since(l.since))}
	case !l.writing.IsZero() && time.Since(l.writing) > slowLog:
		return []string{fmt.Sprintf("nobody reads the log (stdout): it has taken no line since %s, and %d bytes wait", since(l.writing), len(l.waiting))}
	}
	return nil
}
