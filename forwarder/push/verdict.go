package push

import (
	"context"
	"fmt"
	"time"

	"github.com/kpush/kpush/forwarder/wire"
	"github.com/kpush/kpush/kafka"
)

// Handler takes messages. The default one, Service, POSTs them; a Go program may handle them in place.
type Handler interface {
	// Push makes one attempt and says what it came to. It is called by many goroutines at once, for each partition or key in
	// its order. It keeps neither the Attempt nor what is in it.
	Push(*Attempt) Verdict
}

// Attempt is one message, or a batch of them that are of one partition. It is on record that it begins.
type Attempt struct {
	Items []*Item
	Host  int   // which of the service's hosts it goes to
	Trace Trace // where its request belongs, instead of what the record says; zero: what the record says
	// Gate's context ends when nobody waits for the verdict any more. Who has waited for something, a connection say, asks
	// Cleared right before it acts.
	Gate wire.Gate
}

// Context ends when nobody waits for the verdict any more; its cause is why.
func (a *Attempt) Context() context.Context { return a.Gate.Context() }

// Item is a message with what is known of it beside Kafka's record. It lives from the first attempt to the outcome.
type Item struct {
	*kafka.Message
	TopicID string // "" where the cluster has none
	Cluster string // its id, "" where it has none
	Group   string
	Attempt int  // 1, 2, …: counted over restarts
	InDoubt bool // an earlier attempt may have reached the service
	Replay  bool // it was done before, and an operator wants it again

	slim     bool    // key and headers are left out
	why      refusal // because of that
	innocent refusal // for these they are not why
	mute     int     // large heads in a row without an answer
}

// ID is the same for every delivery of this record, whoever delivers it and how often:
// TOPIC/PARTITION/OFFSET, followed by /TOPICID where the cluster has topic ids.
func (it *Item) ID() string { return string(appendID(nil, it)) }

// Class is what one attempt came to: a closed set, from the response table of the README.
type Class int

// The classes.
const (
	Delivered    Class = iota // the service has it
	MessageFault              // the service failed on this message: counts towards giving up
	ServiceFault              // the service cannot be reached or does not know the URL: does not count
	Busy                      // the service asks to slow down: does not count
	Skip                      // the service asked to pass this message over
	GiveUp                    // the service asked to give this message up, where messages are given up
	Drop                      // the service asked to give this message up in any case
	Aborted                   // the attempt says nothing: it was cancelled (stop, revoked partition), or could not be made
)

var classNames = [...]string{"delivered", "message fault", "service fault", "busy", "skip", "give up", "drop", "aborted"}

// String is the class in words.
func (c Class) String() string {
	if c < 0 || int(c) >= len(classNames) {
		return fmt.Sprintf("class %d", int(c))
	}
	return classNames[c]
}

// Verdict is an attempt's class with what an operator wants to know of it. The zero one says Delivered.
type Verdict struct {
	Class      Class
	Status     int           // HTTP status, 0 where there was no answer
	Reason     string        // one clause, never a body
	Answer     string        // the beginning of the body, as printable text, where it is not Delivered: for the operator alone
	Response   []byte        // the first Config.Response bytes of the body as they came, where it is not Delivered; nil: nothing came
	InDoubt    bool          // the request may have reached the service, which did not say so
	RetryAfter time.Duration // the service asked for this pause; 0: it did not
	Failed     []int64       // of a batch that is Delivered: the offsets that are not, by a fault of theirs
	Sent       string        // what of the request may be why the service refused it, without the message's content
	Absent     bool          // nobody listens there
	Stale      bool          // a kept connection had ended: the next attempt takes a new one, at once
	Wants      bool          // kpush itself has no descriptor, port or memory for a connection
	Spared     bool          // its headers may be why, which the next attempt tells: it counts for nothing
}

// Ending is the cause of an attempt that was ended from outside: nobody's fault.
type Ending string

func (e Ending) Error() string { return string(e) }
