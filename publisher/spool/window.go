package spool

import (
	"errors"
	"fmt"
	"time"

	"github.com/kpush/kpush/kafka"
)

// windowMost bounds how far the newest record that was sent is ahead of what the mark on the disk says: what a crash may send again.
const windowMost = 1000

// window is what the goroutine that sends has: the records from the mark on the disk to the newest that it has looked at. No other reads or
// writes it.
type window struct {
	entries  []*entry          // from the oldest that is not done
	newest   map[uint64]*entry // by lane
	unsynced int               // records that are done, and not below the mark on the disk
	next     int64             // position of the first record that is not in it
	mark     int64             // as it was written last
	slot     int64             // of the two of its file, where it is written next
	synced   time.Time         // when it was on the disk last
	under    int               // entries that the producer has
	suspects int               // entries that Kafka has refused, and that are not done
	again    time.Time         // nothing is sent before
	idle     time.Time         // since when there is nothing; zero: there is
	said     time.Time         // when the log was told that the topic's records wait
	reader   reader
	known    map[int64]bool // positions above the mark that are done, as the stop of the life before has said
}

// entry is a record in the window, whose bytes are on the disk.
type entry struct {
	position, size int64
	at             time.Time
	lane           uint64
	before         *entry // of its lane; nil once that is done
	sent, done     bool
	refused        int // times
	err            error
}

// ready says whether an entry may be given to the producer (S2).
func (e *entry) ready() bool {
	if e.before != nil && e.before.done {
		e.before = nil
	}
	return !e.sent && !e.done && e.before == nil
}

const (
	refusedMost = 2                      // so often Kafka has to refuse a record: together with others, and alone
	room        = 10 * time.Millisecond  // after which the producer may have room
	idleTime    = 10 * time.Second       // after which a topic's segments go that hold nothing
	patience    = retryAfter             // between two attempts at what fails
	markTime    = 100 * time.Millisecond // so long the mark on the disk may be behind
	never       = time.Duration(0)       // until something stirs
)

// send is the goroutine that sends, until the spool is closed.
func (q *queue) send() {
	timer := time.NewTimer(0)
	for {
		select {
		case <-q.spool.closed:
			q.step()
			if err := q.keep(); err != nil {
				q.held(err)
			}
			return
		case <-q.stir:
		case <-timer.C:
		}
		if wait := q.step(); wait > never {
			timer.Reset(wait)
		}
	}
}

// step notes what came of what was sent, and sends what can be. It says when to come again in any case.
func (q *queue) step() time.Duration {
	q.mu.Lock()
	came, end, segments, marks := q.came, q.end, q.segments, q.marks
	q.came = nil
	q.mu.Unlock()
	for _, c := range came {
		q.apply(c)
	}
	if err := q.bury(segments, end); err != nil {
		return q.held(err)
	}
	if err := q.note(segments, marks, end); err != nil {
		return q.held(err)
	}
	if q.spool.stopping.Load() {
		return never
	}
	if wait := time.Until(q.again); wait > 0 {
		return wait
	}
	wait, err := q.give(segments, end)
	if err != nil {
		return q.held(err)
	}
	if q.left.Load() == 0 {
		wait = q.rest()
	} else {
		q.idle = time.Time{}
	}
	if q.unsynced > 0 && (wait == never || wait > markTime) {
		wait = markTime
	}
	return wait
}

// apply notes what came of an entry.
func (q *queue) apply(c outcome) {
	e := c.e
	e.sent = false
	q.under--
	q.spool.flying.Add(-e.size)
	switch {
	case c.err == nil:
		e.err = nil
		q.finish(e)
		q.flows()
	case errors.Is(c.err, kafka.ErrTooLarge), errors.Is(c.err, kafka.ErrInvalid):
		if e.refused++; e.refused == 1 {
			q.suspects++
		}
		e.err = c.err
	default:
		q.held(c.err)
	}
}

func (q *queue) finish(e *entry) {
	e.done = true
	if q.newest[e.lane] == e {
		delete(q.newest, e.lane)
	}
	if e.refused > 0 {
		q.suspects--
	}
	q.left.Add(-1)
	q.spool.o.Came(e.err)
}

// held notes why nothing of the topic can be sent, and says when to try again.
func (q *queue) held(err error) time.Duration {
	q.again = time.Now().Add(patience)
	q.mu.Lock()
	q.why = err
	q.mu.Unlock()
	if time.Since(q.said) > time.Minute {
		q.said = time.Now()
		q.spool.o.Log.Warn("records of a topic wait in the spool, and are tried again every second", "topic", q.topic, "records", q.left.Load(), "error", err)
	}
	return patience
}

// flows notes that Kafka takes the topic's records.
func (q *queue) flows() {
	q.mu.Lock()
	q.why = nil
	q.mu.Unlock()
	if !q.said.IsZero() && time.Since(q.again) > patience {
		q.said = time.Time{}
		q.spool.o.Log.Info("records of a topic that waited in the spool are sent", "topic", q.topic, "records", q.left.Load())
	}
}

// give gives to the producer what is ready and there is room for. What Kafka has refused is given alone: it may have been refused for what it was sent
// with.
func (q *queue) give(segments []*segment, end int64) (time.Duration, error) {
	for _, e := range q.entries {
		if q.suspects > 0 && q.under > 0 {
			return never, nil
		}
		if !e.ready() {
			continue
		}
		f, err := q.read(segments, e.position, end)
		if err != nil {
			return never, err
		}
		if ok, err := q.offer(e, f); !ok {
			return room, err
		}
	}
	for q.next < end && len(q.entries)+q.unsynced < q.spool.o.window && q.suspects == 0 {
		f, err := q.read(segments, q.next, end)
		if err != nil {
			return never, err
		}
		e := &entry{position: q.next, size: f.size, at: f.at, lane: f.lane, done: q.known[q.next]}
		delete(q.known, q.next)
		if e.lane != 0 && !e.done {
			e.before = q.newest[e.lane]
			q.newest[e.lane] = e
		}
		q.entries, q.next = append(q.entries, e), q.next+f.size
		if !e.ready() {
			continue
		}
		if ok, err := q.offer(e, f); !ok {
			return room, err
		}
	}
	return never, nil
}

// offer gives an entry to the producer; ok is false where there is no room, or nothing can be sent.
func (q *queue) offer(e *entry, f frame) (ok bool, err error) {
	s := q.spool
	if flying := s.flying.Add(e.size); flying > s.o.Buffer && flying > e.size {
		s.flying.Add(-e.size)
		return false, nil
	}
	r, err := f.record(q.topic)
	if err != nil {
		s.flying.Add(-e.size)
		return false, err
	}
	e.sent = true
	q.under++
	if s.o.Batch != nil {
		r.Batch = s.o.Batch(r.Topic)
	}
	partition := r.Partition // the record's bytes are not kept
	err = s.o.Producer.Queue(r, func(_ kafka.Produced, err error) {
		q.mu.Lock()
		q.came = append(q.came, outcome{e, q.judged(partition, err)})
		q.mu.Unlock()
		poke(q.stir)
	})
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, kafka.ErrQueueFull):
		e.sent = false
		q.under--
		s.flying.Add(-e.size)
		return false, nil
	}
	q.apply(outcome{e, q.judged(partition, err)})
	poke(q.stir) // no answer comes that would
	return q.again.IsZero() || time.Now().After(q.again), nil
}

// judged tells a topic that is not there, for which its records wait, from one that was made again with fewer partitions than the record needs.
func (q *queue) judged(partition int32, err error) error {
	if lacks := q.spool.o.Lacks; errors.Is(err, kafka.ErrNoTopic) && partition != kafka.AnyPartition && lacks != nil && lacks(q.topic, partition) {
		return fmt.Errorf("%w: the topic has no partition %d any more", kafka.ErrInvalid, partition)
	}
	return err
}

// read is the frame at a position.
func (q *queue) read(segments []*segment, position, end int64) (frame, error) {
	for i := len(segments) - 1; i >= 0; i-- {
		if segments[i].base <= position {
			if i+1 < len(segments) {
				end = segments[i+1].base
			}
			f, err := q.reader.frame(segments[i], position, end)
			if err == errTorn {
				err = segments[i].damaged(position)
			}
			return f, err
		}
	}
	return frame{}, fmt.Errorf("%s has no file for byte %d of all it ever had", q.topic, position)
}
