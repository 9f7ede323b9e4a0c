package forwarder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/kpush/kpush/forwarder/start"
	"github.com/kpush/kpush/kafka"
)

// Check connects, and tells what it finds of topics and group, with a client that has no instance id and joins nothing. It changes
// nothing. An error is a sentence that says what is missing.
func Check(ctx context.Context, cfg Config, c kafka.Consumer, a kafka.Cluster, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 3*kafka.QuestionTime)
	defer cancel()
	why := reasons(c)
	id, err := a.ID(ctx)
	if reason := why(); err != nil {
		return fmt.Errorf("no broker at %s answers: %w", cfg.Brokers, cmp.Or(reason, errors.New(noReason)))
	}
	ids, err := a.TopicIDs(ctx, cfg.Topics)
	if err != nil {
		return fmt.Errorf("cannot describe the topics: %w", err)
	}
	tps, err := a.Partitions(ctx, cfg.Topics)
	if err != nil {
		return fmt.Errorf("cannot describe the topics: %w", err)
	}
	limits, err := a.Bounds(ctx, tps)
	for err != nil && sleep(ctx, time.Second) == nil { // a first connection may be slow
		limits, err = a.Bounds(ctx, tps)
	}
	if err != nil {
		return fmt.Errorf("cannot look up where the partitions begin and end: %w", err)
	}
	commits, err := c.Committed(tps, 3*kafka.QuestionTime)
	if err != nil {
		return fmt.Errorf("cannot look up what group %s has committed: %w", cfg.Group, err)
	}
	fmt.Fprintf(w, "cluster %s, group %s\n\n", id, cfg.Group)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "partition\ttopic id\toldest\tend\tcommitted\tby\tlag")
	for _, c := range commits {
		b := limits[c.Partition]
		committed, by, from := "-", "-", b.Oldest
		if c.Offset >= 0 {
			committed, by, from = fmt.Sprint(c.Offset), "somebody else", c.Offset
			if _, ok := start.ParseMark(c.Meta); ok {
				by = "kpush"
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\t%s\t%d\n", c.Partition, ids[c.Topic], b.Oldest, b.End, committed, by, max(0, b.End-from))
	}
	return t.Flush()
}

// reasons listens to the client, which tells on its own why it reaches no broker. Call what it returns for the newest reason,
// nil where it gave none; that ends it.
func reasons(c kafka.Reader) (newest func() error) {
	var why error
	ctx, cancel := context.WithCancel(context.Background())
	over := inBackground(func() {
		for ended := false; !ended; ended = ctx.Err() != nil {
			if _, err := c.Poll(pollTime); errors.Is(err, kafka.ErrNoBroker) && !errors.Is(err, kafka.ErrAllDown) {
				why = err
			}
		}
	})
	return func() error { cancel(); <-over; return why }
}
