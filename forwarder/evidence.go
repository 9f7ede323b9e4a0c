package forwarder

import (
	"fmt"
	"sync/atomic"

	"github.com/kpush/kpush/forwarder/push"
)

// evidence decides whether a message may be given up: only as long as others are delivered is its failing evidence against it. A
// service may answer each request with a code that blames the message, for its Host or its type, or because its database is off.
type evidence struct {
	most int32        // messages given up in a row; 0: no bound
	row  atomic.Int32 // those since the newest delivery
}

// missing tells whether nothing more may be given up until there is a delivery.
func (e *evidence) missing() bool { return e.most > 0 && e.row.Load() >= e.most }

// suffices tells whether one more message may be given up, and counts it.
func (e *evidence) suffices() bool {
	if e.row.Add(1) <= e.most || e.most == 0 {
		return true
	}
	e.row.Add(-1)
	return false
}

// found ends the row: a message was delivered, or an operator has decided.
func (e *evidence) found() {
	if e.row.Load() != 0 {
		e.row.Store(0)
	}
}

// weigh makes a fault of the service of one of its messages where evidence is missing: the others wait until it takes one. count is
// how many messages the request held.
func (e *evidence) weigh(v push.Verdict, count int) push.Verdict {
	all := v.Class == push.Delivered && len(v.Failed) == count
	if v.Class != push.MessageFault && !all || !e.missing() {
		return v
	}
	why := v.Reason
	if all {
		why = reasonNamed
	}
	if v.Sent != "" {
		why += "; sent were " + v.Sent
	}
	return push.Verdict{Class: push.ServiceFault, Status: v.Status, InDoubt: v.InDoubt, RetryAfter: v.RetryAfter, Answer: v.Answer, Response: v.Response,
		Reason: fmt.Sprintf("%d messages were given up in a row and none was delivered, so nothing more is given up until one is, or an operator skips: %s", e.most, why)}
}
