package forwarder

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
)

// steadily wants readiness to say a sentence within 15 s, at each moment of ten minutes after that, and the log to have it once.
func (r *rig) steadily(sentence string) {
	r.Helper()
	began := time.Now()
	says := func() bool { return strings.Contains(strings.Join(r.f.Ready(), "; "), sentence) }
	r.until(sentence, says)
	if took := time.Since(began); took > 15*time.Second {
		r.Errorf("%q after %v", sentence, took)
	}
	for range 6000 {
		if pass(100 * time.Millisecond); !says() {
			r.Fatalf("%v later ready says %q, want %q", time.Since(began), r.f.Ready(), sentence)
		}
	}
	if n := len(r.logs.With(sentence)); n != 1 {
		r.Errorf("%q is logged %d times in ten minutes", sentence, n)
	}
}

// every has the client report an error so often, until the test ends it.
func (r *rig) every(d time.Duration, err error) (end func()) {
	ctx, cancel := context.WithCancel(r.Context())
	go func() {
		for ctx.Err() == nil {
			r.kafka.report(err)
			_ = sleep(ctx, d)
		}
	}()
	return cancel
}

// What may not be read is named for as long as that lasts, and holds up no other topic.
func TestAForbiddenTopicIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		cfg.Topics = []string{"t", "u"}
		r := newRig(t, cfg, handle(always))
		r.kafka.forbidden = map[string]kafka.Right{"u": kafka.Read}
		r.run()
		r.kafka.produce(t0, 10, 10)
		r.kafka.give(t0)
		r.steadily("waiting for the topic: u: Kafka's ACLs forbid it: READ is missing")
		if at := r.kafka.storedAt(t0); at != 10 {
			t.Errorf("the other topic is committed up to %d", at)
		}
		r.kafka.with(func() { r.kafka.forbidden = nil })
		r.until("ready", func() bool { return len(r.f.Ready()) == 0 })
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A group that does not take this process is named with the broker's reason: at the start, and when it is told so while it runs.
func TestARefusedMemberIsNamed(t *testing.T) {
	refused := fmt.Errorf("%w: JoinGroup failed: Broker: Inconsistent group protocol", kafka.ErrNotAdmitted)
	forbidden := fmt.Errorf("%w: Broker: Group authorization failed", kafka.ErrNotAdmitted)
	for name, row := range map[string]struct {
		begin func(r *rig) (end func())
		want  error
	}{
		"at the start": {func(r *rig) func() {
			end := r.every(time.Second, refused)
			return func() { end(); pass(2 * time.Second); r.kafka.give(t0) }
		}, refused},
		"said once": {func(r *rig) func() { r.kafka.report(forbidden); return func() { r.kafka.give(t0) } }, forbidden},
		"while it runs": {func(r *rig) func() {
			r.kafka.give(t0)
			r.kafka.produce(t0, 10, 10)
			r.until("a commit", func() bool { return r.kafka.storedAt(t0) == 10 })
			r.kafka.fail(func([]kafka.Commit) error { return forbidden })
			r.kafka.produce(t0, 10, 10)
			return func() { r.kafka.fail(nil) }
		}, forbidden},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, small(), handle(always)).run()
			end := row.begin(r)
			r.steadily("waiting for a place in group g: " + row.want.Error())
			end()
			r.until("ready", func() bool { return len(r.f.Ready()) == 0 })
			if err := r.stop(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// A broker that cannot be reached at the address that Kafka gives is named with who is wrong about it; one of several holds nothing up.
func TestAnAddressThatLeadsNowhere(t *testing.T) {
	const told = "Kafka itself gives the address broker-0:9092 for a broker (its advertised.listeners), KPUSH_BROKERS does not have it"
	nowhere := kafka.AddressError{Address: "broker-0:9092", Err: fmt.Errorf("%w: broker-0:9092: Name or service not known", kafka.ErrNoBroker)}
	for name, row := range map[string]struct {
		brokers string
		alone   bool // no other broker answers either
		want    string
	}{
		"another address":      {"kafka:9092", true, "waiting for a broker at kafka:9092: no broker can be reached: broker-0:9092: Name or service not known; " + told},
		"the user's":           {"kafka:9092, broker-0:9092", true, "waiting for a broker at kafka:9092, broker-0:9092: no broker can be reached: broker-0:9092: Name or service not known"},
		"one of several":       {"kafka:9092", false, ""},
		"one of several, ours": {"kafka:9092, broker-0:9092", false, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := small()
			cfg.Brokers = row.brokers
			r := newRig(t, cfg, handle(always)).run()
			r.kafka.give(t0)
			pass(time.Minute)
			if row.alone {
				r.kafka.spoil(func(string) error { return context.DeadlineExceeded }, nil)
			}
			defer r.every(30*time.Second, nowhere)()
			if row.want != "" {
				r.steadily(row.want)
			} else if pass(time.Hour); len(r.f.Ready()) > 0 {
				t.Errorf("%s: ready says %q", name, r.f.Ready())
			}
			if why := strings.Join(r.f.Ready(), ""); strings.Contains(why, told) != strings.Contains(row.want, told) {
				t.Errorf("%s: ready says %q", name, why)
			}
			r.kafka.spoil(nil, nil)
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// What comes and goes is a line a minute.
func TestWhatFlapsIsSaidOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(always)).run()
		for i := range 600 {
			var fault error
			if i/3%2 == 0 { // whenever in a second it is looked
				fault = fmt.Errorf("t: %w", kafka.ErrNoTopic)
			}
			r.kafka.spoil(func(string) error { return fault }, nil)
			pass(time.Second)
		}
		if n := len(r.logs.With("waiting for the topic")); n < 5 || n > 11 {
			t.Errorf("logged %d times in ten minutes", n)
		}
		r.kafka.spoil(nil, nil)
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// Brokers that know no static members are noted, and end who must be one before anything is delivered.
func TestBrokersWithoutStaticMembers(t *testing.T) {
	for _, must := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			cfg, b := small(), newBook()
			cfg.InstanceID, cfg.MustBeStatic = "kpush-1", must
			r := newRig(t, cfg, b.keeping(func(*Delivery) Verdict { return good }))
			r.kafka.tooOld = "kafka:9092/1"
			r.kafka.produce(t0, 10, 10)
			r.kafka.with(func() { // nobody waits for it: the process may end before
				r.kafka.todo = append(r.kafka.todo, func() { r.kafka.on.Assigned([]kafka.Partition{t0}) })
				r.kafka.owned[t0] = true
			})
			r.run()
			if must {
				if err := <-r.ended; !errors.Is(err, ErrNeedsStatic) || !strings.Contains(err.Error(), "kafka:9092/1") || b.count() > 0 {
					t.Errorf("%v after %d attempts", err, b.count())
				}
				return
			}
			pass(5 * time.Second)
			if notes := fmt.Sprint(r.f.Notes()); !strings.Contains(notes, "kafka:9092/1 is older than Kafka 2.3") || b.count() != 10 || len(r.f.Ready()) > 0 {
				t.Errorf("notes %s, ready %q, %d attempts", notes, r.f.Ready(), b.count())
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Who waits for a transaction to end is noted within 15 s, with both ends, although nothing fails and nothing comes.
func TestAnOpenTransactionIsNoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(always)).run()
		r.kafka.give(t0, t1)
		r.kafka.produce(t0, 10, 10)
		pass(time.Minute + 10*time.Second) // Kafka is asked every half minute where a silent partition ends: that is 20 s off
		r.kafka.with(func() { r.kafka.transactions = map[kafka.Partition]int64{t0: 10} })
		r.kafka.produce(t0, 5001, 1)
		notes := func() string { return fmt.Sprint(r.f.Notes()) }
		began := time.Now()
		r.until("a note", func() bool {
			return strings.Contains(notes(), "t/0 has an open transaction: what is at 10 and above, below 5011, can be read once it has ended (5001 offsets;")
		})
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("noted after %v", took)
		}
		if strings.Contains(notes(), "t/1") || len(r.f.Ready()) > 0 {
			t.Errorf("notes %s, ready %q", notes(), r.f.Ready())
		}
		r.kafka.with(func() { r.kafka.transactions = nil })
		r.until("the end of it", func() bool { return r.kafka.storedAt(t0) == 5011 })
		pass(15 * time.Second)
		if strings.Contains(notes(), "transaction") {
			t.Errorf("notes %s", notes())
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}
