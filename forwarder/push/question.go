package push

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/kpush/kpush/forwarder/wire"
)

// question is a GET that kpush asks the service.
type question struct {
	Line
	url     *url.URL
	domain  string // Host header; "" for the URL's
	timeout time.Duration
}

// newQuestion is nil where there is no target.
func newQuestion(target, domain string, cfg *Config, timeout time.Duration) (*question, error) {
	if target == "" {
		return nil, nil
	}
	l, u, err := cfg.line(target)
	if err != nil {
		return nil, err
	}
	return &question{l, u, domain, timeout}, nil
}

// ask returns the status of an answer that was whole. id is added to the URL's query, "" for none.
func (q *question) ask(ctx context.Context, id string) (status int, err error) {
	u := *q.url
	if id != "" {
		query := u.Query()
		query.Set("id", id)
		u.RawQuery = query.Encode()
	}
	head, err := wire.Opening(http.MethodGet, &u, q.domain)
	if err != nil {
		return 0, err
	}
	var a wire.Answer
	q.Exchange(asked{ctx}, q.timeout, append(head, "\r\n"...), nil, &a)
	if err := cmp.Or(a.Err, a.BodyErr); err != nil { // one that breaks off says nothing
		return 0, fmt.Errorf("no answer: %s", clause(err))
	}
	return a.Status, nil
}

// asked is what a question goes out for: it changes nothing, so it may at any time.
type asked struct{ ctx context.Context }

func (a asked) Context() context.Context { return a.ctx }
func (asked) Cleared() (bool, error)     { return false, nil }
