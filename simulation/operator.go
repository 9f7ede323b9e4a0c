package simulation

import (
	"context"
	"errors"
	"time"

	"github.com/kpush/kpush/forwarder"
	"github.com/kpush/kpush/kafka"
)

func (w *World) deadline() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 10*time.Second)
}

// pause has a life's partitions paused, and resumed a while later, whoever has them then.
func (w *World) pause(l *life, e event) {
	w.later(0, func() {
		ctx, end := w.deadline()
		defer end()
		before := 0
		w.with(func() { before = w.resumes })
		ps, err := l.f.Pause(ctx, "simulation", "", -1)
		w.with(func() {
			if err != nil {
				w.say("%s is not paused: %v", l, err)
			}
			for _, p := range ps {
				w.paused[p] = err == nil && before == w.resumes
			}
		})
	})
	w.later(e.long, func() { w.resume() })
}

// resume is said to each process.
func (w *World) resume() {
	w.with(func() { w.resumes++; clear(w.paused) })
	for _, h := range w.hosts {
		if l := h.now(); l.runs() {
			w.later(0, func() {
				ctx, end := w.deadline()
				defer end()
				if _, err := l.f.Resume(ctx, "simulation", "", -1); err != nil && !errors.Is(err, forwarder.ErrNotOurs) {
					w.with(func() { w.say("%s does not resume: %v", l, err) })
				}
			})
		}
	}
}

// target is a partition that somebody has, who that is, and an offset of it.
func (w *World) target(e event) (l *life, at kafka.Position) {
	w.with(func() {
		all := w.partitions()
		p := all[e.n%len(all)]
		log := w.logs[p]
		at = kafka.Position{Partition: p, Offset: log.oldest + (log.next-log.oldest)*int64(e.n%5)/4}
		if c := w.group.owner[p]; c != nil && !c.life.dead && c.life.f != nil {
			l = c.life
		}
	})
	return l, at
}

// seek has a partition go on elsewhere while it runs. It counts once Kafka has it: see committed.
func (w *World) seek(e event) {
	l, at := w.target(e)
	if l == nil {
		return
	}
	w.with(func() { w.asked[at.Partition] = append(w.asked[at.Partition], at.Offset) })
	ctx, end := w.deadline()
	defer end()
	_, err := l.f.Seek(ctx, "simulation", topic, at.Number, forwarder.Target{Offset: at.Offset})
	w.with(func() { w.say("%s, a seek of %s to %d: %v", l, at.Partition, at.Offset, err) })
}

// skip gives messages up that have failed, one after the other, as long as the event lasts.
func (w *World) skip(e event) {
	for over := time.Now().Add(e.long); time.Now().Before(over); time.Sleep(100 * time.Millisecond) {
		l, at := w.target(e)
		var d *deed
		w.with(func() {
			at.Offset = w.service.lowest(at.Partition)
			if d = w.service.deeds[at.Partition][at.Offset]; d == nil || d.begun == 0 || l == nil || w.closing {
				d = nil
				return
			}
			d.skipped, d.had = true, true // from now on it may be
			w.service.count(at.Partition)
		})
		if d == nil {
			continue
		}
		ctx, end := w.deadline()
		_, err := l.f.Skip(ctx, "simulation", forwarder.Selection{Position: at})
		end()
		w.with(func() {
			w.say("%s, a skip of %s/%d: %v", l, at.Partition, at.Offset, err)
			if errors.Is(err, forwarder.ErrNotFailing) || errors.Is(err, forwarder.ErrNotOurs) || errors.Is(err, forwarder.ErrEnding) {
				d.skipped = false
				w.service.count(at.Partition)
			}
		})
	}
}

// reset is kafka-consumer-groups --reset-offsets: every process is stopped, and when the group is empty Kafka has another commit of a partition.
func (w *World) reset(e event) {
	_, at := w.target(e)
	for _, h := range w.hosts {
		w.with(func() { h.off = true })
		if l := h.now(); l != nil {
			l.stop()
		}
	}
	for empty := false; !empty && !w.over(); time.Sleep(500 * time.Millisecond) {
		w.with(func() { empty = len(w.group.members) == 0 })
	}
	w.with(func() {
		at.Offset = min(max(at.Offset, w.logs[at.Partition].oldest), w.logs[at.Partition].next)
		for w.group.ever[at] && at.Offset < w.logs[at.Partition].next {
			at.Offset++ // what kpush has committed itself may be its own word
		}
		if len(w.group.members) == 0 && !w.group.ever[at] {
			w.say("an operator resets %s to %d", at.Partition, at.Offset)
			w.group.commits[at.Partition] = kafka.Commit{Partition: at.Partition, Offset: at.Offset}
			delete(w.paused, at.Partition) // nothing in Kafka says so any more
			w.service.again(at.Partition, at.Offset)
		}
		for _, h := range w.hosts {
			h.off = false
		}
	})
	for _, h := range w.hosts {
		w.later(50*time.Millisecond, h.start)
	}
}

// over tells whether the time of faults is.
func (w *World) over() bool { return time.Since(w.began) > length }
