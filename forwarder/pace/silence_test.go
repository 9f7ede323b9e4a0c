package pace

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

// silentTurn is an attempt that begins now.
func silentTurn(p *Pace, host int) *Turn {
	t := &Turn{pace: p, host: host}
	t.Began(time.Now())
	return t
}

// Three different messages without an answer in a row put a host down, the only one, too; an answer in between ends the row, and so
// does one that came while an attempt waited. An answer to a question does neither.
func TestWhenAHostStandsStill(t *testing.T) {
	const answer, question, wait = '+', '?', '.'
	for steps, want := range map[string]struct {
		down bool
		mine string // of each of the silences
	}{
		"a.b.c.":   {true, "hhh"},
		"a.a.a.a.": {false, "????"},
		"a.b.a.b.": {false, "????"},
		"a.0.0.":   {false, "???"},
		"a.0.1.":   {true, "hhh"},
		"a.b.+c.":  {false, "mmm"},
		"a.b.+.c.": {false, "mm?"},
		"a+.b+.c+": {false, "mmm"},
		"a.+b.+c.": {false, "mmm"},
		"abc":      {true, "hhh"},
		"abcd":     {true, "hhhh"},
		"a?.b?.c.": {true, "hhh"},
		"a?b?c":    {true, "hhh"},
		"abc?.d.":  {true, "hhhh"},
		"ab+cd":    {false, "mmmm"}, // these two had one answered just before
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := small()
			var said []error
			p := New(cfg, func(*Batch) {}, func(_ int, err error) { said = append(said, err) })
			turns := map[rune]*Turn{}
			var silences []Silence
			for _, step := range steps {
				switch now := time.Now(); step {
				case answer:
					p.hosts.heed(silentTurn(p, 0), good, now)
				case question:
					silentTurn(p, 0).Told(0, bad, now)
				case wait:
					pass(cfg.ExecTimeout)
				default:
					if turns[step] == nil {
						turns[step] = silentTurn(p, 0)
					}
					turn := turns[step]
					if step >= '0' && step <= '9' { // of the batch of a, which is halved
						turn = turns['a']
					}
					silences = append(silences, turn.Silence(now, int64(step)))
					p.hosts.heed(turn, silent, now)
				}
			}
			got := ""
			for _, s := range silences {
				yes, decided := s.OfHost()
				got += map[[2]bool]string{{true, true}: "h", {false, true}: "m", {false, false}: "?"}[[2]bool{yes, decided}]
			}
			if down := p.hosts.isDown(); down != want.down || got != want.mine {
				t.Errorf("%s: down is %t, the silences are %s, want %t and %s", steps, down, got, want.down, want.mine)
			}
			if want.down && (len(said) != 1 || !strings.Contains(said[0].Error(), silent.Why)) {
				t.Errorf("%s: said %v", steps, said)
			}
		})
	}
}

// A wall clock that was set back since the newest answer says nothing: a host that stands still is known by it, and one that fails. No
// bubble: its times have one clock.
func TestAClockThatIsSetBackHidesNoHost(t *testing.T) {
	for name, sign := range map[string]Sign{"it stands still": silent, "it fails": {Kind: Fault, Why: "broken"}} {
		p := New(small(), func(*Batch) {}, func(int, error) {})
		answered := time.Now().Add(-time.Hour)
		*(*uint64)(unsafe.Pointer(&answered)) += uint64(5*time.Hour/time.Second) << 30 // where package time has the seconds of the wall clock
		p.hosts.heed(silentTurn(p, 0), good, answered)
		var silences []Silence
		for i := range downAfter {
			turn := silentTurn(p, 0)
			turn.before = time.Now().Add(-time.Minute)
			if sign.Kind == Silent {
				silences = append(silences, turn.Silence(time.Now(), int64(i)))
			}
			p.hosts.heed(turn, sign, time.Now())
		}
		if !p.hosts.isDown() {
			t.Errorf("%s: it is not down", name)
		}
		for _, s := range silences {
			if yes, _ := s.OfHost(); !yes {
				t.Errorf("%s: it is the message's fault", name)
			}
		}
	}
}

// What began while the host stood still is its fault, also where it ends after an answer has come; what begins then is not.
func TestTheEndOfStandingStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(small(), func(*Batch) {}, func(int, error) {})
		for range downAfter {
			one := silentTurn(p, 0)
			one.Silence(time.Now(), 0)
			p.hosts.heed(one, silent, time.Now())
		}
		before := silentTurn(p, 0)
		pass(time.Second)
		p.hosts.heed(silentTurn(p, 0), good, time.Now())
		pass(time.Second)
		after := silentTurn(p, 0)
		pass(time.Second)
		if yes, _ := before.Silence(time.Now(), 0).OfHost(); !yes || p.hosts.isDown() {
			t.Error("it is the message's fault that began before")
		}
		if yes, _ := after.Silence(time.Now(), 0).OfHost(); yes {
			t.Error("it is the host's fault that began after")
		}
	})
}

// With one turn, what failed and what is new have it in turn, however many of them there are.
func TestOneTurnAlternates(t *testing.T) {
	cfg := small()
	cfg.Order, cfg.Concurrency = None, 1
	bubble(t, cfg, func(r *rig) {
		ctx, cancel := context.WithCancel(context.Background())
		defer synctest.Wait()
		defer cancel()
		s := r.Open(newOwner())
		push(s, "", 0, 1)
		var failed []*Batch
		for _, o := range []int64{0, 1} {
			b := r.batch(o)
			r.fail(ctx, b, bad)
			failed = append(failed, b)
		}
		push(s, "", 2, 3, 4)
		var order []string
		for range 6 {
			synctest.Wait()
			if len(r.given) > 0 {
				b := <-r.given
				order = append(order, "new")
				b.Next(true, false)
				continue
			}
			i := slices.IndexFunc(failed, func(b *Batch) bool { return b.kind == retry })
			if i < 0 {
				t.Fatalf("nobody has the turn after %v", order)
			}
			order = append(order, "failed")
			r.fail(ctx, failed[i], bad)
		}
		if want := []string{"failed", "new", "failed", "new", "failed", "new"}; !slices.Equal(order, want) && !slices.Equal(order, append(want[1:], "failed")) {
			t.Errorf("the turn went to %v", order)
		}
	})
}

// Messages that are refused each time put nobody down while others are answered; with nobody else it is the service.
func TestOnlyFreshEvidencePutsAHostDown(t *testing.T) {
	for _, others := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			cfg := small()
			downs := 0
			p := New(cfg, func(*Batch) {}, func(_ int, err error) {
				if err != nil {
					downs++
				}
			})
			var refusedEachTime []*Turn
			for range 2 {
				refusedEachTime = append(refusedEachTime, &Turn{pace: p})
			}
			for range 100 {
				for _, turn := range refusedEachTime {
					turn.Began(time.Now())
					p.hosts.heed(turn, answer3, time.Now())
				}
				pass(time.Second)
				if others {
					p.hosts.heed(silentTurn(p, 0), good, time.Now())
				}
				pass(time.Second)
			}
			if others && downs > 0 || !others && downs != 1 {
				t.Errorf("with others answered %t: down %d times", others, downs)
			}
		})
	}
}

// The sentence follows the reason, once two probes in a row have had it.
func TestDownFollowsItsReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		var said []string
		p := New(cfg, func(*Batch) {}, func(_ int, err error) { said = append(said, err.Error()) })
		probe := func(sign Sign) {
			pass(cfg.RetryInterval)
			turn := silentTurn(p, 0)
			turn.probe = p.hosts.list[0]
			p.hosts.heed(turn, sign, time.Now())
		}
		p.hosts.heed(silentTurn(p, 0), refused, time.Now())
		for _, sign := range []Sign{refused, answer3, refused, answer3, answer3, answer3, broken, answer3} {
			probe(sign)
		}
		want := []string{"the service is down (no connection to the service): the oldest message probes, the rest wait",
			"the service is down (the service answered 503): the oldest message probes, the rest wait"}
		if !slices.Equal(said, want) {
			t.Errorf("said %q", said)
		}
	})
}
