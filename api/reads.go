package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/kpush/kpush/forwarder"
)

func (a *API) status(ctx context.Context) (any, error) {
	a.op.Wanted()
	s, err := a.watch.now(ctx)
	return a.answer(s), err
}

// answer is a status with what the forwarder does not know of the process.
func (a *API) answer(s forwarder.Status) Status {
	out := answer(s)
	out.Version, out.Guarantee, out.Config = a.about.Version, a.about.Guarantee, map[string]string{}
	for _, source := range a.about.Sources {
		out.Why = append(out.Why, source.Ready()...)
		out.Notes = append(out.Notes, source.Notes()...)
	}
	out.Publish = a.publish()
	out.Ready = out.Ready && len(out.Why) == 0
	for _, c := range a.about.Config {
		out.Config[c.Key] = c.Value.String()
	}
	return out
}

// SkippedMost is how many messages a page of GET /skipped may have; without a limit it is skippedUsual.
const (
	SkippedMost  = 5000
	skippedUsual = 1000
)

// skipped is a page of the skip log, oldest first: ?after= is what the one before says is next.
func (a *API) skipped(w http.ResponseWriter, r *http.Request) error {
	after, limit := int64(0), int64(skippedUsual)
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return refuse(http.StatusBadRequest, "the query cannot be read")
	}
	for name, values := range query {
		n, err := strconv.ParseInt(values[0], 10, 64)
		switch {
		case name == "after" && len(values) == 1 && err == nil && n >= 0:
			after = n
		case name == "limit" && len(values) == 1 && err == nil && n > 0 && n <= SkippedMost:
			limit = n
		default:
			return refuse(http.StatusBadRequest, "GET /skipped takes after, which an answer has as next, and limit, from 1 to %d", SkippedMost)
		}
	}
	page, err := command(a, commandTime, func() (forwarder.SkippedPage, error) { return a.op.Skipped(after, int(limit)) })
	if err != nil {
		return err
	}
	list := SkippedList{Skipped: []Skipped{}}
	for _, m := range page.Messages {
		list.Skipped = append(list.Skipped, skippedOf(m))
	}
	if page.Next > 0 {
		list.Next = &page.Next
	}
	write(w, http.StatusOK, list)
	return nil
}

func skippedOf(m forwarder.SkippedMessage) Skipped {
	return Skipped{m.Topic, m.Number, m.Offset, m.ID, keyOf(m.Key), m.Size, m.Attempts, m.Reason, m.InDoubt, m.Skipped.UTC(), moment(m.Resent)}
}

// skipLog is what the page tells of it.
type skipLog struct {
	forwarder.SkipCounts
	err error
}

func (a *API) audit(context.Context) (any, error) {
	all, err := command(a, commandTime, a.op.Audit)
	return Audit{append([]forwarder.Moved{}, all...)}, err
}
