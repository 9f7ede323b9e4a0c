package forwarder

import (
	"errors"
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

// One failure of a request is said once, not once for each of its messages.
func TestBatchIsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, batches(100, OrderNone, func(c *settings) { c.SlowTime = time.Second }), nil)
		opened(r, func(q posted) reply {
			switch q.items[0].Attempt {
			case 1:
				<-time.After(2 * time.Second)
				return reply{status: 503}
			case 2:
				return naming(7, 8)
			}
			return reply{}
		})
		load(r.partition(t0), 100, 0)
		pass(time.Minute)
		for text, want := range map[string]int{"slow delivery": 1, "will be retried": 1, "delivered after failures": 2} {
			if n := len(r.logs.With(text)); n != want {
				t.Errorf("%q was said %d times, want %d", text, n, want)
			}
		}
	})
}

// F4 for batches: once a partition has gone nothing of it is sent, recorded or held, and what was under way is in doubt if it
// was cut off, done if it had the time.
func TestBatchOfAPartitionThatGoes(t *testing.T) {
	t.Parallel()
	for _, moment := range []string{"in flight", "in flight too long", "between attempts", "lingering", "waiting for a turn", "asking"} {
		for _, how := range []string{"revoked", "lost", "stopped"} {
			for _, order := range orders {
				synctest.Test(t, func(t *testing.T) {
					cfg := batches(10, order, func(c *settings) {
						c.RetryInterval, c.RetryMaxInterval, c.ExecTimeout = time.Minute, time.Minute, 0
						switch moment {
						case "lingering":
							c.BatchLinger = 5 * time.Minute
						case "asking":
							c.ConfirmURLs = []string{"http://service/has"}
						}
					})
					r := newRig(t, cfg, nil)
					k := opened(r, func(q posted) reply {
						switch moment {
						case "in flight":
							return reply{takes: 5 * time.Second}
						case "asking":
							return reply{cut: true}
						case "between attempts":
							return naming(q.items[0].Offset)
						}
						return reply{hang: true}
					})
					r.run()
					if moment == "waiting for a turn" {
						r.f.pace.SetLimit(0)
					}
					keyed(r.kafka, t0, 8, 4)
					r.kafka.give(t0)
					pass(map[bool]time.Duration{false: 2, true: 62}[moment == "asking"] * time.Second)
					p := r.f.consumer.parts[t0]
					begun, before := time.Now(), len(k.seen())
					switch how {
					case "stopped":
						if err := r.stop(); err != nil {
							t.Error(err)
						}
					default:
						r.kafka.take(how == "lost", t0)
					}
					took, next := time.Since(begun), p.rec.Next()
					pass(10 * time.Minute)
					name := fmt.Sprintf("%s, %s, order %s", moment, how, order)
					if n := len(k.seen()); n != before {
						t.Errorf("%s: %s began after the end", name, fmt.Sprint(k.seen()[before:]))
					}
					want, most := int64(0), time.Duration(0)
					switch {
					case how == "lost":
					case moment == "in flight":
						want, most = 8, 3*time.Second
					case moment == "in flight too long", moment == "asking" && took > 0:
						most = 25 * time.Second
					}
					if next != want && moment != "between attempts" || took > most+time.Second || p.rec.Next() != next {
						t.Errorf("%s: took %s, done up to %d and later %d, want %d", name, took, next, p.rec.Next(), want)
					}
					r.isEmpty()
					if how != "stopped" {
						if err := r.stop(); err != nil {
							t.Error(err)
						}
					}
				})
			}
		}
	}
}

// SIGUSR1 skips those that are blocked, whichever of its batch that is: at once where it leads, else with the next request.
func TestSkipOneOfABatch(t *testing.T) {
	for _, blocked := range []int64{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			cfg := batches(2, OrderNone, func(c *settings) { c.BatchSize, c.ExecTimeout, c.DrainTimeout = 1, 0, time.Second })
			// one process tries one of the messages four times more than the other
			r := newRig(t, cfg, handle(func(d *Delivery) Verdict {
				if d.Offset == blocked {
					return bad
				}
				<-d.Attempt().Done()
				return Verdict{Class: Aborted}
			})).run()
			r.kafka.produce(t0, 2, 10)
			r.kafka.give(t0)
			pass(9 * time.Second)
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			cfg.BatchSize = 2
			r = r.again(cfg, nil)
			healed := false
			k := opened(r, func(q posted) reply {
				if healed {
					return reply{}
				}
				return naming(q.items[0].Offset, q.items[len(q.items)-1].Offset)
			})
			r.run()
			r.kafka.give(t0)
			pass(9*time.Second + 500*time.Millisecond)
			before := len(k.seen())
			if n := r.f.SkipBlocked(); n != 1 {
				t.Fatalf("%d are blocked after %s", n, k.text())
			}
			healed = true
			r.until("all is done", func() bool { return r.kafka.storedAt(t0) == 2 })
			var after []string
			for _, q := range k.seen()[before:] {
				after = append(after, fmt.Sprint(q.items[0].Offset, len(q.items)))
			}
			if want := fmt.Sprint(1-blocked, 1); !slices.Equal(after, []string{want}) {
				t.Errorf("blocked %d: after the signal %v, want %q", blocked, after, want)
			}
			if n := len(r.logs.With("message skipped")); n != 1 {
				t.Errorf("blocked %d: %d skipped", blocked, n)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
			r.isEmpty()
		})
	}
}

// A skip of a message holds also while another one of its batch is tried alone, after which it goes back to its lane.
func TestSkipWhileAnotherOfTheBatchIsTried(t *testing.T) {
	for _, order := range []string{OrderKey, OrderNone} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, batches(4, order, nil), nil)
			k := opened(r, func(q posted) reply {
				if len(q.items) == 1 && q.items[0].Offset == 0 {
					return reply{status: 500, takes: 5 * time.Second}
				}
				return unwell
			})
			r.run()
			defer r.stop()
			keyed(r.kafka, t0, 4, 4)
			r.kafka.give(t0)
			r.until("0 is tried alone", func() bool { seen := k.seen(); return len(seen) > 0 && len(seen[len(seen)-1].items) == 1 })
			begun, before := time.Now(), len(k.seen())
			n, err := r.f.Skip(t.Context(), "op", Selection{Position: kafka.Position{Partition: t0, Offset: 3}})
			if n.Skipped != 1 || err != nil || time.Since(begun) > 6*time.Second {
				t.Errorf("order %s: %+v, %v after %v", order, n, err, time.Since(begun))
			}
			pass(time.Minute)
			for _, q := range k.seen()[before:] {
				if slices.ContainsFunc(q.items, func(e element) bool { return e.Offset == 3 }) {
					t.Errorf("order %s: it is sent once more: %s", order, k.text())
					break
				}
			}
			if r.skipped() != 1 {
				t.Errorf("order %s: %d skipped", order, r.skipped())
			}
		})
	}
}

// Nothing in doubt is sent again without a question, also where a batch shrinks or fills up again.
func TestBatchAsksBeforeItRepeats(t *testing.T) {
	for _, order := range orders {
		for name, first := range map[string]reply{"broken": {cut: true}, "too slow": {hang: true}} {
			synctest.Test(t, func(t *testing.T) {
				cfg := batches(8, order, func(c *settings) { c.ConfirmURLs = []string{"http://service/has"} })
				r := newRig(t, cfg, nil)
				var mu sync.Mutex
				asked, done := map[string]bool{}, map[int64]int{}
				k := opened(r, func(q posted) reply {
					mu.Lock()
					defer mu.Unlock()
					if q.asked != "" {
						asked[q.asked] = true
						for _, o := range []int64{1, 2, 6} {
							if q.asked == fmt.Sprintf("t/0/%d/T", o) {
								done[o]++
								return reply{}
							}
						}
						return reply{status: 404}
					}
					if q.items[0].Attempt == 1 {
						return first
					}
					for _, e := range q.items {
						if e.InDoubt && !asked[e.ID] {
							t.Errorf("%s, order %s: %d is sent again without a question: %s", name, order, e.Offset, q)
						}
						delete(asked, e.ID)
						done[e.Offset]++
					}
					return reply{}
				})
				p := r.partition(t0)
				load(p, 8, 8)
				pass(time.Hour)
				for o := range int64(8) {
					if done[o] != 1 {
						t.Errorf("%s, order %s: %d was done %d times: %s", name, order, o, done[o], k.text())
					}
				}
				if p.rec.Next() != 8 || p.failing.Load() != 0 {
					t.Errorf("%s, order %s: done up to %d, %d fail", name, order, p.rec.Next(), p.failing.Load())
				}
				r.isEmpty()
			})
		}
	}
}

// brimful is a record that does not take everything for a while.
type brimful struct {
	record
	until  time.Time
	refuse func(what string, offset int64) bool
}

func (f *brimful) fault(what string, offset int64) error {
	if time.Now().Before(f.until) && f.refuse(what, offset) {
		return errors.New("no space left on device")
	}
	return nil
}

func (f *brimful) Write(done []int64, next *offsets.Partition, intents []offsets.Attempt) (recorded, announced error) {
	for i, offset := range done {
		if recorded = f.fault("done", offset); recorded != nil {
			more, _ := f.record.Write(done[:i], nil, nil)
			recorded = errors.Join(recorded, more) // it fails in the middle
			break
		}
	}
	if recorded == nil && len(done) > 0 {
		recorded, _ = f.record.Write(done, nil, nil)
	}
	if announced = recorded; announced != nil || len(intents) == 0 {
		return recorded, announced // it is one write
	}
	for _, a := range intents {
		if announced = f.fault("intent", a.Offset); announced != nil {
			return recorded, announced
		}
	}
	_, announced = f.record.Write(nil, next, intents)
	return recorded, announced
}

// F1 on a full volume: nothing is sent that is not announced, nothing is sent again because its outcome could not be recorded,
// and all goes on by itself.
func TestBatchOnAFullVolume(t *testing.T) {
	for _, order := range orders {
		for _, what := range []string{"intent", "done"} {
			for _, offset := range []int64{0, 2, -1} {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, batches(4, order, func(c *settings) { c.Adaptive = true }), nil)
					k := opened(r, func(posted) reply { return reply{} })
					p := r.partition(t0)
					p.page = &brimful{p.page, time.Now().Add(time.Minute), func(w string, o int64) bool { return w == what && (o == offset || offset < 0) }}
					load(p, 12, 12)
					pass(50 * time.Second)
					if n := p.rec.Next(); what == "done" && n > max(0, offset) || what == "intent" && k.has(offset) {
						t.Errorf("order %s, %s of %d fails: done up to %d: %s", order, what, offset, n, k.text())
					}
					pass(50 * time.Second)
					if text := k.text(); p.rec.Next() != 12 || len(k.seen()) != 3 || strings.ContainsAny(text, "#?") {
						t.Errorf("order %s, %s of %d failed: done up to %d: %s", order, what, offset, p.rec.Next(), text)
					}
					r.isEmpty()
					if n := r.f.Status().Service.InFlight; n != 0 {
						t.Errorf("order %s, %s of %d failed: %d attempts are counted as under way", order, what, offset, n)
					}
				})
			}
		}
	}
}

// tally counts what a record is asked for, by how many messages each call is about.
type tally struct {
	record
	mu    sync.Mutex
	calls []string
}

func (c *tally) note(what string, count int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, fmt.Sprint(what, " ", count))
}

func (c *tally) said() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.calls, ", ")
}

func (c *tally) Write(done []int64, next *offsets.Partition, intents []offsets.Attempt) (recorded, announced error) {
	if len(done) > 0 {
		c.note("done", len(done))
	}
	if len(intents) > 0 {
		c.note("intent", len(intents))
	}
	return c.record.Write(done, next, intents)
}

func (c *tally) Settled(all ...offsets.Attempt) error {
	c.note("settled", len(all))
	return c.record.Settled(all...)
}

// The messages of a request share what is written about them, and so the wait for the disk that guarantee 3 asks for.
func TestBatchSharesItsRecord(t *testing.T) {
	for _, row := range []struct {
		name  string
		first reply
		want  string
	}{
		{"delivered", reply{}, "intent 8, done 8"},
		{"three fail by name", naming(1, 4, 5), "intent 8, settled 3, done 5, intent 3, done 3"},
		{"nothing arrives", reply{refused: true}, "intent 8, settled 8, intent 8, done 8"},
	} {
		synctest.Test(t, func(t *testing.T) {
			r, answers := newRig(t, batches(8, OrderNone, nil), nil), []reply{row.first}
			opened(r, func(posted) (next reply) {
				if len(answers) > 0 {
					next, answers = answers[0], answers[1:]
				}
				return next
			})
			p := r.partition(t0)
			counted := &tally{record: p.page}
			p.page = counted
			load(p, 8, 8)
			pass(time.Minute)
			if got := counted.said(); got != row.want || p.rec.Next() != 8 {
				t.Errorf("%s: done up to %d by %q, want %q", row.name, p.rec.Next(), got, row.want)
			}
			r.isEmpty()
		})
	}
}

// A partition that goes while its batch cannot be announced leaves nothing behind.
func TestBatchStoppedOnAFullVolume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, batches(4, OrderNone, func(c *settings) { c.Adaptive = true }), nil)
		k := opened(r, func(posted) reply { return reply{} })
		p := r.partition(t0)
		p.page = &brimful{p.page, time.Now().Add(time.Hour), func(what string, o int64) bool { return what == "intent" && o == 2 }}
		load(p, 4, 0)
		pass(10 * time.Second)
		drained(p, time.Second, errRevoked)
		if n := r.f.Status().Service.InFlight; n != 0 || len(k.seen()) != 0 {
			t.Errorf("%d attempts are counted as under way after %s", n, k.text())
		}
		r.isEmpty()
	})
}

// After a restart what was tried comes again before anything new of its lane, counted on and, where it was cut off, in doubt.
func TestBatchAfterARestart(t *testing.T) {
	for order, want := range map[string]string{OrderPartition: "[[0#2? 1#2? 2#2?] [3 4 5] [6 7 8]]", OrderKey: "[[0#2? 1#2? 2#2?] [3 6 4] [5 8 7]]", OrderNone: "[[0#2? 1#2? 2#2?] [3 4 5] [6 7 8]]"} {
		synctest.Test(t, func(t *testing.T) {
			cfg := batches(3, order, func(c *settings) { c.Concurrency, c.DrainTimeout = 1, time.Second })
			r := newRig(t, cfg, nil)
			opened(r, func(posted) reply { return reply{hang: true} })
			r.run()
			for o := range int64(9) {
				r.kafka.with(func() {
					r.kafka.log[t0] = append(r.kafka.log[t0], &kafka.Message{Partition: kafka.Partition{Topic: "t"}, Offset: o, Key: fmt.Append(nil, o%3)})
				})
				if o == 2 {
					r.kafka.give(t0)
					pass(time.Second)
				}
			}
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			r = r.again(cfg, nil)
			k := opened(r, func(posted) reply { return reply{takes: time.Second} })
			r.run()
			r.f.pace.SetLimit(0)
			r.kafka.give(t0)
			pass(time.Second)
			r.f.pace.SetLimit(1)
			r.until("all is done", func() bool { return r.kafka.storedAt(t0) == 9 })
			if got := k.text(); got != want {
				t.Errorf("order %s: %s, want %s", order, got, want)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Who waits for another attempt has no turn, and what failed by name goes on alone: nothing behind it in its lane overtakes it,
// not even what was tried with it before.
func TestBatchThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, batches(4, OrderPartition, func(c *settings) { c.Concurrency, c.RetryInterval, c.RetryMaxInterval = 1, time.Hour, time.Hour }), nil)
		k := opened(r, func(q posted) reply {
			switch {
			case q.items[0].Partition == 1:
				return reply{}
			case len(q.items) == 4:
				return unwell
			case q.has(0) && q.items[0].Attempt < 4:
				return naming(0)
			}
			return reply{}
		})
		load(r.partition(t0), 4, 0)
		pass(time.Second)
		p := r.partition(t1)
		load(p, 100, 0)
		pass(time.Minute)
		if p.rec.Next() != 100 {
			t.Errorf("%d of the other partition are done while one waits", p.rec.Next())
		}
		pass(24 * time.Hour)
		var got []string
		for _, q := range k.seen() {
			if q.items[0].Partition == 0 {
				got = append(got, q.String())
			}
		}
		if want := "[[0 1 2 3] [0#2 1#2] [0#3] [0#4] [2#2] [3#2]]"; fmt.Sprint(got) != want {
			t.Errorf("%v, want %s", got, want)
		}
		r.isEmpty()
	})
}
