package forwarder

import (
	"container/heap"
	"slices"
	"sync"
	"time"

	"github.com/kpush/kpush/offsets"
)

// lane is messages that are delivered one after the other: all of a partition, those of a key, or a single one, by
// Config.Order. Guarded by turns.mu.
type lane struct {
	p          *partition
	key        string // of Order key: under which p knows it
	keyed      bool
	stage      stage
	probe      int // its first message probes this host: the number plus one
	count      int
	others     []*lane // under way with it, for one batch
	batched    int     // messages in a batch
	head, tail *Message
}

// stage is where a lane stands.
type stage uint8

const (
	idle     stage = iota
	ready          // its first message may be tried
	underWay       // somebody delivers its first message
)

func (l *lane) add(m *Message) {
	if l.tail == nil {
		l.head = m
	} else {
		l.tail.next = m
	}
	l.tail = m
	l.count++
}

// cut takes a message out, wherever it is.
func (l *lane) cut(m *Message) {
	at := &l.head
	for before := (*Message)(nil); *at != m; at = &(*at).next {
		before = *at
		if before.next == m && m.next == nil {
			l.tail = before
		}
	}
	*at, m.next = m.next, nil
	l.count--
	if l.head == nil {
		l.tail = nil
	}
}

// lanes are those of one partition. Guarded by turns.mu.
type lanes struct {
	whole   *lane            // of Order partition
	keys    map[string]*lane // of Order key: those that hold a message
	ready   offsetHeap       // the oldest message first, so that none is left behind the others
	waiting int              // messages in ready
	listed  bool             // turns looks at ready
	stopped bool             // nothing starts any more

	due       time.Time // of Config.BatchLinger: until then the ready ones wait for more
	lingering bool      // a timer is set for due
}

// of is the lane that a message belongs to.
func (s *lanes) of(p *partition, m *Message, order string) *lane {
	switch {
	case order == OrderNone || order == OrderKey && m.Key == nil:
		return &lane{p: p}
	case order == OrderKey:
		l := s.keys[string(m.Key)]
		if l == nil {
			if s.keys == nil {
				s.keys = make(map[string]*lane)
			}
			l = &lane{p: p, key: string(m.Key), keyed: true}
			s.keys[l.key] = l
		}
		return l
	}
	if s.whole == nil {
		s.whole = &lane{p: p}
	}
	return s.whole
}

// release makes a lane ready for its next message, or forgets it when there is none.
func (s *lanes) release(l *lane) {
	if l.head != nil {
		l.stage = ready
		heap.Push(&s.ready, l)
		s.waiting += l.count
		return
	}
	l.stage = idle
	if l.keyed {
		delete(s.keys, l.key)
	}
}

// take is the ready lane with the oldest message, which is under way from now on.
func (s *lanes) take() *lane {
	l := heap.Pop(&s.ready).(*lane)
	l.stage = underWay
	s.waiting -= l.count
	return l
}

// drop lets go of what a lane holds.
func (l *lane) drop() {
	for l.head != nil {
		m := l.head
		l.cut(m)
		l.p.let(m)
	}
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

// tried holds what is known of messages that were tried and are not finished: it goes into the commit's mark.
type tried struct {
	mu sync.Mutex
	m  map[int64]offsets.Attempt
}

func (t *tried) set(a offsets.Attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m == nil {
		t.m = make(map[int64]offsets.Attempt)
	}
	t.m[a.Offset] = a
}

func (t *tried) remove(offset int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.m, offset)
}

// list is sorted by offset. What lies below next has gone from the log without being delivered, and is forgotten.
func (t *tried) list(next int64) []offsets.Attempt {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.m) == 0 {
		return nil
	}
	out := make([]offsets.Attempt, 0, len(t.m))
	for o, a := range t.m {
		if o < next {
			delete(t.m, o)
			continue
		}
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b offsets.Attempt) int { return int(a.Offset - b.Offset) })
	return out
}
