package api

import (
	"context"

	"github.com/kpush/kpush/forwarder"
)

func (a *API) status(ctx context.Context) (any, error) {
	a.op.Wanted()
	s, err := a.watch.status(ctx)
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

func (a *API) skipped(context.Context) (any, error) {
	all, err := command(a, commandTime, a.op.Skipped)
	list := SkippedList{[]Skipped{}}
	for _, m := range all {
		list.Skipped = append(list.Skipped, Skipped{m.Topic, m.Number, m.Offset, m.ID, keyOf(m.Key), m.Size, m.Attempts, m.Reason, m.InDoubt,
			m.Skipped.UTC(), moment(m.Resent)})
	}
	return list, err
}

func (a *API) audit(context.Context) (any, error) {
	all, err := command(a, commandTime, a.op.Audit)
	return Audit{append([]forwarder.Moved{}, all...)}, err
}
