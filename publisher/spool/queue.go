package spool

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/volume"
)

// queue is a topic's part of the spool.
type queue struct {
	spool *Spool
	topic string
	left  atomic.Int64  // records that are not done
	since atomic.Int64  // when the oldest of them was added, about, in milliseconds
	dirty chan struct{} // there is something to write; room for one
	stir  chan struct{} // there may be something to send; room for one

	mu       sync.Mutex
	group    []byte // the next one
	waiters  []waiter
	writing  time.Time // since when a group is on its way to the disk; zero: none is
	failed   error     // why the newest could not be written
	segments []*segment
	marks    volume.File // nil: not made yet
	end      int64       // of all groups
	broken   bool        // the newest segment is not written any more
	places   uint64      // partitions of the topic, as known last
	came     []outcome
	why      error // why nothing can be sent, until something is

	window // the goroutine's that sends
}

// waiter is a call of Add.
type waiter struct {
	records int64
	done    chan error // room for one
}

// outcome is what the producer says of an entry.
type outcome struct {
	e   *entry
	err error
}

var (
	// ErrFull says that there are as many bytes as there may be.
	ErrFull = errors.New("the spool is full")
	// ErrVolume says that the volume takes no record, so that it is not there.
	ErrVolume = errors.New("the spool cannot be written")
)

const (
	hangs      = 3 * time.Second // nobody has to wait behind a write that takes longer
	retryAfter = time.Second
)

// join puts frames into the next group. What becomes of it comes by the channel.
func (q *queue) join(frames []byte, records, places int) (<-chan error, error) {
	s, n := q.spool, int64(len(frames))
	if n+3*headSize > s.o.Limit {
		return nil, fmt.Errorf("%w: it has %d bytes, and the spool %d", kafka.ErrTooLarge, n, s.o.Limit)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.failed != nil:
		return nil, fmt.Errorf("%w: %w", ErrVolume, q.failed)
	case !q.writing.IsZero() && time.Since(q.writing) > hangs:
		return nil, fmt.Errorf("%w: the volume has taken nothing for %v", ErrVolume, time.Since(q.writing).Round(time.Second))
	}
	if size := s.size.Add(n); size > s.o.Limit {
		s.size.Add(-n)
		return nil, fmt.Errorf("%w: it has %d bytes of %d", ErrFull, size-n, s.o.Limit)
	}
	w := waiter{int64(records), make(chan error, 1)}
	if q.waiters, q.places = append(q.waiters, w), uint64(places); q.group == nil {
		q.group = frames
	} else {
		q.group = append(q.group, frames...)
	}
	poke(q.dirty)
	return w.done, nil
}

// poke leaves a signal in c, unless one is there.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// write is the goroutine that writes, until the spool is closed.
func (q *queue) write() {
	for again := time.Duration(0); ; again = q.flush() {
		var later <-chan time.Time
		if again > 0 {
			later = time.After(again)
		}
		select {
		case <-q.spool.closed:
			return
		case <-q.dirty:
		case <-later:
		}
	}
}

// flush puts the next group on the disk, all that has come since the last one; after a failure, where there is none, it finds out whether there
// could be. It says when to come again in any case; 0: never.
func (q *queue) flush() time.Duration {
	q.mu.Lock()
	group, list, end := q.group, q.waiters, q.end
	q.group, q.waiters, q.writing = nil, nil, time.Now()
	q.mu.Unlock()
	kind, err := q.append(group, end)
	records := int64(0)
	for _, w := range list {
		records += w.records
	}
	if err != nil {
		q.spool.size.Add(-int64(len(group)))
	} else if q.left.Add(records) == records && records > 0 {
		q.since.Store(time.Now().UnixMilli())
	}
	q.mu.Lock()
	before := q.failed
	if q.writing, q.failed = (time.Time{}), err; err == nil {
		q.end += int64(len(group))
	}
	q.mu.Unlock()
	for _, w := range list {
		if err != nil {
			w.done <- fmt.Errorf("%w: %w", kind, err)
		} else {
			w.done <- nil
		}
	}
	switch {
	case err != nil && before == nil:
		q.spool.o.Log.Error("the spool cannot be written: nothing is taken with async=true until it can", "topic", q.topic, "error", err)
	case err == nil && before != nil:
		q.spool.o.Log.Info("the spool can be written again", "topic", q.topic)
	}
	if err != nil {
		return retryAfter
	}
	poke(q.stir)
	return 0
}

// append writes a group at the end, in another segment where this one is full or cannot be trusted: its name says where this one ends. Kind is
// ErrVolume where the group is not there, ErrUnknown where nobody knows: a write that failed has not put all of it there for want of room, but what of
// it is on the disk after any other error, or after a sync that failed, is the disk's secret.
func (q *queue) append(group []byte, end int64) (kind, err error) {
	q.mu.Lock()
	tail, broken := q.tail(), q.broken
	q.mu.Unlock()
	if broken || len(group) > 0 && (tail == nil || end-tail.base >= q.spool.o.segment) {
		if tail, err = q.roll(end); err != nil {
			return ErrVolume, err
		}
	}
	if len(group) == 0 {
		return nil, nil
	}
	seal(group, tail.life, end, end)
	kind = kafka.ErrUnknown
	if _, err = tail.file.WriteAt(group, tail.offset(end)); err == nil {
		err = tail.file.Sync()
	} else if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS) {
		kind = ErrVolume
	}
	if err != nil {
		q.mu.Lock()
		q.broken = true
		q.mu.Unlock()
	}
	return kind, err
}

// tail is the newest segment. The caller holds mu.
func (q *queue) tail() *segment {
	if len(q.segments) == 0 {
		return nil
	}
	return q.segments[len(q.segments)-1]
}

// roll begins a segment.
func (q *queue) roll(end int64) (*segment, error) {
	s := &segment{name: fmt.Sprintf("%s/%020d", q.topic, end), base: end, life: rand.Uint64()}
	if err := q.makeMark(end); err != nil {
		return nil, err
	}
	d := q.spool.disk
	err := d.Create(s.name, head{life: s.life, position: end, topic: q.topic}.encode())
	if err == nil {
		s.file, err = d.Open(s.name)
	}
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if old := q.tail(); old != nil && old.base == end { // nothing of it counts, and its name is gone
		_ = old.file.Close()
		q.segments = q.segments[:len(q.segments)-1]
	} else {
		q.spool.size.Add(headSize)
	}
	q.segments, q.broken = append(q.segments[:len(q.segments):len(q.segments)], s), false
	return s, nil
}

// makeMark makes the file of the mark, before the first segment.
func (q *queue) makeMark(position int64) error {
	name := q.topic + "/mark"
	q.mu.Lock()
	there, mark := q.marks != nil, head{life: q.places, position: position, end: position, topic: q.topic}
	q.mu.Unlock()
	if there {
		return nil
	}
	if err := q.spool.disk.Create(name, append(mark.encode(), make([]byte, headSize)...)); err != nil {
		return err
	}
	f, err := q.spool.disk.Open(name)
	if err != nil {
		return err
	}
	q.spool.size.Add(2 * headSize)
	q.mu.Lock()
	q.marks, q.slot = f, 1
	q.mu.Unlock()
	return nil
}
