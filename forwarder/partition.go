package forwarder

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kpush/kpush/offsets"
)

// partition is one partition that the group gave to this process, from its start until its revoke.
//
// The poll goroutine creates it, pushes into its lanes and ends it; whoever has a turn delivers; the committer reads
// what may be committed and says what was.
type partition struct {
	tp
	topicID string
	lineage uint64
	f       *Forwarder
	rec     record
	lanes   lanes          // guarded by turns.mu
	running sync.WaitGroup // lanes under way
	tried   tried
	failing atomic.Int32 // messages that wait for another attempt

	soft     context.Context // ends when no new attempt may start
	stop     context.CancelCauseFunc
	hard     context.Context // ends when nobody waits for answers any more
	abandon  context.CancelCauseFunc
	held     atomic.Int64 // bytes of messages in memory
	left     atomic.Int64 // bytes of messages that were in memory and are not any more
	progress atomic.Int64 // unix nanoseconds of the newest outcome, or of when messages began to wait
	changes  atomic.Int64 // counts what the next commit's mark has to tell: outcomes, and attempts that failed

	handedOver atomic.Bool // nothing commits it any more but the hand-over itself

	paused bool  // this and the next two are owned by the poll goroutine
	next   int64 // the offset after the newest message handed over
	astray bool  // the log does not hold next any more
	behind bool  // the consumer brings again what the stand-in has brought
	told   bool  // the log has said that it stands

	came time.Time // when a message of it was handed over last, or it was started; owned by the poll goroutine, too
	owed int64     // where it ended when it had brought nothing for silentTime

	pull     float64   // bytes a second that leave; owned by the poll goroutine, too
	sampled  time.Time // when that was measured
	leftThen int64

	mu       sync.Mutex
	ceiling  int64       // requests below it may start: Kafka has acknowledged this one or a higher one
	begun    int64       // the highest offset that a request was started for, plus one
	wanted   int64       // the highest offset that had to wait for a higher ceiling
	count    int64       // requests started
	pace     float64     // requests a second
	past     sample      // what it may fall to is measured from here
	stood    time.Time   // when a lane last had to wait for a higher ceiling
	inherits int64       // ceiling of whoever had the partition before: offsets below it stay in doubt until they are done
	synced   commitState // what the committer last had acknowledged
	stall    string      // why nothing new is tried, beside the ceiling; "" where it is
	stalled  time.Time   // since when
}

// commitState is the newest acknowledged commit of a partition, for the committer.
type commitState struct {
	offset  int64 // -1: none of this assignment yet
	changes int64 // of the partition, as of then
	sample
}

// sample is how many requests of a partition had been started at a time.
type sample struct {
	count int64
	at    time.Time
}

func newPartition(f *Forwarder, t tp, topicID string, rec record, start offsets.Start) *partition {
	p := &partition{tp: t, topicID: topicID, lineage: start.Lineage, f: f, rec: rec, inherits: start.Ceiling, next: start.Next, begun: start.Next,
		synced: commitState{offset: -1}, past: sample{at: time.Now()}, came: time.Now()}
	if !f.keeps() {
		p.ceiling = math.MaxInt64
	}
	p.soft, p.stop = context.WithCancelCause(context.Background())
	p.hard, p.abandon = context.WithCancelCause(context.Background())
	p.progress.Store(time.Now().UnixNano())
	for _, a := range start.Attempts {
		p.tried.set(a)
	}
	return p
}

// push takes a message that the consumer handed over. What is finished already goes no further.
func (p *partition) push(m *Message) {
	p.next = m.Offset + 1
	if !p.rec.Fetched(m.Offset) {
		p.f.filtered.Add(1)
		p.tried.remove(m.Offset)
		return
	}
	m.TopicID, m.Group = p.topicID, p.f.cfg.Group
	size := m.size()
	if p.held.Add(size) == size {
		p.progress.Store(time.Now().UnixNano()) // nothing was waiting: it begins to wait now
	}
	p.f.budget.take(size)
	p.f.turns.push(p, m)
}

// let gives back what a message held of the budget.
func (p *partition) let(m *Message) {
	size := m.size()
	p.held.Add(-size)
	p.left.Add(size)
	p.f.budget.free(size)
}

// deliver brings a message to its outcome and records it; false: stopped, nothing of this lane may follow.
func (p *partition) deliver(d *Delivery) bool {
	out, err := p.f.handler.Handle(d)
	for err != nil && !errors.Is(err, errSkipped) && p.soft.Err() == nil {
		d.settleBefore()
		p.f.turns.give(d)
		p.f.log.Error("the handler has given back a message without an outcome; it gets it again", d.where(), "error", err)
		if stopped := sleep(d.ctx(), p.f.cfg.RetryInterval); stopped != nil {
			err = stopped
			break
		}
		out, err = p.f.handler.Handle(d)
	}
	if errors.Is(err, errSkipped) {
		out, err = Outcome{Skip, errSkipped.Error()}, nil
	}
	if err != nil {
		d.close()
		return false
	}
	if d.outcome = out; out.Class == Delivered {
		d.close()
		d.unrecorded = true
		if d.ended.IsZero() { // without an attempt
			d.ended = time.Now()
		}
		p.progress.Store(d.ended.UnixNano())
		return true
	}
	return p.conclude(d) && p.record(p.rec.Done(d.Offset), d) == nil
}

// conclude has everything done that comes before a message's record; false: the partition was stopped before.
func (p *partition) conclude(d *Delivery) bool {
	d.close()
	if d.outcome.Class == Skip {
		if err := p.skip(d, d.outcome.Reason); err != nil {
			p.doubt(d)
			return false
		}
	}
	p.progress.Store(time.Now().UnixNano())
	offsets.Crash("answered, not recorded")
	return true
}

// skip writes the message to the skip log, for as long as that takes: only then it may count as done (F1).
func (p *partition) skip(d *Delivery, reason string) error {
	for {
		err := p.f.skips.write(d, reason)
		p.f.state.say(skipping, err)
		if err == nil {
			p.f.log.Warn("message skipped; it is in the skip log", d.where(), "reason", reason, "attempts", d.attempt.Number)
			return nil
		}
		if err := p.diskWait(p.soft, err); err != nil {
			return err
		}
	}
}

// record has the outcomes of messages in the file, for as long as that takes or until nobody waits: the service has them. err
// is what the first try came to.
func (p *partition) record(err error, final ...*Delivery) error {
	for err != nil && !errors.Is(err, offsets.ErrReleased) {
		if err = p.diskWait(p.hard, err); err != nil {
			p.doubt(final...)
			return err
		}
		err = p.rec.DoneAll(offsetsOf(final))
	}
	if err == nil {
		offsets.Crash("recorded, not committed")
		for _, d := range final {
			p.tried.remove(d.Offset)
		}
		p.changed()
	}
	return err
}

// doubt has the last commit tell of messages that have an outcome which the volume has not taken: whoever gets the partition
// sends them again.
func (p *partition) doubt(final ...*Delivery) {
	for _, d := range final {
		a := d.attempt
		a.InDoubt = a.InDoubt || d.verdict.Status/100 == 2 || d.outcome.Class == Delivered
		p.tried.set(a)
	}
}

// changed tells the committer that there is something new for the mark.
func (p *partition) changed() {
	p.changes.Add(1)
	p.f.committer.stir()
}

func offsetsOf(ds []*Delivery) []int64 {
	out := make([]int64, len(ds))
	for i, d := range ds {
		out[i] = d.Offset
	}
	return out
}

// diskWait says once that the volume does not take records, and waits a moment before the next try.
func (p *partition) diskWait(ctx context.Context, err error) error {
	if errors.Is(err, offsets.ErrReleased) {
		return errLost
	}
	p.f.disk.report(err)
	return sleep(ctx, time.Second)
}

// Bounds of what is done out of order (KPUSH_ORDER key and none). A message that keeps failing lets the others of its
// partition go on until they are window offsets ahead of it. Messages of all partitions together that wait for another
// attempt are failingLimit, shared evenly: each costs a goroutine.
const (
	window       = 10_000
	failingLimit = 2048
)

// admits tells whether a message's first attempt may start now, and counts it as begun if so: a commit with a ceiling above
// its offset is acknowledged, so that whoever takes the partition over after a crash knows what may have been sent, and
// what goes on out of order is within its bounds.
func (p *partition) admits(offset int64) bool {
	stall := p.outOfBounds(offset)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.soft.Err() != nil {
		return false
	}
	if stall != p.stall {
		p.stall, p.stalled = stall, time.Now()
	}
	switch {
	case stall != "":
		return false
	case offset >= p.ceiling:
		p.stood, p.wanted = time.Now(), max(p.wanted, offset)
		p.f.committer.now()
		return false
	}
	p.begun = max(p.begun, offset+1)
	p.count++
	return true
}

// outOfBounds says which bound of what is done out of order is reached, "" for none.
func (p *partition) outOfBounds(offset int64) string {
	if p.f.cfg.Order == OrderPartition {
		return ""
	}
	if n := p.f.failingShare(); p.failing.Load() >= n {
		return fmt.Sprintf("%d messages of it wait for another attempt", n)
	}
	if next := p.rec.Next(); offset >= next+window {
		return fmt.Sprintf("%d offsets behind %d are done or tried, and that one keeps failing", int64(window), next)
	}
	return ""
}

// stands says why nothing new of the partition has been tried for a while, "" where it is.
func (p *partition) stands() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stall == "" || time.Since(p.stalled) < standingTime {
		return ""
	}
	return p.stall
}

// raise lets requests below ceiling start.
func (p *partition) raise(ceiling int64) {
	p.mu.Lock()
	higher := ceiling > p.ceiling
	p.ceiling = max(p.ceiling, ceiling)
	p.mu.Unlock()
	if higher {
		p.f.turns.resume(p)
	}
}

// goes tells whether the partition is not being given up.
func (p *partition) goes() bool { return p.soft.Err() == nil }

// drain returns when no goroutine of the stopped partition is left: those under way may finish until late is closed.
func (p *partition) drain(late <-chan struct{}, cause error) {
	gone := make(chan struct{})
	go func() {
		p.running.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-late:
		p.f.log.Warn("a request was still under way when the drain ended; its message is in doubt", "topic", p.topic, "partition", p.partition)
		p.abandon(cause)
		<-gone
	}
	p.abandon(cause)
}
