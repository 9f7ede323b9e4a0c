package forwarder

import (
	"net/http"

	"github.com/kpush/kpush/forwarder/pace"
	"github.com/kpush/kpush/forwarder/push"
)

// signOf is what a verdict says of the service.
func signOf(v push.Verdict) pace.Sign {
	s := pace.Sign{Answered: v.Status != 0, Unsent: v.Status == 0 && !v.InDoubt, RetryAfter: v.RetryAfter, Why: v.Reason,
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
