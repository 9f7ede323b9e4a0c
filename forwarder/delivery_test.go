package forwarder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/forwarder/wire"
	"github.com/kpush/kpush/kafka"
)

// script answers the requests of the real handler without a network. It sees each one with the time it came.
type script struct {
	mu     sync.Mutex
	seen   []*http.Request
	times  []time.Duration // since the first one was awaited
	begun  time.Time
	answer func(r *http.Request) (*http.Response, error)
}

// serving puts s in the place of the network of r's handler.
func serving(r *rig, answer func(*http.Request) (*http.Response, error)) *script {
	s := &script{answer: answer, begun: time.Now()}
	r.net.Line = s
	return s
}

func (s *script) Exchange(g wire.Gate, timeout time.Duration, head, body []byte, a *wire.Answer) {
	a.Reset()
	ctx := g.Context()
	if _, a.Err = g.Cleared(); a.Err != nil {
		return
	}
	if timeout > 0 {
		limited, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		ctx = limited
	}
	r := parse(head, body).WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { a.Sent = true }}))
	s.mu.Lock()
	s.seen, s.times = append(s.seen, r), append(s.times, time.Since(s.begun))
	s.mu.Unlock()
	resp, err := s.answer(r)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if a.Err = err; err == nil {
		a.Status, a.Action, a.RetryAfter = resp.StatusCode, resp.Header.Get("Kafka-Action"), resp.Header.Get("Retry-After")
	}
}

func (s *script) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen)
}

// connected notes that a connection was there.
func connected(r *http.Request) {
	httptrace.ContextClientTrace(r.Context()).GotConn(httptrace.GotConnInfo{})
}

// says answers with a status and header lines: name, value, …
func says(r *http.Request, status int, header ...string) (*http.Response, error) {
	connected(r)
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: http.NoBody, Request: r}, nil
}

func attemptOf(r *http.Request) int {
	n, err := strconv.Atoi(r.Header.Get("Kafka-Attempt"))
	if err != nil {
		panic(err)
	}
	return n
}

// local is small for a service in the test.
func local(change func(*settings)) settings {
	c := small()
	c.Targets = []string{"http://service/"}
	if change != nil {
		change(&c)
	}
	return c
}

func TestWaitsBetweenAttempts(t *testing.T) {
	for _, row := range []struct {
		interval, ceiling time.Duration
		attempts          int
		least, most       func(n int) time.Duration // of the wait after attempt n
	}{
		{2 * time.Second, 2 * time.Second, 20, func(int) time.Duration { return 2 * time.Second }, func(int) time.Duration { return 2 * time.Second }},
		{2 * time.Second, time.Second, 5, func(int) time.Duration { return 2 * time.Second }, func(int) time.Duration { return 2 * time.Second }},
		{time.Second, 8 * time.Second, 200, func(int) time.Duration { return time.Second }, func(n int) time.Duration { return min(8*time.Second, time.Second<<min(n-1, 10)) }},
		{time.Millisecond, time.Hour, 60, func(int) time.Duration { return time.Millisecond }, func(n int) time.Duration { return min(time.Hour, time.Millisecond<<min(n-1, 30)) }},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, local(func(c *settings) { c.RetryInterval, c.RetryMaxInterval = row.interval, row.ceiling }), nil)
			s := serving(r, func(q *http.Request) (*http.Response, error) {
				if attemptOf(q) == row.attempts {
					return says(q, 200)
				}
				return says(q, 500)
			})
			d := handed(r.partition(t0), kafka.Message{Offset: 1, Value: []byte("v")})
			if out, err := d.handle(); err != nil || out.Class != Delivered {
				t.Fatal(out, err)
			}
			var longest time.Duration
			for n := 1; n < row.attempts; n++ {
				wait := s.times[n] - s.times[n-1]
				if longest = max(longest, wait); wait < row.least(n) || wait > row.most(n) {
					t.Errorf("%s to %s: the wait after attempt %d is %s, want %s to %s", row.interval, row.ceiling, n, wait, row.least(n), row.most(n))
				}
			}
			if longest < row.ceiling/2 {
				t.Errorf("%s to %s: no wait is longer than %s", row.interval, row.ceiling, longest)
			}
			if row.ceiling > row.interval && s.times[row.attempts-1]-s.times[row.attempts-2] == s.times[row.attempts-2]-s.times[row.attempts-3] {
				t.Error("two waits in a row are the same: messages that failed together come back together")
			}
		})
	}
}

// Attempts go on for as long as it takes: a weekend here.
func TestRetriesForDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, local(func(c *settings) { c.CanSkip, c.RetryInterval, c.RetryMaxInterval = true, time.Minute, time.Minute }), nil)
		s := serving(r, func(q *http.Request) (*http.Response, error) {
			if attemptOf(q) == 4000 {
				return says(q, 200)
			}
			return says(q, 503)
		})
		d := handed(r.partition(t0), kafka.Message{Offset: 1, Value: []byte("v")})
		if out, err := d.handle(); err != nil || out.Class != Delivered || s.count() != 4000 {
			t.Errorf("%v %v after %d attempts", out, err, s.count())
		}
		if took := s.times[len(s.times)-1]; took != 3999*time.Minute {
			t.Errorf("took %s", took)
		}
	})
}

// Given up at the RETRY_NUMS-th message fault; nothing else counts, and without CAN_SKIP nothing is given up.
func TestGivingUp(t *testing.T) {
	for _, row := range []struct {
		answers  string // a word each attempt; the last one repeats
		canSkip  bool
		nums     int
		want     Class
		attempts int
	}{
		{"200", true, 3, Delivered, 1},
		{"500", true, 3, Skip, 3},
		{"500", true, 1, Skip, 1},
		{"500", true, 0, Skip, 1},
		{"500 500 200", true, 3, Delivered, 3},
		{"500 500 500 500 500 500 200", false, 3, Delivered, 7},
		{"503 503 503 503 503 503 503 503 503 503 503 503 200", true, 1, Delivered, 13},
		{"429 429 429 429 200", true, 1, Delivered, 5},
		{"302 404 refused 429 500 503 500 refused 500", true, 3, Skip, 9},
		{"timeout timeout", true, 2, Skip, 2},
		{"broken broken broken 200", true, 1, Delivered, 4},
		{"400 413 415 422", true, 4, Skip, 4},
		{"skip", false, 3, Skip, 1},
		{"503+skip", false, 3, Skip, 1},
		{"dead-letter", true, 100, Skip, 1},
		{"dead-letter 200", false, 1, Delivered, 2},
		{"503+ack", true, 1, Delivered, 1},
		{"200+retry 200+retry 200", true, 3, Delivered, 3},
		{"200+retry", true, 3, Skip, 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			words := strings.Fields(row.answers)
			r := newRig(t, local(func(c *settings) { c.CanSkip, c.RetryNums = row.canSkip, row.nums }), nil)
			s := serving(r, func(q *http.Request) (*http.Response, error) {
				word := words[min(attemptOf(q), len(words))-1]
				switch word {
				case "refused":
					return nil, syscall.ECONNREFUSED
				case "broken":
					connected(q)
					return nil, io.EOF
				case "timeout":
					connected(q)
					<-q.Context().Done()
					return nil, q.Context().Err()
				}
				code, action, found := strings.Cut(word, "+")
				status, err := strconv.Atoi(code)
				if err != nil {
					status, action, found = 200, word, true
				}
				if found {
					return says(q, status, "Kafka-Action", action)
				}
				return says(q, status)
			})
			d := handed(r.partition(t0), kafka.Message{Offset: 1, Value: []byte("v")})
			out, err := d.handle()
			if err != nil || out.Class != row.want || s.count() != row.attempts {
				t.Errorf("%q (skip %t, %d): %s after %d attempts (%v), want %s after %d", row.answers, row.canSkip, row.nums, out.Class, s.count(), err, row.want, row.attempts)
			}
			if out.Class == Skip && out.Reason == "" {
				t.Errorf("%q: skipped without a reason", row.answers)
			}
		})
	}
}

// Retry-After holds for every lane of the service, up to a cap, and no longer than the latest one asked.
func TestRetryAfterHoldsTheWholeService(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		asked     string
		interval  time.Duration // RETRY_MAX_INTERVAL
		want      time.Duration
		status    int
		requested int
	}{
		{"30", 2 * time.Second, 30 * time.Second, 429, 1},
		{"1", 2 * time.Second, 2 * time.Second, 503, 1}, // the lane's own wait is longer
		{"30", 2 * time.Second, 30 * time.Second, 500, 1},
		{"86400", 2 * time.Second, 5 * time.Minute, 429, 1},
		{"99999999999999999999", 2 * time.Second, 5 * time.Minute, 429, 1},
		{"86400", 20 * time.Minute, 20 * time.Minute, 429, 1},
		{"0", 2 * time.Second, 2 * time.Second, 429, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, local(func(c *settings) { c.RetryMaxInterval = max(c.RetryInterval, row.interval) }), nil)
			s := serving(r, func(q *http.Request) (*http.Response, error) {
				if q.Header.Get("Kafka-Partition") == "0" && attemptOf(q) == 1 {
					return says(q, row.status, "Retry-After", row.asked)
				}
				return says(q, 200)
			})
			var lanes sync.WaitGroup
			for n := range int32(3) {
				d := handed(r.partition(kafka.Partition{Topic: "t", Number: n}), kafka.Message{Offset: 1, Value: []byte("v")})
				lanes.Go(func() { d.handle() })
				synctest.Wait() // the first one has its answer
			}
			lanes.Wait()
			if s.count() != 4 {
				t.Fatalf("%d requests", s.count())
			}
			paused := time.Duration(0)
			if n, _ := strconv.ParseFloat(row.asked, 64); n > 0 {
				paused = min(time.Duration(min(n, 1e6)*1e9), max(row.interval, 5*time.Minute))
			}
			for i, at := range s.times {
				q := s.seen[i]
				switch first := attemptOf(q) == 1; {
				case first && q.Header.Get("Kafka-Partition") == "0":
				case first && at != paused:
					t.Errorf("Retry-After %s: partition %s began after %s, want %s", row.asked, q.Header.Get("Kafka-Partition"), at, paused)
				case !first && (at < row.want || at > row.want+max(row.interval, 2*time.Second)):
					t.Errorf("Retry-After %s: tried again after %s, want %s", row.asked, at, row.want)
				}
			}
		})
	}
}

// A lane that waits for its slot when the pause is asked for does not slip through.
func TestRetryAfterHoldsLanesThatWaitForASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, local(func(c *settings) { c.Concurrency = 1 }), nil)
		release := make(chan struct{})
		s := serving(r, func(q *http.Request) (*http.Response, error) {
			if q.Header.Get("Kafka-Partition") == "0" && attemptOf(q) == 1 {
				<-release
				return says(q, 503, "Retry-After", "60")
			}
			return says(q, 200)
		})
		var lanes sync.WaitGroup
		for n := range int32(5) {
			d := handed(r.partition(kafka.Partition{Topic: "t", Number: n}), kafka.Message{Offset: 1, Value: []byte("v")})
			lanes.Go(func() { d.handle() })
			synctest.Wait()
		}
		close(release)
		lanes.Wait()
		for i, at := range s.times[1:] {
			if at < time.Minute {
				t.Errorf("request %d came after %s, in the middle of the pause", i+2, at)
			}
		}
	})
}

// A slot is held for an attempt, never for a wait: lanes that fail do not starve the others.
func TestSlotIsFreeWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, local(func(c *settings) { c.Concurrency, c.RetryInterval, c.RetryMaxInterval = 1, time.Hour, time.Hour }), nil)
		inFlight, most := 0, 0
		s := serving(r, func(q *http.Request) (*http.Response, error) {
			inFlight++
			most = max(most, inFlight)
			<-time.After(time.Second)
			inFlight--
			if q.Header.Get("Kafka-Partition") == "0" && attemptOf(q) < 3 {
				return says(q, 500)
			}
			return says(q, 200)
		})
		var lanes sync.WaitGroup
		for n := range int32(4) {
			d := handed(r.partition(kafka.Partition{Topic: "t", Number: n}), kafka.Message{Offset: 1, Value: []byte("v")})
			lanes.Go(func() { d.handle() })
			synctest.Wait()
		}
		lanes.Wait()
		if most != 1 || s.times[3] > 3*time.Second || r.turnsTaken() != 0 {
			t.Errorf("at most %d in flight, the last of the others began after %s, %d slots are still held", most, s.times[3], r.turnsTaken())
		}
	})
}

// In doubt goes with every attempt after one that may have reached the service, over a restart, too.
func TestInDoubtIsSaidUntilTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, local(nil), nil)
		answer := func(q *http.Request) (*http.Response, error) {
			switch attemptOf(q) {
			case 1:
				return nil, syscall.ECONNREFUSED
			case 2:
				return says(q, 500)
			case 3:
				connected(q)
				return nil, io.EOF
			case 7:
				return says(q, 200)
			}
			return says(q, 503)
		}
		s := serving(r, answer)
		p := r.partition(t0)
		d := handed(p, kafka.Message{Offset: 0, Value: []byte("v")})
		done := make(chan error)
		go func() { _, err := d.handle(); done <- err }()
		r.until("5 attempts", func() bool { return s.count() == 5 })
		p.stop(errStopping)
		if err := <-done; !errors.Is(err, errStopping) {
			t.Errorf("stopped with %v", err)
		}
		p.rec.Release()
		r = r.again(local(nil), nil)
		after := serving(r, answer)
		d = handed(r.partition(t0), kafka.Message{Offset: 0, Value: []byte("v")})
		if out, err := d.handle(); err != nil || out.Class != Delivered {
			t.Fatal(out, err)
		}
		var got []string
		for _, q := range slices.Concat(s.seen, after.seen) {
			got = append(got, q.Header.Get("Kafka-Attempt")+q.Header.Get("Kafka-In-Doubt"))
		}
		if want := "[1 2 3 4true 5true 6true 7true]"; fmt.Sprint(got) != want {
			t.Errorf("attempts %v, want %s", got, want)
		}
	})
}

// What an earlier life has left in doubt, and goes out at the first attempt of this one, is no failure.
func TestADoubtIsNoFailure(t *testing.T) {
	for _, row := range []struct{ name, first, says string }{
		{"killed with requests under way", "", "delivered; it was in doubt, so the service may have had it before"},
		{"failed in this life", "fails", "delivered after failures"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, local(nil), nil)
				s := serving(r, func(q *http.Request) (*http.Response, error) { connected(q); return nil, io.EOF })
				p := r.partition(t0)
				m := kafka.Message{Offset: 0, Value: []byte("v")}
				done := make(chan error)
				d := handed(p, m)
				go func() { _, err := d.handle(); done <- err }()
				r.until("an attempt", func() bool { return s.count() == 1 })
				p.stop(errStopping)
				<-done
				p.rec.Release()
				r = r.again(local(nil), nil)
				answered := 0
				serving(r, func(q *http.Request) (*http.Response, error) {
					if answered++; answered == 1 && row.first != "" {
						return says(q, 500)
					}
					return says(q, 200)
				})
				if out, err := handed(r.partition(t0), m).handle(); err != nil || out.Class != Delivered {
					t.Fatal(out, err)
				}
				for _, said := range r.logs.With("delivered") {
					if !strings.Contains(said, `"`+row.says+`"`) {
						t.Errorf("the log says %s", said)
					}
				}
				if n := len(r.logs.With(row.says)); n != 1 {
					t.Errorf("%q is said %d times", row.says, n)
				}
			})
		})
	}
}

// Blocked is said once after ten attempts; then there is silence for as long as the reason stays the same.
func TestBlockedIsSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, local(nil), nil)
		s := serving(r, func(q *http.Request) (*http.Response, error) {
			switch n := attemptOf(q); {
			case n > 5000:
				return says(q, 200)
			case n > 4000:
				return says(q, 404)
			}
			return says(q, 500)
		})
		d := handed(r.partition(t0), kafka.Message{Offset: 1, Value: []byte("secret value")})
		var ended sync.WaitGroup
		ended.Go(func() { d.handle() })
		count := func(level, text string) (n int) {
			for _, l := range r.logs.With(text) {
				if strings.Contains(l, "level="+level) {
					n++
				}
			}
			return n
		}
		r.until("9 attempts", func() bool { return s.count() == 9 })
		if n := count("ERROR", "blocked"); n != 0 || len(r.f.failures.blocked()) != 0 {
			t.Errorf("blocked after 9 attempts: said %d times, %d listed", n, len(r.f.failures.blocked()))
		}
		r.until("10 attempts", func() bool { return s.count() == 10 })
		pass(time.Millisecond)
		if n := count("ERROR", "blocked"); n != 1 || len(r.f.failures.blocked()) != 1 {
			t.Errorf("after 10 attempts: said %d times, %d listed", n, len(r.f.failures.blocked()))
		}
		if notes := fmt.Sprint(r.f.Notes()); !strings.Contains(notes, "1 messages are blocked") {
			t.Errorf("notes %s", notes)
		}
		r.until("4000 attempts", func() bool { return s.count() == 4000 })
		if n := count("ERROR", "blocked"); n != 1 {
			t.Errorf("said %d times after hours with the same reason", n)
		}
		r.until("another reason", func() bool { return s.count() == 5000 })
		if n := count("ERROR", "blocked"); n != 2 {
			t.Errorf("said %d times after the reason has changed once", n)
		}
		ended.Wait()
		r.until("the end", func() bool { return len(r.f.failures.blocked()) == 0 })
		if n, after := count("WARN", "will be retried"), count("INFO", "delivered after failures"); n != 1 || after != 1 {
			t.Errorf("first failure said %d times, the end %d times", n, after)
		}
		if len(r.logs.With("secret")) > 0 {
			t.Error("the log holds the message's value")
		}
	})
}

// SIGUSR1 skips what is blocked: at once while it waits, with the end of the attempt while it is in flight.
func TestSkipBlocked(t *testing.T) {
	for _, row := range []struct {
		name     string
		attempts int // made when the signal comes
		inFlight bool
		last     int // status of the attempt in flight
		skipped  int
		want     error
	}{
		{name: "not blocked yet", attempts: 9, skipped: 0},
		{name: "in wait", attempts: 10, skipped: 1, want: errSkipped},
		{name: "in flight, fails", attempts: 11, inFlight: true, last: 500, skipped: 1, want: errSkipped},
		{name: "in flight, is delivered", attempts: 11, inFlight: true, last: 200, skipped: 1, want: nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, local(nil), nil)
			s := serving(r, func(q *http.Request) (*http.Response, error) {
				switch n := attemptOf(q); {
				case n == 20:
					return says(q, 200)
				case row.inFlight && n == row.attempts:
					<-time.After(30 * time.Second)
					return says(q, row.last)
				}
				return says(q, 500)
			})
			p := r.partition(t0)
			d := handed(p, kafka.Message{Offset: 1, Value: []byte("v")})
			done := make(chan error)
			go func() {
				out, err := d.handle()
				if out.Class == Skip && out.Reason == errSkipped.Error()+" (its newest attempt: the service answered 500)" {
					err = errSkipped
				}
				done <- err
			}()
			r.until("the attempts", func() bool { return s.count() == row.attempts })
			synctest.Wait()
			if n := r.f.SkipBlocked(); n != row.skipped {
				t.Errorf("%s: %d skipped, want %d", row.name, n, row.skipped)
			}
			if err := <-done; !errors.Is(err, row.want) {
				t.Errorf("%s: ended with %v, want %v", row.name, err, row.want)
			}
			want := row.attempts
			if row.skipped == 0 {
				want = 20
			}
			if s.count() != want || len(r.f.failures.blocked()) != 0 || r.turnsTaken() != 0 {
				t.Errorf("%s: %d attempts, %d still blocked, %d slots held", row.name, s.count(), len(r.f.failures.blocked()), r.turnsTaken())
			}
		})
	}
}

// A stop ends every wait at once and lets the attempt under way finish.
func TestStopEndsWaits(t *testing.T) {
	for name, hold := range map[string]func(r *rig, p *partition){
		"between attempts": func(*rig, *partition) {},
		"pause of the service": func(r *rig, _ *partition) {
			p := r.partition(t1)
			load(p, 1, 0) // is answered with a pause
			synctest.Wait()
			p.stop(errStopping)
		},
		"turn": func(r *rig, _ *partition) { r.f.pace.SetLimit(0) },
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, local(func(c *settings) { c.Concurrency = 1; c.RetryInterval, c.RetryMaxInterval = time.Hour, time.Hour }), nil)
			s := serving(r, func(q *http.Request) (*http.Response, error) {
				if q.Header.Get("Kafka-Partition") == "1" {
					return says(q, 429, "Retry-After", "3600")
				}
				return says(q, 500)
			})
			p := r.partition(t0)
			hold(r, p)
			d := handed(p, kafka.Message{Offset: 1, Value: []byte("v")})
			done := make(chan error)
			go func() { _, err := d.handle(); done <- err }()
			synctest.Wait()
			begun, requests := time.Now(), s.count()
			p.stop(errRevoked)
			if err := <-done; !errors.Is(err, errRevoked) {
				t.Errorf("%s: ended with %v", name, err)
			}
			if s.count() != requests || time.Since(begun) != 0 {
				t.Errorf("%s: %d requests after the stop, %s until the end", name, s.count()-requests, time.Since(begun))
			}
		})
	}
}

func TestSlowDeliveryIsLogged(t *testing.T) {
	for took, want := range map[time.Duration]int{999 * time.Millisecond: 0, 1001 * time.Millisecond: 1} {
		for _, limit := range []time.Duration{time.Second, 0} {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, local(func(c *settings) { c.SlowTime = limit }), nil)
				serving(r, func(q *http.Request) (*http.Response, error) { <-time.After(took); return says(q, 200) })
				d := handed(r.partition(t0), kafka.Message{Offset: 1, Value: []byte("v")})
				if _, err := d.handle(); err != nil {
					t.Fatal(err)
				}
				if n := len(r.logs.With("slow delivery")); limit > 0 && n != want || limit == 0 && n != 0 {
					t.Errorf("took %s with SLOW_TIME %s: %d lines", took, limit, n)
				}
			})
		}
	}
}

// An attempt that could not be announced in the file is not made: the partition belongs to somebody else.
func TestNoAttemptAfterRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, local(nil), nil)
		s := serving(r, func(q *http.Request) (*http.Response, error) { return says(q, 200) })
		p := r.partition(t0)
		d := handed(p, kafka.Message{Offset: 1, Value: []byte("v")})
		r.f.pace.SetLimit(0)
		time.AfterFunc(time.Second, func() { p.rec.Release(); r.f.pace.SetLimit(16) })
		if _, err := d.handle(); !errors.Is(err, errLost) {
			t.Errorf("ended with %v", err)
		}
		if s.count() != 0 || r.turnsTaken() != 0 {
			t.Errorf("%d requests, %d slots held", s.count(), r.turnsTaken())
		}
	})
}

// Whoever has just listed what is blocked may skip it after it has ended: that ends no other message, whose delivery may be the same.
func TestALateSkipSkipsNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const messages = 300
		var late []*failure
		var r *rig
		r = newRig(t, small(), handle(func(d *Delivery) Verdict {
			if d.Offset%10 == 3 && d.Number() <= blockedAfter {
				return Verdict{Class: MessageFault, Reason: "no"}
			}
			for _, one := range late { // of messages before
				one.skip(errSkipped)
			}
			late = append(late, r.f.failures.blocked()...)
			return good
		})).run()
		r.kafka.give(t0)
		r.kafka.produce(t0, messages, 10)
		r.until("all committed", func() bool { return r.kafka.storedAt(t0) == messages })
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if n := len(r.logs.With("message skipped")); n != 0 || len(late) != messages/10 {
			t.Errorf("%d were skipped that nobody skipped, of %d that were blocked", n, len(late))
		}
	})
}
