package forwarder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// httpHandler is the default Handler: it POSTs each message, and repeats through retryablehttp.
//
// The layers, outside in: retryablehttp repeats until CheckRetry is content; attempts is one attempt, from its turn to
// its verdict; the transport sends it. What ties them together is that the Delivery is the request's context.
type httpHandler struct {
	cfg    Config
	client *retryablehttp.Client
	base   *url.URL
}

func newHTTP(cfg Config) (*httpHandler, error) {
	a := &attempts{cfg: cfg}
	for _, t := range cfg.Targets {
		u, err := url.Parse(t)
		if err != nil {
			return nil, fmt.Errorf("the service's address is no URL: %w", err)
		}
		a.targets = append(a.targets, u)
	}
	a.transport = &http.Transport{
		Proxy:                  nil, // HTTP_PROXY must not divert local traffic
		DialContext:            (&net.Dialer{Timeout: cfg.ConnTimeout}).DialContext,
		TLSHandshakeTimeout:    cfg.ConnTimeout,
		MaxIdleConnsPerHost:    cfg.Concurrency,
		IdleConnTimeout:        90 * time.Second,
		DisableCompression:     true,
		MaxResponseHeaderBytes: answerLimit,
	}
	if cfg.ConfirmURL != "" {
		u, err := url.Parse(cfg.ConfirmURL)
		if err != nil {
			return nil, errors.New("KPUSH_CONFIRM_URL is no URL")
		}
		a.confirm = &confirmer{url: u, timeout: cmp.Or(cfg.ExecTimeout, confirmTimeout), transport: a.transport}
	}
	return &httpHandler{cfg: cfg, base: a.targets[0], client: &retryablehttp.Client{
		HTTPClient: &http.Client{Transport: a},
		RetryMax:   math.MaxInt,
		CheckRetry: func(ctx context.Context, _ *http.Response, _ error) (bool, error) { return deliveryOf(ctx).again, nil },
		Backoff: func(_, _ time.Duration, _ int, resp *http.Response) time.Duration {
			return deliveryOf(resp.Request.Context()).wait()
		},
	}}, nil
}

// Handle returns when the message has its outcome or the delivery is stopped.
func (h *httpHandler) Handle(d *Delivery) (Outcome, error) {
	req := &retryablehttp.Request{Request: (&http.Request{Method: http.MethodPost, URL: h.base, Header: http.Header{}}).WithContext(d.Waits())}
	if b := body(d.Message, h.cfg.Format); len(b) > 0 {
		if err := req.SetBody(b); err != nil {
			return Outcome{}, fmt.Errorf("cannot make a request of %s: %w", d.ID(), err)
		}
	}
	_, err := h.client.Do(req)
	switch {
	case d.final:
		return d.outcome, nil
	case d.ctx().Err() != nil:
		return Outcome{}, context.Cause(d.ctx())
	}
	return Outcome{}, err
}

// attempts is the RoundTripper that retryablehttp's client uses: each round trip is one attempt. It hides
// CloseIdleConnections from retryablehttp, which would call it after each failure and cut off the other lanes.
type attempts struct {
	cfg       Config
	targets   []*url.URL
	transport *http.Transport
	confirm   *confirmer // nil: what is in doubt is sent again without a question
}

// RoundTrip answers with an empty response once the attempt has its verdict: what follows from the service's response is
// decided here, and nothing outside gets a redirect to follow or a Retry-After to obey.
func (a *attempts) RoundTrip(req *http.Request) (*http.Response, error) {
	d := deliveryOf(req.Context())
	d.again = false
	if a.confirm != nil && d.InDoubt() {
		has, err := a.confirm.has(d)
		if err != nil {
			return nil, err
		}
		if has {
			d.final, d.outcome = true, Outcome{Class: Delivered}
			return empty(req), nil
		}
	}
	if err := d.Begin(); err != nil {
		return nil, err
	}
	ans := a.send(d, req)
	v := judge(ans, a.cfg.Ack, a.cfg.ExecTimeout)
	if !d.slim && ans.header.Get("Kafka-Action") == "" && tooLarge(ans.status, d.Message) {
		d.slim = true
		v.Class, v.Reason = Busy, v.Reason+" to large headers: the next attempt leaves key and headers out"
	}
	d.again = d.End(v)
	return empty(req), nil
}

func empty(req *http.Request) *http.Response {
	return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, Request: req}
}

func deliveryOf(ctx context.Context) *Delivery { return (*Delivery)(ctx.(*waits)) }

// send makes one request and reads its answer, within Config.ExecTimeout.
func (a *attempts) send(d *Delivery, req *http.Request) (ans answer) {
	ctx := d.Attempt()
	if a.cfg.ExecTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.cfg.ExecTimeout)
		defer cancel()
	}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { ans.sent = true }})
	out := req.WithContext(ctx)
	out.URL = a.target(d)
	out.Host = a.cfg.Domain
	out.Header = header(d.Message, a.cfg.Format, d.slim) // new each time: a broken attempt may still be reading the old one
	out.Header["Kafka-Attempt"] = []string{strconv.Itoa(d.Number())}
	if d.InDoubt() {
		out.Header["Kafka-In-Doubt"] = []string{"true"}
	}
	if auth := req.Header["Authorization"]; auth != nil {
		out.Header["Authorization"] = auth
	}
	resp, err := a.transport.RoundTrip(out)
	if err == nil {
		ans.status, ans.header = resp.StatusCode, resp.Header
		if ans.status != http.StatusSwitchingProtocols { // whose body is the connection, and has no end
			ans.body, err = io.ReadAll(io.LimitReader(resp.Body, answerLimit))
		}
		resp.Body.Close()
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if ans.status == 0 {
		ans.err = err
	} else {
		ans.bodyErr = err
	}
	return ans
}

// target is where the attempt goes.
func (a *attempts) target(d *Delivery) *url.URL {
	d.host = d.p.f.service.pick(d)
	return a.targets[d.host]
}
