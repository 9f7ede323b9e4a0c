package forwarder

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
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
			r := newRig(t, local(func(c *settings) { c.ConfirmURL = "http://service/has?tenant=a" }), nil)
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
		r := newRig(t, local(func(c *settings) { c.ConfirmURL = "http://service/has" }), nil)
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
		r := newRig(t, local(func(c *settings) { c.ConfirmURL, c.Concurrency = "http://service/has", 1 }), nil)
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
