package forwarder

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/forwarder/wire"
	"github.com/kpush/kpush/kafka"
)

// element is a message in a batch, as a service reads it.
type element struct {
	ID        string          `json:"id"`
	Topic     string          `json:"topic"`
	Partition int32           `json:"partition"`
	Offset    int64           `json:"offset"`
	Timestamp int64           `json:"timestamp"`
	Attempt   int             `json:"attempt"`
	InDoubt   bool            `json:"inDoubt"`
	Key       *string         `json:"key"`
	KeyBase64 []byte          `json:"keyBase64"`
	Headers   [][]*string     `json:"headers"`
	Value     json.RawMessage `json:"value"`
	Encoding  string          `json:"encoding"`
}

// posted is a request that a desk got.
type posted struct {
	at    time.Duration // since the desk opened
	asked string        // the id that a question is about, "" for a batch
	items []element
	size  int // of the body
	ctx   context.Context
}

// String is such as "[0 1 2]", with what is not a flawless first attempt at them: "[0#2 1#2?]".
func (q posted) String() string {
	var words []string
	for _, e := range q.items {
		word := fmt.Sprint(e.Offset)
		if e.Attempt > 1 {
			word += fmt.Sprintf("#%d", e.Attempt)
		}
		if e.InDoubt {
			word += "?"
		}
		words = append(words, word)
	}
	return fmt.Sprint(words)
}

func (q posted) has(offset int64) bool {
	return slices.ContainsFunc(q.items, func(e element) bool { return e.Offset == offset })
}

// reply is a desk's answer. With cut there is none; with refused there was no connection.
type reply struct {
	status             int // 0 is 200
	body, action, wait string
	cut, refused       bool
	hang               bool
	takes              time.Duration
}

var unwell = reply{status: 500}

// naming is a 2xx that names these offsets of t/0.
func naming(offsets ...int64) reply {
	var list []string
	for _, o := range offsets {
		list = append(list, fmt.Sprintf(`{"itemIdentifier":"t/0/%d"}`, o))
	}
	return reply{body: `{"batchItemFailures":[` + strings.Join(list, ",") + `]}`}
}

// desk answers the requests of the real handler without a network.
type desk struct {
	begun  time.Time
	answer func(q posted) reply
	mu     sync.Mutex
	got    []posted
}

func opened(r *rig, answer func(posted) reply) *desk {
	k := &desk{begun: time.Now(), answer: answer}
	r.net.Line = k
	return k
}

func (k *desk) Exchange(g wire.Gate, timeout time.Duration, head, body []byte, a *wire.Answer) {
	a.Reset()
	ctx := g.Context()
	if _, a.Err = g.Cleared(); a.Err != nil {
		return
	}
	if timeout > 0 {
		limited, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		ctx = limited
	}
	q := posted{at: time.Since(k.begun), ctx: ctx}
	h := parse(head, body)
	if h.Method == http.MethodGet {
		q.asked = h.URL.Query().Get("id")
	} else if text, err := io.ReadAll(h.Body); err != nil || json.Unmarshal(text, &q.items) != nil || h.Header.Get("Content-Type") != "application/json" ||
		h.Header.Get("Kafka-Batch") != fmt.Sprint(len(q.items)) {
		panic(fmt.Sprintf("%v, no batch: %s%s", err, head, body))
	}
	q.size = int(h.ContentLength)
	k.mu.Lock()
	k.got = append(k.got, q)
	k.mu.Unlock()
	y := k.answer(q)
	if y.hang {
		<-ctx.Done()
	}
	select {
	case <-time.After(y.takes):
	case <-ctx.Done():
	}
	switch a.Sent = !y.refused; {
	case ctx.Err() != nil:
		a.Err = context.Cause(ctx)
	case y.refused:
		a.Err = syscall.ECONNREFUSED
	case y.cut:
		a.Err = io.EOF
	default:
		a.Status, a.Action, a.RetryAfter = max(200, y.status), y.action, y.wait
		a.Body = append(a.Body, y.body...)
	}
}

// seen are the requests so far.
func (k *desk) seen() []posted {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.got)
}

func (k *desk) has(offset int64) bool {
	return slices.ContainsFunc(k.seen(), func(q posted) bool { return q.has(offset) })
}

// text is what seen holds, in words, without the time.
func (k *desk) text() string { return fmt.Sprint(k.seen()) }

// batches is a configuration of batches of so many.
func batches(size int, order string, change func(*settings)) settings {
	return local(func(c *settings) {
		c.BatchSize, c.BatchLinger, c.Order = size, 5*time.Millisecond, order
		if change != nil {
			change(c)
		}
	})
}

var orders = []string{OrderPartition, OrderKey, OrderNone}

// load pushes count messages, each with one of so many keys (0: none).
func load(p *partition, count, keys int) {
	for range count {
		o := p.reading.next
		m := &kafka.Message{Partition: kafka.Partition{Topic: p.Topic, Number: p.Number}, Offset: o, Value: []byte("v")}
		if keys > 0 {
			m.Key = fmt.Appendf(nil, "k%d", o%int64(keys))
		}
		p.push(m)
	}
}

// isEmpty wants that nothing is held any more.
func (r *rig) isEmpty() {
	r.Helper()
	if r.turnsTaken() != 0 || r.f.budget.held.Load() != 0 {
		r.Errorf("%d turns and %d bytes are held", r.turnsTaken(), r.f.budget.held.Load())
	}
}

// A batch that is full goes at once; one that is not waits for the linger and then takes all there are, whatever the order.
func TestBatchLingers(t *testing.T) {
	for _, order := range orders {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, batches(100, order, func(c *settings) { c.BatchLinger = 7 * time.Second }), nil)
			k := opened(r, func(posted) reply { <-time.After(time.Millisecond); return reply{} })
			p := r.partition(t0)
			load(p, 250, 250)
			pass(20 * time.Second)
			load(p, 30, 250)
			pass(4 * time.Second)
			load(p, 30, 250)
			pass(20 * time.Second)
			load(p, 100, 250)
			pass(time.Second)
			var got []string
			for _, q := range k.seen() {
				got = append(got, fmt.Sprintf("%d after %ds", len(q.items), q.at/time.Second))
			}
			if want := "[100 after 0s 100 after 0s 50 after 7s 60 after 27s 100 after 44s]"; fmt.Sprint(got) != want {
				t.Errorf("order %s: %v, want %s", order, got, want)
			}
			r.isEmpty()
		})
	}
}

// What there are ready goes into as few requests as possible, also when several turns are free and the linger is over.
func TestBatchesAreNotSplit(t *testing.T) {
	for _, order := range []string{OrderKey, OrderNone} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, batches(10, order, nil), nil)
			k := opened(r, func(posted) reply { <-time.After(time.Second); return reply{} })
			p := r.partition(t0)
			r.f.pace.SetLimit(0)
			load(p, 45, 45)
			pass(time.Second)
			r.f.pace.SetLimit(16)
			pass(time.Minute)
			if got := k.seen(); len(got) != 5 || len(got[3].items) != 10 {
				t.Errorf("order %s: %s", order, k.text())
			}
		})
	}
}

// F3 for batches: a lane is in one request at a time, in its order, and nothing of it is tried for the first time before all
// that was tried has its outcome. Nothing is lost or sent again after its outcome.
func TestBatchKeepsTheOrder(t *testing.T) {
	for _, order := range orders {
		for _, concurrency := range []int{1, 16} {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				rng := rand.New(rand.NewPCG(5, 6))
				busy, open, done, most := map[string]bool{}, map[string]map[int64]bool{}, map[string]bool{}, 0
				lane := func(e element) string {
					switch {
					case order == OrderPartition:
						return fmt.Sprint(e.Partition)
					case order == OrderNone || e.Key == nil:
						return e.ID
					}
					return fmt.Sprint(e.Partition, *e.Key)
				}
				r := newRig(t, batches(10, order, func(c *settings) { c.Concurrency = concurrency }), nil)
				opened(r, func(q posted) reply {
					mu.Lock()
					last := map[string]int64{}
					for _, e := range q.items {
						l := lane(e)
						if before, has := last[l]; busy[l] && !has || has && before >= e.Offset || done[e.ID] {
							t.Errorf("order %s: %d of lane %s in %s (busy %t, done %t)", order, e.Offset, l, q, busy[l], done[e.ID])
						}
						if !open[l][e.Offset] && e.Attempt == 1 && len(open[l]) > 0 {
							for o := range open[l] {
								if !q.has(o) || o < last[l] && o < q.items[0].Offset {
									t.Errorf("order %s: %d in %s while %v have no outcome", order, e.Offset, q, open[l])
								}
							}
						}
						if e.Attempt == 1 && slices.ContainsFunc(q.items, func(o element) bool { return lane(o) == l && o.Attempt > 1 }) {
							t.Errorf("order %s: %d for the first time beside what is tried again: %s", order, e.Offset, q)
						}
						busy[l], last[l] = true, e.Offset
					}
					most = max(most, len(q.items))
					took, how := time.Duration(rng.IntN(50))*time.Millisecond, rng.IntN(10)
					mu.Unlock()
					<-time.After(took)
					mu.Lock()
					defer mu.Unlock()
					y := reply{}
					var failed []string
					for _, e := range q.items {
						l := lane(e)
						delete(busy, l)
						bad := how == 0 || how < 4 && rng.IntN(4) == 0
						if open[l] == nil {
							open[l] = map[int64]bool{}
						}
						if delete(open[l], e.Offset); bad {
							open[l][e.Offset] = true
							failed = append(failed, fmt.Sprintf(`{"itemIdentifier":%q}`, e.ID))
						} else {
							done[e.ID] = true
						}
					}
					if how == 0 {
						return []reply{{status: 500}, {status: 503}, {status: 429}, {cut: true}, {refused: true}}[rng.IntN(5)]
					}
					if len(failed) > 0 {
						y.body = fmt.Sprintf(`{"batchItemFailures":[%s]}`, strings.Join(failed, ","))
					}
					return y
				})
				r.run()
				r.kafka.give(t0, t1)
				for range 5 {
					keyed(r.kafka, t0, 100, 20)
					keyed(r.kafka, t1, 100, 3)
					pass(time.Second)
				}
				r.until("all committed", func() bool { return r.kafka.storedAt(t0) == 500 && r.kafka.storedAt(t1) == 500 })
				if len(done) != 1000 || most != 10 {
					t.Errorf("order %s: %d delivered, at most %d in a request", order, len(done), most)
				}
				if err := r.stop(); err != nil {
					t.Error(err)
				}
				r.isEmpty()
			})
		}
	}
}

// Those that the service names come again after the pause, by themselves; the others have their outcome, and hold up what
// is behind them only in their own lane.
func TestBatchPartialFailure(t *testing.T) {
	for _, row := range []struct{ order, want string }{
		{OrderPartition, "[[0 1 2 3 4] [1#2 3#2] [3#3] [5 6 7 8 9] [10 11]]"},
		{OrderKey, "[[0 1 2 3 4] [5 7 9 10 11] [1#2 3#2] [6] [3#3] [8]]"},
		{OrderNone, "[[0 1 2 3 4] [5 6 7 8 9] [10 11] [1#2 3#2] [3#3]]"},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, batches(5, row.order, nil), nil)
			k := opened(r, func(q posted) reply {
				switch q.String() {
				case "[0 1 2 3 4]":
					return naming(1, 3)
				case "[1#2 3#2]":
					return naming(3)
				}
				return reply{}
			})
			p := r.partition(t0)
			for o := range int64(12) {
				key := o
				if o == 6 || o == 8 { // of the keys that fail
					key = o/2*2 - 5 + o%2
				}
				p.push(&kafka.Message{Partition: kafka.Partition{Topic: "t"}, Offset: o, Key: fmt.Append(nil, key)})
				if o == 4 {
					synctest.Wait()
				}
			}
			pass(time.Minute)
			if got := k.text(); got != row.want {
				t.Errorf("order %s: %s, want %s", row.order, got, row.want)
			}
			for _, q := range k.seen() {
				if q.has(3) && q.items[0].Attempt > 1 && q.at < time.Duration(q.items[0].Attempt-1)*2*time.Second {
					t.Errorf("order %s: %s after %s, the pause is 2s", row.order, q, q.at)
				}
			}
			if p.rec.Next() != 12 || p.failing.Load() != 0 {
				t.Errorf("order %s: done up to %d, %d fail", row.order, p.rec.Next(), p.failing.Load())
			}
			r.isEmpty()
		})
	}
}

// What a 2xx may say of its messages; what nobody understands is the fault of the whole batch, and nothing is lost by it.
func TestBatchAnswers(t *testing.T) {
	t.Parallel()
	const all, second, halves = "[[0 1 2 3]]", "[[0 1 2 3] [1#2]]", "[[0 1 2 3] [0#2 1#2] [2#2] [3#2]]"
	rows := map[string]struct {
		first reply
		want  string
	}{
		"nothing":                   {reply{}, all},
		"204":                       {reply{status: 204}, all},
		"a text":                    {reply{body: "all right"}, all},
		"other JSON":                {reply{body: `{"done":4}`}, all},
		"no failures":               {reply{body: `{"batchItemFailures":[]}`}, all},
		"null":                      {reply{body: `{"batchItemFailures":null}`}, all},
		"one":                       {naming(1), second},
		"one twice":                 {naming(1, 1), second},
		"with the topic's id":       {reply{body: `{"batchItemFailures":[{"itemIdentifier":"t/0/1/T"}]}`}, second},
		"a byte order mark":         {reply{body: "\xef\xbb\xbf" + naming(1).body}, second},
		"all of them":               {naming(0, 1, 2, 3), "[[0 1 2 3] [0#2 1#2 2#2 3#2]]"},
		"an action nobody knows":    {reply{body: naming(1).body, action: "sing"}, second},
		"Kafka-Action: ack":         {reply{body: naming(1).body, action: "Ack"}, all},
		"Kafka-Action: retry":       {reply{action: "retry"}, halves},
		"an unknown message":        {naming(1, 4), halves},
		"another partition's":       {reply{body: `{"batchItemFailures":[{"itemIdentifier":"t/1/1"}]}`}, halves},
		"another topic's id":        {reply{body: `{"batchItemFailures":[{"itemIdentifier":"t/0/1/U"}]}`}, halves},
		"an offset":                 {reply{body: `{"batchItemFailures":[{"itemIdentifier":"1"}]}`}, halves},
		"a number":                  {reply{body: `{"batchItemFailures":[{"itemIdentifier":1}]}`}, halves},
		"none":                      {reply{body: `{"batchItemFailures":[{}]}`}, halves},
		"an object":                 {reply{body: `{"batchItemFailures":{"itemIdentifier":"t/0/1"}}`}, halves},
		"in other letters":          {reply{body: strings.ToUpper(`{"batchitemfailures":[{"itemidentifier":`) + `"t/0/1"}]}`}, second},
		"in two ways of writing":    {reply{body: `{"batchItemFailures":[{"itemIdentifier":"t/0/1"}],"BatchItemFailures":null}`}, second},
		"null in other letters":     {reply{body: `{"BatchItemFailures":null}`}, all},
		"below the top":             {reply{body: `{"result":` + naming(1).body + `}`}, halves},
		"below the top, none":       {reply{body: `{"result":{"batchItemFailures":[]}}`}, halves},
		"in a list":                 {reply{body: `[` + naming(1).body + `]`}, halves},
		"in a string":               {reply{body: `"{\"batchItemFailures\":[]}"`}, halves},
		"in a text":                 {reply{body: "no BATCHITEMFAILURES"}, halves},
		"alone":                     {reply{body: "batchItemFailures"}, halves},
		"as large as is read":       {reply{body: strings.Repeat(" ", wire.Limit)}, halves},
		"just smaller":              {reply{body: strings.Repeat(" ", wire.Limit-len(naming(1).body)-1) + naming(1).body}, second},
		"cut off":                   {reply{body: naming(1, 2).body[:50]}, halves},
		"not 2xx, whatever it says": {reply{status: 500, body: naming(1).body}, halves},
		"500":                       {reply{status: 500}, halves},
		"413":                       {reply{status: 413}, halves},
		"503":                       {reply{status: 503}, "[[0 1 2 3] [0#2 1#2 2#2 3#2]]"},
		"429":                       {reply{status: 429, wait: "1"}, "[[0 1 2 3] [0#2 1#2 2#2 3#2]]"},
		"refused":                   {reply{refused: true}, "[[0 1 2 3] [0#2 1#2 2#2 3#2]]"},
		"broken":                    {reply{cut: true}, "[[0 1 2 3] [0#2? 1#2? 2#2? 3#2?]]"},
		"no answer in time":         {reply{hang: true}, "[[0 1 2 3] [0#2? 1#2?] [2#2?] [3#2?]]"},
		"skip":                      {reply{status: 400, action: "skip"}, all},
	}
	followed := map[string]bool{} // what follows an answer is shown in each order, how it is read once
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		row, in := rows[name], orders
		if followed[row.want] {
			in = orders[:1]
		}
		followed[row.want] = true
		for _, order := range in {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, batches(4, order, nil), nil)
				k := opened(r, func(q posted) reply {
					if q.items[0].Attempt == 1 {
						return row.first
					}
					return reply{}
				})
				p := r.partition(t0)
				load(p, 4, 4)
				pass(time.Hour)
				if got := k.text(); got != row.want {
					t.Errorf("%s, order %s: %s, want %s", name, order, got, row.want)
				}
				if got := k.seen(); len(got) > 1 && strings.HasSuffix(row.want, " 3#2]]") && got[1].at < 2*time.Second {
					t.Errorf("%s, order %s: again after %s, the pause is 2s", name, order, got[1].at)
				}
				if p.rec.Next() != 4 || p.failing.Load() != 0 {
					t.Errorf("%s, order %s: done up to %d, %d fail", name, order, p.rec.Next(), p.failing.Load())
				}
				r.isEmpty()
			})
		}
	}
}

// Several that fail together: nobody knows whose fault it is, so it counts for nobody until the one at fault is alone. That one
// is given up after its own RETRY_NUMS, and all the others are delivered.
func TestBatchFindsTheOneAtFault(t *testing.T) {
	for _, row := range []struct {
		order    string
		bad      []int64
		requests int // at the most
	}{
		{OrderPartition, []int64{0}, 11}, {OrderKey, []int64{0}, 11}, {OrderNone, []int64{0}, 11},
		{OrderPartition, []int64{37}, 13}, {OrderKey, []int64{37}, 13}, {OrderNone, []int64{37}, 13},
		{OrderPartition, []int64{63}, 13}, {OrderNone, []int64{63}, 13},
		{OrderPartition, []int64{5, 6, 40}, 32}, {OrderKey, []int64{5, 6, 40}, 40}, {OrderNone, []int64{5, 6, 40}, 40},
	} {
		for _, any := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				cfg := batches(64, row.order, func(c *settings) { c.CanSkip, c.RetryNums, c.SkipOnAny = true, 3, any })
				r := newRig(t, cfg, nil)
				var mu sync.Mutex // lanes that are given back are tried beside the others
				done, alone := map[int64]int{}, map[int64]int{}
				k := opened(r, func(q posted) reply {
					mu.Lock()
					defer mu.Unlock()
					for _, o := range row.bad {
						if q.has(o) && len(q.items) == 1 {
							alone[o]++
						}
						if q.has(o) {
							return map[bool]reply{false: unwell, true: {status: 404}}[any]
						}
					}
					for _, e := range q.items {
						done[e.Offset]++
					}
					return reply{}
				})
				p := r.partition(t0)
				load(p, 64, 64)
				pass(time.Hour)
				for o := range int64(64) {
					want := map[bool][2]int{false: {1, 0}, true: {0, 3}}[slices.Contains(row.bad, o)]
					if done[o] != want[0] || alone[o] != want[1] {
						t.Errorf("order %s, bad %v: offset %d was delivered %d times, and failed alone %d times", row.order, row.bad, o, done[o], alone[o])
					}
				}
				if n := len(k.seen()); n > row.requests && !any {
					t.Errorf("order %s, bad %v: %d requests: %s", row.order, row.bad, n, k.text())
				}
				if last := k.seen()[len(k.seen())-1].at; last > time.Duration(len(row.bad))*4*time.Second+time.Second && !any {
					t.Errorf("order %s, bad %v: it took %s, the one at fault waits twice 2s and nobody else", row.order, row.bad, last)
				}
				if n := len(r.logs.With("message skipped")); n != len(row.bad) || p.rec.Next() != 64 || p.failing.Load() != 0 {
					t.Errorf("order %s, bad %v: %d skipped, done up to %d, %d fail", row.order, row.bad, n, p.rec.Next(), p.failing.Load())
				}
				r.isEmpty()
			})
		}
	}
}

// A batch that another host is asked for at once is not halved, and no fault of it counts, also where service faults do.
func TestBatchGoesElsewhereWhole(t *testing.T) {
	for name, row := range map[string]struct {
		count int
		want  string
	}{"many": {4, "[[0 1 2 3] [0#2 1#2 2#2 3#2]]"}, "one": {1, "[[0] [0#2]]"}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, batches(4, OrderNone, func(c *settings) {
				c.Targets, c.CanSkip, c.SkipOnAny, c.RetryNums = []string{"http://a/", "http://b/"}, true, true, 1
			}), nil)
			k := opened(r, func(q posted) reply { return reply{refused: q.items[0].Attempt == 1} })
			p := r.partition(t0)
			load(p, row.count, 0)
			pass(time.Hour)
			if got := k.text(); got != row.want || p.rec.Next() != int64(row.count) || len(r.logs.With("message skipped")) > 0 || k.seen()[1].at > time.Second {
				t.Errorf("%s: %s, want %s; done up to %d", name, got, row.want, p.rec.Next())
			}
			r.isEmpty()
		})
	}
}

// A message of a batch that fails for ever holds up its lane and nobody else.
func TestBatchAroundOneThatFails(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		order string
		least int
		named int // those of its batch are done, also where they are behind it in its lane
	}{{OrderPartition, 103, 149}, {OrderKey, 991, 999}, {OrderNone, 999, 999}} {
		for name, fail := range map[string]reply{"alone": unwell, "by name": naming(103)} {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, batches(50, row.order, nil), nil)
				var mu sync.Mutex
				done := map[int64]bool{}
				opened(r, func(q posted) reply {
					mu.Lock()
					defer mu.Unlock()
					bad := q.has(103)
					for _, e := range q.items {
						if !bad || name == "by name" && e.Offset != 103 {
							done[e.Offset] = true
						}
					}
					if bad {
						return fail
					}
					return reply{}
				})
				p := r.partition(t0)
				load(p, 1000, 100)
				pass(time.Hour)
				if n := len(done); n < row.least || n > row.named || name == "alone" && n != row.least {
					t.Errorf("%s, order %s: %d done, want %d, by name at most %d", name, row.order, n, row.least, row.named)
				}
				if p.rec.Next() != 103 {
					t.Errorf("%s, order %s: done up to %d", name, row.order, p.rec.Next())
				}
				drained(p, 0, errStopping)
				r.isEmpty()
			})
		}
	}
}
