package forwarder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// Redriven is what came of a redrive: letters sent back, those refused because they were sent back KPUSH_REDRIVE_MAX times or came from a
// topic that is not consumed here, and those of this group that nobody has looked at yet.
type Redriven struct{ Sent, Refused, Left int }

// Redrive sends dead letters of this group back to where they came from, limit of them at the most, the oldest first. How far it came is a
// commit of the group, made before each letter and after the last one: it survives this process, and a letter that may have been sent
// twice says so. It is made by the member that has the first partition: there is one at a time.
func (f *Forwarder) Redrive(ctx context.Context, who string, limit int) (Redriven, error) {
	switch {
	case f.cfg.DeadLetterTopic == "":
		return Redriven{}, fmt.Errorf("without KPUSH_DEAD_LETTER_TOPIC there is nothing to send back, so a redrive is %w", ErrAsked)
	case limit < 1:
		return Redriven{}, fmt.Errorf("a redrive of %d letters is %w", limit, ErrAsked)
	case !f.redriving.TryLock():
		return Redriven{}, fmt.Errorf("another redrive is under way, so this one is %w", ErrAsked)
	}
	defer f.redriving.Unlock()
	if err := f.mayRedrive(); err != nil {
		return Redriven{}, err
	}
	r := &redrive{f: f}
	if err := r.survey(ctx); err != nil {
		return Redriven{}, fmt.Errorf("the dead letter topic %s cannot be read: %w", f.cfg.DeadLetterTopic, err)
	}
	if err := f.audit(who, "redrive", fmt.Sprintf("%s, %d letters", f.cfg.DeadLetterTopic, limit)); err != nil {
		return Redriven{}, err
	}
	r.choose(limit)
	err := r.send(ctx)
	for _, g := range r.graves {
		r.came.Left += len(g.letters) - g.at
	}
	f.counts.redriven.Add(int64(r.came.Sent))
	f.counts.refused.Add(int64(r.came.Refused))
	f.log.Info("redrive", "topic", f.cfg.DeadLetterTopic, "sent", r.came.Sent, "refused", r.came.Refused, "left", r.came.Left, "error", err)
	return r.came, err
}

// mayRedrive tells whether this member is the one that does.
func (f *Forwarder) mayRedrive() error {
	if _, err := f.owned(f.cfg.Topics[0], 0); err != nil {
		return fmt.Errorf("letters are sent back by the member that has %s/0, and %w", f.cfg.Topics[0], err)
	}
	return nil
}

// redrive is one look at the dead letter topic, and what is sent back of it. It belongs to one goroutine.
type redrive struct {
	f      *Forwarder
	id     string // the topic's
	graves []*grave
	came   Redriven
}

// grave is a partition of the dead letter topic.
type grave struct {
	kafka.Position          // where it is read from
	end, until     int64    // of it, and of what is read of it
	sending        int64    // the letter that may have been sent back already; -1: there is none
	lost           bool     // nobody knows of the newest letter
	begun          bool     // a commit of this redrive says that a letter may be sent
	letters        []buried // of this group, in order
	chosen, at     int      // so many of them are to be looked at in this redrive, and were
}

// buried is a letter as far as it takes to choose.
type buried struct {
	offset, timestamp int64
	refused           bool
}

// The metadata of the commit that says how far the dead letters are sent back: redriveMark, the topic's id, and redriveSending where the
// letter at the committed offset may have been sent.
const (
	redriveMark    = "kpush-redrive"
	redriveSending = "sending"
)

// survey finds out where to go on, and which letters of this group there are behind that.
func (r *redrive) survey(ctx context.Context) error {
	f := r.f
	found, err := f.parts.Cluster.Topics(ctx, []string{f.cfg.DeadLetterTopic}, kafka.Read)
	if err != nil {
		return err
	}
	if r.id = found[f.cfg.DeadLetterTopic].ID; r.id == "" {
		r.id = "-"
	}
	tps, err := f.parts.Cluster.Partitions(ctx, []string{f.cfg.DeadLetterTopic})
	if err != nil {
		return err
	}
	slices.SortFunc(tps, kafka.Compare)
	bounds, err := f.parts.Cluster.Bounds(ctx, tps)
	if err != nil {
		return err
	}
	commits, err := f.parts.Consumer.Committed(tps, kafka.QuestionTime)
	if err != nil {
		return err
	}
	known := false
	for _, c := range commits {
		g := r.begin(c, bounds[c.Partition])
		known = known || c.Offset >= 0
		r.graves = append(r.graves, g)
	}
	if !known {
		f.log.Info("Kafka knows of no earlier redrive of this group: it begins at the oldest letter", "topic", f.cfg.DeadLetterTopic)
	}
	return r.read(ctx, r.graves, func(g *grave, m *kafka.Message) error {
		if last(m.Headers, letterGroup) == f.cfg.Group {
			refused := redrives(m.Headers) >= f.cfg.RedriveMax || !slices.Contains(f.cfg.Topics, last(m.Headers, letterTopic))
			g.letters = append(g.letters, buried{m.Offset, m.Timestamp, refused})
		}
		return nil
	})
}

// begin says where a partition is read from, by the group's commit: one without kpush's mark is an operator's word, one of an earlier topic
// of the name does not apply.
func (r *redrive) begin(c kafka.Commit, b kafka.Bounds) *grave {
	g := &grave{Position: kafka.Position{Partition: c.Partition, Offset: max(c.Offset, b.Oldest)}, end: b.End, until: b.End, sending: -1}
	mark := append(strings.Fields(c.Meta), "", "", "")
	ours := mark[0] == redriveMark
	if c.Offset > b.High || ours && mark[1] != r.id {
		g.Offset = b.Oldest
	} else if ours && mark[2] == redriveSending {
		g.sending = c.Offset
	}
	return g
}

// choose takes the oldest letters: of each partition those in front, so that what has one key keeps its order.
func (r *redrive) choose(limit int) {
	for {
		var oldest *grave
		for _, g := range r.graves {
			if g.chosen < len(g.letters) && (oldest == nil || g.letters[g.chosen].timestamp < oldest.letters[oldest.chosen].timestamp) {
				oldest = g
			}
		}
		if oldest == nil {
			return
		}
		if !oldest.letters[oldest.chosen].refused {
			if limit == 0 {
				return
			}
			limit--
		}
		oldest.chosen++
	}
}

// errEnough ends the reading: the caller's time is over.
var errEnough = errors.New("the time is over")

// send sends the chosen letters back. Where the time is over it says so by what is left.
func (r *redrive) send(ctx context.Context) error {
	var chosen []*grave
	for _, g := range r.graves {
		if g.chosen > 0 {
			g.until = g.letters[g.chosen-1].offset + 1
			chosen = append(chosen, g)
		}
	}
	err := r.read(ctx, chosen, func(g *grave, m *kafka.Message) error {
		for g.at < g.chosen && g.letters[g.at].offset < m.Offset {
			g.at++ // retention was faster
		}
		switch {
		case g.at == g.chosen || g.letters[g.at].offset != m.Offset:
			return nil // another group's
		case ctx.Err() != nil:
			return errEnough
		case g.letters[g.at].refused:
			r.came.Refused++
		default:
			if err := r.sendBack(ctx, g, m); err != nil {
				return err
			}
		}
		g.at++
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return errors.Join(err, r.conclude(context.WithoutCancel(ctx)))
}

// conclude has Kafka know how far all partitions are done, but for one whose letter is in doubt: it stays so.
func (r *redrive) conclude(ctx context.Context) error {
	var list []kafka.Commit
	for _, g := range r.graves {
		next := g.end
		if g.at < len(g.letters) {
			next = g.letters[g.at].offset
		}
		if !g.lost && (next != g.Offset || g.at > 0 || g.begun) {
			list = append(list, r.mark(g, next, ""))
		}
	}
	if len(list) == 0 {
		return nil
	}
	return r.commit(ctx, list)
}

// sendBack sends one letter, of which Kafka knows before that it may be sent. What certainly is not in Kafka then is not in doubt.
func (r *redrive) sendBack(ctx context.Context, g *grave, m *kafka.Message) error {
	log := r.f.log.With("letter", fmt.Sprintf("%s/%d", m.Partition, m.Offset), "topic", last(m.Headers, letterTopic),
		"partition", last(m.Headers, letterPartition), "offset", last(m.Headers, letterOffset))
	doubt := m.Offset == g.sending
	if doubt {
		log.Warn("a dead letter is sent back that may have been sent back before: nobody knows")
	}
	if err := r.commit(ctx, []kafka.Commit{r.mark(g, m.Offset, redriveSending)}); err != nil {
		g.lost = doubt
		return err
	}
	g.begun = true
	offsets.Crash("letter to be sent back")
	back := original(m, doubt)
	at, err := r.f.produce(context.WithoutCancel(ctx), back)
	if err == nil {
		offsets.Crash("letter sent back, not known")
		r.came.Sent++
		log.Info("dead letter sent back", "to", fmt.Sprintf("%s/%d", at.Partition, at.Offset))
		return nil
	}
	absent := slices.ContainsFunc([]error{kafka.ErrNoTopic, kafka.ErrForbidden, kafka.ErrTooLarge, kafka.ErrInvalid, kafka.ErrQueueFull},
		func(is error) bool { return errors.Is(err, is) })
	g.lost = doubt || !absent
	return fmt.Errorf("the letter %s/%d cannot be sent back to %s: %w", m.Partition, m.Offset, back.Topic, err)
}

// mark is a commit that says how far a partition is done.
func (r *redrive) mark(g *grave, next int64, state string) kafka.Commit {
	return kafka.Commit{Partition: g.Partition, Offset: next, Meta: strings.TrimSpace(redriveMark + " " + r.id + " " + state)}
}

// commit has Kafka know it. It is refused where this member is not the one any more.
func (r *redrive) commit(ctx context.Context, list []kafka.Commit) error {
	ctx, cancel := context.WithTimeout(ctx, doneTime)
	defer cancel()
	for {
		if err := r.f.mayRedrive(); err != nil {
			return err
		}
		err := r.f.committer.extra(list)
		if err == nil {
			return nil
		}
		if !errors.Is(err, kafka.ErrRebalancing) || sleep(ctx, 100*time.Millisecond) != nil {
			return fmt.Errorf("Kafka does not take the commit of how far the dead letters are sent back: %w", err)
		}
	}
}

// keepTime is how often that commit is made anew: Kafka forgets one of a topic that nobody consumes after offsets.retention.minutes (7 days).
const keepTime = 12 * time.Hour

// keepRedriven does so.
func (f *Forwarder) keepRedriven(ctx context.Context) {
	for wait := time.Minute; sleep(ctx, wait) == nil; wait = keepTime {
		if f.mayRedrive() != nil || !f.redriving.TryLock() {
			continue
		}
		if err := f.renewRedriven(ctx); err != nil {
			f.log.Warn("the commit of how far the dead letters are sent back cannot be made anew; tried again in 12 h", "error", err)
		}
		f.redriving.Unlock()
	}
}

func (f *Forwarder) renewRedriven(ctx context.Context) error {
	tps, err := f.parts.Cluster.Partitions(ctx, []string{f.cfg.DeadLetterTopic})
	if err != nil {
		return err
	}
	list, err := f.parts.Consumer.Committed(tps, kafka.QuestionTime)
	if err != nil {
		return err
	}
	if list = slices.DeleteFunc(list, func(c kafka.Commit) bool { return c.Offset < 0 }); len(list) == 0 {
		return nil
	}
	return f.committer.extra(list)
}
