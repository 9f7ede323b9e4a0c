package api

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func basic(password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("any:"+password))
}

const asForm = "Content-Type: application/x-www-form-urlencoded"

// callers are all kinds of them, and the status each gets; headers apart by |.
var callers = []struct {
	request, headers string // headers apart by |
	token            bool
	want             int
}{
	{"GET /status", "", false, 200},
	{"GET /status", "Host: localhost:9401", false, 200},
	{"GET /status", "Host: LOCALHOST.", false, 200},
	{"GET /status", "Host: [::1]:9401", false, 200},
	{"GET /status", "Host: [::1]", false, 200},
	{"GET /status", "Host: 127.9.9.9", false, 200},
	{"GET /status", "Host: evil.example", false, 403},
	{"GET /status", "Host: localhost.evil.example:9401", false, 403},
	{"GET /status", "Host: 127.0.0.1.evil.example", false, 403},
	{"GET /status", "Host: 10.0.0.5:9401", false, 403},
	{"GET /status", "Host: ", false, 403},
	{"GET /status", "Host: evil.example|Authorization: Bearer " + testToken, true, 403},
	{"GET /nothing", "Host: evil.example", false, 403},
	{"POST /pause", "Origin: http://evil.example", false, 403},
	{"POST /pause", "Origin: null", false, 403},
	{"POST /pause", "Origin: http://127.0.0.1:9401", false, 200},
	{"POST /pause", "Sec-Fetch-Site: cross-site", false, 403},
	{"POST /pause", "Sec-Fetch-Site: same-site", false, 403},
	{"POST /pause", "Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: navigate", false, 403},
	{"POST /pause", "Sec-Fetch-Site: same-origin", false, 200},
	{"GET /status", "Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: no-cors", false, 403},
	{"GET /status", "Origin: http://evil.example", false, 403},
	{"GET /", "Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: navigate", false, 200},
	{"GET /", "Sec-Fetch-Site: none|Sec-Fetch-Mode: navigate", false, 200},
	{"GET /pause", "", false, 405},
	{"POST /pause", "Content-Type: text/plain", false, 200},
	{"POST /pause", "Content-Type: application/json; charset=utf-8", false, 200},
	{"POST /pause", "Content-Type: application/json, text/plain", false, 200},
	{"POST /pause", "Content-Type: multipart/form-data; boundary=x", false, 200},
	{"POST /pause", "Content-Type: text/plain|Origin: http://evil.example", false, 403},
	{"POST /pause", "Content-Type: text/plain|Sec-Fetch-Site: cross-site", false, 403},
	{"POST /pause", "Content-Type: text/plain|Host: evil.example", false, 403},
	{"POST /pause", asForm, false, 200},
	{"POST /pause", asForm, true, 401},
	{"POST /pause", asForm + "|Origin: http://evil.example", false, 403},
	{"POST /pause", asForm + "|Origin: null", false, 403},
	{"POST /pause", asForm + "|Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: navigate", false, 403},
	{"POST /pause", asForm + "|Sec-Fetch-Site: same-site", false, 403},
	{"POST /pause", asForm + "|Host: evil.example", false, 403},
	{"POST /pause", asForm + "|Sec-Fetch-Site: none", false, 200},
	{"GET /status", "", true, 401},
	{"GET /", "", true, 401},
	{"POST /pause", "", true, 401},
	{"GET /nothing", "", true, 401},
	{"GET /status", "Authorization: Bearer wrong", true, 401},
	{"GET /status", "Authorization: Bearer ", true, 401},
	{"GET /status", "Authorization: " + testToken, true, 401},
	{"GET /status", "Authorization: Bearer " + testToken + "x", true, 401},
	{"GET /status", "Authorization: Digest " + testToken, true, 401},
	{"GET /status", "Authorization: Bearer " + testToken, true, 200},
	{"GET /status", "Authorization: bearer " + testToken, true, 200},
	{"GET /status", basic(testToken), true, 200},
	{"GET /status", basic("wrong"), true, 401},
}

// Whoever may not call is refused before anything is done; the rest is served.
func TestDoor(t *testing.T) {
	for _, row := range callers {
		f, token := &fake{}, ""
		if row.token {
			token = testToken
		}
		body := ""
		if strings.HasPrefix(row.request, "POST") {
			body = "{}"
		}
		w := ask(t, newTest(f, token), row.request, body, strings.Split(row.headers, "|")...)
		if w.Code != row.want {
			t.Errorf("%s with %s: %d %s, want %d", row.request, row.headers, w.Code, w.Body, row.want)
		}
		if did := f.took(); (did != "") != (w.Code == 200 && body != "") {
			t.Errorf("%s with %s: %d, and did %q", row.request, row.headers, w.Code, did)
		}
		if (w.Code == 401) != (len(w.Header().Values("WWW-Authenticate")) == 2) {
			t.Errorf("%s with %s: WWW-Authenticate %q", row.request, row.headers, w.Header().Values("WWW-Authenticate"))
		}
		for _, header := range []string{"nosniff", "no-store", "DENY", "same-origin"} {
			if !strings.Contains(fmt.Sprint(w.Header()), header) {
				t.Errorf("%s: %s is not among the headers", row.request, header)
			}
		}
	}
}

// What is no JSON is a form of the page, or nothing.
func TestBodiesThatAreNoJSON(t *testing.T) {
	for _, row := range []struct {
		headers, body string
		want          int
		says          string
	}{
		{asForm, "blocked=true", 400, "has to be a JSON object, such as {}; a form is taken from the status page only"},
		{asForm, "", 400, "has to be a JSON object, such as {}; a form is taken from the status page only"},
		{asForm + "|Sec-Fetch-Site: none", "blocked=true", 400, "has to be a JSON object, such as {}; a form is taken from the status page only"},
		{asForm + "|Origin: http://evil.example", "blocked=true", 403, "another site"},
		{asForm + "; charset=utf-8", "blocked=true", 400, "has to be a JSON object, such as {}; a form is taken from the status page only"},
		{"Content-Type: text/plain", "blocked=true", 400, "has to be a JSON object"},
		{"Content-Type: multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"blocked\"\r\n\r\ntrue\r\n--x--\r\n", 400, "has to be a JSON object"},
		{"Content-Type: multipart/form-data; boundary=x|Sec-Fetch-Site: same-origin", "--x--\r\n", 400, "has to be a JSON object"},
		{"Content-Type: ;", "", 400, "has to be a JSON object"},
	} {
		f := &fake{}
		w := ask(t, newTest(f, ""), "POST /skip", row.body, strings.Split(row.headers, "|")...)
		if did := f.took(); w.Code != row.want || !strings.Contains(w.Body.String(), row.says) || did != "" {
			t.Errorf("%s %q: %d %s, and did %q", row.headers, row.body, w.Code, w.Body, did)
		}
	}
}

// The Host may be what KPUSH_API_ADDR says; a wildcard says none, and goes by its token.
func TestHostOfTheAddress(t *testing.T) {
	for _, row := range []struct {
		addr, host string
		want       bool
	}{
		{"10.0.0.5:9401", "10.0.0.5:9401", true}, {"10.0.0.5:9401", "10.0.0.5", true}, {"10.0.0.5:9401", "10.0.0.6", false}, {"10.0.0.5:9401", "localhost", true},
		{"Kpush.shop:9401", "kpush.shop:9401", true}, {"kpush.shop:9401", "kpush", false}, {"[fd00::1]:9401", "[fd00::1]:9401", true},
		{":9401", "kpush:9401", true}, {"0.0.0.0:9401", "10.0.0.5", true}, {"[::]:9401", "kpush", true}, {":9401", "", false},
	} {
		if got := newDoor(row.addr, testToken).knows(row.host); got != row.want {
			t.Errorf("KPUSH_API_ADDR=%s, Host %s: %t, want %t", row.addr, row.host, got, row.want)
		}
	}
}

// Callers who hold connections, and never ask, lock nobody out: not on either port, and not beyond guestsMost of them.
func TestCrowds(t *testing.T) {
	for name, says := range map[string]string{"idle": "", "slow head": "GET /healthz HTTP/1.1\r\nHost: ", "slow body": "POST /pause HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{",
		"kept": "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"} {
		for port, h := range map[string]http.Handler{"health": Health("", sentences{}), "api": newTest(&fake{}, "")} {
			addr := serve(t, t.Context(), h)
			var held []net.Conn
			for range 300 {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatalf("%s, %s: %v", name, port, err)
				}
				defer c.Close()
				_, _ = io.WriteString(c, says) // one that is closed already says so below
				held = append(held, c)
			}
			begin, path := time.Now(), map[string]string{"health": "/healthz", "api": "/status"}[port]
			client := http.Client{Timeout: requestTime, Transport: &http.Transport{DisableKeepAlives: true}}
			for range 5 {
				resp, err := client.Get("http://" + addr + path)
				if err != nil || resp.StatusCode != 200 {
					t.Fatalf("%s, %s: %v %v", name, port, resp, err)
				}
				resp.Body.Close()
			}
			if took := time.Since(begin); took > requestTime {
				t.Errorf("%s, %s: five answers took %v", name, port, took)
			}
			open := len(held)
			for end := time.Now().Add(3 * time.Second); open > guestsMost && time.Now().Before(end); {
				open = stillOpen(held) // a close takes its moment
			}
			if open > guestsMost {
				t.Errorf("%s, %s: %d connections are held", name, port, open)
			}
		}
	}
}

// stillOpen counts the connections that the server has not closed.
func stillOpen(held []net.Conn) (open int) {
	buffer := make([]byte, 4096)
	for _, c := range held {
		var err error
		_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
		for err == nil {
			_, err = c.Read(buffer)
		}
		if n, ok := err.(net.Error); ok && n.Timeout() {
			open++
		}
	}
	return open
}

// What is too large is refused without being read.
func TestLargeRequests(t *testing.T) {
	addr := serve(t, t.Context(), newTest(&fake{}, ""))
	for name, row := range map[string]struct{ head, want string }{
		"1 GB":      {"POST /skip HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1073741824\r\n\r\n", " 413 "},
		"chunked":   {"POST /skip HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n20000\r\n" + strings.Repeat("x", 0x20000) + "\r\n", " 413 "},
		"huge head": {"GET /status HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", " 431 "},
		"no host":   {"GET /status HTTP/1.0\r\n\r\n", " 403 "},
	} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, row.head) // it may be refused before its end
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		status, err := bufio.NewReader(c).ReadString('\n')
		if !strings.Contains(status, row.want) {
			t.Errorf("%s: %q (%v), want %s", name, status, err, row.want)
		}
	}
}

func TestAPIInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a := New(&fake{}, About{Addr: l.Addr().String()}, slog.New(slog.DiscardHandler))
	if err := a.Serve(t.Context()); err == nil || !strings.Contains(err.Error(), "KPUSH_API_ADDR="+l.Addr().String()+" cannot be listened on") {
		t.Error(err)
	}
}
