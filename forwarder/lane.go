package forwarder

import (
	"slices"
	"sync"

	"github.com/kpush/kpush/offsets"
)

// lane delivers its messages one after the other; its goroutine lives while there is something to deliver.
type lane struct {
	p     *partition
	mu    sync.Mutex
	queue []*Message
	head  int
	busy  bool
}

func (l *lane) push(m *Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, m)
	if !l.busy {
		l.busy = true
		l.p.running.Add(1)
		go l.run()
	}
}

func (l *lane) run() {
	defer l.p.running.Done()
	for {
		m := l.next()
		if m == nil {
			return
		}
		ok := l.p.deliver(m)
		l.p.let(m)
		if !ok {
			return // still busy: nothing starts this lane again
		}
	}
}

func (l *lane) next() *Message {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.head == len(l.queue) || l.p.soft.Err() != nil {
		l.busy = l.p.soft.Err() != nil
		return nil
	}
	m := l.queue[l.head]
	l.queue[l.head] = nil
	l.head++
	if l.head == len(l.queue) {
		l.queue, l.head = l.queue[:0], 0
	} else if l.head > 1024 && l.head*2 > len(l.queue) {
		l.queue, l.head = append(l.queue[:0], l.queue[l.head:]...), 0
	}
	return m
}

// clear drops what was not started.
func (l *lane) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.queue[l.head:] {
		l.p.let(m)
	}
	l.queue, l.head = nil, 0
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
