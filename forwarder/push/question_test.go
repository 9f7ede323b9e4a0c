package push

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kpush/kpush/forwarder/wire/wiretest"
)

// confirming asks under a URL whether the service has a message.
func confirming(t *testing.T, url string) *Service {
	t.Helper()
	cfg := hasty("http://service/")
	cfg.ConfirmURLs = []string{url}
	return service(t, cfg)
}

// asking is Has in a word.
func asking(s *Service) (word string, err error) {
	r := s.Has(context.Background(), 0, "t/0/7/T")
	if !r.Known {
		err = errors.New(r.Verdict.Reason)
	}
	return map[bool]string{true: "yes", false: "no"}[r.Has], err
}

// 200 says that the service has it, 404 that it does not, nothing else says anything.
func TestConfirmURLStatus(t *testing.T) {
	for status, want := range map[int]string{200: "yes", 404: "no", 201: "", 204: "", 301: "", 400: "", 401: "", 410: "", 429: "", 500: "", 503: ""} {
		cfg := hasty("http://service/")
		cfg.ConfirmURLs = []string{"http://service/has?tenant=a"}
		cfg.Line = scripted(func(q *http.Request) int {
			if got := q.URL.Query(); q.Method != http.MethodGet || got.Get("id") != "t/0/7/T" || got.Get("tenant") != "a" || q.URL.Path != "/has" {
				t.Errorf("asked %s %s", q.Method, q.URL)
			}
			return status
		})
		got, err := asking(service(t, cfg))
		if want != "" && (err != nil || got != want) {
			t.Errorf("%d: %s, %v, want %s", status, got, err, want)
		}
		if want == "" && (got == "yes" || err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("the answer was %d, ", status))) {
			t.Errorf("%d: %s, %v, want to be told", status, got, err)
		}
	}
}

// The question over a real connection: a GET with the id, the URL's own query and password, asked again after no answer.
func TestConfirmURLOverTheWire(t *testing.T) {
	for domain, host := range map[string]string{"": "127.0.0.1", "shop.example": "shop.example"} {
		askOverTheWire(t, domain, host)
	}
}

// askOverTheWire asks for one message under ConfirmDomain; host is what the service sees of it.
func askOverTheWire(t *testing.T, domain, host string) {
	t.Helper()
	var mu sync.Mutex
	var asked []string
	seen := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(asked)
	}
	far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		user, password, _ := r.BasicAuth()
		switch asked = append(asked, strings.Join([]string{r.Method, r.RequestURI, user, password, strings.Split(r.Host, ":")[0]}, " ")); len(asked) {
		case 1:
			panic(http.ErrAbortHandler) // breaks the connection
		case 2:
			w.WriteHeader(503)
		}
	}))
	defer far.Close()
	cfg := hasty(far.URL)
	cfg.ConfirmURLs, cfg.ConfirmDomain = []string{strings.Replace(far.URL, "//", "//u:p@", 1) + "/has?tenant=a%20b"}, domain
	s := service(t, cfg)
	for n, why := range []string{"the connection broke", "the answer was 503", ""} {
		got, err := asking(s)
		if failed := err != nil; failed != (why != "") || failed && !strings.HasPrefix(err.Error(), why) || (got == "yes") != (why == "") || len(seen()) != n+1 {
			t.Errorf("question %d: %s, %v after %q", n+1, got, err, seen())
		}
	}
	want := "GET /has?tenant=a%20b&id=t%2F0%2F7%2FT u p " + host
	if got := seen(); !slices.Equal(got, []string{want, want, want}) {
		t.Errorf("asked %q", got)
	}
}

// A 200 or 404 that breaks off says nothing: the service is asked again, until its answer is whole.
func TestConfirmURLBreaksOff(t *testing.T) {
	for half, want := range map[string]string{
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nyes":                       "unknown no",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nyes":         "unknown no",
		"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nno":                 "unknown no",
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes":                       "yes",
		"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\nuntil it is closed": "no",
	} {
		s := confirming(t, wiretest.Bare(t, func(n int, c net.Conn, r *bufio.Reader) {
			if q, err := http.ReadRequest(r); err != nil || q.Method != http.MethodGet {
				t.Errorf("connection %d: %v, %v", n, q, err)
			} else if n == 1 {
				io.WriteString(c, half)
			} else {
				io.WriteString(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
			}
		})+"/has")
		var words []string
		for len(words) == 0 || words[len(words)-1] == "unknown" && len(words) < 5 {
			word, err := asking(s)
			if err != nil {
				word = "unknown"
			}
			words = append(words, word)
		}
		if got := strings.Join(words, " "); got != want {
			t.Errorf("after %q: %s, want %s", half, got, want)
		}
	}
}

// A question has its bound, and ends when nobody waits for the answer any more: it is not known then.
func TestConfirmURLWithoutAnAnswer(t *testing.T) {
	silent := wiretest.Bare(t, func(_ int, c net.Conn, _ *bufio.Reader) { io.Copy(io.Discard, c) })
	cfg := hasty("http://service/")
	cfg.ConfirmURLs, cfg.ExecTimeout = []string{silent}, 50*time.Millisecond
	s := service(t, cfg)
	begun := time.Now()
	if got, err := asking(s); err == nil || got == "yes" || time.Since(begun) > 5*time.Second {
		t.Errorf("%s, %v after %s", got, err, time.Since(begun))
	}
	cfg.ExecTimeout = 0
	s = service(t, cfg)
	if s.confirm.timeout != confirmTimeout {
		t.Errorf("without KPUSH_EXEC_TIMEOUT a question takes up to %s", s.confirm.timeout)
	}
	ctx, end := context.WithCancelCause(context.Background())
	time.AfterFunc(50*time.Millisecond, func() { end(Ending("revoked")) })
	if r := s.Has(ctx, 0, "t/0/7/T"); r.Known || r.Has || r.Verdict.Class != Aborted || r.Verdict.Reason != "revoked" {
		t.Errorf("%+v", r)
	}
	if _, err := asking(confirming(t, "http://"+wiretest.ClosedPort(t))); err == nil {
		t.Error("nobody listens, and the answer is known")
	}
}

// Ready asks the URL as it is; every 2xx is a yes, and whatever else comes says why not.
func TestReady(t *testing.T) {
	for status, ready := range map[int]bool{200: true, 204: true, 299: true, 301: false, 404: false, 429: false, 500: false, 503: false} {
		elsewhere := 0
		away := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
		far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); r.Method != http.MethodGet || r.RequestURI != "/up?a=%20x" || r.Host != "shop.example" || user+password != "up" {
				t.Errorf("asked %s %s of %s as %s", r.Method, r.RequestURI, r.Host, user)
			}
			w.Header().Set("Location", away.URL)
			w.WriteHeader(status)
		}))
		cfg := hasty("http://service/")
		cfg.ReadyURLs, cfg.ReadyDomain = []string{strings.Replace(far.URL, "//", "//u:p@", 1) + "/up?a=%20x"}, "shop.example"
		err := service(t, cfg).Ready(context.Background())
		if (err == nil) != ready || err != nil && err.Error() != fmt.Sprintf("it answered %d", status) || elsewhere > 0 {
			t.Errorf("%d: %v, and %d asked elsewhere", status, err, elsewhere)
		}
		far.Close()
		away.Close()
	}
}

// No answer, and half of one, is a no: also where it is on its way for longer than readyTimeout.
func TestReadyWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{
		"closed": "http://" + wiretest.ClosedPort(t),
		"half": wiretest.Bare(t, func(_ int, c net.Conn, _ *bufio.Reader) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nyes")
		}),
		"silent": wiretest.Bare(t, func(_ int, c net.Conn, _ *bufio.Reader) { io.Copy(io.Discard, c) }),
	} {
		cfg := hasty("http://service/")
		cfg.ReadyURLs, cfg.ExecTimeout = []string{url}, 0
		begun := time.Now()
		if err := service(t, cfg).Ready(context.Background()); err == nil || !strings.HasPrefix(err.Error(), "no answer: ") || time.Since(begun) > readyTimeout+4*time.Second {
			t.Errorf("%s: %v after %s", name, err, time.Since(begun))
		}
	}
}

// Who is asked: the host that is meant where each has its URL; else the one that there is, which may be none of the service's. What goes
// to a host shares the connections of its deliveries, however its address is written.
func TestWhomAQuestionIsFor(t *testing.T) {
	socket := "http+unix://" + url.PathEscape("/run/app.sock")
	for _, row := range []struct {
		targets, at string
		hosts       []int // of a question that is meant for each host, in turn
	}{
		{"http://a:80/in http://b:80/in", "http://a:80/has http://b:80/has", []int{0, 1}},
		{"http://a:80/in http://b:80/in", "http://B/has?x=1", []int{1, 1}},
		{"http://a:80/in http://b:80/in", "http://c/has", []int{Elsewhere, Elsewhere}},
		{"http://a:80/in", "https://a:80/has", []int{Elsewhere}},
		{"https://a/in", "https://u:p@a:443/has", []int{0}},
		{"http://[::1]:80/in", "http://[::1]/has", []int{0}},
		{socket + "/in", socket + "/has", []int{0}},
		{"http://a:80/in " + socket, "http://a:80/has " + socket + "/has", []int{0, 1}},
	} {
		cfg := hasty(strings.Fields(row.targets)...)
		cfg.ConfirmURLs = strings.Fields(row.at)
		s := service(t, cfg)
		for host, want := range row.hosts {
			at := s.confirm.of(host)
			if at.host != want || want >= 0 && at.Line != s.hosts[want].Line {
				t.Errorf("%s of %s: host %d is asked at %d", row.at, row.targets, host, at.host)
			}
		}
	}
}

// A question over a connection that was kept and has ended is asked again at once, on a new one: it changes nothing.
func TestAQuestionOverAStaleConnection(t *testing.T) {
	var asked atomic.Int32
	at := wiretest.Bare(t, func(n int, c net.Conn, r *bufio.Reader) {
		for wiretest.Read(r) {
			if asked.Add(1) == 2 {
				return
			}
			io.WriteString(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
		}
	})
	cfg := hasty(at)
	cfg.ConfirmURLs = []string{at + "/has"}
	s := service(t, cfg)
	for range 2 {
		if got, err := asking(s); got != "no" || err != nil {
			t.Errorf("%s, %v", got, err)
		}
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("asked %d times", n)
	}
}

// A question brings what it got: the answer's status, pause and beginning; or why there is none.
func TestWhatAQuestionGot(t *testing.T) {
	far := wiretest.Bare(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if wiretest.Read(r) {
			io.WriteString(c, "HTTP/1.1 429 Later\r\nRetry-After: 7\r\nContent-Length: 9\r\n\r\nI am busy")
		}
	})
	for at, want := range map[string]Verdict{
		far:                           {Status: 429, RetryAfter: 7 * time.Second, Answer: "I am busy", Reason: "the answer was 429, where 200 means that the service has the message, 404 that it does not"},
		"http://" + nobody(t) + "/no": {Class: ServiceFault, Absent: true, Reason: "refused"},
	} {
		got := confirming(t, at).Has(context.Background(), 0, "t/0/7/T")
		if !strings.Contains(got.Verdict.Reason, want.Reason) || got.Known {
			t.Errorf("%+v", got)
		}
		got.Verdict.Reason, want.Reason = "", ""
		if !reflect.DeepEqual(got.Verdict, want) || got.Host != Elsewhere {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}

// The service is ready where one of its hosts is.
func TestReadyOfSeveralHosts(t *testing.T) {
	says := func(status int) string {
		far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		t.Cleanup(far.Close)
		return far.URL
	}
	for want, hosts := range map[string][]string{
		"":                                    {"http://" + nobody(t), says(503), says(204)},
		"connection refused; it answered 503": {"http://" + nobody(t), says(503)},
	} {
		cfg := hasty(hosts...)
		cfg.ReadyURLs = hosts
		if err := service(t, cfg).Ready(context.Background()); (err == nil) != (want == "") || err != nil && !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
