package pace

import (
	"container/heap"

	"github.com/kpush/kpush/kafka"
)

// lane is messages that are delivered one after the other: all of a partition, those of a key, or a single one, by
// Config.Order. Guarded by Pace.mu.
type lane struct {
	of         *Lanes
	key        string // of order key: under which of knows it
	keyed      bool
	stage      stage
	count      int
	bytes      int // sizes together
	batched    int // messages in a batch
	head, tail *kafka.Message
}

// stage is where a lane stands.
type stage uint8

const (
	idle     stage = iota
	ready          // its first message may be tried
	underWay       // a batch has its first message
)

func (l *lane) add(m *kafka.Message) {
	if l.tail == nil {
		l.head = m
	} else {
		l.tail.Next = m
	}
	l.tail = m
	l.count, l.bytes = l.count+1, l.bytes+m.Size
}

// remove takes a message out for good, wherever it is.
func (l *lane) remove(m *kafka.Message) {
	var before *kafka.Message
	at := &l.head
	for ; *at != m; at = &before.Next {
		before = *at
	}
	if l.tail == m {
		l.tail = before
	}
	*at, m.Next = m.Next, nil
	l.count, l.bytes = l.count-1, l.bytes-m.Size
	l.of.owner.Left(m)
}

// drop lets go of what a lane holds.
func (l *lane) drop() {
	for l.head != nil {
		l.remove(l.head)
	}
}

// laneOf is the one that a message belongs to.
func (s *Lanes) laneOf(m *kafka.Message) *lane {
	order := s.pace.cfg.Order
	switch {
	case order == None || order == ByKey && m.Key == nil:
		return &lane{of: s}
	case order == ByKey:
		l := s.keys[string(m.Key)]
		if l == nil {
			if s.keys == nil {
				s.keys = make(map[string]*lane)
			}
			l = &lane{of: s, key: string(m.Key), keyed: true}
			s.keys[l.key] = l
		}
		return l
	}
	if s.whole == nil {
		s.whole = &lane{of: s}
	}
	return s.whole
}

// pop is the ready lane with the oldest message, which is under way from now on.
func (s *Lanes) pop() *lane {
	l := heap.Pop(&s.ready).(*lane)
	l.stage = underWay
	s.waiting, s.bytes = s.waiting-l.count, s.bytes-l.bytes
	return l
}

// offsetHeap is a heap of lanes by the offset of their first message.
type offsetHeap []*lane

func (h offsetHeap) Len() int           { return len(h) }
func (h offsetHeap) Less(i, j int) bool { return h[i].head.Offset < h[j].head.Offset }
func (h offsetHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *offsetHeap) Push(x any)        { *h = append(*h, x.(*lane)) }
func (h *offsetHeap) Pop() any {
	last := len(*h) - 1
	l := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return l
}
