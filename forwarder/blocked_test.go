package forwarder

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
)

// refusing is a rig whose service refuses each message of its partition, n of them, side by side.
func refusing(t *testing.T, n int, answer string) *rig {
	cfg := small()
	cfg.Order, cfg.Concurrency = OrderNone, 64
	v := bad
	v.Answer = answer
	r := newRig(t, cfg, handle(func(*Delivery) Verdict { return v })).run()
	r.kafka.produce(t0, n, 10)
	r.kafka.with(func() {
		for _, m := range r.kafka.log[t0] {
			m.Key, m.Value = []byte("customer-17"), []byte("secret value")
		}
	})
	r.kafka.give(t0)
	return r
}

// The blocked line says of a message what an operator needs: where it is, its key, what the service said, how often and since when. So does
// Status. Nothing ever says the value.
func TestBlockedIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := refusing(t, 1, "no such customer")
		since := time.Now().UTC()
		pass(time.Minute)
		lines := r.logs.With("blocked: ")
		if len(lines) != 1 {
			t.Fatalf("said %q", lines)
		}
		for _, want := range []string{"topic=t partition=0 offset=0", "key=customer-17", "status=500", `answer="no such customer"`, "attempts=10", "since=" + since.Format(time.RFC3339), "kpush -skip"} {
			if !strings.Contains(lines[0], want) {
				t.Errorf("%s lacks %s", lines[0], want)
			}
		}
		if b := r.f.Status().Blocked; len(b) != 1 || string(b[0].Key) != "customer-17" || b[0].Answer != "no such customer" || b[0].Status != 500 {
			t.Errorf("status %+v", b)
		}
		if n := len(r.logs.With("no such customer")); n != 1 {
			t.Errorf("%d lines hold the answer, want the blocked one alone", n)
		}
		if len(r.logs.With("secret")) > 0 {
			t.Error("the log holds the message's value")
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// The line says whose fault it is, as far as that is known, and what its status is of: of what is in doubt that is the question's. What is
// blocked is skipped with all that is, whoever is to blame.
func TestBlockedSaysWhy(t *testing.T) {
	const failing, fault, busy, doubt = "the message keeps failing", "by faults of the service", "the service is busy", "the message is in doubt and waits for KPUSH_CONFIRM_URL"
	for _, row := range []struct {
		question, status int // 0: it is not in doubt
		verdict, want    string
	}{
		{0, 500, "message fault", failing}, {0, 400, "message fault", failing},
		{0, 503, "service fault", fault}, {0, 401, "service fault", fault},
		{0, 429, "busy", busy}, {0, 423, "busy", busy}, {0, 408, "busy", busy}, {0, 409, "busy", busy}, {0, 425, "busy", busy},
		{500, 200, "in doubt", doubt}, {204, 200, "in doubt", doubt}, {403, 200, "in doubt", doubt}, {302, 200, "in doubt", doubt}, {429, 200, "in doubt", doubt},
		{404, 500, "message fault", failing}, {404, 429, "busy", busy},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, local(func(c *settings) { c.ConfirmURLs = []string{"http://service/has"} }), nil)
			defer r.endAll()
			serving(r, func(q *http.Request) (*http.Response, error) {
				if q.Method == http.MethodGet {
					return says(q, row.question)
				}
				return says(q, row.status)
			})
			if row.question == 0 {
				r.partition(t1).push(&kafka.Message{Partition: t1, Offset: 7})
			} else {
				r.doubted(t1)
			}
			r.until("it is blocked", func() bool { return len(r.logs.With("blocked: ")) == 1 })
			status := row.status
			if row.verdict == "in doubt" {
				status = row.question
			}
			line := r.logs.With("blocked: ")[0]
			for _, want := range []string{row.want, fmt.Sprintf("verdict=%q", row.verdict), fmt.Sprintf("status=%d", status), "since=2000-01-01", "attempts=10"} {
				if !strings.Contains(strings.Replace(line, "verdict=busy", `verdict="busy"`, 1), want) {
					t.Errorf("%+v: %s lacks %s", row, line, want)
				}
			}
			if n := r.f.SkipBlocked(); n != 1 {
				t.Errorf("%+v: %d are skipped", row, n)
			}
		})
	}
}

// Hundreds that are blocked at once are a handful of lines, also where the reason keeps changing.
func TestBlockedInABurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := refusing(t, 300, "")
		lines := func() (n int) {
			for _, text := range []string{"level=WARN", "level=ERROR"} {
				n += len(r.logs.With(text))
			}
			return n
		}
		r.until("all are blocked", func() bool { return len(r.f.failures.blocked()) == 300 })
		pass(3 * time.Second)
		named, counted := len(r.logs.With("blocked: ")), r.logs.With("are blocked than the log names")
		if named < burstMost || named > 2*burstMost || len(counted) != 1 || !strings.Contains(counted[0], "blocked=300") {
			t.Errorf("%d are named, and counted is %q", named, counted)
		}
		pass(3 * time.Minute)
		if n := lines(); n > 3*burstMost+3 {
			t.Errorf("%d lines, their first failures included, after three minutes with the same reason:\n%s", n, strings.Join(r.logs.With(""), ""))
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// In each minute the log names five, and one line counts all others, however many and whenever they come.
func TestBurst(t *testing.T) {
	for _, row := range []struct {
		every      time.Duration
		lasts      time.Duration
		named, say int // at the most; named at the least, where all are
	}{
		{0, 0, 1, 0}, {time.Minute, time.Hour, 61, 0}, {15 * time.Second, time.Hour, 241, 0},
		{time.Second, time.Minute, 10, 2}, {time.Millisecond, 10 * time.Second, 5, 2}, {100 * time.Millisecond, time.Hour, 305, 61},
	} {
		synctest.Test(t, func(t *testing.T) {
			var b burst
			total, named := 0, 0
			var said, more atomic.Int64
			for begun := time.Now(); time.Since(begun) <= row.lasts; total++ {
				if b.names(func(n int) { said.Add(1); more.Add(int64(n)) }) {
					named++
				}
				if row.every == 0 {
					total++
					break
				}
				pass(row.every)
			}
			pass(2 * time.Minute)
			if said, more := int(said.Load()), int(more.Load()); named+more != total || named > row.named || said > row.say || row.say == 0 && named != total {
				t.Errorf("every %s for %s: %d, of which %d named and %d counted in %d lines", row.every, row.lasts, total, named, more, said)
			}
		})
	}
}

func TestKeyInTheLog(t *testing.T) {
	long := strings.Repeat("k", 300)
	for _, row := range []struct{ key, want string }{
		{"customer 17", `key="customer 17"`}, {"", `key=""`}, {"Käse", "key=Käse"}, {"a\nb", "key=YQpi key_encoding=base64"}, {"\xff\x00", `key="/wA=" key_encoding=base64`},
		{long, "key=" + long[:200] + " key_bytes=300"},
	} {
		var text strings.Builder
		slog.New(slog.NewTextHandler(&text, nil)).Log(context.Background(), slog.LevelError, "x", keyOf([]byte(row.key)))
		if !strings.HasSuffix(text.String(), "msg=x "+row.want+"\n") {
			t.Errorf("%q: %s", row.key, &text)
		}
	}
	var text strings.Builder
	slog.New(slog.NewTextHandler(&text, nil)).Error("x", keyOf(nil))
	if !strings.HasSuffix(text.String(), "msg=x\n") {
		t.Errorf("no key: %s", &text)
	}
}
