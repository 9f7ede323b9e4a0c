package forwarder

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
)

// A 400 that is about the message and not about its headers is a message fault like any other: key and headers are left out once,
// to see, and the pace stays as it is. A 431 is about them, whatever comes after it. The attempt that finds out counts for nothing.
func TestSlimOnlyWhereItHelps(t *testing.T) {
	for _, row := range []struct {
		answers, slim string // an attempt each; the last answer repeats until the message is skipped
	}{
		{"400", ".S.."},
		{"400 500 400", ".SS."},
		{"400 503 200", ".SS"},
		{"431", ".SSS"},
		{"431 400", ".SSS"},
		{"400 431 400", ".SSS"},
		{"400 400 431 400", ".S.SS"},
		{"500", "..."},
		{"502", ".S.."}, // from here on SkipOnAny
		{"502 200", ".S"},
		{"0", "..S.."}, // the connection ends without an answer
		{"0 0 200", "..S"},
	} {
		for _, auto := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, local(func(c *settings) { c.CanSkip, c.SkipOnAny, c.Adaptive = true, row.answers[0] != '4', auto }), nil)
				words, slim := strings.Fields(row.answers), ""
				serving(r, func(q *http.Request) (*http.Response, error) {
					slim += map[bool]string{true: "S", false: "."}[q.Header.Get("Kafka-Headers-Left-Out") != ""]
					status, err := strconv.Atoi(words[min(attemptOf(q), len(words))-1])
					if err != nil {
						panic(err)
					}
					if connected(q); status == 0 {
						return nil, io.EOF
					}
					return says(q, status)
				})
				limit := r.f.Status().Service.Limit
				d := handed(r.partition(t0), kafka.Message{Offset: 1, Value: []byte("v"), Key: []byte(strings.Repeat("k", 5000))})
				out, err := d.handle()
				if err != nil || slim != row.slim || (out.Class == Skip) != (words[len(words)-1] != "200") {
					t.Errorf("%s: %v %v after %q, want %q", row.answers, out, err, slim, row.slim)
				}
				if now := r.f.Status().Service.Limit; now != limit {
					t.Errorf("%s: the pace is %d", row.answers, now)
				}
			})
		}
	}
}

// A proxy that answers 502 to large heads, and a server that closes on them, are not down: others go on meanwhile, and those with the
// large heads need no more than the attempts that find out.
func TestLargeHeadsPutNobodyDown(t *testing.T) {
	for _, closes := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, local(func(c *settings) { c.Order = OrderNone }), nil)
			serving(r, func(q *http.Request) (*http.Response, error) {
				connected(q)
				switch <-time.After(10 * time.Millisecond); {
				case len(q.Header.Get("Kafka-Key")) < 4<<10:
					return says(q, 200)
				case closes:
					return nil, io.EOF
				}
				return says(q, 502)
			})
			p := r.partition(t0)
			fed(p, 100, func(i int) kafka.Message {
				return kafka.Message{Key: bytes.Repeat([]byte("k"), i%2*5000), Value: []byte("v")}
			})
			pass(8 * time.Second)
			if n := len(r.logs.With("service is down")); p.rec.Outstanding() > 0 || n > 0 {
				t.Errorf("closes %t: %d are open, and the service was called down %d times", closes, p.rec.Outstanding(), n)
			}
			pass(time.Hour)
		})
	}
}

// A redirect is followed by nothing but the next attempt, for as long as nobody stops it.
func TestRedirectsAreRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, local(func(c *settings) { c.CanSkip, c.RetryNums = true, 1 }), nil)
		s := serving(r, func(q *http.Request) (*http.Response, error) { return says(q, 302) })
		p := r.partition(t0)
		time.AfterFunc(time.Hour, func() { p.stop(errStopping) })
		if out, err := handed(p, kafka.Message{Offset: 1}).handle(); err == nil || s.count() < 1000 {
			t.Errorf("%v %v after %d attempts in an hour", out, err, s.count())
		}
	})
}

// A retry goes to another host at once, and one that is down gets no more than a request per retry interval.
func TestSeveralHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		cfg.Targets = make([]string, 2)
		var good0, bad0 atomic.Int64
		r := newRig(t, cfg, handle(func(d *Delivery) Verdict {
			if <-time.After(10 * time.Millisecond); d.host == 0 {
				bad0.Add(1)
				return answer3
			}
			good0.Add(1)
			return good
		}))
		p, begun := r.partition(t0), time.Now()
		load(p, 2000, 0)
		r.until("all are delivered", func() bool { return p.rec.Outstanding() == 0 })
		if most := 3 + int64(time.Since(begun)/cfg.RetryInterval); good0.Load() != 2000 || bad0.Load() < 3 || bad0.Load() > most {
			t.Errorf("%d good and %d bad attempts for 2000 messages: want at most %d", good0.Load(), bad0.Load(), most)
		}
	})
}

func TestMessageSize(t *testing.T) {
	m := &kafka.Message{Key: make([]byte, 10), Value: make([]byte, 100), Headers: []kafka.Header{{Name: "abc", Value: make([]byte, 7)}, {Name: "", Value: nil}}}
	if n := sizeOf(m); n != perMessage+110+10+2*40 {
		t.Errorf("it counts %d", n)
	}
}
