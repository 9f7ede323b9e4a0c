package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
	"strconv"
)

var (
	errChunk    = errors.New("the answer's body is broken: invalid byte in chunk length")
	errChunkEnd = errors.New("the answer's body is broken: a chunk does not end where its length says")
	errChunkTop = errors.New("the answer's body is broken: the lines before its chunks are too long")
)

// chunkLines is how much more than their share the lines before chunks may be together: 16 bytes each, and twice what is in the chunks.
const chunkLines = 16 << 10

// chunks reads a body in chunks through the line of the last one, as net/http does, whose reader takes no blank before a chunk's extension.
type chunks struct {
	in   *bufio.Reader
	left int64 // of this chunk
	over int64 // see chunkLines
	some bool  // a chunk ends behind left
	err  error
}

func (c *chunks) Read(b []byte) (n int, err error) {
	if c.left == 0 && c.err == nil {
		c.err = c.next()
	}
	if c.err == nil {
		n, c.err = c.in.Read(b[:min(int64(len(b)), c.left)])
		c.left -= int64(n)
		c.err = brokenOff(c.err)
	}
	return n, c.err
}

// next reads on to the bytes of the next chunk; EOF: there is none.
func (c *chunks) next() error {
	if c.some {
		var end [2]byte
		if _, err := io.ReadFull(c.in, end[:]); err != nil {
			return brokenOff(err)
		}
		if string(end[:]) != "\r\n" {
			return errChunkEnd
		}
	}
	line, err := c.in.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		return errChunkTop
	}
	if err != nil {
		return brokenOff(err)
	}
	if n := len(line); n < 2 || bytes.IndexByte(line, '\r') != n-2 {
		return errChunk
	}
	size, _, _ := bytes.Cut(line[:len(line)-2], []byte(";"))
	left, err := strconv.ParseUint(string(bytes.TrimRight(size, blanks)), 16, 63)
	if err != nil {
		return errChunk // without what it holds
	}
	c.left, c.some = int64(left), true
	if c.over = max(0, c.over+int64(len(line))-16-2*min(c.left, math.MaxInt32)); c.over > chunkLines {
		return errChunkTop
	}
	if c.left == 0 {
		return io.EOF
	}
	return nil
}

// brokenOff is an end that comes too early.
func brokenOff(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
