package forwarder

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
)

// A client that has no answer while another one is answered is replaced, and nothing is lost by that; one that shares its fate with
// the others is not.
func TestADeadClientIsReplaced(t *testing.T) {
	for _, row := range []struct {
		name    string
		cluster time.Duration // for so long nobody has an answer
		client  time.Duration // and the client; 0: until it is replaced
		renewed int
		within  time.Duration // of the mending
	}{
		{"all of them for a minute", time.Minute, time.Minute, 0, proof},
		{"a moment longer than the others", time.Minute, time.Minute + proof/2, 0, proof},
		{"for a while, alone", 0, deadTime / 2, 0, time.Second},
		{"for ever, after all of them", 20 * time.Second, 0, 1, 45 * time.Second},
		{"for ever, after an hour of all of them", time.Hour, 0, 1, 30 * time.Second},
		{"for ever, alone", 0, 0, 1, calmTime + 35*time.Second}, // it had nothing to do, so it is not asked at once
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBook()
			r := newRig(t, small(), b.keeping(func(*Delivery) Verdict { return good })).run()
			r.kafka.produce(t0, 10, 10)
			r.kafka.give(t0)
			pass(time.Minute)
			begun := time.Now()
			fails := func(lasts time.Duration) bool { return time.Since(begun) < lasts }
			if row.cluster > 0 {
				r.kafka.spoil(func(string) error {
					if fails(row.cluster) {
						return context.DeadlineExceeded
					}
					return nil
				}, nil)
			}
			r.kafka.with(func() { r.kafka.lost = true })
			for fails(max(row.cluster, row.client)) {
				if pass(time.Second); row.client > 0 && !fails(row.client) {
					r.kafka.with(func() { r.kafka.lost = false })
				}
				if why := r.f.Live(); len(why) > 0 {
					t.Errorf("%s: health says %q after %s", row.name, why, time.Since(begun))
				}
			}
			mended := time.Now()
			r.until("an answer", func() bool {
				lost := false
				r.kafka.with(func() { lost = r.kafka.lost })
				return !lost && len(r.f.Ready()) == 0
			})
			if took := time.Since(mended); took > row.within {
				t.Errorf("%s: ready %s after it was mended", row.name, took)
			}
			pass(time.Minute)
			if n := len(r.kafka.callsOf("renew")); n != row.renewed || len(r.logs.With("a new client takes its place")) != n || len(r.logs.With("the Kafka client is there again")) != n {
				t.Errorf("%s: %d new clients, want %d", row.name, n, row.renewed)
			}
			r.kafka.produce(t0, 10, 10)
			r.until("all delivered", func() bool { return r.kafka.storedAt(t0) == 20 })
			if b.count() != 20 {
				t.Errorf("%s: %d attempts at 20 messages", row.name, b.count())
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A client that was made of a file which has changed since is replaced as soon as it has no answer, and one made of it now has.
func TestRenewedCredentials(t *testing.T) {
	for _, changes := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "password")
			write := func(text string, at time.Time) {
				if err := errors.Join(os.WriteFile(file, []byte(text), 0o600), os.Chtimes(file, at, at)); err != nil {
					t.Fatal(err)
				}
			}
			write("old", time.Now())
			cfg := small()
			cfg.Credentials = []string{file}
			r := newRig(t, cfg, handle(always)).run()
			r.kafka.give(t0)
			pass(time.Minute)
			if changes {
				write("new", time.Now())
			}
			pass(time.Hour) // the old one is good for as long as it is taken
			if n := len(r.kafka.callsOf("renew")); n > 0 {
				t.Errorf("%d new clients, and the old one has its answers", n)
			}
			begun := time.Now()
			r.kafka.with(func() { r.kafka.lost = true })
			r.until("a new client", func() bool { return len(r.kafka.callsOf("renew")) == 1 })
			if took := time.Since(begun); changes && took > 25*time.Second || !changes && took < deadTime-askTime {
				t.Errorf("changes %t: after %s", changes, took)
			}
			if n := len(r.logs.With(file + " has changed since")); (n == 1) != changes {
				t.Errorf("changes %t: %d lines name the file", changes, n)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// The coordinator answers nobody while the group rebalances: however long that takes, the client is not dead.
func TestAClientIsNotDeadWhileTheGroupRebalances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(always)).run()
		r.kafka.give(t0)
		r.kafka.with(func() { r.kafka.lost, r.kafka.rebalancing = true, true })
		pass(time.Hour)
		if n := len(r.kafka.callsOf("renew")); n > 0 || len(r.f.Live()) > 0 {
			t.Errorf("%d new clients; health says %q", n, r.f.Live())
		}
		r.kafka.with(func() { r.kafka.rebalancing = false })
		r.until("a new client", func() bool { return len(r.kafka.callsOf("renew")) == 1 })
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// Health says it from when it is noticed until there is an answer; where no client has one the process ends with a sentence.
func TestADeadClientIsSaid(t *testing.T) {
	refusal := errors.New("no file descriptors")
	for _, row := range []struct {
		fault error
		want  string
		lives int
	}{{nil, "and so it went for 3 clients, so this process ends (nothing is lost)", lives - 1}, {refusal, "there is no other one, so this process ends (nothing is lost): no file descriptors", 1}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, small(), handle(always)).run()
			r.kafka.give(t0)
			pass(time.Minute)
			r.kafka.with(func() { r.kafka.lost, r.kafka.lostForGood, r.kafka.renewFault = true, true, row.fault })
			begun := time.Now()
			r.until("health says it", func() bool { return len(r.f.Live()) > 0 })
			if took, why := time.Since(begun), strings.Join(r.f.Live(), "; "); took > calmTime+35*time.Second || !strings.Contains(why, "the Kafka client has had no answer for") {
				t.Errorf("after %s health says %q", took, why)
			}
			err := <-r.ended
			if err == nil || !strings.Contains(err.Error(), row.want) || time.Since(begun) > calmTime+4*deadTime {
				t.Errorf("it ends after %s: %v", time.Since(begun), err)
			}
			if n := len(r.kafka.callsOf("renew")); n != row.lives {
				t.Errorf("%d new clients", n)
			}
		})
	}
}

// What is under way when the client is replaced may be somebody else's: it is ended, and comes again flagged. A commit that has no
// answer holds nothing up.
func TestWhatIsUnderWayWithADeadClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		cfg := small()
		cfg.ExecTimeout = 0
		var mu sync.Mutex
		var doubts []int64
		r := newRig(t, cfg, b.keeping(func(d *Delivery) Verdict {
			if d.InDoubt() {
				mu.Lock()
				defer mu.Unlock()
				doubts = append(doubts, d.Offset)
			}
			if d.Offset == 5 && d.Number() == 1 {
				<-d.Attempt().Done()
				return Verdict{Class: Aborted, InDoubt: true}
			}
			return good
		})).run()
		r.kafka.produce(t0, 10, 10)
		r.kafka.give(t0)
		pass(time.Minute)
		r.kafka.with(func() { r.kafka.lost = true })
		r.until("all delivered", func() bool { return r.kafka.storedAt(t0) == 10 })
		mu.Lock()
		defer mu.Unlock()
		if len(doubts) != 1 || doubts[0] != 5 || b.count() != 11 {
			t.Errorf("%v came in doubt, %d attempts", doubts, b.count())
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A process with nothing to do asks the cluster three times a minute; as often as ever as soon as something is delivered, or the client has
// reported anything, until that is over.
func TestNothingToDoIsNothingToAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(always))
		var asked atomic.Int64
		r.kafka.spoil(func(question string) error {
			if question == "topics" {
				asked.Add(1)
			}
			return nil
		}, nil)
		r.run()
		r.kafka.give(t0)
		pass(time.Minute)
		within := func(d time.Duration) int64 {
			before := asked.Load()
			pass(d)
			return asked.Load() - before
		}
		if n := within(time.Minute); n > 4 {
			t.Errorf("%d questions in an idle minute", n)
		}
		for name, happens := range map[string]func(){
			"a message": func() { r.kafka.produce(t0, 1, 10) },
			"an error":  func() { r.kafka.report(kafka.ErrNoBroker) },
		} {
			if happens(); within(time.Second) < 1 || within(10*time.Second) < 5 {
				t.Errorf("%s changes nothing", name)
			}
			if pass(time.Minute); within(time.Minute) > 4 {
				t.Errorf("a minute after %s there are as many questions as ever", name)
			}
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}
