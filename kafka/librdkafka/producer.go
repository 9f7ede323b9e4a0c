package librdkafka

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	client "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/kpush/kpush/kafka"
)

// Producer is a kafka.Producer. Its client is made by the first record: a process that produces nothing is as small as without it.
type Producer struct {
	cfg   Config
	log   *slog.Logger
	limit time.Duration // the delivery timeout
	held  atomic.Int64  // bytes of records without an answer, of cfg.Buffer
	next  atomic.Uint64 // the newest record's id
	count atomic.Int64  // records without an answer

	mu     sync.RWMutex // for reading while a record is put into the client; for writing to exchange it
	out    *outlet      // nil: not made yet
	closed bool

	pending sync.Map // id → *asked
	health  health
}

// asked is a record without an answer.
type asked struct {
	out       *outlet
	partition kafka.Partition
	size      int64
	done      func(kafka.Produced, error)
}

// recordCost is what librdkafka and Go need for a record beside its bytes.
const recordCost = 400

var errClosed = fmt.Errorf("%w: the producer is closed", kafka.ErrNoBroker)

// NewProducer looks at the configuration, and connects nowhere. cfg.Buffer bounds the bytes of records without an answer. An error
// wraps kafka.ErrRefused.
func NewProducer(cfg Config, log *slog.Logger) (*Producer, error) {
	p := &Producer{cfg: cfg, log: log, limit: DeliveryTimeout(cfg)}
	o, err := newOutlet(producerProperties(cfg))
	if err != nil {
		return nil, err
	}
	go o.close() // it may wait for a name server
	return p, nil
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

// Queue copies the record into the client's queue. done is called on the one goroutine that takes the client's reports, and must not
// wait.
func (p *Producer) Queue(r kafka.Record, done func(kafka.Produced, error)) error {
	size := int64(len(r.Key) + len(r.Value) + recordCost)
	for _, h := range r.Headers {
		size += int64(len(h.Name) + len(h.Value))
	}
	switch held := p.held.Add(size); {
	case size > p.cfg.Buffer:
		p.held.Add(-size)
		return fmt.Errorf("%w: it has %d bytes, and the queue holds %d", kafka.ErrTooLarge, size, p.cfg.Buffer)
	case held > p.cfg.Buffer:
		p.held.Add(-size)
		return kafka.ErrQueueFull
	}
	err := p.put(&r, &asked{partition: kafka.Partition{Topic: r.Topic, Number: r.Partition}, size: size, done: done})
	if err != nil {
		p.held.Add(-size)
	}
	return err
}

func (p *Producer) put(r *kafka.Record, a *asked) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for p.out == nil {
		p.mu.RUnlock()
		err := p.open()
		p.mu.RLock()
		if err != nil {
			return err
		}
	}
	if p.closed {
		return errClosed
	}
	id := uintptr(p.next.Add(1))
	a.out = p.out
	p.pending.Store(id, a)
	p.count.Add(1)
	p.health.asked()
	if code := p.out.send(r, id); code != client.ErrNoError {
		p.pending.Delete(id)
		p.count.Add(-1)
		return p.reason(outcome{code: code})
	}
	return nil
}

// open makes the client.
func (p *Producer) open() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errClosed
	}
	if p.out != nil {
		return nil
	}
	o, err := newOutlet(producerProperties(p.cfg))
	if err != nil {
		return err
	}
	p.out = o
	go p.listen(o)
	return nil
}

const (
	tick      = 5 * time.Second // how often a client is looked at that is silent
	purgeTime = time.Second     // for the reports of one that ends
)

// listen takes what the client says, until it has been exchanged and all of it is answered.
func (p *Producer) listen(o *outlet) {
	last, ending := time.Now(), time.Time{}
	for {
		wait := tick
		if !ending.IsZero() {
			wait = purgeTime / 100
		}
		e := o.poll(wait)
		if e != nil {
			p.hear(o, e)
		}
		p.mu.RLock()
		gone := p.out != o || p.closed
		p.mu.RUnlock()
		switch {
		case e != nil && time.Since(last) < tick: // there may be more
		case gone && ending.IsZero():
			ending = time.Now()
		case gone && (!p.owes(o) || time.Since(ending) > purgeTime):
			p.abandon(o)
			o.close()
			return
		case !gone && time.Since(last) >= tick:
			last = time.Now()
			p.examine(o)
		}
	}
}

// owes tells whether records of the client's are without an answer.
func (p *Producer) owes(o *outlet) (yes bool) {
	p.pending.Range(func(_, a any) bool { yes = a.(*asked).out == o; return !yes })
	return yes
}

// abandon answers for what a client did not report at its end.
func (p *Producer) abandon(o *outlet) {
	p.pending.Range(func(id, a any) bool {
		if a.(*asked).out == o {
			p.report(outcome{id: id.(uintptr), code: client.ErrPurgeInflight, sent: 1})
		}
		return true
	})
}

func (p *Producer) hear(o *outlet, e *event) {
	for _, r := range e.reports {
		p.report(r)
	}
	switch {
	case e.code == client.ErrFatal:
		p.log.Warn("the client that produces cannot go on: a new one takes its place", "error", e.text)
		p.renew(o)
	case e.code != client.ErrNoError:
		p.health.heard(e.text)
		p.log.Debug("Kafka reports to the producer", "error", e.text)
	case e.tag != "":
		logLine(p.log, e.tag, e.text, e.level)
	}
}

// report answers for one record.
func (p *Producer) report(o outcome) {
	found, ok := p.pending.LoadAndDelete(o.id)
	if !ok {
		return
	}
	a := found.(*asked)
	p.held.Add(-a.size)
	left := p.count.Add(-1)
	p.health.reported(o.code >= 0, left)
	if o.code != client.ErrNoError {
		a.done(kafka.Produced{}, p.reason(o))
		return
	}
	a.done(kafka.Produced{Position: kafka.Position{Partition: kafka.Partition{Topic: a.partition.Topic, Number: o.partition}, Offset: o.offset}, Timestamp: o.timestamp}, nil)
}

// reason says why a record is not acknowledged. That it is not in Kafka is said only where librdkafka knows it.
func (p *Producer) reason(o outcome) error {
	kind := kafka.ErrUnknown
	if o.sent == 0 {
		kind = refusals[o.code]
	}
	text := o.code.String()
	if kind == nil {
		kind = kafka.ErrNoBroker
		if last := p.health.last(); last != "" {
			text += "; the newest error: " + last
		}
	}
	return fmt.Errorf("%w: %s", kind, text)
}

// refusals are the errors of a record that is not in Kafka, and will not be by itself.
var refusals = map[client.ErrorCode]error{
	client.ErrUnknownTopic: kafka.ErrNoTopic, client.ErrUnknownTopicOrPart: kafka.ErrNoTopic, client.ErrUnknownPartition: kafka.ErrNoTopic,
	client.ErrTopicAuthorizationFailed: kafka.ErrForbidden, client.ErrClusterAuthorizationFailed: kafka.ErrForbidden,
	client.ErrMsgSizeTooLarge: kafka.ErrTooLarge, client.ErrRecordListTooLarge: kafka.ErrTooLarge,
	client.ErrQueueFull: kafka.ErrQueueFull, client.ErrInvalidRecord: kafka.ErrInvalid, client.ErrInvalidTimestamp: kafka.ErrInvalid,
	client.ErrInvalidMsg: kafka.ErrInvalid, client.ErrPolicyViolation: kafka.ErrInvalid, client.ErrTopicException: kafka.ErrInvalid,
	client.ErrInvalidArg: kafka.ErrInvalid, client.ErrUnsupportedForMessageFormat: kafka.ErrInvalid,
}

// Queued is the number of records without an answer.
func (p *Producer) Queued() int { return int(p.count.Load()) }

// Flush waits until each has one.
func (p *Producer) Flush(ctx context.Context) (left int) {
	for p.Queued() > 0 && ctx.Err() == nil {
		p.mu.RLock() // the client stays until it is done
		if p.out != nil && !p.closed {
			p.out.flush(20 * time.Millisecond)
		}
		p.mu.RUnlock()
		time.Sleep(2 * time.Millisecond)
	}
	return p.Queued()
}

// Close answers for what is still queued, and ends the client beside the caller.
func (p *Producer) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed = true; p.out != nil {
		p.out.purge()
		p.out.queue.wake()
	}
}

// DeliveryTimeout is how long a record may be without an answer.
func DeliveryTimeout(c Config) time.Duration {
	if ms, err := strconv.Atoi(c.Properties["delivery.timeout.ms"]); err == nil {
		return time.Duration(ms) * time.Millisecond
	}
	return 10 * time.Second
}
