package forwarder

import (
	"net/http"
	"time"

	"github.com/kpush/kpush/forwarder/pace"
	"github.com/kpush/kpush/forwarder/push"
)

// signOf is what a verdict says of the service.
func signOf(v push.Verdict) pace.Sign {
	s := pace.Sign{Answered: v.Status != 0, Unsent: v.Status == 0 && !v.InDoubt, Absent: v.Absent, Spared: v.Spared, RetryAfter: v.RetryAfter, Why: v.Reason,
		TooMuch: v.Class == push.Busy || v.Status == http.StatusServiceUnavailable}
	switch {
	case v.Class == push.Delivered:
		s.Kind = pace.Delivered
	case v.Class == push.Busy:
		s.Kind = pace.Busy
	case v.Class == push.ServiceFault:
		s.Kind = pace.Fault
	case v.Class == push.Aborted:
		s.Kind = pace.Cancelled
	case v.Class == push.MessageFault && v.Status == 0 && v.InDoubt:
		s.Kind, s.TooMuch = pace.Silent, true
	}
	return s
}

// signOfReply is what the question about a message says of the service: an answer, that the host is there, but not that of a gateway; no
// connection, that it is not. Why none came over a connection may be the question's own.
func signOfReply(v push.Verdict) pace.Sign {
	s := signOf(v)
	s.Kind = pace.Cancelled
	switch v.Status {
	case 0:
		if v.Class == push.ServiceFault && !v.InDoubt {
			s.Kind = pace.Fault
		}
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
	default:
		s.Kind = pace.Answered
	}
	return s
}

// fault is what a verdict says of the service beside that of its messages.
type fault struct {
	sign    pace.Sign
	silence pace.Silence // zero: there was an answer
	held    bool         // nothing is given up for it
}

// whose finds out whose fault an attempt at count messages shows: one that looks like the messages' may be the service's.
func (d *delivery) whose(v push.Verdict, count int, now time.Time) (push.Verdict, fault) {
	f := fault{sign: signOf(v)}
	if f.sign.Kind == pace.Silent {
		f.silence = d.batch.Silence(now, d.items[0].Offset)
		if yes, _ := f.silence.OfHost(); yes {
			v.Class, v.Reason = push.ServiceFault, v.Reason+", and so it went for different messages in a row"
			f.sign.Why = v.Reason
		}
	}
	if weighed := d.f.evidence.weigh(v, count); weighed.Class != v.Class {
		v, f.held = weighed, true
		f.sign.Kind, f.sign.Absent, f.sign.Why = pace.Fault, true, v.Reason
	}
	return v, f
}

const reasonNamed = "the service named it in batchItemFailures"
