package forwarder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/kafka"
)

// mortal is a configuration with a dead letter topic.
func mortal(more func(*settings)) settings {
	cfg := small()
	cfg.DeadLetterTopic, cfg.RedriveMax = "dead", 3
	if more != nil {
		more(&cfg)
	}
	return cfg
}

// headersOf are headers in short.
func headersOf(m *kafka.Message) (all []string) {
	for _, h := range m.Headers {
		all = append(all, fmt.Sprintf("%s: %s", h.Name, h.Value))
	}
	return all
}

// A dead letter is the record as it was, byte for byte, and behind its own headers why it is there.
func TestADeadLetterIsTheRecord(t *testing.T) {
	refuse := Verdict{Class: MessageFault, Status: 422, Reason: "the service answered 422", Answer: "no", Response: []byte("n\x00o")}
	silent := Verdict{Class: MessageFault, Reason: "no answer", InDoubt: true}
	for _, row := range []struct {
		name    string
		record  kafka.Record
		verdict Verdict
		want    []string // behind topic, partition, offset, …
	}{
		{"all of it", kafka.Record{Timestamp: 1795000000000, Key: []byte("\xffk"), Value: []byte("v\xfe\x00"), Headers: []kafka.Header{{Name: "a", Value: []byte("1")}, {Name: "a", Value: nil}, {Name: "", Value: []byte{}}}}, refuse,
			[]string{"timestamp: 1795000000000", "group: g", "reason: the service answered 422", "status: 422", "response: n\x00o", "attempts: 3", "first-attempt-at: 2000-01-01T00:00:00.000Z", "last-attempt-at: 2000-01-01T00:00:04.000Z", "redrives: 0"}},
		{"nothing of it", kafka.Record{}, silent,
			[]string{"group: g", "reason: no answer", "attempts: 3", "first-attempt-at: 2000-01-01T00:00:00.000Z", "last-attempt-at: 2000-01-01T00:00:04.000Z", "redrives: 0"}},
		{"empty", kafka.Record{Key: []byte{}, Value: []byte{}}, Verdict{Class: push.GiveUp, Status: 200, Reason: "asked"},
			[]string{"group: g", "reason: asked", "status: 200", "attempts: 1", "first-attempt-at: 2000-01-01T00:00:00.000Z", "last-attempt-at: 2000-01-01T00:00:00.000Z", "redrives: 0"}},
		{"sent back before, and a letter of others", kafka.Record{Headers: []kafka.Header{{Name: "kpush-dlq-topic", Value: []byte("x")}, {Name: "kpush-dlq-redrives", Value: []byte("2")}, {Name: "kpush-dlq-in-doubt", Value: []byte("true")}}}, silent,
			[]string{"group: g", "reason: no answer", "attempts: 3", "first-attempt-at: 2000-01-01T00:00:00.000Z", "last-attempt-at: 2000-01-01T00:00:04.000Z", "redrives: 2"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, mortal(nil), handle(func(*Delivery) Verdict { return row.verdict })).run()
			defer r.stop()
			row.record.Topic = "t"
			r.kafka.give(t0)
			begun := time.Now().UTC()
			r.kafka.add(row.record)
			r.until("committed", func() bool { return r.kafka.storedAt(t0) == 1 })
			letters := r.kafka.records("dead")
			if len(letters) != 1 {
				t.Fatalf("%s: %d letters", row.name, len(letters))
			}
			m := letters[0]
			if m.Timestamp != row.record.Timestamp || !bytes.Equal(m.Key, row.record.Key) || (m.Key == nil) != (row.record.Key == nil) ||
				!bytes.Equal(m.Value, row.record.Value) || (m.Value == nil) != (row.record.Value == nil) {
				t.Errorf("%s: the letter is %+v", row.name, m)
			}
			own := slices.DeleteFunc(slices.Clone(row.record.Headers), func(h kafka.Header) bool {
				return h.Name == "kpush-dlq-redrives" || h.Name == "kpush-dlq-in-doubt"
			})
			for i, h := range own {
				if got := m.Headers[i]; got.Name != h.Name || !bytes.Equal(got.Value, h.Value) || (got.Value == nil) != (h.Value == nil) {
					t.Errorf("%s: header %d is %+v", row.name, i, got)
				}
			}
			want := []string{"kpush-dlq-topic: t", "kpush-dlq-partition: 0", "kpush-dlq-offset: 0"}
			for _, h := range row.want {
				want = append(want, "kpush-dlq-"+strings.Replace(h, "2000-01-01T00:00:0", begun.Format("2006-01-02T15:04:0"), 1))
			}
			if got := headersOf(m)[len(own):]; !slices.Equal(got, want) {
				t.Errorf("%s: headers\n%q, want\n%q", row.name, got, want)
			}
			if done := r.f.Counts().Topics["t"].Done; done["dead_lettered"] != 1 || done["skipped"] != 0 {
				t.Errorf("%s: done %v", row.name, done)
			}
		})
	}
}

// Given up goes to the dead letter topic where there is one, also an operator's skip; what the service asks to skip goes to the skip log, and
// what it asks to drop is given up whatever KPUSH_CAN_SKIP says.
func TestWhereGivenUpMessagesGo(t *testing.T) {
	for _, row := range []struct {
		name             string
		topic            string
		canSkip          bool
		verdict          Verdict
		operator         bool
		letters, skipped int
	}{
		{"faults", "dead", false, bad, false, 1, 0},
		{"faults, may skip", "dead", true, bad, false, 1, 0},
		{"faults, no topic", "", true, bad, false, 0, 1},
		{"neither", "", false, bad, false, 0, 0},
		{"dead-letter", "dead", false, Verdict{Class: push.GiveUp}, false, 1, 0},
		{"dead-letter, no topic", "", true, Verdict{Class: push.GiveUp}, false, 0, 1},
		{"dead-letter, nothing at all", "", false, Verdict{Class: push.GiveUp}, false, 0, 0},
		{"skip", "dead", true, Verdict{Class: Skip}, false, 0, 1},
		{"drop", "dead", false, Verdict{Class: push.Drop}, false, 1, 0},
		{"drop, no topic", "", false, Verdict{Class: push.Drop}, false, 0, 1},
		{"service fault", "dead", true, Verdict{Class: ServiceFault}, false, 0, 0},
		{"operator", "dead", false, Verdict{Class: ServiceFault}, true, 1, 0},
		{"operator, no topic", "", false, bad, true, 0, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, mortal(func(c *settings) { c.DeadLetterTopic, c.CanSkip = row.topic, row.canSkip }), handle(func(*Delivery) Verdict { return row.verdict })).run()
			defer r.stop()
			r.kafka.give(t0)
			r.kafka.add(kafka.Record{Topic: "t"})
			pass(time.Minute)
			if row.operator {
				if n, err := r.f.Skip(t.Context(), "op", Selection{Position: kafka.Position{Partition: t0}}); n.Skipped != 1 || err != nil {
					t.Errorf("%s: %+v, %v", row.name, n, err)
				}
				pass(time.Second) // the commit
			}
			if letters, skipped := len(r.kafka.records("dead")), r.skipped(); letters != row.letters || skipped != row.skipped {
				t.Errorf("%s: %d letters, %d skipped", row.name, letters, skipped)
			}
			if done := row.letters+row.skipped > 0; done != (r.kafka.storedAt(t0) == 1) {
				t.Errorf("%s: committed at %d", row.name, r.kafka.storedAt(t0))
			}
			if row.operator && row.letters > 0 && !slices.Contains(headersOf(r.kafka.records("dead")[0]), "kpush-dlq-reason: skipped by an operator") {
				t.Errorf("%s: %q", row.name, headersOf(r.kafka.records("dead")[0]))
			}
		})
	}
}

// While the topic takes no letter the message is not done, is named, and waits without a turn: others go on. It goes on by itself.
func TestADeadLetterWaitsByName(t *testing.T) {
	t.Parallel()
	for i, fault := range []error{kafka.ErrNoTopic, kafka.ErrForbidden, kafka.ErrTooLarge, kafka.ErrNoBroker, kafka.ErrUnknown} {
		order := orders[i%len(orders)]
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, mortal(func(c *settings) { c.Concurrency, c.Order, c.RetryNums = 1, order, 1 }), handle(func(d *Delivery) Verdict {
				if d.Partition == t0 && d.Offset == 0 {
					return bad
				}
				return good
			})).run()
			defer r.stop()
			r.letters.spoil(func(ctx context.Context, letter kafka.Record) error {
				if letter.Batch != alone {
					t.Errorf("the letter goes in company: %d", letter.Batch)
				}
				return sleepThen(ctx, time.Second, fault)
			}, nil)
			r.kafka.produce(t0, 5, 10)
			r.kafka.produce(t1, 5, 10)
			r.kafka.give(t0, t1)
			pass(time.Hour)
			if at := r.kafka.storedAt(t0); at != 0 || r.kafka.storedAt(t1) != 5 {
				t.Errorf("%v, order %s: committed at %d and %d", fault, order, at, r.kafka.storedAt(t1))
			}
			if why := strings.Join(r.f.Ready(), "; "); !strings.Contains(why, "t/0/0 is given up and cannot be written to the dead letter topic dead") || !strings.Contains(why, fault.Error()) {
				t.Errorf("ready says %q", why)
			}
			if n := len(r.logs.With("takes no letter")); n < 50 || n > 70 {
				t.Errorf("%d lines in an hour", n)
			}
			if s := r.f.Status(); s.Service.Taken != 0 || s.Partitions[0].Failing != 1 || s.Letters.Waiting != 1 || !strings.Contains(s.Letters.Why, fault.Error()) {
				t.Errorf("%d turns, %d failing, %+v", s.Service.Taken, s.Partitions[0].Failing, s.Letters)
			}
			r.letters.spoil(nil, nil)
			r.until("done", func() bool { return r.kafka.storedAt(t0) == 5 })
			if n, why := len(r.kafka.records("dead")), r.f.Ready(); n != 1 || len(why) > 0 {
				t.Errorf("%d letters, ready says %q", n, why)
			}
			if s := r.f.Status().Partitions[0]; s.Failing != 0 {
				t.Errorf("%d failing in the end", s.Failing)
			}
		})
	}
}

func sleepThen(ctx context.Context, d time.Duration, err error) error {
	return errors.Join(sleep(ctx, d), err)
}

// A dead letter topic that is not there is said at the start, and a forwarder that cannot write is none.
func TestNoDeadLetterTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, mortal(nil), handle(always))
		r.kafka.gone = map[string]error{"dead": kafka.ErrNoTopic}
		r.run()
		defer r.stop()
		r.kafka.give(t0)
		pass(time.Minute)
		if why := strings.Join(r.f.Ready(), "; "); !strings.Contains(why, "waiting for the dead letter topic: dead") {
			t.Errorf("ready says %q", why)
		}
		parts := r.f.parts
		parts.Letters = nil
		if _, err := New(mortal(nil).Config, parts, r.f.log); err == nil || !strings.Contains(err.Error(), "KPUSH_DEAD_LETTER_TOPIC") {
			t.Errorf("without a producer: %v", err)
		}
	})
}

// A crash between Kafka's answer and the record, or a partition lost then, makes the letter come twice: at least once. A stop waits for the answer.
func TestALetterComesAtLeastOnce(t *testing.T) {
	for _, stops := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var after atomic.Bool
			cfg := mortal(func(c *settings) { c.RetryNums = 1 })
			r := newRig(t, cfg, handle(func(*Delivery) Verdict { return bad })).run()
			r.letters.spoil(nil, func(ctx context.Context, _ kafka.Record) error {
				if after.CompareAndSwap(false, true) {
					return sleepThen(ctx, 3*time.Second, nil)
				}
				return nil
			})
			r.kafka.produce(t0, 1, 10)
			r.kafka.give(t0)
			r.until("a letter", func() bool { return len(r.kafka.records("dead")) == 1 })
			if r.kafka.storedAt(t0) == 1 {
				t.Error("done before the answer")
			}
			want := 1
			if !stops {
				want = 2
				r.kafka.take(true, t0)
				r.kafka.give(t0)
				r.until("done", func() bool { return r.kafka.storedAt(t0) == 1 })
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
			if n := len(r.kafka.records("dead")); n != want || r.kafka.storedAt(t0) != 1 {
				t.Errorf("stops %t: %d letters, committed at %d", stops, n, r.kafka.storedAt(t0))
			}
		})
	}
}

// Nothing more is buried than the evidence allows.
func TestDeadLettersNeedEvidence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, mortal(func(c *settings) { c.RetryNums, c.GiveUpInARow, c.Order = 1, 12, OrderNone }), handle(func(*Delivery) Verdict { return bad })).run()
		defer r.stop()
		r.kafka.produce(t0, 200, 10)
		r.kafka.give(t0)
		pass(time.Hour)
		if n := len(r.kafka.records("dead")); n != 12 {
			t.Errorf("%d letters", n)
		}
	})
}

// Of a batch those are buried that the service names, and while that fails the others are on record: a crash does not repeat them.
func TestDeadLettersOfABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := mortal(func(c *settings) { c.RetryNums, c.BatchSize, c.BatchLinger, c.Order = 1, 10, time.Second, OrderNone })
		r := newRig(t, cfg, attempts(func(a *push.Attempt) Verdict {
			v := good
			for _, it := range a.Items {
				if it.Offset%5 == 2 {
					v.Failed = append(v.Failed, it.Offset)
				}
			}
			return v
		})).run()
		defer r.stop()
		r.letters.spoil(func(context.Context, kafka.Record) error { return kafka.ErrNoTopic }, nil)
		r.kafka.produce(t0, 10, 10)
		r.kafka.give(t0)
		pass(time.Minute)
		if next, done := r.f.consumer.running()[0].rec.Progress(); next != 2 || !done.Contains(3) || !done.Contains(9) || done.Contains(7) {
			t.Errorf("on record are %d %v", next, done)
		}
		r.letters.spoil(nil, nil)
		r.until("done", func() bool { return r.kafka.storedAt(t0) == 10 })
		letters := r.kafka.records("dead")
		if len(letters) != 2 || !slices.Contains(headersOf(letters[0]), "kpush-dlq-offset: 2") || !slices.Contains(headersOf(letters[1]), "kpush-dlq-offset: 7") ||
			!slices.Contains(headersOf(letters[0]), "kpush-dlq-reason: "+reasonNamed) {
			t.Errorf("letters %v", letters)
		}
	})
}

// attempts makes a Handler of a function.
type attempts func(*push.Attempt) Verdict

func (h attempts) Push(a *push.Attempt) Verdict { return h(a) }

// The skip log is not asked for where letters are written.
func TestDeadLettersNeedNoVolume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, mortal(func(c *settings) { c.RetryNums, c.SkipLog = 1, t.TempDir() }), handle(func(*Delivery) Verdict { return bad })).run()
		defer r.stop()
		r.kafka.produce(t0, 1, 10)
		r.kafka.give(t0)
		r.until("done", func() bool { return r.kafka.storedAt(t0) == 1 })
		if info, err := os.Stat(r.f.skips.path); err != nil || !info.IsDir() {
			t.Error(err)
		}
	})
}
