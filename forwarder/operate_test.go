package forwarder

import (
	"context"
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
	"github.com/kpush/kpush/offsets"
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
				if n := len(b.of(t0)) - before; n > 0 || len(r.logs.With("an operator has paused the partition")) == 0 {
					t.Errorf("order %s, moves %t: %d attempts in its next life", order, moves, n)
				}
				const note = "an operator has paused 1 partitions, of which nothing is delivered: t/0: kpush -resume"
				if s := r.f.Status().Partitions[0]; !slices.Contains(s.Paused, "operator") || !strings.Contains(fmt.Sprint(r.f.Notes()), note) {
					t.Errorf("status says paused by %q, and what is to be known is %q", s.Paused, r.f.Notes())
				}
				if _, err := r.f.Resume(t.Context(), "op", "", All); err != nil {
					t.Error(err)
				}
				if r.newestMark(t0).Paused || strings.Contains(fmt.Sprint(r.f.Notes()), "paused") {
					t.Error("the mark or a note says paused after the end")
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
	t.Parallel()
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
			if n.Skipped != row.n || !errors.Is(err, row.want) || (n.Note == "nothing is blocked in this process") != row.what.Blocked {
				t.Errorf("%+v: %+v, %v", row.what, n, err)
			}
		}
		if next, done := r.f.consumer.parts[t0].rec.Progress(); next != 0 || !done.Contains(2) {
			t.Errorf("done up to %d and %v", next, done)
		}
		pass(time.Hour)
		blocked := len(r.f.failures.blocked())
		if n, err := r.f.Skip(t.Context(), "op", Selection{Blocked: true}); err != nil || n != (SkipOutcome{Skipped: blocked}) || blocked < 3 {
			t.Errorf("%+v of %d blocked: %v", n, blocked, err)
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
		if err := r.f.consumer.do(t.Context(), func(*consumer) error { return nil }); !errors.Is(err, ErrEnding) {
			t.Errorf("what nobody does any more: %v", err)
		}
	})
}

func TestSkipByKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		cfg.Order = OrderNone
		r := newRig(t, cfg, handle(func(*Delivery) Verdict { return bad })).run()
		r.kafka.with(func() {
			for o, key := range [][]byte{[]byte("a"), []byte("b"), []byte("a"), {}, {0}, nil, nil} { // nil is no key, and belongs to nobody
				r.kafka.log[t0] = append(r.kafka.log[t0], &kafka.Message{Partition: t0, Offset: int64(o), Key: key, Value: []byte("v")})
			}
		})
		r.kafka.give(t0)
		pass(time.Second)
		for key, want := range map[string]int{"a": 2, "\x00": 1, "": 1, "c": 0} {
			if n, err := r.f.Skip(t.Context(), "op", Selection{Position: kafka.Position{Partition: kafka.Partition{Topic: "t"}}, Key: []byte(key)}); n.Skipped != want || err != nil || (n.Note == "no failing message of this process has that key") != (want == 0) {
				t.Errorf("key %q: %+v, %v", key, n, err)
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
		if n := r.f.SkipBlocked(); n != 1 || len(r.logs.With("SIGUSR1 is not in the audit")) != 1 {
			t.Error("a signal is held up")
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// Guarantee 1 needs no volume. Where there is none the log is the audit: a pause that came with a partition can be ended. What would lie
// on the volume itself is not done, and nothing is where the volume only fails: kpush has been there, or another process is.
func TestAnAuditWithoutAVolume(t *testing.T) {
	for name, row := range map[string]struct {
		letters bool
		make    func(*testing.T, string) // the volume
		acts    bool
	}{
		"none":                   {acts: true},
		"none, and dead letters": {letters: true, acts: true},
		"kpush was there": {make: func(t *testing.T, dir string) {
			if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600), os.Mkdir(filepath.Join(dir, auditName), 0o700)); err != nil {
				t.Fatal(err)
			}
		}},
		"another process has it": {make: func(t *testing.T, dir string) {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			free, err := offsets.Lock(dir)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(free)
		}},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg, dir := small(), filepath.Join(t.TempDir(), "volume")
			if cfg.SkipLog = filepath.Join(dir, "skipped.jsonl"); row.letters {
				cfg.DeadLetterTopic, cfg.RetryNums = "dead", 1000
			}
			r := newRig(t, cfg, handle(func(*Delivery) Verdict { return bad }))
			r.assemble(cfg, r.f.parts.Handler, offsets.InMemory(offsets.Options{}), r.f.log)
			if row.make != nil {
				row.make(t, dir)
			}
			r.run()
			r.kafka.produce(t0, 3, 10)
			r.kafka.give(t0)
			pass(time.Minute)
			_, pause := r.f.Pause(t.Context(), "op", "t", 0)
			marked := r.newestMark(t0).Paused
			_, resume := r.f.Resume(t.Context(), "op", "", All)
			_, seek := r.f.Seek(t.Context(), "op", "t", 0, Target{Beginning: true})
			pass(time.Minute)
			_, skip := r.f.Skip(t.Context(), "op", Selection{Position: kafka.Position{Partition: t0}})
			for what, err := range map[string]error{"pause": pause, "resume": resume, "seek": seek, "skip": skip} {
				acts := row.acts && what != "skip" || row.letters
				if acts != (err == nil) || !acts && !strings.Contains(err.Error(), "the audit cannot be written, so nothing is done") {
					t.Errorf("%s: a %s: %v", name, what, err)
				}
				if said := len(r.logs.With("there is no volume for the audit: it is this line\" who=op did=" + what)); acts != (said == 1) {
					t.Errorf("%s: the log has %d lines of a %s", name, said, what)
				}
			}
			if marked != row.acts || r.newestMark(t0).Paused {
				t.Errorf("%s: the mark said paused: %t", name, marked)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// What is asked for is not here: the sentence says where to ask, or what it waits for.
func TestWhatIsNotHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		cfg.Topics = []string{"t", "u"}
		r := newRig(t, cfg, handle(func(*Delivery) Verdict { return good })).run()
		say := func(topic string, number int32, want string) {
			t.Helper()
			if _, err := r.f.Pause(t.Context(), "op", topic, number); !errors.Is(err, ErrNotOurs) || err.Error() != want {
				t.Errorf("%s/%d: %v", topic, number, err)
			}
		}
		say("", All, "no partition is assigned to this process, which is a spare member of its group, or still waits for them (GET /readyz says for what): ask the other replicas")
		r.kafka.give(t0)
		pass(time.Second)
		say("u", All, "no partition of u is assigned to this process: ask the other replicas")
		say("t", 1, "t/1 is not assigned to this process: ask the replica that has it")
		if _, err := r.f.Resend(t.Context(), "op", []kafka.Position{{Partition: t0, Offset: 5}}); !errors.Is(err, ErrNotFailing) || err.Error() != "t/0/5 is not in the skip log: kpush -skipped lists what is" {
			t.Error(err)
		}
		for topic, want := range map[string]string{"t": "of the 10 partitions of t this process has 1; ask the other replicas for the rest",
			"": "of the 20 partitions of t, u this process has 1; ask the other replicas for the rest"} {
			if got := r.f.Rest(t.Context(), topic, 1); got != want {
				t.Errorf("%q: %s", topic, got)
			}
		}
		if got := r.f.Rest(t.Context(), "t", 10); got != "" {
			t.Errorf("with all of them: %s", got)
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

// A skip whose message is delivered in the meantime waits for nothing, and says that it is not skipped; so does one whose partition goes
// behind that. One that fails meanwhile, or that the service asks to skip, is skipped.
func TestASkipThatComesTooLate(t *testing.T) {
	delivered := SkipOutcome{Note: "delivered meanwhile, and so not skipped: 1"}
	for _, row := range []struct {
		answer Verdict
		goes   bool
		want   SkipOutcome
	}{{good, false, delivered}, {good, true, delivered}, {bad, false, SkipOutcome{Skipped: 1}}, {Verdict{Class: Skip}, false, SkipOutcome{Skipped: 1}}} {
		synctest.Test(t, func(t *testing.T) {
			tries := 0
			r := newRig(t, small(), handle(func(d *Delivery) Verdict {
				if tries++; tries == 1 {
					return bad
				}
				pass(3 * time.Second)
				return row.answer
			})).run()
			r.kafka.produce(t0, 1, 10)
			r.kafka.give(t0)
			pass(3 * time.Second) // the second attempt is under way
			if row.goes {
				go func() { pass(time.Second); r.kafka.take(true, t0) }()
			}
			begun := time.Now()
			n, err := r.f.Skip(t.Context(), "op", Selection{Position: kafka.Position{Partition: t0, Offset: 0}})
			if n != row.want || err != nil || time.Since(begun) > 4*time.Second {
				t.Errorf("%+v: %+v, %v after %s", row, n, err, time.Since(begun))
			}
			if log, err := r.f.SkipCounts(); err != nil || log.Skipped != int64(n.Skipped) {
				t.Errorf("%+v: the skip log has %+v, %v", row, log, err)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Of many who skip one message at once, one has skipped it; it is on record for each of them.
func TestSkipsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		r := newRig(t, small(), handle(func(*Delivery) Verdict {
			if tries++; tries > 1 {
				pass(3 * time.Second)
			}
			return bad
		})).run()
		r.kafka.produce(t0, 1, 10)
		r.kafka.give(t0)
		pass(3 * time.Second) // the second attempt is under way
		counts := make(chan int, 8)
		for range 8 {
			go func() {
				n, err := r.f.Skip(t.Context(), "op", Selection{Position: kafka.Position{Partition: t0, Offset: 0}})
				if page, bad := r.f.Skipped(0, 100); err != nil || bad != nil || len(page.Messages) != 1 {
					t.Errorf("%v; the skip log has %v, %v", err, page, bad)
				}
				if other := n.Note == "given up meanwhile, but not by this command: 1"; other == (n.Skipped == 1) {
					t.Errorf("one of them is told %+v", n)
				}
				counts <- n.Skipped
			}()
		}
		all := 0
		for range 8 {
			all += <-counts
		}
		if all != 1 {
			t.Errorf("%d were skipped of one", all)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A skip that could not be put on record before its partition went is none, and says so: the message goes on at whoever has it then.
func TestASkipThatItsPartitionLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		cfg.DeadLetterTopic = "dead"
		r := newRig(t, cfg, handle(func(*Delivery) Verdict { return bad }))
		r.letters.spoil(func(ctx context.Context, _ kafka.Record) error { return kafka.ErrNoBroker }, nil)
		r.run()
		r.kafka.produce(t0, 3, 10)
		r.kafka.give(t0)
		pass(time.Minute)
		time.AfterFunc(time.Second, func() { r.kafka.take(false, t0) })
		_, err := r.f.Skip(t.Context(), "op", Selection{Position: kafka.Position{Partition: t0}})
		if !errors.Is(err, ErrNotOurs) && !errors.Is(err, ErrMoves) || !strings.Contains(err.Error(), "t/0/0 is not skipped") {
			t.Errorf("%v", err)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}
