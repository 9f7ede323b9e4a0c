package push

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/kpush/kpush/forwarder/wire"
)

// question is a GET that kpush asks the service, or somebody else.
type question struct {
	at      []asked
	domain  string // Host header; "" for the URL's
	timeout time.Duration
}

// asked is one place where a question may be asked.
type asked struct {
	Line
	url    *url.URL
	host   int     // of Config.Targets, or Elsewhere
	bearer *bearer // nobody but the service's hosts is shown the token
}

// Elsewhere is who is asked where that is none of the service's hosts.
const Elsewhere = -1

// question is nil where there are no targets. What is asked of one of the service's hosts goes over the connections of its deliveries: a
// server with a thread for each connection could have none left for one that a question keeps.
func (s *Service) question(targets []string, domain string, timeout time.Duration) (*question, error) {
	if len(targets) == 0 {
		return nil, nil
	}
	q := &question{domain: domain, timeout: timeout}
	for _, t := range targets {
		l, u, err := s.line(t, 0)
		if err != nil {
			return nil, err
		}
		at := asked{l, u, slices.IndexFunc(s.hosts, func(h host) bool { return h.place == place(t) }), nil}
		if at.host >= 0 {
			at.Line, at.bearer = s.hosts[at.host].Line, s.bearer
		}
		q.at = append(q.at, at)
	}
	return q, nil
}

// place is where a URL leads to: the same for all that can share connections.
func place(target string) string {
	w, _, err := wire.New(target, wire.Options{})
	if err != nil {
		return target
	}
	return w.Place()
}

// of is where the question is asked that is meant for one of the service's hosts.
func (q *question) of(host int) asked {
	if i := slices.IndexFunc(q.at, func(a asked) bool { return a.host == host }); i >= 0 {
		return q.at[i]
	}
	return q.at[0]
}

// ask brings the answer, which is whole where its Status is not 0. id is added to the URL's query, "" for none. A question changes nothing:
// where a connection that was kept has ended instead of an answer, it is asked again on a new one.
func (q *question) ask(ctx context.Context, at asked, id string) (a wire.Answer, err error) {
	u := *at.url
	if id != "" {
		u.RawQuery = strings.TrimPrefix(u.RawQuery+"&id="+url.QueryEscape(id), "&") // what is there stays as it is, byte for byte
	}
	head, err := wire.Opening(http.MethodGet, &u, q.domain)
	if err != nil {
		return a, err
	}
	a.Keep = func(int) int { return saidMost }
	head = append(append(head, at.bearer.line()...), "\r\n"...)
	for _, fresh := range [...]bool{false, true} {
		at.Exchange(curious{ctx, fresh}, q.timeout, head, nil, &a)
		if !a.Stale {
			break
		}
	}
	if err = cmp.Or(a.Err, a.BodyErr); err != nil { // one that breaks off says nothing
		a.Status = 0
	}
	return a, err
}

// curious is what a question goes out for: it changes nothing, so it may at any time.
type curious struct {
	ctx   context.Context
	fresh bool
}

func (c curious) Context() context.Context { return c.ctx }
func (curious) Cleared() (bool, error)     { return false, nil }
func (c curious) Fresh() bool              { return c.fresh }

// Reply is what came of the question whether the service has a message.
type Reply struct {
	Known   bool    // whether the service has it
	Has     bool    // it does
	Host    int     // that was asked, or Elsewhere
	Verdict Verdict // what the question got; its Class says nothing where there was an answer
}

// Has asks once whether the service has a message that is in doubt: host, where the question is one for each of them.
func (s *Service) Has(ctx context.Context, host int, id string) Reply {
	at := s.confirm.of(host)
	a, err := s.confirm.ask(ctx, at, id)
	r := Reply{Host: at.host, Known: a.Status == http.StatusOK || a.Status == http.StatusNotFound, Has: a.Status == http.StatusOK}
	switch {
	case a.Status != 0:
		r.Verdict = Verdict{Status: a.Status, RetryAfter: pause(a.RetryAfter), Answer: said(&a, ""),
			Reason: fmt.Sprintf("the answer was %d, where 200 means that the service has the message, 404 that it does not", a.Status)}
	case a.Sent && errors.Is(err, context.DeadlineExceeded):
		r.Verdict = Verdict{Class: MessageFault, InDoubt: true, Reason: fmt.Sprintf("no answer within %s", s.confirm.timeout)}
	default:
		r.Verdict = noAnswer(err, a.Sent, s.confirm.timeout)
	}
	return r
}

// Ready asks once whether the service is ready, each host until one is; an error says why not.
func (s *Service) Ready(ctx context.Context) error {
	var why []string
	for _, at := range s.ready.at {
		switch a, err := s.ready.ask(ctx, at, ""); {
		case err != nil:
			why = append(why, "no answer: "+clause(err))
		case a.Status < 200 || a.Status >= 300:
			why = append(why, fmt.Sprintf("it answered %d", a.Status))
		default:
			return nil
		}
	}
	return errors.New(strings.Join(why, "; "))
}
