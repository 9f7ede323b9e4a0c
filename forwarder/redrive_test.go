package forwarder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/kafka"
)

// grave0 is a partition of the dead letter topic.
func grave0(n int32) kafka.Partition { return kafka.Partition{Topic: "dead", Number: n} }

// bury puts a letter of group into the dead letter topic.
func (r *rig) bury(n int32, group, topic, key string, at int64, redrives int) {
	header := func(name, value string) kafka.Header {
		return kafka.Header{Name: "kpush-dlq-" + name, Value: []byte(value)}
	}
	r.kafka.add(kafka.Record{Topic: "dead", Partition: n, Timestamp: at, Key: []byte(key), Value: []byte("v-" + key), Headers: []kafka.Header{
		{Name: "own", Value: nil}, {Name: "own", Value: []byte{}}, header("topic", "other"), header("redrives", "9"),
		header("topic", topic), header("partition", "4"), header("offset", "7"), header("timestamp", fmt.Sprint(at)), header("group", group),
		header("reason", "r"), header("redrives", fmt.Sprint(redrives)), {Name: "tool", Value: []byte("x")}}})
}

// back are the keys that came back to a topic, in order of their coming: each has a partition of its own.
func (r *rig) back(topic string) (keys []string) {
	for _, m := range r.kafka.records(topic) {
		keys = append(keys, string(m.Key))
	}
	return keys
}

// redriver is a rig that has t/0 and delivers all.
func redriver(t *testing.T, more func(*settings)) *rig {
	r := newRig(t, mortal(more), handle(always)).run()
	r.kafka.give(t0)
	r.until("started", func() bool { return r.kafka.storedAt(t0) >= 0 })
	return r
}

func (r *rig) redrive(limit int) string {
	got, err := r.f.Redrive(context.Background(), "op", limit)
	if err != nil {
		return fmt.Sprintf("%+v %v", got, err)
	}
	return fmt.Sprintf("%d sent, %d refused, %d left", got.Sent, got.Refused, got.Left)
}

// Letters of this group go back to where they came from, the oldest first, as they were, each once; not those that were sent back too often.
func TestRedrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := redriver(t, nil)
		defer r.stop()
		r.bury(1, "g", "t", "k2", 100, 0)
		r.bury(1, "other", "t", "x1", 101, 0)
		r.bury(1, "g", "t", "k5", 400, 2)
		r.bury(2, "g", "t", "k3", 200, 0)
		r.bury(2, "g", "t", "worn", 250, 3)
		r.bury(2, "g", "elsewhere", "lost", 251, 0)
		r.bury(2, "g", "t", "k4", 300, 0)
		r.bury(3, "other", "t", "x2", 5, 0)
		r.kafka.add(kafka.Record{Topic: "dead"}) // no letter at all
		for i, want := range []string{"1 sent, 0 refused, 5 left", "2 sent, 2 refused, 1 left", "1 sent, 0 refused, 0 left", "0 sent, 0 refused, 0 left"} {
			if got := r.redrive([]int{1, 2, 9, 9}[i]); got != want {
				t.Errorf("call %d: %s, want %s", i, got, want)
			}
			if i == 0 && !slices.Equal(r.back("t"), []string{"k2"}) {
				t.Errorf("the oldest is %q", r.back("t"))
			}
		}
		if got := r.back("t"); !slices.Equal(got, []string{"k2", "k3", "k4", "k5"}) {
			t.Errorf("came back %q", got)
		}
		for i, m := range r.kafka.records("t") {
			want := []string{"own: ", "own: ", "kpush-dlq-topic: other", "kpush-dlq-redrives: 9", "tool: x", "kpush-dlq-redrives: " + []string{"1", "1", "1", "3"}[i]}
			if !slices.Equal(headersOf(m), want) || m.Headers[0].Value != nil || m.Headers[1].Value == nil || string(m.Value) != "v-"+string(m.Key) || m.Timestamp != int64(i+1)*100 {
				t.Errorf("%s came back as %+v with %q", m.Key, m, headersOf(m))
			}
		}
		if got := r.audited(); len(got) != 4 || got[0] != "op redrive dead, 1 letters" {
			t.Errorf("audit %q", got)
		}
		// what is buried later is found, by whoever has the partition then, with an empty volume
		r.bury(1, "g", "t", "k6", 1, 0)
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		r.dir = t.TempDir()
		r.again(mortal(nil), handle(always)).run()
		r.kafka.give(t0)
		r.until("started", func() bool { return len(r.f.consumer.running()) == 1 })
		if got := r.redrive(9); got != "1 sent, 0 refused, 0 left" || !slices.Contains(r.back("t"), "k6") {
			t.Errorf("in another life: %s, %q", got, r.back("t"))
		}
	})
}

// The whole way: given up, sent back, given up again with the count, until it is refused.
func TestRedriveLoopGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, mortal(func(c *settings) { c.RetryNums, c.RedriveMax = 1, 2 }), handle(func(*Delivery) Verdict { return bad })).run()
		defer r.stop()
		r.kafka.add(kafka.Record{Topic: "t", Value: []byte("v"), Headers: []kafka.Header{{Name: "h", Value: []byte("1")}}})
		r.kafka.give(t0)
		for i, want := range []string{"1 sent, 0 refused, 0 left", "1 sent, 0 refused, 0 left", "0 sent, 1 refused, 0 left"} {
			r.until("buried", func() bool { return len(r.kafka.records("dead")) == i+1 })
			pass(time.Second)
			if got := r.redrive(5); got != want {
				t.Errorf("redrive %d: %s, want %s", i, got, want)
			}
		}
		letters := r.kafka.records("dead")
		if got := headersOf(letters[2]); len(letters) != 3 || got[0] != "h: 1" || got[len(got)-1] != "kpush-dlq-redrives: 2" || got[1] != "kpush-dlq-topic: t" {
			t.Errorf("%d letters, the newest %q", len(letters), got)
		}
		if s := r.f.Status().Letters; s.Topic != "dead" || s.Sent["t"] != 3 || s.Redriven != 2 || s.Refused != 1 || s.Waiting != 0 || s.Why != "" {
			t.Errorf("the status says %+v", s)
		}
	})
}

// Whatever breaks it off, nothing is sent twice that is not flagged, and nothing is left out.
func TestRedriveBrokenOff(t *testing.T) {
	refused := errors.New("the coordinator is away")
	for _, row := range []struct {
		name          string
		fault, lost   error // at the second letter, before and behind the log
		commit        error // that says that the second letter begins
		says          string
		back, flagged []string
	}{
		{"not there", kafka.ErrTooLarge, nil, nil, "dead/1/1 cannot be sent back to t", []string{"a", "b", "c"}, nil},
		{"no broker", kafka.ErrNoBroker, nil, nil, "no broker", []string{"a", "b", "c"}, []string{"b"}},
		{"nobody knows", nil, kafka.ErrUnknown, nil, "nobody knows", []string{"a", "b", "b", "c"}, []string{"b"}},
		{"no commit", nil, nil, refused, "the coordinator is away", []string{"a", "b", "c"}, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := redriver(t, nil)
			defer r.stop()
			for i, key := range []string{"a", "b", "c"} {
				r.bury(1, "g", "t", key, int64(i+1), 0)
			}
			at := func(err error) func(context.Context, kafka.Record) error {
				return func(_ context.Context, rec kafka.Record) error {
					if string(rec.Key) == "b" {
						return err
					}
					return nil
				}
			}
			r.letters.spoil(at(row.fault), at(row.lost))
			r.kafka.fail(func(cs []kafka.Commit) error {
				if cs[0].Topic == "dead" && cs[0].Offset == 1 && strings.HasSuffix(cs[0].Meta, redriveSending) {
					return row.commit
				}
				return nil
			})
			if got := r.redrive(9); !strings.HasPrefix(got, "{Sent:1 Refused:0 Left:2} ") || !strings.Contains(got, row.says) {
				t.Errorf("%s: %s", row.name, got)
			}
			r.letters.spoil(nil, nil)
			r.kafka.fail(nil)
			if got := r.redrive(9); got != "2 sent, 0 refused, 0 left" {
				t.Errorf("%s, again: %s", row.name, got)
			}
			var flagged []string
			for _, m := range r.kafka.records("t") {
				if last(m.Headers, "kpush-dlq-in-doubt") != "" {
					flagged = append(flagged, string(m.Key))
				}
			}
			if back := r.back("t"); !slices.Equal(back, row.back) || !slices.Equal(flagged, row.flagged) {
				t.Errorf("%s: %q came back, %q flagged", row.name, back, flagged)
			}
		})
	}
}

// A process that dies within a redrive: what has Kafka's answer and no commit behind it is flagged, by whoever goes on.
func TestRedriveAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := redriver(t, nil)
		defer r.stop()
		for i, key := range []string{"a", "b"} {
			r.bury(1, "g", "t", key, int64(i+1), 0)
		}
		dead := make(chan struct{})
		r.letters.spoil(nil, func(context.Context, kafka.Record) error { <-dead; return kafka.ErrUnknown })
		go r.redrive(9)
		r.until("sent", func() bool { return len(r.back("t")) == 1 })
		if got := r.redrive(9); !strings.Contains(got, "another redrive is under way") {
			t.Errorf("two at once: %s", got)
		}
		other := newRig(t, mortal(nil), handle(always))
		other.kafka, other.letters = r.kafka, &fakeProducer{fakeKafka: r.kafka}
		other.assemble(mortal(nil), handle(always), other.store, r.f.log)
		other.partition(t0)
		if got := other.redrive(9); got != "2 sent, 0 refused, 0 left" {
			t.Errorf("by another one: %s", got)
		}
		all := r.kafka.records("t")
		if got := r.back("t"); !slices.Equal(got, []string{"a", "a", "b"}) && !slices.Equal(got, []string{"a", "b", "a"}) {
			t.Errorf("came back %q", got)
		}
		for i, m := range all {
			if flagged := last(m.Headers, letterInDoubt) == "true"; flagged != (i == 1) {
				t.Errorf("%d, %s: flagged %t", i, m.Key, flagged)
			}
		}
		close(dead)
	})
}

// Who may not, or has nothing to send back, says so and does nothing. A topic made again, or an operator's reset, is obeyed.
func TestRedriveBegins(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		stored kafka.Commit // of dead/1
		want   string
	}{
		{"at the oldest", kafka.Commit{Offset: -1}, "3 sent, 0 refused, 0 left"},
		{"where it was", kafka.Commit{Offset: 2, Meta: "kpush-redrive D"}, "1 sent, 0 refused, 0 left"},
		{"of an earlier topic", kafka.Commit{Offset: 2, Meta: "kpush-redrive B"}, "3 sent, 0 refused, 0 left"},
		{"behind the end", kafka.Commit{Offset: 9, Meta: "kpush-redrive D"}, "3 sent, 0 refused, 0 left"},
		{"an operator's reset", kafka.Commit{Offset: 1}, "2 sent, 0 refused, 0 left"},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := redriver(t, nil)
			defer r.stop()
			r.kafka.with(func() {
				r.kafka.ids["dead"] = "D"
				if row.stored.Offset >= 0 {
					row.stored.Partition = grave0(1)
					r.kafka.stored[grave0(1)] = row.stored
				}
			})
			for i, key := range []string{"a", "b", "c"} {
				r.bury(1, "g", "t", key, int64(i+1), 0)
			}
			if got := r.redrive(9); got != row.want {
				t.Errorf("%s: %s, want %s", row.name, got, row.want)
			}
			if c := r.kafka.stored[grave0(1)]; c.Offset != 3 || c.Meta != "kpush-redrive D" {
				t.Errorf("%s: the commit is %+v", row.name, c)
			}
			if row.stored.Offset >= 0 {
				return
			}
			before := len(r.kafka.callsOf("commit dead/1@3"))
			pass(13 * time.Hour)
			if n := len(r.kafka.callsOf("commit dead/1@3")) - before; n < 1 || n > 3 {
				t.Errorf("%s: the commit was made anew %d times in 13 hours", row.name, n)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		r := redriver(t, nil)
		defer r.stop()
		r.bury(1, "g", "t", "a", 1, 0)
		for limit, want := range map[int]error{0: ErrAsked, -1: ErrAsked} {
			if _, err := r.f.Redrive(t.Context(), "op", limit); !errors.Is(err, want) {
				t.Errorf("limit %d: %v", limit, err)
			}
		}
		r.kafka.take(false, t0)
		if _, err := r.f.Redrive(t.Context(), "op", 1); !errors.Is(err, ErrNotOurs) {
			t.Errorf("without the first partition: %v", err)
		}
		bare := newRig(t, small(), handle(always))
		if _, err := bare.f.Redrive(t.Context(), "op", 1); !errors.Is(err, ErrAsked) || !strings.Contains(err.Error(), "KPUSH_DEAD_LETTER_TOPIC") {
			t.Errorf("without a topic: %v", err)
		}
		if n := len(r.back("t")) + len(r.audited()); n > 0 {
			t.Errorf("%d letters and audits of nothing", n)
		}
	})
}

// A time that Kafka does not take stops neither a letter nor its way back: they go with the time of now. What else Kafka refuses waits, and
// is not in doubt.
func TestALetterOfTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := true
		r := newRig(t, mortal(nil), handle(func(*Delivery) Verdict {
			if first {
				first = false
				return Verdict{Class: push.GiveUp, Reason: "asked"}
			}
			return good
		})).run()
		defer r.stop()
		invalid := func(_ context.Context, rec kafka.Record) error {
			if rec.Timestamp > time.Now().Add(time.Hour).UnixMilli() {
				return fmt.Errorf("%w: Broker: Invalid timestamp", kafka.ErrInvalid)
			}
			return nil
		}
		r.kafka.with(func() { r.letters.fault = invalid })
		ahead := time.Now().Add(2 * time.Hour).UnixMilli()
		r.kafka.give(t0)
		r.kafka.add(kafka.Record{Topic: "t", Timestamp: ahead, Key: []byte("\x00"), Value: []byte("v")})
		r.until("given up", func() bool { return r.kafka.storedAt(t0) == 1 })
		letters := r.kafka.records("dead")
		if len(letters) != 1 || letters[0].Timestamp != 0 || last(letters[0].Headers, "kpush-dlq-timestamp") != fmt.Sprint(ahead) {
			t.Fatalf("the letters are %+v", letters)
		}
		r.kafka.with(func() {
			r.letters.fault = func(context.Context, kafka.Record) error { return fmt.Errorf("%w: not at all", kafka.ErrInvalid) }
		})
		if got := r.redrive(1); !strings.Contains(got, "not at all") {
			t.Errorf("what Kafka does not take: %s", got)
		}
		r.kafka.with(func() { r.letters.fault = invalid })
		if got := r.redrive(1); got != "1 sent, 0 refused, 0 left" {
			t.Errorf("the way back: %s", got)
		}
		r.until("delivered", func() bool { return r.kafka.storedAt(t0) == 2 })
		if back := r.kafka.records("t")[1]; back.Timestamp != 0 || last(back.Headers, "kpush-dlq-in-doubt") != "" {
			t.Errorf("what came back is of %d: %q", back.Timestamp, headersOf(back))
		}
	})
}
