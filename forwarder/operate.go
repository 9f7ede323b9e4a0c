package forwarder

import (
	"context"
	"errors"
	"time"

	"github.com/kpush/kpush/kafka"
)

// What an operator's command may fail for, beside a volume or a Kafka that does not answer in time. Each is wrapped with a sentence.
var (
	ErrNotOurs    = errors.New("not assigned to this process")
	ErrNoSuch     = errors.New("no such topic or partition")
	ErrNotFailing = errors.New("not failing")
	ErrEnding     = errors.New("kpush is stopping")
	ErrAsked      = errors.New("not to be done")
)

// Selection says which failing messages are meant: Blocked, or those of Topic with Key, or the one at Position.
type Selection struct {
	kafka.Position
	Blocked bool
	Key     []byte // nil: not by key
}

// Target says where a partition is to go on: at Offset, at the first message of Time or later, at its oldest one, or at its end.
type Target struct {
	Offset         int64
	Time           time.Time
	Beginning, End bool
}

// All stands for every partition of a topic.
const All = int32(-1)

// SkippedMessage is one of the skip log.
type SkippedMessage struct {
	kafka.Position
	ID       string
	Key      []byte
	Size     int // of the value, bytes
	Attempts int
	Reason   string
	InDoubt  bool
	Skipped  time.Time
	Resent   time.Time // zero: it was not
}

// Resent is what came of sending a skipped message again.
type Resent struct {
	kafka.Position
	Delivered bool
	Reason    string // why not
}

// Moved is an entry of the audit: who asked for what, when. It is on the volume before anything is done.
type Moved struct {
	Time time.Time `json:"time"`
	Who  string    `json:"who"`
	Did  string    `json:"did"` // skip, pause, resume, seek, resend
	To   string    `json:"to"`  // what it was done to, in words: TOPIC/PARTITION/OFFSET, blocked, …
}

// Skip gives failing messages up, as skipped, and says how many. They are on record when it returns.
func (f *Forwarder) Skip(ctx context.Context, who string, s Selection) (int, error) { panic("later") }

// Pause lets no new attempt begin at partitions of a topic ("": of all topics), until Resume. It is in Kafka when it returns: it
// survives a restart, and a move to another machine.
func (f *Forwarder) Pause(ctx context.Context, who, topic string, partition int32) ([]kafka.Partition, error) {
	panic("later")
}

// Resume ends Pause.
func (f *Forwarder) Resume(ctx context.Context, who, topic string, partition int32) ([]kafka.Partition, error) {
	panic("later")
}

// Seek is an operator's reset while the process runs: nothing of what was known of the partitions applies any more. It is on the
// volume and in Kafka when it returns.
func (f *Forwarder) Seek(ctx context.Context, who, topic string, partition int32, to Target) ([]kafka.Position, error) {
	panic("later")
}

// Skipped is what the skip log holds, oldest first.
func (f *Forwarder) Skipped() ([]SkippedMessage, error) { panic("later") }

// Resend sends skipped messages to the service once more, outside of any order, and notes in the skip log that it did. nil: all that
// were not sent again yet.
func (f *Forwarder) Resend(ctx context.Context, who string, which []kafka.Position) ([]Resent, error) {
	panic("later")
}

// Audit is who moved what, oldest first.
func (f *Forwarder) Audit() ([]Moved, error) { panic("later") }
