package simulation

import (
	"context"
	"strings"
	"time"
)

// Result is what came of a history.
type Result struct {
	Failure  string // "": none
	History  []string
	Requests int
	Repeats  int
	Kills    int
	Messages int
}

// run lives a plan through, in a synctest bubble.
func (w *World) run(plan []event) (r Result) {
	ticking, end := context.WithCancel(context.Background())
	go func() {
		for {
			select {
			case <-ticking.Done():
				return
			case <-time.After(500 * time.Millisecond):
				w.with(func() { w.group.tick(time.Now()) })
			}
		}
	}()
	w.with(func() { w.say("%+v", w.cfg) })
	for _, h := range w.hosts {
		h.start()
	}
	for _, e := range plan {
		time.Sleep(time.Until(w.began.Add(e.at)))
		if w.failed() {
			break
		}
		w.happen(e)
	}
	if !w.failed() {
		time.Sleep(time.Until(w.began.Add(length)))
	}
	w.heal()
	over := time.Now()
	for round := 0; !w.failed(); round++ {
		if round%50 == 0 {
			w.resume() // a process that has just begun has heard of no resume before
		}
		settled := false
		w.with(func() { settled = w.settled() })
		if settled {
			break
		}
		if time.Since(over) > grace {
			w.with(func() { w.fail("no progress: %v after the last fault %d messages are not done", grace, w.undone) })
			w.tell()
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.close()
	end()
	w.pending.Wait()
	time.Sleep(time.Minute) // what is left after it stays for ever, and the bubble says so
	w.with(func() {         // a log may still be written
		r = Result{w.failure, w.history, w.service.requests, w.service.repeats, w.kills, 0}
		for _, l := range w.logs {
			r.Messages += len(l.records)
		}
	})
	return r
}

func (w *World) failed() (yes bool) {
	w.with(func() { yes = w.failure != "" })
	return yes
}

// heal ends all that lasts; every host has a process from then on.
func (w *World) heal() {
	w.with(func() {
		w.say("all faults are over")
		w.modes = map[string]mode{}
		for _, h := range w.hosts {
			h.until, h.frozen = time.Time{}, time.Time{}
			if h.life != nil {
				h.life.killAt = 0
			}
		}
	})
	for _, h := range w.hosts {
		w.later(time.Second, h.start)
	}
}

// tell writes down what each process says of itself.
func (w *World) tell() {
	for _, h := range w.hosts {
		l := h.now()
		if !l.runs() {
			w.with(func() { w.say("%s has no process", h.name) })
			continue
		}
		s := l.f.Status()
		w.with(func() {
			w.say("%s: %s; %s", l, strings.Join(s.Why, "; "), strings.Join(s.Notes, "; "))
			for _, p := range s.Partitions {
				w.say("  %s next %d committed %d end %d outstanding %d in flight %d failing %d bounded %q paused %v stall %q", p.Partition, p.Next, p.Committed, p.End, p.Outstanding, p.InFlight, p.Failing, p.Bounded, p.Paused, p.Stall)
			}
			w.say("  pending %v", s.Pending)
		})
	}
	w.with(func() {
		for _, p := range w.partitions() {
			w.say("  %s: owned %v, commit %d, lowest %d, end %d", p, w.group.owner[p] != nil, w.group.commits[p].Offset, w.service.lowest(p), w.logs[p].next)
		}
	})
}

// close ends every process in good order; nothing starts any more.
func (w *World) close() {
	for _, h := range w.hosts {
		var l *life
		w.with(func() { w.closing = true; l = h.life })
		if l != nil {
			l.end()
			<-l.ended
		}
	}
}
