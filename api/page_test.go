package api

import (
	"bytes"
	"errors"
	"go/format"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/valyala/quicktemplate/parser"

	"github.com/kpush/kpush/forwarder"
	"github.com/kpush/kpush/kafka"
)

// The page says without a script all that the status does.
func TestPage(t *testing.T) {
	w := ask(t, newTest(&fake{status: busy()}, ""), "GET /", "")
	page := w.Body.String()
	if w.Code != 200 || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("%d %s", w.Code, w.Header())
	}
	for _, want := range []string{"billing", "running, ready", "2 partitions assigned", "3 of 16", ">57<", "10.0.0.5:80", "unix:/run/a.sock", "down since 2026-11-30 12:00:00 UTC",
		"orders/0", "1,042", "1,040", "1,100", "paused: operator", "stands still: held back", "nothing new: 10,000 offsets", "the log ends at 1,110", "1 s", "120/s",
		"Dead letters", "<code>orders-dead</code>", "<dt>Sent</dt><dd>1,007</dd>", "of them from returns</dt><dd>1,000<", `<dt>Waiting to be sent</dt><dd class="bad">1<`, "orders/0/9 is given up and waits.",
		"<dt>Sent back</dt><dd>3<", `action="/redrive"`, `id="redrive"`, "The skip log holds 1,234,567; sent again: 17.", "<code>orders/1/5</code>", "base64:/w==",
		"orders/0/1042", "500 Internal Server Error", "KPUSH_TOPIC", "***", "12:00:00 UTC",
		`action="/skip"`, `action="/pause"`, `action="/resume"`, `action="/seek"`, `<html lang="en">`, `<main id="main"`, "<caption>", `scope="col"`, `scope="row"`, `aria-live="polite"`, `role="img" aria-label="messages a second`, `id="seek-orders-1"`, `id="skip-orders/0/1042"`} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
	csp := w.Header().Get("Content-Security-Policy")
	nonce := regexp.MustCompile(`nonce-(\w+)'`).FindStringSubmatch(csp)
	if nonce == nil || strings.Count(page, `nonce="`+nonce[1]+`"`) != 2 || !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("the page's policy is %s", csp)
	}
	if again := ask(t, newTest(&fake{}, ""), "GET /", ""); again.Header().Get("Content-Security-Policy") == csp {
		t.Error("the nonce is the same twice")
	}
	for _, outside := range []string{"http://", "https://", "//cdn", "style=", "onclick"} {
		if strings.Contains(page, outside) {
			t.Errorf("%q is on the page", outside)
		}
	}
	ids := map[string]bool{}
	for _, id := range regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if ids[id[1]] {
			t.Errorf("the id %s is there twice", id[1])
		}
		ids[id[1]] = true
	}
}

// What others have written stays text.
func TestPageWithHostileContent(t *testing.T) {
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>' javascript:alert(1) {{.}}`
	s := busy()
	at := kafka.Partition{Topic: evil}
	s.Group, s.InstanceID, s.Cluster, s.Why, s.Notes, s.Service.Names = evil, evil, evil, []string{evil}, []string{evil}, []string{evil, evil}
	s.Partitions = []forwarder.PartitionStatus{{Partition: at, End: 10, Stall: evil, Bounded: evil, Paused: []string{evil}, PerSecond: math.NaN()}}
	s.Blocked = []forwarder.BlockedStatus{{Position: kafka.Position{Partition: at}, Key: []byte(evil), Reason: evil, Answer: evil},
		{Position: kafka.Position{Partition: at, Offset: 1}, Key: []byte("\xff\x00" + strings.Repeat("k", 5000)), Reason: "\x00\u202e"}}
	s.Letters = forwarder.LettersStatus{Topic: evil, Why: evil, Sent: map[string]int64{evil: 1}}
	a := newTest(&fake{status: s, err: errors.New(evil)}, "")
	said := ask(t, a, "POST /skip", "blocked=true", "Content-Type: application/x-www-form-urlencoded", "Sec-Fetch-Site: same-origin")
	page := ask(t, a, "GET "+said.Header().Get("Location"), "").Body.String()
	if n := strings.Count(page, "<script"); n != 1 || strings.Contains(page, "<img") || strings.Contains(page, `href="javascript`) || !strings.Contains(page, "Not done: ") {
		t.Errorf("there are %d scripts on the page:\n%s", n, page)
	}
	if strings.Contains(page, strings.Repeat("a", 4000)) {
		t.Error("a key has no end")
	}
	hostile := newTest(&evilLog{fake{status: busy()}}, "")
	if page := ask(t, hostile, "GET /", "").Body.String(); strings.Count(page, "<script") != 1 || strings.Contains(page, "<img") || !strings.Contains(page, "&lt;img") {
		t.Errorf("of the skip log:\n%s", page)
	}
	if strings.Contains(ask(t, a, "GET /?said="+strings.Repeat("x", 100), "").Body.String(), "xxx") {
		t.Error("the address puts words onto the page")
	}
}

// What is compiled is what page.qtpl says.
func TestPageIsCompiled(t *testing.T) {
	template, err := os.Open("page.qtpl")
	if err != nil {
		t.Fatal(err)
	}
	defer template.Close()
	var made bytes.Buffer
	if err := parser.ParseNoLineComments(&made, template, "page.qtpl", "api"); err != nil {
		t.Fatal(err)
	}
	want, err := format.Source(made.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if is, err := os.ReadFile("page.qtpl.go"); err != nil || !bytes.Equal(is, want) {
		t.Errorf("page.qtpl.go is not what page.qtpl makes (%v): go generate ./api", err)
	}
}

// evilLog is a skip log of what others have written.
type evilLog struct{ fake }

func (*evilLog) SkipCounts() (forwarder.SkipCounts, error) {
	const evil = `"><img src=x onerror=alert(1)>`
	return forwarder.SkipCounts{Skipped: 1, Newest: []forwarder.SkippedMessage{{Position: kafka.Position{Partition: kafka.Partition{Topic: evil}}, Key: []byte(evil), Reason: evil}}}, nil
}

// A page without a status says why, and the rest.
func TestPageWithoutAStatus(t *testing.T) {
	a := newTest(&fake{}, "")
	a.watch.ask = func() forwarder.Status { panic("x") }
	if w := ask(t, a, "GET /", ""); w.Code != 500 || !strings.Contains(w.Body.String(), "KPUSH_TOPIC") || !strings.Contains(w.Body.String(), "bug here") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// A form does what its call does, and the page tells of it.
func TestForms(t *testing.T) {
	for _, row := range []struct{ path, form, asked, said string }{
		{"/skip", "topic=orders&partition=1&offset=5", `skip orders/1/5 "" false`, "Skipped: 3."},
		{"/skip", "blocked=true", `skip /0/0 "" true`, "Skipped: 3."},
		{"/pause", "", "pause /-1", "Paused: orders/1, orders/2."},
		{"/resume", "topic=orders&partition=1", "resume orders/1", "Resumed: nothing."},
		{"/seek", "topic=orders&partition=1&at=+12+", "seek orders/1 12  false false", "Goes on: orders/1 at 7."},
		{"/seek", "topic=orders&partition=1&at=beginning", "seek orders/1 0  true false", "Goes on"},
		{"/seek", "topic=orders&partition=1&at=2026-11-30T12:00:00Z", "seek orders/1 0 2026-11-30T12:00:00Z false false", "Goes on"},
		{"/seek", "topic=orders&partition=1&at=soon", "", "Not done: a timestamp is RFC 3339"},
		{"/seek", "topic=orders&partition=1&at=", "", "Not done: a timestamp is RFC 3339"},
		{"/resend", "all=true", "resend []", "Delivered: 1 of 2. Not delivered: orders/1/5: 500."},
		{"/redrive", "limit=+5+", "redrive 5", "Sent back: 2, refused: 1, left: 7."},
		{"/redrive", "limit=0", "", "Not done: say how many dead letters"},
		{"/pause", "force=true", "", "Not done: the body cannot be taken: unknown field"},
		{"/pause", "topic=orders", "pause orders/-1", "Paused: orders/1, orders/2. Note: of the 3 partitions, 2."},
		{"/seek", "topic=orders&at=end", "seek orders/-1 0  false true", "Goes on: orders/1 at 7. Note: of the 3 partitions, 2."},
		{"/skip", "blocked=true", `skip /0/0 "" true`, "Skipped: 3. Note: of the 3 partitions, 2."},
	} {
		f := &fake{}
		if strings.Contains(row.said, "Note") {
			f.remark = "of the 3 partitions, 2"
		}
		a := newTest(f, "")
		for _, origin := range []string{"Sec-Fetch-Site: same-origin", "Origin: http://127.0.0.1:9401"} {
			w := ask(t, a, "POST "+row.path, row.form, "Content-Type: application/x-www-form-urlencoded", origin)
			want := row.asked
			if want != "" {
				want += " by 192.0.2.1 status page"
			}
			if got := f.took(); w.Code != 303 || got != want {
				t.Errorf("%s %s: %d, asks for %s, want %s", row.path, row.form, w.Code, got, want)
			}
			if page := ask(t, a, "GET "+w.Header().Get("Location"), "").Body.String(); !strings.Contains(page, row.said) {
				t.Errorf("%s %s: the page does not say %q", row.path, row.form, row.said)
			}
		}
	}
	for form, says := range map[string]string{"partition=x&topic=a": "is a number", "limit=many": "is a number", "topic=a&topic=b": "twice", "%zz": "cannot be read"} {
		if w := ask(t, newTest(&fake{}, ""), "POST /pause", form, "Content-Type: application/x-www-form-urlencoded", "Sec-Fetch-Site: same-origin"); w.Code != 400 || !strings.Contains(w.Body.String(), says) {
			t.Errorf("%s: %d %s", form, w.Code, w.Body)
		}
	}
}

func TestSayingsAreFew(t *testing.T) {
	a := newTest(&fake{}, "")
	for range 3 * sayingsMost {
		ask(t, a, "POST /pause", "", "Content-Type: application/x-www-form-urlencoded", "Sec-Fetch-Site: same-origin")
	}
	if len(a.sayings.all) != sayingsMost || len(a.sayings.order) != sayingsMost {
		t.Errorf("%d are kept", len(a.sayings.all))
	}
}

// The history is of the last quarter of an hour, with gaps where there was no sample, and bounded.
func TestHistory(t *testing.T) {
	var h history
	at := func(n int, rate float64) []forwarder.PartitionStatus {
		return []forwarder.PartitionStatus{{Partition: kafka.Partition{Topic: "orders", Number: int32(n)}, PerSecond: rate, End: 100}}
	}
	p := at(0, 0)[0].Partition
	for i := range 400 {
		if i < 300 || i > 310 {
			h.add(noon.Add(time.Duration(i)*sampleTime), at(0, float64(i)))
		}
	}
	rate, open := h.of(p, noon.Add(401*sampleTime))
	if len(rate) != samples || len(open) != samples || rate[samples-3] != 399 || !math.IsNaN(float64(rate[samples-1])) || rate[0] != 222 || !math.IsNaN(float64(rate[305-222])) || open[0] != 100 {
		t.Errorf("rates %v", rate)
	}
	c := chartOf(rate, 5)
	if strings.Count(c.Path, "M") != 2 || strings.Contains(c.Path, "NaN") || !strings.Contains(c.Words, "now 5.0, highest 399") {
		t.Errorf("%+v", c)
	}
	if rate, _ := h.of(p, noon.Add(time.Hour*9)); !math.IsNaN(float64(rate[0])) || chartOf(rate, 0).Path != "" {
		t.Error("what is old is drawn")
	}
	for n := range 2 * historyMost {
		h.add(noon.Add(401*sampleTime), at(n, 1))
	}
	if len(h.rings) != historyMost {
		t.Errorf("%d partitions are kept", len(h.rings))
	}
	h.add(noon.Add(9*time.Hour), nil)
	if len(h.rings) != 0 {
		t.Errorf("%d partitions are kept that are gone", len(h.rings))
	}
}

func TestCatchUp(t *testing.T) {
	nan := float32(math.NaN())
	n := func(v int64) *int64 { return &v }
	for _, row := range []struct {
		open *int64
		rate float64
		was  []float32
		want string
	}{
		{nil, 1, nil, "not known"}, {n(0), 0, nil, "caught up"}, {n(100), 10, nil, "10 s"}, {n(100), 0, nil, "not at this pace"},
		{n(100), 10, []float32{100, 100}, "not at this pace"}, {n(100), 10, []float32{150, 100}, "10 s"}, {n(100), 10, []float32{nan, 160, 110, 100}, "16 s"},
		{n(100), 900, []float32{50, 100}, "not at this pace"}, {n(1 << 60), 1, nil, "11574 days"}, {n(1), 100, []float32{nan, nan}, "less than 1 s"},
	} {
		if got := catchUp(Partition{Open: row.open, PerSecond: row.rate}, row.was); got != row.want {
			t.Errorf("%v at %v, before %v: %s, want %s", row.open, row.rate, row.was, got, row.want)
		}
	}
	for seconds, want := range map[float64]string{0.2: "less than 1 s", 59: "59 s", 61: "1 min 1 s", 3660: "1 h 1 min", 200000: "2 days"} {
		if got := span(seconds); got != want {
			t.Errorf("%v: %s, want %s", seconds, got, want)
		}
	}
	for v, want := range map[any]string{0: "0", 999: "999", 1000: "1,000", int64(-1234567): "-1,234,567", (*int64)(nil): "–"} {
		if got := grouped(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}
