package wire

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"testing"
)

// What is not asked for is thrown away, to the end or the limit; whether the body was whole, and the connection goes on, is as ever.
func TestAnswerKeepsWhatIsAskedFor(t *testing.T) {
	chunked := func(body string) string {
		return "Transfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\nA: 1\r\n\r\n", len(body), body)
	}
	sized := func(n int, body string) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", n, body) }
	large := strings.Repeat("x", Limit)
	for _, row := range []struct {
		name, raw string
		reusable  bool
		err       error
	}{
		{"sized", sized(5, "12345"), true, nil},
		{"as much as is kept", sized(3, "123"), true, nil},
		{"less", sized(2, "12"), true, nil},
		{"none", sized(0, ""), true, nil},
		{"chunked", chunked("12345"), true, nil},
		{"as much as is kept, chunked", chunked("123"), true, nil},
		{"until the end", "\r\n12345", false, nil},
		{"up to the limit", sized(Limit, large), true, nil},
		{"up to the limit, chunked", chunked(large[1:]), true, nil},
		{"beyond the limit", sized(Limit+1, large), false, nil},
		{"beyond the limit, chunked", chunked(large + "x"), false, nil},
		{"broken off behind what is kept", sized(9, "12345"), false, io.ErrUnexpectedEOF},
		{"broken off before", sized(9, "12"), false, io.ErrUnexpectedEOF},
		{"broken off, chunked", "Transfer-Encoding: chunked\r\n\r\n9\r\n12345", false, io.ErrUnexpectedEOF},
	} {
		for _, keep := range []int{0, 3, 2 * Limit} {
			from := strings.NewReader(plain + row.raw)
			c, a := &conn{in: bufio.NewReaderSize(from, headRoom)}, Answer{Keep: func(int) int { return keep }}
			reusable, err := c.receive(&a)
			if reusable != row.reusable || err != row.err || len(a.Body) > keep || reusable && from.Len()+c.in.Buffered() > 0 {
				t.Errorf("%s, %d kept: %d bytes, reusable %t, %v", row.name, keep, len(a.Body), reusable, err)
			}
		}
	}
}
