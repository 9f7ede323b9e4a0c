package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// batched is a sidecar that sends up to a hundred messages in a request.
func batched(t *testing.T, k *rig.Kafka, topic string, svc *rig.Service, order string) *rig.Sidecar {
	t.Helper()
	svc.Order = order
	return sidecar(t, k, topic, svc, "KPUSH_BATCH_SIZE=100", "KPUSH_ORDER="+order, "KPUSH_RETRY_INTERVAL=20ms")
}

// mixed are messages of which every kind of value, key and header is one.
func mixed(count int) []rig.Record {
	records := keyed(count)
	for i := range records {
		switch r := &records[i]; i % 10 {
		case 1:
			r.Value = fmt.Appendf(nil, "order %d: \"quoted\" \x01 äöü\n", i)
		case 2:
			r.Value = []byte{0xff, byte(i), 0}
		case 3:
			r.Value = []byte{}
		case 4:
			r.Value = nil
		case 5:
			r.Key, r.Headers = nil, nil
		case 6:
			r.Headers = append(r.Headers, rig.Header{Name: "null"}, rig.Header{Name: "source", Value: []byte("again")})
		}
	}
	return records
}

// sizes are how many batches there were, and how many messages they held on average.
func sizes(svc *rig.Service) (batches int, average float64) {
	requests := svc.Requests()
	for _, r := range requests {
		batches = max(batches, r.Batch)
	}
	return batches, float64(len(requests)) / float64(max(1, batches))
}

// TestBatches: every tenth message of a batch fails by name, some requests fail whole, some break; each message arrives once,
// in its order and unaltered.
func TestBatches(t *testing.T) {
	t.Parallel()
	const partitions, count = 8, 20_000
	for _, order := range []string{"partition", "key", "none"} {
		k, svc := kafka(t), service(t)
		svc.Rule(rig.Every(10, rig.Action{Named: true}, rig.Every(3001, rig.Action{Status: 500}, rig.Every(2001, rig.Action{Break: rig.AfterRead},
			rig.Every(1001, rig.Action{Status: 503}, rig.Slow(2*time.Millisecond))))))
		topic := k.Topic(t, partitions)
		produced := k.Produce(t, topic, mixed(count)...)
		sc := batched(t, k, topic, svc, order)
		took := svc.Await(t, count, patience)
		sc.Shut(t, 10*time.Second)
		svc.Judge(produced).Kept(t, 0)
		committedIsEnd(t, k, topic)
		batches, average := sizes(svc)
		if batches == 0 || average < 20 {
			t.Errorf("Order %s: %d batches held %.1f messages on average.", order, batches, average)
		}
		t.Logf("Order %s: %d messages, every tenth of a batch failed by name, others with their whole batch: %d batches of %.1f on average, %v.",
			order, count, batches, average, took.Round(time.Millisecond))
	}
}

// TestBatchKills: what was in flight at a kill -9 comes again, flagged, and nothing else.
func TestBatchKills(t *testing.T) {
	t.Parallel()
	const partitions, count, kills, bound = 8, 20_000, 5, concurrency * 100
	for _, order := range []string{"partition", "key", "none"} {
		k, svc := kafka(t), service(t)
		svc.Rule(rig.Every(50, rig.Action{Named: true}, rig.Slow(20*time.Millisecond)))
		topic := k.Topic(t, partitions)
		produced := k.Produce(t, topic, mixed(count)...)
		sc := batched(t, k, topic, svc, order)
		var killed []time.Time
		for kill := range kills {
			svc.Await(t, max(svc.Delivered()+500, 1_000+kill*(count-4_000)/kills), patience)
			sc.Kill()
			killed = append(killed, svc.Orphaned(t))
			sc.Start(t)
		}
		svc.Await(t, count, patience)
		sc.Shut(t, 10*time.Second)
		verdict := svc.Judge(produced)
		verdict.Kept(t, kills*bound)
		verdict.Rare(t, 2*bound*kills)
		most := svc.Bounded(t, killed, bound, 2*bound)
		committedIsEnd(t, k, topic)
		t.Logf("Order %s: %d kills -9 over %d messages in batches of 100: %d repeats (at most %d a kill, bound %d), all flagged, %d flagged needlessly.",
			order, kills, count, len(verdict.Repeats), most.Repeats, bound, len(verdict.Needless))
	}
}

// TestBatchesAreFaster than single messages where the service takes its time for each request.
func TestBatchesAreFaster(t *testing.T) {
	const partitions, least = 8, 10.0
	rate := map[string]float64{}
	for _, run := range []struct {
		size  string
		count int
	}{{"1", 4_000}, {"100", 60_000}} {
		k, svc := kafka(t), service(t)
		svc.Rule(rig.Slow(5 * time.Millisecond))
		topic := k.Topic(t, partitions)
		produced := k.ProduceEvenly(t, topic, partitions, run.count, 100)
		sc := sidecar(t, k, topic, svc, "KPUSH_BATCH_SIZE="+run.size)
		svc.Await(t, run.count/10, patience)
		begin, from := time.Now(), svc.Delivered()
		svc.Await(t, run.count*9/10, patience)
		rate[run.size] = float64(svc.Delivered()-from) / time.Since(begin).Seconds()
		svc.Await(t, run.count, patience)
		sc.Shut(t, 10*time.Second)
		svc.Judge(produced).Kept(t, 0)
		committedIsEnd(t, k, topic)
	}
	ratio := rate["100"] / rate["1"]
	if ratio < least {
		rig.Missed(t, "Batches of 100 brought %.1f times the messages a second, the bound is %.0f.", ratio, least)
	}
	t.Logf("%d partitions in order, 5 ms service: %.0f/s one by one, %.0f/s in batches of 100, %.1f times as many.", partitions, rate["1"], rate["100"], ratio)
}

// TestAnAnswerThatCannotBeRead says nothing of any message of its batch: the named one might be among them.
func TestAnAnswerThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for _, coding := range []string{"gzip", "deflate", "utf-16"} {
		k, svc := kafka(t), service(t)
		svc.Rule(func(r *rig.Request) rig.Action {
			return rig.Action{Coding: map[bool]string{true: coding}[r.Attempt <= 2], Named: r.Offset%10 == 7 && r.Attempt <= 3}
		})
		topic := k.Topic(t, 2)
		produced := k.Produce(t, topic, keyed(200)...)
		sc := sidecar(t, k, topic, svc, "KPUSH_BATCH_SIZE=10", "KPUSH_RETRY_INTERVAL=10ms")
		svc.Await(t, 200, patience)
		noLag(t, k, topic) // the service has taken some of which kpush could not read it
		sc.Shut(t, 10*time.Second)
		committedIsEnd(t, k, topic)
		v := svc.Judge(produced)
		if len(v.Lost)+len(v.Altered) > 0 {
			t.Errorf("%s: %s", coding, v)
		}
		named, least := 0, map[int64]int{}
		for _, r := range svc.Requests() {
			if r.Offset%10 == 7 {
				named++
				least[r.Offset] = max(least[r.Offset], r.Attempt)
			}
			if r.Encoding != "identity" {
				t.Fatalf("%s: a request asks for the encoding %q.", coding, r.Encoding)
			}
		}
		for offset, attempts := range least {
			if attempts < 4 {
				t.Errorf("%s: message %d was named in three answers, and tried %d times.", coding, offset, attempts)
			}
		}
		t.Logf("Answers in %s: %d requests with a message that is named, none taken for delivered.", coding, named)
	}
}
