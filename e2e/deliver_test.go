package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// troubled fails every 10th request, and now and then hangs or breaks a connection in each way there is.
func troubled() func(*rig.Request) rig.Action {
	rule := rig.Every(10, rig.Action{Status: 500}, nil)
	for i, way := range []rig.Break{rig.Hang, rig.BeforeRead, rig.AfterRead, rig.AfterHeader, rig.Truncate} {
		rule = rig.Every(int64(997+100*i), rig.Action{Break: way}, rule)
	}
	return rule
}

func TestEveryMessageOnceInOrderPastATroubledService(t *testing.T) {
	t.Parallel()
	const count = 20_000
	k, svc := kafka(t), service(t)
	svc.Rule(troubled())
	topic := k.Topic(t, 8)
	produced := k.Produce(t, topic, keyed(count)...)
	sc := sidecar(t, k, topic, svc, "KPUSH_EXEC_TIMEOUT=1s", "KPUSH_RETRY_INTERVAL=5ms")
	took := svc.Await(t, count, patience)
	stop := sc.Shut(t, 10*time.Second)
	verdict := svc.Judge(produced)
	verdict.Kept(t, 0)
	if needless := len(verdict.Needless); needless > 0 {
		t.Errorf("%d requests were called in doubt although nothing was, such as %s.", needless, verdict.Needless[0])
	}
	committedIsEnd(t, k, topic)
	t.Logf("%d messages past a troubled service in %v (%.0f/s), stopped in %v.", count, took.Round(time.Millisecond), count/took.Seconds(), stop.Round(time.Millisecond))
}

// TestEveryMessageOnAnEmbeddedBroker needs nothing from the machine, so that something is always told.
func TestEveryMessageOnAnEmbeddedBroker(t *testing.T) {
	const count = 1_000
	topic := "orders"
	k, svc := rig.Fake(t, 8, topic), service(t)
	svc.Rule(troubled())
	produced := k.Produce(t, topic, keyed(count)...)
	sc := sidecar(t, k, topic, svc, "KPUSH_EXEC_TIMEOUT=1s", "KPUSH_RETRY_INTERVAL=5ms")
	svc.Await(t, count/2, patience)
	sc.Kill()
	sc.Start(t)
	svc.Await(t, count, patience)
	sc.Shut(t, 10*time.Second)
	svc.Judge(produced).Kept(t, 16)
	committedIsEnd(t, k, topic)
}

func TestNoMessageIsUndeliverable(t *testing.T) {
	k, svc := kafka(t), service(t)
	topic := k.Topic(t, 1)
	many := make([]rig.Header, 1_000)
	for i := range many {
		many[i] = rig.Header{Name: fmt.Sprintf("h%d", i), Value: []byte(strings.Repeat("v", 50))}
	}
	value := []byte("v")
	records := []rig.Record{
		{Value: nil, Key: []byte("a tombstone")},
		{Value: []byte{}},
		{Value: []byte{0, 1, 2, 0xff}, Key: []byte{0xff, '\n'}},
		{Value: []byte(strings.Repeat("x", 1_000_000))},
		{Value: value, Headers: []rig.Header{{Name: "bad name", Value: value}, {Name: "", Value: value}, {Name: "ä", Value: value}}},
		{Value: value, Headers: []rig.Header{{Name: "crlf", Value: []byte("a\r\nKafka-Offset: 7")}, {Name: "nul", Value: []byte{0}}}},
		{Value: value, Headers: []rig.Header{{Name: "null", Value: nil}, {Name: "empty", Value: []byte{}}}},
		{Value: value, Headers: []rig.Header{{Name: "space", Value: []byte(" around ")}}},
		{Value: value, Headers: []rig.Header{{Name: "twice", Value: []byte("1")}, {Name: "Twice", Value: []byte("2")}, {Name: "twice", Value: []byte("3")}}},
		{Value: value, Headers: []rig.Header{{Name: "long", Value: []byte(strings.Repeat("l", 100_000))}}},
		{Value: value, Headers: []rig.Header{{Name: "Idempotency-Key", Value: value}, {Name: "Host", Value: value}, {Name: "Content-Length", Value: []byte("9")}, {Name: "Transfer-Encoding", Value: []byte("chunked")}, {Name: "Connection", Value: []byte("close")}}},
		{Value: value, Headers: many},
		{Value: []byte("the last one")},
	}
	produced := k.Produce(t, topic, records...)
	sc := sidecar(t, k, topic, svc)
	svc.Await(t, len(records), patience)
	sc.Shut(t, 10*time.Second)
	svc.Judge(produced).Kept(t, 0)
	for _, r := range svc.Requests() {
		if r.Attempt != 1 {
			t.Errorf("%s needed more than one attempt.", r)
		}
	}
	committedIsEnd(t, k, topic)
}

func TestTheOriginsFormAndErrnoOverTwoHosts(t *testing.T) {
	const count = 300
	k, svc := kafka(t), service(t, "127.0.0.1", "127.0.0.2")
	svc.Rule(rig.Every(7, rig.Action{Body: `{"errno":1,"msg":"again"}`}, rig.Every(11, rig.Action{Body: "not JSON"}, rig.Errno)))
	topic := k.Topic(t, 4)
	produced := k.Produce(t, topic, keyed(count)...)
	sc := sidecar(t, k, topic, svc, "KPUSH_FORMAT=form", "KPUSH_ACK=errno", "KPUSH_HOST=127.0.0.1,127.0.0.2",
		"KPUSH_URL=/index.php?module=orders", "KPUSH_DOMAIN=shop.example", "KPUSH_RETRY_INTERVAL=5ms")
	rig.Within(t, patience, "the delivery of every message", func() bool { // none was refused so lately that its next attempt is to come
		asked, newest := map[string]bool{}, time.Time{}
		for _, r := range svc.Requests() {
			asked[fmt.Sprint(r.Partition, "/", r.Offset)] = true
			newest = r.Start
		}
		return len(asked) == count && time.Since(newest) > time.Second
	})
	sc.Shut(t, 10*time.Second)
	committedIsEnd(t, k, topic)
	targets, last := map[string]int{}, map[string]*rig.Request{}
	for _, r := range svc.Requests() {
		targets[r.Target]++
		if r.Path != "/index.php?module=orders" || r.Host != "shop.example" {
			t.Fatalf("The request went to %s of %s.", r.Path, r.Host)
		}
		at := fmt.Sprint(r.Partition, "/", r.Offset)
		if before := last[at]; before != nil && before.Target == r.Target {
			t.Errorf("%s went to %s again, where the attempt before had failed.", r, r.Target)
		}
		last[at] = r
	}
	verdict := svc.Judge(produced)
	if len(verdict.Lost)+len(verdict.Altered)+len(verdict.Stray) > 0 {
		t.Errorf("%s: %q %q", verdict, verdict.Lost, verdict.Altered)
	}
	if len(targets) != 2 {
		t.Errorf("Only %v were used of two hosts.", targets)
	}
	t.Logf("%d messages as forms over two hosts: %v requests.", count, targets)
}

func TestAnEmptyVolumeGoesOnAtKafkasCommit(t *testing.T) {
	k, svc := kafka(t), service(t)
	topic := k.Topic(t, 2)
	produced := k.ProduceEvenly(t, topic, 2, 200, 50)
	sc := sidecar(t, k, topic, svc)
	svc.Await(t, 200, patience)
	sc.Shut(t, 10*time.Second)
	produced = append(produced, k.ProduceEvenly(t, topic, 2, 100, 50)...)
	other := sidecar(t, k, topic, svc)
	svc.Await(t, 300, patience)
	other.Shut(t, 10*time.Second)
	svc.Judge(produced).Kept(t, 0)
	committedIsEnd(t, k, topic)
}

func TestAnOperatorsRewindIsObeyed(t *testing.T) {
	k, svc := kafka(t), service(t)
	topic := k.Topic(t, 2)
	produced := k.ProduceEvenly(t, topic, 2, 200, 50)
	sc := sidecar(t, k, topic, svc)
	svc.Await(t, 200, patience)
	sc.Shut(t, 10*time.Second)
	before := svc.Attempts()

	k.Alter(t, topic, topic, map[int32]int64{0: 40, 1: 100})
	sc.Start(t)
	rig.Within(t, patience, "the second delivery of partition 0 from offset 40", func() bool { return svc.Attempts() == before+60 })
	sc.Shut(t, 10*time.Second)
	next := int64(40)
	for _, r := range svc.After(before) {
		if r.Partition != 0 || r.Offset != next {
			t.Fatalf("After the rewind to 0/40 came %s, expected was offset %d.", r, next)
		}
		if r.InDoubt {
			t.Errorf("%s is called in doubt after an operator's rewind.", r)
		}
		next++
	}
	committedIsEnd(t, k, topic)
	if v := svc.Judge(produced); len(v.Lost)+len(v.Altered) > 0 {
		t.Errorf("%s", v)
	}

	produced = k.ProduceEvenly(t, topic, 2, 100, 50)
	k.Alter(t, topic, topic, map[int32]int64{0: 130, 1: 150})
	sc.Start(t)
	rig.Within(t, patience, "the delivery from offset 130 of partition 0", func() bool { return svc.Attempts() == before+60+20 })
	sc.Shut(t, 10*time.Second)
	for _, r := range svc.After(before + 60) {
		if r.Partition != 0 || r.Offset < 130 {
			t.Errorf("After the operator moved forward to 0/130 and 1/150 came %s.", r)
		}
	}
	committedIsEnd(t, k, topic)
}
