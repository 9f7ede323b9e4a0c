package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// answers is a running kpush that answers one thing after the other, apart by |, and notes what it was asked, and with which token at last.
type answers struct {
	code               int
	body, asked, token string
}

func (a *answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // a body that breaks off is not what was wanted
	a.asked = strings.Join(strings.Fields(fmt.Sprintf("%s %s %s %s", a.asked, r.Method, r.URL, body)), " ")
	a.token = r.Header.Get("Authorization")
	w.WriteHeader(a.code)
	answer, more, _ := strings.Cut(a.body, "|")
	_, _ = io.WriteString(w, answer)
	a.body = more
}

// A command line is one call, and its answer is printed for people.
func TestOperate(t *testing.T) {
	kpush := &answers{code: 200}
	server := httptest.NewServer(kpush)
	defer server.Close()
	_, port, _ := strings.Cut(server.Listener.Addr().String(), ":")
	t.Setenv("KPUSH_API_ADDR", ":"+port) // a wildcard is reached on loopback
	t.Setenv("KPUSH_API_TOKEN", "s3cr3t")
	t.Setenv("KPUSH_TOPIC", "orders")
	const status = `{"version":"1.2","state":"running","ready":false,"why":["a\u001b[2Jb"],"notes":["n"],"group":"billing","service":{"up":false,"hosts":[{"host":"h:1","up":false}],"inFlight":3,"limit":16,"waiting":5,"failing":1,"pausedUntil":"2026-11-30T12:00:00Z"},"publish":{"queued":4,"spooled":9,"sent":1005,"failed":3,"failedBy":{"no_broker":2,"unknown":1},"refused":{"404":3},"unacknowledgedSince":"2026-11-30T12:00:00Z"},
		"deadLetters":{"topic":"orders-dead","sent":7,"from":{"orders":7},"waiting":1,"why":"it waits","redriven":3,"refused":2},
		"partitions":[{"topic":"orders","partition":0,"next":1042,"committed":null,"end":1100,"lag":58,"open":50,"perSecond":12.34,"inFlight":1,"waiting":57,"failing":1,"paused":["operator"],"stall":"","blocked":[{"offset":1042,"key":"k\t1","attempts":12,"status":500,"reason":"off","since":"2026-11-30T12:00:00Z"}]}]}`
	for _, row := range []struct{ args, answer, asked, out string }{
		{"-status", status, "GET /status", "kpush 1.2, group billing: running, not ready\n  not ready: \"a\\x1b[2Jb\"\n  note: n\nservice down: 3 of 16 requests in flight, 5 messages wait, 1 to be tried again\n  host h:1 is down\n  it asked for a pause until 2026-11-30T12:00:00Z\n" +
			"published: 1005 sent, 4 queued, 9 on the volume, 3 failed: answered 404: 3, no_broker 2, unknown 1, no acknowledgement since 2026-11-30T12:00:00Z\n" +
			"dead letters in orders-dead: 7 sent, 1 wait, 3 sent back, 2 not sent back: it waits\n\n" +
			"PARTITION  NEXT  COMMITTED  END   LAG  OPEN  PER SECOND  IN FLIGHT  WAITING  FAILING  REMARK\norders/0   1042  -          1100  58   50    12.3        1          57       1        paused by operator\n\n" +
			"BLOCKED        KEY          ATTEMPTS  STATUS  SINCE                 REASON\norders/0/1042  base64:awkx  12        500     2026-11-30T12:00:00Z  off\n"},
		{"-status", `{"version":"1.2","state":"running","ready":true,"service":{"up":true},"publish":{"sent":5}}`, "GET /status", "kpush 1.2: running, ready\npublished: 5 sent, 0 queued, 0 on the volume, 0 failed\n"},
		{"--status --json", `{"x":1}`, "GET /status", `{"x":1}`},
		{"-skipped -json", `{"skipped":[{"a":1},{"a":2}],"next":7}|{"skipped":[]}|`, "GET /skipped?limit=5000 GET /skipped?limit=5000&after=7", `{"skipped":[{"a":1},{"a":2}]}` + "\n"},
		{"-skipped", `{"skipped":[{"topic":"orders","partition":1,"offset":5,"skipped":"2026-11-30T12:00:00Z"}],"next":7}|{"skipped":[{"topic":"orders","partition":10,"offset":600,"skipped":"2026-11-30T12:00:00Z"}],"next":null}`,
			"GET /skipped?limit=5000 GET /skipped?limit=5000&after=7",
			"MESSAGE     KEY  BYTES  ATTEMPTS  SKIPPED               RESENT  REASON\norders/1/5  –    0      0         2026-11-30T12:00:00Z  -       \norders/10/600  –  0  0  2026-11-30T12:00:00Z  -  \n"},
		{"-skipped", `{"skipped":[{"topic":"orders","partition":1,"offset":5,"size":9,"attempts":3,"reason":"400","skipped":"2026-11-30T12:00:00Z","resent":"2026-11-30T13:00:00Z"}]}`, "GET /skipped?limit=5000",
			"MESSAGE     KEY  BYTES  ATTEMPTS  SKIPPED               RESENT                REASON\norders/1/5  –    9      3         2026-11-30T12:00:00Z  2026-11-30T13:00:00Z  400\n"},
		{"-skipped -json", `{}`, "GET /skipped?limit=5000", `{"skipped":[]}` + "\n"},
		{"-audit", `{"audit":[{"time":"2026-11-30T12:00:00Z","who":"me","did":"skip","to":"blocked"}]}`, "GET /audit", "TIME                  DID   TO       WHO\n2026-11-30T12:00:00Z  skip  blocked  me\n"},
		{"-skip orders/1/5", `{"skipped":1}`, `POST /skip {"offset":5,"partition":1,"topic":"orders"}`, "skipped: 1\n"},
		{"-skip=blocked", `{"skipped":2}`, `POST /skip {"blocked":true}`, "skipped: 2\n"},
		{"-skip key=a/b=c", `{"skipped":2}`, `POST /skip {"key":"a/b=c","topic":"orders"}`, "skipped: 2\n"},
		{"-skip=key=a", `{"skipped":2}`, `POST /skip {"key":"a","topic":"orders"}`, "skipped: 2\n"},
		{"-skip key=base64:/wA=", `{"skipped":0,"note":"no failing message of this process has that key"}`, `POST /skip {"keyBase64":"/wA=","topic":"orders"}`, "skipped: 0\nno failing message of this process has that key\n"},
		{"-skip other key=base64:YmFzZTY0Og==", `{"skipped":1}`, `POST /skip {"keyBase64":"YmFzZTY0Og==","topic":"other"}`, "skipped: 1\n"},
		{"-skip other key=", `{"skipped":2}`, `POST /skip {"key":"","topic":"other"}`, "skipped: 2\n"},
		{"-pause", `{"partitions":[{"topic":"orders","partition":1}]}`, `POST /pause {}`, "orders/1\n"},
		{"-pause orders", `{"partitions":[],"note":"ask others\u001b"}`, `POST /pause {"topic":"orders"}`, "\"ask others\\x1b\"\n"},
		{"-resume orders/0", `{"partitions":[]}`, `POST /resume {"partition":0,"topic":"orders"}`, ""},
		{"-seek orders/1@12", `{"partitions":[{"topic":"orders","partition":1,"offset":12}]}`, `POST /seek {"offset":12,"partition":1,"topic":"orders"}`, "orders/1@12\n"},
		{"-seek orders@end", `{"partitions":[]}`, `POST /seek {"to":"end","topic":"orders"}`, ""},
		{"-seek orders@2026-11-30T12:00:00Z", `{"partitions":[]}`, `POST /seek {"timestamp":"2026-11-30T12:00:00Z","topic":"orders"}`, ""},
		{"-seek orders@2026-11-30t12:00:00z", `{"partitions":[],"note":"of the 3"}`, `POST /seek {"timestamp":"2026-11-30t12:00:00z","topic":"orders"}`, "of the 3\n"},
		{"-resend all", `{"resent":[{"topic":"orders","partition":1,"offset":5,"delivered":true}]}`, `POST /resend {"all":true}`, "orders/1/5 delivered\n"},
		{"-redrive 100", `{"sent":99,"refused":1,"left":5}`, `POST /redrive {"limit":100}`, "sent back: 99, refused: 1, left: 5\n"},
		{"-resend orders/1/5", `{"resent":[]}`, `POST /resend {"offset":5,"partition":1,"topic":"orders"}`, ""},
	} {
		kpush.body, kpush.asked = row.answer, ""
		var out bytes.Buffer
		name, rest, ok := orderOf(strings.Fields(row.args))
		if !ok {
			t.Errorf("%s is no order", row.args)
			continue
		}
		code := operate(name, rest, &out)
		if code != 0 || kpush.asked != row.asked || kpush.token != "Bearer s3cr3t" || out.String() != row.out {
			t.Errorf("%s: exit code %d, asked %s, printed\n%s\nwant %s\n%s", row.args, code, kpush.asked, &out, row.asked, row.out)
		}
	}
	kpush.body = `{"resent":[{"topic":"orders","partition":1,"offset":5,"reason":"500"}]}`
	if code := operate("resend", []string{"all"}, io.Discard); code != exitFailed {
		t.Errorf("a resend that failed ends with %d", code)
	}
	for _, row := range []struct {
		code int
		body string
	}{{409, `{"error":"stopping"}`}, {401, `{"error":"token"}`}, {200, `<html>`}, {302, ""}, {404, "page not found"}} {
		kpush.code, kpush.body = row.code, row.body
		if code := operate("pause", nil, io.Discard); code != exitFailed {
			t.Errorf("%d %s ends with %d, want %d", row.code, row.body, code, exitFailed)
		}
	}
}

// What is written wrongly is exit code 2, and no call.
func TestOperateMisused(t *testing.T) {
	kpush := &answers{code: 200, body: "{}"}
	server := httptest.NewServer(kpush)
	defer server.Close()
	t.Setenv("KPUSH_API_ADDR", server.Listener.Addr().String())
	t.Setenv("KPUSH_TOPIC", "orders,payments")
	for _, args := range []string{"-status -yaml", "-status x -json", "-audit x", "-skip", "-skip orders", "-skip orders/1", "-skip orders/1/-5", "-skip orders/x/5", "-skip /1/5", "-skip orders/1/5/6",
		"-skip orders/2147483648/5", "-skip key=a", "-skip a b", "-pause a b", "-pause /1", "-pause orders/1/2", "-resume orders/", "-seek orders", "-seek @5", "-seek orders@", "-seek orders@soon",
		"-seek orders@-1", "-seek orders/1/2@3", "-resend", "-resend orders/1", "-resend all x", "-redrive", "-redrive 0", "-redrive x", "-redrive 1 2", "-seek=orders@NaN", "-seek orders@1969-12-31T00:00:00Z", "-skip orders key=base64:*"} {
		if code := command(strings.Fields(args)); code != exitConfig || kpush.asked != "" {
			t.Errorf("kpush %s ends with %d, want %d; asked %q", args, code, exitConfig, kpush.asked)
		}
		kpush.asked = ""
	}
	for name, value := range map[string]string{"KPUSH_API_TOKEN_FILE": filepath.Join(t.TempDir(), "none"), "KPUSH_API_ADDR": "9401"} {
		t.Setenv(name, value)
		if code := command([]string{"-status"}); code != exitConfig {
			t.Errorf("%s=%s: -status ends with %d", name, value, code)
		}
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("KPUSH_API_ADDR", nowhere(t))
	if code := command([]string{"-status"}); code != exitFailed {
		t.Errorf("-status of nobody ends with %d, want %d", code, exitFailed)
	}
	if _, _, ok := orderOf([]string{"skip", "blocked"}); ok {
		t.Error("an order without its dash is one")
	}
}
