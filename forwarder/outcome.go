package forwarder

import "time"

// Class is what one attempt came to: a closed set, from the response table of the README.
type Class int

const (
	Delivered    Class = iota // the service has it
	MessageFault              // the service failed on this message: counts towards giving up
	ServiceFault              // the service cannot be reached or does not know the URL: does not count
	Busy                      // the service asks to slow down: does not count
	Skip                      // the service asked to pass this message over
	GiveUp                    // the service asked to give this message up
	Aborted                   // the attempt was cancelled (stop, revoked partition): no outcome
)

var classNames = [...]string{"delivered", "message fault", "service fault", "busy", "skip", "give up", "aborted"}

func (c Class) String() string { return classNames[c] }

// Verdict is an attempt's class with what an operator wants to know of it.
type Verdict struct {
	Class      Class
	Status     int           // HTTP status, 0 where there was no answer
	Reason     string        // one clause, never a body
	InDoubt    bool          // the request may have reached the service, which did not say so
	RetryAfter time.Duration // the service asked for this pause; 0: it did not
	shared     bool          // with others of a batch: nobody knows whose fault it was
	elsewhere  bool          // another host is tried at once, so it counts for nothing yet
	slimmer    bool          // the next attempt leaves key and headers out, so it counts for nothing yet
}

// Outcome is the end of a message's way: Delivered or Skip. Anything else is no outcome, and the message comes again.
type Outcome struct {
	Class  Class
	Reason string // why it was skipped
}

// Handler brings messages to their outcome. The default one POSTs them; a Go program may handle them in place.
type Handler interface {
	// Handle returns when the message has its outcome, or with an error when it was stopped before. Around each attempt
	// it calls Begin, which waits for its turn, and End; the first Begin comes before anything that may wait, because the
	// outcome of the message before may go on record with it. No attempt begins once d.Waits() has ended; one under way may go
	// on until d.Attempt() ends.
	Handle(d *Delivery) (Outcome, error)
}
