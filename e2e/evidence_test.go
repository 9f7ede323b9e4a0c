package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// notes waits until /readyz notes a sentence that contains each of the words.
func notes(t *testing.T, sc *rig.Sidecar, words ...string) {
	t.Helper()
	var all []string
	_, ok := rig.Until(patience, func() bool {
		all = sc.Ask("/readyz").Notes
		for _, note := range all {
			has := true
			for _, word := range words {
				has = has && strings.Contains(note, word)
			}
			if has {
				return true
			}
		}
		return false
	})
	if !ok {
		t.Errorf("/readyz does not note %q: %q", words, all)
	}
}

// TestAServiceThatRefusesEverythingDrainsNothing: its fault looks like the messages', for it answers each with a code that
// says so. Twelve are given up; the rest waits until one is delivered.
func TestAServiceThatRefusesEverythingDrainsNothing(t *testing.T) {
	t.Parallel()
	const most, count, interval = 12, 400, 100 * time.Millisecond
	for name, row := range map[string]struct {
		status int
		order  string
		env    []string
	}{
		"host":     {400, "partition", []string{"KPUSH_DOMAIN=shop.example"}},
		"type":     {415, "none", nil},
		"database": {500, "key", []string{"KPUSH_CONCURRENCY=64"}},
		"batches":  {500, "partition", []string{"KPUSH_BATCH_SIZE=20"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, svc := kafka(t), service(t)
			svc.Order = row.order
			svc.Rule(rig.Status(row.status))
			topic := k.Topic(t, 4)
			produced := k.Produce(t, topic, keyed(count)...)
			sc := sidecar(t, k, topic, svc, append(row.env, "KPUSH_ORDER="+row.order, "KPUSH_CAN_SKIP=true", "KPUSH_RETRY_NUMS=2", "KPUSH_RETRY_INTERVAL=100ms")...)
			host := "Host: 127.0.0.1"
			if name == "host" {
				host = "Host: shop.example"
			}
			notes(t, sc, "nothing more is given up", fmt.Sprint(row.status), host, "Content-Type: application/")
			time.Sleep(5 * interval) // whatever is under way has ended
			from := svc.Attempts()
			time.Sleep(10 * interval)
			if probes := svc.Attempts() - from; probes > 12*20 || name != "batches" && probes > 12 {
				t.Errorf("%d requests came within ten intervals.", probes)
			}
			said(t, sc, "nothing more is given up")
			if ready := sc.Ask("/readyz"); ready.Code != 200 {
				t.Errorf("/readyz is %d: %q", ready.Code, ready.Why)
			}
			gone := len(skipped(t, sc))
			svc.Rule(nil)
			svc.Await(t, count-gone, patience)
			sc.Shut(t, 10*time.Second)
			committedIsEnd(t, k, topic)
			if now := len(skipped(t, sc)); gone != most || now != gone {
				t.Errorf("%d messages were given up, and %d in the end; the bound is %d.", gone, now, most)
			}
			if v := svc.Judge(produced); len(v.Lost) != gone || len(v.Disorder)+len(v.Altered)+len(v.Repeats) > 0 {
				t.Errorf("%s", v)
			}
			t.Logf("%d to all of %d messages: %d given up, the rest delivered when the service was well.", row.status, count, gone)
		})
	}
}

// TestPoisonAmongGoodMessagesIsGivenUp, each after RETRY_NUMS, although there is more of it than may be given up in a row.
func TestPoisonAmongGoodMessagesIsGivenUp(t *testing.T) {
	t.Parallel()
	const count, retries = 400, 2
	k, svc := kafka(t), service(t)
	bad := func(r *rig.Request) bool { return r.Offset%10 == 3 }
	svc.Rule(func(r *rig.Request) rig.Action {
		if bad(r) {
			return rig.Action{Status: 400}
		}
		return rig.Action{}
	})
	topic := k.Topic(t, 4)
	k.ProduceEvenly(t, topic, 4, count, 100)
	sc := sidecar(t, k, topic, svc, "KPUSH_CAN_SKIP=true", fmt.Sprintf("KPUSH_RETRY_NUMS=%d", retries), "KPUSH_RETRY_INTERVAL=10ms")
	svc.Await(t, count*9/10, patience)
	rig.Within(t, patience, "the end of the poison", func() bool { return len(skipped(t, sc)) == count/10 })
	sc.Shut(t, 10*time.Second)
	committedIsEnd(t, k, topic)
	if want := count*9/10 + count/10*retries; svc.Attempts() != want {
		t.Errorf("%d requests were made, want %d.", svc.Attempts(), want)
	}
	if lines := sc.Find("nothing more is given up"); len(lines) > 0 {
		t.Errorf("The service was taken for ill: %s", lines[0].Text)
	}
}

// TestAnOperatorsSkipEndsTheWait of messages that are not given up any more.
func TestAnOperatorsSkipEndsTheWait(t *testing.T) {
	t.Parallel()
	const bound, count = 3, 20
	k, svc := kafka(t), service(t)
	svc.Rule(rig.Status(422))
	topic := k.Topic(t, 1)
	k.ProduceEvenly(t, topic, 1, count, 100)
	sc := sidecar(t, k, topic, svc, "KPUSH_CAN_SKIP=true", "KPUSH_RETRY_NUMS=1", "KPUSH_RETRY_INTERVAL=10ms", fmt.Sprintf("KPUSH_GIVE_UP_IN_A_ROW=%d", bound))
	for round := 1; round <= 2; round++ {
		gone := round*bound + round - 1
		notes(t, sc, "nothing more is given up")
		notes(t, sc, "messages are blocked")
		if n := len(skipped(t, sc)); n != gone {
			t.Errorf("%d messages are given up before skip %d, want %d.", n, round, gone)
		}
		sc.Signal(t, syscall.SIGUSR1)
		rig.Within(t, patience, "more messages that are given up", func() bool { return len(skipped(t, sc)) == gone+1+bound })
	}
	sc.Shut(t, 10*time.Second)
}

// TestAServiceThatStandsStillSkipsNothing: three messages without an answer in a row are no fault of theirs.
func TestAServiceThatStandsStillSkipsNothing(t *testing.T) {
	t.Parallel()
	const still = 8 * time.Second
	for name, env := range map[string][]string{
		"three attempts": {"KPUSH_RETRY_NUMS=3"}, "one attempt": {"KPUSH_RETRY_NUMS=1"}, "batches": {"KPUSH_RETRY_NUMS=2", "KPUSH_BATCH_SIZE=5"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, svc := kafka(t), service(t)
			topic := k.Topic(t, 8)
			produced := k.ProduceEvenly(t, topic, 8, 200, 100)
			sc := sidecar(t, k, topic, svc, append(env, "KPUSH_CAN_SKIP=true", "KPUSH_EXEC_TIMEOUT=1s", "KPUSH_RETRY_INTERVAL=200ms")...)
			svc.Await(t, 200, patience)
			svc.Rule(func(*rig.Request) rig.Action { return rig.Action{Break: rig.Hang} })
			produced = append(produced, k.ProduceEvenly(t, topic, 8, 400, 100)...)
			notes(t, sc, "the service is down", "no answer within KPUSH_EXEC_TIMEOUT")
			time.Sleep(still)
			svc.Rule(nil)
			svc.Await(t, len(produced), patience)
			sc.Shut(t, 10*time.Second)
			svc.Judge(produced).Kept(t, 0)
			committedIsEnd(t, k, topic)
			if log := skipped(t, sc); len(log) > 0 {
				t.Errorf("%d messages were skipped although the service stood still.", len(log))
			}
		})
	}
}

// TestAMessageThatHangsAloneIsGivenUp, for others are answered meanwhile.
func TestAMessageThatHangsAloneIsGivenUp(t *testing.T) {
	t.Parallel()
	k, svc := kafka(t), service(t)
	svc.Rule(func(r *rig.Request) rig.Action {
		if r.Partition < 3 && r.Offset == 5 {
			return rig.Action{Break: rig.Hang}
		}
		return rig.Action{Delay: 20 * time.Millisecond}
	})
	topic := k.Topic(t, 4)
	produced := k.ProduceEvenly(t, topic, 4, 800, 100)
	sc := sidecar(t, k, topic, svc, "KPUSH_CAN_SKIP=true", "KPUSH_RETRY_NUMS=2", "KPUSH_EXEC_TIMEOUT=300ms", "KPUSH_RETRY_INTERVAL=50ms")
	svc.Await(t, len(produced)-3, patience)
	rig.Within(t, patience, "three messages that are given up", func() bool { return len(skipped(t, sc)) == 3 })
	sc.Shut(t, 10*time.Second)
	committedIsEnd(t, k, topic)
	for _, p := range []int32{0, 1, 2} {
		attempts := 0
		for _, r := range svc.Requests() {
			if r.Partition == p && r.Offset == 5 {
				attempts++
			}
		}
		if attempts != 2 {
			t.Errorf("%d/5 was tried %d times, RETRY_NUMS is 2.", p, attempts)
		}
	}
}

// TestMessagesThatHangHaveNotTheOnlyTurn: what has failed and what is new alternate.
func TestMessagesThatHangHaveNotTheOnlyTurn(t *testing.T) {
	t.Parallel()
	k, svc := kafka(t), service(t)
	svc.Rule(func(r *rig.Request) rig.Action {
		if r.Partition < 2 {
			return rig.Action{Break: rig.Hang}
		}
		return rig.Action{}
	})
	topic := k.Topic(t, 4)
	k.ProduceEvenly(t, topic, 4, 40, 100)
	sc := sidecar(t, k, topic, svc, "KPUSH_CONCURRENCY=1", "KPUSH_EXEC_TIMEOUT=300ms", "KPUSH_RETRY_INTERVAL=10ms")
	svc.Await(t, 20, patience)
	svc.Rule(nil)
	svc.Await(t, 40, patience)
	sc.Shut(t, 10*time.Second)
	committedIsEnd(t, k, topic)
}
