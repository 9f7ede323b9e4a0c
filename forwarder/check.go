package forwarder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/kpush/kpush/forwarder/pace"
	"github.com/kpush/kpush/forwarder/start"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
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
	topics, err := a.Topics(ctx, cfg.Topics)
	if err != nil {
		return fmt.Errorf("cannot describe the topics: %w", err)
	}
	if cfg.DeadLetterTopic != "" {
		if _, err := a.Topics(ctx, []string{cfg.DeadLetterTopic}); err != nil {
			return fmt.Errorf("cannot describe the dead letter topic: %w", err)
		}
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
	fmt.Fprintln(t, "partition\ttopic id\toldest\tend\tcommitted\tby\tlag\tdone out of order\topen")
	for _, c := range commits {
		fmt.Fprintln(t, checked{c, limits[c.Partition], id, topics[c.Topic].ID}.row())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, c := range commits {
		if b := limits[c.Partition]; b.High > b.End {
			fmt.Fprintf(w, "note: %s has an open transaction: what is at %d and above, below %d, can be read once it has ended\n", c.Partition, b.End, b.High)
		}
	}
	if n := len(tps); cfg.Order == pace.ByPartition && !cfg.Adaptive && cfg.Concurrency > n {
		fmt.Fprintf(w, "note: with KPUSH_ORDER=partition there is one request a partition at the most, %d together, and KPUSH_CONCURRENCY=%d is not reached\n", n, cfg.Concurrency)
	}
	return nil
}

// checked is what Kafka says of a partition.
type checked struct {
	kafka.Commit
	bounds           kafka.Bounds
	cluster, topicID string
}

// row is its line of the table. Where a transaction is open, both ends are in it: the one for this consumer, and the log's.
func (c checked) row() string {
	b := c.bounds
	end, committed, from := fmt.Sprint(b.End), "-", b.Oldest
	if b.High > b.End {
		end += fmt.Sprintf(" (%d)", b.High)
	}
	by, done, applies := c.author()
	if c.Offset >= 0 {
		committed = fmt.Sprint(c.Offset)
	}
	if applies {
		from = max(c.Offset, b.Oldest)
	}
	lag, outOfOrder := max(0, b.End-from), int64(0)
	for _, r := range done {
		outOfOrder += max(0, min(r.To, b.End)-max(r.From, from))
	}
	return fmt.Sprintf("%s\t%s\t%d\t%s\t%s\t%s\t%d\t%d\t%d", c.Partition, c.topicID, b.Oldest, end, committed, by, lag, outOfOrder, lag-outOfOrder)
}

// author says who committed, as a start judges it (start.Decide), and what the mark knows of what is done above the offset. applies: a
// start would go on there.
func (c checked) author() (by string, done offsets.Ranges, applies bool) {
	m, ours := start.ParseMark(c.Meta)
	switch {
	case c.Offset < 0:
		return "-", nil, false
	case !ours || m.Offset != c.Offset:
		return "somebody else", nil, true
	case m.Bare():
		return "kpush", nil, true
	case m.Cluster != c.cluster:
		return "kpush, for another cluster", nil, true
	case m.TopicID != c.topicID && m.TopicID != "" && c.topicID != "":
		return "kpush, for an earlier topic of this name", nil, false
	case m.Paused:
		return "kpush, paused by an operator", m.Done, true
	}
	return "kpush", m.Done, true
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
