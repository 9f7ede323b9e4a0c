package wire

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

// theirs is what net/http makes of an answer of HTTP/1.x.
type theirs struct {
	Answer
	reusable bool
	left     int // bytes behind the answer
}

func netHTTP(raw string) (a theirs, err error) {
	from := strings.NewReader(raw)
	in := bufio.NewReader(from)
	for a.Status < 200 && a.Status != http.StatusSwitchingProtocols {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return a, err
		}
		a.Status, a.reusable = resp.StatusCode, !resp.Close
		first := func(name string) string { // that is not empty; net/http leaves a blank where an empty line is folded onto it
			list := resp.Header.Values(name)
			for i, v := range list {
				list[i] = strings.Trim(v, " ")
			}
			return cmp.Or(list...)
		}
		a.Action, a.RetryAfter, a.Encoding = first("Kafka-Action"), first("Retry-After"), first("Content-Encoding")
		if a.Status < 100 || resp.ProtoMajor != 1 {
			return a, errors.New("net/http knows other protocols, too")
		}
		if a.Status >= 200 {
			if a.Body, err = io.ReadAll(io.LimitReader(resp.Body, Limit)); err != nil {
				return a, err
			}
		}
	}
	a.left = in.Buffered() + from.Len()
	return a, nil
}

// ours is what a connection makes of it; left as in theirs.
func ours(raw string) (a Answer, reusable bool, left int, err error) {
	from := strings.NewReader(raw)
	c := &conn{in: bufio.NewReaderSize(from, headRoom)}
	reusable, err = c.receive(&a)
	return a, reusable, c.in.Buffered() + from.Len(), err
}

const (
	plain = "HTTP/1.1 200 OK\r\n"
	two   = "Content-Length: 2\r\n"
)

// Each rule of reading a head. net/http reads the same, in answers, and in what they mean for the connection.
func TestHeadReads(t *testing.T) {
	for _, row := range []struct {
		name, raw          string
		status             int
		body               string
		action, retryAfter string
		reusable           bool
		encoding           string
	}{
		{"LF", "HTTP/1.1 200 OK\nContent-Length: 2\nKafka-Action: ack\n\nok", 200, "ok", "ack", "", true, ""},
		{"LF and CRLF", "HTTP/1.1 200 OK\nContent-Length: 2\r\nKafka-Action: ack\n\r\nok", 200, "ok", "ack", "", true, ""},
		{"more blanks before the status", "HTTP/1.1   429\r\n" + two + "Retry-After: 7\r\n\r\nok", 429, "ok", "", "7", true, ""},
		{"HTTP/1.9", "HTTP/1.9 200 OK\r\n" + two + "\r\nok", 200, "ok", "", "", true, ""},
		{"names and words in any case", plain + "tRANSFER-eNCODING: CHUNKED\r\nKAFKA-ACTION:Skip\r\nretry-after:\t 1 \t\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "ok", "Skip", "1", true, ""},
		{"the same length twice", plain + two + "A: b\r\n" + two + "\r\nok", 200, "ok", "", "", true, ""},
		{"a trailer's name without chunks", plain + "Trailer: Content-Length\r\n" + two + "\r\nok", 200, "ok", "", "", true, ""},
		{"chunks before the length", plain + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "ok", "", "", true, ""},
		{"chunks behind the length", plain + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "ok", "", "", true, ""},
		{"chunks behind the length 0", plain + "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "ok", "", "", true, ""},
		{"HTTP/1.0 knows no chunks", "HTTP/1.0 200 OK\r\nTransfer-Encoding: gzip\r\nConnection: keep-alive\r\n" + two + "\r\nok", 200, "ok", "", "", true, ""},
		{"a second Connection line", plain + "Connection: keep-alive\r\nConnection: close\r\n" + two + "\r\nok", 200, "ok", "", "", false, ""},
		{"a line behind the one that closes", plain + "Connection: close\r\nConnection: keep-alive\r\n" + two + "\r\nok", 200, "ok", "", "", false, ""},
		{"a word among others", plain + "Connection: a,\tCLOSE ,b\r\n" + two + "\r\nok", 200, "ok", "", "", false, ""},
		{"a word that begins like it", plain + "Connection: close-not\r\n" + two + "\r\nok", 200, "ok", "", "", true, ""},
		{"HTTP/1.0 that stays, in a line of three", "HTTP/1.0 200 OK\r\nConnection: a, keep-ALIVE, b\r\nConnection: c\r\n" + two + "\r\nok", 200, "ok", "", "", true, ""},
		{"HTTP/1.0 that says both", "HTTP/1.0 200 OK\r\nConnection: close, keep-alive\r\n" + two + "\r\nok", 200, "ok", "", "", false, ""},
		{"a Kelvin sign is no k", "HTTP/1.0 200 OK\r\nConnection: \u212aeep-alive\r\n" + two + "\r\nok", 200, "ok", "", "", false, ""},
		{"a blank in a name is another name", plain + "Content-Length : 1\r\n\r\nok", 200, "ok", "", "", false, ""},
		{"a name that begins like it", plain + "Content-Length2: 1\r\nContent: 1\r\n" + two + "\r\nok", 200, "ok", "", "", true, ""},
		{"colons in a value", plain + "Kafka-Action: a:b\r\n" + two + "\r\nok", 200, "ok", "a:b", "", true, ""},
		{"the first of several", plain + "Kafka-Action:\r\nKafka-Action: ack\r\nKafka-Action: skip\r\nRetry-After: 1\r\nRetry-After: 2\r\n" + two + "\r\nok", 200, "ok", "ack", "1", true, ""},
		{"folded", plain + "Kafka-Action:\r\n\tskip\r\nRetry-After: Wed, 21 Oct\r\n   2026 07:28:00\n GMT\r\n" + two + "\r\nok", 200, "ok", "skip", "Wed, 21 Oct 2026 07:28:00 GMT", true, ""},
		{"a field inside a folded line", plain + "A: b\r\n Content-Length: 1\r\n" + two + "\r\nok", 200, "ok", "", "", true, ""},
		{"a folded line of blanks is not the end", plain + "Kafka-Action: ack\r\n \t\r\n" + two + "\r\nok", 200, "ok", "ack", "", true, ""},
		{"long lines", plain + "Set-Cookie: " + strings.Repeat("c", 30<<10) + "\r\nA: " + strings.Repeat("d", 8<<10) + "\r\n" + two + "\r\nok", 200, "ok", "", "", true, ""},
		{"a long line that matters", plain + "Content-Length: " + strings.Repeat("0", 9<<10) + "2\r\nConnection: " + strings.Repeat("a, ", 9<<10) + "close\r\n\r\nok", 200, "ok", "", "", false, ""},
		{"a long line that is folded", plain + "Kafka-Action: " + strings.Repeat("\r\n ", 9<<10) + "ack\r\n" + two + "\r\nok", 200, "ok", "ack", "", true, ""},
		{"304 with chunks", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", 304, "", "", "", true, ""},
		{"the fields of a 103 are not the answer's", "HTTP/1.1 103 Early Hints\r\nKafka-Action: skip\r\nRetry-After: 9\r\nContent-Encoding: br\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n" + plain + two + "\r\nok", 200, "ok", "", "", true, ""},
		{"chunks with a trailer of any length", plain + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nKafka-Action: skip\r\nA: " + strings.Repeat("t", 3000) + "\r\n\r\n", 200, "ok", "", "", true, ""},
		{"an encoding", plain + "Content-Encoding:\r\ncontent-ENCODING:\t gzip \r\nContent-Encoding: br\r\n" + two + "\r\nok", 200, "ok", "", "", true, "gzip"},
	} {
		t.Run(row.name, func(t *testing.T) {
			want, err := netHTTP(row.raw)
			a, reusable, left, ourErr := ours(row.raw)
			for who, got := range map[string]theirs{"net/http": want, "kpush": {a, reusable, left}} {
				if got.Status != row.status || string(got.Body) != row.body || got.Action != row.action || got.RetryAfter != row.retryAfter || got.Encoding != row.encoding || got.reusable != row.reusable || got.left != 0 {
					t.Errorf("%s reads %d %.40q, %.40q, %q, %q, reusable %t, %d bytes left", who, got.Status, got.Body, got.Action, got.RetryAfter, got.Encoding, got.reusable, got.left)
				}
			}
			if err != nil || ourErr != nil {
				t.Error(err, ourErr)
			}
		})
	}
}

// What net/http refuses, and servers or what stands before them send: a coding that is none, or was said twice, a length that was joined, an
// empty line too many behind the answer before, blanks before a chunk's extension. A 204 that speaks of a body may be followed by one, so nothing more is asked there.
func TestHeadReadsMore(t *testing.T) {
	const chunks = "\r\n2\r\nok\r\n0\r\n\r\n"
	for _, row := range []struct {
		raw      string
		body     string
		reusable bool
	}{
		{plain + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" + chunks, "ok", false},
		{plain + "Transfer-Encoding: chunked, chunked\r\n" + chunks, "ok", false},
		{plain + "transfer-encoding: Chunked ,chunked\r\n" + chunks, "ok", false},
		{plain + "Transfer-Encoding: chunked\r\n\r\n2 ;a=b\r\nok\r\n0\r\n\r\n", "ok", true},
		{plain + "Transfer-Encoding: chunked\r\n\r\n1\t ; a = \";\"\r\no\r\n1 \t\r\nk\r\n0 \t;x\r\nA: 1\r\n\r\n", "ok", true},
		{plain + "Transfer-Encoding: identity\r\n" + two + "\r\nok", "ok", true},
		{plain + "Transfer-Encoding: identity\r\n\r\nok", "ok", false},
		{plain + "Transfer-Encoding: chunked, Identity\r\n" + chunks, "ok", true},
		{plain + "Transfer-Encoding:\r\n" + two + "\r\nok", "ok", true},
		{plain + "Content-Length: 2, 2\r\n\r\nok", "ok", true},
		{plain + two + "Content-Length: 2 ,2\r\n\r\nok", "ok", true},
		{"\r\n" + plain + two + "\r\nok", "ok", true},
		{"\n" + plain + two + "\r\nok", "ok", true},
		{"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "", true},
		{"HTTP/1.1 204 No Content\r\n" + two + "\r\n", "", false},
		{"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", "", false},
	} {
		a, reusable, left, err := ours(row.raw)
		if err != nil || a.Status/100 != 2 || string(a.Body) != row.body || reusable != row.reusable || left != 0 {
			t.Errorf("%q: %d %q, reusable %t, %d bytes left, %v", row.raw, a.Status, a.Body, reusable, left, err)
		}
	}
}

// What is no head: the reason holds nothing that the service wrote.
func TestHeadRefuses(t *testing.T) {
	for _, row := range []struct {
		name, raw string
		want      error
	}{
		{"nothing", "", io.EOF},
		{"an empty line", "\r\n\r\n", errNotHTTP},
		{"another protocol", "SSH-2.0-secret\r\n\r\n", errNotHTTP},
		{"HTTP/0.9", "HTTP/0.9 200 OK\r\n\r\n", errNotHTTP},
		{"HTTP/2", "HTTP/2.0 200 OK\r\n\r\n", errNotHTTP},
		{"HTTP/1.10", "HTTP/1.10 200 OK\r\n\r\n", errNotHTTP},
		{"HTTP/1.x", "HTTP/1.x 200 OK\r\n\r\n", errNotHTTP},
		{"no status", "HTTP/1.1\r\n\r\n", errNotHTTP},
		{"two digits", "HTTP/1.1 20 OK\r\n\r\n", errNotHTTP},
		{"four digits", "HTTP/1.1 2000 OK\r\n\r\n", errNotHTTP},
		{"a sign", "HTTP/1.1 +20 OK\r\n\r\n", errNotHTTP},
		{"no class", "HTTP/1.1 099 OK\r\n\r\n", errNotHTTP},
		{"no colon", plain + "secret\r\n\r\n", errNotHTTP},
		{"no colon, in a long line", plain + strings.Repeat("secret", headRoom) + "\r\n\r\n", errNotHTTP},
		{"an empty length", plain + "Content-Length:\r\n\r\n", errLength},
		{"a signed length", plain + "Content-Length: +2\r\n\r\nok", errLength},
		{"a negative length", plain + "Content-Length: -1\r\n\r\nok", errLength},
		{"a list of different lengths", plain + "Content-Length: 2, 3\r\n\r\nok", errLength},
		{"a list that ends in a comma", plain + "Content-Length: 2,\r\n\r\nok", errLength},
		{"two empty lines", "\r\n\r\n" + plain + two + "\r\nok", errNotHTTP},
		{"a length beyond numbers", plain + "Content-Length: 9223372036854775808\r\n\r\nok", errLength},
		{"different lengths", plain + two + "Content-Length: 0\r\n\r\nok", errLength},
		{"different lengths, 0 first", plain + "Content-Length: 0\r\n" + two + "\r\nok", errLength},
		{"another coding", plain + "Transfer-Encoding: secret\r\n\r\n", errCoding},
		{"two codings", plain + "Transfer-Encoding: gzip, chunked\r\n\r\n", errCoding},
		{"chunked behind another", plain + "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", errCoding},
		{"a Kelvin sign", plain + "Transfer-Encoding: chun\u212aed\r\n\r\n", errCoding},
		{"lines without end", plain + strings.Repeat("A: secret\r\n", Limit/8), errHeadLarge},
		{"a line without end", plain + strings.Repeat("secret: ", Limit/8), errHeadLarge},
		{"a folded line without end", plain + "A: b\r\n" + strings.Repeat(" secret\r\n", Limit/8), errHeadLarge},
		{"blanks without end", plain + "A: b\r\n" + strings.Repeat(" ", Limit), errHeadLarge},
		{"a status line without end", "HTTP/1.1 200 " + strings.Repeat("secret", Limit/5), errHeadLarge},
	} {
		a, reusable, _, err := ours(row.raw)
		if err != row.want || a.Status != 0 || reusable {
			t.Errorf("%s: %v, %d, reusable %t; want %v", row.name, err, a.Status, reusable, row.want)
		}
		if strings.Contains(fmt.Sprint(err), "secret") {
			t.Errorf("%s: the reason %q holds what the service wrote", row.name, err)
		}
	}
}

// The limit is what it says, and holds for each head: a service may send a 102 as often as it likes.
func TestHeadLimit(t *testing.T) {
	full := func(size int) string {
		head := plain + two + "A: \r\n\r\n"
		return strings.Replace(head, "A: ", "A: "+strings.Repeat("a", size-len(head)), 1) + "ok"
	}
	if a, reusable, _, err := ours(full(Limit)); a.Status != 200 || !reusable || err != nil {
		t.Errorf("as large as it may be: %d, %v", a.Status, err)
	}
	if a, _, _, err := ours(full(Limit + 1)); a.Status != 0 || err != errHeadLarge {
		t.Errorf("larger by a byte: %d, %v", a.Status, err)
	}
	processing := "HTTP/1.1 102 Processing\r\n\r\n"
	if a, reusable, _, err := ours(strings.Repeat(processing, Limit/len(processing)+1) + plain + two + "\r\nok"); a.Status != 200 || !reusable || err != nil {
		t.Errorf("behind many of 102: %d, %v", a.Status, err)
	}
}

// Wherever a head breaks off, or waits, there is no answer of it yet; and no byte behind its last one is waited for.
func TestHeadInPieces(t *testing.T) {
	head := plain + "Kafka-Action: a\r\n b\nContent-Length: 0\r\nA: b\r\n\r\n"
	for n := range len(head) {
		if a, _, _, err := ours(head[:n]); a.Status != 0 || err != io.EOF {
			t.Errorf("%q: %d, %v", head[:n], a.Status, err)
		}
	}
	c := &conn{in: bufio.NewReaderSize(io.MultiReader(iotest.OneByteReader(strings.NewReader(head)), iotest.ErrReader(errors.New("read on"))), headRoom)}
	var a Answer
	if reusable, err := c.receive(&a); a.Status != 200 || a.Action != "a b" || !reusable || err != nil {
		t.Errorf("%d, %q, reusable %t, %v", a.Status, a.Action, reusable, err)
	}
}

// endsWithIt is a connection that ends in the same read as the answer, as TLS's may.
type endsWithIt struct {
	net.Conn
	from io.Reader
}

func (e endsWithIt) Read(p []byte) (int, error) { return e.from.Read(p) }

func TestHeadOfAConnectionThatEndsWithIt(t *testing.T) {
	c := &conn{Conn: endsWithIt{from: iotest.DataErrReader(strings.NewReader(plain + two + "\r\nok"))}}
	c.in = bufio.NewReaderSize(c, headRoom)
	var a Answer
	if reusable, err := c.receive(&a); a.Status != 200 || string(a.Body) != "ok" || reusable || err != nil {
		t.Errorf("%d with %q, reusable %t, %v", a.Status, a.Body, reusable, err)
	}
}

// A head costs no memory but for the three values that it may bring; a long line leaves none behind.
func TestHeadAllocates(t *testing.T) {
	other := "Date: Sun, 22 Nov 2026 10:00:00 GMT\r\nConnection: keep-alive\r\nX-A-Name-That-Is-Longer-Than-Thirty-Two-Bytes: " + strings.Repeat("v", 1000) + "\r\n"
	for _, row := range []struct {
		head string
		want float64
	}{
		{plain + other + two + "\r\n", 0},
		{strings.ReplaceAll(plain+other+two+"\r\n", "\r\n", "\n"), 0},
		{plain + strings.Repeat(other, 20) + two + "\r\n", 0},
		{plain + "A: b\r\n folded\r\n" + two + "\r\n", 0},
		{plain + "Kafka-Action: retry\r\nRetry-After: 10\r\nContent-Encoding: br\r\n" + two + "\r\n", 3},
	} {
		from := strings.NewReader("")
		in, h := bufio.NewReaderSize(from, headRoom), &answerHead{}
		if n := testing.AllocsPerRun(100, func() {
			from.Reset(row.head)
			in.Reset(from)
			if err := h.read(in); err != nil || h.length != 2 {
				t.Error(err)
			}
		}); n != row.want {
			t.Errorf("%.60q: %g allocations, want %g", row.head, n, row.want)
		}
	}
	h := &answerHead{}
	if err := h.read(bufio.NewReader(strings.NewReader(plain + "A: " + strings.Repeat("a", Limit/2) + "\r\n\r\n"))); err != nil || cap(h.long) > headRoom {
		t.Errorf("%v, %d bytes are kept", err, cap(h.long))
	}
}

// What net/http accepts is accepted, with the same status, body, three headers, end, and fate of the connection. In which
// pieces it comes makes no difference.
func FuzzHead(f *testing.F) {
	for _, seed := range []string{
		plain + two + "\r\nok", "HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 2\n\nok",
		plain + "Connection: keep-alive\r\nConnection: x, close\r\n" + two + "\r\nok",
		plain + "Trailer: Content-Length\r\n" + two + "\r\nok",
		plain + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\nTrailer: A\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\nmore",
		" HTTP/1.0 \n0", // a blank before everything
		plain + "Transfer-Encoding: chunked\r\n\r\n1;a=b\r\no\r\n001 \r\nk\r\n0;\t\r\n\r\n",
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n" + two + "\r\nok", "HTTP/1.0 200 OK\r\n\r\nok",
		plain + "Kafka-Action:\r\n\tskip\r\n \r\nRetry-After: Wed,\n 21 Oct\r\n" + two + "\r\nok",
		plain + "Kafka-Action:abc d\r\n" + two + "\r\nok", // a piece ends before the blank
		plain + "Kafka-Action: ack\r\nKafka-Action: skip\r\nKafka-Action : dead-letter\r\n\r\n",
		plain + "Content-Encoding:\r\nContent-Encoding: gzip\r\n" + two + "\r\nok",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nKafka-Action: skip\r\nContent-Length: 5\r\n\r\n" + plain + two + "\r\nok",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nwhatever", "HTTP/1.1 204 No Content\r\n" + two + "\r\n", "HTTP/1.1 304\r\nTransfer-Encoding: chunked\r\n\r\n",
		plain + "Set-Cookie: " + strings.Repeat("c", 9<<10) + "\r\n" + two + "\r\nok",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		one, other := &answerHead{}, &answerHead{}
		err := one.read(bufio.NewReaderSize(strings.NewReader(raw), headRoom))
		otherErr := other.read(bufio.NewReaderSize(iotest.OneByteReader(strings.NewReader(raw)), 16))
		if one.long, other.long = nil, nil; err != otherErr || !reflect.DeepEqual(one, other) {
			t.Errorf("whole %+v (%v), in pieces %+v (%v)", one, err, other, otherErr)
		}
		want, err := netHTTP(raw)
		if err != nil {
			return
		}
		a, reusable, left, err := ours(raw)
		if err != nil || a.Status != want.Status || string(a.Body) != string(want.Body) || left != want.left && a.Status != 101 {
			t.Fatalf("%d with %q, %d bytes left (%v), net/http: %d with %q, %d", a.Status, a.Body, left, err, want.Status, want.Body, want.left)
		}
		if a.Action != want.Action || a.RetryAfter != want.RetryAfter || a.Encoding != want.Encoding {
			t.Errorf("%q, %q, %q, net/http: %q, %q, %q", a.Action, a.RetryAfter, a.Encoding, want.Action, want.RetryAfter, want.Encoding)
		}
		if may := want.reusable && want.left == 0 && a.Status != 101; reusable != may && (reusable || a.Status != 204) {
			t.Errorf("reusable %t, net/http: %t with %d bytes left", reusable, want.reusable, want.left)
		}
	})
}
