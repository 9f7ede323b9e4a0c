package simulation

import (
	"context"
	"fmt"
	"time"

	"github.com/kpush/kpush/kafka"
)

// reader is one without a group.
type reader struct {
	*client
}

func (c *client) reader(at []kafka.Position) (kafka.Reader, error) {
	r := newClient(c.w, c.life, "")
	for _, a := range at {
		r.at[a.Partition] = a.Offset
	}
	return reader{r}, nil
}

func (r reader) Close() error { return nil }

// cluster is what is asked beside consuming.
type cluster struct{ *client }

func (c cluster) Close() {}

func (c cluster) ID(ctx context.Context) (string, error) {
	return "C", c.answer(ctx, "id", time.Hour)
}

func (c cluster) Topics(ctx context.Context, _ []string, _ kafka.Right) (map[string]kafka.Topic, error) {
	if err := c.answer(ctx, "topics", time.Hour); err != nil {
		return nil, err
	}
	var found kafka.Topic
	c.w.with(func() { found = kafka.Topic{ID: c.w.topicID(), Partitions: int32(len(c.w.logs))} })
	return map[string]kafka.Topic{topic: found}, nil
}

func (c cluster) Partitions(ctx context.Context, _ []string) (all []kafka.Partition, err error) {
	err = c.answer(ctx, "partitions", time.Hour)
	c.w.with(func() { all = c.w.partitions() })
	return all, err
}

func (c cluster) Bounds(ctx context.Context, ps []kafka.Partition) (map[kafka.Partition]kafka.Bounds, error) {
	if err := c.answer(ctx, "bounds", time.Hour); err != nil {
		return nil, err
	}
	out := map[kafka.Partition]kafka.Bounds{}
	c.w.with(func() {
		for _, p := range ps {
			l := c.w.logs[p]
			out[p] = kafka.Bounds{Oldest: l.oldest, End: l.next, High: l.next}
		}
	})
	return out, nil
}

func (c cluster) Since(ctx context.Context, ps []kafka.Partition, _ time.Time) (map[kafka.Partition]int64, error) {
	out := map[kafka.Partition]int64{}
	for _, p := range ps {
		out[p] = -1
	}
	return out, c.answer(ctx, "since", time.Hour)
}

func (cluster) Newest(context.Context, []kafka.Partition) (map[kafka.Partition]time.Time, error) {
	return nil, nil
}

func (cluster) Admits(context.Context, string) error { return nil }

func (c cluster) Group(ctx context.Context, _ string) (g kafka.Group, err error) {
	err = c.answer(ctx, "group", time.Hour)
	c.w.with(func() {
		g.Rebalancing = c.w.group.rebalancing()
		for _, m := range c.w.group.members {
			g.Members = append(g.Members, fmt.Sprint(m.member))
		}
	})
	return g, err
}
