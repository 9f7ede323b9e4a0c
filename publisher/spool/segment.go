package spool

import (
	"bytes"
	"fmt"
	"io"
	"path"
	"time"

	"github.com/kpush/kpush/volume"
)

// segment is a file of a topic.
type segment struct {
	name string
	file volume.File
	base int64 // the position of its first frame
	life uint64
}

// offset is where in the file a position is.
func (s *segment) offset(position int64) int64 { return headSize + position - s.base }

// readAhead is what a reader takes at once.
const readAhead = 32 << 10

// reader reads frames, and keeps what it read beside the newest one.
type reader struct {
	from *segment
	at   int64 // the position of kept
	kept []byte
}

// bytes are n from the position on. What is at limit or above is not looked at: it may be being written.
func (r *reader) bytes(s *segment, position, n, limit int64) ([]byte, error) {
	if position+n > limit {
		return nil, errTorn
	}
	if r.from != s || position < r.at || position+n > r.at+int64(len(r.kept)) {
		size := max(n, min(readAhead, limit-position))
		if int64(cap(r.kept)) < size || cap(r.kept) > readAhead && size <= readAhead {
			r.kept = make([]byte, size)
		}
		got, err := s.file.ReadAt(r.kept[:size], s.offset(position))
		if r.from, r.at, r.kept = s, position, r.kept[:got]; int64(got) < n {
			if err == io.EOF {
				err = errTorn
			}
			return nil, err
		}
	}
	return r.kept[position-r.at:][:n], nil
}

// frame is the one at the position. It is good until the next one is read.
func (r *reader) frame(s *segment, position, limit int64) (frame, error) {
	b, err := r.bytes(s, position, frameHead, limit)
	if err != nil {
		return frame{}, err
	}
	size, ok := sizeOf(b)
	if !ok {
		return frame{}, errTorn
	}
	if b, err = r.bytes(s, position, size, limit); err != nil {
		return frame{}, err
	}
	return decodeFrame(b, s.life, position)
}

// found is what a scan has found.
type found struct {
	end     int64 // behind the last whole group
	records int
	oldest  time.Time
}

// scan reads all groups from a position to the limit. It ends without an error where one is not whole.
func (s *segment) scan(from, limit int64) (f found, err error) {
	f.end = from
	group, oldest, r := 0, time.Time{}, reader{}
	for at := from; at < limit; {
		fr, err := r.frame(s, at, limit)
		if err == errTorn {
			break
		}
		if err != nil {
			return f, fmt.Errorf("%s: %w", s.name, err)
		}
		if group++; oldest.IsZero() {
			oldest = fr.at
		}
		if at += fr.size; fr.left == 0 {
			f.end, f.records, group, f.oldest = at, f.records+group, 0, oldest
		}
	}
	return f, nil
}

// torn says whether what is behind the end may be what a crash left: no later frame says that it was on the disk.
func (s *segment) torn(end, limit int64) error {
	rest := make([]byte, limit-end)
	if _, err := s.file.ReadAt(rest, s.offset(end)); err != nil && err != io.EOF {
		return err
	}
	for at := 0; ; at++ {
		next := bytes.Index(rest[at:], frameMagic)
		if next < 0 {
			return nil
		}
		at += next
		size, ok := sizeOf(rest[at:])
		if !ok || size > int64(len(rest)-at) {
			continue
		}
		if f, err := decodeFrame(rest[at:at+int(size)], s.life, end+int64(at)); err == nil && f.synced > end {
			return s.damaged(end)
		}
	}
}

// damaged says that what was on the disk at the position is not what it was.
func (s *segment) damaged(position int64) error {
	return damage(s.name, "is damaged at byte %d, in a part that was safely on disk", s.offset(position))
}

// damage is what is wrong with a file of a topic, and what to do.
func damage(name, format string, args ...any) error {
	return fmt.Errorf("%s %s. Bring the file back as it was; or move the directory %s away, and what is in it is not sent. Nothing was changed", name, fmt.Sprintf(format, args...), path.Dir(name))
}
