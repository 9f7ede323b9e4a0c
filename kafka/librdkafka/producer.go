package librdkafka

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kpush/kpush/kafka"
)

// Producer is a kafka.Producer. librdkafka fills its requests without regard to the topic, and a topic that takes less refuses all that
// is in one: so there is a sender for each of a few sizes, and a topic's records go through one of them.
type Producer struct {
	cfg   Config
	log   *slog.Logger
	limit time.Duration // the delivery timeout
	held  atomic.Int64  // bytes of records without an answer, of cfg.Buffer
	open  atomic.Int64  // these records

	mu      sync.Mutex
	senders map[int]*sender   // by batch
	routes  map[string]*route // by topic
	closed  bool
}

// route is the sender of a topic: the same one until all of its records have an answer, so that none overtakes another.
type route struct {
	by   *sender
	open int // records without an answer
}

// NewProducer looks at the configuration, and connects nowhere. cfg.Buffer bounds the bytes of records without an answer. An error
// wraps kafka.ErrRefused.
func NewProducer(cfg Config, log *slog.Logger) (*Producer, error) {
	p := &Producer{cfg: cfg, log: log, limit: DeliveryTimeout(cfg), senders: map[int]*sender{}, routes: map[string]*route{}}
	o, err := newOutlet(producerProperties(cfg, batchMost))
	if err != nil {
		return nil, err
	}
	go o.close() // it may wait for a name server
	return p, nil
}

// Sizes of what goes to a broker together: batchMost, or so many times a fourth of it as the topic's bound asks for, down to one record
// each. Where the bound is not known it is batchUnknown: a topic that takes less than that may refuse small records that came together.
const (
	batchMost    = 1 << 20
	batchUnknown = batchMost >> 6
)

// batchOf is the size for records of a topic that takes so many bytes together, its Record.Batch.
func batchOf(most int) int {
	if most <= 0 {
		return batchUnknown
	}
	size := batchMost
	for size > most && size > 1 {
		size /= 4
	}
	return size
}

// route finds the record's, which has one record more then.
func (p *Producer) route(r *kafka.Record) (to *route, by *sender, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, errClosed
	}
	if to = p.routes[r.Topic]; to == nil {
		to = &route{}
		p.routes[r.Topic] = to
	}
	if to.open == 0 {
		size := batchOf(r.Batch)
		if to.by = p.senders[size]; to.by == nil {
			to.by = &sender{of: p, batch: size}
			p.senders[size] = to.by
		}
	}
	to.open++
	p.open.Add(1)
	return to, to.by, nil
}

// answered takes a record of the route's away.
func (p *Producer) answered(to *route) {
	p.mu.Lock()
	defer p.mu.Unlock()
	to.open--
	p.open.Add(-1)
}

// Queue returns once the record is in a client's queue.
func (p *Producer) Queue(r kafka.Record, done func(kafka.Produced, error)) error {
	to, by, err := p.route(&r)
	if err != nil {
		return err
	}
	if err = by.queue(&r, to, done); err != nil {
		p.answered(to)
	}
	return err
}

// Produce returns what came of the record.
func (p *Producer) Produce(ctx context.Context, r kafka.Record) (kafka.Produced, error) {
	type answer struct {
		at  kafka.Produced
		err error
	}
	answered, late := make(chan answer, 1), time.NewTimer(p.limit)
	defer late.Stop()
	if err := p.Queue(r, func(at kafka.Produced, err error) { answered <- answer{at, err} }); err != nil {
		return kafka.Produced{}, err
	}
	select {
	case a := <-answered:
		return a.at, a.err
	case <-ctx.Done():
		return kafka.Produced{}, fmt.Errorf("%w: %w", kafka.ErrUnknown, context.Cause(ctx))
	case <-late.C:
		return kafka.Produced{}, fmt.Errorf("%w: no answer within %v", kafka.ErrUnknown, p.limit)
	}
}

// all are the senders that there are.
func (p *Producer) all() []*sender {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(p.senders))
}

// Queued is the number of records without an answer.
func (p *Producer) Queued() int { return int(p.open.Load()) }

// Flush waits until each has one.
func (p *Producer) Flush(ctx context.Context) (left int) {
	for p.Queued() > 0 && ctx.Err() == nil {
		for _, s := range p.all() {
			s.flush()
		}
		time.Sleep(2 * time.Millisecond)
	}
	return p.Queued()
}

// Close answers for what is still queued, and ends the clients beside the caller.
func (p *Producer) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	for _, s := range p.all() {
		s.close()
	}
}

// DeliveryTimeout is how long a record may be without an answer.
func DeliveryTimeout(c Config) time.Duration {
	if ms, err := strconv.Atoi(c.Properties["delivery.timeout.ms"]); err == nil {
		return time.Duration(ms) * time.Millisecond
	}
	return 10 * time.Second
}
