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
	messages []*kafka.Message
	in       []*lane // the lane of each message
	size     int     // of what it was filled with, in bytes
	room     int     // what that may be
	trial    bool    // which is more than the service is known to take
}

// Owner is whose messages they are.
func (b *Batch) Owner() Owner { return b.of.owner }

// Messages are those without an outcome, in the order of their lanes. Good until the next call about the batch.
func (b *Batch) Messages() []*kafka.Message { return b.messages }

// fill makes a batch of a lane that has got its turn, and of more of its partition's ready lanes, until it is full. What is left
// waits for more.
func (p *Pace) fill(b *Batch, l *lane) {
	s := l.of
	b.of, b.kind, b.probe, p.probes = s, first, p.probes, nil
	b.size = 0
	b.room, b.trial = p.ration.next()
	b.add(l)
	if p.cfg.BatchSize <= 1 {
		return
	}
	for len(b.messages) < p.cfg.BatchSize && len(s.ready) > 0 && b.fits(s.ready[0].head) && s.owner.Admits(s.ready[0].head.Offset) {
		b.add(s.pop())
	}
	s.due = time.Now().Add(p.cfg.BatchLinger)
}

// add takes as many of a lane's messages as there is room for. What was tried before goes without what is new in its lane. The
// first one is admitted.
func (b *Batch) add(l *lane) {
	size, owner, tried := b.pace.cfg.BatchSize, l.of.owner, false
	for m := l.head; m != nil; m = m.Next {
		if size > 1 {
			was := owner.Tried(m.Offset)
			if m != l.head && (tried && !was || !b.fits(m) || !owner.Admits(m.Offset)) {
				return
			}
			tried = was
		}
		l.batched++
		b.size += m.Size
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
	b.filter(func(m *kafka.Message, l *lane) (stays bool) {
		if stays = !slices.Contains(done, m); !stays {
			l.remove(m)
		}
		return stays
	})
	b.pace.dispatch()
}

// Keep gives back the lanes of which none is among the first n messages: those go on, and the batch no longer has them. What waits for more
// messages, as these did once, goes with the next batch.
func (b *Batch) Keep(n int) {
	b.pace.mu.Lock()
	defer b.pace.mu.Unlock()
	kept := slices.Clone(b.in[:n])
	b.filter(func(_ *kafka.Message, l *lane) bool { return slices.Contains(kept, l) })
	b.of.due = time.Time{}
	b.pace.dispatch()
}

// filter keeps the messages that are to stay, and lets the lanes go on of which none is left.
func (b *Batch) filter(stays func(*kafka.Message, *lane) bool) {
	n := 0
	for i, m := range b.messages {
		l := b.in[i]
		if stays(m, l) {
			b.messages[n], b.in[n] = m, l
			n++
		} else if l.batched--; l.batched == 0 {
			b.of.release(l)
		}
	}
	clear(b.messages[n:])
	clear(b.in[n:])
	b.messages, b.in = b.messages[:n], b.in[:n]
}

// Next ends the batch, and fills it anew, with the turn that it has: false where there is nothing, and the goroutine ends. done:
// what it holds has its outcome, and the lanes go on; else the partition was stopped. unrecorded: that outcome goes on record
// together with the next batch's intent. Until somebody calls Lanes.Recorded it counts as under way; and where Next returns false, it
// has kept its turn, to be given back after that.
func (b *Batch) Next(done, unrecorded bool) bool {
	p, s := b.pace, b.of
	p.mu.Lock()
	defer p.mu.Unlock()
	b.filter(func(m *kafka.Message, l *lane) bool {
		if done {
			l.remove(m)
		} else {
			l.drop()
		}
		return false
	})
	b.of = nil
	b.renew()
	var l *lane
	switch {
	case !unrecorded:
		s.running.Done() // after this nothing of the partition is under way
		l = p.onward(&b.Turn)
	case len(p.again) == 0 && p.taken <= p.limit && !p.hosts.resting.Load():
		if l = p.nextLane(); l != nil {
			p.reclaim(&b.Turn)
		}
	}
	if l == nil {
		return false
	}
	p.fill(b, l)
	return true
}
