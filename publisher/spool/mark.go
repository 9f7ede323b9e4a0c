package spool

import (
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"time"

	"github.com/kpush/kpush/volume"
)

// note moves the mark over what is done. It is on the disk before a segment goes that is below, and before so much is done that a crash would
// send too much again (S3).
func (q *queue) note(segments []*segment, marks volume.File, end int64) error {
	n := 0
	for n < len(q.entries) && q.entries[n].done {
		n++
	}
	q.entries, q.unsynced = q.entries[:copy(q.entries, q.entries[n:])], q.unsynced+n
	mark := q.next
	if len(q.entries) > 0 {
		mark = q.entries[0].position
		q.since.Store(q.entries[0].at.UnixMilli())
	}
	if mark != q.mark {
		q.mu.Lock()
		h := head{life: q.places, position: mark, end: end, topic: q.topic}
		q.mu.Unlock()
		if _, err := marks.WriteAt(h.encode(), q.slot*headSize); err != nil {
			return err
		}
		q.mark = mark
	}
	q.mu.Lock()
	spent := q.broken && q.end == mark
	q.mu.Unlock()
	passed := 0
	for i, g := range segments {
		if last := i+1 == len(segments); last && spent && g.base < mark || !last && segments[i+1].base <= mark {
			passed++
		}
	}
	due := passed > 0 || q.unsynced >= q.spool.o.window/2 || time.Since(q.synced) >= markTime || q.spool.stopping.Load()
	if q.unsynced > 0 && due {
		if err := marks.Sync(); err != nil {
			q.mark = -1 // it is written again
			return err
		}
		q.unsynced, q.slot, q.synced = 0, 1-q.slot, time.Now() // only now may the other half be overwritten
	}
	return q.drop(segments[:passed])
}

// doneName is the file of what a stop has found done above the mark. What it says stays true.
const doneName = "done"

// keep writes it: the mark is one position, and what is behind a record that is stuck would be sent again by each start.
func (q *queue) keep() error {
	var list []byte
	for _, e := range q.entries {
		if e.done {
			list = le.AppendUint64(list, uint64(e.position))
		}
	}
	for position := range q.known { // this life has not come to it
		list = le.AppendUint64(list, uint64(position))
	}
	if len(list) == 0 {
		return nil
	}
	h := head{life: uint64(crc32.Checksum(list, castagnoli)), position: q.mark, end: int64(len(list)), topic: q.topic}
	return q.spool.disk.Create(q.topic+"/"+doneName, append(h.encode(), list...))
}

// readDone is what such a file says.
func readDone(name string, f volume.File, h head) (map[int64]bool, error) {
	list := make([]byte, min(max(0, h.end), 8*windowMost))
	if n, err := f.ReadAt(list, headSize); n < len(list) && err != io.EOF {
		return nil, err
	}
	if uint64(crc32.Checksum(list, castagnoli)) != h.life {
		return nil, damage(name, "does not hold what was written")
	}
	done := map[int64]bool{}
	for at := 0; at+8 <= len(list); at += 8 {
		done[int64(le.Uint64(list[at:]))] = true
	}
	return done, nil
}

// drop removes the oldest segments.
func (q *queue) drop(list []*segment) error {
	for _, s := range list {
		if err := q.spool.disk.Remove(s.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		_ = s.file.Close() // it is gone
		q.mu.Lock()
		end := q.end
		if q.segments = q.segments[1:]; len(q.segments) > 0 {
			end = q.segments[0].base
		}
		q.mu.Unlock()
		q.spool.size.Add(-headSize - (end - s.base))
	}
	return nil
}

// rest has the newest segment go, too, once there has been nothing for a while: it is not written any more.
func (q *queue) rest() time.Duration {
	if q.idle.IsZero() {
		q.idle = time.Now()
	}
	if wait := idleTime - time.Since(q.idle); wait > 0 {
		return wait
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.broken || len(q.segments) == 0 || len(q.waiters) > 0 || !q.writing.IsZero() {
		return never
	}
	q.broken, q.reader = true, reader{}
	return 1 // note sees to it
}
