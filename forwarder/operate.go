package forwarder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kpush/kpush/kafka"
)

// What an operator's command may fail for, beside a volume or a Kafka that does not answer in time. Each is wrapped with a sentence.
var (
	ErrNotOurs    = errors.New("not assigned to this process")
	ErrHeld       = errors.New("assigned to this process, and not started")
	ErrMoves      = errors.New("ends or starts here at this moment")
	ErrNoSuch     = errors.New("no such topic or partition")
	ErrNotFailing = errors.New("not failing")
	ErrEnding     = errors.New("kpush is stopping")
	ErrAsked      = errors.New("not to be done")
)

// All stands for every partition of a topic.
const All = int32(-1)

// Moved is an entry of the audit: who asked for what, when. It is on the volume before anything is done.
type Moved struct {
	Time time.Time `json:"time"`
	Who  string    `json:"who"`
	Did  string    `json:"did"` // skip, pause, resume, seek, resend, redrive
	To   string    `json:"to"`  // what it was done to, in words: TOPIC/PARTITION/OFFSET, blocked, …
}

// An operator's command waits for so long until what it has done is on record, and looks so often whether it is.
const (
	doneTime = 10 * time.Second
	lookTime = 5 * time.Millisecond
)

// audit has a command on the volume before anything of it is done. Guarantee 1 may have none: then nothing that needs it is done, and of
// all else the log is the audit, or a pause that came with the partition could not be ended there.
func (f *Forwarder) audit(who, did, to string) error {
	if _, stopping := f.health.stopDeadline(); stopping {
		return ErrEnding
	}
	about := []any{"who", who, "did", did, "to", to}
	err := f.skips.append(auditName, Moved{Time: time.Now().UTC(), Who: who, Did: did, To: to})
	switch needs := did == "skip" && f.cfg.DeadLetterTopic == ""; {
	case err == nil:
		f.log.Info("an operator asks", about...)
	case needs || !f.skips.absent():
		return fmt.Errorf("the audit cannot be written, so nothing is done: %w", err)
	default:
		f.log.Warn("an operator asks, and there is no volume for the audit: it is this line", append(about, "error", err)...)
	}
	return nil
}

// refusal is a sentence of its own that is one of these errors.
type refusal struct {
	error
	kind error
}

func (r refusal) Unwrap() error { return r.kind }

func refuse(kind error, format string, args ...any) error {
	return refusal{fmt.Errorf(format, args...), kind}
}

const auditName = "audit.jsonl"

// Audit is who moved what, oldest first.
func (f *Forwarder) Audit() ([]Moved, error) {
	var all []Moved
	err := each(f.skips, auditName, func(m Moved) { all = append(all, m) })
	return all, err
}

// owned are the partitions of a topic ("": of all) that deliver, or that one. While the process stops there are none.
func (f *Forwarder) owned(topic string, number int32) ([]*partition, error) {
	var all []*partition
	for _, p := range f.consumer.running() {
		if isMeant(p.Partition, topic, number) && p.goes() {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, byName)
	switch {
	case topic != "" && !slices.Contains(f.cfg.Topics, topic):
		return nil, fmt.Errorf("%s: %w in KPUSH_TOPIC", topic, ErrNoSuch)
	case len(all) > 0:
		return all, nil
	}
	err := f.absent(topic, number)
	if errors.Is(err, ErrNotOurs) && number != All && !f.exists(topic, number) {
		err = fmt.Errorf("%s: %w", where(topic, number), ErrNoSuch)
	}
	return nil, err
}

// absent says why what was asked for is not to be had here.
func (f *Forwarder) absent(topic string, number int32) error {
	if _, stopping := f.health.stopDeadline(); stopping {
		return ErrEnding
	}
	if slices.ContainsFunc(f.consumer.running(), func(p *partition) bool { return isMeant(p.Partition, topic, number) }) {
		return fmt.Errorf("%s %w: ask again", where(topic, number), ErrMoves)
	}
	held, err := f.waiting(topic, number)
	switch {
	case err != nil:
		return err
	case len(held) > 0:
		return fmt.Errorf("%s is %w: %v", held[0], ErrHeld, f.consumer.published.Load().pending[held[0]])
	case topic == "":
		return refuse(ErrNotOurs, "no partition is assigned to this process, which is a spare member of its group, or still waits for them (GET /readyz says for what): ask the other replicas")
	case number == All:
		return refuse(ErrNotOurs, "no partition of %s is assigned to this process: ask the other replicas", topic)
	}
	return fmt.Errorf("%s is %w: ask the replica that has it", where(topic, number), ErrNotOurs)
}

// waiting are the partitions that are assigned, and held until somebody acts. One that waits for anything else is an error: it will start.
func (f *Forwarder) waiting(topic string, number int32) (held []kafka.Partition, err error) {
	for t, why := range f.consumer.published.Load().pending {
		switch {
		case !isMeant(t, topic, number), errors.As(why, new(goneError)):
		case errors.As(why, new(holdError)):
			held = append(held, t)
		default:
			return nil, fmt.Errorf("%s %w: ask again; it is not started: %v", t, ErrMoves, why)
		}
	}
	slices.SortFunc(held, kafka.Compare)
	return held, nil
}

// Rest says that a command for a topic ("": for all) was not for all of its partitions, but for so many: others are held here, or other
// replicas have them. "": it was, or Kafka does not say how many there are.
func (f *Forwarder) Rest(ctx context.Context, topic string, done int) string {
	topics := []string{topic}
	if topic == "" {
		topics = f.cfg.Topics
	}
	ctx, cancel := context.WithTimeout(ctx, kafka.QuestionTime)
	defer cancel()
	all, err := f.parts.Cluster.Partitions(ctx, topics)
	if err != nil || len(all) <= done {
		return ""
	}
	held, _ := f.waiting(topic, All)
	note := fmt.Sprintf("of the %d partitions of %s this process has %d", len(all), strings.Join(topics, ", "), done+len(held))
	if len(held) > 0 {
		note += fmt.Sprintf(", of which are not started: %s", names(held))
	}
	if len(all) > done+len(held) {
		note += "; ask the other replicas for the rest"
	}
	return note
}

// isMeant tells whether a command for a topic ("": for all) and a number, or All, is about a partition.
func isMeant(t kafka.Partition, topic string, number int32) bool {
	return (topic == "" || t.Topic == topic) && (number == All || t.Number == number)
}

// exists tells whether a topic has a partition, as far as Kafka says so.
func (f *Forwarder) exists(topic string, number int32) bool {
	ctx, cancel := context.WithTimeout(context.Background(), kafka.QuestionTime)
	defer cancel()
	all, err := f.parts.Cluster.Partitions(ctx, []string{topic})
	return err != nil || slices.Contains(all, kafka.Partition{Topic: topic, Number: number})
}

// where is what a command is about, in words.
func where(topic string, number int32) string {
	switch {
	case topic == "":
		return "everything"
	case number == All:
		return topic
	}
	return kafka.Partition{Topic: topic, Number: number}.String()
}

// await waits until done, which the caller asked for.
func await(ctx context.Context, what string, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, doneTime)
	defer cancel()
	for !done() {
		if sleep(ctx, lookTime) != nil {
			return fmt.Errorf("%s is not on record yet: look again, or repeat the command", what)
		}
	}
	return nil
}

// Pause lets no new attempt begin at partitions of a topic ("": of all topics), until Resume. It is in Kafka when it returns: it
// survives a restart, and a move to another machine.
func (f *Forwarder) Pause(ctx context.Context, who, topic string, number int32) ([]kafka.Partition, error) {
	f.renewTopics(ctx)
	return f.hold(ctx, who, "pause", topic, number, (*gate).shut)
}

// Resume ends Pause.
func (f *Forwarder) Resume(ctx context.Context, who, topic string, number int32) ([]kafka.Partition, error) {
	return f.hold(ctx, who, "resume", topic, number, (*gate).open)
}

// hold opens or shuts the gates of partitions, and has Kafka told.
func (f *Forwarder) hold(ctx context.Context, who, did, topic string, number int32, turn func(*gate)) ([]kafka.Partition, error) {
	ps, err := f.owned(topic, number)
	if err != nil {
		return nil, err
	}
	if _, err := f.waiting(topic, number); err != nil {
		return nil, err
	}
	if err := f.audit(who, did, where(topic, number)); err != nil {
		return nil, err
	}
	told := make([]int64, len(ps))
	for i, p := range ps {
		turn(&p.gate)
		p.lanes.Resume()
		told[i] = p.changes.Add(1)
	}
	f.committer.now()
	untold := func() int {
		return slices.IndexFunc(ps, func(p *partition) bool { return !p.ceiling.tells(told[slices.Index(ps, p)]) })
	}
	what := fmt.Sprintf("the %s of %s", did, where(topic, number))
	if err := await(ctx, what, func() bool { i := untold(); return i < 0 || !ps[i].goes() }); err != nil {
		return partitionsOf(ps), err
	}
	if i := untold(); i >= 0 {
		return partitionsOf(ps), fmt.Errorf("Kafka has not taken %s: %w", what, f.absent(ps[i].Topic, ps[i].Number))
	}
	return partitionsOf(ps), nil
}

// pausedHere tells of which partitions the newest command of the audit was a pause: it counts where Kafka's commit has no mark that applies,
// because somebody has wiped it, the topic was made again, or the broker takes none.
func (f *Forwarder) pausedHere() func(kafka.Partition) bool {
	var commands []Moved
	_ = each(f.skips, auditName, func(m Moved) { // without an audit nothing was paused here
		if m.Did == "pause" || m.Did == "resume" {
			commands = append(commands, m)
		}
	})
	return func(t kafka.Partition) bool {
		for _, m := range slices.Backward(commands) {
			if m.To == where("", All) || m.To == t.Topic || m.To == t.String() {
				return m.Did == "pause"
			}
		}
		return false
	}
}
