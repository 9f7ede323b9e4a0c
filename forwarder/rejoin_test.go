package forwarder

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What the group gives to a static member that is back is compared with its topics, once; where that does not fit, it joins anew.
func TestRejoin(t *testing.T) {
	for _, row := range []struct {
		name    string
		id      string
		given   []tp
		unowned []tp
		fault   error
		anew    bool
	}{
		{"all fits", "pod-0", []tp{t0, t1}, nil, nil, false},
		{"others have the rest", "pod-0", []tp{t0}, nil, nil, false},
		{"a topic that nobody has", "pod-0", []tp{t0, t1}, []tp{u0}, nil, true},
		{"a partition that nobody has", "pod-0", []tp{t0}, []tp{t1}, nil, true},
		{"a topic that was left, among others", "pod-0", []tp{t0, {"old", 0}}, nil, nil, true},
		{"nothing but a topic that was left", "pod-0", []tp{{"old", 0}}, nil, nil, true},
		{"Kafka does not say", "pod-0", []tp{t0}, []tp{t1}, errors.New("not authorized"), false},
		{"a dynamic member", "", []tp{t0}, []tp{t1}, nil, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := twoTopics()
			cfg.InstanceID = row.id
			b := newBook()
			r := newRig(t, cfg, b.keeping(always))
			r.kafka.unowned = row.unowned
			r.kafka.spoil(func(question string) error {
				if question == "orphans" {
					return row.fault
				}
				return nil
			}, nil)
			r.run()
			all := []tp{t0, t1, u0, {"old", 0}}
			for _, p := range all {
				r.kafka.produce(p, 10, 10)
			}
			r.kafka.give(row.given...)
			pass(5 * time.Second)
			want := "subscribe"
			if row.anew {
				want = "subscribe, unsubscribe, subscribe"
			}
			joins := func() string {
				return strings.Join(append(r.kafka.callsOf("subscribe")[:1], append(r.kafka.callsOf("unsubscribe"), r.kafka.callsOf("subscribe")[1:]...)...), ", ")
			}
			if got := joins(); got != want {
				t.Errorf("%s: %s; want %s", row.name, got, want)
			}
			if row.anew {
				if why := r.f.Ready(); len(why) != 1 || !strings.Contains(why[0], "waiting for group g to give") {
					t.Errorf("%s: ready says %q between leaving and joining", row.name, why)
				}
				r.kafka.give(t0, t1, u0) // what is still said to be nobody's makes it join no third time
				pass(time.Minute)
				if got := joins(); got != want {
					t.Errorf("%s: %s after a minute; want %s", row.name, got, want)
				}
				for _, p := range []tp{t0, t1, u0} {
					if n := len(b.of(p)); n != 10 {
						t.Errorf("%s: %d deliveries of %s", row.name, n, p)
					}
				}
			}
			if n := len(b.of(tp{"old", 0})); n > 0 {
				t.Errorf("%s: %d deliveries of a topic that is not subscribed to", row.name, n)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}
