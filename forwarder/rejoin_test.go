package forwarder

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A static member that is back with other topics joins anew, once, whatever the group has given to it; so does whoever is given a
// topic that it does not subscribe to. Nobody else does.
func TestRejoin(t *testing.T) {
	const now = "g\nt\nu\n"
	for _, row := range []struct {
		name  string
		id    string
		last  string // what is remembered; "": nothing
		given []tp
		anew  bool
	}{
		{"for the first time", "pod-0", "", []tp{t0}, false},
		{"the same topics", "pod-0", now, []tp{t0, t1}, false},
		{"the same topics, nothing is given yet", "pod-0", now, nil, false},
		{"one more", "pod-0", "g\nt\n", []tp{t0, t1}, true},
		{"one more, nothing is given yet", "pod-0", "g\nt\n", nil, true},
		{"one less, which is not given", "pod-0", "g\nold\nt\nu\n", []tp{t0}, true},
		{"another group", "pod-0", "h\nt\nu\n", []tp{t0}, true},
		{"a topic that was left, among others", "pod-0", now, []tp{t0, {"old", 0}}, true},
		{"nothing but a topic that was left", "pod-0", "g\nold\n", []tp{{"old", 0}}, true},
		{"a dynamic member", "", "g\nt\n", []tp{t0}, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := twoTopics()
			cfg.InstanceID, cfg.Subscribed = row.id, filepath.Join(t.TempDir(), "topics")
			if row.last != "" {
				if err := os.WriteFile(cfg.Subscribed, []byte(row.last), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			b := newBook()
			r := newRig(t, cfg, b.keeping(always)).run()
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
				r.kafka.give(t0, t1, u0)
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
			if last, err := os.ReadFile(cfg.Subscribed); row.id != "" && string(last) != now {
				t.Errorf("%s: %q is remembered, %v", row.name, last, err)
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
