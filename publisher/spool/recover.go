package spool

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// left is what there is of a topic.
type left struct {
	topic    string
	mark     head
	slot     int64          // of the mark, to be written next
	segments []*segment     // with records that are not done, the oldest first
	gone     []*segment     // without
	done     map[int64]bool // positions at or above the mark
	found
}

// look reads all that there is of each topic (S5).
func look(d disk) (all []*left, err error) {
	names, err := d.List()
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	topics := map[string]*left{}
	for _, name := range names {
		topic, file, ok := strings.Cut(name, "/")
		if !ok || strings.HasSuffix(name, ".new") {
			continue
		}
		l := topics[topic]
		if l == nil {
			l = &left{topic: topic}
			topics[topic], all = l, append(all, l)
		}
		if err := l.open(d, name, file); err != nil {
			return nil, err
		}
	}
	for _, l := range all {
		if err := l.scan(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// open reads the head of a file.
func (l *left) open(d disk, name, file string) error {
	f, err := d.Open(name)
	if err != nil {
		return err
	}
	b := make([]byte, 2*headSize)
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return err
	}
	h, err := decodeHead(b[:min(n, headSize)])
	if file == "mark" { // in one of two sectors: the write of the other may have failed
		if other, bad := decodeHead(b[min(n, headSize):n]); bad == nil && (err != nil || other.position >= h.position) {
			h, err = other, nil
		} else if err == nil {
			l.slot = 1
		}
	}
	base, number := strconv.ParseInt(file, 10, 64)
	switch {
	case err == errTorn:
		return damage(name, "begins with what kpush has not written")
	case err != nil:
		return fmt.Errorf("%s %w", name, err)
	case file == "mark":
		l.mark = h
		return f.Close()
	case file == doneName:
		l.done, err = readDone(name, f, h)
		return errors.Join(err, f.Close())
	case number != nil || h.position != base:
		return damage(name, "has another name than kpush gave it")
	}
	l.segments = append(l.segments, &segment{name: name, file: f, base: base, life: h.life})
	return nil
}

// scan reads what is not done.
func (l *left) scan() error {
	for len(l.segments) > 1 && l.segments[1].base <= l.mark.position {
		l.gone, l.segments = append(l.gone, l.segments[0]), l.segments[1:]
	}
	switch {
	case l.mark.topic == "" && len(l.segments) > 0:
		return damage(l.topic+"/mark", "is not there, which says what of the files beside it is done")
	case len(l.segments) == 0 && l.mark.position < l.mark.end, len(l.segments) > 0 && l.segments[0].base > l.mark.position:
		return damage(l.topic+"/mark", "names a file that is not there: records are in it that are not done")
	}
	maps.DeleteFunc(l.done, func(position int64, _ bool) bool { return position < l.mark.position })
	l.end = l.mark.position
	for i, s := range l.segments {
		size, err := s.file.Size()
		if err != nil {
			return err
		}
		next := int64(-1)
		if i+1 < len(l.segments) {
			next = l.segments[i+1].base
		}
		if err := l.scanOne(s, s.base+size-headSize, next); err != nil {
			return err
		}
	}
	l.records -= len(l.done)
	return nil
}

// scanOne reads a segment up to where its file ends; next is where the next one begins, -1 where there is none.
func (l *left) scanOne(s *segment, size, next int64) error {
	from, limit := max(s.base, l.mark.position), size
	if next >= 0 {
		limit = min(limit, next)
	}
	f, err := s.scan(from, max(from, limit))
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", s.name, err)
	case next >= 0 && f.end == size && f.end < next:
		return damage(s.name, "ends before the next file begins: one is not there, or it was cut")
	case next >= 0 && f.end != next, next < 0 && f.end < l.mark.end:
		return s.damaged(f.end)
	case next < 0 && f.end < limit:
		if err := s.torn(f.end, limit); err != nil {
			return err
		}
	}
	if l.oldest.IsZero() {
		l.oldest = f.oldest
	}
	l.end, l.records = f.end, l.records+f.records
	return nil
}

// recover goes on with what there is. What is done goes; so does half a file that has no name yet.
func (s *Spool) recover() error {
	all, err := look(s.disk)
	if err != nil {
		return err
	}
	names, err := s.disk.List()
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".new") {
			err = errors.Join(err, s.disk.Remove(name))
		}
	}
	for _, l := range all {
		if l.mark.topic != "" { // else it is an empty directory
			err = errors.Join(err, s.adopt(l))
		}
	}
	return err
}

// adopt makes a queue of what there is. What was only written is on the disk before it is believed, and before a file goes.
func (s *Spool) adopt(l *left) error {
	marks, err := s.disk.Open(l.topic + "/mark")
	if err != nil {
		return err
	}
	err = marks.Sync()
	if n := len(l.segments); n > 0 {
		err = errors.Join(err, l.segments[n-1].file.Sync())
		s.size.Add(int64(n)*headSize + l.end - l.segments[0].base)
	}
	for _, g := range l.gone {
		if err == nil {
			err = errors.Join(g.file.Close(), s.disk.Remove(g.name))
		}
	}
	q := s.newQueue(l.topic)
	q.marks, q.segments, q.broken = marks, l.segments, len(l.segments) > 0
	q.end, q.next, q.mark, q.slot, q.places = l.end, l.mark.position, l.mark.position, l.slot, l.mark.life
	q.known = l.done
	q.left.Store(int64(l.records))
	q.since.Store(l.oldest.UnixMilli())
	s.size.Add(2 * headSize)
	s.queues[q.topic] = q
	return err
}
