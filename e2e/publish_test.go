package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kpush/kpush/e2e/rig"
)

// publishOnly starts kpush without a topic, and waits for its door.
func publishOnly(t *testing.T, k *rig.Kafka, env ...string) *rig.Sidecar {
	t.Helper()
	sc := rig.StartSidecar(t, append([]string{"KPUSH_BROKERS=" + k.Brokers}, env...)...)
	rig.Within(t, patience, "the address of the API", func() bool { return sc.API() != "" })
	return sc
}

var publishing = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 200, MaxIdleConns: 200}}

// publish asks the door; headers are name, value, ….
func publish(sc *rig.Sidecar, path, body string, headers ...string) (code int, answer map[string]any, err error) {
	r, err := http.NewRequest("POST", "http://"+sc.API()+"/topics/"+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	for pair := range slices.Chunk(headers, 2) {
		r.Header[pair[0]] = append(r.Header[pair[0]], pair[1])
	}
	w, err := publishing.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer w.Body.Close()
	text, err := io.ReadAll(w.Body)
	if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	return w.StatusCode, answer, err
}

// contents is the topic as it is, of each partition.
func contents(t *testing.T, k *rig.Kafka, topic string) map[int32][]*kgo.Record {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(k.Brokers, ",")...), kgo.ConsumeTopics(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	left := 0
	for _, end := range k.EndOffsets(t, topic) {
		left += int(end)
	}
	ctx, end := context.WithTimeout(t.Context(), 30*time.Second)
	defer end()
	all := map[int32][]*kgo.Record{}
	for left > 0 {
		got := c.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d records of %s do not come", left, topic)
		}
		got.EachRecord(func(r *kgo.Record) { all[r.Partition] = append(all[r.Partition], r); left-- })
	}
	return all
}

// TestPublishByManyCallers: a hundred at once, sync and async, keyed. Each record that was acknowledged is there once, in the order of
// its caller, where the answer says, and where Java would have put it.
func TestPublishByManyCallers(t *testing.T) {
	t.Parallel()
	const callers, each, partitions = 100, 40, 6
	k := kafka(t)
	topic := k.Topic(t, partitions)
	sc := publishOnly(t, k)
	var all sync.WaitGroup
	var at sync.Map // value → partition/offset, of those that waited
	for caller := range callers {
		all.Go(func() {
			for n := range each {
				value, query := fmt.Sprintf("%d/%d", caller, n), ""
				if n%2 == 1 {
					query = "?async=true"
				}
				code, answer, err := publish(sc, topic+query, value, "Kafka-Key", fmt.Sprintf("caller-%d", caller))
				switch {
				case err != nil || code != 200 && query == "" || code != 202 && query != "":
					t.Errorf("%s: %d %v %v", value, code, answer, err)
				case query == "":
					at.Store(value, fmt.Sprintf("%v/%v", answer["partition"], answer["offset"]))
				}
			}
		})
	}
	all.Wait()
	sc.Shut(t, 10*time.Second)
	next, java, found := map[string]int{}, kgo.StickyKeyPartitioner(nil).ForTopic(topic), 0
	for partition, records := range contents(t, k, topic) {
		for _, r := range records {
			found++
			inTurn(t, next, r.Value)
			if want := java.Partition(&kgo.Record{Key: r.Key}, partitions); want != int(partition) {
				t.Errorf("The key %s is in partition %d; Java has it in %d.", r.Key, partition, want)
			}
			if said, ok := at.LoadAndDelete(string(r.Value)); ok && said != fmt.Sprintf("%d/%d", partition, r.Offset) {
				t.Errorf("%s is at %d/%d, and was answered %v.", r.Value, partition, r.Offset, said)
			}
		}
	}
	if found != callers*each {
		t.Errorf("%d records are there, %d were answered.", found, callers*each)
	}
}

// TestPublishThroughAnOutage: the broker is frozen, then killed and brought back under 50 callers who wait, and one who does not. No
// 200 is missing in the topic, nobody waits longer than the delivery timeout and a second, and what is queued arrives in order.
func TestPublishThroughAnOutage(t *testing.T) {
	t.Parallel()
	const timeout, callers = 4 * time.Second, 50
	k := rig.Own(t, 1)
	topic, queued := k.Topic(t, 4), k.Topic(t, 4)
	sc := publishOnly(t, k, fmt.Sprintf("KPUSH_PRODUCER_CONF=delivery.timeout.ms=%d", timeout.Milliseconds()))
	patient := publishOnly(t, k, "KPUSH_PRODUCER_CONF=delivery.timeout.ms=60000")
	var all sync.WaitGroup
	var over atomic.Bool
	var acked sync.Map
	var good, bad, longest atomic.Int64
	codes := sync.Map{}
	for caller := range callers {
		all.Go(func() {
			for n := 0; !over.Load(); n++ {
				begin, value := time.Now(), fmt.Sprintf("%d/%d", caller, n)
				code, answer, err := publish(sc, topic, value, "Kafka-Key", fmt.Sprint(caller))
				took := time.Since(begin)
				if took > timeout+time.Second {
					t.Errorf("A caller waited %v for %d %v %v.", took, code, answer, err)
				}
				longest.Store(max(longest.Load(), int64(took)))
				if err != nil {
					t.Errorf("%v", err)
				}
				codes.Store(code, true)
				switch code {
				case 200:
					good.Add(1)
					acked.Store(value, fmt.Sprintf("%v/%v", answer["partition"], answer["offset"]))
				case 429, 503, 504:
					bad.Add(1)
					time.Sleep(10 * time.Millisecond)
				default:
					t.Errorf("%d %v", code, answer)
				}
			}
		})
	}
	sent := 0
	all.Go(func() {
		for ; !over.Load(); sent++ {
			if code, answer, err := publish(patient, queued+"?async=true&key=k", fmt.Sprint(sent)); code != 202 {
				t.Errorf("%d %v %v", code, answer, err)
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	flows := func(what string) {
		t.Helper()
		from, begin := good.Load(), time.Now()
		rig.Within(t, patience, what, func() bool { return good.Load() > from+100 })
		t.Logf("%s after %v", what, time.Since(begin).Round(time.Millisecond))
	}
	flows("records before the outage")
	k.Pause(t)
	time.Sleep(timeout + 3*time.Second)
	k.Cont(t)
	flows("records after the frost")
	k.Kill(t)
	time.Sleep(timeout + 3*time.Second)
	if notes := fmt.Sprint(patient.Ask("/readyz").Notes); !strings.Contains(notes, "no acknowledgement from Kafka") {
		t.Errorf("/readyz notes %s", notes)
	}
	k.Start(t)
	flows("records after the kill")
	over.Store(true)
	all.Wait()
	sc.Shut(t, 10*time.Second)
	patient.Shut(t, 20*time.Second)
	for partition, records := range contents(t, k, topic) {
		for _, r := range records {
			if said, ok := acked.LoadAndDelete(string(r.Value)); ok && said != fmt.Sprintf("%d/%d", partition, r.Offset) {
				t.Errorf("%s is at %d/%d, and was answered %v.", r.Value, partition, r.Offset, said)
			}
		}
	}
	acked.Range(func(value, at any) bool { t.Errorf("%s was answered 200, and is not there.", value); return true })
	n := 0
	for _, records := range contents(t, k, queued) {
		for _, r := range records {
			if string(r.Value) != fmt.Sprint(n) {
				t.Fatalf("Of what was queued comes %s where %d was due.", r.Value, n)
			}
			n++
		}
	}
	if n != sent {
		t.Errorf("%d of %d that were queued are there.", n, sent)
	}
	t.Logf("%d acknowledged, %d refused, the longest wait %v of %v; %d queued, all there in order", good.Load(), bad.Load(), time.Duration(longest.Load()).Round(time.Millisecond), timeout, n)
}

// TestPublishOnly: no topic, no group, no volume; every refusal has its status, and a topic is never created by asking.
func TestPublishOnly(t *testing.T) {
	t.Parallel()
	k := rig.Own(t, 1, "auto.create.topics.enable=true")
	topic := k.Topic(t, 3, "max.message.bytes=100000")
	compacted := k.Topic(t, 1, "cleanup.policy=compact")
	sc := publishOnly(t, k, "KPUSH_OFFSETS_DIR=/nowhere", fmt.Sprintf("KPUSH_PUBLISH_TOPICS=%s,%s,nothing*", topic, compacted))
	for _, path := range []string{"/healthz", "/readyz"} {
		if a := sc.Ask(path); a.Code != 200 || !strings.Contains(fmt.Sprint(a.Notes), "publish only") {
			t.Errorf("%s: %d %q %q", path, a.Code, a.Why, a.Notes)
		}
	}
	records := []string{"Content-Type", "application/vnd.kafka.json.v2+json"}
	for _, row := range []struct {
		path, body string
		headers    []string
		code       int
		holds      string
	}{
		{topic + "?partition=2", "v", nil, 200, "partition:2"},
		{topic, strings.Repeat("v", 200_000), nil, 413, "error_code:413"},
		{topic, strings.Repeat("v", 9<<20), nil, 413, "error_code:413"},
		{topic + "?partition=3", "v", nil, 404, "error_code:40402"},
		{compacted, "v", nil, 400, "error_code:400"},
		{compacted + "?key=k", "v", nil, 200, "offset:0"},
		{"nothing", "v", nil, 404, "error_code:40401"},
		{"nothing-either?async=true", "v", nil, 404, "error_code:40401"},
		{"secret", "v", nil, 403, "error_code:403"},
		{topic, `{"records":[{"value":1},{"value":2,"partition":9}]}`, records, 207, "error_code:40402"},
		{topic, `{"records":[{"key":"k","value":{"a":1}}]}`, records, 200, "offsets:[map["},
	} {
		begin := time.Now()
		code, answer, err := publish(sc, row.path, row.body, row.headers...)
		if code != row.code || !strings.Contains(fmt.Sprint(answer), row.holds) || time.Since(begin) > 2*time.Second {
			t.Errorf("%s, %d bytes: %d %v %v after %v", row.path, len(row.body), code, answer, err, time.Since(begin))
		}
	}
	if answer := sc.Call(t, 200, "GET", "/topics/"+topic, ""); len(answer["partitions"].([]any)) != 3 {
		t.Errorf("GET of the topic: %v", answer)
	}
	sc.Call(t, 404, "GET", "/topics/nothing", "")
	sc.Call(t, 409, "POST", "/pause", "{}")
	if status := sc.Call(t, 200, "GET", "/status", ""); status["state"] != "running" || status["ready"] != true || !strings.HasPrefix(fmt.Sprint(status["publish"]),
		"map[failed:2 failedBy:map[invalid:1 too_large:1] queued:0 refused:map[400:1 403:1 404:4 413:2] sent:4 spooled:0 ") {
		t.Errorf("the status: %v", status)
	}
	sc.Shut(t, 5*time.Second)
	if there := k.Tool(t, "org.apache.kafka.tools.TopicCommand", "--list"); strings.Contains(there, "nothing") {
		t.Errorf("a topic was created by asking: %s", there)
	}
}

// TestPublishAndStop: a stop sends what was queued; what it cannot send is counted, and said by exit code 1.
func TestPublishAndStop(t *testing.T) {
	t.Parallel()
	k := rig.Own(t, 1)
	topic := k.Topic(t, 2)
	sc := publishOnly(t, k, "KPUSH_DRAIN_TIMEOUT=2s", "KPUSH_PRODUCER_CONF=delivery.timeout.ms=60000;linger.ms=30000")
	for n := range 2000 {
		if code, answer, err := publish(sc, topic+"?async=true", fmt.Sprint(n)); code != 202 {
			t.Fatalf("%d %v %v", code, answer, err)
		}
	}
	sc.Shut(t, 2*time.Second)
	n := 0
	for _, records := range contents(t, k, topic) {
		n += len(records)
	}
	if n != 2000 {
		t.Errorf("%d of 2000 are there.", n)
	}
	sc.Start(t)
	rig.Within(t, patience, "the address of the API", func() bool { return sc.API() != "" })
	sc.Call(t, 200, "GET", "/topics/"+topic, "") // so that it is known
	k.Pause(t)
	defer k.Cont(t)
	for range 7 {
		publish(sc, topic+"?async=true", "x")
	}
	waits := make(chan int, 1)
	go func() { code, _, _ := publish(sc, topic, "y"); waits <- code }()
	time.Sleep(100 * time.Millisecond)
	sc.Term(t)
	rig.Within(t, time.Second, "503 while it stops", func() bool { code, _, _ := publish(sc, topic+"?wrong", ""); return code == 503 })
	sc.Wait(t, 1, 3*time.Second)
	if tail := sc.Tail(10); !strings.Contains(tail, "8 published records were not acknowledged by Kafka") {
		t.Errorf("the log does not count them: %s", tail)
	}
	if code := <-waits; code/100 == 2 {
		t.Errorf("who waited is answered %d", code)
	}
}

// inTurn wants a value, CALLER/NUMBER, to be the one that is due of its caller.
func inTurn(t *testing.T, next map[string]int, value []byte) {
	t.Helper()
	caller, number, _ := strings.Cut(string(value), "/")
	if number != fmt.Sprint(next[caller]) {
		t.Errorf("Of caller %s came %s where %d was due.", caller, number, next[caller])
	}
	next[caller]++
}
