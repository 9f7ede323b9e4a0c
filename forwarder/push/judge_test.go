package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/forwarder/wire"
)

// The response table of the contract, every code of it and every code that is not in it.
func TestJudgeEveryStatus(t *testing.T) {
	service := []int{401, 403, 404, 405, 407, 410, 502, 503, 504}
	busy := []int{408, 409, 423, 425, 429}
	for code := 100; code <= 599; code++ {
		want := MessageFault
		switch {
		case code >= 200 && code < 300:
			want = Delivered
		case code >= 300 && code < 400, slices.Contains(service, code):
			want = ServiceFault
		case slices.Contains(busy, code):
			want = Busy
		}
		v := judge(&wire.Answer{Sent: true, Status: code}, "status", time.Minute)
		if gateway := code == 502 || code == 504; v.Class != want || v.Status != code || v.InDoubt != gateway || v.RetryAfter != 0 {
			t.Errorf("%d is %s (status %d, in doubt %t, pause %s), want %s without doubt", code, v.Class, v.Status, v.InDoubt, v.RetryAfter, want)
		}
		if v.Class != Delivered && !strings.Contains(v.Reason, fmt.Sprint(code)) {
			t.Errorf("%d: the reason %q does not say the code", code, v.Reason)
		}
	}
}

func TestJudgeWithoutAnAnswer(t *testing.T) {
	refused := errors.New("connect: connection refused")
	const stopping, revoked Ending = "kpush is stopping", "the partition was given to another member of the group"
	for _, row := range []struct {
		name    string
		answer  wire.Answer
		class   Class
		inDoubt bool
		reason  string
	}{
		{"refused", wire.Answer{Err: refused}, ServiceFault, false, "no connection to the service: connect: connection refused"},
		{"refused at an address", wire.Answer{Err: &net.OpError{Op: "dial", Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 8080}, Err: refused}}, ServiceFault, false,
			"no connection to the service: dial 10.0.0.7:8080: connect: connection refused"},
		{"no connection in time", wire.Answer{Err: context.DeadlineExceeded}, ServiceFault, false, "no connection"},
		{"broken", wire.Answer{Err: io.EOF, Sent: true}, ServiceFault, true, "the connection broke"},
		{"no answer in time", wire.Answer{Err: context.DeadlineExceeded, Sent: true}, MessageFault, true, "KPUSH_EXEC_TIMEOUT (3s)"},
		{"wrapped timeout", wire.Answer{Err: fmt.Errorf("x: %w", context.DeadlineExceeded), Sent: true}, MessageFault, true, "KPUSH_EXEC_TIMEOUT (3s)"},
		{"stopping, not sent", wire.Answer{Err: stopping}, Aborted, false, "stopping"},
		{"stopping, sent", wire.Answer{Err: stopping, Sent: true}, Aborted, true, "stopping"},
		{"revoked", wire.Answer{Err: revoked, Sent: true}, Aborted, true, "another member"},
		{"wrapped ending", wire.Answer{Err: fmt.Errorf("x: %w", stopping), Sent: true}, Aborted, true, "stopping"},
		{"no reason at all", wire.Answer{Sent: true}, ServiceFault, true, "unknown"},
		{"2xx that breaks off", wire.Answer{Status: 200, Sent: true, BodyErr: io.ErrUnexpectedEOF}, ServiceFault, true, "broke before the end"},
		{"2xx whose body takes too long", wire.Answer{Status: 200, Sent: true, BodyErr: context.DeadlineExceeded}, MessageFault, true, "KPUSH_EXEC_TIMEOUT"},
		{"2xx cut off by a stop", wire.Answer{Status: 200, Sent: true, BodyErr: stopping}, Aborted, true, "stopping"},
		{"stale", wire.Answer{Stale: true, Err: io.EOF, Sent: true}, Aborted, true, "no answer on a connection that was kept: EOF"},
		{"400 at the end of a kept connection", wire.Answer{Status: 400, Last: true, Sent: true}, Aborted, true, "answered 400 and ended a connection"},
		{"501 at the end of a kept connection", wire.Answer{Status: 501, Last: true, Sent: true}, Aborted, true, "answered 501 and ended a connection"},
		{"408 at the end of a kept connection", wire.Answer{Status: 408, Last: true, Sent: true}, Aborted, true, "answered 408 and ended a connection"},
		{"408 to a request of its own", wire.Answer{Status: 408, Sent: true}, Busy, false, "408"},
		{"422 at the end of a kept connection", wire.Answer{Status: 422, Last: true, Sent: true}, MessageFault, false, "422"},
		{"400 with an action", wire.Answer{Status: 400, Last: true, Action: "retry", Sent: true}, MessageFault, false, "retry"},
		{"400 on a new connection", wire.Answer{Status: 400, Sent: true}, MessageFault, false, "400"},
		{"500 that breaks off", wire.Answer{Status: 500, Sent: true, BodyErr: io.ErrUnexpectedEOF}, MessageFault, false, "500"},
		{"503 that breaks off", wire.Answer{Status: 503, Sent: true, BodyErr: io.ErrUnexpectedEOF}, ServiceFault, false, "503"},
	} {
		for _, ack := range []string{"status", "errno", "dapr"} {
			v := judge(&row.answer, ack, 3*time.Second)
			if v.Class != row.class || v.InDoubt != row.inDoubt || !strings.Contains(v.Reason, row.reason) {
				t.Errorf("%s (%s): %s, in doubt %t, %q; want %s, %t, %q", row.name, ack, v.Class, v.InDoubt, v.Reason, row.class, row.inDoubt, row.reason)
			}
		}
	}
}

func TestErrno(t *testing.T) {
	for body, want := range map[string]Class{
		`{"errno":0}`:                       Delivered,
		`{"errno":"0"}`:                     Delivered,
		` {"errmsg":"ok","errno":0}` + "\n": Delivered,
		"\xef\xbb\xbf" + `{"errno":0}`:      Delivered,
		`{"errno":0,"data":[1,{"a":2}]}`:    Delivered,
		`{"errno":0.0}`:                     Delivered, // of Java's maps
		`{"errno":-0}`:                      Delivered,
		`{"errno":0e3}`:                     Delivered,
		`{"errno":"0x0"}`:                   MessageFault,
		`{"errno":"nan"}`:                   MessageFault,
		`{"errno":1}`:                       MessageFault,
		`{"errno":-1}`:                      MessageFault,
		`{"errno":"1"}`:                     MessageFault,
		`{"errno":0.5}`:                     MessageFault,
		`{"errno":null}`:                    MessageFault,
		`{"errno":true}`:                    MessageFault,
		`{"errno":[0]}`:                     MessageFault,
		`{"errno":""}`:                      MessageFault,
		`{"code":0}`:                        MessageFault,
		`{}`:                                MessageFault,
		`[]`:                                MessageFault,
		`0`:                                 MessageFault,
		`null`:                              MessageFault,
		`"errno"`:                           MessageFault,
		``:                                  MessageFault,
		`<html>errno":0</html>`:             MessageFault,
		`{"errno":0} {"errno":1}`:           MessageFault,
		`{"errno":0`:                        MessageFault,
		`PHP Notice: x {"errno":0}`:         MessageFault,
		`{"errno":5,"Errno":0}`:             MessageFault, // another name
		`{"errno":0,"ERRNO":7}`:             Delivered,
		`{"Errno":0}`:                       MessageFault,
		`{"Errno":1,"\u0065rrno":0}`:        Delivered,
		`{"errno":0,"errno":5}`:             MessageFault, // PHP takes the last one
		`{"errno":5,"errno":0}`:             Delivered,
		`{"errno":0,"errno":null}`:          MessageFault,
		`{"data":{"errno":0}}`:              MessageFault,
	} {
		v := judge(&wire.Answer{Sent: true, Status: 200, Body: []byte(body)}, "errno", time.Minute)
		if v.Class != want || v.InDoubt {
			t.Errorf("%q: %s, in doubt %t, want %s without doubt", body, v.Class, v.InDoubt, want)
		}
		if v.Class == MessageFault && (!strings.Contains(v.Reason, "200") || !strings.Contains(v.Reason, "errno")) {
			t.Errorf("%q: the reason %q explains nothing", body, v.Reason)
		}
		if status := judge(&wire.Answer{Sent: true, Status: 200, Body: []byte(body)}, "status", time.Minute); status.Class != Delivered {
			t.Errorf("%q: %s with ack status, which does not look at bodies", body, status.Class)
		}
		if bad := judge(&wire.Answer{Sent: true, Status: 500, Body: []byte(body)}, "errno", time.Minute); bad.Class != MessageFault || !strings.Contains(bad.Reason, "500") {
			t.Errorf("%q: a 500 is %s (%s)", body, bad.Class, bad.Reason)
		}
	}
}

// What Dapr's subscribers answer, as Dapr's runtime reads it.
func TestDaprStatus(t *testing.T) {
	for body, want := range map[string]Class{
		``:                                 Delivered,
		" \n":                              Delivered,
		`{}`:                               Delivered,
		`{"status":"SUCCESS"}`:             Delivered,
		`{"status":""}`:                    Delivered,
		`{"status":null}`:                  Delivered,
		`{"Status":"SUCCESS","x":[1]}`:     Delivered,
		"\xef\xbb\xbf" + `{"status":"OK"}`: MessageFault,
		`{"status":"RETRY"}`:               MessageFault,
		`{"status":"DROP"}`:                Drop,
		` {"errno":0,"status":"DROP"} `:    Drop,
		`{"STATUS":"DROP"}`:                Drop,
		`{"status":"DROP"} and more`:       Drop,
		`{"status":"RETRY"}{"status":""}`:  MessageFault,
		`{"status":"drop"}`:                MessageFault,
		`{"status":"retry"}`:               MessageFault,
		`{"status":"success"}`:             MessageFault,
		`{"status":"DONE"}`:                MessageFault,
		`OK`:                               Delivered,
		`<html>{"status":"DROP"}</html>`:   Delivered,
		`"DROP"`:                           Delivered,
		`["DROP"]`:                         Delivered,
		`{"status":200}`:                   Delivered,
		`{"status":["DROP"]}`:              Delivered,
		`{"data":{"status":"DROP"}}`:       Delivered,
		`{"status":"DROP"`:                 Delivered, // it was read to its end, and is no JSON
		`null`:                             Delivered,
	} {
		v := judge(&wire.Answer{Sent: true, Status: 201, Body: []byte(body), RetryAfter: "9"}, "dapr", time.Minute)
		if v.Class != want || v.InDoubt || (v.RetryAfter == 0) != (want == Delivered) {
			t.Errorf("%q: %s, in doubt %t, pause %s, want %s without doubt", body, v.Class, v.InDoubt, v.RetryAfter, want)
		}
		if bad := judge(&wire.Answer{Sent: true, Status: 500, Body: []byte(body)}, "dapr", time.Minute); bad.Class != MessageFault || !strings.Contains(bad.Reason, "500") {
			t.Errorf("%q: a 500 is %s (%s)", body, bad.Class, bad.Reason)
		}
	}
	pad := func(b string) []byte { return []byte(b + strings.Repeat("ü", wire.Limit/2) + `"}`)[:wire.Limit] }
	for _, row := range []struct {
		body  []byte
		class Class
		doubt bool
	}{
		{pad(`{"status":"SUCCESS","data":"`), Delivered, false},
		{pad(`{"status":"DROP","data":"`), Drop, false},
		{pad(`{"status":"RETRY","data":"`), MessageFault, false},
		{pad(`{"status":"RETRY"}"`), MessageFault, false},
		{pad(`<html>`), Delivered, false},
		{pad(`{"data":"`), MessageFault, true}, // what is left unread may say anything
		{pad(`["`), MessageFault, true},
	} {
		if v := judge(&wire.Answer{Sent: true, Status: 200, Body: row.body}, "dapr", time.Minute); v.Class != row.class || v.InDoubt != row.doubt {
			t.Errorf("%.40q…: %s, in doubt %t: %s", row.body, v.Class, v.InDoubt, v.Reason)
		}
	}
}

// Of an answer above the limit errno is found where it comes before what is left unread. Else nobody knows: a message fault, in doubt.
func TestErrnoOfALargeAnswer(t *testing.T) {
	pad := func(b string) string { return b + strings.Repeat("ü", wire.Limit/2) + `"}` }
	for body, want := range map[string]Class{
		pad(`{"errno":0,"data":"`):                           Delivered,
		pad("\xef\xbb\xbf" + ` { "errno" : "0" , "data":"x`): Delivered,
		pad(`{"Errno":0,"data":"`):                           MessageFault,
		pad(`{"errno":7,"Errno":0,"data":"`):                 MessageFault,
		pad(`{"errno":0,"Errno":7,"data":"`):                 Delivered,
		pad(`{"a":{"errno":1},"b":[{}],"errno":0,"d":"`):     Delivered,
		pad(`{"errno":7,"data":"`):                           MessageFault,
		pad(`{"data":"`):                                     MessageFault,
		pad(`{"data":"\"errno\":0`):                          MessageFault,
		pad(`{"data":{"errno":0,"x":"`):                      MessageFault,
		pad(`[{"errno":0,"data":"`):                          MessageFault,
		pad(`{"errno":0} {"errno":1,"data":"`):               MessageFault,
		pad(`<html>`):                                        MessageFault,
	} {
		v := judge(&wire.Answer{Sent: true, Status: 200, Body: []byte(body)[:wire.Limit]}, "errno", time.Minute)
		known := v.Class == Delivered || strings.HasSuffix(v.Reason, "errno 7")
		if v.Class != want || v.InDoubt == known || !known && (!strings.Contains(v.Reason, "KPUSH_ACK=errno") || !strings.Contains(v.Reason, "1 MiB")) {
			t.Errorf("%.40q: %s, in doubt %t: %s", body, v.Class, v.InDoubt, v.Reason)
		}
	}
}

// A reason never holds what the service wrote, but for a short errno.
func TestReasonHoldsNoBody(t *testing.T) {
	secret := strings.Repeat("secret", 100)
	for _, body := range []string{secret, `{"errmsg":"` + secret + `","errno":3}`, `{"errno":"` + secret + `"}`, `{"status":"` + secret + `"}`} {
		for _, ack := range []string{"status", "errno", "dapr"} {
			for _, code := range []int{200, 400, 500, 503} {
				v := judge(&wire.Answer{Sent: true, Status: code, Body: []byte(body)}, ack, time.Minute)
				if strings.Contains(v.Reason, secret) || len(v.Reason) > 120 {
					t.Errorf("%d with %.30q…: reason %q", code, body, v.Reason)
				}
			}
		}
	}
}

func TestKafkaAction(t *testing.T) {
	for word, want := range map[string]Class{"ack": Delivered, "retry": MessageFault, "skip": Skip, "dead-letter": GiveUp, " ACK ": Delivered, "Dead-Letter": GiveUp} {
		for _, code := range []int{200, 204, 302, 400, 404, 429, 500, 503} {
			for _, ack := range []string{"status", "errno", "dapr"} {
				v := judge(&wire.Answer{Sent: true, Status: code, Action: word, RetryAfter: "7"}, ack, time.Minute)
				if v.Class != want || v.RetryAfter != 7*time.Second || v.InDoubt {
					t.Errorf("%d with Kafka-Action %q (%s): %s, pause %s", code, word, ack, v.Class, v.RetryAfter)
				}
				if !strings.Contains(v.Reason, strings.ToLower(strings.TrimSpace(word))) {
					t.Errorf("reason %q does not say %q", v.Reason, word)
				}
			}
		}
	}
	for _, word := range []string{"", "acknowledge", "ack,skip", "drop"} {
		if v := judge(&wire.Answer{Status: 503, Action: word}, "status", 0); v.Class != ServiceFault {
			t.Errorf("Kafka-Action %q makes a 503 %s", word, v.Class)
		}
	}
}

// testRetryAfterValues runs in a bubble: the clock stands.
func testRetryAfterValues(t *testing.T) {
	now := time.Now().UTC()
	for value, want := range map[string]time.Duration{
		"":                     0,
		"0":                    0,
		"120":                  2 * time.Minute,
		"-5":                   0,
		"-9223372036854775808": 0,
		"1.5":                  0,
		"soon":                 0,
		now.Add(90 * time.Second).Format(http.TimeFormat):                  90 * time.Second,
		now.Add(-time.Hour).Format(http.TimeFormat):                        0,
		now.Add(30 * time.Second).Format("Monday, 02-Jan-06 15:04:05 GMT"): 30 * time.Second,
		now.Add(30 * time.Second).Format(time.ANSIC):                       30 * time.Second,
		"Mon, 32 Nov 2026 10:00:00 GMT":                                    0,
	} {
		if got := pause(value); got != want {
			t.Errorf("Retry-After %q is %s, want %s", value, got, want)
		}
	}
	// Absurd values are long pauses, which whoever waits bounds; never negative ones, and never none.
	const year = 365 * 24 * time.Hour
	for _, value := range []string{"9223372036854775807", "4294967296000", "99999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"} {
		if got := pause(value); got < year {
			t.Errorf("Retry-After %q is %s, want more than anybody waits", value, got)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	synctest.Test(t, testRetryAfterValues)
	// It is heard with every kind of fault.
	for _, row := range []struct {
		code int
		body string
	}{{400, ""}, {500, ""}, {404, ""}, {503, ""}, {429, ""}, {302, ""}, {200, `{"errno":1}`}} {
		v := judge(&wire.Answer{Status: row.code, RetryAfter: "9", Body: []byte(row.body)}, "errno", 0)
		if v.RetryAfter != 9*time.Second {
			t.Errorf("%d %s: pause %s, want 9s", row.code, row.body, v.RetryAfter)
		}
	}
}

// Outcomes and reasons are shown to people: each class has a name.
func TestClassNames(t *testing.T) {
	seen := map[string]bool{}
	for c := Delivered; c <= Aborted; c++ {
		if name := c.String(); name == "" || seen[name] {
			t.Errorf("class %d is called %q", c, name)
		} else {
			seen[name] = true
		}
	}
}
