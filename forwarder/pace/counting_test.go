package pace

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
)

// ledger is an owner that counts how often each message has left.
type ledger struct {
	random *dice
	mu     sync.Mutex
	left   map[int64]int
}

func (o *ledger) Admits(int64) bool { return true }
func (o *ledger) Tried(int64) bool  { return o.random.n(8) == 0 }
func (o *ledger) Left(m *kafka.Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.left[m.Offset]++
}

// dice are random numbers for many goroutines.
type dice struct {
	mu sync.Mutex
	*rand.Rand
}

func (d *dice) n(below int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.IntN(below)
}

var signs = []Sign{good, good, good, bad, refused, broken, answer3, silent, busy, cancelled, {Kind: Answered, Answered: true, RetryAfter: 3 * time.Second}}

// fate lets a batch live through anything that a delivery may do with it: attempts of all ends, questions, waits that are stopped, messages
// that end one by one, lanes that are given back, the end of its partition, and an outcome that is on record only later.
func fate(random *dice, b *Batch, ctx func() context.Context) {
	var late *Lanes // whose outcome is not on record yet
	record := func() {
		if late != nil {
			late.Recorded()
			late = nil
		}
	}
	for {
		stopped, finished := false, false
		for !stopped && !finished {
			switch random.n(9) {
			case 0:
				record()
				host, err := b.Ask(ctx(), false)
				if stopped = err != nil && random.n(2) == 0; err == nil && !stopped {
					pass(time.Duration(random.n(3000)) * time.Millisecond)
					b.Told(host, signs[random.n(len(signs))], time.Now())
				}
			case 1:
				b.Give()
				pass(time.Duration(random.n(5000)) * time.Millisecond)
			case 2:
				stopped = random.n(4) == 0
			case 3:
				if m := b.Messages(); len(m) > 1 {
					b.Finish(m[random.n(len(m))])
				}
			case 4:
				if m := b.Messages(); len(m) > 1 {
					b.Keep(1 + random.n(len(m)-1))
				}
			default:
				record()
				if b.Take(ctx(), random.n(3) == 0) != nil {
					stopped = random.n(2) == 0
					continue
				}
				b.Began(time.Now())
				b.Host()
				pass(time.Duration(random.n(3000)) * time.Millisecond)
				sign := signs[random.n(len(signs))]
				if sign.Kind == Silent {
					b.Silence(time.Now(), b.Messages()[0].Offset)
				}
				b.Elsewhere(sign)
				b.Ended(sign, time.Now())
				if finished = sign.Kind == Delivered; !finished && random.n(2) == 0 {
					b.Give()
				}
			}
		}
		record()
		of := b.of
		unrecorded := finished && random.n(3) == 0
		if unrecorded {
			late = of
		}
		if !b.Next(finished, unrecorded) {
			if unrecorded {
				record()
				b.Give()
			}
			return
		}
	}
}

// Whatever happens, and in whatever order: in the end nobody has a turn, waits for one, counts as failing or as under way, and each
// message has left once.
func TestNothingIsCountedTwice(t *testing.T) {
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			random := &dice{Rand: rand.New(rand.NewPCG(seed, 14))}
			cfg := small()
			cfg.Order = []string{ByPartition, ByKey, None}[random.n(3)]
			cfg.Concurrency, cfg.Hosts, cfg.Adaptive = 1+random.n(5), 1+random.n(3), random.n(4) == 0
			cfg.BatchSize, cfg.BatchLinger = 1+random.n(2)*random.n(6), time.Duration(random.n(2))*10*time.Millisecond
			end, stop := context.WithCancel(context.Background())
			ctx := func() context.Context { // one that may end before
				c, cancel := context.WithCancel(end)
				if random.n(3) == 0 {
					time.AfterFunc(time.Duration(random.n(4000))*time.Millisecond, cancel)
				}
				context.AfterFunc(end, cancel)
				return c
			}
			p := New(cfg, func(b *Batch) { fate(random, b, ctx) }, func(int, error) {})
			o := &ledger{random: random, left: map[int64]int{}}
			var all []*Lanes
			for range 1 + random.n(4) {
				all = append(all, p.Open(o))
			}
			const messages = 60
			for offset := range int64(messages) {
				all[random.n(len(all))].Push(&kafka.Message{Offset: offset, Key: []byte{byte(random.n(4))}})
				pass(time.Duration(random.n(100)) * time.Millisecond)
				if random.n(40) == 0 {
					all[random.n(len(all))].Close()
				}
			}
			pass(time.Duration(random.n(300)) * time.Second)
			for _, s := range all {
				s.Close()
			}
			stop()
			for _, s := range all {
				s.Wait()
			}
			synctest.Wait()
			inFlight := p.limiter.inFlight.Load()
			if p.taken != 0 || p.retries != 0 || p.failing != 0 || len(p.again) != 0 || inFlight != 0 || p.probes != nil {
				t.Errorf("seed %d: %d turns, %d retries, %d failing, %d ask, %d in flight", seed, p.taken, p.retries, p.failing, len(p.again), inFlight)
			}
			for _, s := range all {
				if s.waiting != 0 || s.bytes != 0 || len(s.keys) != 0 || s.whole != nil && s.whole.head != nil {
					t.Errorf("seed %d: %d messages wait, %d keys", seed, s.waiting, len(s.keys))
				}
			}
			for offset := range int64(messages) {
				if o.left[offset] != 1 {
					t.Errorf("seed %d: message %d has left %d times", seed, offset, o.left[offset])
				}
			}
		})
	}
}
