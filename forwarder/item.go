package forwarder

import (
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/kpush/kpush/forwarder/pace"
	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/offsets"
)

// blockedAfter attempts without an outcome a message is called blocked: said once, and skipped by SIGUSR1.
const blockedAfter = 10

// item is one message on its way to its outcome. It belongs to its delivery.
type item struct {
	push.Item
	attempt   offsets.Attempt // Number: attempts started; InDoubt: one of them may have reached the service
	halved    int             // attempts with others that failed as one: they say nothing of this message; a restart forgets them
	verdict   push.Verdict    // of the newest one
	free      bool            // which counts for nothing
	elsewhere bool            // and another host is tried at once
	final     bool            // it is the outcome: delivered, else to be given up
	failure   *failure        // nil until the first failed attempt, and once it is closed
	closed    *failure        // of which the outcome is not on record yet
	confirmed bool            // the service had it already
	cleared   bool            // the service has said that it does not have it, and nothing was sent since
	asked     int             // questions whether it does that it did not answer
	buried    bool            // it is in the dead letter topic
	kept      bool            // it is where given-up messages go
	first     time.Time       // when the first attempt of this process began that was no delivery
	last      time.Time       // when the newest one did
	loose     []loose         // faults that may turn out to be a host's
	logged    string          // the reason in the newest blocked line
	said      time.Time       // when that was
}

// following is the attempt after the newest one.
func (it *item) following() offsets.Attempt {
	next := it.attempt
	next.Number++
	return next
}

// tries are the attempts that may show what is wrong with this very message: pauses grow with them, and it is blocked after so many.
func (it *item) tries() int { return it.attempt.Number - it.halved }

func (it *item) delivered() bool { return it.final && it.verdict.Class == push.Delivered }

// doubt is what whoever gets the partition has to know of a message whose outcome cannot be recorded.
func (it *item) doubt() offsets.Attempt {
	a := it.attempt
	a.InDoubt = a.InDoubt || it.verdict.Status/100 == 2 || it.delivered()
	return a
}

// isOpen tells whether nothing of it may be sent where the service is asked first.
func (it *item) isOpen() bool { return it.InDoubt && !it.cleared }

func (it *item) where() slog.Attr {
	return slog.Group("", "topic", it.Topic, "partition", it.Partition.Number, "offset", it.Offset)
}

// judge is what a verdict means for its message. silence is that of the attempt, zero where it had an answer.
func (d *delivery) judge(it *item, silence pace.Silence) {
	cfg, v := &d.f.cfg, it.verdict
	it.takeBack()
	it.attempt.InDoubt = it.attempt.InDoubt || v.InDoubt && v.Class != push.Delivered
	it.InDoubt = it.attempt.InDoubt
	switch v.Class {
	case push.Delivered:
		it.final = true
		d.f.evidence.found()
	case push.Skip, push.Drop:
		it.final = true
	case push.MessageFault, push.ServiceFault:
		if (v.Class == push.MessageFault || cfg.SkipOnAny) && !it.free {
			it.attempt.Faults++
			it.silent(silence)
			it.takeBack() // others may have shown it since
			it.final = cfg.givesUp() && it.attempt.Faults >= cfg.RetryNums && !it.undecided(cfg) && d.f.evidence.suffices()
		}
	case push.GiveUp:
		it.attempt.Faults++
		it.final = cfg.givesUp()
	case push.Aborted:
		if !v.InDoubt { // nothing went out, so it was no attempt
			it.attempt.Number--
		}
	}
	if v.Class != push.Aborted || v.InDoubt {
		if it.last = d.began; it.first.IsZero() {
			it.first = d.began
		}
	}
	if it.final {
		return
	}
	d.fails(it)
	d.f.failures.note(it.failure, it.tries(), v)
}

// fails counts and lists a message that has to wait.
func (d *delivery) fails(it *item) {
	if it.failure == nil {
		d.p.failing.Add(1)
		it.failure = d.f.failures.add(d.p, it)
	}
}

// loose are faults of a message for having had no answer in time, in one row of a host's silence.
type loose struct {
	pace.Silence
	faults int
}

// silent notes that the newest fault is such a one.
func (it *item) silent(s pace.Silence) {
	for i := range it.loose {
		if l := &it.loose[i]; l.SameRow(s) {
			l.faults, l.Open = l.faults+1, s.Open
			return
		}
	}
	if (s != pace.Silence{}) {
		it.loose = append(it.loose, loose{s, 1})
	}
}

// takeBack forgets faults that have turned out to be a host's.
func (it *item) takeBack() {
	it.loose = slices.DeleteFunc(it.loose, func(l loose) bool {
		yes, decided := l.OfHost()
		if yes {
			it.attempt.Faults -= l.faults
		}
		return decided
	})
}

// undecided tells whether one of the faults for which the message would be given up may yet turn out to be a host's: one more attempt
// at each host decides.
func (it *item) undecided(cfg *Config) bool {
	open := slices.ContainsFunc(it.loose, func(l loose) bool { return l.Open })
	return open && it.attempt.Faults < cfg.RetryNums+max(1, len(cfg.Hosts))
}

// close lets go of what the waiting needed.
func (d *delivery) close(it *item) {
	if it.failure != nil {
		d.p.failing.Add(-1)
		d.f.failures.remove(it.failure)
		it.closed, it.failure = it.failure, nil
	}
}

// over tells who waits for the end of a failing message that it has come, done where its outcome is on record, or that the partition has gone.
func (it *item) over(done bool) {
	if it.closed != nil {
		it.closed.done, it.closed.delivered, it.closed.kept = done, it.delivered(), it.kept
		close(it.closed.over)
		it.closed = nil
	}
}

// log says transitions: the first failure, blocked, an end after failures; between them nothing but at level debug.
func (d *delivery) log(it *item, took time.Duration) {
	log, v := d.f.log, it.verdict
	if slow := d.f.cfg.SlowTime; slow > 0 && took > slow && v.Class != push.Aborted {
		d.p.gauge.topic.slow.Add(1)
		d.saySlow(it, took)
	}
	if v.Class == push.Delivered && it.attempt.Number == 1 && !it.InDoubt {
		return // the one that costs nothing
	}
	about := []any{it.where(), "attempt", it.attempt.Number, "verdict", v.Class.String(), "reason", v.Reason}
	switch {
	case v.Class == push.Delivered:
		d.sayRecovered(it)
	case v.Class == push.Aborted || it.final:
	case d.logBlocked(it, v):
	case it.attempt.Number == 1:
		d.sayFailed(about)
	default:
		log.Debug("delivery failed again", about...)
	}
}

// logBlocked says that a message is blocked, once for each reason.
func (d *delivery) logBlocked(it *item, v push.Verdict) bool {
	if it.failure.Attempts < blockedAfter || v.Reason == it.logged || time.Since(it.said) <= time.Minute {
		return false
	}
	it.logged, it.said = v.Reason, time.Now()
	d.sayBlocked(it, v)
	return true
}

// wantTime is how long kpush has to want for nothing until that is said: a request on a kept connection shows nothing.
const wantTime = 10 * time.Second

// sayWant names what kpush itself has none left of, for as long as that lasts.
func (f *Forwarder) sayWant(v push.Verdict, now time.Time) {
	last := f.wants.Load()
	switch {
	case v.Wants:
		f.wants.Store(sinceBorn(now))
		f.health.changed(wanting, errors.New(v.Reason))
	case last != 0 && sinceBorn(now)-last > int64(wantTime) && f.wants.CompareAndSwap(last, 0):
		f.health.changed(wanting, nil)
	}
}
