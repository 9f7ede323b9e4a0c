package forwarder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
)

// A seek goes on where it says, exactly once from there, and what was done before says that it is a replay; a crash right behind it
// changes nothing.
func TestSeek(t *testing.T) {
	t.Parallel()
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
				var mu sync.Mutex
				var all []string
				take := func() []string {
					mu.Lock()
					defer mu.Unlock()
					got := all
					all = nil
					return got
				}
				var stuck atomic.Int64
				stuck.Store(12)
				service := handle(func(d *Delivery) Verdict {
					if d.Offset == stuck.Load() {
						return bad
					}
					mark := ""
					if d.Replay {
						mark = "r"
					}
					mu.Lock()
					defer mu.Unlock()
					all = append(all, fmt.Sprint(d.Offset)+mark)
					return good
				})
				cfg.Concurrency = 1
				r := newRig(t, cfg, service).run()
				r.kafka.produce(t0, 20, 10)
				r.kafka.with(func() { r.kafka.oldest[t0] = 2 })
				r.kafka.give(t0)
				pass(time.Minute)
				done := take()
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
				if m := r.newestMark(t0); m.Offset < row.from {
					t.Errorf("%s: Kafka has %+v", name, m)
				}
				stuck.Store(-1)
				pass(time.Minute)
				got := take()
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
		saved, _, _, err := r.store.Recall(r.f.consumer.parts[t0].identity)
		if m.Offset != 5 || !m.Paused || err != nil || saved.Next != 5 || saved.Lineage != m.Lineage {
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

// A replay says that it is one until all of it has come, over a stop and a kill, on this machine and on another one; what is new does not.
// It begins with a seek, or with Kafka's tools.
func TestAReplaySaysSoOverRestarts(t *testing.T) {
	for _, killed := range []bool{false, true} {
		for _, moves := range []bool{false, true} {
			for _, tool := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					name := fmt.Sprintf("killed %t, moves %t, tool %t", killed, moves, tool)
					var said sync.Map      // offset: whether it came as a replay
					var takes atomic.Int64 // below it
					takes.Store(20)
					service := handle(func(d *Delivery) Verdict {
						if d.Offset >= takes.Load() {
							return Verdict{Class: Busy}
						}
						said.Store(d.Offset, d.Replay)
						return good
					})
					r := newRig(t, small(), service)
					restart := func() {
						var before kafka.Commit
						r.kafka.with(func() { before = r.kafka.stored[t0] })
						if err := r.stop(); err != nil {
							t.Fatal(err)
						}
						if killed {
							r.kafka.with(func() { r.kafka.stored[t0] = before }) // as if the stop had not been
						}
					}
					again := func() {
						r.again(small(), service).run()
						r.kafka.give(t0)
						pass(time.Minute)
					}
					r.kafka.produce(t0, 20, 10)
					r.run()
					r.kafka.give(t0)
					pass(time.Minute)
					takes.Store(8)
					if tool {
						restart()
						r.kafka.with(func() { r.kafka.stored[t0] = kafka.Commit{Partition: t0, Offset: 5} })
						again()
					} else if _, err := r.f.Seek(t.Context(), "op", "t", All, Target{Offset: 5}); err != nil {
						t.Fatal(err)
					}
					r.kafka.produce(t0, 2, 10)
					pass(time.Minute)
					said.Clear()
					takes.Store(12)
					for range 2 {
						restart()
						if moves {
							r.dir = t.TempDir()
						}
						again()
						takes.Store(1000)
					}
					for o := range int64(22) {
						replay, came := said.Load(o)
						if came != (o >= 8) || came && replay != (o < 20) {
							t.Errorf("%s: %d came %t, as a replay: %v", name, o, came, replay)
						}
					}
					if err := r.stop(); err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
}

// Whoever began at the newest message and goes back was never sent what comes then, nor what a seek has passed over.
func TestWhatNobodyWasSentIsNoReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		cfg.Reset = "latest"
		var said sync.Map
		service := handle(func(d *Delivery) Verdict { said.Store(d.Offset, d.Replay); return good })
		r := newRig(t, cfg, service)
		r.kafka.produce(t0, 10, 10)
		r.run()
		r.kafka.give(t0)
		pass(time.Minute)
		r.kafka.produce(t0, 5, 10)
		pass(time.Minute)
		_, err := r.f.Pause(t.Context(), "op", "", All)
		r.kafka.produce(t0, 5, 10)
		pass(time.Minute)
		for _, to := range []Target{{End: true}, {Beginning: true}} {
			_, sought := r.f.Seek(t.Context(), "op", "t", All, to)
			err = errors.Join(err, sought)
		}
		_, resumed := r.f.Resume(t.Context(), "op", "", All)
		if err = errors.Join(err, resumed); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		for o := range int64(20) {
			if replay, came := said.Load(o); !came || replay != (o >= 10 && o < 15) {
				t.Errorf("%d came %t, as a replay: %v", o, came, replay)
			}
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
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

// Of seeks of one partition at once one is done; the others are told that it restarts, and not that another replica has it. Whoever comes
// while the process stops is told that.
func TestSeeksAtOnce(t *testing.T) {
	for _, apart := range []time.Duration{0, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, small(), handle(func(*Delivery) Verdict {
				pass(3 * time.Second)
				return good
			})).run()
			r.kafka.produce(t0, 5, 10)
			r.kafka.give(t0)
			pass(time.Second)
			errs := make(chan error, 2)
			for range 2 {
				go func() {
					_, err := r.f.Seek(t.Context(), "op", "t", 0, Target{Beginning: true})
					errs <- err
				}()
				pass(apart)
			}
			first, second := <-errs, <-errs
			if first == nil {
				first, second = second, first
			}
			if second != nil || !errors.Is(first, ErrMoves) || errors.Is(first, ErrNotOurs) || !strings.Contains(first.Error(), "t/0 ends or starts here at this moment: ask again") {
				t.Errorf("%v apart: %v; %v", apart, first, second)
			}
			pass(time.Second)
			if _, err := r.f.Pause(t.Context(), "op", "t", 0); err != nil {
				t.Errorf("a moment later: %v", err)
			}
			go r.end(nil)
			pass(time.Second)
			_, seek := r.f.Seek(t.Context(), "op", "t", 0, Target{End: true})
			_, pause := r.f.Pause(t.Context(), "op", "t", 0)
			_, skip := r.f.Skip(t.Context(), "op", Selection{Position: kafka.Position{Partition: t0}})
			for what, err := range map[string]error{"seek": seek, "pause": pause, "skip": skip} {
				if !errors.Is(err, ErrEnding) {
					t.Errorf("a %s while the process stops: %v", what, err)
				}
			}
			if err := <-r.ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// A partition that nobody knows a start for starts where a seek says, beside those that run, and Kafka knows of it when the seek returns.
func TestSeekOfAHeldPartition(t *testing.T) {
	for _, whole := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b, cfg := newBook(), small()
			cfg.Reset = "error"
			r := newRig(t, cfg, b.keeping(always)).run()
			r.kafka.produce(t0, 10, 10)
			r.kafka.produce(t1, 10, 10)
			r.kafka.with(func() { r.kafka.stored[t1] = kafka.Commit{Partition: t1, Offset: 8} })
			r.kafka.give(t0, t1)
			pass(time.Minute)
			if _, err := r.f.Pause(t.Context(), "op", "t", 0); !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), "t/0 is assigned to this process, and not started: t/0: neither Kafka") {
				t.Errorf("a pause of it: %v", err)
			}
			if _, err := r.f.Seek(t.Context(), "op", "t", 0, Target{Offset: 11}); !errors.Is(err, ErrAsked) {
				t.Errorf("a seek behind its end: %v", err)
			}
			if note := r.f.Rest(t.Context(), "t", 1); note != "of the 10 partitions of t this process has 2, of which are not started: t/0; ask the other replicas for the rest" {
				t.Error(note)
			}
			number, want := int32(0), 4+2 // of t0, and of t1 what was behind its commit
			if whole {
				number = All
			}
			at, err := r.f.Seek(t.Context(), "op", "t", number, Target{Offset: 6})
			if positions := len(at); err != nil || whole != (positions == 2) || !slices.Contains(at, kafka.Position{Partition: t0, Offset: 6}) {
				t.Fatalf("%v, %v", at, err)
			}
			if m := r.newestMark(t0); m.Offset < 6 { // it goes on meanwhile
				t.Errorf("Kafka has %+v", m)
			}
			if audit, want := r.audited(), "op seek "+where("t", number)+"@6"; !slices.Equal(audit, []string{want}) {
				t.Errorf("audit %q", audit)
			}
			pass(time.Minute)
			if whole {
				want += 4
			}
			if all := len(b.of(t0)) + len(b.of(t1)); all != want || len(r.f.Ready()) > 0 {
				t.Errorf("whole: %t; delivered %v, ready says %q", whole, b.attempts, r.f.Ready())
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A seek cannot lift what is no question of where to start: it is refused with what the partition waits for.
func TestSeekOfAPartitionThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(always)).run()
		r.kafka.produce(t0, 5, 10)
		r.kafka.produce(t1, 5, 10)
		r.kafka.with(func() { r.kafka.leaderless = map[kafka.Partition]bool{t0: true} })
		r.kafka.give(t0, t1)
		pass(time.Minute)
		for _, number := range []int32{0, All} {
			_, err := r.f.Seek(t.Context(), "op", "t", number, Target{Beginning: true})
			if !errors.Is(err, ErrMoves) || !strings.Contains(err.Error(), "t/0 ends or starts here at this moment: ask again; it is not started: cannot learn where it starts") || len(r.audited()) > 0 {
				t.Errorf("%d: %v", number, err)
			}
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// lateBounds has time pass, and messages come, behind what Kafka says of ends.
type lateBounds struct{ fakeAdmin }

func (a lateBounds) Bounds(ctx context.Context, tps []kafka.Partition) (map[kafka.Partition]kafka.Bounds, error) {
	out, err := a.fakeAdmin.Bounds(ctx, tps)
	if a.storedAt(t0) > 0 {
		a.produce(t0, 5, 10)
		pass(time.Second)
	}
	return out, err
}

// A seek to the end brings nothing again of what has come, and was delivered, while the end was asked for.
func TestASeekToTheEndGoesNowhereBack(t *testing.T) {
	for _, order := range orders {
		synctest.Test(t, func(t *testing.T) {
			cfg := small()
			cfg.Order = order
			var sent sync.Map
			r := newRig(t, cfg, handle(func(d *Delivery) Verdict {
				if _, again := sent.LoadOrStore(d.Offset, true); again {
					t.Errorf("order %s: %d came again", order, d.Offset)
				}
				return good
			}))
			r.f.parts.Cluster = lateBounds{fakeAdmin{r.kafka}}
			r.run()
			r.kafka.produce(t0, 10, 10)
			r.kafka.give(t0)
			r.until("all", func() bool { return r.kafka.storedAt(t0) == 10 })
			if at, err := r.f.Seek(t.Context(), "op", "t", 0, Target{End: true}); err != nil || at[0].Offset < 15 {
				t.Errorf("order %s: %v, %v", order, at, err)
			}
			pass(time.Minute)
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Kafka finds nothing of a time for a moment after its log was cut: a seek there passes over nothing that is as late.
func TestSeekToATimeThatKafkaDoesNotFind(t *testing.T) {
	for _, row := range []struct {
		name   string
		time   int64
		newest error // why Kafka does not say it
		want   int64 // -1: refused
	}{{"it is there", 7, nil, 5}, {"the newest one's", 9, nil, 5}, {"nothing is as late", 10, nil, 10}, {"nobody knows", 7, errors.New("unsupported"), -1}} {
		synctest.Test(t, func(t *testing.T) {
			b := newBook()
			r := newRig(t, small(), b.keeping(always)).run()
			r.kafka.produce(t0, 10, 10)
			r.kafka.give(t0)
			r.until("all", func() bool { return r.kafka.storedAt(t0) == 10 })
			r.kafka.with(func() { r.kafka.oldest[t0], r.kafka.blind = 5, true })
			r.kafka.spoil(func(q string) error {
				if q == "newest" {
					return row.newest
				}
				return nil
			}, nil)
			at, err := r.f.Seek(t.Context(), "op", "t", 0, Target{Time: time.Unix(row.time, 0)})
			if err == nil != (row.want >= 0) || err == nil && at[0].Offset != row.want {
				t.Errorf("%s: %v, %v", row.name, at, err)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}
