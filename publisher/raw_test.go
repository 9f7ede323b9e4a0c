package publisher

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// raw are requests as they come from the wire. Behind one that is not whole the client ends its side of the connection, and reads.
var raw = []struct {
	name, request string
	status        int
	want          string // the records apart by |
}{
	{"a chunk that breaks off", "POST /topics/orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n100\r\ntrunc-D", 400, ""},
	{"a chunk that breaks off, async", "POST /topics/orders?async=true HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n100\r\ntrunc-D", 400, ""},
	{"no last chunk", "POST /topics/orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n", 400, ""},
	{"no end of the chunk", "POST /topics/orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole", 400, ""},
	{"no end of the last chunk", "POST /topics/orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n", 400, ""},
	{"no chunk", "POST /topics/orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 400, ""},
	{"whole JSON, and no last chunk", "POST /topics/orders HTTP/1.1\r\nHost: x\r\n" + asText + "\r\nTransfer-Encoding: chunked\r\n\r\n1e\r\n{\"records\":[{\"value\":\"half\"}]}\r\n", 400, ""},
	{"a chunk above the first piece that breaks off", "POST /topics/orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n20000\r\n" + strings.Repeat("x", firstPiece+1), 400, ""},
	{"a chunk that breaks off at the end of the first piece", "POST /topics/orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n20000\r\n" + strings.Repeat("x", firstPiece), 400, ""},
	{"a length that does not come", "POST /topics/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\ntrunc-L", 400, ""},
	{"a header in two lines", "POST /topics/orders HTTP/1.1\r\nHost: x\r\nKafka-Header-x: a\r\n folded\r\nContent-Length: 0\r\n\r\n", 200, `orders/-1@0 null="" x:"a folded"`},
	{"headers in several lines", "POST /topics/orders HTTP/1.1\r\nHost: x\r\nX:\r\n Kafka-Header-x: no\r\nKafka-Header-B: a \r\n\t b \r\n  c: d\r\nKafka-Header-A:\r\n e\r\nContent-Length: 0\r\n\r\n", 200,
		`orders/-1@0 null="" B:"a b c: d" A:"e"`},
	{"a key in two lines", "POST /topics/orders HTTP/1.1\r\nHost: x\r\nKafka-Key: a\r\n folded\r\nContent-Length: 0\r\n\r\n", 200, `orders/-1@0 "a folded"=""`},
	{"lines that end in LF", "POST /topics/orders HTTP/1.1\nHost: x\nContent-Length: 7\nKafka-Header-A: 1\n\n b\r\n\r\nc", 200, `orders/-1@0 null=" b\r\n\r\nc" A:"1"`},
	{"a chunk that is none", "POST /topics/orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\nxyz\r\n", 400, ""},
}

// What is whole is published as it was meant; what is not whole is not published at all.
func TestRawRequests(t *testing.T) {
	for _, row := range raw {
		f := &fake{}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		p := newTest(f)
		ask(p, "GET /topics/orders", "", "") // it knows the topic
		s := &http.Server{Handler: p, ConnContext: ConnContext}
		go s.Serve(Listen(l))
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, row.request)
		if row.status != 200 {
			_ = c.(*net.TCPConn).CloseWrite()
		}
		w, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(row.name, err)
		}
		body, _ := io.ReadAll(w.Body)
		f.mu.Lock()
		var got []string
		for _, r := range f.got {
			got = append(got, shown(r))
		}
		f.mu.Unlock()
		if w.StatusCode != row.status || strings.Join(got, " | ") != row.want {
			t.Errorf("%s: %d %s, and publishes\n%.200s, want %d\n%.200s", row.name, w.StatusCode, body, strings.Join(got, " | "), row.status, row.want)
		}
		c.Close()
		s.Close()
	}
}
