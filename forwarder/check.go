package forwarder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/kpush/kpush/forwarder/pace"
	"github.com/kpush/kpush/forwarder/start"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// Check connects, and tells what it finds of topics and group, with a client that has no instance id and joins nothing. It changes
// nothing. An error is sentences that say what is missing; what there is, is told all the same.
func Check(ctx context.Context, cfg Config, c kafka.Consumer, a kafka.Cluster, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 3*kafka.QuestionTime)
	defer cancel()
	k := &checking{cfg: cfg, cluster: a, w: w}
	listening := listen(c)
	err := k.look(ctx, c)
	why := ""
	if heard := listening(); heard != nil {
		why = unreachable(cfg.Brokers, heard)
	}
	switch {
	case errors.Is(err, errNoAnswer):
		err = fmt.Errorf("no broker at %s answers: %s", cfg.Brokers, cmp.Or(why, noReason))
	case err != nil && why != "":
		err = fmt.Errorf("%w: %s", err, why)
	}
	return errors.Join(append(k.missing, err)...)
}

// checking is one Check.
type checking struct {
	cfg     Config
	cluster kafka.Cluster
	w       io.Writer
	missing []error // what somebody has to change
}

var errNoAnswer = errors.New("no broker answers")

// lacks notes what is missing for something, nil for nothing.
func (k *checking) lacks(what string, err error) {
	if err != nil {
		k.missing = append(k.missing, fmt.Errorf("%s: %s", what, oneLine(err)))
	}
}

// look tells of what can be reached. An error is about what cannot.
func (k *checking) look(ctx context.Context, c kafka.Consumer) error {
	cfg, a := k.cfg, k.cluster
	id, err := a.ID(ctx)
	if err != nil {
		return errNoAnswer
	}
	topics, err := a.Topics(ctx, cfg.Topics, kafka.Read)
	if err != nil && len(topics) == 0 && !isAnswer(err) {
		return fmt.Errorf("cannot describe the topics: %w", err)
	}
	k.lacks("the topic", err)
	if cfg.DeadLetterTopic != "" {
		_, err := a.Topics(ctx, []string{cfg.DeadLetterTopic}, kafka.Write)
		k.lacks("the dead letter topic", err)
	}
	group, err := a.Group(ctx, cfg.Group)
	err = cmp.Or(a.Admits(ctx, cfg.Group), err)
	k.lacks("the group", err)
	admitted := err == nil
	var tps []kafka.Partition
	if len(topics) > 0 {
		if tps, err = a.Partitions(ctx, slices.Sorted(maps.Keys(topics))); err != nil {
			return fmt.Errorf("cannot describe the topics: %w", err)
		}
	}
	limits, err := a.Bounds(ctx, tps)
	for err != nil && sleep(ctx, time.Second) == nil { // a first connection may be slow
		limits, err = a.Bounds(ctx, tps)
	}
	if err != nil {
		return fmt.Errorf("cannot look up where the partitions begin and end: %w", err)
	}
	commits := make([]kafka.Commit, len(tps))
	for i, t := range tps {
		commits[i] = kafka.Commit{Partition: t, Offset: -1}
	}
	if admitted && len(tps) > 0 {
		if commits, err = c.Committed(tps, 3*kafka.QuestionTime); err != nil {
			return fmt.Errorf("cannot look up what group %s has committed: %w", cfg.Group, err)
		}
	}
	fmt.Fprintf(k.w, "cluster %s, group %s\n\n", id, cfg.Group)
	if err := k.table(id, topics, commits, limits); err != nil {
		return err
	}
	k.notes(commits, limits, group)
	return k.static(c.TooOld())
}

// isAnswer tells whether an error is Kafka's word, and none about reaching it.
func isAnswer(err error) bool {
	return errors.Is(err, kafka.ErrNoTopic) || errors.Is(err, kafka.ErrForbidden)
}

func (k *checking) table(cluster string, topics map[string]kafka.Topic, commits []kafka.Commit, limits map[kafka.Partition]kafka.Bounds) error {
	t := tabwriter.NewWriter(k.w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "partition\ttopic id\toldest\tend\tcommitted\tby\tlag\tdone out of order\topen")
	for _, c := range commits {
		fmt.Fprintln(t, checked{c, limits[c.Partition], cluster, topics[c.Topic].ID}.row())
	}
	return t.Flush()
}

func (k *checking) notes(commits []kafka.Commit, limits map[kafka.Partition]kafka.Bounds, group kafka.Group) {
	for _, c := range commits {
		if b := limits[c.Partition]; b.High > b.End {
			fmt.Fprintln(k.w, "note:", transaction(c.Partition, b.End, b.High))
		}
	}
	if n := len(commits); k.cfg.Order == pace.ByPartition && !k.cfg.Adaptive && k.cfg.Concurrency > n {
		fmt.Fprintf(k.w, "note: with KPUSH_ORDER=partition there is one request a partition at the most, %d together, and KPUSH_CONCURRENCY=%d is not reached\n", n, k.cfg.Concurrency)
	}
	if group.Assignor != "" && group.Assignor != kafka.Assignor {
		fmt.Fprintf(k.w, "note: group %s has %d members that use the assignor %s: Kafka refuses this one, which uses %s, unless all of them can do that, too\n",
			k.cfg.Group, len(group.Members), group.Assignor, kafka.Assignor)
	}
}

// static says what a broker that is too old for static members means.
func (k *checking) static(broker string) error {
	switch {
	case broker == "" || k.cfg.InstanceID == "":
		return nil
	case k.cfg.MustBeStatic:
		return tooOld(broker)
	}
	fmt.Fprintln(k.w, "note:", notStatic(broker, k.cfg.Session))
	return nil
}

// checked is what Kafka says of a partition.
type checked struct {
	kafka.Commit
	bounds           kafka.Bounds
	cluster, topicID string
}

// row is its line of the table. Where a transaction is open, both ends and both lags are in it: for this consumer, and for the log.
func (c checked) row() string {
	b := c.bounds
	committed, from := "-", b.Oldest
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
	end, behind := fmt.Sprint(b.End), fmt.Sprint(lag)
	if b.High > b.End {
		end, behind = fmt.Sprintf("%s (%d)", end, b.High), fmt.Sprintf("%s (%d)", behind, max(0, b.High-from))
	}
	return fmt.Sprintf("%s\t%s\t%d\t%s\t%s\t%s\t%s\t%d\t%d", c.Partition, offsets.URLSafe(c.topicID), b.Oldest, end, committed, by, behind, outOfOrder, lag-outOfOrder)
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
	case offsets.Remade(m.TopicID, c.topicID):
		return "kpush, for an earlier topic of this name", nil, false
	case m.Paused:
		return "kpush, paused by an operator", m.Done, true
	}
	return "kpush", m.Done, true
}

// listen listens to the client, which tells on its own why it reaches no broker. Call what it returns for the newest reason,
// nil where it gave none; that ends it.
func listen(c kafka.Reader) (newest func() error) {
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
