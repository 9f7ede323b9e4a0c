package push

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kpush/kpush/forwarder/wire"
)

// judge is the response table of the README, whole:
//
//	2xx, and the body agrees with Config.Ack                                delivered
//	a 2xx that says DROP, with Config.Ack dapr                              drop
//	400 413 415 422, 500, errno, no answer in time, any code not listed     message fault
//	no connection, a broken one, 3xx, 401 403 404 405 407 410, 502 503 504  service fault
//	408 409 423 425 429                                                     busy
//	Kafka-Action: ack, retry, skip, dead-letter                             overrides
//
// In doubt is what may have reached the service without a whole answer, 502 and 504 included. What ends on a connection that had served
// before, and what kpush itself wants something for, is neither's fault: no outcome. Nor is what a server says to a request that it reads
// in the middle of the one before. A 2xx that breaks off in its body is none: the
// service may have died over the message. Any other status is, whatever happens to the body behind it.
func judge(a *wire.Answer, ack string, execTimeout time.Duration) Verdict {
	switch {
	case a.Stale:
		return Verdict{Class: Aborted, Stale: true, InDoubt: true, Reason: "no answer on a connection that was kept: " + clause(a.Err)}
	case a.Last && a.Action == "" && misread(a.Status):
		return Verdict{Class: Aborted, Stale: true, InDoubt: true, Reason: fmt.Sprintf("the service answered %d and ended a connection that was kept: it may have misread what it had been sent before, or waited no longer", a.Status)}
	case a.Status == 0:
		return noAnswer(a.Err, a.Sent, execTimeout)
	}
	v := Verdict{Status: a.Status, RetryAfter: pause(a.RetryAfter)}
	switch s := a.Status; {
	case action(&v, a.Action):
	case s >= 200 && s < 300:
		return acknowledged(a, ack, v.RetryAfter, execTimeout)
	case s >= 300 && s < 400:
		v.Class = ServiceFault
		v.Reason = ", a redirect, which is not followed: check KPUSH_URL"
	case s == 401, s == 403, s == 404, s == 405, s == 407, s == 410, s == 503:
		v.Class = ServiceFault
	case s == 502, s == 504: // of a gateway, which does not know what became of the request
		v.Class, v.InDoubt = ServiceFault, true
	case s == 408, s == 409, s == 423, s == 425, s == 429:
		v.Class = Busy
	default:
		v.Class = MessageFault
	}
	v.Reason = fmt.Sprintf("the service answered %d%s", a.Status, v.Reason)
	return v
}

// misread tells whether a server says so to what it cannot read as a request, or, a 408, to a connection on which none has come in time.
func misread(status int) bool {
	return status == http.StatusBadRequest || status == http.StatusRequestTimeout || status == http.StatusNotImplemented || status == http.StatusHTTPVersionNotSupported
}

// bom is what some editors put in front of a text, and with them some services.
const bom = "\xef\xbb\xbf"

func action(v *Verdict, word string) bool {
	switch strings.ToLower(strings.TrimSpace(word)) {
	case "ack":
		v.Class = Delivered
	case "retry":
		v.Class = MessageFault
	case "skip":
		v.Class = Skip
	case "dead-letter":
		v.Class = GiveUp
	default:
		return false
	}
	v.Reason = " with Kafka-Action: " + strings.ToLower(strings.TrimSpace(word))
	return true
}

func noAnswer(err error, sent bool, execTimeout time.Duration) Verdict {
	switch {
	case errors.As(err, new(Ending)):
		return Verdict{Class: Aborted, Reason: err.Error(), InDoubt: sent}
	case !sent && ownWant(err) != "":
		return Verdict{Class: Aborted, Wants: true, Reason: "kpush itself has no " + ownWant(err) + " left, so it waits"}
	case !sent:
		return Verdict{Class: ServiceFault, Absent: absent(err), Reason: "no connection to the service: " + clause(err)}
	case errors.Is(err, context.DeadlineExceeded):
		return Verdict{Class: MessageFault, Reason: fmt.Sprintf("no answer within KPUSH_EXEC_TIMEOUT (%s)", execTimeout), InDoubt: true}
	}
	return Verdict{Class: ServiceFault, Reason: "the connection broke before the end of an answer: " + clause(err), InDoubt: true}
}

// ownWant is what this machine, or this process, has none left of; "" where that is not why a connection could not be made.
func ownWant(err error) string {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return ""
	}
	return map[syscall.Errno]string{syscall.EMFILE: "file descriptors (ulimit -n)", syscall.ENFILE: "file descriptors (the machine's)",
		syscall.EADDRNOTAVAIL: "local ports", syscall.ENOBUFS: "memory for connections", syscall.ENOMEM: "memory for connections"}[errno]
}

// absent tells whether nobody listens: asking again at once, or somebody else of that host, is of no use.
func absent(err error) bool {
	if name, ok := errors.AsType[*net.DNSError](err); ok {
		return name.IsNotFound
	}
	for _, errno := range []error{syscall.ECONNREFUSED, syscall.ENOENT, syscall.EHOSTUNREACH, syscall.ENETUNREACH} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// clause is an error of the transport without what differs from attempt to attempt.
func clause(err error) string {
	var op *net.OpError // its text names the local port, another one each time
	switch {
	case err == nil:
		return "unknown"
	case errors.As(err, &op):
		if op.Addr != nil {
			return op.Op + " " + op.Addr.String() + ": " + op.Err.Error()
		}
		return op.Op + ": " + op.Err.Error()
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return err.Error() + "; KPUSH_SERVICE_CA_FILE names the authorities that may have signed it"
	}
	return err.Error()
}

func acknowledged(a *wire.Answer, ack string, wait, execTimeout time.Duration) Verdict {
	v := Verdict{Class: Delivered, Status: a.Status}
	if a.BodyErr != nil {
		v = noAnswer(a.BodyErr, true, execTimeout)
		v.Status, v.RetryAfter, v.Reason = a.Status, wait, fmt.Sprintf("the answer %d has no end: %s", a.Status, v.Reason)
		return v
	}
	switch ack {
	case "errno":
		v.RetryAfter = wait
		agreed(&v, a)
	case "dapr":
		v.RetryAfter = wait
		obeyed(&v, a)
	}
	return v
}

// pause reads both forms of Retry-After; 0: none, or in the past.
func pause(s string) time.Duration {
	if s == "" {
		return 0
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(max(n, 0), 1<<31)) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(0, time.Until(t))
	}
	return 0
}
