package wire

import (
	"io"
	"slices"
)

// Limit is how much of an answer is read: of its body, and of its head and trailer together. What is larger costs its connection.
const Limit = 1 << 20

// Answer is what one exchange brought back. It is the caller's; the wire keeps nothing of it.
type Answer struct {
	Keep func(status int) int // how much of a body Body has to hold, what is read beyond it is thrown away; nil: Limit. The caller's

	Sent       bool // something of the request went out, so it may have reached the service
	Stale      bool // it went out on a connection that had served before, which ended without a byte of an answer, or held the rest of another
	Last       bool // the answer came on a connection that had served before, and does not any more
	Err        error
	Status     int    // 0: no answer
	Action     string // the header Kafka-Action
	RetryAfter string // the header Retry-After
	Encoding   string // the header Content-Encoding
	Body       []byte // at most Limit bytes, or what Keep says
	BodyErr    error  // the body broke off
}

// Reset forgets the answer and keeps the room for its body.
func (a *Answer) Reset() { *a = Answer{Keep: a.Keep, Body: a.Body[:0]} }

// read reads a body, most bytes of it, and tells how many there were. The first ones are kept, the others thrown away as they come.
func (a *Answer) read(from io.Reader, most int) (size int, err error) {
	keep := most
	if a.Keep != nil {
		keep = min(a.Keep(a.Status), most)
	}
	if ended, err := a.fill(from, keep); err != nil || ended {
		return len(a.Body), err
	}
	if keep == most {
		return most, nil
	}
	more, err := io.CopyN(io.Discard, from, int64(most-keep))
	if err == io.EOF {
		err = nil
	}
	return keep + int(more), err
}

// fill appends what comes to the body, up to limit bytes in all; ended: there was no more before that.
func (a *Answer) fill(from io.Reader, limit int) (ended bool, err error) {
	for len(a.Body) < limit {
		if len(a.Body) == cap(a.Body) {
			a.Body = slices.Grow(a.Body, min(limit-len(a.Body), max(512, len(a.Body))))
		}
		n, err := from.Read(a.Body[len(a.Body):min(cap(a.Body), limit)])
		a.Body = a.Body[:len(a.Body)+n]
		if err == io.EOF {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}
