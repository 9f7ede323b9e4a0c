package forwarder

import (
	"cmp"
	"context"
	"errors"
	"math"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/kpush/kpush/forwarder/wire"
)

// httpHandler is the default Handler: it POSTs each message, and repeats through retryablehttp.
//
// The layers, outside in: Handle makes the first attempt, which is nearly always the only one, and leaves the others to
// retryablehttp, which repeats until CheckRetry is content; attempts is one attempt, from its turn to its verdict; a line
// sends it. What ties them together is that the Delivery is the request's context.
type httpHandler struct {
	*attempts
	client *retryablehttp.Client
}

// line is the way to one host: a *wire.Wire. A Delivery is what it asks last.
type line interface {
	Exchange(g wire.Gate, timeout time.Duration, head, body []byte, a *wire.Answer)
}

// host is one of Config.Targets.
type host struct {
	line
	opening []byte // of each request
}

func newHTTP(cfg Config) (*httpHandler, error) {
	a := &attempts{cfg: cfg}
	most := cfg.Concurrency
	if cfg.Adaptive {
		most = adaptiveMost
	}
	for _, t := range cfg.Targets {
		w, u, err := wire.New(t, wire.Options{ConnTimeout: cfg.ConnTimeout, Idle: most})
		if err != nil {
			return nil, err
		}
		head, err := wire.Opening(http.MethodPost, u, cfg.Domain)
		if err != nil {
			return nil, err
		}
		a.hosts = append(a.hosts, host{w, head})
	}
	if cfg.ConfirmURL != "" {
		q, err := newQuestion(cfg.ConfirmURL, cfg.ConfirmDomain, &cfg, cmp.Or(cfg.ExecTimeout, confirmTimeout))
		if err != nil {
			return nil, errors.New("KPUSH_CONFIRM_URL is no URL")
		}
		a.confirm = &confirmer{q}
	}
	return &httpHandler{attempts: a, client: &retryablehttp.Client{
		HTTPClient: &http.Client{Transport: a},
		RetryMax:   math.MaxInt,
		CheckRetry: func(ctx context.Context, _ *http.Response, _ error) (bool, error) { return deliveryOf(ctx).again, nil },
		Backoff: func(_, _ time.Duration, _ int, resp *http.Response) time.Duration {
			d := deliveryOf(resp.Request.Context())
			d.again = false // the wait is what had to come before the next attempt
			return d.wait()
		},
	}}, nil
}

// Handle returns when the message has its outcome or the delivery is stopped.
func (h *httpHandler) Handle(d *Delivery) (Outcome, error) {
	err := h.handle(d)
	switch {
	case d.final:
		return d.outcome, nil
	case d.ctx().Err() != nil:
		return Outcome{}, context.Cause(d.ctx())
	}
	return Outcome{}, err
}

// handle makes attempts until none has to follow: the first one itself, the others through retryablehttp.
func (h *httpHandler) handle(d *Delivery) (err error) {
	if !d.again {
		err = h.attempt(d)
	}
	if err == nil && d.again {
		req := &retryablehttp.Request{Request: (&http.Request{Method: http.MethodPost, URL: nowhere, Header: http.Header{}}).WithContext(d.Waits())}
		_, err = h.client.Do(req)
	}
	return err
}

// handleBatch is handle for the batch that d is the first of.
func (h *httpHandler) handleBatch(d *Delivery) { _ = h.handle(d) } // an error: stopped, which the batch sees

// nowhere is the URL in the requests that retryablehttp sees; attempts knows where to send.
var nowhere = &url.URL{Scheme: "http", Host: "service"}

// attempts is the RoundTripper that retryablehttp's client uses: each round trip is one attempt. It hides
// CloseIdleConnections from retryablehttp, which would call it after each failure and cut off the other lanes.
type attempts struct {
	cfg     Config
	hosts   []host
	confirm *confirmer // nil: what is in doubt is sent again without a question
	calls   sync.Pool  // of *call
}

// RoundTrip answers with an empty response once the attempt has its verdict: what follows from the service's response is
// decided here, and nothing outside gets a redirect to follow or a Retry-After to obey. Where the verdict on the attempt
// before still waits for what has to follow, that is the answer: so the first round trip makes retryablehttp wait.
func (a *attempts) RoundTrip(req *http.Request) (*http.Response, error) {
	if d := deliveryOf(req.Context()); !d.again {
		if err := a.attempt(d); err != nil {
			return nil, err
		}
	}
	return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, Request: req}, nil
}

func deliveryOf(ctx context.Context) *Delivery { return (*Delivery)(ctx.(*waits)) }

// attempt makes one: d.again says whether another has to follow. An error means that the delivery was stopped.
func (a *attempts) attempt(d *Delivery) error {
	d.again = false
	if d.batch != nil {
		return a.attemptBatch(d)
	}
	if a.confirm != nil && d.InDoubt() {
		d.settleBefore()
		has, err := a.confirm.has(d, d)
		if err != nil {
			return err
		}
		if has {
			d.final, d.outcome = true, Outcome{Class: Delivered}
			return nil
		}
	}
	if err := d.Begin(); err != nil {
		return err
	}
	d.End(a.send(d))
	return nil
}

// attemptBatch is attempt for a batch: one request with the next of its items.
func (a *attempts) attemptBatch(lead *Delivery) error {
	b := lead.batch
	if a.confirm != nil {
		if err := a.ask(lead); err != nil {
			return err
		}
	}
	b.p.f.skipItems(b)
	if len(b.items) == 0 || b.items[0] != lead {
		return nil
	}
	if err := b.begin(lead); err != nil {
		return err
	}
	v, failed := a.sendBatch(lead)
	b.ended(lead, v, failed)
	return nil
}

// ask confirms what is in doubt of the next request: so many items of the batch as a request may hold.
func (a *attempts) ask(lead *Delivery) error {
	b, n := lead.batch, 0
	for _, d := range b.items {
		if n == b.size {
			break
		}
		has := false
		if d.InDoubt() {
			var err error
			if has, err = a.confirm.has(d, lead); err != nil {
				return err
			}
		}
		if has {
			d.final, d.outcome = true, Outcome{Class: Delivered}
		} else {
			n++
		}
	}
	return nil
}

// sendBatch is send for a batch; failed are the messages that a 2xx names as failed.
func (a *attempts) sendBatch(lead *Delivery) (v Verdict, failed map[int64]bool) {
	c := a.call()
	defer a.done(c)
	h, items := a.hosts[a.target(lead)], lead.batch.request()
	var rest []byte
	c.request, rest = appendBatch(c.request[:0], h.opening, items)
	h.Exchange(lead, a.cfg.ExecTimeout, c.request, rest, &c.Answer)
	v = judge(&c.Answer, a.cfg.Ack, a.cfg.ExecTimeout)
	if v.Class != Delivered || action(&Verdict{}, c.Action) {
		return v, nil
	}
	var err error
	if failed, err = batchFailures(c.Body, items); err != nil {
		v = Verdict{Class: MessageFault, Status: c.Status, Reason: err.Error(), RetryAfter: pause(c.RetryAfter)}
	}
	return v, failed
}

// send makes one request, within Config.ExecTimeout, and judges its answer.
func (a *attempts) send(d *Delivery) Verdict {
	c := a.call()
	defer a.done(c)
	h := a.hosts[a.target(d)]
	var rest []byte
	c.request, rest = appendRequest(c.request[:0], h.opening, d, a.cfg.Format)
	h.Exchange(d, a.cfg.ExecTimeout, c.request, rest, &c.Answer)
	v := judge(&c.Answer, a.cfg.Ack, a.cfg.ExecTimeout)
	if c.Action == "" && d.resize(c.Status) {
		v.slimmer, v.Reason = true, v.Reason+" to large headers: the next attempt leaves key and headers out"
	}
	return v
}

// call is the room for one request and its answer.
type call struct {
	request []byte
	wire.Answer
}

func (a *attempts) call() *call {
	if c, ok := a.calls.Get().(*call); ok {
		return c
	}
	return new(call)
}

// done keeps the room for another call, unless it has become a large one.
func (a *attempts) done(c *call) {
	if cap(c.request) <= 64<<10 && cap(c.Body) <= 64<<10 {
		a.calls.Put(c)
	}
}

// target is where the attempt goes.
func (a *attempts) target(d *Delivery) int {
	d.host = d.p.f.service.pick(d)
	return d.host
}
