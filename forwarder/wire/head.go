package wire

import (
	"bufio"
	"bytes"
	"errors"
	"strconv"
	"strings"
)

// answerHead is what matters of the head of an answer, read as net/http reads it. Everything else is skipped in place.
type answerHead struct {
	status             int
	length             int // Content-Length, or -1
	chunked            bool
	action, retryAfter string // the first that is not empty
	encoding           string // likewise
	old                bool   // HTTP/1.0
	keepAlive, close   bool   // tokens of Connection
	left               int    // how much of head and trailer may still come
	long               []byte // room for a line that is not in one piece
}

// None of them holds what the service wrote.
var (
	errNotHTTP   = errors.New("what came is no HTTP answer")
	errLength    = errors.New("what came is no HTTP answer: its Content-Length is no number, or there are different ones")
	errCoding    = errors.New("what came is no HTTP answer: its Transfer-Encoding is another than chunked")
	errHeadLarge = errors.New("the head of the answer is larger than 1 MiB, or its trailer")
)

// read reads one head, through its empty line.
func (h *answerHead) read(in *bufio.Reader) error {
	*h = answerHead{length: -1, left: Limit, long: h.long}
	line, err := h.line(in)
	if err == nil && len(line) == 0 { // behind the answer before, by a service that does not count it
		line, err = h.line(in)
	}
	if err != nil {
		return err
	}
	for err = h.first(line); err == nil; err = h.field(line) {
		if line, err = h.line(in); err != nil || len(line) == 0 {
			return err
		}
	}
	return err
}

// closing tells whether the service ends the connection behind this answer.
func (h *answerHead) closing() bool { return h.close || h.old && !h.keepAlive }

func (h *answerHead) first(line []byte) error {
	version, rest, _ := bytes.Cut(line, []byte{' '})
	minor, ok := bytes.CutPrefix(version, []byte("HTTP/1."))
	if !ok || len(minor) != 1 || minor[0] < '0' || minor[0] > '9' {
		return errNotHTTP
	}
	h.old = minor[0] == '0'
	code, _, _ := bytes.Cut(bytes.TrimLeft(rest, " "), []byte{' '})
	status, err := strconv.ParseUint(string(code), 10, 16)
	if err != nil || len(code) != 3 || status < 100 {
		return errNotHTTP
	}
	h.status = int(status)
	return nil
}

func (h *answerHead) field(line []byte) error {
	name, value, ok := bytes.Cut(line, []byte{':'})
	if !ok {
		return errNotHTTP
	}
	value = bytes.Trim(value, blanks)
	switch {
	case same(name, "Content-Length"):
		for one := range bytes.SplitSeq(value, []byte{','}) { // what proxies join is the same
			n, err := strconv.ParseUint(string(bytes.Trim(one, blanks)), 10, strconv.IntSize-1)
			if err != nil || h.length >= 0 && h.length != int(n) {
				return errLength
			}
			h.length = int(n)
		}
	case same(name, "Transfer-Encoding") && !h.old:
		for coding := range bytes.SplitSeq(value, []byte{','}) {
			switch coding = bytes.Trim(coding, blanks); {
			case len(coding) == 0 || same(coding, "identity"): // none
			case !same(coding, "chunked"):
				return errCoding
			default:
				h.close = h.close || h.chunked // said twice, it was done once; who frames like that is not asked again
				h.chunked = true
			}
		}
	case same(name, "Connection"):
		for token := range bytes.SplitSeq(value, []byte{','}) {
			token = bytes.Trim(token, blanks)
			h.close = h.close || same(token, "close")
			h.keepAlive = h.keepAlive || same(token, "keep-alive")
		}
	case same(name, "Kafka-Action") && h.action == "":
		h.action = string(value)
	case same(name, "Retry-After") && h.retryAfter == "":
		h.retryAfter = string(value)
	case same(name, "Content-Encoding") && h.encoding == "":
		h.encoding = string(value)
	}
	return nil
}

// line is the next line, which CRLF or LF ends, and those that are folded onto it: without the blanks around them, and
// good until the next read. An empty one is the end of the head or trailer.
func (h *answerHead) line(in *bufio.Reader) ([]byte, error) {
	part, err := h.part(in)
	if err == nil && len(part) == 0 {
		if cap(h.long) > headRoom {
			h.long = nil
		}
		return nil, nil
	}
	if err == nil && in.Buffered() > 0 && !folded(in) {
		return bytes.TrimLeft(part, blanks), nil // nearly every line; with an empty buffer the look at the next one would overwrite this
	}
	h.long = h.long[:0]
	for from := 0; err == nil || err == bufio.ErrBufferFull; part, err = h.part(in) {
		h.long = append(h.long, part...)
		if err != nil {
			continue
		}
		h.long = append(h.long[:from], bytes.Trim(h.long[from:], blanks)...)
		if _, err := in.Peek(1); err != nil {
			return nil, err
		}
		if !folded(in) {
			return h.long, nil
		}
		h.long = append(h.long, ' ')
		from = len(h.long)
	}
	return nil, err
}

// part is the next line without the blanks behind it; with ErrBufferFull, as much of it as there is room for.
func (h *answerHead) part(in *bufio.Reader) ([]byte, error) {
	part, err := in.ReadSlice('\n')
	if h.left -= len(part); h.left < 0 {
		return nil, errHeadLarge
	}
	if err == nil {
		part = bytes.TrimRight(part, blanks)
	}
	return part, err
}

// folded tells whether the line that comes next is part of the one before.
func folded(in *bufio.Reader) bool {
	next, err := in.Peek(1)
	return err == nil && (next[0] == ' ' || next[0] == '\t')
}

const blanks = " \t\r\n"

// same compares as HTTP does; without the lengths, letters beyond ASCII would count as those of ASCII.
func same(b []byte, s string) bool { return len(b) == len(s) && strings.EqualFold(string(b), s) }
