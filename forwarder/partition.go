package forwarder

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/kpush/kpush/forwarder/pace"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// partition is one partition that the group gave to this process, from its start until its revoke.
//
// The consumer creates it, pushes into its lanes and ends it; whoever has a turn delivers; the committer reads what may be
// committed and says what was.
type partition struct {
	kafka.Partition
	identity offsets.Key
	topicID  string // of identity, as Kafka's own tools write it
	lineage  uint64
	f        *Forwarder
	rec      *offsets.Partition
	page     record // rec, for the pen
	lanes    *pace.Lanes
	ceiling  ceiling
	stock    stock
	reading  reading
	replay   offsets.Ranges // done before an operator had it begin anew; never changed
	gate     gate
	gauge    gauge

	soft    context.Context // ends when no new attempt may start
	stop    context.CancelCauseFunc
	hard    context.Context // ends when nobody waits for answers any more
	abandon context.CancelCauseFunc

	failing atomic.Int32 // messages that wait for another attempt
	changes atomic.Int64 // counts what the next commit's mark has to tell: outcomes, and attempts that failed
	stage   atomic.Int32 // who may commit it: alive, handingOver or gone
}

// reading is how far a partition is read. Owned by the consumer.
type reading struct {
	next       int64     // the offset after the newest message handed over
	outOfRange bool      // the log does not hold next any more
	again      bool      // the consumer brings again what the reader without a group has brought
	said       bool      // the log has said that it is bounded
	came       time.Time // when a message of it was handed over last, or it was started
	owed       int64     // where it ended when it had brought nothing for silentTime
	unread     unread
}

func newPartition(f *Forwarder, identity offsets.Key, rec *offsets.Partition, start offsets.Start) *partition {
	p := &partition{Partition: kafka.Partition{Topic: identity.Topic, Number: identity.Partition}, identity: identity, topicID: offsets.URLSafe(identity.TopicID), lineage: start.Lineage,
		f: f, rec: rec, page: rec, replay: slices.Clone(start.Had).TrimBelow(start.Next), reading: reading{next: start.Next, came: time.Now()}}
	p.ceiling.open(start, f.parts.Store.Keeps(), f.headroom())
	p.lanes = f.pace.Open(p)
	p.soft, p.stop = context.WithCancelCause(context.Background())
	p.hard, p.abandon = context.WithCancelCause(context.Background())
	now := time.Now()
	p.stock.touch(now)
	p.gauge.open(f.counts.topic(p.Topic), start.Next, now)
	return p
}

// push takes a message that the consumer handed over. What is finished already goes no further.
func (p *partition) push(m *kafka.Message) {
	p.reading.next = m.Offset + 1
	p.gauge.position.Store(m.Offset + 1)
	p.gauge.topic.fetched.Add(1)
	if !p.rec.Fetched(m.Offset) {
		p.f.counts.suppressed.Add(1)
		return
	}
	size := sizeOf(m)
	p.stock.add(size)
	p.f.budget.add(size)
	p.gauge.handed.Add(1)
	p.gauge.ages.add(m, p.rec.Next)
	p.lanes.Push(m)
}

// Left gives back what a message held of the budget. Pace calls it.
func (p *partition) Left(m *kafka.Message) {
	size := sizeOf(m)
	p.stock.free(size)
	p.f.budget.free(size)
}

// Tried tells whether a message was tried before. Pace calls it.
func (p *partition) Tried(offset int64) bool { return p.rec.Earlier(offset).Number > 0 }

// Admits tells whether a message's first attempt may start now, and counts it as begun if so: a commit with a ceiling above
// its offset is acknowledged, so that whoever takes the partition over after a crash knows what may have been sent, and
// what goes on out of order is within its bounds. Pace calls it.
func (p *partition) Admits(offset int64) bool {
	bound := p.outOfBounds(offset)
	if p.soft.Err() != nil || p.gate.isShut() {
		return false
	}
	ok, low := p.ceiling.admit(offset, bound)
	if low {
		p.f.committer.now()
	}
	return ok
}

// Bounds of what is done out of order (KPUSH_ORDER key and none). A message that keeps failing lets the others of its
// partition go on until they are window offsets ahead of it. Messages of all partitions together that wait for another
// attempt are failingLimit, shared evenly: each costs a goroutine.
const (
	window       = 10_000
	failingLimit = 2048
)

// outOfBounds says which bound of what is done out of order is reached, "" for none.
func (p *partition) outOfBounds(offset int64) string {
	if p.f.cfg.Order == pace.ByPartition {
		return ""
	}
	share := max(16, failingLimit/max(1, int32(len(p.f.consumer.running()))))
	if p.failing.Load() >= share {
		return fmt.Sprintf("%d messages of it wait for another attempt", share)
	}
	if next := p.rec.Next(); offset >= next+window {
		return fmt.Sprintf("%d offsets behind %d are done or tried, and that one keeps failing", int64(window), next)
	}
	return ""
}

// changed tells the committer that there is something new for the mark.
func (p *partition) changed() {
	p.changes.Add(1)
	p.f.committer.stir()
}

// owes tells whether there is something that Kafka has not been told.
func (p *partition) owes() bool {
	next, _ := p.rec.Progress()
	return p.ceiling.due(next, p.changes.Load(), false)
}

func (p *partition) where() slog.Attr {
	return slog.Group("", "topic", p.Topic, "partition", p.Number)
}

// goes tells whether the partition is not being given up.
func (p *partition) goes() bool { return p.soft.Err() == nil }

// drain returns when no goroutine of the stopped partition is left: those under way may finish until deadline ends.
func (p *partition) drain(deadline context.Context, cause error) {
	over := context.AfterFunc(deadline, func() {
		if n := p.gauge.underWay.Load(); n > 0 && p.hard.Err() == nil { // a stop may drain again what has been cut off
			p.f.log.Warn("requests were still under way when the drain ended; their messages are in doubt", p.where(), "messages", n)
		}
		p.abandon(cause)
	})
	p.lanes.Wait()
	over()
	p.abandon(cause)
}

// perMessage is what a waiting message is counted with beside its bytes: the structs, the allocator's slack, and some of
// the room that the garbage collector wants above what is alive.
const perMessage = 400

// sizeOf is what a message counts against Config.Buffer, in bytes.
func sizeOf(m *kafka.Message) int64 {
	n := int64(perMessage + len(m.Key) + len(m.Value))
	for _, h := range m.Headers {
		n += int64(len(h.Name) + len(h.Value) + 40)
	}
	return n
}
