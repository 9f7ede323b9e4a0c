package pace

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

var (
	good      = Sign{Kind: Delivered, Answered: true}
	bad       = Sign{Kind: Answered, Answered: true}
	refused   = Sign{Kind: Fault, Unsent: true, Absent: true, Why: "no connection to the service"}
	broken    = Sign{Kind: Fault, Why: "the connection broke"}
	answer3   = Sign{Kind: Fault, Answered: true, TooMuch: true, Why: "the service answered 503"}
	silent    = Sign{Kind: Silent, TooMuch: true, Why: "no answer"}
	busy      = Sign{Kind: Busy, Answered: true, TooMuch: true}
	cancelled = Sign{Kind: Cancelled, TooMuch: true}
)

// small is a configuration in which everything is easy to count.
func small() Config {
	return Config{Order: ByPartition, Concurrency: 16, Hosts: 1, BatchSize: 1, BlockedAfter: 10, ExecTimeout: time.Minute,
		RetryInterval: 2 * time.Second, RetryMaxInterval: 2 * time.Second}
}

// hostsOf are those of a service of which nothing is known yet; changed may be nil.
func hostsOf(cfg *Config, changed func(int, error)) *hosts {
	if changed == nil {
		changed = func(int, error) {}
	}
	s := new(hosts)
	s.init(cfg, func() {}, changed)
	return s
}

// pass lets d pass; only in a synctest bubble, where that takes no time.
func pass(d time.Duration) { <-time.After(d) }

// Of three hosts the one that failed is never asked twice in a row; one that is down is asked once an interval.
func TestPickOfHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		cfg.Hosts = 3
		s := hostsOf(&cfg, nil)
		d, seen := &Turn{host: -1}, map[int]int{}
		for range 300 {
			last := d.host
			d.host, d.probe = s.pick(d, true), nil
			if d.host == last {
				t.Fatalf("host %d twice in a row", last)
			}
			seen[d.host]++
		}
		if len(seen) != 3 || seen[0] < 50 || seen[1] < 50 || seen[2] < 50 {
			t.Errorf("300 attempts over three hosts: %v", seen)
		}
		s.heed(&Turn{host: 1}, refused, time.Now())
		for span := range 5 {
			seen = map[int]int{}
			for range 100 {
				d := &Turn{host: -1}
				if d.host = s.pick(d, true); d.host == 1 {
					s.heed(d, refused, time.Now())
				}
				seen[d.host]++
			}
			if want := min(span, 1); seen[1] != want || seen[0]+seen[2] != 100-want {
				t.Errorf("interval %d: %v, want the host that is down %d times", span, seen, want)
			}
			pass(cfg.RetryInterval + time.Millisecond)
		}
		d = &Turn{host: 1, probe: s.list[1], began: time.Now()}
		s.heed(d, good, time.Now())
		if seen = map[int]int{}; !s.rests() {
			for range 300 {
				seen[s.pick(&Turn{host: -1}, true)]++
			}
		}
		if seen[1] < 50 {
			t.Errorf("after an answer it takes part again: %v", seen)
		}
	})
}

// A host is down after three faults in a row, or one refused connection; any answer in between shows that it is there.
func TestWhenAHostIsDown(t *testing.T) {
	for _, row := range []struct {
		name  string
		signs []Sign
		down  bool
	}{
		{"refused", []Sign{refused}, true},
		{"503 twice", []Sign{answer3, answer3}, false},
		{"503 three times", []Sign{answer3, answer3, answer3}, true},
		{"broken three times", []Sign{broken, broken, broken}, true},
		{"with answers in between", []Sign{broken, broken, good, broken, broken, bad, broken, broken, busy, broken, broken}, false},
		{"cancelled ones say nothing", []Sign{broken, cancelled, broken, cancelled, broken}, true},
	} {
		cfg := small()
		s := hostsOf(&cfg, nil)
		for _, sign := range row.signs {
			s.heed(&Turn{host: 0}, sign, time.Now())
		}
		if s.isDown() != row.down || s.rests() != row.down {
			t.Errorf("%s: down is %t", row.name, s.isDown())
		}
	}
}

// A host that went down stays down when requests are answered that were under way then, and goes up with one begun later.
func TestOldAnswersDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		said := 0
		s := hostsOf(&cfg, func(int, error) { said++ })
		old := &Turn{began: time.Now()}
		pass(time.Second)
		s.heed(&Turn{began: time.Now()}, refused, time.Now())
		for range 3 {
			if s.heed(old, good, time.Now()); !s.isDown() {
				t.Fatal("an old answer brings it up")
			}
			s.heed(&Turn{began: time.Now()}, refused, time.Now())
		}
		pass(time.Second)
		if s.heed(&Turn{began: time.Now()}, bad, time.Now()); s.isDown() || said != 2 {
			t.Errorf("down is %t after an answer, %d changes", s.isDown(), said)
		}
	})
}

// A host that hangs goes down only where another one is up, and what hangs is no answer: it brings none up.
func TestAHostThatHangs(t *testing.T) {
	for _, row := range []struct {
		name  string
		hosts int
		ended []int // the hosts whose requests hang; of the first host, -1: one is refused, -2: one breaks
		down  []bool
	}{
		{"the only one", 1, []int{0, 0, 0, 0, 0, 0}, []bool{false}},
		{"the only one, and broken twice", 1, []int{0, 0, 0, -2, -2}, []bool{false}},
		{"one of two", 2, []int{1, 1, 1}, []bool{false, true}},
		{"one of two, twice", 2, []int{1, 1}, []bool{false, false}},
		{"both of two", 2, []int{0, 1, 0, 1, 0, 1, 0, 1}, []bool{true, false}},
		{"a probe", 1, []int{-1, 0, 0}, []bool{true}},
	} {
		cfg := small()
		cfg.Hosts = row.hosts
		s := hostsOf(&cfg, nil)
		for _, host := range row.ended {
			switch host {
			case -1:
				s.heed(&Turn{}, refused, time.Now())
			case -2:
				s.heed(&Turn{}, broken, time.Now())
			default:
				s.heed(&Turn{host: host, probe: s.list[host], began: time.Now()}, silent, time.Now())
			}
		}
		for i, h := range s.list {
			if h.down != row.down[i] {
				t.Errorf("%s: host %d down is %t", row.name, i, h.down)
			}
		}
	}
}

// Where others are up, a host that is down has one probe at a time, for as long as that may hang.
func TestOneProbeAtATime(t *testing.T) {
	for _, timeout := range []time.Duration{time.Minute, 0} {
		synctest.Test(t, func(t *testing.T) {
			cfg := small()
			cfg.Hosts, cfg.ExecTimeout = 2, timeout
			s := hostsOf(&cfg, nil)
			s.heed(&Turn{host: 1}, refused, time.Now())
			probes := func() (prober *Turn) {
				for range 20 {
					if d := (&Turn{host: -1}); s.pick(d, true) == 1 {
						if prober != nil {
							t.Fatalf("two probes at once with a timeout of %v", timeout)
						}
						d.host, prober = 1, d
					}
				}
				return prober
			}
			interval := cfg.RetryInterval + time.Millisecond
			for range 3 {
				pass(interval)
				prober := probes()
				if prober == nil {
					t.Fatal("no probe after an interval")
				}
				if pass(10 * interval); probes() != nil {
					t.Fatal("another probe while one hangs")
				}
				s.heed(prober, cancelled, time.Now())
			}
			pass(interval)
			if probes(); timeout > 0 {
				if pass(timeout + interval); probes() == nil {
					t.Error("no probe when the one before must have ended")
				}
			}
		})
	}
}

// Where another host is up, a probe that hangs is followed by the next after twenty times as long, so that who is alone in a lane waits for
// few of them; one that is refused at once by one an interval later. Once all are down each probe counts.
func TestAProbeThatHangsIsFollowedByFew(t *testing.T) {
	for _, row := range []struct {
		name           string
		sign           Sign
		took           time.Duration
		before, behind time.Duration // the next probe comes between
	}{
		{"refused", refused, 0, 0, 3 * time.Second},
		{"no connection", refused, 10 * time.Second, 199 * time.Second, 203 * time.Second},
		{"no answer", silent, time.Second, 19 * time.Second, 23 * time.Second},
		{"no answer for long", silent, time.Hour, 299 * time.Second, 303 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := small()
			cfg.Hosts, cfg.RetryInterval, cfg.RetryMaxInterval = 2, 2*time.Second, 2*time.Second
			s := hostsOf(&cfg, nil)
			s.list[1].down, s.list[1].since = true, time.Now()
			pass(row.took)
			s.heed(&Turn{host: 1, probe: s.list[1], began: time.Now().Add(-row.took)}, row.sign, time.Now())
			pass(cfg.RetryInterval + time.Millisecond)
			if at := s.list[1].next; s.pick(&Turn{host: -1}, false) != 1 {
				t.Errorf("%s: none after an interval where many turns are out", row.name)
			} else {
				s.list[1].next = at // as if nobody had asked
			}
			begin := time.Now().Add(-cfg.RetryInterval)
			for s.pick(&Turn{host: -1}, true) != 1 {
				pass(time.Second)
			}
			if after := time.Since(begin); after < row.before || after > row.behind {
				t.Errorf("%s: the next probe comes after %v", row.name, after)
			}
			s.heed(&Turn{host: 1, probe: s.list[1], began: time.Now().Add(-row.took)}, row.sign, time.Now())
			s.heed(&Turn{host: 0, began: time.Now()}, refused, time.Now()) // now all are down
			if pass(5 * time.Second); time.Now().Before(s.earliest().next) || time.Now().Before(s.list[1].next) {
				t.Errorf("%s: with all down it may not be probed after an interval", row.name)
			}
			if s.bringUp(s.list[1]); !s.list[1].spared.IsZero() {
				t.Errorf("%s: it is spared although it is up", row.name)
			}
		})
	}
}

// What is logged names the reason.
func TestDownSaysWhy(t *testing.T) {
	cfg := small()
	var said []string
	s := hostsOf(&cfg, func(_ int, err error) { said = append(said, fmt.Sprint(err)) })
	s.heed(&Turn{}, refused, time.Now())
	s.heed(&Turn{}, refused, time.Now())
	s.heed(&Turn{began: time.Now()}, good, time.Now())
	if want := "[the service is down (no connection to the service): the oldest message probes, the rest wait <nil>]"; fmt.Sprint(said) != want {
		t.Errorf("said %v", said)
	}
}

// Of several hosts each that goes down is said by its number, the last one as the service; another reason counts only where the same host
// has had it twice.
func TestEachHostIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		cfg.Hosts = 2
		var said []string
		s := hostsOf(&cfg, func(host int, err error) { said = append(said, fmt.Sprint(host, " ", err)) })
		came := func(host int, why string) {
			pass(cfg.RetryInterval)
			turn := &Turn{host: host, began: time.Now(), probe: s.list[host]}
			if sign := refused; why != "" {
				sign.Why = why
				s.heed(turn, sign, time.Now())
			} else {
				s.heed(turn, good, time.Now())
			}
		}
		for _, step := range []struct {
			host int
			why  string
		}{{1, "b refuses"}, {1, "b refuses"}, {0, "a refuses"}, {1, "b refuses"}, {0, "a refuses"}, {1, "b hangs"}, {0, "a refuses"}, {1, "b hangs"},
			{0, ""}, {1, "b hangs"}, {1, ""}, {0, ""}} {
			came(step.host, step.why)
		}
		down := func(why string) string {
			return "-1 the service is down (" + why + "): the oldest message probes, the rest wait"
		}
		if want := []string{"1 b refuses", down("a refuses"), down("b hangs"), "-1 <nil>", "1 <nil>"}; !slices.Equal(said, want) {
			t.Errorf("said %q, want %q", said, want)
		}
	})
}

// What is said comes in the order in which it happened, also where the service is down again before "there again" is said.
func TestDownAndUpAreSaidInOrder(t *testing.T) {
	cfg := small()
	var said []bool
	var s *hosts
	over := make(chan struct{})
	s = hostsOf(&cfg, func(_ int, err error) {
		if err == nil {
			go func() { defer close(over); s.heed(&Turn{}, refused, time.Now()) }()
			select {
			case <-over:
			case <-time.After(10 * time.Millisecond): // it waits until this is said
			}
		}
		said = append(said, err != nil)
	})
	s.heed(&Turn{}, refused, time.Now())
	s.heed(&Turn{began: time.Now()}, good, time.Now())
	<-over
	if want := "[true false true]"; fmt.Sprint(said) != want {
		t.Errorf("down was said as %v, want %s", said, want)
	}
}
