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

// SkippedPage is a part of the skip log, in its order: a message that was skipped twice, behind a seek or a crash, is there twice.
type SkippedPage struct {
	Messages []SkippedMessage
	Next     int64 // where the next page begins; 0: there is none
}

// SkipCounts are what the skip log holds: lines of messages, those that were sent again, and the newest messages, the newest first.
type SkipCounts struct {
	Skipped, Resent int64
	Newest          []SkippedMessage
}

// scan hands the whole lines of a file beside the skip log over, from where one of them begins, until do wants no more. A file that is not
// there has none; what is no line, as half of one that a crash has left, is for do to pass over. A line is good until do returns.
func (s *skipLog) scan(name string, from int64, do func(at int64, line []byte) (more bool)) error {
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
			if !do(at, line) {
				return nil
			}
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
	return s.scan(name, 0, func(_ int64, line []byte) bool {
		var v T
		if json.Unmarshal(line, &v) == nil {
			do(v)
		}
		return true
	})
}

// lines are the skip log's own: of each the message that it is about, by id, and whether it notes a resend. The id is near a line's
// front, and what is inside of a value has its quotes escaped.
func (s *skipLog) lines(from int64, do func(at int64, id, line []byte, note bool) (more bool)) error {
	return s.scan(filepath.Base(s.path), from, func(at int64, line []byte) bool {
		_, rest, found := bytes.Cut(line[:min(len(line), idWithin)], []byte(`"id":"`))
		id, _, whole := bytes.Cut(rest, []byte(`"`))
		return !found || !whole || do(at, id, line, len(line) < noteMost && bytes.Contains(line, []byte(`"resend":"`)))
	})
}

// An id, with a topic of 249 letters, is within so many bytes of a line, and a note has no more than that.
const (
	idWithin = 512
	noteMost = 1024
)

// page is the messages of the lines from after on, limit of them at the most, with what notes behind them say. It holds no more than
// them, and reads no more than these lines and those that may be notes.
func (s *skipLog) page(after int64, limit int) (p SkippedPage, err error) {
	t, err := s.count()
	if err != nil {
		return p, err
	}
	if after > t.to {
		return p, errRotated
	}
	lines := map[string][]int{} // of a message
	note := func(id, line []byte) {
		for _, i := range lines[string(id)] {
			p.Messages[i].noted(line)
		}
	}
	err = s.lines(after, func(at int64, id, line []byte, isNote bool) (more bool) {
		var m SkippedMessage
		switch {
		case isNote:
			note(id, line)
		case len(p.Messages) == limit:
			p.Next = at
		case m.skipped(at, line):
			lines[m.ID] = append(lines[m.ID], len(p.Messages))
			p.Messages = append(p.Messages, m)
		}
		return p.Next == 0
	})
	if err == nil && p.Next > 0 && t.notes >= 0 {
		err = s.lines(max(p.Next, t.notes), func(_ int64, id, line []byte, isNote bool) bool {
			if isNote {
				note(id, line)
			}
			return true
		})
	}
	return p, err
}

// unsent is a page of the log for a resend, in which each message is once, in its newest line, with all that the log says of it. wanted
// tells by id which are meant; nil: all are. It holds the page, and reads the log once for each.
func (s *skipLog) unsent(after int64, limit int, wanted func(id []byte) bool) (p SkippedPage, err error) {
	if info, err := os.Stat(s.path); after > 0 && (err != nil || info.Size() < after) {
		return p, errRotated
	}
	found := map[string]*SkippedMessage{}
	if err = s.lines(after, func(at int64, id, _ []byte, isNote bool) (more bool) {
		switch {
		case isNote || found[string(id)] != nil || wanted != nil && !wanted(id):
		case len(found) == limit:
			p.Next = at
		default:
			found[string(id)] = &SkippedMessage{}
		}
		return p.Next == 0
	}); err != nil {
		return p, err
	}
	err = s.lines(0, func(at int64, id, line []byte, isNote bool) bool {
		if m := found[string(id)]; m != nil && isNote {
			m.noted(line)
		} else if m != nil {
			m.skipped(at, line)
		}
		return true
	})
	for _, m := range found {
		if m.ID != "" && m.line >= after && (p.Next == 0 || m.line < p.Next) {
			p.Messages = append(p.Messages, *m)
		}
	}
	slices.SortFunc(p.Messages, func(a, b SkippedMessage) int { return cmp.Compare(a.line, b.line) })
	return p, err
}

// skipped takes a line with which the message was skipped, and tells whether it is one. One that is skipped once more, behind a seek or a
// crash, is not sent again yet, and was in doubt if it ever was.
func (m *SkippedMessage) skipped(at int64, line []byte) bool {
	var e skipped
	if json.Unmarshal(line, &e) != nil {
		return false
	}
	*m = SkippedMessage{Position: e.position(), ID: e.ID, Key: e.Key, Size: len(e.Value), Attempts: max(e.Attempts, m.Attempts), Reason: e.Reason,
		InDoubt: e.InDoubt || m.InDoubt, Skipped: e.Time, line: at}
	return true
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

var errRotated = fmt.Errorf("the skip log has been rotated or removed meanwhile, so to go on in it is %w: begin anew", ErrAsked)

// skipTally is what was counted of the skip log so far: where the newest messages begin, newestMost at the most, and the first note.
type skipTally struct {
	file            os.FileInfo
	to              int64
	skipped, resent int64
	newest          []int64
	notes           int64 // -1: there is none
}

const newestMost = 20

// count brings the tally up to date: what was counted before is not read again, unless the file is another one.
func (s *skipLog) count() (skipTally, error) {
	s.tallying.Lock()
	defer s.tallying.Unlock()
	t := &s.tally
	info, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		*t = skipTally{notes: -1}
		return *t, nil
	}
	if err != nil {
		return *t, err
	}
	if t.file == nil || !os.SameFile(t.file, info) || info.Size() < t.to {
		*t = skipTally{notes: -1}
	}
	t.file = info
	err = s.lines(t.to, func(at int64, _, line []byte, isNote bool) bool {
		t.to = at + int64(len(line))
		switch {
		case !isNote:
			t.skipped++
			t.newest = append(t.newest[max(0, len(t.newest)-newestMost+1):], at)
		case t.notes < 0:
			t.notes = at
		}
		if isNote && bytes.Contains(line, []byte(`"resend":"`+resendDelivered)) {
			t.resent++
		}
		return true
	})
	return *t, err
}

// counts are the skip log's as it is now.
func (s *skipLog) counts() (SkipCounts, error) {
	t, err := s.count()
	c := SkipCounts{Skipped: t.skipped, Resent: t.resent}
	if err == nil && len(t.newest) > 0 {
		var p SkippedPage
		p, err = s.page(t.newest[0], newestMost)
		slices.Reverse(p.Messages)
		c.Newest = p.Messages
	}
	return c, err
}
