package pace

import (
	"container/heap"
	"sync"
	"time"

	"github.com/kpush/kpush/kafka"
)

// Owner is what has a partition's lanes opened. It is called with Pace's lock held: it must not call back, and must not wait
// for anybody who may.
type Owner interface {
	Admits(offset int64) bool // may its first attempt start now? If so, it counts as begun. After a no: Lanes.Resume
	Tried(offset int64) bool  // was it tried before?
	Left(*kafka.Message)      // it is held no more
}

// Lanes are those of one partition. Guarded by Pace.mu.
type Lanes struct {
	pace    *Pace
	owner   Owner
	whole   *lane            // of order partition
	keys    map[string]*lane // of order key: those that hold a message
	ready   offsetHeap       // the oldest message first, so that none is left behind the others
	waiting int              // messages in ready
	bytes   int              // their sizes together
	listed  bool             // Pace looks at ready
	stopped bool             // nothing starts any more

	due       time.Time // of Config.BatchLinger: until then the ready ones wait for more
	lingering bool      // a timer is set for due

	running sync.WaitGroup // batches under way, and outcomes that are not on record yet
}

// Open begins a partition.
func (p *Pace) Open(o Owner) *Lanes { return &Lanes{pace: p, owner: o} }

// Push puts a message into its lane.
func (s *Lanes) Push(m *kafka.Message) {
	p := s.pace
	if p.cfg.BatchBytes > 0 {
		m.Size = p.cfg.Size(m)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.stopped {
		s.owner.Left(m)
		return
	}
	l := s.laneOf(m)
	l.add(m)
	switch l.stage {
	case idle:
		s.release(l)
		p.dispatch()
	case ready:
		was := s.full()
		s.waiting, s.bytes = s.waiting+1, s.bytes+m.Size
		if !was && s.full() {
			p.list(s)
			p.dispatch()
		}
	}
}

// Resume looks again at a partition that could not go on.
func (s *Lanes) Resume() {
	s.pace.mu.Lock()
	defer s.pace.mu.Unlock()
	s.pace.list(s)
	s.pace.dispatch()
}

// Close ends a partition: nothing of it starts any more.
func (s *Lanes) Close() {
	s.pace.mu.Lock()
	defer s.pace.mu.Unlock()
	s.stopped = true
	for _, l := range s.ready {
		l.drop()
	}
	s.ready, s.waiting, s.bytes, s.keys = nil, 0, 0, nil
}

// Wait returns when nothing of a closed partition is under way.
func (s *Lanes) Wait() { s.running.Wait() }

// Recorded ends what Batch.Next has left under way because its outcome was not on record.
func (s *Lanes) Recorded() { s.running.Done() }

// Empty tells whether no lane holds a message.
func (s *Lanes) Empty() bool {
	s.pace.mu.Lock()
	defer s.pace.mu.Unlock()
	return len(s.keys) == 0 && len(s.ready) == 0 && (s.whole == nil || s.whole.head == nil)
}

// release makes a lane ready for its next message, or forgets it when there is none.
func (s *Lanes) release(l *lane) {
	switch {
	case s.stopped:
		l.drop()
	case l.head != nil:
		if s.pace.cfg.BatchSize > 1 && len(s.ready) == 0 {
			s.due = time.Now().Add(s.pace.cfg.BatchLinger)
		}
		l.stage = ready
		heap.Push(&s.ready, l)
		s.waiting, s.bytes = s.waiting+l.count, s.bytes+l.bytes
	default:
		l.stage = idle
		if l.keyed {
			delete(s.keys, l.key)
		}
	}
	s.pace.list(s)
}

// lingers tells whether the messages should wait for more, so that the batch gets larger; it is looked at again when the time is
// over, or when there are enough.
func (s *Lanes) lingers() bool {
	if s.pace.cfg.BatchSize <= 1 || s.full() {
		return false
	}
	left := time.Until(s.due)
	if left <= 0 {
		return false
	}
	if !s.lingering {
		s.lingering = true
		time.AfterFunc(left, func() {
			s.pace.mu.Lock()
			s.lingering = false
			s.pace.mu.Unlock()
			s.Resume()
		})
	}
	return true
}
