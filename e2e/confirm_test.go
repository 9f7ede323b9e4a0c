package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// book is what a service knows about itself: the messages that have taken effect, by Kafka-Message-Id. Its URL answers
// kpush's question from it.
type book struct {
	url   string
	mu    sync.Mutex
	has   map[string]bool
	asked []question
	says  func(nth int) int // overrides the answer to the nth question about a message; 0 does not
}

type question struct {
	id     string
	at     time.Time
	answer int
}

func newBook(t *testing.T) *book {
	t.Helper()
	b := &book{has: map[string]bool{}}
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	b.url = server.URL + "/has?shop=7"
	return b
}

func (b *book) ServeHTTP(w http.ResponseWriter, h *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := question{id: h.URL.Query().Get("id"), at: time.Now(), answer: http.StatusNotFound}
	nth := 1
	for _, before := range b.asked {
		if before.id == q.id {
			nth++
		}
	}
	if b.has[q.id] {
		q.answer = http.StatusOK
	}
	if b.says != nil {
		if status := b.says(nth); status != 0 {
			q.answer = status
		}
	}
	if h.Method != http.MethodGet || h.URL.Query().Get("shop") != "7" {
		q.answer = http.StatusTeapot // a question that is not as it was asked for is never answered
	}
	b.asked = append(b.asked, q)
	w.WriteHeader(q.answer)
}

// enter is a rule: the message takes effect when it arrives, and the answer comes after the delay.
func (b *book) enter(delay time.Duration) func(*rig.Request) rig.Action {
	return func(r *rig.Request) rig.Action {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.has[r.ID] = true
		return rig.Action{Delay: delay}
	}
}

// questions are those so far, and how many were answered how.
func (b *book) questions() ([]question, map[int]int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	answers := map[int]int{}
	for _, q := range b.asked {
		answers[q.answer]++
	}
	return b.asked[:len(b.asked):len(b.asked)], answers
}

// TestNothingIsRepeatedThatTheServiceConfirms: kill -9 with requests in flight, and no message ever arrives twice.
func TestNothingIsRepeatedThatTheServiceConfirms(t *testing.T) {
	t.Parallel()
	const partitions, kills = 8, 10
	for _, guarantee := range []int{2, 3} {
		t.Run(fmt.Sprint("guarantee ", guarantee), func(t *testing.T) {
			k, svc, b := kafka(t), service(t), newBook(t)
			svc.Rule(b.enter(10 * time.Millisecond))
			topic := k.Topic(t, partitions)
			produced := k.Produce(t, topic, numbered("order", partitions, 6_000)...)
			sc := sidecar(t, k, topic, svc, "KPUSH_CONFIRM_URL="+b.url, fmt.Sprint("KPUSH_MESSAGE_DELIVERY_GUARANTEES=", guarantee))
			for range kills {
				svc.Await(t, svc.Delivered()+200+rand.IntN(100), patience)
				sc.Kill()
				sc.Start(t)
			}
			hears(t, svc, 0, without(produced, unheard(svc)))
			sc.Shut(t, 10*time.Second)
			arrived := map[string]int{}
			for _, r := range svc.Requests() {
				if arrived[r.ID]++; arrived[r.ID] > 1 {
					t.Errorf("%s: the service had it already.", r)
				}
			}
			if len(arrived) != len(produced) {
				t.Errorf("%d of %d messages arrived.", len(arrived), len(produced))
			}
			_, answers := b.questions()
			if answers[http.StatusOK] == 0 || answers[http.StatusTeapot] > 0 {
				t.Errorf("The questions were answered %v; some must have been confirmed.", answers)
			}
			committedIsEnd(t, k, topic)
			t.Logf("Guarantee %d, %d kills -9 with requests in flight over %d messages: 0 arrived twice, 0 are missing; asked and answered %v.", guarantee, kills, len(produced), answers)
		})
	}
}

// unheard are the values that arrived, but whose answer was cut off by a kill.
func unheard(svc *rig.Service) (values []string) {
	for _, r := range svc.Requests() {
		if !r.Done {
			values = append(values, r.Head)
		}
	}
	return values
}

// TestAServiceThatDoesNotKnowIsAskedAgain: 500 and silence hold the message, 404 sends it; after a timeout as after a crash.
func TestAServiceThatDoesNotKnowIsAskedAgain(t *testing.T) {
	const partitions, refusals = 2, 4
	const interval = 50 * time.Millisecond
	for _, how := range []string{"a kill", "a timeout"} {
		t.Run("after "+how, func(t *testing.T) {
			k, svc, b := kafka(t), service(t), newBook(t)
			svc.Rule(rig.First(partitions, rig.Action{Break: rig.Hang}, nil)) // nothing has taken effect
			b.says = func(nth int) int {
				if nth <= refusals {
					return 500
				}
				return 0
			}
			topic := k.Topic(t, partitions)
			produced := k.Produce(t, topic, numbered("order", partitions, 20)...)
			sc := sidecar(t, k, topic, svc, "KPUSH_CONFIRM_URL="+b.url, fmt.Sprint("KPUSH_EXEC_TIMEOUT=", map[string]string{"a kill": "60s", "a timeout": "300ms"}[how]))
			rig.Within(t, patience, "a request in flight in both partitions", func() bool { return svc.Attempts() == partitions })
			if how == "a kill" {
				sc.Kill()
				sc.Start(t)
			}
			hears(t, svc, 0, produced)
			sc.Shut(t, 10*time.Second)
			svc.Judge(produced).Kept(t, 0)
			said(t, sc, "KPUSH_CONFIRM_URL does not say whether the service has a message in doubt")
			questions, answers := b.questions()
			if answers[500] != partitions*refusals || answers[404] != partitions || len(questions) != partitions*(refusals+1) {
				t.Errorf("The questions were answered %v, want %d times 500 and %d times 404.", answers, partitions*refusals, partitions)
			}
			last := map[string]time.Time{}
			for _, q := range questions {
				if waited := q.at.Sub(last[q.id]); waited < interval-5*time.Millisecond {
					rig.Missed(t, "%s was asked about again after %v, KPUSH_RETRY_INTERVAL is %v.", q.id, waited, interval)
				}
				last[q.id] = q.at
			}
			for _, r := range svc.Requests() {
				if second := r.Attempt == 2; second && r.Start.Before(last[r.ID]) || second != r.InDoubt || r.Attempt > 2 {
					t.Errorf("%s: sent before the service said 404 (at %v), or not as the second attempt in doubt.", r, last[r.ID].Format("15:04:05.000"))
				}
			}
			committedIsEnd(t, k, topic)
			t.Logf("In doubt after %s: %v answered, and only then sent, flagged.", how, answers)
		})
	}
}

// TestWhoWaitsForTheConfirmURLHoldsUpNobody: two messages are in doubt of a service that comes back on one of its hosts, and does not know of
// them. Others are delivered at once, both are named, and each ends by an operator's skip, or by an answer.
func TestWhoWaitsForTheConfirmURLHoldsUpNobody(t *testing.T) {
	t.Parallel()
	const dead, back = "127.0.0.1", "127.0.0.2"
	k, svc := kafka(t), service(t, dead, back)
	svc.Rule(rig.First(2, rig.Action{Break: rig.Hang}, nil))
	var answer atomic.Int32
	answer.Store(http.StatusInternalServerError)
	svc.Door("/has", func() int { return int(answer.Load()) })
	topic := k.Topic(t, 3)
	for p := range int32(2) {
		k.Produce(t, topic, rig.Record{Partition: p, Value: []byte("in doubt")})
	}
	sc := sidecar(t, k, topic, svc, "KPUSH_HOST="+dead+","+back, "KPUSH_CONFIRM_URL=/has", "KPUSH_RETRY_INTERVAL=200ms", "KPUSH_CAN_SKIP=true")
	rig.Within(t, patience, "two requests in flight", func() bool { return svc.Attempts() == 2 })
	sc.Kill()
	svc.Orphaned(t)
	svc.Down()
	sc.Start(t)
	rig.Within(t, patience, "the service is down", func() bool { return len(sc.Find("the service is down")) > 0 })
	svc.Up(t, back)
	begin := time.Now()
	k.Produce(t, topic, rig.Record{Partition: 2, Value: []byte("of somebody else")})
	below(t, "a message of another partition", begin, svc.Await(t, 1, patience), 2*time.Second)
	rig.Within(t, patience, "both are named", func() bool {
		notes := fmt.Sprint(sc.Ask("/readyz").Notes)
		return strings.Contains(notes, "2 messages in doubt wait") && strings.Contains(notes, topic+"/0/0 since ") && strings.Contains(notes, "(the answer was 500")
	})
	if sc.Call(t, 200, "POST", "/skip", fmt.Sprintf(`{"topic":%q,"partition":0,"offset":0}`, topic))["skipped"] != 1.0 {
		t.Error("It is not skipped.")
	}
	answer.Store(http.StatusNotFound)
	svc.Await(t, 2, patience)
	rig.Within(t, patience, "nobody waits", func() bool { return !strings.Contains(fmt.Sprint(sc.Ask("/readyz").Notes), "in doubt") })
	sc.Shut(t, 10*time.Second)
	committedIsEnd(t, k, topic)
	if log := skipped(t, sc); len(log) != 1 || log[0]["partition"] != 0.0 {
		t.Errorf("The skip log holds %v, want the message of partition 0.", log)
	}
}
