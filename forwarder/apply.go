package forwarder

import (
	"slices"
	"time"

	"github.com/kpush/kpush/forwarder/pace"
	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// apply has a verdict take effect. The order is load-bearing: what the attempts came to is on record before anything is told
// of the service, and the turn is given back after a pause holds for those who wait for it.
func (d *delivery) apply(v push.Verdict) {
	now := time.Now()
	sent := d.request()
	d.p.gauge.underWay.Add(-int64(len(sent)))
	v, fault := d.whose(v, len(sent), now)
	elsewhere := d.batch.Elsewhere(fault.sign)
	counts := v.Class == push.MessageFault || v.Class == push.ServiceFault && d.f.cfg.SkipOnAny && !elsewhere && !fault.held
	count, all := len(sent), len(d.items)
	d.learn(v, sent)
	shared := counts && count > 1
	unfinished := d.pen.intents[:0]
	for _, it := range sent {
		single := v
		if slices.Contains(v.Failed, it.Offset) {
			single = push.Verdict{Class: push.MessageFault, Status: v.Status, Reason: reasonNamed}
		}
		it.verdict, it.free, it.elsewhere = single, shared || elsewhere || fault.held || v.Spared, elsewhere
		if shared {
			it.halved++
		}
		if d.judge(it, fault.silence); !it.final {
			unfinished = append(unfinished, it.attempt)
		}
		d.p.gauge.topic.attempted(it, fault.sign.Kind == pace.Silent, now)
	}
	if d.pen.intents = unfinished; len(unfinished) > 0 {
		d.p.settled(unfinished)
	}
	if v.Class != push.Aborted {
		d.p.gauge.topic.attempt.observe(now.Sub(d.began))
	}
	d.logRequest(sent, v, now)
	d.f.sayWant(v, now)
	d.batch.Ended(fault.sign, now)
	if d.complete(); d.unrecorded {
		d.p.stock.touch(now)
	}
	d.halve(v, counts, count, all-len(d.items))
	if len(d.items) > 0 {
		d.batch.Give()
	}
}

// complete lets go of the messages that have their outcome. Where that is all of them, and they are delivered, the record waits for
// the next intent; else it is made now. What could not be recorded stays, and comes again.
func (d *delivery) complete() {
	if len(d.items) > 0 && !slices.ContainsFunc(d.items, func(it *item) bool { return !it.delivered() }) {
		for _, it := range d.items {
			d.close(it)
			it.over(true)
		}
		d.pen.postpone(d.p, d.items)
		d.items, d.unrecorded = d.items[:0], true
		return
	}
	var done []*item
	for _, it := range d.items {
		if it.delivered() {
			done = append(done, it)
		}
	}
	d.finish(done) // first: what is given up may wait for long
	for i := 0; i < len(d.items); {
		if it := d.items[i]; !it.final || it.delivered() || !d.giveUp(it) || !d.finish([]*item{it}) {
			i++
		}
	}
}

// finish puts the outcome of messages on record, and lets go of them; false: the partition belongs to somebody else, or has stopped.
func (d *delivery) finish(done []*item) bool {
	if len(done) == 0 {
		return true
	}
	var messages []*kafka.Message
	for _, it := range done {
		d.close(it)
		messages = append(messages, it.Message)
	}
	d.p.stock.touch(time.Now())
	offsets.Crash("answered, not recorded")
	if d.pen.record(d.p, done) != nil {
		return false
	}
	for _, it := range done {
		it.over(true)
	}
	d.items = slices.DeleteFunc(d.items, func(it *item) bool { return slices.Contains(done, it) })
	if len(d.items) > 0 {
		d.batch.Finish(messages...)
	}
	return true
}

// skip gives up those that an operator skipped, and lets go of what has its outcome.
func (d *delivery) skip() {
	d.giveUpSkipped(d.items)
	if d.complete(); d.unrecorded { // without an attempt
		d.p.stock.touch(time.Now())
	}
}

// giveUpSkipped makes those final that an operator skipped, and tells whether there are any.
func (d *delivery) giveUpSkipped(items []*item) (any bool) {
	for _, it := range items {
		if !it.final && d.isSkipped(it) {
			why := errSkipped.Error()
			if it.verdict.Reason != "" {
				why += " (its newest attempt: " + it.verdict.Reason + ")"
			}
			it.final, it.verdict.Class, it.verdict.Reason = true, push.GiveUp, why
			any = true
		}
	}
	return any
}

// logRequest says transitions in the log: once for the request, and for each message that was named, or that is known to the log.
func (d *delivery) logRequest(sent []*item, v push.Verdict, now time.Time) {
	for i, it := range sent {
		switch {
		case i == 0:
			d.log(it, now.Sub(d.began))
		case slices.Contains(v.Failed, it.Offset) || !it.said.IsZero():
			d.log(it, 0)
		}
	}
}
