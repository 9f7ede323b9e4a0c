package forwarder

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/forwarder/wire/wiretest"
	"github.com/kpush/kpush/offsets"
)

// KPUSH_CONFIRM_URL is asked before what is in doubt is sent again, until it says 200 or 404; nothing else is asked about.
func TestConfirmURL(t *testing.T) {
	for _, row := range []struct {
		name    string
		doubt   bool
		answers []int // of the question; 0: no answer
		want    []string
	}{
		{"not in doubt", false, nil, []string{"POST"}},
		{"the service has it", true, []int{200}, []string{"GET"}},
		{"the service does not have it", true, []int{404}, []string{"GET", "POST"}},
		{"it does not know yet", true, []int{500, 0, 301, 204, 404}, []string{"GET", "GET", "GET", "GET", "GET", "POST"}},
		{"it knows at last", true, []int{503, 200}, []string{"GET", "GET"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, local(func(c *Config) { c.ConfirmURL = "http://service/has?tenant=a" }), nil)
			var seen []string
			s := serving(r, func(q *http.Request) (*http.Response, error) {
				seen = append(seen, q.Method)
				if q.Method == http.MethodPost {
					return says(q, 200)
				}
				if got := q.URL.Query(); got.Get("id") != "t/0/7/T" || got.Get("tenant") != "a" || q.URL.Path != "/has" {
					t.Errorf("%s: asked %s", row.name, q.URL)
				}
				status := row.answers[0]
				row.answers = row.answers[1:]
				if status == 0 {
					return nil, errors.New("reset")
				}
				return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody, Request: q}, nil
			})
			d := handed(r.partition(t0), Message{Offset: 7, Value: []byte("v")})
			d.attempt.InDoubt = row.doubt
			out, err := r.f.handler.Handle(d)
			finish(d)
			if err != nil || out.Class != Delivered || !slices.Equal(seen, row.want) {
				t.Errorf("%s: %v, %v after %v, want %v", row.name, out, err, seen, row.want)
			}
			for i, at := range s.times {
				if seen[i] == "GET" && at != time.Duration(i)*r.f.cfg.RetryInterval {
					t.Errorf("%s: question %d came after %s", row.name, i+1, at)
				}
			}
			if n := r.turnsTaken(); n != 0 {
				t.Errorf("%s: %d slots are held at the end", row.name, n)
			}
		})
	}
}

// An attempt that ends in doubt is asked about before the next one, in the same life, too; a stop ends the asking.
func TestConfirmURLAfterATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, local(func(c *Config) { c.ConfirmURL = "http://service/has" }), nil)
		var seen []string
		serving(r, func(q *http.Request) (*http.Response, error) {
			seen = append(seen, q.Method)
			if q.Method == http.MethodPost {
				connected(q)
				return nil, errors.New("reset")
			}
			return &http.Response{StatusCode: 503, Body: http.NoBody, Request: q}, nil
		})
		p := r.partition(t0)
		d := handed(p, Message{Offset: 7, Value: []byte("v")})
		time.AfterFunc(time.Minute, func() { p.stop(errRevoked) })
		_, err := r.f.handler.Handle(d)
		finish(d)
		if !errors.Is(err, errRevoked) || seen[0] != "POST" || seen[1] != "GET" || slices.Contains(seen[1:], "POST") {
			t.Errorf("%v after %v", err, seen)
		}
		if n := len(r.logs.with("does not say whether the service has a message in doubt")); n != 1 {
			t.Errorf("said %d times in a minute, want once: %s", n, fmt.Sprint(r.logs.with("CONFIRM")))
		}
	})
}

// What was delivered before does not wait for the question: it is on record, or a crash would call it in doubt and the end of its
// partition would wait for the service's answer about another.
func TestConfirmURLHoldsUpNoRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, local(func(c *Config) { c.ConfirmURL, c.Concurrency = "http://service/has", 1 }), nil)
		serving(r, func(q *http.Request) (*http.Response, error) {
			if q.Method == http.MethodGet {
				<-q.Context().Done() // never answers
				return nil, q.Context().Err()
			}
			return says(q, 200)
		})
		p := r.partition(t0, offsets.Attempt{Offset: 1, Number: 1, InDoubt: true})
		p.push(&Message{Topic: "t", Offset: 0})
		p.push(&Message{Topic: "t", Offset: 1})
		synctest.Wait()
		if next := p.rec.Next(); next != 1 {
			t.Errorf("everything below %d is on record while the service is asked about 1", next)
		}
		drained(p, 0, errRevoked)
	})
}

// The question over a real connection: a GET with the id, the URL's own query and password, asked again after no answer.
func TestConfirmURLOverTheWire(t *testing.T) {
	for domain, host := range map[string]string{"": "127.0.0.1", "shop.example": "shop.example"} {
		askOverTheWire(t, domain, host)
	}
}

// A 200 or 404 that breaks off says nothing: the service is asked again, until its answer is whole.
func TestConfirmURLBreaksOff(t *testing.T) {
	for half, want := range map[string]string{
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nyes":                       "GET GET POST",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nyes":         "GET GET POST",
		"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nno":                 "GET GET POST",
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes":                       "GET",
		"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\nuntil it is closed": "GET POST",
	} {
		answers := []string{half, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"}
		if want == "GET POST" {
			answers = answers[:1]
		}
		var seen []string
		url := wiretest.Bare(t, func(_ int, c net.Conn, r *bufio.Reader) {
			q, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if seen = append(seen, q.Method); q.Method == http.MethodPost {
				answers = []string{"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"}
			}
			next := answers[0]
			answers = answers[1:]
			io.WriteString(c, next)
		})
		cfg := hasty(url)
		cfg.ConfirmURL = url + "/has"
		r := newRig(t, cfg, nil)
		d := handed(r.partition(t0), Message{Offset: 7})
		d.attempt.InDoubt = true
		out, err := r.f.handler.Handle(d)
		finish(d)
		if got := strings.Join(seen, " "); err != nil || out.Class != Delivered || got != want {
			t.Errorf("after %q: %v, %v, %s, want %s", half, out, err, got, want)
		}
	}
}

// askOverTheWire confirms one message under ConfirmDomain; host is what the service sees of it.
func askOverTheWire(t *testing.T, domain, host string) {
	t.Helper()
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		switch asked = append(asked, strings.Join([]string{r.Method, r.RequestURI, user, password, strings.Split(r.Host, ":")[0]}, " ")); len(asked) {
		case 1:
			panic(http.ErrAbortHandler) // breaks the connection
		case 2:
			w.WriteHeader(503)
		}
	}))
	defer s.Close()
	cfg := hasty(s.URL)
	cfg.ConfirmURL, cfg.ConfirmDomain = strings.Replace(s.URL, "//", "//u:p@", 1)+"/has?tenant=a%20b", domain
	r := newRig(t, cfg, nil)
	d := handed(r.partition(t0), Message{Offset: 7, Value: []byte("v")})
	d.attempt.InDoubt = true
	out, err := r.f.handler.Handle(d)
	finish(d)
	want := "GET /has?id=t%2F0%2F7%2FT&tenant=a+b u p " + host
	if err != nil || out.Class != Delivered || !slices.Equal(asked, []string{want, want, want}) {
		t.Errorf("%v, %v after %q", out, err, asked)
	}
	if len(r.logs.with("t/0/7: no answer: ")) != 1 {
		t.Errorf("said %q", r.logs.with("CONFIRM"))
	}
}
