package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// poison fails one offset of every partition for ever.
func poison(offset int64) func(*rig.Request) rig.Action {
	return func(r *rig.Request) rig.Action {
		if r.Offset == offset {
			return rig.Action{Status: 500}
		}
		return rig.Action{}
	}
}

// skipped reads the skip log on the volume.
func skipped(t *testing.T, sc *rig.Sidecar) []map[string]any {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(sc.Volume, "*skip*"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []map[string]any
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var entry map[string]any
			if err := json.Unmarshal([]byte(line), &entry); err != nil {
				t.Fatalf("The skip log has a line that is not JSON: %v", err)
			}
			lines = append(lines, entry)
		}
	}
	return lines
}

// TestAStuckMessageIsSaidOnceAndSkippedBySIGUSR1 also holds the retry interval and the other partition against it.
func TestAStuckMessageIsSaidOnceAndSkippedBySIGUSR1(t *testing.T) {
	const interval = 100 * time.Millisecond
	k, svc := kafka(t), service(t)
	svc.Rule(func(r *rig.Request) rig.Action {
		if r.Partition == 0 {
			return poison(5)(r)
		}
		return rig.Action{}
	})
	topic := k.Topic(t, 2)
	k.ProduceEvenly(t, topic, 2, 100, 20)
	sc := sidecar(t, k, topic, svc, "KPUSH_RETRY_INTERVAL=100ms")
	stuck := func() (attempts []*rig.Request) {
		for _, r := range svc.Requests() {
			if r.Partition == 0 && r.Offset == 5 {
				attempts = append(attempts, r)
			}
		}
		return attempts
	}
	rig.Within(t, patience, "the 15th attempt of the stuck message", func() bool { return len(stuck()) >= 15 })
	if got := svc.Delivered(); got != 55 {
		t.Errorf("%d messages are delivered while 0/5 is stuck, want 5 of its partition and 50 of the other.", got)
	}
	said := 0
	for _, line := range sc.Find("blocked") {
		if strings.Contains(line.Text, `"offset":5`) {
			said++
		}
	}
	if said != 1 {
		t.Errorf("The stuck message was called blocked %d times in the log, want once.", said)
	}
	waits := make([]time.Duration, 0, 15)
	for i, r := range stuck() {
		if r.Attempt != i+1 {
			t.Errorf("%s is the request number %d of its message.", r, i+1)
		}
		if i > 0 {
			waits = append(waits, r.Start.Sub(stuck()[i-1].End))
			if wait := waits[i-1]; wait < interval-10*time.Millisecond {
				t.Errorf("Attempt %d came %v after the end of the one before, the interval is %v.", i+1, wait, interval)
			}
		}
	}
	sc.Signal(t, syscall.SIGUSR1)
	svc.Await(t, 99, patience)
	sc.Shut(t, 10*time.Second)
	committedIsEnd(t, k, topic)
	if log := skipped(t, sc); len(log) != 1 || log[0]["offset"] != 5.0 || log[0]["topic"] != topic || log[0]["value"] == nil {
		t.Errorf("The skip log holds %v, want the whole message 0/5.", log)
	}
	t.Logf("A stuck message was tried every %s (interval %v), said once, and skipped.", spread(waits), interval)
}

// TestAStuckPartitionStarvesNobody, although what waits behind its message is far more than KPUSH_BUFFER.
func TestAStuckPartitionStarvesNobody(t *testing.T) {
	const bound = 2 * time.Second
	k, svc := kafka(t), service(t)
	svc.Rule(func(r *rig.Request) rig.Action {
		if r.Partition == 0 {
			return poison(0)(r)
		}
		return rig.Action{}
	})
	topic := k.Topic(t, 2)
	k.ProduceEvenly(t, topic, 1, 5_000, 1_000)
	sc := sidecar(t, k, topic, svc, "KPUSH_BUFFER=1MiB")
	rig.Within(t, patience, "the 30th attempt of the stuck message", func() bool { return svc.Attempts() >= 30 })
	var waits []time.Duration
	for i := range 5 {
		begin := time.Now()
		k.Produce(t, topic, rig.Record{Partition: 1, Value: []byte("from somebody else")})
		svc.Await(t, i+1, patience)
		waits = append(waits, time.Since(begin))
		below(t, "A message of the other partition", begin, waits[i], bound)
	}
	svc.Rule(nil)
	svc.Await(t, 5_005, patience)
	sc.Shut(t, 10*time.Second)
	committedIsEnd(t, k, topic)
	t.Logf("Behind a stuck message wait 5 MB with a buffer of 1 MiB: messages of the other partition took %s (bound %v).", spread(waits), bound)
}

// TestAStuckGroupDisturbsNobody: two groups, each with the same two topics and a service of its own. A message of one keeps failing: the other
// topic, the other partition and the other group go on. Killed, and crashed, while it is stuck, it is stuck there again, goes on
// counting its attempts, and loses nothing.
func TestAStuckGroupDisturbsNobody(t *testing.T) {
	t.Parallel()
	const partitions, count, at = 2, 50, 5
	k, ill, well := kafka(t), service(t), service(t)
	orders, invoices := k.Topic(t, partitions), k.Topic(t, partitions)
	ill.Rule(func(r *rig.Request) rig.Action {
		if r.Topic == orders && r.Partition == 0 {
			return poison(at)(r)
		}
		return rig.Action{}
	})
	produced := append(k.Produce(t, orders, numbered("order", partitions, count)...), k.Produce(t, invoices, numbered("invoice", partitions, count)...)...)
	topics := "KPUSH_TOPIC=" + orders + "," + invoices
	stuck := sidecar(t, k, orders, ill, topics)
	other := sidecar(t, k, orders, well, topics, "KPUSH_GROUP="+invoices)
	hears(t, well, 0, produced)
	attempts := 0
	for _, end := range []func(){
		func() { stuck.Kill() },
		func() { stuck.Signal(t, syscall.SIGSEGV); stuck.Wait(t, 2, patience) }, // how Go ends by one
		func() {},
	} {
		since := attempts
		rig.Within(t, patience, "three more attempts of the message, and all else", func() bool {
			for _, r := range ill.Requests() {
				if r.Topic == orders && r.Partition == 0 && r.Offset == at {
					attempts = max(attempts, r.Attempt)
				}
			}
			return attempts >= since+3 && ill.Delivered() == 2*count-(count/partitions-at)
		})
		if end(); !stuck.Alive() {
			ill.Orphaned(t)
			stuck.Start(t)
		}
	}
	newest := 0
	for _, r := range ill.Requests() {
		if r.Topic != orders || r.Partition != 0 || r.Offset != at {
			continue
		}
		if r.Attempt <= newest {
			t.Errorf("%s comes behind attempt %d.", r, newest)
		}
		newest = r.Attempt
	}
	ill.Rule(nil)
	hears(t, ill, 0, produced)
	stuck.Shut(t, 10*time.Second)
	other.Shut(t, 10*time.Second)
	ill.Judge(produced).Kept(t, 2*concurrency)
	well.Judge(produced).Kept(t, 0)
	committedIsEnd(t, k, orders)
}

func TestAMessageIsGivenUpAfterItsRetries(t *testing.T) {
	k, svc := kafka(t), service(t)
	svc.Rule(poison(3))
	topic := k.Topic(t, 2)
	produced := k.ProduceEvenly(t, topic, 2, 20, 20)
	sc := sidecar(t, k, topic, svc, "KPUSH_CAN_SKIP=true", "KPUSH_RETRY_NUMS=2", "KPUSH_RETRY_INTERVAL=10ms")
	svc.Await(t, 18, patience)
	sc.Shut(t, 10*time.Second)
	committedIsEnd(t, k, topic)
	if svc.Attempts() != 18+2*2 {
		t.Errorf("%d requests were made, want 18, and RETRY_NUMS=2 for each of the two messages that fail.", svc.Attempts())
	}
	if log := skipped(t, sc); len(log) != 2 {
		t.Errorf("The skip log holds %d messages, want 2: %v", len(log), log)
	}
	if v := svc.Judge(produced); len(v.Lost) != 2 || len(v.Disorder)+len(v.Overlap)+len(v.Altered)+len(v.Repeats) > 0 {
		t.Errorf("%s", v)
	}
}

func TestAServiceThatIsDownSkipsNothing(t *testing.T) {
	k, svc := kafka(t), service(t)
	topic := k.Topic(t, 2)
	svc.Down()
	produced := k.ProduceEvenly(t, topic, 2, 40, 20)
	sc := sidecar(t, k, topic, svc, "KPUSH_CAN_SKIP=true", "KPUSH_RETRY_NUMS=1", "KPUSH_RETRY_INTERVAL=20ms")
	sc.Ready(t, patience)
	rig.Within(t, patience, "a line about the service that cannot be reached", func() bool { return len(sc.Find("service")) > 0 })
	svc.Up(t)
	svc.Rule(rig.First(20, rig.Action{Status: 503}, rig.First(20, rig.Action{Status: 302, Header: map[string]string{"Location": "/elsewhere"}}, nil)))
	svc.Await(t, 40, patience)
	sc.Shut(t, 10*time.Second)
	svc.Judge(produced).Kept(t, 0)
	committedIsEnd(t, k, topic)
	if log := skipped(t, sc); len(log) != 0 {
		t.Errorf("The skip log holds %v after faults of the service.", log)
	}
}

// TestAServiceDownForThreePollIntervals costs no membership: the group stands as it was, and the first delivery
// comes within one retry interval after the service is back.
func TestAServiceDownForThreePollIntervals(t *testing.T) {
	t.Parallel()
	const interval, poll = 500 * time.Millisecond, 2 * time.Second
	k, svc := rig.Own(t, 1), service(t) // another broker need not allow so short a session
	topic := k.Topic(t, 8)
	produced := k.ProduceEvenly(t, topic, 8, 4_000, 1_000)
	svc.Rule(rig.Slow(2 * time.Millisecond))
	sc := sidecar(t, k, topic, svc, "KPUSH_RETRY_INTERVAL=500ms", "KPUSH_BUFFER=1MiB",
		"KPUSH_CONSUMER_CONF=max.poll.interval.ms=2000;session.timeout.ms=2000")
	svc.Await(t, 400, patience)
	before := k.Describe(t, topic)
	svc.Down()
	rig.Throughout(t, 3*poll, func() error {
		now := k.Describe(t, topic)
		if now.State != "Stable" || !maps.Equal(now.Members, before.Members) {
			return fmt.Errorf("the group is %+v; it was %+v", now, before)
		}
		return nil
	})
	produced = append(produced, k.ProduceEvenly(t, topic, 8, 80, 100)...)
	svc.Up(t)
	back := time.Now()
	next := svc.Next(t, back, patience)
	svc.Await(t, len(produced), patience)
	if lines := append(sc.Find("partitions given up"), sc.Find("partitions lost")...); len(lines) > 0 {
		t.Errorf("The outage of the service cost partitions: %s", lines[0].Text)
	}
	sc.Shut(t, 10*time.Second)
	svc.Judge(produced).Kept(t, 0)
	committedIsEnd(t, k, topic)
	below(t, "The first delivery after the service was back", back, next, interval+100*time.Millisecond)
	t.Logf("Service down for %v with max.poll.interval %v: no rebalance, 0 lost, next delivery after %v (retry interval %v).", 3*poll, poll, next.Round(time.Millisecond), interval)
}
