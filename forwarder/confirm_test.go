package forwarder

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
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
		if n := len(r.logs.with("does not say whether the service has a message in doubt")); n != 1 {
			t.Errorf("said %d times in a minute, want once: %s", n, fmt.Sprint(r.logs.with("CONFIRM")))
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

// away is a service behind script whose hosts are gone, as long as that is so, and says to each question and message what it is to.
type away struct {
	gone     func(host string) bool
	question int // the answer to each
	asked    []string
	posted   []string
}

func (s *away) answer(q *http.Request) (*http.Response, error) {
	if q.Method == http.MethodGet {
		s.asked = append(s.asked, q.Host)
	} else {
		s.posted = append(s.posted, q.Host)
	}
	switch {
	case s.gone(q.Host):
		return nil, syscall.ECONNREFUSED
	case q.Method == http.MethodGet:
		return says(q, s.question)
	}
	return says(q, 200)
}

// A question is no probe: of a service that is down and comes back others are delivered within an interval, whatever it says of those in doubt.
func TestAQuestionIsNoProbe(t *testing.T) {
	for _, concurrency := range []int{1, 16} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, local(func(c *settings) { c.ConfirmURLs, c.Concurrency = []string{"http://service/has"}, concurrency }), nil)
			begun := time.Now()
			s := &away{question: 500, gone: func(string) bool { return time.Since(begun) < time.Minute }}
			serving(r, s.answer)
			for i, p := range []kafka.Partition{t0, t1} {
				r.partition(p, offsets.Attempt{Offset: 7, Number: 1, InDoubt: true}).push(&kafka.Message{Partition: p, Offset: 7 + int64(i)*0})
			}
			p := r.partition(t2)
			p.push(&kafka.Message{Partition: t2, Offset: 0})
			pass(time.Minute)
			pass(2*r.f.cfg.RetryInterval + time.Second)
			if n := p.rec.Outstanding(); n != 0 || r.isDown() {
				t.Errorf("concurrency %d: %d are left, the service is down %t, after %d questions and %d requests", concurrency, n, r.isDown(), len(s.asked), len(s.posted))
			}
			for _, p := range r.f.consumer.parts {
				drained(p, 0, errRevoked)
			}
		})
	}
}
