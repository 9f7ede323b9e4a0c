package api

import (
	"context"
	"net/http"

	"github.com/kpush/kpush/forwarder"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/publisher"
)

// Publishing is what is published, and the door to it: a publisher.
type Publishing interface {
	http.Handler // at publisher.Path; who calls has been looked at
	Counts() publisher.Counts
}

var _ Publishing = (*publisher.Publisher)(nil)

// publish is the status's part.
func (a *API) publish() Publish {
	p := Publish{FailedBy: map[string]int64{}, Refused: map[int]int64{}}
	if a.about.Publish == nil {
		return p
	}
	c := a.about.Publish.Counts()
	p.Queued, p.Spooled, p.Sent, p.Silent = c.Queued, int(c.Spooled), int(c.Sent), moment(c.Silent)
	for reason, n := range c.Failed {
		if p.Failed += int(n); n > 0 {
			p.FailedBy[reason] = n
		}
	}
	for r, n := range c.Requests {
		if r.Code >= 300 {
			p.Refused[r.Code] += n
		}
	}
	return p
}

// serveTopic lets in who may call; an error there has the form of that API.
func (a *API) serveTopic(w http.ResponseWriter, r *http.Request) {
	if err := a.door.check(w, r); err != nil {
		publisher.Refuse(w, statusOf(err), oneLine(err))
		return
	}
	a.about.Publish.ServeHTTP(w, r)
}

// PublishOnly stands where a forwarder does in a process that consumes nothing.
type PublishOnly struct{}

var (
	_ Operator = PublishOnly{}
	_ Measured = PublishOnly{}
	_ Source   = PublishOnly{}
)

// PublishOnlyNote says what the process does not do.
const PublishOnlyNote = "publish only: KPUSH_TOPIC is empty, nothing is consumed"

// Status is that of a process with nothing to wait for.
func (PublishOnly) Status() (s forwarder.Status) {
	s.State, s.Ready, s.Notes = forwarder.Running, true, []string{PublishOnlyNote}
	s.Service.Up = true
	return s
}

// Counts are none.
func (PublishOnly) Counts() (c forwarder.Counts) { return c }

// Live, Ready and Notes are for /healthz and /readyz.
func (PublishOnly) Live() []string  { return nil }
func (PublishOnly) Ready() []string { return nil }
func (PublishOnly) Notes() []string { return []string{PublishOnlyNote} }

// Wanted has nothing to look at.
func (PublishOnly) Wanted() {}

var errPublishOnly = refuse(http.StatusConflict, PublishOnlyNote)

// The calls of an operator are about what is consumed.
func (PublishOnly) Skip(context.Context, string, forwarder.Selection) (forwarder.SkipOutcome, error) {
	return forwarder.SkipOutcome{}, errPublishOnly
}
func (PublishOnly) Pause(context.Context, string, string, int32) ([]kafka.Partition, error) {
	return nil, errPublishOnly
}
func (PublishOnly) Resume(context.Context, string, string, int32) ([]kafka.Partition, error) {
	return nil, errPublishOnly
}
func (PublishOnly) Seek(context.Context, string, string, int32, forwarder.Target) ([]kafka.Position, error) {
	return nil, errPublishOnly
}
func (PublishOnly) Skipped(int64, int) (forwarder.SkippedPage, error) {
	return forwarder.SkippedPage{}, errPublishOnly
}
func (PublishOnly) SkipCounts() (forwarder.SkipCounts, error) {
	return forwarder.SkipCounts{}, errPublishOnly
}
func (PublishOnly) Resend(context.Context, string, []kafka.Position) ([]forwarder.Resent, error) {
	return nil, errPublishOnly
}
func (PublishOnly) Redrive(context.Context, string, int) (forwarder.Redriven, error) {
	return forwarder.Redriven{}, errPublishOnly
}
func (PublishOnly) Rest(context.Context, string, int) string { return "" }
func (PublishOnly) PausedHere() string                       { return "" }
func (PublishOnly) Audit() ([]forwarder.Moved, error)        { return nil, errPublishOnly }
