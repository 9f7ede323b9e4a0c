package e2e

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// header is the newest one of a name.
func header(headers []rig.Header, name string) string {
	for _, h := range slices.Backward(headers) {
		if strings.EqualFold(h.Name, name) { // a request's
			return string(h.Value)
		}
	}
	return ""
}

// refused answers 422 to every nth message of a partition, unless it was sent back.
func refused(n int64) func(*rig.Request) rig.Action {
	return func(r *rig.Request) rig.Action {
		if r.Offset%n == 0 && header(r.Headers, "kpush-dlq-redrives") == "" {
			return rig.Action{Status: 422, Body: "no such customer\n"}
		}
		return rig.Action{}
	}
}

// sameRecord compares key, value and the headers in front, nulls included.
func sameRecord(t *testing.T, got, want rig.Record) {
	t.Helper()
	same := func(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }
	if len(got.Headers) < len(want.Headers) || !same(got.Key, want.Key) || !same(got.Value, want.Value) {
		t.Errorf("%s/%d/%d is %+v, want %+v", got.Topic, got.Partition, got.Offset, got, want)
		return
	}
	for i, h := range want.Headers {
		if g := got.Headers[i]; g.Name != h.Name || !same(g.Value, h.Value) {
			t.Errorf("%s/%d/%d: header %d is %+v, want %+v", got.Topic, got.Partition, got.Offset, i, g, h)
		}
	}
}

// odd are records that are hard to keep as they are.
func odd(partitions int32) (records []rig.Record) {
	for i := range 40 {
		r := rig.Record{Partition: int32(i) % partitions, Key: fmt.Appendf(nil, "k-%d", i), Value: fmt.Appendf(nil, "v-%d", i)}
		switch i % 8 {
		case 0, 1:
			r.Value = nil
		case 2, 3:
			r.Value, r.Key = []byte{}, []byte{0, 0xff, byte(i)}
		case 4, 5:
			r.Headers = []rig.Header{{Name: "a", Value: nil}, {Name: "a", Value: []byte{}}, {Name: "b\n", Value: []byte("\x00\r\n\xff")}}
		}
		records = append(records, r)
	}
	return records
}

// TestDeadLettersAndBack: what fails ends in the dead letter topic byte for byte, with every header right; nothing is lost, and what was
// mended goes back and is delivered.
func TestDeadLettersAndBack(t *testing.T) {
	t.Parallel()
	k, svc := kafka(t), service(t)
	svc.Rule(refused(4))
	topic, dead := k.Topic(t, 2), k.Topic(t, 3)
	produced := k.Produce(t, topic, odd(2)...)
	sc := sidecar(t, k, topic, svc, "KPUSH_DEAD_LETTER_TOPIC="+dead, "KPUSH_RETRY_NUMS=2")
	noLag(t, k, topic)
	letters := k.Read(t, dead)
	if len(letters) != 10 || svc.Delivered() != 30 {
		t.Fatalf("%d letters, %d delivered", len(letters), svc.Delivered())
	}
	for _, l := range letters {
		from := slices.IndexFunc(produced, func(r rig.Record) bool {
			return fmt.Sprint(r.Partition) == header(l.Headers, "kpush-dlq-partition") && fmt.Sprint(r.Offset) == header(l.Headers, "kpush-dlq-offset")
		})
		if from < 0 {
			t.Fatalf("Nobody produced %+v", l)
		}
		sameRecord(t, l, produced[from])
		for name, want := range map[string]string{"topic": topic, "group": topic, "reason": "the service answered 422", "status": "422", "response": "no such customer\n", "attempts": "2", "redrives": "0"} {
			if got := header(l.Headers, "kpush-dlq-"+name); got != want {
				t.Errorf("kpush-dlq-%s is %q, want %q", name, got, want)
			}
		}
		for _, name := range []string{"timestamp", "first-attempt-at", "last-attempt-at"} {
			if header(l.Headers, "kpush-dlq-"+name) == "" {
				t.Errorf("%+v has no kpush-dlq-%s", l, name)
			}
		}
	}
	if answer := sc.Call(t, 200, "POST", "/redrive", `{"limit":4}`); answer["sent"] != 4.0 || answer["left"] != 6.0 {
		t.Errorf("The redrive is answered %v", answer)
	}
	sc.Kill() // right behind the answer, and the volume is lost
	next := rig.NewSidecar(t, t.TempDir(), wiring(k, topic, svc, "KPUSH_DEAD_LETTER_TOPIC="+dead, "KPUSH_RETRY_NUMS=2")...)
	next.Start(t)
	rig.Within(t, patience, "its partitions", func() bool { return partitionOf(t, next, 0) != nil })
	next.Set("KPUSH_API_ADDR=" + next.API())
	if code, out := next.Run(t, "-redrive", "100"); code != 0 || !strings.Contains(out, "sent back: 6, refused: 0, left: 0") {
		t.Errorf("kpush -redrive: %d %s", code, out)
	}
	svc.Await(t, 40, patience)
	noLag(t, k, topic)
	back := k.Read(t, topic)
	if len(back) != 50 {
		t.Errorf("%d records in the end, want 40 and 10 that came back", len(back))
	}
	for _, b := range back {
		if header(b.Headers, "kpush-dlq-redrives") == "" {
			continue
		}
		if !slices.ContainsFunc(letters, func(l rig.Record) bool { return bytes.Equal(l.Key, b.Key) }) || len(header(b.Headers, "kpush-dlq-in-doubt")) > 0 {
			t.Errorf("What came back is %+v", b)
		}
	}
	next.Shut(t, 10*time.Second)
}

// letterPoints are the named points on a letter's way there and back.
var letterPoints = []string{"dead letter written, not recorded", "letter to be sent back", "letter sent back, not known"}

// TestACrashBesideALetter: none is lost, and what comes twice is one, which says so where it was sent back.
func TestACrashBesideALetter(t *testing.T) {
	t.Parallel()
	for _, point := range letterPoints {
		k, svc := kafka(t), service(t)
		svc.Rule(refused(5))
		topic, dead := k.Topic(t, 1), k.Topic(t, 1)
		produced := k.ProduceEvenly(t, topic, 1, 50, 20)
		sc := rig.NewSidecar(t, t.TempDir(), wiring(k, topic, svc, "KPUSH_DEAD_LETTER_TOPIC="+dead, "KPUSH_RETRY_NUMS=1")...)
		sc.StartToCrash(t, point, 3)
		if point != letterPoints[0] {
			noLag(t, k, topic)
			sc.Set("KPUSH_API_ADDR=" + sc.API())
			sc.Run(t, "-redrive", "100") // which ends with the process
		}
		sc.Dead(t, 20*time.Second)
		sc.Start(t)
		noLag(t, k, topic)
		twins := 0
		seen := map[string]bool{}
		for _, l := range k.Read(t, dead) {
			if at := header(l.Headers, "kpush-dlq-offset"); seen[at] {
				twins++
			} else {
				seen[at] = true
			}
		}
		if len(seen) != 10 || twins > 1 {
			t.Errorf("%s: %d letters, %d of them twice", point, len(seen), twins)
		}
		if point == letterPoints[0] {
			sc.Shut(t, 10*time.Second)
			continue
		}
		sc.Call(t, 200, "POST", "/redrive", `{"limit":100}`)
		flagged, back := 0, map[string]int{}
		for _, r := range k.Read(t, topic)[len(produced):] {
			back[string(r.Key)]++
			if header(r.Headers, "kpush-dlq-in-doubt") != "" {
				flagged++
			}
		}
		for key, n := range back {
			if n > 1 && flagged != 1 {
				t.Errorf("%s: %s came back %d times, %d are flagged", point, key, n, flagged)
			}
		}
		if len(back) != 10 || flagged != 1 {
			t.Errorf("%s: %d came back, %d flagged", point, len(back), flagged)
		}
		sc.Shut(t, 10*time.Second)
	}
}

// TestNoDeadLetterTopic: its want is named from the start, the message that is given up waits, others go on; nothing is made or lost.
func TestNoDeadLetterTopic(t *testing.T) {
	t.Parallel()
	k, svc := kafka(t), service(t)
	svc.Rule(refused(50))
	topic := k.Topic(t, 2)
	dead := topic + "-dead"
	k.Produce(t, topic, numbered("a", 2, 40)...)
	sc := sidecar(t, k, topic, svc, "KPUSH_DEAD_LETTER_TOPIC="+dead, "KPUSH_RETRY_NUMS=1", "KPUSH_ORDER=key")
	rig.Within(t, patience, "both sentences", func() bool {
		why := strings.Join(sc.Ask("/readyz").Why, "; ")
		return strings.Contains(why, "waiting for the dead letter topic: "+dead) && strings.Contains(why, "cannot be written to the dead letter topic "+dead)
	})
	if commits := k.Committed(t, topic, topic); commits[0].Offset > 0 || commits[1].Offset > 0 {
		t.Errorf("What has no letter is committed: %v", commits)
	}
	k.CreateTopic(t, dead, 1)
	noLag(t, k, topic)
	if n := len(k.Read(t, dead)); n != 2 {
		t.Errorf("%d letters, want 2", n)
	}
	sc.Ready(t, patience)
	sc.Shut(t, 10*time.Second)
}

// TestNothingIsBuriedForAnOutage: neither a service that is away nor one that refuses everybody costs more letters than the bound.
func TestNothingIsBuriedForAnOutage(t *testing.T) {
	t.Parallel()
	for _, status := range []int{400, 503} {
		k, svc := kafka(t), service(t)
		svc.Rule(func(*rig.Request) rig.Action { return rig.Action{Status: status} })
		topic, dead := k.Topic(t, 2), k.Topic(t, 1)
		produced := k.ProduceEvenly(t, topic, 2, 200, 20)
		sc := sidecar(t, k, topic, svc, "KPUSH_DEAD_LETTER_TOPIC="+dead, "KPUSH_RETRY_NUMS=1", "KPUSH_ORDER=none")
		time.Sleep(5 * time.Second)
		want := map[int]int{400: 12, 503: 0}[status]
		if n := len(k.Read(t, dead)); n != want {
			t.Errorf("%d: %d letters, want %d", status, n, want)
		}
		svc.Rule(nil)
		svc.Await(t, len(produced)-want, patience)
		noLag(t, k, topic)
		sc.Shut(t, 10*time.Second)
	}
}
