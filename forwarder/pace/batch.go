package pace

import (
	"slices"
	"time"

	"github.com/kpush/kpush/kafka"
)

// Batch is messages of one partition that have a turn: the oldest of several lanes, each lane's in its order; one, where
// Config.BatchSize is 1. It belongs to the goroutine that delivers it, which goes on with it from Next to Next.
type Batch struct {
	Turn
	of       *Lanes
	lanes    []*lane // under way, with a message in the batch
	messages []*kafka.Message
	in       []*lane // the lane of each message
}

// Owner is whose messages they are.
func (b *Batch) Owner() Owner { return b.of.owner }

// Messages are those without an outcome, in the order of their lanes. Good until the next call about the batch.
func (b *Batch) Messages() []*kafka.Message { return b.messages }

// fill makes a batch of a lane that has got its turn, and of more of its partition's ready lanes, until it is full. What is left
// waits for more.
func (p *Pace) fill(b *Batch, l *lane) {
	s := l.of
	b.of = s
	b.add(l)
	if p.cfg.BatchSize <= 1 {
		return
	}
	for len(b.messages) < p.cfg.BatchSize && len(s.ready) > 0 && s.owner.Admits(s.ready[0].head.Offset) {
		b.add(s.take())
	}
	s.due = time.Now().Add(p.cfg.BatchLinger)
}

// add takes as many of a lane's messages as there is room for. What was tried before goes without what is new in its lane. The
// first one is admitted.
func (b *Batch) add(l *lane) {
	b.lanes = append(b.lanes, l)
	size, owner, tried := b.pace.cfg.BatchSize, l.of.owner, false
	for m := l.head; m != nil; m = m.Next {
		if size > 1 {
			was := owner.Tried(m.Offset)
			if m != l.head && (tried && !was || !owner.Admits(m.Offset)) {
				return
			}
			tried = was
		}
		l.batched++
		b.messages, b.in = append(b.messages, m), append(b.in, l)
		if len(b.messages) >= size {
			return
		}
	}
}

// Finish ends messages that have their outcome on record, while others of the batch have none yet. Their lanes go on where the
// batch has no message of them any more.
func (b *Batch) Finish(done ...*kafka.Message) {
	b.pace.mu.Lock()
	defer b.pace.mu.Unlock()
	b.filter(func(i int) bool {
		if !slices.Contains(done, b.messages[i]) {
			return true
		}
		b.in[i].end(b.messages[i])
		return false
	})
}

// Keep gives back the lanes of which none is among the first n messages: those go on, and the batch no longer has them.
func (b *Batch) Keep(n int) {
	b.pace.mu.Lock()
	defer b.pace.mu.Unlock()
	kept := slices.Clone(b.in[:n])
	b.filter(func(i int) bool {
		if slices.Contains(kept, b.in[i]) {
			return true
		}
		b.in[i].batched--
		return false
	})
}

// filter keeps the messages that are to stay, and lets the lanes go on of which none is left.
func (b *Batch) filter(stays func(i int) bool) {
	n := 0
	for i := range b.messages {
		if m, l := b.messages[i], b.in[i]; stays(i) {
			b.messages[n], b.in[n] = m, l
			n++
		}
	}
	clear(b.messages[n:])
	clear(b.in[n:])
	b.messages, b.in = b.messages[:n], b.in[:n]
	b.lanes = slices.DeleteFunc(b.lanes, func(l *lane) bool {
		if l.batched > 0 {
			return false
		}
		b.of.release(l)
		return true
	})
	b.pace.dispatch()
}

// Next ends the batch, and fills it anew, with the turn that it has: false where there is nothing, and the goroutine ends. done:
// what it holds has its outcome, and the lanes go on; else the partition was stopped. unrecorded: that outcome goes on record
// together with the next batch's intent. Until somebody calls Lanes.Recorded it counts as under way; and where Next returns false, it
// has kept its turn, to be given back after that.
func (b *Batch) Next(done, unrecorded bool) bool {
	p, s := b.pace, b.of
	p.mu.Lock()
	defer p.mu.Unlock()
	b.clear(done)
	if unrecorded {
		if len(p.again) > 0 || p.taken > p.limit || p.hosts.resting.Load() {
			return false
		}
		l := p.lane()
		if l == nil {
			return false
		}
		p.reclaim(&b.Turn)
		b.kind = first
		p.fill(b, l)
		return true
	}
	s.running.Done() // after this nothing of the partition is under way
	if l := p.onward(&b.Turn); l != nil {
		b.kind = first
		p.fill(b, l)
		return true
	}
	return false
}

// clear lets go of everything but the turn.
func (b *Batch) clear(done bool) {
	for i, m := range b.messages {
		if done {
			b.in[i].end(m)
		}
	}
	for _, l := range b.lanes {
		if l.batched = 0; done {
			b.of.release(l)
		} else {
			l.drop()
		}
	}
	clear(b.messages)
	clear(b.in)
	clear(b.lanes)
	b.messages, b.in, b.lanes, b.of = b.messages[:0], b.in[:0], b.lanes[:0], nil
	b.Turn.renew()
}
