package forwarder

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/kpush/kpush/kafka"
)

// SkippedMessage is one of the skip log.
type SkippedMessage struct {
	kafka.Position
	ID       string
	Key      []byte
	Size     int // of the value, bytes
	Attempts int
	Reason   string
	InDoubt  bool
	Skipped  time.Time
	Resent   time.Time // zero: it was not

	line   int64 // where the newest line begins that it was skipped with
	before bool  // whether it was in doubt before the newest resend
}

// SkippedPage is a part of the skip log, in its order.
type SkippedPage struct {
	Messages []SkippedMessage
	Next     int64 // where the next page begins; 0: there is none
}

// SkipCounts are what the skip log holds: lines of messages, those that were sent again, and the newest messages, the newest first.
type SkipCounts struct {
	Skipped, Resent int64
	Newest          []SkippedMessage
}

// scan hands the whole lines of a file beside the skip log over, from where one of them begins. A file that is not there has none; what
// is no line, as half of one that a crash has left, is for do to pass over. A line is good until do returns.
func (s *skipLog) scan(name string, from int64, do func(at int64, line []byte)) error {
	file, err := os.Open(filepath.Join(filepath.Dir(s.path), name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Seek(from, io.SeekStart); err != nil {
		return err
	}
	var long []byte // of a line that is larger than the reader's buffer
	for r, at := bufio.NewReaderSize(file, 64<<10), from; ; {
		line, err := r.ReadSlice('\n')
		if len(long) > 0 || err == bufio.ErrBufferFull {
			long = append(long, line...)
			line = long
		}
		switch {
		case err == nil:
			do(at, line)
			at, long = at+int64(len(line)), long[:0]
		case err == io.EOF:
			return nil
		case err != bufio.ErrBufferFull:
			return err
		}
	}
}

// each hands what the lines of a file beside the skip log say over.
func each[T any](s *skipLog, name string, do func(T)) error {
	return s.scan(name, 0, func(_ int64, line []byte) {
		var v T
		if json.Unmarshal(line, &v) == nil {
			do(v)
		}
	})
}

// lines are the skip log's own: of each the message that it is about, by id, and whether it notes a resend. The id is near a line's
// front, and what is inside of a value has its quotes escaped.
func (s *skipLog) lines(from int64, do func(at int64, id, line []byte, note bool)) error {
	return s.scan(filepath.Base(s.path), from, func(at int64, line []byte) {
		_, rest, found := bytes.Cut(line[:min(len(line), idWithin)], []byte(`"id":"`))
		if id, _, whole := bytes.Cut(rest, []byte(`"`)); found && whole {
			do(at, id, line, len(line) < noteMost && bytes.Contains(line, []byte(`"resend":"`)))
		}
	})
}

// An id, with a topic of 249 letters, is within so many bytes of a line, and a note has no more than that.
const (
	idWithin = 512
	noteMost = 1024
)

// page is the messages whose newest line is behind after, limit of them at the most, with what all lines from there on say of them. It
// holds no more than them, and reads the log once for each page: how much there is costs time, not memory. wanted tells by id which
// are meant; nil: all are.
func (s *skipLog) page(after, from int64, limit int, wanted func(id []byte) bool) (p SkippedPage, err error) {
	if info, err := os.Stat(s.path); after > 0 && (err != nil || info.Size() < after) {
		return p, fmt.Errorf("the skip log has been rotated or removed meanwhile: to go on behind byte %d of it is %w; begin anew", after, ErrAsked)
	}
	found := map[string]*SkippedMessage{}
	if err = s.lines(after, func(at int64, id, _ []byte, note bool) {
		switch {
		case note || p.Next > 0 || found[string(id)] != nil || wanted != nil && !wanted(id):
		case len(found) == limit:
			p.Next = at
		default:
			found[string(id)] = &SkippedMessage{}
		}
	}); err != nil {
		return p, err
	}
	err = s.lines(from, func(at int64, id, line []byte, note bool) {
		if m := found[string(id)]; m != nil && note {
			m.noted(line)
		} else if m != nil {
			m.skipped(at, line)
		}
	})
	for _, m := range found {
		if m.ID != "" && m.line >= after && (p.Next == 0 || m.line < p.Next) {
			p.Messages = append(p.Messages, *m)
		}
	}
	slices.SortFunc(p.Messages, func(a, b SkippedMessage) int { return cmp.Compare(a.line, b.line) })
	return p, err
}

// skipped takes a line with which the message was skipped. One that is skipped once more, behind a seek or a crash, is not sent again
// yet, and was in doubt if it ever was.
func (m *SkippedMessage) skipped(at int64, line []byte) {
	var e skipped
	if json.Unmarshal(line, &e) != nil {
		return
	}
	*m = SkippedMessage{Position: e.position(), ID: e.ID, Key: e.Key, Size: len(e.Value), Attempts: max(e.Attempts, m.Attempts), Reason: e.Reason,
		InDoubt: e.InDoubt || m.InDoubt, Skipped: e.Time, line: at}
}

// noted takes what a line notes of a resend. One that begins, and nothing behind it, is in doubt.
func (m *SkippedMessage) noted(line []byte) {
	var e resentLine
	switch _ = json.Unmarshal(line, &e); e.Resend { // what is no line says none of these
	case resendBegins:
		m.before, m.InDoubt, m.Attempts = m.InDoubt, true, m.Attempts+1
	case resendRefused:
		m.InDoubt = m.before
	case resendDelivered:
		m.Resent = e.Time
	}
}

// line is the message whose line begins there.
func (s *skipLog) line(at int64) (e skipped, err error) {
	file, err := os.Open(s.path)
	if err != nil {
		return e, err
	}
	defer file.Close()
	if _, err = file.Seek(at, io.SeekStart); err == nil {
		err = json.NewDecoder(file).Decode(&e)
	}
	return e, err
}

// skipTally counts the lines of the skip log as they come, and knows where the newest begin.
type skipTally struct {
	mu     sync.Mutex
	file   os.FileInfo
	to     int64 // so far it has been counted
	of     SkipCounts
	newest []int64 // newestMost at the most, oldest first
}

const newestMost = 20

// counts are the skip log's as it is now: what was counted before is not read again.
func (s *skipLog) counts() (SkipCounts, error) {
	t := &s.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	info, err := os.Stat(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		t.file, t.to, t.of, t.newest = nil, 0, SkipCounts{}, nil
		return t.of, nil
	case err != nil:
		return SkipCounts{}, err
	case t.file == nil || !os.SameFile(t.file, info) || info.Size() < t.to: // it was rotated
		t.to, t.of, t.newest = 0, SkipCounts{}, nil
	}
	t.file = info
	err = s.lines(t.to, func(at int64, _, line []byte, note bool) {
		t.to = at + int64(len(line))
		if !note {
			t.of.Skipped++
			t.newest = append(t.newest[max(0, len(t.newest)-newestMost+1):], at)
		} else if bytes.Contains(line, []byte(`"resend":"`+resendDelivered)) {
			t.of.Resent++
		}
	})
	out := t.of
	if err == nil && len(t.newest) > 0 {
		var p SkippedPage
		p, err = s.page(t.newest[0], t.newest[0], newestMost, nil)
		slices.Reverse(p.Messages)
		out.Newest = p.Messages
	}
	return out, err
}
