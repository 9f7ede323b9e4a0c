package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// answers is how servers say that they have taken a message: byte for byte, and what they do then.
var answers = []struct {
	name, raw string
	late      string // comes a moment behind raw
	unread    bool   // it does not read what it was sent
	end       bool   // it ends the connection behind its answer
}{
	{name: "plain", raw: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"},
	{name: "HTTP/1.0 without a length", raw: "HTTP/1.0 200 OK\r\n\r\nok", end: true},
	{name: "no reason", raw: "HTTP/1.1 201\r\ncontent-length:0\r\n\r\n"},
	{name: "lines that end in LF", raw: "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"},
	{name: "early hints, in pieces", raw: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", late: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
	{name: "chunks with all that they may have", raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n0002;a=\"b;c\"\r\nok\r\n0;last\r\nA: 1\r\n\r\n"},
	{name: "chunked, said twice", raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{name: "identity", raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok"},
	{name: "lengths that a proxy has joined", raw: "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok"},
	{name: "more than it says", raw: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n"},
	{name: "an empty line, late", raw: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", late: "\r\n"},
	{name: "204 with a body, late", raw: "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", late: "ok"},
	{name: "204 with a body that it does not speak of", raw: "HTTP/1.1 204 No Content\r\n\r\n", late: "ok"},
	{name: "the end of a connection that it calls kept", raw: "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", end: true},
	{name: "the end, late", raw: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", late: " ", end: true},
	{name: "requests that are not read", raw: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", unread: true},
	{name: "Connection: close, and more", raw: "HTTP/1.1 200 OK\r\nConnection: Upgrade, Close\r\nContent-Length: 0\r\n\r\n"},
	{name: "a long status line", raw: "HTTP/1.1 200 " + fmt.Sprintf("%20000s", "ok") + "\r\nContent-Length: 0\r\n\r\n"},
	{name: "folded lines", raw: "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length:\r\n\t0\r\n\r\n"},
}

// answering serves a connection: what comes is answered by the row of its partition. took hears of each message that is answered so.
func answering(c net.Conn, took func(*http.Request)) {
	defer c.Close()
	for in := bufio.NewReader(c); ; {
		h, err := http.ReadRequest(in)
		if err != nil || h.Method != http.MethodPost {
			if err != io.EOF { // it is in the middle of something
				_, _ = io.WriteString(c, "HTTP/1.1 501 Unsupported method\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			}
			return
		}
		row := answers[0]
		if n, err := strconv.Atoi(h.Header.Get("Kafka-Partition")); err == nil {
			row = answers[n]
		}
		if row.unread {
			h.Body = http.NoBody // it stays where it is
		} else if _, err := io.Copy(io.Discard, h.Body); err != nil {
			return
		}
		took(h)
		_, _ = io.WriteString(c, row.raw)
		if row.late != "" {
			time.Sleep(2 * time.Millisecond)
			_, _ = io.WriteString(c, row.late)
		}
		if row.end {
			return
		}
	}
}

// TestHowServersAnswer: a message is taken whatever a server's way to say so is, at the first fault of anybody it would be skipped, and what is
// sent twice is flagged.
func TestHowServersAnswer(t *testing.T) {
	t.Parallel()
	const each = 20
	k := kafka(t)
	topic := k.Topic(t, int32(len(answers)))
	k.ProduceEvenly(t, topic, int32(len(answers)), each*len(answers), 20)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var mu sync.Mutex
	seen, unflagged := map[string]int{}, 0
	took := func(h *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		id := h.Header.Get("Kafka-Message-Id")
		if seen[id]++; seen[id] > 1 && h.Header.Get("Kafka-In-Doubt") != "true" {
			unflagged++
		}
	}
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			go answering(c, took)
		}
	}()
	svc := &rig.Service{Port: l.Addr().(*net.TCPAddr).Port}
	sc := sidecar(t, k, topic, svc, "KPUSH_CONCURRENCY=64", "KPUSH_CAN_SKIP=true", "KPUSH_SKIP_ON=any", "KPUSH_RETRY_NUMS=1", "KPUSH_EXEC_TIMEOUT=5s")
	rig.Within(t, patience, "each message is taken", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) == each*len(answers)
	})
	sc.Shut(t, 10*time.Second)
	committedIsEnd(t, k, topic)
	for _, one := range skipped(t, sc) {
		t.Errorf("%s: skipped: %v", answers[int(one["partition"].(float64))].name, one["reason"])
	}
	repeats := map[string]int{}
	for id, n := range seen {
		if n > 1 {
			var p int
			_, _ = fmt.Sscanf(id[len(topic):], "/%d", &p)
			repeats[answers[p].name] += n - 1
		}
	}
	if unflagged > 0 {
		t.Errorf("%d repeats are not flagged: %v", unflagged, repeats)
	}
	t.Logf("%d ways to answer, %d messages each: none skipped, sent again in doubt %v.", len(answers), each, repeats)
}
