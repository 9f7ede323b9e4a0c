package forwarder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"text/tabwriter"
	"time"
)

// Check connects, and tells what it finds of topics and group, and the limits that follow from cfg. It changes nothing and
// joins no group. An error is a sentence that says what is missing.
func Check(ctx context.Context, cfg Config, w io.Writer) error {
	cfg.InstanceID = ""
	c, err := newClient(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer c.close() // it has joined nothing, so this returns
	a, err := newAdmin(cfg)
	if err != nil {
		return err
	}
	defer a.close()
	ctx, cancel := context.WithTimeout(ctx, 3*adminTimeout)
	defer cancel()
	why := reasons(c)
	id, err := a.clusterID(ctx)
	if reason := why(); err != nil {
		return fmt.Errorf("no broker at %s answers: %w", cfg.Kafka["bootstrap.servers"], cmp.Or(reason, errors.New(noReason)))
	}
	ids, err := a.topicIDs(ctx, cfg.Topics)
	if err != nil {
		return fmt.Errorf("cannot describe the topics: %w", err)
	}
	tps, err := a.partitions(ctx, cfg.Topics)
	if err != nil {
		return fmt.Errorf("cannot describe the topics: %w", err)
	}
	limits, err := a.bounds(ctx, tps)
	for err != nil && sleep(ctx, time.Second) == nil { // a first connection may be slow
		limits, err = a.bounds(ctx, tps)
	}
	if err != nil {
		return fmt.Errorf("cannot look up where the partitions begin and end: %w", err)
	}
	commits, err := c.committed(tps, 3*adminTimeout)
	if err != nil {
		return fmt.Errorf("cannot look up what group %s has committed: %w", cfg.Group, err)
	}
	fmt.Fprintf(w, "cluster %s, group %s\n\n", id, cfg.Group)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "partition\ttopic id\toldest\tend\tcommitted\tby\tlag")
	for _, c := range commits {
		b := limits[c.tp]
		committed, by, from := "-", "-", b.oldest
		if c.offset >= 0 {
			committed, by, from = fmt.Sprint(c.offset), "somebody else", c.offset
			if _, ok := parseMark(c.meta); ok {
				by = "kpush"
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\t%s\t%d\n", c.tp, ids[c.topic], b.oldest, b.end, committed, by, max(0, b.end-from))
	}
	t.Flush()
	fmt.Fprintf(w, "\nderived limits\n  messages waiting in kpush: %d bytes\n", cfg.Buffer/2)
	defaults := consumerDefaults(cfg)
	for _, k := range slices.Sorted(maps.Keys(defaults)) {
		if v, own := cfg.Kafka[k]; own {
			fmt.Fprintf(w, "  %s=%s (yours)\n", k, v)
		} else {
			fmt.Fprintf(w, "  %s=%v\n", k, defaults[k])
		}
	}
	return nil
}

// reasons listens to the client, which tells on its own why it reaches no broker. Call what it returns for the newest reason,
// nil where it gave none; that ends it.
func reasons(c *librdkafka) (newest func() error) {
	over, told := make(chan struct{}), make(chan error)
	go func() {
		var why error
		for {
			if err, _ := c.poll(pollTime).(error); errors.Is(err, errNoBroker) && !errors.Is(err, errAllDown) {
				why = err
			}
			select {
			case <-over:
				told <- why
				return
			default:
			}
		}
	}()
	return func() error { close(over); return <-told }
}
