package wire

import (
	"io"
	"slices"
)

// Limit is how much of an answer is read: of its body, and of its head and trailer together. No answer that anybody means is larger.
const Limit = 1 << 20

// Answer is what one exchange brought back. It is the caller's; the wire keeps nothing of it.
type Answer struct {
	Sent       bool // something of the request went out, so it may have reached the service
	Stale      bool // it went out on a connection that had served before, which ended without a byte of an answer
	Err        error
	Status     int    // 0: no answer
	Action     string // the header Kafka-Action
	RetryAfter string // the header Retry-After
	Encoding   string // the header Content-Encoding
	Body       []byte // at most Limit bytes
	BodyErr    error  // the body broke off
}

// Reset forgets the answer and keeps the room for its body.
func (a *Answer) Reset() { *a = Answer{Body: a.Body[:0]} }

// read appends what comes to the body, up to limit bytes in all.
func (a *Answer) read(from io.Reader, limit int) error {
	for len(a.Body) < limit {
		if len(a.Body) == cap(a.Body) {
			a.Body = slices.Grow(a.Body, min(limit-len(a.Body), max(512, len(a.Body))))
		}
		n, err := from.Read(a.Body[len(a.Body):min(cap(a.Body), limit)])
		a.Body = a.Body[:len(a.Body)+n]
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}
