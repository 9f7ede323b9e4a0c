package push

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/forwarder/wire"
	"github.com/kpush/kpush/forwarder/wire/wiretest"
	"github.com/kpush/kpush/kafka"
)

// script answers each request with the next of its words: a status, cut (the connection ends without a byte), stale (so does a kept
// one), late (no answer in time), down (no connection).
type script struct {
	words []string
	slim  string // S: key and headers were left out
}

func (s *script) Exchange(_ wire.Gate, _ time.Duration, head, body []byte, a *wire.Answer) {
	a.Reset()
	word := s.words[len(s.slim)]
	s.slim += map[bool]string{true: "S", false: "."}[parse(head, body).Header.Get("Kafka-Headers-Left-Out") != ""]
	a.Sent, a.Stale, a.Err = word != "down", word == "stale", io.EOF
	switch status, err := strconv.Atoi(word); {
	case err == nil:
		a.Status, a.Err = status, nil
	case word == "late":
		a.Err = context.DeadlineExceeded
	}
}

// No message is undeliverable because of its headers. Their size is that on the wire: base64, names and all.
func TestSlimByWhatIsSent(t *testing.T) {
	text := func(n int) kafka.Message { return kafka.Message{Key: bytes.Repeat([]byte("k"), n)} }
	binary := func(n int) kafka.Message { return kafka.Message{Key: make([]byte, n)} }
	headers := func(n, size int) kafka.Message { return kafka.Message{Headers: headersOf(n, size)} }
	large := headers(1, 9000)
	large.Value = make([]byte, 20<<10)
	for _, row := range []struct {
		what                  string
		message               kafka.Message
		answers, slim, spared string // an attempt each; S: it is slim, it counts for nothing
	}{
		{"40 headers of 100 B, a proxy", headers(40, 100), "502 200", ".S", "S."},
		{"40 headers of 100 B, a dead service behind it", headers(40, 100), "502 502 502 502", ".S..", "S..."},
		{"40 headers of 100 B, the server closes", headers(40, 100), "cut cut 200", "..S", "SS."},
		{"a key of 5,000 B, the server closes", text(5000), "cut cut 200", "..S", "SS."},
		{"a kept connection ends first", text(5000), "stale cut 200", "..S", "SS."},
		{"it closes whatever comes", text(5000), "cut cut cut cut cut", "..S..", "SS..."},
		{"not in a row", text(5000), "cut 503 cut 503 cut cut 200", "......S", "S.S.SS."},
		{"no connection says nothing", text(5000), "down down down 502 200", "....S", "...S."},
		{"nor does time", text(5000), "late late late", "...", "..."},
		{"a key of 10 B", text(10), "cut cut cut 502 502 400 413", ".......", "......."},
		{"no key, no headers", kafka.Message{Value: make([]byte, 5000)}, "cut cut cut 502 400 413 431", ".......", "......."},
		{"a key that is large in base64", binary(3200), "400 200", ".S", "S."},
		{"one that is not", binary(2000), "400 400", "..", ".."},
		{"headers that are large with their names", headers(40, 85), "400 200", ".S", "S."},
		{"50 lines", headers(55, 1), "400 200", ".S", "S."},
		{"413 to 5,000 B", text(5000), "413 413", "..", ".."},
		{"413 to 9,000 B", headers(1, 9000), "413 200", ".S", "S."},
		{"413 to 9,000 B, still", headers(1, 9000), "413 413 413", ".S.", "S.."},
		{"413 to a larger value", large, "413 413", "..", ".."},
		{"413 above 16 KiB", headers(20, 1000), "413 200", ".S", "S."},
		{"two reasons", text(5000), "400 502 502 200", ".SSS", "S..."},
		{"one after the other", text(5000), "502 502 502 400 200", ".S..S", "S..S."},
		{"431 to anything", text(1), "431 431 400 200", ".SSS", "S..."},
	} {
		cfg, s := hasty("http://service/"), &script{words: strings.Fields(row.answers)}
		cfg.Line = s
		to, it, spared := service(t, cfg), item(row.message), ""
		for n := range s.words {
			v := try(to, it)
			spared += map[bool]string{true: "S", false: "."}[v.Spared]
			if next := n+1 < len(row.slim) && row.slim[n] == '.' && row.slim[n+1] == 'S'; strings.Contains(v.Reason, "leaves key and headers out") != next {
				t.Errorf("%s: attempt %d says %q", row.what, n+1, v.Reason)
			}
		}
		if s.slim != row.slim || spared != row.spared {
			t.Errorf("%s: %s: slim %q, want %q; spared %q, want %q", row.what, row.answers, s.slim, row.slim, spared, row.spared)
		}
	}
}

// Servers of all kinds, on sockets: whatever the headers, a message arrives with what it is about, in three attempts at the most.
func TestHTTPHeadersOfAnySize(t *testing.T) {
	answer := func(text string) func(net.Conn) { return func(c net.Conn) { io.WriteString(c, text) } }
	above := func(limit int) func(head []byte) bool {
		return func(head []byte) bool { return len(head) > limit }
	}
	lines := func(head []byte) bool { return bytes.Count(head, []byte("\r\n")) > 100 }
	plainType := func(head []byte) bool { return bytes.Contains(head, []byte("Content-Type: json")) }
	const empty = "Content-Length: 0\r\n\r\n"
	for name, server := range map[string]struct {
		refuses func(head []byte) bool
		how     func(net.Conn)
	}{
		"closes":       {above(4 << 10), func(net.Conn) {}},
		"resets":       {above(4 << 10), wiretest.Reset},
		"a proxy, 502": {above(4 << 10), answer("HTTP/1.1 502 Bad Gateway\r\n" + empty)},
		"413":          {above(16 << 10), answer("HTTP/1.1 413 Too Large\r\n" + empty)},
		"400, lines":   {lines, answer("HTTP/1.1 400 Bad\r\n" + empty)},
		"400, a type":  {plainType, answer("HTTP/1.1 400 Bad\r\n" + empty)},
	} {
		url := wiretest.Bare(t, func(_ int, c net.Conn, r *bufio.Reader) {
			for {
				var head []byte
				for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
					line, err := r.ReadBytes('\n')
					if err != nil {
						return
					}
					head = append(head, line...)
				}
				if _, err := r.Discard(1); err != nil || server.refuses(head) {
					server.how(c)
					return
				}
				io.WriteString(c, "HTTP/1.1 200 OK\r\n"+empty)
			}
		})
		s := service(t, hasty(url))
		for what, m := range map[string]kafka.Message{
			"plain":                 {},
			"a key of 5,000 B":      {Key: bytes.Repeat([]byte("k"), 5000)},
			"40 headers of 100 B":   {Headers: headersOf(40, 100)},
			"95 headers":            {Headers: headersOf(95, 1)},
			"30 headers of 1,000 B": {Headers: headersOf(30, 1000)},
			"a large key in base64": {Key: make([]byte, 20<<10)},
			"a type that is none":   {Headers: []kafka.Header{header("content-type", "json")}},
		} {
			m.Value = []byte("v")
			it := item(m)
			v := try(s, it)
			for stale := 0; v.Class != Delivered && (v.Spared || v.Stale) && it.Attempt < 3+stale; {
				if v = try(s, it); v.Stale { // a connection that ended behind its answer is no attempt of the message's
					stale++
				}
			}
			if v.Class != Delivered {
				t.Errorf("%s: %s: %s at attempt %d: %s", name, what, v.Class, it.Attempt, v.Reason)
			}
		}
	}
}

func headersOf(n, size int) (list []kafka.Header) {
	for i := range n {
		list = append(list, header(fmt.Sprintf("h%d", i), strings.Repeat("v", size)))
	}
	return list
}
