package publisher

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// raw are requests as they come from the wire. Behind each the client ends its side of the connection, and reads.
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
	{"a chunk that is none", "POST /topics/orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\nxyz\r\n", 400, ""},
}

// What is whole is published, and answered, whatever becomes of the caller's side; what is not, is not.
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
		_ = c.(*net.TCPConn).CloseWrite()
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
