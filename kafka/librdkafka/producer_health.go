package librdkafka

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/kpush/kpush/kafka"
)

// renew exchanges a client of which nothing is to be expected. What it holds is answered first: a record that came later must not
// be overtaken by one that it tries again.
func (p *Producer) renew(old *outlet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out != old || p.closed {
		return
	}
	p.out = nil
	old.purge()
	old.queue.wake()
	p.health.renewed()
}

// examine exchanges a client that has lost its way: nothing was answered for deadAfter, and another client is answered at once.
func (p *Producer) examine(o *outlet) {
	quiet := p.health.quiet()
	if quiet < deadAfter || !p.health.asking.CompareAndSwap(false, true) {
		return
	}
	go func() { // the reports go on meanwhile
		defer p.health.asking.Store(false)
		ctx, end := context.WithTimeout(context.Background(), kafka.QuestionTime)
		defer end()
		other, err := NewCluster(p.cfg)
		if err == nil {
			defer other.Close()
			_, err = other.ID(ctx)
		}
		if err == nil && p.health.quiet() >= deadAfter {
			p.log.Warn("the client that produces has had no answer although Kafka answers others: a new one takes its place", "for", quiet.Round(time.Second).String())
			p.renew(o)
		} else if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			p.health.heard(err.Error())
		}
	}()
}

// deadAfter is for how long a client may have no answer while others have.
const deadAfter = 30 * time.Second

// health is what is known of the client's way to Kafka.
type health struct {
	since  atomic.Int64 // when a record was put into a client that has had no answer from a broker since; 0: it had
	asking atomic.Bool
	text   atomic.Value // what the client has complained of last
}

func (h *health) asked() { h.since.CompareAndSwap(0, time.Now().UnixNano()) }

// reported notes an answer: byBroker, or of the client's own.
func (h *health) reported(byBroker bool, left int64) {
	switch {
	case !byBroker:
	case left == 0:
		h.since.Store(0)
		h.text.Store("")
	default:
		h.since.Store(time.Now().UnixNano())
	}
}

func (h *health) renewed() { h.since.Store(time.Now().UnixNano()) }

func (h *health) quiet() time.Duration {
	if at := h.since.Load(); at != 0 {
		return time.Since(time.Unix(0, at))
	}
	return 0
}

func (h *health) heard(text string) { h.text.Store(text) }

func (h *health) last() string { text, _ := h.text.Load().(string); return text }
