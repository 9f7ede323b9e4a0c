package publisher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/publisher/spool"
)

// Config is what the door has to know.
type Config struct {
	Topics   []string      // that may be published to; a trailing * is a prefix
	Timeout  time.Duration // the producer's delivery timeout
	BodyMost int64         // bytes of one request
	Buffer   int64         // bytes of all bodies under way
}

// Parts are what it works with.
type Parts struct {
	Producer kafka.Producer
	Cluster  func() (Cluster, error) // asked for once, by the first request
}

// Cluster is what is asked of Kafka beside producing.
type Cluster interface {
	Partitions(ctx context.Context, topics []string) ([]kafka.Partition, error)
	// RecordMost is how many bytes a topic takes of records at once.
	RecordMost(ctx context.Context, topic string) (int, error)
}

// Publisher answers at /topics/NAME.
type Publisher struct {
	cfg      Config
	producer kafka.Producer
	topics   *topics
	spool    *spool.Spool // nil: what is answered with 202 is in memory
	bodies   budget
	counts   counts
	log      *slog.Logger

	mu      sync.Mutex
	active  int // requests
	closing bool

	open    atomic.Int64 // records in the producer's queue that are not the spool's
	unsaid  atomic.Int64 // failures after a 202 that the log has not told of yet
	dropped atomic.Int64 // all of them
	saidAt  atomic.Int64
	waiting atomic.Int64 // since when Kafka has acknowledged nothing although there is something; 0: it has
	reason  atomic.Value // why the newest record failed
}

// New makes a door that is open.
func New(cfg Config, parts Parts, log *slog.Logger) *Publisher {
	p := &Publisher{cfg: cfg, producer: parts.Producer, topics: newTopics(cfg.Topics, parts.Cluster), log: log}
	p.bodies.left = cfg.Buffer
	p.counts.init()
	return p
}

// Spool has what is answered with 202 be on the volume first. To be called before the door is used.
func (p *Publisher) Spool(s *spool.Spool) {
	p.spool = s
	for name, places := range s.Topics() {
		p.topics.known[name] = topic{partitions: places} // so that one that there was is taken without a broker, too
	}
}

// Spooled is told what came of a record of the spool.
func (p *Publisher) Spooled(err error) {
	p.counts.came(err)
	p.heard(err)
}

// enter counts a request in, unless the door is closed.
func (p *Publisher) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return false
	}
	p.active++
	return true
}

func (p *Publisher) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.active--
}

func (p *Publisher) inside() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.active
}

// Close takes no new requests, and waits until ctx ends for what is under way and queued. The error counts what Kafka has not
// acknowledged by then; what is in the spool is not lost.
func (p *Publisher) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closing = true
	p.mu.Unlock()
	dropped := p.dropped.Load()
	for p.flush(ctx) > 0 || p.inside() > 0 { // those that read a body, and answers that are being written
		if ctx.Err() != nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if p.spool != nil {
		p.spool.Drain(ctx)
		p.spool.Close(ctx)
	}
	left := p.open.Load() + p.dropped.Load() - dropped
	if left == 0 {
		return nil
	}
	err := fmt.Errorf("%d published records were not acknowledged by Kafka when the stop ended: they may be lost", left)
	p.log.Error("published records were not acknowledged by Kafka when the stop ended: they may be lost", "records", left)
	return err
}

// flush waits until ctx ends for an answer to all that was queued here.
func (p *Publisher) flush(ctx context.Context) (left int64) {
	for p.open.Load() > 0 && ctx.Err() == nil {
		slice, end := context.WithTimeout(ctx, flushSlice)
		p.producer.Flush(slice)
		end()
	}
	return p.open.Load()
}

// flushSlice is after how long it is looked at again: the producer has records of others, too.
const flushSlice = 50 * time.Millisecond

// put queues the record, and notes what comes of it before it is told to the batch, as the i-th.
func (p *Publisher) put(r *kafka.Record, b *batch, i int) error {
	topic, now := r.Topic, time.Now().UnixNano()
	p.open.Add(1)
	first := p.waiting.CompareAndSwap(0, now) // before there can be an answer
	err := p.producer.Queue(*r, func(at kafka.Produced, err error) {
		p.came(topic, b.async, err)
		b.ended(i, at, err)
		p.open.Add(-1)
	})
	if err != nil {
		p.open.Add(-1)
		if first {
			p.waiting.CompareAndSwap(now, 0)
		}
	}
	return err
}

func (p *Publisher) came(topic string, async bool, err error) {
	p.counts.came(err)
	if p.heard(err); err == nil {
		return
	}
	if errors.Is(err, kafka.ErrTooLarge) {
		p.topics.tooLarge(topic)
	}
	p.reason.Store(err.Error())
	if !async {
		return
	}
	p.unsaid.Add(1)
	p.dropped.Add(1)
	now := time.Now().UnixNano()
	if said := p.saidAt.Load(); now-said > int64(time.Minute) && p.saidAt.CompareAndSwap(said, now) {
		p.log.Error("records that were answered with 202 are not in Kafka, or nobody knows", "records", p.unsaid.Swap(0), "topic", topic, "error", err.Error())
	}
}

// heard notes that Kafka has answered, where it has: a record that it refuses is no sign of an outage.
func (p *Publisher) heard(err error) {
	if err != nil && (errors.Is(err, kafka.ErrNoBroker) || errors.Is(err, kafka.ErrUnknown) || errors.Is(err, kafka.ErrQueueFull)) {
		return
	}
	left := int64(0)
	if p.producer.Queued() > 0 {
		left = time.Now().UnixNano()
	}
	p.waiting.Store(left)
}

// quiet is for how long Kafka may say nothing before that is worth a note.
const quiet = 5 * time.Second

// Live, Ready and Notes are for /healthz and /readyz. A broker that is away is no reason for either.
func (p *Publisher) Live() []string { return nil }

// Ready has nothing to wait for.
func (p *Publisher) Ready() []string { return nil }

// silent is since when Kafka has acknowledged nothing of what is queued, where that is worth a word; else zero.
func (p *Publisher) silent() (since time.Time) {
	if at := p.waiting.Load(); at != 0 && time.Since(time.Unix(0, at)) >= quiet {
		since = time.Unix(0, at)
	}
	return since
}

// Notes tell of records that wait.
func (p *Publisher) Notes() []string {
	var notes []string
	if p.spool != nil {
		notes = p.spool.Notes(quiet)
	}
	since := p.silent()
	if since.IsZero() {
		return notes
	}
	note := fmt.Sprintf("published records have had no acknowledgement from Kafka for %v; queued: %d", time.Since(since).Round(time.Second), p.producer.Queued())
	if reason, _ := p.reason.Load().(string); reason != "" {
		note += "; the newest failure: " + reason
	}
	return append(notes, note)
}

// problem is why a request, or a record, is refused.
type problem struct {
	status, code int
	sentence     string
	retriable    bool
}

func (p problem) Error() string { return p.sentence }

func refuse(status int, format string, args ...any) error {
	return problem{status, status, fmt.Sprintf(format, args...), status == http.StatusTooManyRequests || status >= 500}
}

// problems are Kafka's errors as answers, and the word that counts them. The codes are Confluent's where it has one.
var problems = []struct {
	err          error
	status, code int
	retriable    bool
	word         string
}{
	{kafka.ErrNoTopic, 404, 40401, false, "no_topic"},
	{kafka.ErrForbidden, 403, 403, false, "forbidden"},
	{kafka.ErrTooLarge, 413, 413, false, "too_large"},
	{kafka.ErrInvalid, 400, 400, false, "invalid"},
	{kafka.ErrQueueFull, 429, 429, true, "queue_full"},
	{spool.ErrFull, 429, 429, true, "queue_full"},
	{spool.ErrVolume, 503, 503, true, "volume"},
	{kafka.ErrNoBroker, 503, 503, true, "no_broker"},
	{kafka.ErrUnknown, 504, 504, true, "unknown"},
}

// problemOf is any error as an answer; one that nobody has thought of says that nothing is known.
func problemOf(err error) problem {
	var own problem
	if errors.As(err, &own) {
		return own
	}
	for _, row := range problems {
		if errors.Is(err, row.err) {
			return problem{row.status, row.code, err.Error(), row.retriable}
		}
	}
	return problem{504, 504, fmt.Sprintf("%v: %v", kafka.ErrUnknown, err), true}
}

// wordOf counts an error.
func wordOf(err error) int {
	for i, row := range problems {
		if errors.Is(err, row.err) {
			return i
		}
	}
	return len(problems) - 1
}

// budget is a number of bytes that are given out and taken back.
type budget struct {
	mu   sync.Mutex
	left int64
}

func (b *budget) take(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > b.left {
		return false
	}
	b.left -= n
	return true
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += n
}
