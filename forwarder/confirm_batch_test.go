package forwarder

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// Messages of one lane are asked about round by round, so that each is named and can be skipped; where nothing whole comes back, one
// question a round is enough to know.
func TestConfirmURLOfABatch(t *testing.T) {
	for question, each := range map[int]int{500: 3, 0: 1} {
		synctest.Test(t, func(t *testing.T) {
			var doubts []offsets.Attempt
			for o := range int64(3) {
				doubts = append(doubts, offsets.Attempt{Offset: 7 + o, Number: 1, InDoubt: true})
			}
			r := newRig(t, batches(3, OrderPartition, func(c *settings) { c.ConfirmURLs = []string{"http://service/has"} }), nil)
			defer r.endAll()
			s := &away{question: question, gone: func(string) bool { return false }}
			serving(r, s.answer)
			p := r.partition(t1, doubts...)
			for _, a := range doubts {
				p.push(&kafka.Message{Partition: t1, Offset: a.Offset})
			}
			pass(time.Second)
			if asked, _ := s.came(); !strings.Contains(fmt.Sprint(r.f.Notes()), "3 messages in doubt wait") || len(asked) != each {
				t.Errorf("%d: %d questions at first, noted %s", question, len(asked), r.f.Notes())
			}
			if n, err := r.f.Skip(context.Background(), "test", Selection{Position: kafka.Position{Partition: t1, Offset: 8}}); n.Skipped != 1 || err != nil {
				t.Errorf("%d: %+v, %v", question, n, err)
			}
			pass(time.Minute)
			if s.mu.Lock(); len(s.posted) != 0 {
				t.Errorf("%d: something is sent", question)
			}
			s.question = 404
			s.mu.Unlock()
			r.until("the end", func() bool { return p.rec.Outstanding() == 0 })
			if _, posted := s.came(); p.outcomeOf(8).Class != Skip || len(posted) != 1 || len(r.f.failures.doubtful()) != 0 {
				t.Errorf("%d: %+v, %d requests", question, p.outcomeOf(8), len(posted))
			}
		})
	}
}

// unsure is a service that was sent six messages together, and answers for those of which it is sure.
type unsure struct {
	*testing.T
	mu        sync.Mutex
	fell      bool // it has had a request without answering
	open, has []int64
	question  reply // about what is open
	answers   map[int64][]string
	sent      [][]int64
}

func (u *unsure) answer(q posted) reply {
	u.mu.Lock()
	defer u.mu.Unlock()
	if q.asked != "" {
		var o int64
		_, _ = fmt.Sscanf(q.asked, "t/0/%d/T", &o)
		said, y := "send", reply{status: 404}
		switch {
		case slices.Contains(u.has, o):
			said, y = "has", reply{}
		case slices.Contains(u.open, o):
			said, y = "open", u.question
		}
		u.answers[o] = append(u.answers[o], said)
		return y
	}
	if !u.fell {
		u.fell = true
		return reply{hang: true}
	}
	var sent []int64
	for _, e := range q.items {
		if all := u.answers[e.Offset]; e.InDoubt && (len(all) == 0 || all[len(all)-1] != "send") {
			u.Errorf("%s goes out, and the answers about %d were %v", q, e.Offset, all)
		}
		sent = append(sent, e.Offset)
	}
	u.sent = append(u.sent, sent)
	return reply{}
}

// came is what was sent, request by request in order partition, else by offset.
func (u *unsure) came(order string) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	text, all := fmt.Sprint(u.sent), slices.Concat(u.sent...)
	if order != OrderPartition {
		slices.Sort(all)
		text = fmt.Sprint(all)
	}
	return text[1 : len(text)-1]
}

// inOrder wants that of a key nothing was sent behind what came later.
func (u *unsure) inOrder(keys int64) {
	newest := map[int64]int64{}
	for _, o := range slices.Concat(u.sent...) {
		if at, any := newest[o%keys]; any && at > o {
			u.Errorf("%d was sent after %d: %v", o, at, u.sent)
		}
		newest[o%keys] = o
	}
}

// Of a batch in doubt a message waits for its own question, and what is in order behind it; nobody else does. All others are asked for, and
// go: what is before it in requests of their own. Nothing goes unasked, each goes in its order.
func TestConfirmURLOfABatchHoldsUpNobodyElse(t *testing.T) {
	for _, row := range []struct {
		order     string
		keys      int
		earlier   bool // the doubt is of another life
		open, has []int64
		question  reply
		want      string // what is sent while the question stays open
		then      string // and all in all
	}{
		{OrderKey, 6, false, []int64{4}, nil, unwell, "0 1 2 3 5", "0 1 2 3 4 5"},
		{OrderNone, 6, false, []int64{4}, nil, unwell, "0 1 2 3 5", "0 1 2 3 4 5"},
		{OrderPartition, 6, false, []int64{4}, nil, unwell, "[0 1 2] [3]", "[0 1 2] [3] [4] [5]"},
		{OrderKey, 6, false, []int64{0}, nil, unwell, "1 2 3 4 5", "0 1 2 3 4 5"},
		{OrderNone, 6, false, []int64{0}, nil, unwell, "1 2 3 4 5", "0 1 2 3 4 5"},
		{OrderPartition, 6, false, []int64{0}, nil, unwell, "", "[0 1 2] [3 4] [5]"},
		{OrderKey, 6, true, []int64{0, 2, 5}, []int64{1}, unwell, "3 4", "0 2 3 4 5"},
		{OrderNone, 6, true, []int64{1, 2, 3, 4}, []int64{0}, unwell, "5", "1 2 3 4 5"},
		{OrderPartition, 6, true, []int64{4}, nil, unwell, "[0 1 2 3]", "[0 1 2 3] [4 5]"},
		{OrderPartition, 6, true, []int64{2}, []int64{0, 3}, unwell, "[1]", "[1] [2 4 5]"},
		{OrderPartition, 6, true, []int64{1, 3}, nil, unwell, "[0]", "[0] [1 2 3 4 5]"},
		{OrderKey, 2, false, []int64{2}, nil, unwell, "0 1 3 5", "0 1 2 3 4 5"},
		{OrderKey, 2, true, []int64{2, 3}, nil, unwell, "0 1", "0 1 2 3 4 5"},
		{OrderKey, 3, true, []int64{3}, []int64{0, 1}, unwell, "2 4 5", "2 3 4 5"},
		{OrderKey, 6, false, []int64{4}, nil, reply{cut: true}, "0 1 2 3 5", "0 1 2 3 4 5"},
		{OrderNone, 6, true, []int64{1, 4}, nil, reply{hang: true}, "0 2 3 5", "0 1 2 3 4 5"},
		{OrderPartition, 6, true, []int64{4}, nil, reply{refused: true}, "[0 1 2 3]", "[0 1 2 3] [4 5]"},
	} {
		for _, concurrency := range []int{1, 16} {
			for _, end := range []string{"answered", "skipped", "stopped"} {
				synctest.Test(t, func(t *testing.T) {
					r, u, p := doubting(t, batches(6, row.order, func(c *settings) { c.Concurrency = concurrency }), 6, row.keys, row.earlier)
					defer r.endAll()
					u.mu.Lock()
					u.open, u.has, u.question = row.open, row.has, row.question
					u.mu.Unlock()
					name := fmt.Sprintf("%+v, %d at once, %s", row, concurrency, end)
					if pass(time.Minute); u.came(row.order) != row.want {
						t.Errorf("%s: sent are %s", name, u.came(row.order))
					}
					switch end {
					case "answered":
						u.mu.Lock()
						u.open = nil
						u.mu.Unlock()
						r.until("the end", func() bool { return p.rec.Outstanding() == 0 })
						if u.came(row.order) != row.then {
							t.Errorf("%s: at last sent are %s", name, u.came(row.order))
						}
					case "skipped":
						for list := r.f.failures.doubtful(); len(list) > 0; list = r.f.failures.doubtful() {
							if n, err := r.f.Skip(context.Background(), "test", Selection{Position: list[0].Position}); n.Skipped != 1 || err != nil {
								t.Fatalf("%s: %+v, %v", name, n, err)
							}
							pass(time.Minute)
						}
					case "stopped":
						drained(p, 0, errRevoked)
					}
					if end != "stopped" && p.rec.Next() != 6 || p.failing.Load() != 0 {
						t.Errorf("%s: done up to %d, %d fail", name, p.rec.Next(), p.failing.Load())
					}
					if row.order == OrderKey {
						u.inOrder(int64(row.keys))
					}
					if r.endAll(); r.turnsTaken() != 0 {
						t.Errorf("%s: %d turns are held", name, r.turnsTaken())
					}
				})
			}
		}
	}
}

// doubting is a partition of which count messages are in doubt together, and an unsure service: it has left the first request without an
// answer, or an earlier life has.
func doubting(t *testing.T, cfg settings, count, keys int, earlier bool) (*rig, *unsure, *partition) {
	cfg.ConfirmURLs, cfg.ExecTimeout = []string{"http://elsewhere/has"}, time.Second
	r := newRig(t, cfg, nil)
	u := &unsure{T: t, fell: earlier, answers: map[int64][]string{}}
	opened(r, u.answer)
	var doubts []offsets.Attempt
	for o := range int64(count) {
		if earlier {
			doubts = append(doubts, offsets.Attempt{Offset: o, Number: 1, InDoubt: true})
		}
	}
	p := r.partition(t0, doubts...)
	r.f.pace.SetLimit(0)
	load(p, count, keys)
	time.AfterFunc(time.Millisecond, func() { r.f.pace.SetLimit(cfg.Concurrency) })
	return r, u, p
}

// To take a batch in doubt apart costs two questions a message at the most, and no time.
func TestConfirmURLOfALargeBatch(t *testing.T) {
	for _, order := range []string{OrderKey, OrderNone} {
		for _, every := range []int64{1, 2, 7} {
			synctest.Test(t, func(t *testing.T) {
				const count = 150
				r, u, _ := doubting(t, batches(count, order, func(c *settings) { c.BatchLinger = time.Minute }), count, count, true)
				defer r.endAll()
				u.mu.Lock()
				u.question = unwell
				for o := int64(0); o < count; o += every {
					u.open = append(u.open, o)
				}
				u.mu.Unlock()
				pass(time.Second)
				u.mu.Lock()
				defer u.mu.Unlock()
				asked := 0
				for o, all := range u.answers {
					if asked += len(all); len(all) > 2 {
						t.Errorf("order %s, every %d: %d was asked about %d times in a second", order, every, o, len(all))
					}
				}
				if sent := len(slices.Concat(u.sent...)); sent != count-len(u.open) || len(r.f.failures.doubtful()) != len(u.open) {
					t.Errorf("order %s, every %d: %d are sent and %d wait, after %d questions", order, every, sent, len(r.f.failures.doubtful()), asked)
				}
			})
		}
	}
}
