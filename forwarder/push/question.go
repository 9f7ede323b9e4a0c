package push

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/kpush/kpush/forwarder/wire"
)

// question is a GET that kpush asks the service.
type question struct {
	Line
	url     *url.URL
	domain  string // Host header; "" for the URL's
	bearer  *bearer
	timeout time.Duration
}

// question is nil where there is no target. What is asked of one of the service's hosts goes over the connections of its deliveries: a
// server with a thread for each connection could have none left for one that a question keeps.
func (s *Service) question(target, domain string, timeout time.Duration) (*question, error) {
	if target == "" {
		return nil, nil
	}
	l, u, err := s.line(target, 0)
	if err != nil {
		return nil, err
	}
	q := &question{l, u, domain, nil, timeout}
	for i, t := range s.cfg.Targets {
		if place(t) == place(target) {
			q.Line, q.bearer = s.hosts[i].Line, s.bearer // nobody else is shown the token
			break
		}
	}
	return q, nil
}

// place is a URL without its path.
func place(target string) string {
	u, err := url.Parse(target)
	if err != nil {
		return target
	}
	return u.Scheme + "://" + u.Host
}

// ask returns the status of an answer that was whole. id is added to the URL's query, "" for none.
func (q *question) ask(ctx context.Context, id string) (status int, err error) {
	u := *q.url
	if id != "" {
		u.RawQuery = strings.TrimPrefix(u.RawQuery+"&id="+url.QueryEscape(id), "&") // what is there stays as it is, byte for byte
	}
	head, err := wire.Opening(http.MethodGet, &u, q.domain)
	if err != nil {
		return 0, err
	}
	a := wire.Answer{Keep: func(int) int { return 0 }}
	head = append(append(head, q.bearer.line()...), "\r\n"...)
	q.Exchange(asked{ctx}, q.timeout, head, nil, &a)
	if err := cmp.Or(a.Err, a.BodyErr); err != nil { // one that breaks off says nothing
		return 0, fmt.Errorf("no answer: %s", clause(err))
	}
	return a.Status, nil
}

// asked is what a question goes out for: it changes nothing, so it may at any time.
type asked struct{ ctx context.Context }

func (a asked) Context() context.Context { return a.ctx }
func (asked) Cleared() (bool, error)     { return false, nil }
func (asked) Fresh() bool                { return false }
