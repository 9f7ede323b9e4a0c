package forwarder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/forwarder/start"
	"github.com/kpush/kpush/kafka"
)

// audited is the audit in short.
func (r *rig) audited() (all []string) {
	r.Helper()
	list, err := r.f.Audit()
	if err != nil {
		r.Fatal(err)
	}
	for _, m := range list {
		all = append(all, strings.TrimSpace(m.Who+" "+m.Did+" "+m.To))
	}
	return all
}

// newestMark is of the group's newest commit of a partition.
func (r *rig) newestMark(t kafka.Partition) start.Mark {
	marks := r.kafka.marks(t)
	return marks[len(marks)-1]
}

// A pause lets what is under way finish, and nothing new begin: neither what is new nor what has failed; other partitions go on. It
// survives a crash, and a move to a machine with an empty volume, until somebody resumes.
func TestAnOperatorsPause(t *testing.T) {
	for _, order := range orders {
		for _, moves := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				b := newBook()
				cfg := small()
				cfg.Order = order
				service := b.keeping(func(d *Delivery) Verdict {
					pass(time.Second)
					if d.Partition == t0 && d.Offset == 3 {
						return bad
					}
					return good
				})
				r := newRig(t, cfg, service).run()
				r.kafka.produce(t0, 100, 10)
				r.kafka.produce(t1, 100, 10)
				r.kafka.give(t0, t1)
				pass(5500 * time.Millisecond)
				got, err := r.f.Pause(t.Context(), "op", "t", 0)
				if err != nil || !slices.Equal(got, []kafka.Partition{t0}) {
					t.Fatal(got, err)
				}
				if m := r.newestMark(t0); !m.Paused || r.newestMark(t1).Paused {
					t.Errorf("the mark is %+v", m)
				}
				pass(2 * time.Second) // what was under way has ended
				before, other := len(b.of(t0)), len(b.of(t1))
				pass(time.Minute)
				if n := len(b.of(t0)) - before; n > 0 || len(b.of(t1)) == other {
					t.Errorf("order %s: %d attempts while paused", order, n)
				}
				if again, err := r.f.Pause(t.Context(), "op", "t", 0); err != nil || len(again) != 1 {
					t.Errorf("paused twice: %v, %v", again, err)
				}
				if err := r.stop(); err != nil { // which hands over; a kill would leave the same mark
					t.Error(err)
				}
				if moves {
					r.dir = t.TempDir()
				}
				r.again(cfg, service).run()
				r.kafka.give(t0, t1)
				before = len(b.of(t0))
				pass(time.Minute)
				if n := len(b.of(t0)) - before; n > 0 || len(r.logs.with("an operator has paused the partition")) == 0 {
					t.Errorf("order %s, moves %t: %d attempts in its next life", order, moves, n)
				}
				if s := r.f.Status().Partitions[0]; !slices.Contains(s.Paused, "operator") {
					t.Errorf("status says paused by %q", s.Paused)
				}
				if _, err := r.f.Resume(t.Context(), "op", "", All); err != nil {
					t.Error(err)
				}
				if r.newestMark(t0).Paused {
					t.Error("the mark says paused after the end")
				}
				pass(time.Minute)
				if n := len(b.of(t0)) - before; n == 0 {
					t.Errorf("order %s: nothing goes on", order)
				}
				if err := r.stop(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A commit that Kafka does not take keeps no command waiting for ever: the pause holds here, and the answer says what is missing.
func TestPauseWithoutKafka(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		r := newRig(t, small(), b.keeping(func(*Delivery) Verdict { return good })).run()
		r.kafka.give(t0)
		pass(time.Second)
		r.kafka.fail(func([]kafka.Commit) error { return errors.New("the coordinator loads") })
		begun := time.Now()
		if _, err := r.f.Pause(t.Context(), "op", "", All); err == nil || !strings.Contains(err.Error(), "the pause of everything is not on record yet") || time.Since(begun) > doneTime+time.Second {
			t.Error(err)
		}
		r.kafka.produce(t0, 10, 10)
		pass(time.Minute)
		if b.count() > 0 {
			t.Errorf("%d attempts", b.count())
		}
		r.kafka.fail(nil)
		pass(time.Second)
		if !r.newestMark(t0).Paused {
			t.Error("it never came to Kafka")
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// Only what fails is skipped, and only here: one message, those of a key, or all that are blocked. It is on record, and in the audit.
func TestSkip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		cfg.Order, cfg.Topics = OrderKey, []string{"t", "u"}
		r := newRig(t, cfg, handle(func(d *Delivery) Verdict {
			if d.Offset%2 == 0 {
				return bad
			}
			return good
		})).run()
		keyed(r.kafka, t0, 12, 6)
		r.kafka.give(t0)
		pass(time.Second)
		at := func(topic string, number int32, offset int64) Selection {
			return Selection{Position: kafka.Position{Partition: kafka.Partition{Topic: topic, Number: number}, Offset: offset}}
		}
		for _, row := range []struct {
			what Selection
			n    int
			want error
		}{
			{at("t", 0, 2), 1, nil},
			{at("t", 0, 2), 0, ErrNotFailing}, // done
			{at("t", 0, 3), 0, ErrNotFailing}, // delivered
			{at("t", 0, 1000), 0, ErrNotFailing},
			{at("t", 7, 2), 0, ErrNotOurs},
			{at("t", 10, 2), 0, ErrNoSuch},
			{at("u", 0, 2), 0, ErrNotOurs},
			{at("x", 0, 2), 0, ErrNoSuch},
			{Selection{Blocked: true}, 0, nil}, // none yet
		} {
			n, err := r.f.Skip(t.Context(), "op", row.what)
			if n != row.n || !errors.Is(err, row.want) {
				t.Errorf("%+v: %d, %v", row.what, n, err)
			}
		}
		if next, done := r.f.consumer.parts[t0].rec.Progress(); next != 0 || !done.Contains(2) {
			t.Errorf("done up to %d and %v", next, done)
		}
		pass(time.Hour)
		blocked := len(r.f.failures.blocked())
		if n, err := r.f.Skip(t.Context(), "op", Selection{Blocked: true}); err != nil || n != blocked || n < 3 {
			t.Errorf("%d of %d blocked: %v", n, blocked, err)
		}
		if got, want := r.audited(), []string{"op skip t/0/2", "op skip blocked", "op skip blocked"}; !slices.Equal(got, want) {
			t.Errorf("audit %q", got)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if _, err := r.f.Skip(t.Context(), "op", Selection{Blocked: true}); !errors.Is(err, ErrEnding) {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestSkipByKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		cfg.Order = OrderNone
		r := newRig(t, cfg, handle(func(*Delivery) Verdict { return bad })).run()
		r.kafka.with(func() {
			for o, key := range []string{"a", "b", "a", "", "\x00"} {
				r.kafka.log[t0] = append(r.kafka.log[t0], &kafka.Message{Partition: t0, Offset: int64(o), Key: []byte(key), Value: []byte("v")})
			}
		})
		r.kafka.give(t0)
		pass(time.Second)
		for key, want := range map[string]int{"a": 2, "\x00": 1, "": 1, "c": 0} {
			if n, err := r.f.Skip(t.Context(), "op", Selection{Position: kafka.Position{Partition: kafka.Partition{Topic: "t"}}, Key: []byte(key)}); n != want || err != nil {
				t.Errorf("key %q: %d, %v", key, n, err)
			}
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// What cannot be written into the audit is not done.
func TestNothingWithoutTheAudit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(func(*Delivery) Verdict { return bad })).run()
		r.kafka.produce(t0, 3, 10)
		r.kafka.give(t0)
		pass(time.Hour)
		if err := os.Mkdir(filepath.Join(r.dir, auditName), 0o700); err != nil {
			t.Fatal(err)
		}
		calls := map[string]func(context.Context) error{
			"skip":   func(ctx context.Context) error { _, err := r.f.Skip(ctx, "op", Selection{Blocked: true}); return err },
			"pause":  func(ctx context.Context) error { _, err := r.f.Pause(ctx, "op", "", All); return err },
			"resume": func(ctx context.Context) error { _, err := r.f.Resume(ctx, "op", "", All); return err },
			"seek": func(ctx context.Context) error {
				_, err := r.f.Seek(ctx, "op", "t", All, Target{End: true})
				return err
			},
			"resend": func(ctx context.Context) error { _, err := r.f.Resend(ctx, "op", nil); return err },
		}
		for name, call := range calls {
			if err := call(t.Context()); err == nil || !strings.Contains(err.Error(), "the audit cannot be written, so nothing is done") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if len(r.f.failures.blocked()) != 1 || r.f.consumer.parts[t0].gate.isShut() || r.f.consumer.parts[t0].rec.Next() != 0 {
			t.Error("something was done")
		}
		if n := r.f.SkipBlocked(); n != 1 || len(r.logs.with("SIGUSR1 is not in the audit")) != 1 {
			t.Error("a signal is held up")
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A seek goes on where it says, exactly once from there, and what was done before says that it is a replay; a crash right behind it
// changes nothing.
func TestSeek(t *testing.T) {
	for _, row := range []struct {
		to   Target
		from int64 // where it goes on; -1: it is refused
	}{
		{Target{Offset: 4}, 4}, {Target{Beginning: true}, 2}, {Target{End: true}, 20}, {Target{Offset: 20}, 20}, {Target{Time: time.Unix(7, 0)}, 7},
		{Target{Time: time.Unix(1000, 0)}, 20}, {Target{Offset: 1}, -1}, {Target{Offset: 21}, -1}, {Target{Offset: -5}, -1},
	} {
		for _, order := range orders {
			synctest.Test(t, func(t *testing.T) {
				cfg := small()
				cfg.Order = order
				var got []string
				stuck := int64(12)
				service := handle(func(d *Delivery) Verdict {
					if d.Offset == stuck {
						return bad
					}
					mark := ""
					if d.Replay {
						mark = "r"
					}
					got = append(got, fmt.Sprint(d.Offset)+mark)
					return good
				})
				cfg.Concurrency = 1
				r := newRig(t, cfg, service).run()
				r.kafka.produce(t0, 20, 10)
				r.kafka.with(func() { r.kafka.oldest[t0] = 2 })
				r.kafka.give(t0)
				pass(time.Minute)
				done := slices.Clone(got)
				got = nil
				name := fmt.Sprintf("%s, order %s", row.to, order)
				at, err := r.f.Seek(t.Context(), "op", "t", 0, row.to)
				if row.from < 0 {
					if !errors.Is(err, ErrAsked) || !strings.Contains(err.Error(), "2 to 20") || len(r.audited()) > 0 {
						t.Errorf("%s: %v", name, err)
					}
					_ = r.stop()
					return
				}
				if err != nil || len(at) != 1 || at[0].Offset != row.from {
					t.Fatalf("%s: %v, %v", name, at, err)
				}
				if m := r.newestMark(t0); m.Offset != row.from && len(got) == 0 {
					t.Errorf("%s: Kafka has %+v", name, m)
				}
				stuck = -1
				pass(time.Minute)
				var want []string
				for o := row.from; o < 20; o++ {
					w := fmt.Sprint(o)
					if slices.Contains(done, w) {
						w += "r"
					}
					want = append(want, w)
				}
				slices.SortFunc(got, func(a, b string) int {
					return strings.Compare(fmt.Sprintf("%4s", strings.Trim(a, "r")), fmt.Sprintf("%4s", strings.Trim(b, "r")))
				})
				if !slices.Equal(got, want) {
					t.Errorf("%s: %v came, want %v", name, got, want)
				}
				if audit := r.audited(); !slices.Equal(audit, []string{"op seek t/0@" + row.to.String()}) {
					t.Errorf("audit %q", audit)
				}
				if err := r.stop(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A seek is a new lineage in the file and in Kafka when it returns, whatever falls before the next outcome.
func TestSeekSurvivesACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		r := newRig(t, small(), b.keeping(func(d *Delivery) Verdict { return good })).run()
		r.kafka.produce(t0, 20, 10)
		r.kafka.give(t0)
		pass(time.Minute)
		if _, err := r.f.Pause(t.Context(), "op", "", All); err != nil {
			t.Fatal(err)
		}
		if _, err := r.f.Seek(t.Context(), "op", "t", All, Target{Offset: 5}); err != nil {
			t.Fatal(err)
		}
		m := r.newestMark(t0)
		saved, ok := r.store.Saved(r.f.consumer.parts[t0].identity)
		if m.Offset != 5 || !m.Paused || !ok || saved.Next != 5 || saved.Lineage != m.Lineage {
			t.Errorf("Kafka has %+v, the file %+v", m, saved)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if b.count() != 20 {
			t.Errorf("%d attempts: a seek ends no pause", b.count())
		}
	})
}

// The skip log is listed, and sent again on request: each once, outside the order, with what it was.
func TestResend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		well := false
		r := newRig(t, hasty(OrderPartition, func(c *settings) { c.GiveUpInARow = 0 }), handle(func(d *Delivery) Verdict {
			if !well {
				return bad
			}
			m := d.Message
			got = append(got, fmt.Sprintf("%s#%d %q=%q %v %d", d.ID(), d.Number(), m.Key, m.Value, m.Headers, m.Timestamp))
			return good
		})).run()
		r.kafka.with(func() {
			r.kafka.log[t0] = []*kafka.Message{
				{Partition: t0, Offset: 0, Key: []byte{0xff, 0}, Value: []byte("a"), Timestamp: 17, Headers: []kafka.Header{{Name: "h", Value: []byte("v")}, {Name: "null"}}},
				{Partition: t0, Offset: 1, Value: []byte{}}, {Partition: t0, Offset: 2}}
		})
		r.kafka.give(t0)
		pass(time.Minute)
		list, err := r.f.Skipped()
		if err != nil || len(list) != 3 || list[0].Size != 1 || list[0].Attempts != 1 || string(list[0].Key) != "\xff\x00" || list[2].Offset != 2 || !list[0].Resent.IsZero() {
			t.Fatalf("%+v, %v", list, err)
		}
		one := []kafka.Position{{Partition: t0, Offset: 0}}
		if out, err := r.f.Resend(t.Context(), "op", one); err != nil || len(out) != 1 || out[0].Delivered || out[0].Reason != bad.Reason {
			t.Errorf("%+v, %v", out, err)
		}
		well = true
		if out, err := r.f.Resend(t.Context(), "op", one); err != nil || len(out) != 1 || !out[0].Delivered {
			t.Errorf("%+v, %v", out, err)
		}
		if out, err := r.f.Resend(t.Context(), "op", nil); err != nil || len(out) != 2 {
			t.Errorf("%+v, %v", out, err)
		}
		if out, err := r.f.Resend(t.Context(), "op", nil); err != nil || len(out) != 0 {
			t.Errorf("again %+v, %v", out, err)
		}
		if _, err := r.f.Resend(t.Context(), "op", []kafka.Position{{Partition: t0, Offset: 9}}); !errors.Is(err, ErrNotFailing) {
			t.Error(err)
		}
		want := []string{`t/0/0/T#3 "\xff\x00"="a" [{h [118]} {null []}] 17`, `t/0/1/T#2 ""="" [] 0`, `t/0/2/T#2 ""="" [] 0`}
		if !slices.Equal(got, want) {
			t.Errorf("sent %q", got)
		}
		if list, err = r.f.Skipped(); err != nil || len(list) != 3 || list[0].Resent.IsZero() || list[2].Resent.IsZero() {
			t.Errorf("%+v, %v", list, err)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// What is no line is passed over, by the list and by the audit; a file that is not there is an empty one.
func TestTornLinesAreLeftOut(t *testing.T) {
	r := newRig(t, small(), handle(always))
	if list, err := r.f.Skipped(); err != nil || list != nil {
		t.Error(list, err)
	}
	whole, err := json.Marshal(skipped{ID: "t/0/5", Topic: "t", Offset: 5})
	if err != nil {
		t.Fatal(err)
	}
	text := string(whole[:20]) + "\n" + string(whole) + "\nnot JSON\n" + string(whole[:9])
	if err := os.WriteFile(r.f.skips.path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := r.f.Skipped(); err != nil || len(list) != 1 || list[0].Offset != 5 {
		t.Errorf("%+v, %v", list, err)
	}
}

// A message's id has the topic's as Kafka's own tools write it: one part, however many slashes standard base64 has in it.
func TestAMessagesIDHasFourParts(t *testing.T) {
	for id, want := range map[string]string{"a/b+c/d==": "a_b-c_d", "USiVIew0TVeSVDySqVN7wg": "USiVIew0TVeSVDySqVN7wg", "": ""} {
		if got := urlSafe(id); got != want {
			t.Errorf("%q became %q, want %q", id, got, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		var got string
		r := newRig(t, small(), handle(func(d *Delivery) Verdict { got = d.ID(); return good }))
		r.kafka.ids["t"] = "//++AA=="
		r.run()
		r.kafka.produce(t0, 1, 10)
		r.kafka.give(t0)
		pass(time.Second)
		if got != "t/0/0/__--AA" || r.newestMark(t0).TopicID != "//++AA==" {
			t.Errorf("the id is %s, the mark has %s", got, r.newestMark(t0).TopicID)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A pause outlives what wipes its mark: somebody else's commit at the same place, a topic that is made again, a broker that takes no marks.
func TestAPauseOutlivesItsMark(t *testing.T) {
	for name, wipe := range map[string]func(*fakeKafka){
		"a console consumer":   func(k *fakeKafka) { c := k.stored[t0]; c.Meta = ""; k.stored[t0] = c },
		"the topic is another": func(k *fakeKafka) { k.ids["t"] = "U" },
		"the commit is lost":   func(k *fakeKafka) { delete(k.stored, t0) },
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBook()
			r := newRig(t, small(), b.keeping(func(*Delivery) Verdict { return good })).run()
			r.kafka.produce(t0, 5, 10)
			r.kafka.give(t0)
			pass(time.Minute)
			if _, err := r.f.Pause(t.Context(), "op", "t", 0); err != nil {
				t.Fatal(err)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
			r.kafka.with(func() { wipe(r.kafka) })
			r.kafka.produce(t0, 5, 10)
			r.again(small(), b.keeping(func(*Delivery) Verdict { return good })).run()
			r.kafka.give(t0)
			pass(time.Minute)
			if b.count() != 5 {
				t.Errorf("%s: %d attempts", name, b.count())
			}
			if _, err := r.f.Resume(t.Context(), "op", "", All); err != nil {
				t.Error(err)
			}
			r.until("the rest", func() bool { return r.kafka.storedAt(t0) == 10 })
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A topic's partitions drain together: a seek takes as long as the slowest request, not as all of them.
func TestASeekOfManyPartitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(func(d *Delivery) Verdict {
			pass(8 * time.Second)
			return good
		})).run()
		var all []kafka.Partition
		for n := range int32(9) {
			all = append(all, kafka.Partition{Topic: "t", Number: n})
			r.kafka.produce(all[n], 5, 10)
		}
		r.kafka.give(all...)
		pass(time.Second)
		begun := time.Now()
		if at, err := r.f.Seek(t.Context(), "op", "t", All, Target{Beginning: true}); err != nil || len(at) != len(all) || time.Since(begun) > 10*time.Second {
			t.Errorf("%v, %v after %s", at, err, time.Since(begun))
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A skip whose message is delivered in the meantime waits for nothing; so does one whose partition goes.
func TestASkipThatComesTooLate(t *testing.T) {
	for _, goes := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			tries := 0
			r := newRig(t, small(), handle(func(d *Delivery) Verdict {
				if tries++; tries == 1 {
					return bad
				}
				pass(3 * time.Second)
				return good
			})).run()
			r.kafka.produce(t0, 1, 10)
			r.kafka.give(t0)
			pass(3 * time.Second) // the second attempt is under way
			if goes {
				go func() { pass(time.Second); r.kafka.take(true, t0) }()
			}
			begun := time.Now()
			n, err := r.f.Skip(t.Context(), "op", Selection{Position: kafka.Position{Partition: t0, Offset: 0}})
			if n != 1 || err != nil || time.Since(begun) > 4*time.Second {
				t.Errorf("%d, %v after %s", n, err, time.Since(begun))
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A message that is refused by name is not resent; one that was skipped twice is sent once; none goes out once the process stops.
func TestResendSaysTheTruth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := batches(4, OrderPartition, func(c *settings) { c.CanSkip, c.RetryNums = true, 1 })
		r := newRig(t, cfg, nil)
		k := opened(r, func(posted) reply { return reply{status: 400} })
		r.run()
		r.kafka.produce(t0, 1, 10)
		r.kafka.give(t0)
		r.until("it is skipped", func() bool { return r.skipped() == 1 })
		line, err := os.ReadFile(r.f.skips.path)
		if err == nil {
			err = os.WriteFile(r.f.skips.path, append(line, line...), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		k.answer = func(posted) reply { return naming(0) }
		if out, err := r.f.Resend(t.Context(), "op", nil); err != nil || len(out) != 1 || out[0].Delivered || out[0].Reason != reasonNamed {
			t.Errorf("%+v, %v", out, err)
		}
		k.answer = func(posted) reply { return reply{cut: true} }
		if out, err := r.f.Resend(t.Context(), "op", nil); err != nil || len(out) != 1 || out[0].Delivered {
			t.Errorf("%+v, %v", out, err)
		}
		var doubt bool
		k.answer = func(q posted) reply { doubt = q.items[0].InDoubt; return reply{} }
		for want := 1; want >= 0; want-- {
			if out, err := r.f.Resend(t.Context(), "op", nil); err != nil || len(out) != want || want > 0 && !(out[0].Delivered && doubt) {
				t.Errorf("%+v, %v, in doubt %t", out, err, doubt)
			}
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if _, err := r.f.Resend(t.Context(), "op", nil); !errors.Is(err, ErrEnding) {
			t.Error(err)
		}
	})
}
