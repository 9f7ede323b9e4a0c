package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/forwarder"
)

// kinds are what callers say that their JSON is; curl -d says that it is a form.
var kinds = []string{"", "application/json", "application/x-www-form-urlencoded", "text/plain"}

// Each call reaches the forwarder as what it means, whatever Content-Type says of its JSON, and answers what came of it.
func TestCalls(t *testing.T) {
	f := &fake{status: busy()}
	a := newTest(f, "")
	const moved = `{"partitions":[{"topic":"orders","partition":1},{"topic":"orders","partition":2}]}`
	const sought = `{"partitions":[{"topic":"orders","partition":1,"offset":7}]}`
	for _, row := range []struct{ request, body, asked, answer string }{
		{"POST /skip", `{"topic":"orders","partition":1,"offset":5}`, `skip orders/1/5 "" false`, `{"skipped":3}`},
		{"POST /skip", ` {"blocked":true} `, `skip /0/0 "" true`, `{"skipped":3}`},
		{"POST /skip", `{"topic":"orders","key":"k\u0000"}`, `skip orders/0/0 "k\x00" false`, `{"skipped":3}`},
		{"POST /skip", `{"topic":"orders","keyBase64":"/w=="}`, `skip orders/0/0 "\xff" false`, `{"skipped":3}`},
		{"POST /skip", `{"topic":"orders","key":""}`, `skip orders/0/0 "" false`, `{"skipped":3}`},
		{"POST /pause", `{}`, `pause /-1`, moved},
		{"POST /pause", `{"topic":"orders"}`, `pause orders/-1`, moved},
		{"POST /pause", `{"topic":"orders","partition":2147483647}`, `pause orders/2147483647`, moved},
		{"POST /resume", `{"topic":"orders","partition":0}`, `resume orders/0`, `{"partitions":[]}`},
		{"POST /seek", `{"topic":"orders","partition":1,"offset":0}`, `seek orders/1 0  false false`, sought},
		{"POST /seek", `{"topic":"orders","to":"beginning"}`, `seek orders/-1 0  true false`, sought},
		{"POST /seek", `{"topic":"orders","to":"end"}`, `seek orders/-1 0  false true`, sought},
		{"POST /seek", `{"topic":"orders","timestamp":"2026-11-30T13:00:00+01:00"}`, `seek orders/-1 0 2026-11-30T12:00:00Z false false`, sought},
		{"POST /seek", `{"topic":"orders","timestamp":"2026-11-30t12:00:00.5z"}`, `seek orders/-1 0 2026-11-30T12:00:00.5Z false false`, sought},
		{"POST /seek", `{"topic":"orders","timestamp":1795000000001}`, `seek orders/-1 0 2026-11-18T11:06:40.001Z false false`, sought},
		{"POST /resend", `{"topic":"orders","partition":1,"offset":5}`, `resend [orders/1/5]`,
			`{"resent":[{"topic":"orders","partition":1,"offset":5,"delivered":true,"reason":""},{"topic":"orders","partition":1,"offset":5,"delivered":false,"reason":"500"}]}`},
		{"POST /resend", `{"all":true}`, `resend []`, ""},
		{"POST /redrive", `{"limit":3}`, `redrive 3`, `{"sent":2,"refused":1,"left":7}`},
		{"GET /skipped?after=7000&limit=5000", ``, `skipped 7000 5000`, ""},
		{"GET /skipped?after=1", ``, `skipped 1 1000`, `"next":null}`},
		{"HEAD /skipped", ``, `skipped 0 1000`, ""},
		{"GET /skipped", ``, `skipped 0 1000`, `{"skipped":[{"topic":"orders","partition":1,"offset":5,"id":"orders/1/5/x","keyBase64":"/w==","size":9,"attempts":3,"reason":"400","inDoubt":false,"skipped":"2026-11-30T12:00:00Z","resent":null},` +
			`{"topic":"orders","partition":1,"offset":5,"id":"","size":0,"attempts":0,"reason":"","inDoubt":true,"skipped":"2026-11-30T12:00:00Z","resent":"2026-11-30T12:00:00Z"}],"next":7000}`},
		{"GET /audit", ``, `audit`, `{"audit":[{"time":"2026-11-30T12:00:00Z","who":"me","did":"skip","to":"blocked"}]}`},
		{"HEAD /audit", ``, `audit`, ""},
	} {
		for _, kind := range kinds {
			w := ask(t, a, row.request, row.body, "User-Agent: curl/8\x01ö", "Content-Type: "+kind)
			want := row.asked
			if strings.HasPrefix(row.request, "POST") {
				want += " by 192.0.2.1 curl/8"
			}
			if got := f.took(); got != want {
				t.Errorf("%s %s asks for %s, want %s", row.request, row.body, got, want)
			}
			if got := strings.TrimSpace(w.Body.String()); w.Code != 200 || !strings.HasSuffix(got, row.answer) {
				t.Errorf("%s %s: %d %s, want %s", row.request, row.body, w.Code, got, row.answer)
			}
			if kind := w.Header().Get("Content-Type"); kind != "application/json" {
				t.Errorf("%s: Content-Type %s", row.request, kind)
			}
		}
	}
}

// Where more is to be said than what was done, the answer says it: of a whole topic, and of a skip.
func TestNotes(t *testing.T) {
	for request, want := range map[string]string{
		`/skip {"blocked":true}`: `{"skipped":3,"note":"more"}`,
		`/pause {}`:              `{"partitions":[{"topic":"orders","partition":1},{"topic":"orders","partition":2}],"note":"more; here"}`,
		`/pause {"topic":"orders","partition":1}`:           `{"partitions":[{"topic":"orders","partition":1},{"topic":"orders","partition":2}],"note":"here"}`,
		`/resume {"topic":"orders"}`:                        `{"partitions":[],"note":"more"}`,
		`/seek {"topic":"orders","to":"end"}`:               `{"partitions":[{"topic":"orders","partition":1,"offset":7}],"note":"more"}`,
		`/seek {"topic":"orders","partition":1,"offset":7}`: `{"partitions":[{"topic":"orders","partition":1,"offset":7}]}`,
	} {
		path, body, _ := strings.Cut(request, " ")
		w := ask(t, newTest(&fake{remark: "more", pausedHere: "here"}, ""), "POST "+path, body)
		if got := strings.TrimSpace(w.Body.String()); w.Code != 200 || got != want {
			t.Errorf("%s: %d %s", request, w.Code, got)
		}
	}
}

// A key as people see it names that key, and no other.
func TestKeysForPeople(t *testing.T) {
	for key, want := range map[string]string{"a": "a", "": "", "a b=": "a b=", "a b=\x01": "base64:YSBiPQE=", "a\\b": "base64:YVxi", "a\"b": "a\"b", "\xff\x00": "base64:/wA=", "base64:/wA=": "base64:YmFzZTY0Oi93QT0=", "base64:": "base64:YmFzZTY0Og==", "–": "base64:4oCT"} {
		shown := keyOf([]byte(key)).String()
		call, err := KeyFrom(shown)
		if err != nil || shown != want {
			t.Errorf("%q is shown as %s, want %s: %v", key, shown, want, err)
		}
		body, _ := json.Marshal(call)
		f := &fake{}
		w := ask(t, newTest(f, ""), "POST /skip", `{"topic":"orders",`+string(body[1:]))
		if got, want := f.took(), fmt.Sprintf("skip orders/0/0 %q false by 192.0.2.1", key); w.Code != 200 || got != want {
			t.Errorf("%s asks for %s, want %s", shown, got, want)
		}
	}
	if none := keyOf(nil).String(); none != "–" {
		t.Errorf("no key is shown as %s", none)
	}
	if _, err := KeyFrom("base64:*"); err == nil {
		t.Error("what is no base64 is a key")
	}
}

// What docs/operate.md has for curl is a call, as curl says it.
func TestDocumentedCalls(t *testing.T) {
	text, err := os.ReadFile("../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	all := regexp.MustCompile(`curl -s (?:-d '([^']*)' )?127\.0\.0\.1:9401(/\w+)(?: -d '([^']*)')?`).FindAllSubmatch(text, -1)
	posts := 0
	for _, call := range all {
		request, body, headers := "GET "+string(call[2]), string(call[1])+string(call[3]), []string{"User-Agent: curl/8"}
		if body != "" {
			request, headers = "POST "+string(call[2]), append(headers, asForm)
			posts++
		}
		if w := ask(t, newTest(&fake{status: busy()}, ""), request, body, headers...); w.Code != 200 {
			t.Errorf("%s: %d %s", call[0], w.Code, w.Body)
		}
	}
	if posts == 0 || posts == len(all) {
		t.Errorf("%d calls are found, %d of them POST", len(all), posts)
	}
}

// What is no call of the contract does nothing, and says why.
func TestMistakes(t *testing.T) {
	f := &fake{}
	a := newTest(f, "")
	for _, row := range []struct {
		request, body string
		code          int
		says          string
	}{
		{"POST /skip", ``, 400, "has to be a JSON object"},
		{"POST /skip", `null`, 400, "has to be a JSON object"},
		{"POST /skip", `[{"blocked":true}]`, 400, "has to be a JSON object"},
		{"POST /skip", `{}`, 400, "named by topic, partition and offset"},
		{"POST /skip", `{"blocked":true`, 400, "cannot be taken"},
		{"POST /skip", `{"blocked":true}{}`, 400, "goes on behind"},
		{"POST /skip", `{"blocked":true} x`, 400, "goes on behind"},
		{"POST /skip", `{"blocked":true,"force":true}`, 400, `unknown field "force"`},
		{"POST /skip", `{"blocked":true,"topic":"orders"}`, 400, "name one message"},
		{"POST /skip", `{"topic":"orders","key":"a","keyBase64":"YQ=="}`, 400, "name one message"},
		{"POST /skip", `{"topic":"orders","key":"a","offset":1}`, 400, "name one message"},
		{"POST /skip", `{"key":"a"}`, 400, "name one message"},
		{"POST /skip", `{"topic":"orders","keyBase64":"*"}`, 400, "cannot be taken"},
		{"POST /skip", `{"topic":"orders","partition":0,"offset":-1}`, 400, "not negative"},
		{"POST /skip", `{"topic":"orders","partition":-1,"offset":1}`, 400, "not negative"},
		{"POST /skip", `{"topic":"orders","partition":0,"offset":NaN}`, 400, "cannot be taken"},
		{"POST /skip", `{"topic":"orders","partition":0,"offset":1.5}`, 400, "cannot be taken"},
		{"POST /skip", `{"topic":"orders","partition":0,"offset":"1"}`, 400, "cannot be taken"},
		{"POST /skip", `{"topic":"orders","partition":0,"offset":9223372036854775808}`, 400, "cannot be taken"},
		{"POST /skip", `{"topic":"orders","partition":2147483648,"offset":1}`, 400, "cannot be taken"},
		{"POST /skip", strings.Repeat(`{"topic":`, 6000), 400, "cannot be taken"},
		{"POST /pause", `{"partition":1}`, 400, "needs its topic"},
		{"POST /pause", `{"topic":""}`, 400, "topic is empty"},
		{"POST /pause", `{"offset":1}`, 400, "unknown field"},
		{"POST /seek", `{"topic":"orders"}`, 400, "where to"},
		{"POST /seek", `{"offset":1}`, 400, "needs a topic"},
		{"POST /seek", `{"topic":"orders","offset":1,"to":"end"}`, 400, "where to"},
		{"POST /seek", `{"topic":"orders","to":"middle"}`, 400, "where to"},
		{"POST /seek", `{"topic":"orders","offset":-2}`, 400, "not negative"},
		{"POST /seek", `{"topic":"orders","timestamp":"yesterday"}`, 400, "RFC 3339"},
		{"POST /seek", `{"topic":"orders","timestamp":-1}`, 400, "RFC 3339"},
		{"POST /seek", `{"topic":"orders","timestamp":null}`, 400, "timestamp is null"},
		{"POST /seek", `{"topic":"orders","partition":null,"offset":1}`, 400, "partition is null"},
		{"POST /pause", `{"topic":null}`, 400, "topic is null"},
		{"POST /skip", `{"topic":"orders","key":null}`, 400, "key is null"},
		{"POST /seek", `{"topic":"orders","timestamp":"0001-01-01T00:00:00Z"}`, 400, "is before 1970"},
		{"POST /seek", `{"topic":"orders","timestamp":"1969-12-31t23:59:59.9z"}`, 400, `"1969-12-31t23:59:59.9z" is before 1970`},
		{"POST /seek", `{"topic":"orders","timestamp":"2026-11-30 12:00:00z"}`, 400, "RFC 3339"},
		{"POST /resend", `{}`, 400, "named by"},
		{"POST /redrive", `{}`, 400, "how many"},
		{"POST /redrive", `{"limit":0}`, 400, "how many"},
		{"POST /redrive", `{"limit":1e9}`, 400, "cannot be taken"},
		{"GET /redrive", ``, 405, "POST only"},
		{"GET /skipped?limit=0", ``, 400, "from 1 to 5000"},
		{"GET /skipped?limit=5001", ``, 400, "from 1 to 5000"},
		{"GET /skipped?after=-1", ``, 400, "takes after"},
		{"GET /skipped?after=1&after=2", ``, 400, "takes after"},
		{"GET /skipped?offset=1", ``, 400, "takes after"},
		{"GET /skipped?%zz", ``, 400, "cannot be read"},
		{"POST /resend", `{"all":true,"topic":"orders"}`, 400, "or all"},
		{"POST /skip", `{"topic":"` + strings.Repeat("x", bodyMost) + `"}`, 413, "65536"},
		{"GET /nothing", ``, 404, "there is no call"},
		{"GET /status/", ``, 404, "there is no call"},
		{"GET /topics/orders", ``, 404, "there is no call"},
		{"GET /skip", ``, 405, "POST only"},
		{"PUT /pause", `{}`, 405, "POST only"},
		{"POST /status", `{}`, 405, "GET, HEAD only"},
		{"OPTIONS /skip", ``, 405, "POST only"},
		{"POST /", ``, 405, "GET, HEAD only"},
	} {
		w := ask(t, a, row.request, row.body)
		var said map[string]string
		if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil || len(said) != 1 || w.Code != row.code || !strings.Contains(said["error"], row.says) {
			t.Errorf("%s %.80s: %d %.300s, want %d with %q", row.request, row.body, w.Code, w.Body, row.code, row.says)
		}
		if w.Code == 405 && w.Header().Get("Allow") == "" {
			t.Errorf("%s: 405 without Allow", row.request)
		}
		if got := f.took(); got != "" {
			t.Errorf("%s %.80s asks for %s", row.request, row.body, got)
		}
	}
}

// What the forwarder refuses has a status of its own.
func TestRefusals(t *testing.T) {
	for err, code := range map[error]int{
		fmt.Errorf("orders/9: %w", forwarder.ErrNoSuch): 404, fmt.Errorf("orders/1: %w", forwarder.ErrNotOurs): 409, fmt.Errorf("orders/1 %w", forwarder.ErrMoves): 409, fmt.Errorf("orders/1 is %w", forwarder.ErrHeld): 409, fmt.Errorf("orders/1/5: %w", forwarder.ErrNotFailing): 409,
		fmt.Errorf("no record: %w", context.DeadlineExceeded): 503, forwarder.ErrEnding: 409, fmt.Errorf("behind the end: %w", forwarder.ErrAsked): 400, errors.New("the volume\nhangs"): 503,
	} {
		for _, request := range []string{"POST /pause", "POST /resume", "POST /skip", "GET /skipped", "GET /audit"} {
			body := `{}`
			if request == "POST /skip" {
				body = `{"blocked":true}`
			}
			w := ask(t, newTest(&fake{err: err}, ""), request, body)
			var said map[string]string
			if bad := json.Unmarshal(w.Body.Bytes(), &said); bad != nil || w.Code != code || said["error"] != strings.ReplaceAll(err.Error(), "\n", "; ") {
				t.Errorf("%s: %d %s, want %d with %q", request, w.Code, w.Body, code, err)
			}
		}
	}
}

// A redrive that breaks off says how far it came, with the status of what ended it.
func TestRedriveBreaksOff(t *testing.T) {
	w := ask(t, newTest(&fake{err: fmt.Errorf("t/0: %w", forwarder.ErrNotOurs)}, ""), "POST /redrive", `{"limit":9}`)
	if w.Code != 409 || !strings.Contains(w.Body.String(), "Sent back: 2, refused: 1, left: 7. Then: t/0: not assigned") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// A resend that is cut off says how far it came.
func TestResendWithoutTime(t *testing.T) {
	w := ask(t, newTest(&fake{err: fmt.Errorf("cut: %w", context.DeadlineExceeded)}, ""), "POST /resend", `{"all":true}`)
	if w.Code != 503 || !strings.Contains(w.Body.String(), "delivered: 1 of 2 that were sent") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// The answer is the contract's shape, word for word.
func TestStatus(t *testing.T) {
	const want = `{"version":"1.2","state":"running","ready":false,"why":["the network is dead"],"notes":["2 partitions assigned","nobody reads the log"],"cluster":"c-1","group":"billing","instanceId":"pod-0","guarantee":2,` +
		`"service":{"up":true,"hosts":[{"host":"10.0.0.5:80","up":true,"since":null},{"host":"unix:/run/a.sock","up":false,"since":"2026-11-30T12:00:00Z"}],"inFlight":3,"limit":16,"waiting":57,"failing":1,"pausedUntil":"2026-11-30T12:00:00Z"},` +
		`"partitions":[{"topic":"orders","partition":0,"next":1042,"committed":1040,"end":1100,"high":1110,"lag":58,"open":50,"oldestSeconds":1.2,"perSecond":120.5,"inFlight":1,"waiting":57,"failing":1,"paused":["operator"],"bounded":"10,000 offsets","stall":"held back",` +
		`"blocked":[{"offset":1042,"key":"k","attempts":12,"status":500,"reason":"500 Internal Server Error","answer":"no such customer","since":"2026-11-30T12:00:00Z"}]},` +
		`{"topic":"orders","partition":1,"next":7,"committed":null,"end":null,"lag":null,"open":null,"oldestSeconds":0,"perSecond":0,"inFlight":0,"waiting":0,"failing":0,"paused":[],"stall":"","blocked":[]}],` +
		`"publish":{"queued":0,"spooled":0,"sent":0,"failed":0,"failedBy":{},"refused":{},"unacknowledgedSince":null},` +
		`"deadLetters":{"topic":"orders-dead","sent":1007,"from":{"orders":7,"returns":1000},"waiting":1,"why":"orders/0/9 is given up and waits","redriven":3,"refused":2},"config":{"KPUSH_API_TOKEN":"***","KPUSH_TOPIC":"orders"}}`
	a := newTest(&fake{status: busy()}, "")
	a.about.Sources = []Source{sentences{ready: []string{"the network is dead"}, notes: []string{"nobody reads the log"}}}
	if w := ask(t, a, "GET /status", ""); w.Code != 200 || strings.TrimSpace(w.Body.String()) != want {
		t.Errorf("%d\n%s\nwant\n%s", w.Code, w.Body, want)
	}
	w := ask(t, newTest(&fake{}, ""), "GET /status", "")
	for _, list := range []string{`"deadLetters":null`, `"why":[]`, `"notes":[]`, `"hosts":[]`, `"partitions":[]`} {
		if !strings.Contains(w.Body.String(), list) {
			t.Errorf("%s is not in %s", list, w.Body)
		}
	}
}

// A volume that hangs holds up no caller, and no number of callers costs more than a few goroutines.
func TestHanging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{hangs: make(chan struct{}), status: busy()}
		a := newTest(f, "")
		for _, row := range []struct {
			request, body string
			within        time.Duration
		}{{"GET /status", "", statusTime}, {"GET /", "", statusTime}, {"GET /skipped", "", commandTime}, {"POST /pause", "{}", commandTime}, {"POST /resend", `{"all":true}`, resendTime}} {
			begin := time.Now()
			w := ask(t, a, row.request, row.body)
			if took := time.Since(begin); took != row.within || w.Code != 503 || !strings.Contains(w.Body.String(), "volume") {
				t.Errorf("%s: %d after %v, %s", row.request, w.Code, took, w.Body)
			}
		}
		for range commandsMost - 3 {
			go ask(t, a, "POST /resume", "{}")
		}
		synctest.Wait()
		if w := ask(t, a, "POST /resume", "{}"); w.Code != 503 || !strings.Contains(w.Body.String(), "under way") {
			t.Errorf("one more command: %d %s", w.Code, w.Body)
		}
		close(f.hangs)
		synctest.Wait()
		for _, request := range []string{"GET /status", "GET /", "GET /audit"} {
			if w := ask(t, a, request, ""); w.Code != 200 {
				t.Errorf("%s afterwards: %d %s", request, w.Code, w.Body)
			}
		}
	})
}

// broken panics, as a bug would.
type broken struct{ Operator }

func (broken) Wanted() {}

// A bug behind a call is told, and ends no process that delivers.
func TestPanics(t *testing.T) {
	a := newTest(&fake{}, "")
	a.op = broken{}
	a.watch.ask = func() forwarder.Status { panic("later") }
	for request, body := range map[string]string{"GET /status": "", "GET /": "", "POST /pause": "{}", "GET /audit": ""} {
		if w := ask(t, a, request, body); w.Code != 500 || !strings.Contains(w.Body.String(), "bug") {
			t.Errorf("%s: %d %s", request, w.Code, w.Body)
		}
	}
}
