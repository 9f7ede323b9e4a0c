package push

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/kpush/kpush/forwarder/wire"
	"github.com/kpush/kpush/kafka"
)

// The beginning of an answer is one printable line of at most 200 bytes, whatever the service wrote.
func TestSaid(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, row := range []struct{ name, ack, encoding, body, want string }{
		{"text", "status", "", "no such customer\n", "no such customer"},
		{"nothing", "status", "", "", ""},
		{"lines", "status", "", "Traceback:\r\n\tline 1", "Traceback:   line 1"},
		{"long", "status", "", long, long[:200]},
		{"cut within a letter", "status", "", long[:199] + "é", long[:199]},
		{"a whole letter before the cut", "status", "", long[:198] + "éx", long[:198] + "é"},
		{"a terminal's commands", "status", "", "\x1b[2Jgone\x00\u202eback", "?[2Jgone??back"},
		{"no UTF-8", "status", "", "gr\xfc\xdfe", "gr?e"},
		{"encoded", "status", "gzip", "\x1f\x8b\x08", `3 bytes in Content-Encoding "gzip"`},
		{"encoded as itself", "status", "Identity", "no", "no"},
		{"errno", "errno", "", `{"errno":7,"errmsg":"out of stock"}`, `{"errno":7,"errmsg":"out of stock"}`},
		{"errno, escaped", "errno", "", `{"errno":7,"errmsg":"\u7f3a\u8d27"}`, "缺货"},
		{"errno, far behind", "errno", "", `{"data":"` + long + `","errno":7,"errmsg":"out of stock"}`, "out of stock"},
		{"errno, a long one", "errno", "", `{"data":"` + long + `","errno":7,"errmsg":"` + strings.ToUpper(long) + `"}`, strings.ToUpper(long[:200])},
		{"errno, with a mark", "errno", "", bom + `{"errno":7,"errmsg":"\u7f3a"}`, "缺"},
		{"errno, no text", "errno", "", `{"errno":7,"errmsg":5}`, `{"errno":7,"errmsg":5}`},
		{"errno, none", "errno", "", "<h1>500</h1>", "<h1>500</h1>"},
		{"errmsg of nobody", "status", "", `{"errmsg":"\u7f3a"}`, `{"errmsg":"\u7f3a"}`},
	} {
		if got := said(&wire.Answer{Status: 500, Encoding: row.encoding, Body: []byte(row.body)}, row.ack); got != row.want {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
}

func FuzzSaid(f *testing.F) {
	f.Add([]byte("a\xff\u2028b"))
	f.Fuzz(func(t *testing.T, body []byte) {
		got := printable(body)
		if len(got) > saidMost || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q becomes %q", body, got)
		}
	})
}

// Who fails is told with the answer's beginning; a delivery costs nothing for it, and where there was no answer there is nothing to tell.
func TestHTTPKeepsWhatTheServiceSaid(t *testing.T) {
	status := 0
	far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Kafka-Action", map[int]string{418: "skip"}[status])
		w.WriteHeader(status)
		_, _ = w.Write([]byte("because"))
	}))
	defer far.Close()
	for code, want := range map[int]string{200: "", 400: "because", 404: "because", 418: "because", 429: "because", 500: "because"} {
		status = code
		if v := try(service(t, hasty(far.URL)), item(kafka.Message{Value: []byte("secret")})); v.Answer != want {
			t.Errorf("%d: %s with %q, want %q", code, v.Class, v.Answer, want)
		}
	}
	for most, want := range map[int]string{0: "", 3: "bec", 7: "because", 1024: "because"} {
		status = 500
		cfg := hasty(far.URL)
		cfg.Response = most
		if v := try(service(t, cfg), item(kafka.Message{})); string(v.Response) != want || (v.Response == nil) != (want == "") {
			t.Errorf("of %d bytes %q is kept", most, v.Response)
		}
		if status = 200; try(service(t, cfg), item(kafka.Message{})).Response != nil {
			t.Errorf("a delivery keeps its answer")
		}
	}
	status = 500
	s := service(t, hasty(far.URL))
	it := item(kafka.Message{Value: []byte("secret")})
	far.Close()
	if v := try(s, it); v.Answer != "" {
		t.Errorf("%s without an answer, which was %q", v.Class, v.Answer)
	}
}
