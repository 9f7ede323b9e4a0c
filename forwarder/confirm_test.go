package forwarder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// KPUSH_CONFIRM_URL is asked before what is in doubt is sent again, until it says 200 or 404; nothing else is asked about.
func TestConfirmURL(t *testing.T) {
	for _, row := range []struct {
		name    string
		doubt   bool
		answers []int // of the question; 0: no answer
		want    []string
	}{
		{"not in doubt", false, nil, []string{"POST"}},
		{"the service has it", true, []int{200}, []string{"GET"}},
		{"the service does not have it", true, []int{404}, []string{"GET", "POST"}},
		{"it does not know yet", true, []int{500, 0, 301, 204, 404}, []string{"GET", "GET", "GET", "GET", "GET", "POST"}},
		{"it knows at last", true, []int{503, 200}, []string{"GET", "GET"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, local(func(c *settings) { c.ConfirmURLs = []string{"http://service/has?tenant=a"} }), nil)
			var seen []string
			s := serving(r, func(q *http.Request) (*http.Response, error) {
				seen = append(seen, q.Method)
				if q.Method == http.MethodPost {
					return says(q, 200)
				}
				if got := q.URL.Query(); got.Get("id") != "t/1/7/T" || got.Get("tenant") != "a" || q.URL.Path != "/has" {
					t.Errorf("%s: asked %s", row.name, q.URL)
				}
				status := row.answers[0]
				row.answers = row.answers[1:]
				if status == 0 {
					return nil, errors.New("reset")
				}
				return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody, Request: q}, nil
			})
			p := r.partition(t0)
			if row.doubt {
				p = r.partition(t1, offsets.Attempt{Offset: 7, Number: 1, InDoubt: true})
			}
			d := handed(p, kafka.Message{Offset: 7, Value: []byte("v")})
			out, err := d.handle()
			if err != nil || out.Class != Delivered || !slices.Equal(seen, row.want) {
				t.Errorf("%s: %v, %v after %v, want %v", row.name, out, err, seen, row.want)
			}
			for i, at := range s.times {
				if seen[i] == "GET" && at != time.Duration(i)*r.f.cfg.RetryInterval {
					t.Errorf("%s: question %d came after %s", row.name, i+1, at)
				}
			}
			if n := r.turnsTaken(); n != 0 {
				t.Errorf("%s: %d slots are held at the end", row.name, n)
			}
		})
	}
}

// An attempt that ends in doubt is asked about before the next one, in the same life, too; a stop ends the asking.
func TestConfirmURLAfterATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, local(func(c *settings) { c.ConfirmURLs = []string{"http://service/has"} }), nil)
		var seen []string
		serving(r, func(q *http.Request) (*http.Response, error) {
			seen = append(seen, q.Method)
			if q.Method == http.MethodPost {
				connected(q)
				return nil, errors.New("reset")
			}
			return &http.Response{StatusCode: 503, Body: http.NoBody, Request: q}, nil
		})
		p := r.partition(t0)
		d := handed(p, kafka.Message{Offset: 7, Value: []byte("v")})
		time.AfterFunc(time.Minute, func() { p.stop(errRevoked) })
		_, err := d.handle()
		if !errors.Is(err, errRevoked) || seen[0] != "POST" || seen[1] != "GET" || slices.Contains(seen[1:], "POST") {
			t.Errorf("%v after %v", err, seen)
		}
		if n := len(r.logs.With("does not say whether the service has a message in doubt")); n != 1 {
			t.Errorf("said %d times in a minute, want once: %s", n, fmt.Sprint(r.logs.With("CONFIRM")))
		}
	})
}

// What was delivered before does not wait for the question: it is on record, or a crash would call it in doubt and the end of its
// partition would wait for the service's answer about another.
func TestConfirmURLHoldsUpNoRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, local(func(c *settings) { c.ConfirmURLs, c.Concurrency = []string{"http://service/has"}, 1 }), nil)
		serving(r, func(q *http.Request) (*http.Response, error) {
			if q.Method == http.MethodGet {
				<-q.Context().Done() // never answers
				return nil, q.Context().Err()
			}
			return says(q, 200)
		})
		p := r.partition(t0, offsets.Attempt{Offset: 1, Number: 1, InDoubt: true})
		p.push(&kafka.Message{Partition: kafka.Partition{Topic: "t"}, Offset: 0})
		p.push(&kafka.Message{Partition: kafka.Partition{Topic: "t"}, Offset: 1})
		synctest.Wait()
		if next := p.rec.Next(); next != 1 {
			t.Errorf("everything below %d is on record while the service is asked about 1", next)
		}
		drained(p, 0, errRevoked)
	})
}

// away is a service of which hosts are gone, as long as that is so, and which has an answer for each question.
type away struct {
	mu            sync.Mutex
	gone          func(host string) bool
	question      int // 0: it breaks
	asked, posted []string
}

func (s *away) answer(q *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	get := q.Method == http.MethodGet
	if get {
		s.asked = append(s.asked, q.Host)
	} else {
		s.posted = append(s.posted, q.Host)
	}
	switch {
	case s.gone(q.Host):
		return nil, syscall.ECONNREFUSED
	case !get:
		return says(q, 200)
	case s.question == 0:
		connected(q)
		return nil, io.EOF
	}
	return says(q, s.question)
}

// came is who was asked, and who was sent a message.
func (s *away) came() (asked, posted []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked), slices.Clone(s.posted)
}

// doubted is a partition whose first message, at 7, is in doubt.
func (r *rig) doubted(t kafka.Partition) *partition {
	p := r.partition(t, offsets.Attempt{Offset: 7, Number: 1, InDoubt: true})
	p.push(&kafka.Message{Partition: t, Offset: 7})
	return p
}

// end stops all partitions.
func (r *rig) endAll() {
	for _, p := range r.f.consumer.parts {
		drained(p, 0, errRevoked)
	}
}

// A question is no probe: of a service that comes back others are delivered within an interval, whatever it says of those in doubt, and
// also where that is all it says. Its whole answer is a sign of life, but not a gateway's.
func TestAQuestionIsNoProbe(t *testing.T) {
	for _, row := range []struct {
		concurrency, question int
		up                    bool // by the answers to questions alone
	}{{1, 500, true}, {16, 500, true}, {16, 302, true}, {16, 0, false}, {1, 0, false}, {16, 503, false}, {16, 502, false}, {1, 504, false}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, local(func(c *settings) { c.ConfirmURLs, c.Concurrency = []string{"http://service/has"}, row.concurrency }), nil)
			defer r.endAll()
			begun := time.Now()
			s := &away{question: row.question, gone: func(string) bool { return time.Since(begun) < time.Minute }}
			serving(r, s.answer)
			r.doubted(t0)
			r.doubted(t1)
			pass(time.Minute - time.Second)
			if asked, _ := s.came(); !r.isDown() || len(asked) > 33 {
				t.Errorf("%+v: the service is down %t after %d questions in a minute", row, r.isDown(), len(asked))
			}
			pass(2*r.f.cfg.RetryInterval + time.Second)
			if r.isDown() == row.up {
				t.Errorf("%+v: the service is there again, and down is %t", row, !row.up)
			}
			p := r.partition(t2)
			p.push(&kafka.Message{Partition: t2, Offset: 0})
			pass(r.f.cfg.RetryInterval)
			if asked, posted := s.came(); p.rec.Outstanding() != 0 || r.isDown() || len(posted) != 1 {
				t.Errorf("%+v: %d are left, the service is down %t, after %d questions and %d requests", row, p.rec.Outstanding(), r.isDown(), len(asked), len(posted))
			}
		})
	}
}

// Of several hosts one that is up is asked, at once where the first is found dead by the question. What is asked elsewhere says nothing
// of the service: it puts no host down, and brings none up.
func TestWhoIsAsked(t *testing.T) {
	for name, row := range map[string]struct {
		at   []string
		gone string
		want string // asked at once
		down bool
	}{
		"each host":            {[]string{"http://a/has", "http://b/has"}, "a", "b", false},
		"each host, the other": {[]string{"http://a/has", "http://b/has"}, "b", "b a", false},
		"one of the hosts":     {[]string{"http://b/has"}, "a", "b", false},
		"all are gone":         {[]string{"http://a/has", "http://b/has"}, "a b", "b a", true},
		"elsewhere":            {[]string{"http://c/has"}, "c", "c", false},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, local(func(c *settings) { c.Targets, c.ConfirmURLs = []string{"http://a/", "http://b/"}, row.at }), nil)
			defer r.endAll()
			s := &away{question: 500, gone: func(host string) bool { return strings.Contains(row.gone, host) }}
			serving(r, s.answer)
			r.doubted(t0)
			synctest.Wait()
			if asked, _ := s.came(); strings.Join(asked, " ") != row.want || r.isDown() != row.down {
				t.Errorf("%s: asked %q, the service is down %t; want %q, %t", name, asked, r.isDown(), row.want, row.down)
			}
			if pass(time.Minute); name == "elsewhere" {
				s.mu.Lock()
				s.gone = func(host string) bool { return host != "c" }
				s.mu.Unlock()
				r.partition(t1).push(&kafka.Message{Partition: t1, Offset: 0})
				synctest.Wait()
				before, _ := s.came()
				pass(time.Minute)
				if asked, _ := s.came(); !r.isDown() || len(asked) == len(before) {
					t.Errorf("%s: %d questions were answered, and the service is down %t", name, len(asked)-len(before), r.isDown())
				}
			}
		})
	}
}

// Who waits for the answer is named from the first question on: where, since when, what the question got, and how to end it. After ten it
// is blocked. It can be skipped, also while the question hangs, and is done then.
func TestWhoWaitsForConfirmURLIsNamedAndSkipped(t *testing.T) {
	for name, skip := range map[string]func(r *rig) int{
		"by its offset": func(r *rig) int {
			n, err := r.f.Skip(context.Background(), "test", Selection{Position: kafka.Position{Partition: t1, Offset: 7}})
			if err != nil {
				r.Error(err)
			}
			return n.Skipped
		},
		"as blocked": func(r *rig) int {
			n, err := r.f.Skip(context.Background(), "test", Selection{Blocked: true})
			if err != nil {
				r.Error(err)
			}
			return n.Skipped
		},
		"by SIGUSR1": func(r *rig) int { return r.f.SkipBlocked() },
	} {
		for _, hangs := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, local(func(c *settings) { c.ConfirmURLs = []string{"http://service/has"} }), nil)
				defer r.endAll()
				serving(r, func(q *http.Request) (*http.Response, error) {
					if connected(q); hangs {
						<-q.Context().Done()
						return nil, q.Context().Err()
					}
					return says(q, 500)
				})
				p := r.doubted(t1)
				got := "the answer was 500"
				if synctest.Wait(); hangs {
					got = "no answer within 1m0s"
					pass(time.Minute)
					synctest.Wait()
				}
				note := func() string { return fmt.Sprint(r.f.Notes()) }
				for _, want := range []string{"1 messages in doubt wait", "t/1/7 since 2000-01-01T00:0", "KPUSH_CONFIRM_URL", got, "kpush -skip"} {
					if !strings.Contains(note(), want) {
						t.Errorf("%s: noted %s, want %q in it", name, note(), want)
					}
				}
				if n := r.f.SkipBlocked(); n != 0 {
					t.Errorf("%s: %d are blocked after one question", name, n)
				}
				r.until("it is blocked", func() bool { return len(r.f.failures.blocked()) == 1 })
				if s := r.f.Status(); len(s.Blocked) != 1 || s.Partitions[0].Failing != 1 || strings.Contains(note(), "blocked") {
					t.Errorf("%s: %+v, %s", name, s.Blocked, note())
				}
				if pass(time.Hour); len(r.logs.With("does not say")) != 2 {
					t.Errorf("%s: logged %q", name, r.logs.With("does not say"))
				}
				if pass(1500 * time.Millisecond); skip(r) != 1 {
					t.Errorf("%s: it is not skipped", name)
				}
				synctest.Wait()
				if out := p.outcomeOf(7); out.Class != Skip || p.rec.Next() != 8 || strings.Contains(note(), "doubt") || p.failing.Load() != 0 || r.turnsTaken() != 0 {
					t.Errorf("%s: %+v, the next one is %d, noted %s", name, out, p.rec.Next(), note())
				}
			})
		}
	}
}

// What is skipped before this process has made an attempt goes to the dead letter topic as such.
func TestALetterOfAMessageThatWasOnlyAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, local(func(c *settings) { c.ConfirmURLs, c.DeadLetterTopic = []string{"http://service/has"}, "dead" }), nil)
		defer r.endAll()
		serving(r, (&away{question: 500, gone: func(string) bool { return false }}).answer)
		r.doubted(t1)
		synctest.Wait()
		if n, err := r.f.Skip(context.Background(), "test", Selection{Position: kafka.Position{Partition: t1, Offset: 7}}); n.Skipped != 1 || err != nil {
			t.Fatalf("%+v, %v", n, err)
		}
		letters := r.kafka.records("dead")
		if len(letters) != 1 || last(letters[0].Headers, letterPrefix+"attempts") != "1" {
			t.Fatalf("%+v", letters)
		}
		for _, h := range letters[0].Headers {
			if strings.Contains(h.Name, "attempt-at") {
				t.Errorf("%s: %s", h.Name, h.Value)
			}
		}
	})
}
