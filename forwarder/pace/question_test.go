package pace

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// asked is whom questions or probes went to.
type asked struct {
	mu    sync.Mutex
	hosts []int
}

func (s *asked) add(host int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hosts = append(s.hosts, host)
}

// minute is those of the next minute.
func (s *asked) minute() []int {
	s.mu.Lock()
	s.hosts = nil
	s.mu.Unlock()
	pass(time.Minute)
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.hosts)
}

// asking has a batch ask for as long as ctx lasts, each question answered with sign after took, and tells when each went out, and to which host.
func (r *rig) asking(ctx context.Context, b *Batch, took time.Duration, sign func(host int) Sign, out func(host int)) {
	go func() {
		for {
			host, err := b.Ask(ctx, false)
			if err != nil {
				return
			}
			out(host)
			began := time.Now()
			pass(took)
			if !b.Told(host, sign(host), began) {
				b.Give()
				select {
				case <-ctx.Done():
					return
				case <-time.After(r.cfg.RetryInterval):
				}
			}
		}
	}()
}

// probing has a batch try for as long as ctx lasts.
func (r *rig) probing(ctx context.Context, b *Batch, took time.Duration, sign func(host int) Sign, out func(host int)) {
	go func() {
		for b.Take(ctx, false) == nil {
			b.Began(time.Now())
			host := b.Host()
			out(host)
			pass(took)
			b.Ended(sign(host), time.Now())
			b.Give()
			if sign(host).Kind == Delivered {
				return
			}
			pass(b.Pause(0))
		}
	}()
}

// A question is no probe: of a service that is down there is one an interval beside the probes, however many would ask, and both go on
// where each takes its whole time and there is one turn.
func TestQuestionsBesideProbes(t *testing.T) {
	for _, row := range []struct {
		concurrency int
		took        time.Duration
		most, least int // questions, and probes, in a minute
	}{{16, time.Millisecond, 31, 28}, {1, time.Millisecond, 31, 28}, {1, 10 * time.Second, 4, 2}} {
		cfg := small()
		cfg.Concurrency = row.concurrency
		bubble(t, cfg, func(r *rig) {
			ctx, stop := context.WithCancel(context.Background())
			defer stop()
			var questions, probes asked
			next := func() *Batch {
				push(r.Open(newOwner()), "", 0)
				for len(r.given) == 0 {
					pass(time.Millisecond)
				}
				return <-r.given
			}
			for range 4 {
				r.asking(ctx, next(), row.took, func(int) Sign { return cancelled }, questions.add)
			}
			b := next()
			r.hosts.heed(&b.Turn, refused, time.Now())
			b.Give()
			r.probing(ctx, b, row.took, func(int) Sign { return refused }, probes.add)
			pass(time.Minute)
			probes.minute()
			for what, n := range map[string]int{"questions": len(questions.minute()), "probes": len(probes.minute())} {
				if n > row.most || n < row.least {
					t.Errorf("concurrency %d, each takes %s: %d %s in a minute, want %d to %d", row.concurrency, row.took, n, what, row.least, row.most)
				}
			}
			stop()
			pass(time.Minute)
		})
	}
}

// A lane that gets the probe and asks first gives it back: the next one has it at once.
func TestAQuestionGivesTheProbeBack(t *testing.T) {
	bubble(t, small(), func(r *rig) {
		r.hosts.heed(&Turn{}, refused, time.Now())
		pass(r.cfg.RetryInterval)
		doubtful, other := r.Open(newOwner()), r.Open(newOwner())
		push(doubtful, "", 0)
		b := r.batch(0)
		if b.probe == nil {
			t.Fatal("it has no probe")
		}
		push(other, "", 1)
		r.idle("while the probe is given out")
		host, err := b.Ask(context.Background(), false)
		if probe := r.batch(1); err != nil || host != 0 || b.Goes() || !probe.Goes() {
			t.Errorf("asks %d, %v, and may try %t; the other one %t", host, err, b.Goes(), probe.Goes())
		}
	})
}

// What a question shows of a host: its answer, that it is there, once until a message is answered; a connection that cannot be made,
// that it is not.
func TestWhatAQuestionShows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(small(), nil, func(int, error) {})
		s, turn := &p.hosts, &Turn{pace: p}
		down := func(want bool, when string) {
			t.Helper()
			if pass(time.Second); s.isDown() != want {
				t.Fatalf("down is %t %s", !want, when)
			}
		}
		before := time.Now()
		pass(time.Second)
		if turn.Told(0, refused, time.Now()) {
			t.Error("there is another host")
		}
		down(true, "after a refused connection")
		turn.Told(0, bad, before)
		down(true, "after an answer that was under way when it went down")
		turn.Told(0, cancelled, time.Now())
		down(true, "after a question that says nothing")
		turn.Told(0, bad, time.Now())
		down(false, "after an answer")
		s.heed(&Turn{began: time.Now()}, refused, time.Now())
		turn.Told(0, bad, time.Now())
		down(true, "where messages are refused and questions answered")
		s.heed(&Turn{began: time.Now()}, bad, time.Now())
		down(false, "after the answer to a message")
		s.heed(&Turn{began: time.Now()}, refused, time.Now())
		turn.Told(0, bad, time.Now())
		down(false, "after the next answer to a question")
		turn.Told(0, Sign{Kind: Cancelled, RetryAfter: time.Minute}, time.Now())
		if rest, _ := s.rest(); time.Until(rest) != time.Minute {
			t.Errorf("it asked for a pause, and rests until %s", rest)
		}
	})
}

// A host that is up is asked, where there is one, each in its turn; where nobody can be asked at one, another one is at once.
func TestWhomAQuestionGoesTo(t *testing.T) {
	cfg := small()
	cfg.Hosts = 3
	bubble(t, cfg, func(r *rig) {
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		var to asked
		var dead atomic.Int32
		dead.Store(2)
		s := r.Open(newOwner())
		push(s, "", 0)
		r.asking(ctx, r.batch(0), 0, func(host int) Sign {
			if int32(host) < dead.Load() {
				return refused
			}
			return bad
		}, to.add)
		pass(time.Millisecond)
		if at := to.hosts; len(at) < 1 || at[len(at)-1] != 2 || len(at) > 3 {
			t.Errorf("asked at once: %v", at)
		}
		to.minute()
		if at := to.minute(); slices.ContainsFunc(at, func(host int) bool { return host != 2 }) || len(at) < 28 {
			t.Errorf("asked %v, where 0 and 1 are down", at)
		}
		dead.Store(3)
		to.minute()
		if at := to.minute(); len(slices.Compact(slices.Sorted(slices.Values(at)))) != 3 {
			t.Errorf("all are down, and asked are %v", at)
		}
	})
}
