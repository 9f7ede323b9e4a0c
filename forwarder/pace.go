package forwarder

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// pace sets how many attempts may be under way at once. With Config.Adaptive it follows what the service takes best. Else it
// is Config.Concurrency; a service that says busy has it halved, and gets it back message by message.
type pace struct {
	turns    *turns
	adaptive *adaptive // nil: fixed
	most     int
	limit    atomic.Int64
	inFlight atomic.Int64

	mu     sync.Mutex
	halved time.Time
	credit int
}

// slowTime is between two halvings: those that were under way together say busy together.
const slowTime = 100 * time.Millisecond

func newPace(t *turns, cfg *Config) *pace {
	p := &pace{turns: t, most: cfg.Concurrency}
	if cfg.Adaptive {
		p.adaptive = newAdaptive()
		p.most = p.adaptive.limit()
	}
	p.limit.Store(int64(p.most))
	return p
}

// begun notes the beginning of an attempt, and says how many are under way with it.
func (p *pace) begun() int {
	if p.adaptive == nil {
		return 0
	}
	return int(p.inFlight.Add(1))
}

// ended notes what an attempt came to.
func (p *pace) ended(d *Delivery, v Verdict, took time.Duration) {
	limit := p.limit.Load()
	switch {
	case p.adaptive != nil:
		p.inFlight.Add(-1)
		if v.Class == Aborted || v.Class == ServiceFault && v.Status == 0 {
			return
		}
		tooMuch := v.Class == Busy || v.Status == http.StatusServiceUnavailable || v.Status == 0
		p.set(limit, int64(p.adaptive.ended(time.Now(), took, d.among, tooMuch)))
	case v.Class == Busy:
		p.slower(limit)
	case limit < int64(p.most) && v.Class == Delivered:
		p.faster(limit)
	}
}

func (p *pace) slower(limit int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.halved) < slowTime {
		return
	}
	p.halved, p.credit = time.Now(), 0
	p.set(limit, max(1, limit/2))
}

func (p *pace) faster(limit int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.credit++; int64(p.credit) >= limit {
		p.credit = 0
		p.set(limit, limit+1)
	}
}

func (p *pace) set(was, now int64) {
	if was != now && p.limit.CompareAndSwap(was, now) {
		p.turns.setLimit(int(now))
	}
}
