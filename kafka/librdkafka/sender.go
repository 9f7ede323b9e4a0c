package librdkafka

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	client "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/kpush/kpush/kafka"
)

// sender is one client, and the records that it holds. The client is made by the first one: a process that produces nothing is as
// small as without it.
type sender struct {
	of    *Producer
	batch int           // bytes of records that go to the broker together, at the most
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
	by        *route
	partition kafka.Partition
	size      int64
	done      func(kafka.Produced, error)
}

// recordCost is what librdkafka and Go need for a record beside its bytes.
const recordCost = 400

var errClosed = fmt.Errorf("%w: the producer is closed", kafka.ErrNoBroker)

// queue copies the record into the client's queue. done is called on the one goroutine that takes the client's reports, and must not
// wait.
func (s *sender) queue(r *kafka.Record, by *route, done func(kafka.Produced, error)) error {
	size := int64(len(r.Key) + len(r.Value) + recordCost)
	for _, h := range r.Headers {
		size += int64(len(h.Name) + len(h.Value))
	}
	switch held := s.of.held.Add(size); {
	case size > s.of.cfg.Buffer:
		s.of.held.Add(-size)
		return fmt.Errorf("%w: it has %d bytes, and the queue holds %d", kafka.ErrTooLarge, size, s.of.cfg.Buffer)
	case held > s.of.cfg.Buffer:
		s.of.held.Add(-size)
		return kafka.ErrQueueFull
	}
	err := s.put(r, &asked{by: by, partition: kafka.Partition{Topic: r.Topic, Number: r.Partition}, size: size, done: done})
	if err != nil {
		s.of.held.Add(-size)
	}
	return err
}

func (s *sender) put(r *kafka.Record, a *asked) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for s.out == nil {
		s.mu.RUnlock()
		err := s.open()
		s.mu.RLock()
		if err != nil {
			return err
		}
	}
	if s.closed {
		return errClosed
	}
	id := uintptr(s.next.Add(1))
	a.out = s.out
	s.pending.Store(id, a)
	s.count.Add(1)
	s.health.asked()
	if code := s.out.send(r, id); code != client.ErrNoError {
		s.pending.Delete(id)
		s.count.Add(-1)
		return s.reason(outcome{code: code})
	}
	return nil
}

// open makes the client.
func (s *sender) open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	if s.out != nil {
		return nil
	}
	o, err := newOutlet(producerProperties(s.of.cfg, s.batch))
	if err != nil {
		return err
	}
	s.out = o
	go s.listen(o)
	return nil
}

const (
	tick      = 5 * time.Second // how often a client is looked at that is silent
	purgeTime = time.Second     // for the reports of one that ends
)

// listen takes what the client says, until it has been exchanged and all of it is answered.
func (s *sender) listen(o *outlet) {
	last, ending := time.Now(), time.Time{}
	for {
		wait := tick
		if !ending.IsZero() {
			wait = purgeTime / 100
		}
		e := o.poll(wait)
		if e != nil {
			s.hear(o, e)
		}
		s.mu.RLock()
		gone := s.out != o || s.closed
		s.mu.RUnlock()
		switch {
		case e != nil && time.Since(last) < tick: // there may be more
		case gone && ending.IsZero():
			ending = time.Now()
		case gone && (!s.owes(o) || time.Since(ending) > purgeTime):
			s.abandon(o)
			o.close()
			return
		case !gone && time.Since(last) >= tick:
			last = time.Now()
			s.examine(o)
		}
	}
}

// owes tells whether records of the client's are without an answer.
func (s *sender) owes(o *outlet) (yes bool) {
	s.pending.Range(func(_, a any) bool { yes = a.(*asked).out == o; return !yes })
	return yes
}

// abandon answers for what a client did not report at its end.
func (s *sender) abandon(o *outlet) {
	s.pending.Range(func(id, a any) bool {
		if a.(*asked).out == o {
			s.report(outcome{id: id.(uintptr), code: client.ErrPurgeInflight, sent: 1})
		}
		return true
	})
}

func (s *sender) hear(o *outlet, e *event) {
	for _, r := range e.reports {
		s.report(r)
	}
	switch {
	case e.code == client.ErrFatal:
		s.of.log.Warn("the client that produces cannot go on: a new one takes its place", "error", e.text)
		s.renew(o)
	case e.code != client.ErrNoError:
		s.health.heard(e.text)
		s.of.log.Debug("Kafka reports to the producer", "error", e.text)
	case e.tag != "":
		logLine(s.of.log, e.tag, e.text, e.level)
	}
}

// report answers for one record.
func (s *sender) report(o outcome) {
	found, ok := s.pending.LoadAndDelete(o.id)
	if !ok {
		return
	}
	a := found.(*asked)
	s.of.held.Add(-a.size)
	left := s.count.Add(-1)
	s.of.answered(a.by)
	s.health.reported(o.code >= 0, left)
	if o.code != client.ErrNoError {
		a.done(kafka.Produced{}, s.reason(o))
		return
	}
	a.done(kafka.Produced{Position: kafka.Position{Partition: kafka.Partition{Topic: a.partition.Topic, Number: o.partition}, Offset: o.offset}, Timestamp: o.timestamp}, nil)
}

// reason says why a record is not acknowledged. That it is not in Kafka is said only where librdkafka knows it.
func (s *sender) reason(o outcome) error {
	kind := kafka.ErrUnknown
	if o.sent == 0 {
		kind = refusals[o.code]
	}
	text := o.code.String()
	if kind == nil {
		kind = kafka.ErrNoBroker
		if last := s.health.last(); last != "" {
			text += "; the newest error: " + last
		}
		if o.code == client.ErrMsgTimedOut {
			return lateError(text)
		}
	}
	return fmt.Errorf("%w: %s", kind, text)
}

// lateError is an ErrNoBroker where brokers may be there, and the record has waited in vain all the same.
type lateError string

func (e lateError) Error() string {
	return "not in Kafka in time: no broker answers, the partition has no leader, or too few replicas are in sync: " + string(e)
}

func (lateError) Unwrap() error { return kafka.ErrNoBroker }

// refusals are the errors of a record that is not in Kafka, and will not be by itself.
var refusals = map[client.ErrorCode]error{
	client.ErrUnknownTopic: kafka.ErrNoTopic, client.ErrUnknownTopicOrPart: kafka.ErrNoTopic, client.ErrUnknownPartition: kafka.ErrNoTopic,
	client.ErrTopicAuthorizationFailed: kafka.ErrForbidden, client.ErrClusterAuthorizationFailed: kafka.ErrForbidden,
	client.ErrMsgSizeTooLarge: kafka.ErrTooLarge, client.ErrRecordListTooLarge: kafka.ErrTooLarge,
	client.ErrQueueFull: kafka.ErrQueueFull, client.ErrInvalidRecord: kafka.ErrInvalid, client.ErrInvalidTimestamp: kafka.ErrInvalid,
	client.ErrInvalidMsg: kafka.ErrInvalid, client.ErrPolicyViolation: kafka.ErrInvalid, client.ErrTopicException: kafka.ErrInvalid,
	client.ErrInvalidArg: kafka.ErrInvalid, client.ErrUnsupportedForMessageFormat: kafka.ErrInvalid,
}

// flush has what lingers sent at once, and waits a moment for answers.
func (s *sender) flush() {
	s.mu.RLock() // the client stays until it is done
	defer s.mu.RUnlock()
	if s.out != nil && !s.closed && s.count.Load() > 0 {
		s.out.flush(20 * time.Millisecond)
	}
}

// close answers for what is still queued, and ends the client beside the caller.
func (s *sender) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed = true; s.out != nil {
		s.out.purge()
		s.out.queue.wake()
	}
}
