package spool

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kpush/kpush/kafka"
)

// Options of Open.
type Options struct {
	Dir      string // of the volume, which is this process's
	Limit    int64  // bytes of the files; 0: nothing is taken, and what there is is sent
	Buffer   int64  // bytes that the producer may have of it
	Producer kafka.Producer
	Batch    func(topic string) int                   // bytes that a topic takes of records at once, 0: not known; nil: nobody knows
	Lacks    func(topic string, partition int32) bool // whether Kafka says that the topic does not have the partition; nil: nobody knows. It must not wait
	Came     func(error)                              // told once of each record: nil, or why Kafka does not take it. It must not wait
	Log      *slog.Logger

	segment int64 // 0: by Limit
	window  int   // 0: windowMost
	disk    disk  // nil: the directory's
	idle    bool  // no goroutines: whoever tests calls flush and step
}

// Spool keeps records on the volume until Kafka has them. It is safe for concurrent use.
type Spool struct {
	o        Options
	disk     disk
	size     atomic.Int64 // bytes of the files, and of frames that are about to be written
	refused  atomic.Int64 // records that Kafka does not take, since the start
	told     atomic.Int64 // when the log was told of one
	flying   atomic.Int64 // bytes that the producer has
	stopping atomic.Bool  // it gets no more
	closed   chan struct{}
	ends     sync.WaitGroup

	mu     sync.Mutex
	queues map[string]*queue
}

const (
	segmentMost  = 16 << 20
	segmentLeast = 64 << 10
)

// Directory is where the spool of a volume is.
func Directory(volume string) string { return filepath.Join(volume, "spool") }

// Holds tells whether the volume has a spool with records, or may have.
func Holds(volume string) bool {
	names, err := dir(Directory(volume)).List()
	return err != nil || slices.ContainsFunc(names, func(name string) bool { return strings.Contains(name, "/0") })
}

// Open finds what a life before has left, and sends it. An error is for a person to act on.
func Open(o Options) (*Spool, error) {
	s := &Spool{o: o, disk: o.disk, closed: make(chan struct{}), queues: map[string]*queue{}}
	if s.disk == nil {
		s.disk = dir(Directory(o.Dir))
	}
	s.o.window = cmp.Or(o.window, windowMost)
	s.o.segment = cmp.Or(o.segment, max(segmentLeast, min(segmentMost, o.Limit/64)))
	if err := s.recover(); err != nil {
		return nil, fmt.Errorf("the spool %s cannot be used: %w", Directory(o.Dir), err)
	}
	for _, q := range s.queues {
		s.begin(q)
	}
	return s, nil
}

// Takes tells whether there is room for anything at all.
func (s *Spool) Takes() bool { return s.o.Limit > 0 }

// Topics are those that were ever added to, and how many partitions each had.
func (s *Spool) Topics() map[string]int {
	all := map[string]int{}
	for _, q := range s.all() {
		q.mu.Lock()
		all[q.topic] = int(q.places)
		q.mu.Unlock()
	}
	return all
}

func (s *Spool) all() (list []*queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		list = append(list, q)
	}
	slices.SortFunc(list, func(a, b *queue) int { return strings.Compare(a.topic, b.topic) })
	return list
}

// queue is the topic's, which begins now where there is none.
func (s *Spool) queue(topic string) *queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[topic]
	if q == nil {
		q = s.newQueue(topic)
		s.queues[topic] = q
		s.begin(q)
	}
	return q
}

func (s *Spool) newQueue(topic string) *queue {
	return &queue{spool: s, topic: topic, dirty: make(chan struct{}, 1), stir: make(chan struct{}, 1), window: window{newest: map[uint64]*entry{}}}
}

func (s *Spool) begin(q *queue) {
	if !s.o.idle {
		s.ends.Go(q.write)
		s.ends.Go(q.send)
	}
}

// Add returns once all the records, of one topic with so many partitions, are on the disk, or why none of them is: ErrFull, ErrVolume,
// kafka.ErrTooLarge. After kafka.ErrUnknown they may be. ctx bounds the wait.
func (s *Spool) Add(ctx context.Context, topic string, places int, list []kafka.Record) error {
	var frames []byte
	now := time.Now()
	for i := range list {
		frames = appendFrame(frames, &list[i], now)
	}
	q := s.queue(topic)
	done, err := q.join(frames, len(list), places)
	if err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: it is on its way to the volume, which does not answer", kafka.ErrUnknown)
	}
}

// Status is how many records wait, and in how many bytes of files.
func (s *Spool) Status() (records, bytes int64) {
	for _, q := range s.all() {
		records += q.left.Load()
	}
	return records, s.size.Load()
}

// Notes are what an operator should know: why records wait that are older, and what is refused.
func (s *Spool) Notes(older time.Duration) (notes []string) {
	for _, q := range s.all() {
		q.mu.Lock()
		why, failed, writing := q.why, q.failed, q.writing
		q.mu.Unlock()
		switch {
		case failed != nil:
			notes = append(notes, fmt.Sprintf("the spool cannot be written for %s, so async=true is refused: %v", q.topic, failed))
		case !writing.IsZero() && time.Since(writing) > hangs:
			notes = append(notes, fmt.Sprintf("the spool cannot be written for %s, so async=true is refused: the volume has taken nothing for %v", q.topic, time.Since(writing).Round(time.Second)))
		}
		since := time.UnixMilli(q.since.Load())
		if left := q.left.Load(); left > 0 && time.Since(since) > older {
			note := fmt.Sprintf("%d records of %s wait in the spool, the oldest since %s", left, q.topic, since.UTC().Format(time.RFC3339))
			if why != nil {
				note += ": " + why.Error()
			}
			notes = append(notes, note)
		}
	}
	if n := s.refused.Load(); n > 0 {
		notes = append(notes, fmt.Sprintf("Kafka has refused %d records of the spool since the start; they are in %s", n, filepath.Join(Directory(s.o.Dir), refusedName)))
	}
	return notes
}

// stalled is for how long nothing may be acknowledged before Drain gives up.
const stalled = 2 * time.Second

// Drain sends what there is, for as long as Kafka takes it and until ctx ends. The producer gets no more after it.
func (s *Spool) Drain(ctx context.Context) {
	defer s.stopping.Store(true)
	left, since := int64(-1), time.Now()
	for ctx.Err() == nil {
		now, _ := s.Status()
		if now == 0 || now == left && time.Since(since) > stalled {
			return
		}
		if now != left {
			left, since = now, time.Now()
		}
		slice, end := context.WithTimeout(ctx, 20*time.Millisecond)
		s.o.Producer.Flush(slice) // somebody may have it linger
		end()
		time.Sleep(time.Millisecond)
	}
}

// Close notes what Kafka has acknowledged by now, unless the disk hangs until ctx ends. What is left is for the next life; so is closing
// the files the end of the process's.
func (s *Spool) Close(ctx context.Context) {
	close(s.closed)
	over := make(chan struct{})
	go func() {
		s.ends.Wait()
		close(over)
	}()
	select {
	case <-over:
	case <-ctx.Done():
	}
}
