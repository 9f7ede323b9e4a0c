package forwarder

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/kpush/kpush/offsets"
)

// record is what a pen writes to: a partition's record.
type record interface {
	Write(done []int64, next *offsets.Partition, intents []offsets.Attempt) (recorded, announced error)
	Settled(...offsets.Attempt) error
}

// pen puts intents and outcomes on record. It belongs to a goroutine that delivers. What was delivered may wait in it for the next
// intent, to be written with it; nobody waits for anything else in the meantime.
type pen struct {
	carrier *partition               // whose batch the goroutine has; what waits may be another one's
	p       *partition               // of which something waits; nil: nothing does
	done    []int64                  // offsets with an outcome
	doubts  []offsets.Attempt        // what is to be known of these where that cannot be recorded
	how     [len(outcomeWords)]int64 // messages that have ended so
	intents []offsets.Attempt        // room
}

// postponed tells whether an outcome waits.
func (n *pen) postponed() bool { return n.p != nil }

// postpone lets the outcome of delivered messages of p wait.
func (n *pen) postpone(p *partition, items []*item) {
	n.p, n.done, n.doubts = p, n.done[:0], n.doubts[:0]
	clear(n.how[:])
	for _, it := range items {
		n.how[it.outcome()]++
		n.done, n.doubts = append(n.done, it.Offset), append(n.doubts, it.doubt())
	}
}

// announce writes the intents of an attempt at items, and with it what waits.
func (n *pen) announce(p *partition, items []*item) error {
	n.intents = n.intents[:0]
	for _, it := range items {
		n.intents = append(n.intents, it.following())
	}
	if n.p == nil {
		_, err := p.page.Write(nil, p.rec, n.intents)
		return err
	}
	offsets.Crash("answered, not recorded")
	recorded, announced := n.p.page.Write(n.done, p.rec, n.intents)
	if recorded == nil || announced != nil {
		n.recorded(recorded)
		return announced
	}
	p.withdraw(items) // they do not begin before the outcome is on record, which may take any time
	n.recorded(recorded)
	if !p.goes() {
		return context.Cause(p.soft)
	}
	_, err := p.page.Write(nil, p.rec, n.intents)
	return err
}

// withdraw puts on record that the attempts at items that were announced do not begin.
func (p *partition) withdraw(items []*item) {
	before := make([]offsets.Attempt, 0, len(items))
	for _, it := range items {
		before = append(before, it.attempt)
	}
	p.settled(before)
}

// flush puts what waits on record: something else has to be waited for.
func (n *pen) flush() {
	if n.p != nil {
		offsets.Crash("answered, not recorded")
		recorded, _ := n.p.page.Write(n.done, nil, nil)
		n.recorded(recorded)
	}
}

// recorded ends delivered messages, whose record came to err. An error that stays says that the partition belongs to somebody else,
// or that nobody waits any more. Where it is only the carrier's partition that goes, the outcome is carried on without it.
func (n *pen) recorded(err error) {
	p := n.p
	switch err = n.insist(err); {
	case err == nil:
	case p.hard.Err() == nil && !errors.Is(err, offsets.ErrReleased):
		rest := &pen{carrier: p, p: p, done: slices.Clone(n.done), doubts: slices.Clone(n.doubts), how: n.how}
		go rest.recorded(err)
		return
	default:
		n.doubt(p)
		p.f.log.Debug("an outcome could not be recorded; the message is in doubt", p.where(), "offset", n.done[0], "error", err)
	}
	p.lanes.Recorded()
}

// doubt has the last commit tell what could not be recorded: whoever gets the partition sends it again.
func (n *pen) doubt(p *partition) {
	for _, a := range n.doubts {
		p.rec.Doubt(a)
	}
}

// record puts the outcomes of items on record now.
func (n *pen) record(p *partition, items []*item) error {
	n.postpone(p, items)
	recorded, _ := p.page.Write(n.done, nil, nil)
	err := n.insist(recorded)
	if err != nil {
		n.doubt(p)
	}
	return err
}

// insist has the outcomes in the file, for as long as that takes or until nobody waits: the service has them. err is what the first
// try came to.
func (n *pen) insist(err error) error {
	p := n.p
	n.p = nil
	ctx := p.hard
	if c := n.carrier; err != nil && c != nil && c != p { // nor does its drain wait for another one's disk
		both, cancel := context.WithCancelCause(p.hard)
		ctx = both
		defer cancel(nil)
		defer context.AfterFunc(c.hard, func() { cancel(context.Cause(c.hard)) })()
	}
	for err != nil && !errors.Is(err, offsets.ErrReleased) {
		if err = p.diskWait(ctx, err); err != nil {
			return err
		}
		err, _ = p.page.Write(n.done, nil, nil)
	}
	if err == nil {
		offsets.Crash("recorded, not committed")
		p.gauge.ended(n.how)
		p.changed()
	}
	return err
}

// settled records that attempts have ended without an outcome.
func (p *partition) settled(attempts []offsets.Attempt) {
	if err := p.page.Settled(attempts...); err != nil {
		p.f.log.Debug("the end of an attempt could not be recorded; a restart will call the message in doubt", p.where(), "error", err)
	}
	p.changed()
}

// diskWait says once that the volume does not take records, and waits a moment before the next try.
func (p *partition) diskWait(ctx context.Context, err error) error {
	if errors.Is(err, offsets.ErrReleased) {
		p.stop(errLost) // if it has not been
		return errLost
	}
	if p.f.health.every("volume", time.Minute) {
		p.f.log.Error("the volume does not take records: deliveries wait", "error", err)
	}
	return sleep(ctx, time.Second)
}
