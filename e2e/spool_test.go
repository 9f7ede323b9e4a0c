package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// TestPublishSpool: what is answered with 202 while the broker is away outlives kill -9 and a stop, is sent when the broker is back, also by a
// process whose spool is turned off, and arrives once and in order per key. What Kafka does not take is kept, and stops nothing.
func TestPublishSpool(t *testing.T) {
	t.Parallel()
	const callers, each = 20, 10
	k := rig.Own(t, 1)
	topic := k.Topic(t, 3, "max.message.bytes=20000")
	sc := publishOnly(t, k, "KPUSH_PUBLISH_SPOOL=16MiB", "KPUSH_PRODUCER_CONF=delivery.timeout.ms=2000")
	started := func() {
		t.Helper()
		sc.Start(t)
		rig.Within(t, patience, "the address of the API", func() bool { return sc.API() != "" })
	}
	sent := 0
	publishAll := func(durable bool) {
		t.Helper()
		var all sync.WaitGroup
		for caller := range callers {
			all.Go(func() {
				for n := sent; n < sent+each; n++ {
					code, answer, err := publish(sc, topic+"?async=true", fmt.Sprintf("%d/%d", caller, n), "Kafka-Key", fmt.Sprintf("caller-%d", caller))
					if code != 202 || answer["durable"] != durable {
						t.Errorf("%d/%d: %d %v %v", caller, n, code, answer, err)
					}
				}
			})
		}
		all.Wait()
		sent += each
	}
	refused := func(want int, last string) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(sc.Volume, "spool", "refused.jsonl"))
		if lines := strings.Split(string(text), "\n"); err != nil || len(lines) != want+1 || !strings.Contains(lines[want-1], last) {
			t.Errorf("what is refused: %.200s %v", text, err)
		}
	}
	spooled := func() string {
		return fmt.Sprint(sc.Call(t, 200, "GET", "/status", "")["publish"].(map[string]any)["spooled"])
	}

	if code, answer, err := publish(sc, "nothing?async=true", "v"); code != 404 {
		t.Errorf("a topic that is not there: %d %v %v", code, answer, err)
	}
	publishAll(true)
	narrow := k.Topic(t, 2)
	if code, answer, err := publish(sc, narrow+"?async=true", "v"); code != 202 {
		t.Errorf("into another topic: %d %v %v", code, answer, err)
	}
	if code, answer, err := publish(sc, topic+"?async=true&key=caller-0", strings.Repeat("x", 30_000)); code != 202 {
		t.Errorf("a record too large for the topic: %d %v %v", code, answer, err)
	}
	rig.Within(t, patience, "an empty spool", func() bool { return spooled() == "0" })
	refused(1, "larger than the broker or topic allows")
	if failed := fmt.Sprint(sc.Call(t, 200, "GET", "/status", "")["publish"].(map[string]any)["failed"]); failed != "1" {
		t.Errorf("%s records failed, want 1", failed)
	}

	k.Kill(t)
	publishAll(true)
	other := rig.NewSidecar(t, sc.Volume, "KPUSH_BROKERS="+k.Brokers, "KPUSH_PUBLISH_SPOOL=16MiB")
	if code, out := other.Run(t); code != 2 || !strings.Contains(out, "one process per volume") {
		t.Errorf("a second process on the volume: %d %s", code, out)
	}
	sc.Kill()
	started()
	begin := time.Now()
	publishAll(true) // the topic is known from before
	below(t, "200 records with the broker away", begin, time.Since(begin), 2*time.Second)
	if code, _, _ := publish(sc, topic, "v"); code != 503 {
		t.Errorf("who waits is answered %d", code)
	}
	for _, query := range []string{"partition=1", "partition=0", "key=k"} {
		if code, answer, err := publish(sc, narrow+"?async=true&"+query, "v"); code != 202 {
			t.Errorf("%s, into another topic: %d %v %v", query, code, answer, err)
		}
	}
	if n := fmt.Sprint(2*callers*each + 3); spooled() != n {
		t.Errorf("%s records are in the spool, want %s", spooled(), n)
	}
	if code, out := sc.Run(t, "-offsets", sc.Volume); code != 0 || !strings.Contains(out, fmt.Sprintf("spooled %s: records=%d ", topic, 2*callers*each)) {
		t.Errorf("-offsets: %d %s", code, out)
	}
	sc.Term(t)
	below(t, "a stop with the broker away", time.Now(), sc.Wait(t, 0, 15*time.Second), 6*time.Second)

	sc.Set("KPUSH_PUBLISH_SPOOL=0")
	k.Start(t)
	k.DeleteTopic(t, narrow)
	k = k.Fresh(t)
	k.CreateTopic(t, narrow, 1)
	started()
	rig.Within(t, patience, "an empty spool", func() bool { return spooled() == "0" })
	refused(2, "the topic has no partition 1 any more")
	publishAll(false)
	sc.Shut(t, 10*time.Second)
	next, n := map[string]int{}, 0
	for _, records := range contents(t, k, topic) {
		for _, r := range records {
			n++
			inTurn(t, next, r.Value)
		}
	}
	if n != callers*sent {
		t.Errorf("%d records are there, %d were answered.", n, callers*sent)
	}
}
