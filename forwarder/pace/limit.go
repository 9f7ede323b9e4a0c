package pace

import (
	"sync"
	"sync/atomic"
	"time"
)

// limiter sets how many attempts may be under way at once. With Config.Adaptive it follows what the service takes best. Else it
// is Config.Concurrency; a service that says busy has it halved, and gets it back message by message.
type limiter struct {
	pace     *Pace
	adaptive *adaptive // nil: fixed
	most     int
	limit    atomic.Int64
	_        [64]byte // limit is read with each attempt, and hardly ever changed
	inFlight atomic.Int64
	_        [64]byte

	mu     sync.Mutex
	halved time.Time
	credit int64 // messages delivered since the limit has changed
}

// slowTime is between two halvings: those that were under way together say busy together.
const slowTime = 100 * time.Millisecond

func (l *limiter) init(p *Pace) {
	l.pace, l.most = p, p.cfg.Concurrency
	if p.cfg.Adaptive {
		l.adaptive = newAdaptive()
		l.most = l.adaptive.limit()
	}
	l.limit.Store(int64(l.most))
}

// enter notes the beginning of an attempt, and says how many are under way with it.
func (l *limiter) enter() int { return int(l.inFlight.Add(1)) }

// leave notes what an attempt came to.
func (l *limiter) leave(t *Turn, sign Sign, now time.Time) {
	limit := l.limit.Load()
	l.inFlight.Add(-1)
	switch {
	case l.adaptive != nil:
		if sign.Kind == Cancelled || sign.Kind == Fault && !sign.Answered {
			return
		}
		l.set(limit, int64(l.adaptive.learn(now, now.Sub(t.began), t.among, sign.TooMuch)))
	case sign.Kind == Busy, sign.Kind == Delivered && limit < int64(l.most):
		l.step(limit, sign.Kind == Busy, now)
	}
}

// step halves the limit that was too much, or gives one back when as many messages are delivered as it allows at once.
func (l *limiter) step(limit int64, busy bool, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !busy:
		if l.credit++; l.credit >= limit {
			l.credit = 0
			l.set(limit, limit+1)
		}
	case now.Sub(l.halved) >= slowTime:
		l.halved, l.credit = now, 0
		l.set(limit, max(1, limit/2))
	}
}

func (l *limiter) set(was, now int64) {
	if was != now && l.limit.CompareAndSwap(was, now) {
		l.pace.SetLimit(int(now))
	}
}
