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
func (s *sender) renew(old *outlet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out != old || s.closed {
		return
	}
	s.out = nil
	old.purge()
	old.queue.wake()
	s.health.renewed()
}

// examine exchanges a client that has lost its way: nothing was answered for deadAfter, and another client was each time it was asked for
// as long as proof. Kafka that has only just come back is no proof: this client may be about to find it, and an exchange loses what it holds.
func (s *sender) examine(o *outlet) {
	quiet := s.health.quiet()
	if quiet < deadAfter-proof || !s.health.asking.CompareAndSwap(false, true) {
		return
	}
	go func() { // the reports go on meanwhile
		defer s.health.asking.Store(false)
		ctx, end := context.WithTimeout(context.Background(), kafka.QuestionTime)
		defer end()
		other, err := NewCluster(s.of.cfg)
		if err == nil {
			defer other.Close()
			_, err = other.ID(ctx)
		}
		switch steady := s.health.others(err == nil); {
		case err == nil && steady >= proof && s.health.quiet() >= deadAfter:
			s.of.log.Warn("the client that produces has had no answer although Kafka answers others: a new one takes its place", "for", quiet.Round(time.Second).String())
			s.renew(o)
		case err != nil && !errors.Is(err, context.DeadlineExceeded):
			s.health.heard(err.Error())
		}
	}()
}

const (
	deadAfter = 30 * time.Second // for how long a client may have no answer,
	proof     = 10 * time.Second // while another one is answered each time, for so long
)

// health is what is known of the client's way to Kafka.
type health struct {
	since  atomic.Int64 // when a record was put into a client that has had no answer from a broker since; 0: it had
	asking atomic.Bool
	steady atomic.Int64 // since when another client is answered each time it is asked; 0: it was not
	text   atomic.Value // what the client has complained of last
}

// others notes whether another client was answered, and returns for how long it has been.
func (h *health) others(answered bool) time.Duration {
	if !answered {
		h.steady.Store(0)
		return 0
	}
	h.steady.CompareAndSwap(0, time.Now().UnixNano())
	return time.Since(time.Unix(0, h.steady.Load()))
}

func (h *health) asked() { h.since.CompareAndSwap(0, time.Now().UnixNano()) }

// reported notes an answer: byBroker, or of the client's own.
func (h *health) reported(byBroker bool, left int64) {
	if !byBroker {
		return
	}
	h.steady.Store(0)
	if left == 0 {
		h.since.Store(0)
		h.text.Store("")
		return
	}
	h.since.Store(time.Now().UnixNano())
}

func (h *health) renewed() {
	h.steady.Store(0)
	h.since.Store(time.Now().UnixNano())
}

func (h *health) quiet() time.Duration {
	if at := h.since.Load(); at != 0 {
		return time.Since(time.Unix(0, at))
	}
	return 0
}

func (h *health) heard(text string) { h.text.Store(text) }

func (h *health) last() string { text, _ := h.text.Load().(string); return text }
