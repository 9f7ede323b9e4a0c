package main

import (
	"bytes"
	"io"
	"net/http"

	"github.com/valyala/fasthttp"
)

// transport sends net/http's requests through fasthttp, to one host.
type transport struct{ host *fasthttp.HostClient }

func newTransport(addr string) *transport {
	// one attempt: fasthttp would repeat by itself what retryablehttp is to repeat
	return &transport{&fasthttp.HostClient{Addr: addr, MaxConns: 1024, MaxIdemponentCallAttempts: 1, NoDefaultUserAgentHeader: true}}
}

// RoundTrip is http.RoundTripper's.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	request.Header.SetMethod(r.Method)
	request.SetRequestURI(r.URL.RequestURI())
	request.Header.SetHost(r.URL.Host)
	for name, values := range r.Header {
		for _, value := range values {
			request.Header.Add(name, value)
		}
	}
	if r.Body != nil {
		defer r.Body.Close()
		if _, err := io.Copy(request.BodyWriter(), r.Body); err != nil {
			return nil, err
		}
	}
	if err := t.host.Do(request, response); err != nil {
		return nil, err
	}
	answer := &http.Response{StatusCode: response.StatusCode(), Header: http.Header{}, Body: http.NoBody, Request: r}
	if body := response.Body(); len(body) > 0 {
		answer.Body = io.NopCloser(bytes.NewReader(bytes.Clone(body)))
	}
	return answer, nil
}
