package forwarder

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
)

// fed pushes count messages that make returns.
func fed(p *partition, count int, make func(i int) kafka.Message) {
	for i := range count {
		m := make(i)
		m.Partition, m.Offset = p.Partition, p.reading.next
		p.push(&m)
	}
}

// No request of several messages is larger than BatchBytes, whatever they hold; each is as full as can be, and a larger one goes alone.
func TestBatchBytes(t *testing.T) {
	const most, count = 10 << 10, 600
	for _, order := range orders {
		for name, value := range map[string]string{"text": "plain ", "json": `{"a":"b","c":[1,2,3]}`, "escaped": "\"\\\n<&>\x01\u2028é", "binary": "\x00\xff\xfe"} {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(7, 8))
				r := newRig(t, batches(100, order, func(c *settings) { c.BatchBytes, c.Concurrency = most, 4 }), nil)
				k := opened(r, func(posted) reply { <-time.After(time.Millisecond); return reply{} })
				p, sum := r.partition(t0), 0
				fed(p, count, func(i int) kafka.Message {
					m := kafka.Message{Key: fmt.Appendf(nil, "k%d", i%50), Headers: []kafka.Header{{Name: "a<\n", Value: make([]byte, rng.IntN(50))}, {Name: "b"}}}
					switch n := rng.IntN(60); {
					case i == 300:
						m.Value = make([]byte, 2*most)
					case name == "json":
						m.Value = []byte(value)
					default:
						m.Value = bytes.Repeat([]byte(value), n)
					}
					return m
				})
				pass(time.Minute)
				for _, q := range k.seen() {
					if sum += q.size; q.size > most && len(q.items) > 1 {
						t.Errorf("order %s, %s: %d messages in %d bytes", order, name, len(q.items), q.size)
					}
				}
				if n := len(k.seen()); p.rec.Next() != count || n > sum*3/2/most+4 {
					t.Errorf("order %s, %s: up to %d of %d, %d bytes in %d requests", order, name, p.rec.Next(), count, sum, n)
				}
				r.isEmpty()
			})
		}
	}
}

// As many bytes as a request may have are a full one: it waits for no more.
func TestBatchOfEnoughBytesDoesNotLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, batches(1000, OrderPartition, func(c *settings) { c.BatchBytes, c.BatchLinger = 10<<10, time.Minute }), nil)
		k := opened(r, func(posted) reply { return reply{} })
		fed(r.partition(t0), 100, func(int) kafka.Message { return kafka.Message{Value: bytes.Repeat([]byte("v"), 700)} })
		pass(time.Second)
		if got := k.seen(); len(got) < 9 || len(got[0].items) < 10 {
			t.Errorf("%d requests after a second: %s", len(got), k.text())
		}
		pass(2 * time.Minute)
		r.isEmpty()
	})
}

// What a 413 taught is kept, by all lanes: a service that takes less than BatchBytes refuses one request in a hundred at the most, and
// is given more once it takes more. A message that is refused whatever its size makes no batch small for good.
func TestTooLargeABatchIsLearned(t *testing.T) {
	t.Parallel()
	const small = 10_000 // 200 B and an envelope: some 30 messages of 100
	for _, order := range []string{OrderPartition, OrderNone} {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			most, poison := small, int64(-1)
			count, refused, messages := 0, 0, 0
			r := newRig(t, batches(100, order, func(c *settings) { c.BatchBytes, c.Concurrency, c.CanSkip, c.GiveUpInARow = 1<<20, 8, true, 0 }), nil)
			opened(r, func(q posted) reply {
				<-time.After(time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				count++
				if q.size > most || q.has(poison) {
					refused++
					return reply{status: 413}
				}
				messages += len(q.items)
				return reply{}
			})
			p := r.partition(t0)
			run := func(n int, since time.Duration) (perRequest float64) {
				fed(p, n, func(i int) kafka.Message {
					return kafka.Message{Key: fmt.Appendf(nil, "k%d", i%997), Value: bytes.Repeat([]byte("v"), 200)}
				})
				mu.Lock()
				count, refused, messages = 0, 0, 0
				mu.Unlock()
				pass(since)
				mu.Lock()
				defer mu.Unlock()
				return float64(messages) / float64(count)
			}
			if n := run(80_000, time.Hour); count < 1000 || refused*100 > count || n < 10 {
				t.Errorf("order %s: %d of %d refused, %.1f messages a request", order, refused, count, n)
			}
			mu.Lock()
			most = 1 << 20
			mu.Unlock()
			run(60_000, time.Hour)
			if n := run(20_000, time.Hour); refused > 0 || n < 90 {
				t.Errorf("order %s: %.1f messages a request once the service takes more, %d refused", order, n, refused)
			}
			mu.Lock()
			poison = p.reading.next + 500
			mu.Unlock()
			run(40_000, time.Hour)
			if n := run(20_000, time.Hour); refused > 0 || n < 90 || p.rec.Outstanding() > 0 {
				t.Errorf("order %s: %.1f messages a request behind one that is refused, %d refused, %d open", order, n, refused, p.rec.Outstanding())
			}
			r.isEmpty()
		})
	}
}
