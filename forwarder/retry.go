package forwarder

import (
	"context"
	"math"
	"net/http"
	"net/url"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/kpush/kpush/forwarder/push"
)

// repeat makes further attempts for as long as the same message is the first of the batch: the repeating, and the pauses between
// attempts, are retryablehttp's. What it repeats is a round trip that asks for nothing and is answered when the attempt is over.
func (d *delivery) repeat() {
	lead := d.items[0]
	ctx := d.ctx()
	if sleep(ctx, d.backoff()) == nil {
		client := retryablehttp.Client{
			HTTPClient: &http.Client{Transport: roundTrip(d.try)},
			RetryMax:   math.MaxInt,
			CheckRetry: func(context.Context, *http.Response, error) (bool, error) { return d.more() && d.items[0] == lead, nil },
			Backoff:    func(time.Duration, time.Duration, int, *http.Response) time.Duration { return d.backoff() },
		}
		attempt := &http.Request{Method: http.MethodPost, URL: &url.URL{Scheme: "http", Host: "service"}, Header: http.Header{}}
		_, _ = client.Do(&retryablehttp.Request{Request: attempt.WithContext(ctx)}) // what came of it is in d
	}
	d.skip()
}

// roundTrip is a transport whose requests go nowhere.
type roundTrip func()

func (do roundTrip) RoundTrip(r *http.Request) (*http.Response, error) {
	do()
	return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, Request: r}, nil
}

// backoff is the wait before the next attempt.
func (d *delivery) backoff() time.Duration {
	it := d.items[0]
	switch v := it.verdict; {
	case it.elsewhere, v.Stale:
		return 0
	case v.Class == push.ServiceFault && d.batch.Down():
		return d.batch.Pause(0)
	case it.free && !v.Spared:
		return 0
	}
	return d.batch.Pause(it.tries())
}

// sleep returns the cause when ctx ends before the time has passed.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// poke leaves a signal in c, unless one is there.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// born is the origin of what untilNext counts, and of what is measured: a wall clock that is set does not change that.
var born = time.Now()

// sinceBorn is t as an atomic.Int64 holds it, in nanoseconds.
func sinceBorn(t time.Time) int64 { return int64(t.Sub(born)) }

// untilNext is the time up to the next of the moments that are d apart. What is done every so often is done at one of them, all
// at once: a process that wakes up for its own sake pays for each time, and dozens of them share a node. Each process has moments of its own.
func untilNext(d time.Duration) time.Duration {
	since := time.Since(born) % d
	if since < 0 {
		since += d // a clock of a test's
	}
	return d - since
}
