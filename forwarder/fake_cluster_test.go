package forwarder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kpush/kpush/kafka"
)

// fakeAdmin is the cluster's side of a fakeKafka.
type fakeAdmin struct{ *fakeKafka }

func (a fakeAdmin) Group(ctx context.Context, _ string) (g kafka.Group, err error) {
	if err := a.ask(ctx, "group"); err != nil {
		return g, err
	}
	a.with(func() {
		g = kafka.Group{Rebalancing: a.rebalancing, Members: []string{"another", a.listed}, Assignor: a.assignor}
	})
	return g, nil
}

func (a fakeAdmin) Admits(context.Context, string) (err error) {
	a.with(func() { err = a.admits })
	return err
}

func (k *fakeKafka) TooOld() (broker string) {
	k.with(func() { broker = k.tooOld })
	return broker
}

func (a fakeAdmin) ask(ctx context.Context, question string) error {
	a.with(func() { a.asking++ })
	defer a.with(func() { a.asking-- })
	var fault func(string) error
	a.with(func() { fault = a.clusterFault })
	if fault != nil {
		if err := fault(question); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (a fakeAdmin) ID(ctx context.Context) (string, error) { return "C", a.ask(ctx, "cluster") }

func (a fakeAdmin) Topics(ctx context.Context, topics []string, may kafka.Right) (map[string]kafka.Topic, error) {
	if err := a.ask(ctx, "topics"); err != nil {
		return nil, err
	}
	found, gone := map[string]kafka.Topic{}, []error{}
	a.with(func() {
		for _, t := range topics {
			if why := a.gone[t]; why != nil {
				gone = append(gone, fmt.Errorf("%s: %w", t, why))
			} else {
				found[t] = kafka.Topic{ID: a.ids[t], Partitions: cmp.Or(a.width, 100)}
			}
			if r, missing := a.forbidden[t]; missing && r == may {
				gone = append(gone, fmt.Errorf("%s: %w: %s is missing", t, kafka.ErrForbidden, may))
			}
		}
	})
	return found, errors.Join(gone...)
}

// Partitions are ten of each topic.
func (a fakeAdmin) Partitions(_ context.Context, topics []string) (all []kafka.Partition, _ error) {
	for _, t := range topics {
		for n := range int32(10) {
			all = append(all, kafka.Partition{Topic: t, Number: n})
		}
	}
	return all, nil
}

func (a fakeAdmin) Bounds(ctx context.Context, tps []kafka.Partition) (map[kafka.Partition]kafka.Bounds, error) {
	if err := a.ask(ctx, "bounds"); err != nil {
		return nil, err
	}
	out := map[kafka.Partition]kafka.Bounds{}
	var gone error
	a.with(func() {
		for _, t := range tps {
			if a.width > 0 && t.Number >= a.width {
				gone = fmt.Errorf("%s: %w", t, kafka.ErrNoTopic)
			}
			if !a.leaderless[t] {
				high := a.endOf(t) + a.markers[t]
				end := high
				if open, ok := a.transactions[t]; ok {
					end = open
				}
				out[t] = kafka.Bounds{Oldest: a.oldest[t], End: end, High: high}
			}
		}
	})
	if gone != nil {
		return nil, gone
	}
	if len(out) < len(tps) {
		<-ctx.Done()
		return out, ctx.Err()
	}
	return out, nil
}

func (a fakeAdmin) Close() {
	a.with(func() {
		if a.clusterClosed != nil {
			a.clusterClosed(a.asking)
		}
	})
}

// Since counts an offset as a second since 1970.
func (a fakeAdmin) Since(_ context.Context, tps []kafka.Partition, when time.Time) (map[kafka.Partition]int64, error) {
	found := map[kafka.Partition]int64{}
	a.with(func() {
		for _, t := range tps {
			if found[t] = max(when.Unix(), a.oldest[t]); found[t] >= a.endOf(t) || a.blind {
				found[t] = -1
			}
		}
	})
	return found, nil
}

func (a fakeAdmin) Newest(ctx context.Context, tps []kafka.Partition) (map[kafka.Partition]time.Time, error) {
	if err := a.ask(ctx, "newest"); err != nil {
		return nil, err
	}
	found := map[kafka.Partition]time.Time{}
	a.with(func() {
		for _, t := range tps {
			if end := a.endOf(t); end > a.oldest[t] {
				found[t] = time.Unix(end-1, 0)
			}
		}
	})
	return found, nil
}

// fakeProducer appends to the log of a fakeKafka.
type fakeProducer struct {
	*fakeKafka
	// fault is asked before a record is appended, lost after that; both may block.
	fault, lost func(context.Context, kafka.Record) error
}

func (p *fakeProducer) Produce(ctx context.Context, r kafka.Record) (out kafka.Produced, err error) {
	var before, after func(context.Context, kafka.Record) error
	p.with(func() { before, after = p.fault, p.lost })
	if before != nil {
		if err := before(ctx, r); err != nil {
			return out, err
		}
	}
	out.Position = p.add(r)
	if after != nil {
		err = after(ctx, r)
	}
	return out, err
}

// add appends a record: by the last byte of its key, where the partition is left open.
func (k *fakeKafka) add(r kafka.Record) (at kafka.Position) {
	if at.Topic = r.Topic; r.Partition != kafka.AnyPartition {
		at.Number = r.Partition
	} else if n := len(r.Key); n > 0 {
		at.Number = int32(r.Key[n-1] % 10)
	}
	k.with(func() {
		at.Offset = k.endOf(at.Partition)
		k.log[at.Partition] = append(k.log[at.Partition], &kafka.Message{Partition: at.Partition, Offset: at.Offset, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value, Headers: r.Headers})
	})
	k.Wake()
	return at
}

// records are those of a topic, oldest first in each partition.
func (k *fakeKafka) records(topic string) (all []*kafka.Message) {
	k.with(func() {
		for t, list := range k.log {
			if t.Topic == topic {
				all = append(all, list...)
			}
		}
	})
	slices.SortFunc(all, func(a, b *kafka.Message) int {
		return cmp.Or(kafka.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	return all
}

func (p *fakeProducer) spoil(fault, lost func(context.Context, kafka.Record) error) {
	p.with(func() { p.fault, p.lost = fault, lost })
}

func (p *fakeProducer) Queue(kafka.Record, func(kafka.Produced, error)) error { panic("not asked for") }
func (p *fakeProducer) Queued() int                                           { return 0 }
func (p *fakeProducer) Flush(context.Context) int                             { return 0 }
func (p *fakeProducer) Close()                                                {}
