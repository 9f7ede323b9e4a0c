package forwarder

import (
	"context"
	"log/slog"
	"time"

	"github.com/kpush/kpush/offsets"
)

// blockedAfter attempts without an outcome a message is called blocked: said once, and skipped by SIGUSR1.
const blockedAfter = 10

// ending is a cause of a cancelled delivery: nobody's fault.
type ending string

func (e ending) Error() string { return string(e) }

const (
	errStopping  ending = "kpush is stopping"
	errRevoked   ending = "the partition was given to another member of the group"
	errLost      ending = "the partition was lost: this process was silent for longer than the session timeout, or the topic is gone"
	errAstray    ending = "the partition starts again: its position had left the log"
	errUnfetched ending = "the partition starts again: the Kafka client did not fetch its messages"
	errRemade    ending = "the partition starts again: its topic was deleted and made again"
	errFatal     ending = "the Kafka client has failed"
	errSkipped   ending = "skipped by SIGUSR1"
)

// Delivery is one message on its way to its outcome. It belongs to its lane's goroutine, and is used again for another message:
// a Handler must not keep it.
type Delivery struct {
	*Message
	p       *partition
	attempt offsets.Attempt // Number: attempts started; InDoubt: one of them may have reached the service
	verdict Verdict         // of the newest attempt
	outcome Outcome
	final   bool
	// unrecorded: delivered, and not on record yet. The delivery is under way until it is.
	unrecorded bool
	again      bool      // for the Handler: what End answered
	turn       turn      // guarded by turns.mu while nobody delivers it
	since      time.Time // of the first attempt
	begun      time.Time // of the newest attempt
	ended      time.Time // of it; zero before the first
	host       int       // the host that the newest attempt went to, -1 before the first
	probe      int       // the host that this attempt probes, plus one
	hops       int       // hosts tried without a pause
	among      int       // attempts that were under way when the newest one began, with it
	slim       bool      // key and headers are left out
	sized      bool      // whether their size is refused is known
	before     *Delivery // one with an outcome that goes on record with this one's intent, or before anything is waited for
	batch      *batch    // nil: it goes alone
	lane       *lane     // of a batch

	waiting context.Context // nil until the first failed attempt
	skip    context.CancelCauseFunc
	logged  string // the reason in the newest blocked line
	said    time.Time
}

// turn is what a delivery has of Config.Concurrency.
type turn uint8

const (
	noTurn    turn = iota
	firstTurn      // given to its lane
	retryTurn      // asked for
)

func newDelivery(p *partition, m *Message) *Delivery {
	d := new(Delivery)
	d.begin(p, m)
	return d
}

// begin makes d the delivery of m, whatever it was before.
func (d *Delivery) begin(p *partition, m *Message) {
	*d = Delivery{Message: m, p: p, attempt: p.rec.Earlier(m.Offset), host: -1}
}

// Waits is the context of the waiting between attempts: it ends when the partition stops or the message is skipped.
func (d *Delivery) Waits() context.Context { return (*waits)(d) }

// waits makes a context of a Delivery without an allocation: only a message that has failed gets a real one of its own.
type waits Delivery

func (w *waits) Deadline() (time.Time, bool) { return time.Time{}, false }
func (w *waits) Done() <-chan struct{}       { return (*Delivery)(w).ctx().Done() }
func (w *waits) Err() error                  { return (*Delivery)(w).ctx().Err() }
func (w *waits) Value(key any) any           { return (*Delivery)(w).ctx().Value(key) }

func (d *Delivery) ctx() context.Context {
	if d.waiting != nil {
		return d.waiting
	}
	return d.p.soft
}

// Attempt is the context of a request under way: it ends when nobody waits for the answer any more.
func (d *Delivery) Attempt() context.Context { return d.p.hard }

// Context is Attempt for a wire.Gate.
func (d *Delivery) Context() context.Context { return d.Attempt() }

// Number of the attempt that Begin started, counted over restarts.
func (d *Delivery) Number() int { return d.attempt.Number }

// InDoubt tells whether an earlier attempt may have reached the service.
func (d *Delivery) InDoubt() bool { return d.attempt.InDoubt }

// Begin waits until the next attempt may start: a turn, which there is none while the service rests, and the intent in the
// file. An error means that the delivery was stopped; no attempt may follow.
func (d *Delivery) Begin() error {
	f := d.p.f
	for {
		if d.turn == noTurn {
			if err := f.turns.take(d); err != nil {
				return err
			}
		}
		if !f.lease.held() {
			d.settleBefore()
			if err := f.lease.wait(d); err != nil {
				return err
			}
		}
		if d.ctx().Err() != nil {
			return context.Cause(d.ctx())
		}
		if d.probe == 0 && f.service.rests() { // since it got its turn
			d.settleBefore()
			f.turns.give(d)
			continue
		}
		next := d.following()
		err := d.announce(next)
		if err == nil {
			offsets.Crash("intent written, not sent")
			d.attempt = next
			d.begun, d.among = time.Now(), f.pace.begun()
			if d.since.IsZero() {
				d.since = d.begun
			}
			return nil
		}
		f.turns.give(d)
		if err := d.p.diskWait(d.ctx(), err); err != nil {
			return err
		}
	}
}

// Cleared waits, right before the request goes out, until the lease is held and the pause that the service asked for is over:
// since Begin looked, the disk, a connection or the machine may have taken their time. The turn is held meanwhile, and the
// attempt begins anew. An error means that the delivery was stopped, and nothing goes out.
func (d *Delivery) Cleared() (waited bool, err error) {
	f := d.p.f
	for err == nil {
		if pause := f.service.pause(d); pause > 0 {
			err = sleep(d.ctx(), pause)
		} else if !f.lease.held() {
			err = f.lease.wait(d)
		} else {
			break
		}
		waited = true
	}
	if waited {
		d.begun = time.Now()
		if err == nil {
			err = context.Cause(d.ctx())
		}
	}
	return waited, err
}

// following is the attempt after the newest one.
func (d *Delivery) following() offsets.Attempt {
	next := d.attempt
	next.Number++
	return next
}

// announce writes the intent of an attempt, and with it the outcome that is not on record yet.
func (d *Delivery) announce(next offsets.Attempt) error {
	if d.batch != nil {
		return d.batch.announce()
	}
	b := d.before
	if b == nil {
		return d.p.rec.Intent(next)
	}
	offsets.Crash("answered, not recorded")
	done, intent := b.p.rec.DoneThen(b.Offset, d.p.rec, next)
	d.before = nil
	b.recorded(done)
	return intent
}

// settleBefore puts the outcome on record that was to go there with this one's intent: something has to be waited for.
func (d *Delivery) settleBefore() {
	if b := d.before; b != nil {
		d.before = nil
		b.put()
	}
}

// put puts a delivered message on record, alone.
func (d *Delivery) put() {
	offsets.Crash("answered, not recorded")
	d.recorded(d.p.rec.Done(d.Offset))
}

// recorded ends a delivered message, whose record came to err: tried again for as long as it takes. An error that stays says
// that the partition belongs to somebody else, or that nobody waits any more.
func (d *Delivery) recorded(err error) {
	d.unrecorded = false
	if err = d.p.record(err, d); err != nil {
		d.p.f.log.Debug("an outcome could not be recorded; the message is in doubt", d.where(), "error", err)
	}
	d.p.running.Done()
}

// End takes the verdict on the attempt that Begin started, and tells whether another one has to follow.
func (d *Delivery) End(v Verdict) (again bool) {
	d.ended = time.Now()
	took := d.ended.Sub(d.begun)
	v.elsewhere = d.hop(v)
	d.take(v)
	if !d.final {
		d.p.settled(d.attempt)
	}
	d.log(took)
	d.tell(v, took)
	if !d.final {
		d.p.f.turns.give(d) // not before a pause holds for those who wait for it
	}
	return d.again
}

// take is what a verdict means for the message.
func (d *Delivery) take(v Verdict) {
	d.verdict = v
	if v.Class == Delivered {
		d.final, d.outcome = true, Outcome{Class: Delivered}
	} else {
		d.failed(v)
	}
	d.again = !d.final && v.Class != Aborted
}

// tell is what a verdict means for the service.
func (d *Delivery) tell(v Verdict, took time.Duration) {
	d.p.f.service.ended(d, v)
	d.p.f.pace.ended(d, v, took)
	d.probe = 0
}

func (d *Delivery) failed(v Verdict) {
	cfg := &d.p.f.cfg
	d.attempt.InDoubt = d.attempt.InDoubt || v.InDoubt
	switch v.Class {
	case MessageFault, ServiceFault:
		if v.Class == ServiceFault && !cfg.SkipOnAny || v.shared || v.elsewhere || v.slimmer {
			break
		}
		d.attempt.Faults++
		if cfg.CanSkip && d.attempt.Faults >= cfg.RetryNums {
			d.final, d.outcome = true, Outcome{Skip, v.Reason}
		}
	case GiveUp:
		d.attempt.Faults++
		if cfg.CanSkip {
			d.final, d.outcome = true, Outcome{Skip, v.Reason}
		}
	case Skip:
		d.final, d.outcome = true, Outcome{Skip, v.Reason}
	}
	if d.final {
		return
	}
	d.p.tried.set(d.attempt)
	d.p.changed()
	if d.waiting == nil {
		d.waiting, d.skip = context.WithCancelCause(d.p.soft)
		d.p.failing.Add(1)
		d.p.f.turns.failing.Add(1)
	}
	if d.attempt.Number >= blockedAfter {
		d.p.f.blocked.add(d)
	}
}

// settled records that attempts have ended without an outcome.
func (p *partition) settled(attempts ...offsets.Attempt) {
	if err := p.rec.Settled(attempts...); err != nil {
		p.f.log.Debug("the end of an attempt could not be recorded; a restart will call the message in doubt", "topic", p.topic,
			"partition", p.partition, "error", err)
	}
}

// close lets go of what the waiting needed.
func (d *Delivery) close() {
	if d.waiting != nil {
		d.p.failing.Add(-1)
		d.p.f.turns.failing.Add(-1)
		d.p.f.blocked.remove(d)
		d.skip(nil)
	}
}

// hop decides whether the next attempt goes to another host at once: where one is up that this round of attempts has not come to,
// and nothing was sent, or this one was only probed.
func (d *Delivery) hop(v Verdict) bool {
	service := d.p.f.service
	unsent := !v.InDoubt && v.Status == 0
	if v.Class != ServiceFault || !unsent && d.probe == 0 || d.hops >= len(service.hosts)-1 || !service.elsewhere(d) {
		d.hops = 0
		return false
	}
	d.hops++
	return true
}

// wait is the pause before the next attempt. Where the service is down its probes set the pace, so the message asks for its turn
// a little before.
func (d *Delivery) wait() time.Duration {
	cfg := &d.p.f.cfg
	switch {
	case d.verdict.elsewhere:
		return 0
	case d.verdict.Class == ServiceFault && d.p.f.service.isDown():
		return cfg.RetryInterval - min(cfg.RetryInterval/20, 10*time.Millisecond)
	case d.verdict.shared:
		return 0
	}
	return cfg.backoff(d.attempt.Number)
}

func (d *Delivery) where() slog.Attr {
	return slog.Group("", "topic", d.Topic, "partition", d.Partition, "offset", d.Offset)
}

// log says transitions: the first failure, blocked, an end after failures; between them nothing but at level debug.
func (d *Delivery) log(took time.Duration) {
	log, v := d.p.f.log, d.verdict
	if slow := d.p.f.cfg.SlowTime; slow > 0 && took > slow && v.Class != Aborted {
		log.Warn("slow delivery", d.where(), "took", took.String(), "verdict", v.Class.String())
	}
	if v.Class == Delivered && d.attempt.Number == 1 {
		return // the one that costs nothing
	}
	about := []any{d.where(), "attempt", d.attempt.Number, "verdict", v.Class.String(), "reason", v.Reason}
	switch n := d.attempt.Number; {
	case v.Class == Delivered && n > 1:
		log.Info("delivered after failures", d.where(), "attempts", n)
	case v.Class == Delivered || v.Class == Aborted || d.final:
	case n >= blockedAfter && v.Reason != d.logged && time.Since(d.said) > time.Minute:
		d.logged, d.said = v.Reason, time.Now()
		log.Error("blocked: the message keeps failing and holds up what comes behind it; SIGUSR1 skips it", about...)
	case n == 1:
		log.Warn("delivery failed, will be retried", about...)
	default:
		log.Debug("delivery failed again", about...)
	}
}

// sleep returns the cause when ctx ends before the time has passed.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
