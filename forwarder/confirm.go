package forwarder

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/kpush/kpush/forwarder/push"
)

// confirm asks for what is in doubt of the next request, so many items of the batch as a request may hold, until the first of them may go,
// whether or not it is known of those behind it: the request ends before these. An error means that the delivery was stopped.
func (d *delivery) confirm() error {
	for _, it := range d.items {
		it.cleared = false
	}
	for {
		open, err := d.askAll()
		if open == nil || err != nil {
			return err
		}
		d.batch.Give()
		if d.skip(); !slices.Contains(d.items, open) { // those that were skipped, or that it has, need not wait for it
			continue
		}
		if err := sleep(d.waiting(open), d.batch.Pause(open.asked)); err != nil && !errors.Is(err, errSkipped) {
			return err
		}
	}
}

// askAll asks once for each item up to one that stays open: of which it is still not known. Other lanes need not wait for that one, and
// are asked for by who gets them. Where nothing is before it, all have to wait that are left: open is this one, and those behind are asked
// for, too, so that each is named. Where nothing whole comes back they wait as it does.
func (d *delivery) askAll() (open *item, err error) {
	n := 0
	var silent *push.Reply
	var before *item // the newest that may go
	for i := 0; i < len(d.items) && n < d.size; i++ {
		it := d.items[i]
		if it.final || d.isSkipped(it) {
			continue
		}
		reply := silent
		if it.isOpen() && reply == nil {
			if reply, err = d.ask(it); d.isSkipped(it) {
				continue
			} else if err != nil {
				return nil, err
			}
		}
		switch {
		case !it.isOpen():
		case !reply.Known:
			if open == nil && before != nil {
				d.part(before)
				return nil, nil
			}
			if open == nil {
				d.part(it)
				open, i = it, slices.Index(d.items, it)
			}
			if d.doubtful(it, reply.Verdict); reply.Verdict.Status == 0 {
				silent = reply
			}
		case reply.Has:
			d.f.log.Info("in doubt, and the service has it: not sent again", it.where())
			it.final, it.confirmed, it.verdict = true, true, push.Verdict{}
			continue
		default:
			if it.cleared = true; it.failure != nil {
				d.f.failures.note(it.failure, it.tries(), push.Verdict{Status: reply.Verdict.Status, Reason: "the service does not have it (KPUSH_CONFIRM_URL): it is sent again"})
			}
		}
		if !it.isOpen() {
			before = it
		}
		n++
	}
	return open, nil
}

// ask asks for one message: a host that is up, or where nobody could be asked there, another one at once. An error means that nobody waits
// for the answer any more.
func (d *delivery) ask(it *item) (*push.Reply, error) {
	d.pen.flush()
	for hosts := len(d.f.cfg.Hosts); ; hosts-- {
		host, err := d.batch.Ask(d.waiting(it), d.blocked())
		if err != nil {
			return nil, err
		}
		began := time.Now()
		reply := d.f.parts.Confirm(d.waiting(it), host, it.ID())
		if err := context.Cause(d.waiting(it)); err != nil {
			return nil, err
		}
		d.f.sayWant(reply.Verdict, time.Now())
		if reply.Host == push.Elsewhere || !d.batch.Told(reply.Host, signOfReply(reply.Verdict), began) || hosts <= 1 {
			return &reply, nil
		}
	}
}

// doubtful names a message of which it is not known whether the service has it. It counts as one that fails: it is listed, it is blocked
// after as many questions as attempts, and it can be skipped.
func (d *delivery) doubtful(it *item, v push.Verdict) {
	it.asked++
	v.Reason = doubtReason + v.Reason
	d.fails(it)
	d.f.failures.noteDoubt(it.failure, it.tries()+it.asked, v)
	if it.asked == 1 {
		d.sayDoubtful(it, v)
	} else {
		d.logBlocked(it, v)
	}
}

// doubtReason begins the reason why such a message waits.
const doubtReason = "it is in doubt, and KPUSH_CONFIRM_URL does not say whether the service has it: "
