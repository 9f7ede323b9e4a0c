// Package kafka is the words for what kpush does with Kafka, and what it needs of a client: types, interfaces and errors.
//
// It promises nothing and owns no state; kafka/librdkafka keeps these promises with a client, the tests with a log in memory.
// It must not know any client, nor what is done with a message.
package kafka

import (
	"cmp"
	"context"
	"fmt"
	"time"
)

// Partition names one partition of a topic.
type Partition struct {
	Topic  string
	Number int32
}

// String is TOPIC/NUMBER.
func (p Partition) String() string { return fmt.Sprintf("%s/%d", p.Topic, p.Number) }

// Compare orders partitions by topic and number.
func Compare(a, b Partition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Number, b.Number))
}

// Position is an offset in a partition.
type Position struct {
	Partition
	Offset int64
}

// Commit is a group's offset in Kafka with its metadata. Offset < 0 means that there is none.
type Commit struct {
	Partition
	Offset int64
	Meta   string
}

// Bounds are the oldest offset a partition still has, where it ends for this consumer (before the first open transaction, where
// it reads what is committed only), and the offset that the next record gets.
type Bounds struct{ Oldest, End, High int64 }

// Message is one record of a topic. Nobody changes it but who holds it, who may use Next and Size.
type Message struct {
	Partition
	Offset    int64
	Timestamp int64  // milliseconds since 1970, as the producer or the topic's log says; -1, as in the log, where the record has none
	Key       []byte // nil: no key
	Value     []byte // nil: a tombstone
	Headers   []Header

	Next *Message // in its holder's queue
	Size int      // that its holder gives it
}

// Header is one Kafka header. A nil value is Kafka's null.
type Header struct {
	Name  string
	Value []byte
}

// Reader is what messages come from. It belongs to one goroutine, but for End.
type Reader interface {
	// Poll returns what has come within timeout: a message, an error to be weighed, or neither. It may return early.
	Poll(timeout time.Duration) (*Message, error)
	Pause([]Partition) error
	Resume([]Partition) error
	Positions([]Partition) ([]Position, error)
	End(Partition) int64 // of the log, as of the newest fetch; -1 if not known
	Close() error        // may block for ever, but not where the client has failed: a FatalError then
}

// Consumer is a member of a group. It belongs to one goroutine, but for Commit, Committed, Member, Reach, TooOld and Wake.
type Consumer interface {
	Reader
	Subscribe(topics []string, on Rebalance) error
	Unsubscribe() error
	Assign([]Position) error // these too; clears their pauses
	Unassign([]Partition) error
	Committed([]Partition, time.Duration) ([]Commit, error)
	Commit([]Commit) error // all or an error; may block for as long as a broker is silent
	Wake()                 // ends a Poll, or the next one
	// Member is the id under which the group gave what is assigned, "" once this client has heard that the membership has ended, or has
	// failed. Nothing is committed then (ErrNotMember).
	Member() string
	// Reach asks a broker and the group's coordinator; an error says that one of them had no answer within timeout each. While the
	// group rebalances the coordinator need not have one.
	Reach(timeout time.Duration) error
	// TooOld is a broker that knows no static members (Kafka before 2.3), as far as brokers have been asked; "" for none.
	TooOld() string
	// Renew goes on with a new client, as the same member of the same subscription, instead of one that reaches no broker any more.
	// Nothing is assigned to it yet, of the old one nothing is heard again, and a Commit under way ends with ErrRenewed.
	Renew() error
}

// Rebalance is called on the goroutine that polls or closes. What a member keeps that has been expelled, and has joined anew, is
// revoked as lost, and then assigned.
type Rebalance struct {
	Assigned func([]Partition)
	Revoked  func(gone []Partition, lost bool) // lost: they may be somebody else's already
}

// Topic is what a cluster says of one.
type Topic struct {
	ID         string // as in kpush's file and marks; "" where the cluster has none
	Partitions int32
}

// Group is what the coordinator says of one.
type Group struct {
	Rebalancing bool     // it waits for members before it gives its partitions out anew
	Members     []string // ids
	Assignor    string   // that its members have agreed on; "" where they have none, or leave that to the broker
}

// Cluster is what a broker is asked beside consuming. It is safe for concurrent use.
type Cluster interface {
	ID(context.Context) (string, error)
	// Topics are those of the names that there are, also beside an error about others, or about those where Kafka says that the right is
	// missing.
	Topics(ctx context.Context, names []string, may Right) (map[string]Topic, error)
	// Partitions are all of the topics'.
	Partitions(ctx context.Context, topics []string) ([]Partition, error)
	// Bounds is what was learned, also beside an error: a broker that does not answer leaves out only what it leads.
	Bounds(context.Context, []Partition) (map[Partition]Bounds, error)
	// Since is the offset of the first record of that time or later, -1 where there is none, or where Kafka has cut the log a moment ago: it
	// still looks into a segment that is to be removed, and no further. Newest tells these two apart.
	Since(context.Context, []Partition, time.Time) (map[Partition]int64, error)
	// Newest is the time of the newest record, also where that cannot be read yet. Nothing is said of a partition that holds none.
	Newest(context.Context, []Partition) (map[Partition]time.Time, error)
	// Group is one without members, too, where there is none of the name.
	Group(ctx context.Context, name string) (Group, error)
	// Admits is ErrForbidden where this process may not be a member of the group.
	Admits(ctx context.Context, group string) error
	Close()
}

// Right is what a process may do with a topic.
type Right string

// The rights, as Kafka's ACLs name them.
const (
	Read  Right = "READ"
	Write Right = "WRITE"
)

// Assignor is the one of a Consumer.
const Assignor = "cooperative-sticky"

// Record is what is to be produced.
type Record struct {
	Topic     string
	Partition int32 // AnyPartition: by the key, as the Java client does
	Timestamp int64 // milliseconds since 1970, 0: now
	Key       []byte
	Value     []byte // nil: a tombstone
	Headers   []Header
	Batch     int // bytes that the topic takes of records at once; 0: not known
}

// AnyPartition leaves the choice to the producer.
const AnyPartition = int32(-1)

// Produced is where a record is.
type Produced struct {
	Position
	Timestamp int64 // milliseconds since 1970
}

// Producer writes to Kafka with acks=all, idempotently, and in the order in which it was asked for each key. It is safe for
// concurrent use.
type Producer interface {
	// Produce returns when Kafka has acknowledged the record, or why it has not: ErrNoTopic, ErrForbidden, ErrTooLarge, ErrInvalid and ErrQueueFull
	// say that it is not in Kafka, ErrNoBroker that no broker was there in time, ErrUnknown that nobody knows. It is never longer than the
	// delivery timeout, whatever ctx says.
	Produce(context.Context, Record) (Produced, error)
	// Queue returns once the record is in the queue, and calls done once with what came of it, on another goroutine. It keeps none of the
	// record's bytes.
	Queue(r Record, done func(Produced, error)) error
	Queued() int                      // records without an answer
	Flush(context.Context) (left int) // waits until there are none, or ctx ends
	Close()
}

// QuestionTime bounds one question to the cluster; whoever asks asks again.
const QuestionTime = 3 * time.Second
