package publisher

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// Counts are what has come of requests and records since the start, and what is queued now.
type Counts struct {
	Requests map[Request]int64
	Duration map[string]Histogram // by mode
	Failed   map[string]int64     // records, by reason
	Sent     int64                // records that Kafka has acknowledged
	Queued   int
	Spooled  int64     // records on the volume that Kafka has not acknowledged
	Silent   time.Time // since when Kafka has acknowledged nothing although it has something; zero: it does
}

// Request is a kind of request: its mode, and the status of its answer.
type Request struct {
	Mode string
	Code int
}

// Histogram is a distribution: Counts are cumulative, one for each of the Bounds in seconds.
type Histogram struct {
	Bounds []float64
	Counts []uint64
	Count  uint64
	Sum    float64
}

// The modes. A question is a GET.
const (
	modeSync     = "sync"
	modeAsync    = "async"
	modeQuestion = "question"
)

var modes = []string{modeSync, modeAsync, modeQuestion}

var bounds = []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}

// counts are what requests add to.
type counts struct {
	sent   atomic.Int64
	failed []atomic.Int64 // as problems

	mu       sync.Mutex
	requests map[Request]int64
	times    map[string]*Histogram
}

func (c *counts) init() {
	c.failed, c.requests, c.times = make([]atomic.Int64, len(problems)), map[Request]int64{}, map[string]*Histogram{}
	for _, mode := range modes {
		c.times[mode] = &Histogram{Bounds: bounds, Counts: make([]uint64, len(bounds))}
	}
}

func (c *counts) answered(mode string, code int, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests[Request{mode, code}]++
	h, s := c.times[mode], max(0, took).Seconds()
	h.Count++
	h.Sum += s
	for i := len(bounds) - 1; i >= 0 && s <= bounds[i]; i-- {
		h.Counts[i]++
	}
}

// came counts what came of a record.
func (c *counts) came(err error) {
	if err == nil {
		c.sent.Add(1)
		return
	}
	c.failed[wordOf(err)].Add(1)
}

// Counts is a snapshot.
func (p *Publisher) Counts() Counts {
	c := &p.counts
	out := Counts{Failed: map[string]int64{}, Duration: map[string]Histogram{}, Sent: c.sent.Load(), Queued: p.producer.Queued(), Silent: p.silent()}
	if p.spool != nil {
		out.Spooled, _ = p.spool.Status()
	}
	for i, row := range problems {
		out.Failed[row.word] += c.failed[i].Load()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	out.Requests = maps.Clone(c.requests)
	for mode, h := range c.times {
		copied := *h
		copied.Counts = append([]uint64(nil), h.Counts...)
		out.Duration[mode] = copied
	}
	return out
}
