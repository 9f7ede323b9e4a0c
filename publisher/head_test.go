package publisher

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// The headers of each request on a kept connection are those that were sent, in their order and case, whatever their bodies hold.
func TestHeadersAsTheyWereSent(t *testing.T) {
	f := &fake{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: newTest(f), ConnContext: ConnContext}
	kept := Listen(l)
	go s.Serve(kept)
	defer s.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answers := bufio.NewReader(c)
	for i, row := range []struct{ headers, more, body, want string }{
		{"Kafka-Header-b: 1\r\nkafka-header-aB: 2 \r\nKAFKA-HEADER-B: \r\n", "", "v", `b:"1" aB:"2" B:""`},
		{"", "", "Kafka-Header-x: in the body\r\n\r\n", ``},
		{"Kafka-Header-content-type: a/b\r\n", "Expect: 100-continue\r\n", strings.Repeat("x", 100_000), `content-type:"a/b"`},
		{"Kafka-Header-zz: ö\r\nKafka-Header-Zz: 2\r\n", "", "v", `zz:"ö" Zz:"2"`},
		{"Kafka-Header-large: " + strings.Repeat("l", 50_000) + "\r\n", "", "v", `large:"` + strings.Repeat("l", 50_000) + `"`},
		{"Kafka-Header-X: small again\r\n", "", "", `X:"small again"`},
	} {
		fmt.Fprintf(c, "POST /topics/orders HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n%s\r\n%s", row.headers, len(row.body), row.more, row.body)
		w, err := http.ReadResponse(answers, nil)
		if err == nil && w.StatusCode == 100 {
			w, err = http.ReadResponse(answers, nil)
		}
		if err != nil || w.StatusCode != 200 {
			t.Fatalf("%d: %v %v", i, w, err)
		}
		answers.Discard(int(w.ContentLength))
		r := f.got[len(f.got)-1]
		r.Value = nil
		if got := shown(r); got != strings.TrimSpace("orders/-1@0 null=null "+row.want) {
			t.Errorf("%d: %.100s, want %.100s", i, got, row.want)
		}
	}
	var strangers []net.Conn
	var sent sync.WaitGroup
	for range 80 { // of 250 KiB each: more than 16 MiB; some are shut out, and all is given back
		s, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		strangers = append(strangers, s)
		sent.Go(func() { fmt.Fprintf(s, "GET / HTTP/1.1\r\nHost: x\r\nX: %s", strings.Repeat("x", 250<<10)) })
	}
	sent.Wait()
	large, shut := kept.(listener).large, 0
	for was := int64(-1); large.Load() != was; time.Sleep(200 * time.Millisecond) {
		was = large.Load()
	}
	for _, s := range strangers {
		_ = s.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			shut++ // 400, or closed
		}
		s.Close()
	}
	for end := time.Now().Add(5 * time.Second); large.Load() != 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if shut == 0 || shut == len(strangers) || large.Load() != 0 {
		t.Errorf("%d of %d are shut out, %d bytes are not given back", shut, len(strangers), large.Load())
	}
	// Two at once: of the second one order and case are not known.
	fmt.Fprint(c, strings.Repeat("POST /topics/orders HTTP/1.1\r\nHost: x\r\nKafka-Header-b: 1\r\nKafka-Header-A: 2\r\nContent-Length: 0\r\n\r\n", 2))
	for range 2 {
		w, err := http.ReadResponse(answers, nil)
		if err != nil || w.StatusCode != 200 {
			t.Fatal(w, err)
		}
		answers.Discard(int(w.ContentLength))
	}
	if first, second := shown(f.got[len(f.got)-2]), shown(f.got[len(f.got)-1]); !strings.HasSuffix(first, `b:"1" A:"2"`) || !strings.HasSuffix(second, `a:"2" b:"1"`) {
		t.Errorf("two at once: %s, %s", first, second)
	}
}

// What is read behind the last answer of a connection is no head: nothing of it is kept.
func TestBehindTheLastAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	kept, most := Listen(l), int64(0)
	over := make(chan struct{})
	s := &http.Server{ConnContext: ConnContext, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(over)
		w.Header().Set("Connection", "close")
		w.WriteHeader(413)
		_ = http.NewResponseController(w).Flush()
		for b, err := make([]byte, 4<<10), error(nil); err == nil; most = max(most, kept.(listener).large.Load()) {
			_, err = r.Body.Read(b)
		}
	})}
	defer s.Close()
	go s.Serve(kept)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	body := strings.Repeat("b", 1<<20)
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", len(body))
	if answer, err := bufio.NewReader(c).ReadString('\n'); err != nil || answer != "HTTP/1.1 413 Request Entity Too Large\r\n" {
		t.Fatalf("%q, %v", answer, err)
	}
	fmt.Fprint(c, body)
	if <-over; most > 0 {
		t.Errorf("%d bytes behind the last answer were kept", most)
	}
}
