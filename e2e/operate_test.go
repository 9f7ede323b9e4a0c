package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// failsAt fails one message for ever.
func failsAt(partition int32, offset int64) func(*rig.Request) rig.Action {
	return func(r *rig.Request) rig.Action {
		if r.Partition == partition && r.Offset == offset {
			return rig.Action{Status: 500, Body: `{"errno":7,"errmsg":"no such customer"}`}
		}
		return rig.Action{}
	}
}

// partitionOf is a partition in what /status says.
func partitionOf(t *testing.T, sc *rig.Sidecar, number int) map[string]any {
	t.Helper()
	for _, p := range sc.Call(t, 200, "GET", "/status", "")["partitions"].([]any) {
		if one := p.(map[string]any); one["partition"] == float64(number) {
			return one
		}
	}
	return nil
}

// TestAStuckMessageIsFoundAndSkipped: an operator sees it, skips it by hand, and a kill -9 does not bring it back.
func TestAStuckMessageIsFoundAndSkipped(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"call", "command"} {
		k, svc := kafka(t), service(t)
		svc.Rule(failsAt(1, 7))
		topic := k.Topic(t, 2)
		produced := k.ProduceEvenly(t, topic, 2, 100, 20)
		sc := sidecar(t, k, topic, svc, "KPUSH_RETRY_INTERVAL=20ms")
		rig.Within(t, patience, "the address of the API", func() bool { return sc.API() != "" })
		sc.Set("KPUSH_API_ADDR=" + sc.API())
		var blocked []any
		rig.Within(t, patience, "a blocked message on /status", func() bool {
			blocked, _ = partitionOf(t, sc, 1)["blocked"].([]any)
			return len(blocked) == 1
		})
		if one := blocked[0].(map[string]any); one["offset"] != 7.0 || one["status"] != 500.0 || one["attempts"].(float64) < 10 || !strings.Contains(fmt.Sprint(one), "no such customer") {
			t.Errorf("/status names %v", one)
		}
		where := fmt.Sprintf(`{"topic":%q,"partition":1,"offset":%%d}`, topic)
		for _, wrong := range []int{6, 8} { // done, and waiting behind it
			if answer := sc.Call(t, 409, "POST", "/skip", fmt.Sprintf(where, wrong)); !strings.Contains(fmt.Sprint(answer["error"]), "not failing") {
				t.Errorf("A wrong offset is answered %v", answer)
			}
		}
		switch way {
		case "call":
			if answer := sc.Call(t, 200, "POST", "/skip", fmt.Sprintf(where, 7)); answer["skipped"] != 1.0 {
				t.Errorf("The skip is answered %v", answer)
			}
		case "command":
			if code, out := sc.Run(t, "-skip", fmt.Sprintf("%s/1/7", topic)); code != 0 {
				t.Errorf("kpush -skip: %d %s", code, out)
			}
		}
		sc.Kill() // right behind the answer
		svc.Orphaned(t)
		sc.Start(t)
		svc.Await(t, 99, patience)
		noLag(t, k, topic)
		log, audit := skipped(t, sc), sc.Call(t, 200, "GET", "/audit", "")
		if len(log) != 1 || log[0]["offset"] != 7.0 || !strings.Contains(fmt.Sprint(audit), fmt.Sprintf("%s/1/7", topic)) {
			t.Errorf("The skip log holds %v, the audit %v", log, audit)
		}
		svc.Rule(nil)
		if answer := sc.Call(t, 200, "POST", "/resend", fmt.Sprintf(where, 7)); !strings.Contains(fmt.Sprint(answer), "true") {
			t.Errorf("The resend is answered %v", answer)
		}
		sc.Shut(t, 10*time.Second)
		if v := svc.Judge(produced); v.Delivered != 100 || len(v.Lost)+len(v.Altered)+len(v.Unflagged) > 0 || len(v.Repeats) > concurrency {
			t.Errorf("%s", v)
		}
	}
}

// TestAPauseSurvives a kill -9 behind its answer, and the loss of machine and volume.
func TestAPauseSurvives(t *testing.T) {
	t.Parallel()
	k, svc := kafka(t), service(t)
	topic := k.Topic(t, 2)
	produced := k.ProduceEvenly(t, topic, 2, 100, 20)
	sc := sidecar(t, k, topic, svc)
	svc.Await(t, 100, patience)
	sc.Call(t, 200, "POST", "/pause", fmt.Sprintf(`{"topic":%q,"partition":0}`, topic))
	sc.Kill()
	more := k.ProduceEvenly(t, topic, 2, 100, 20)
	produced = append(produced, more...)
	for _, volume := range []string{sc.Volume, t.TempDir()} {
		from := svc.Attempts()
		next := rig.NewSidecar(t, volume, wiring(k, topic, svc)...)
		next.Start(t)
		rig.Within(t, patience, "its partitions", func() bool { return partitionOf(t, next, 0) != nil })
		svc.Await(t, 150, patience)
		time.Sleep(time.Second)
		for _, r := range svc.After(from) {
			if r.Partition == 0 {
				t.Errorf("While paused came %s.", r)
			}
		}
		if p := partitionOf(t, next, 0); !strings.Contains(fmt.Sprint(p["paused"]), "operator") {
			t.Errorf("/status does not say that it is paused: %v", p)
		}
		next.Kill()
		sc = next
	}
	sc.Start(t)
	rig.Within(t, patience, "partition 0", func() bool { return partitionOf(t, sc, 0) != nil })
	sc.Set("KPUSH_API_ADDR=" + sc.API())
	if code, out := sc.Run(t, "-resume", topic); code != 0 {
		t.Errorf("kpush -resume: %d %s", code, out)
	}
	svc.Await(t, len(produced), patience)
	sc.Shut(t, 10*time.Second)
	svc.Judge(produced).Kept(t, concurrency)
	committedIsEnd(t, k, topic)
}

// TestASeekBringsExactlyThat: by offset, time, beginning and end, over a kill -9 right behind the answer.
func TestASeekBringsExactlyThat(t *testing.T) {
	t.Parallel()
	k, svc := kafka(t), service(t)
	topic := k.Topic(t, 2)
	old := k.ProduceEvenly(t, topic, 2, 100, 20)
	time.Sleep(50 * time.Millisecond)
	noon := time.Now()
	time.Sleep(50 * time.Millisecond)
	late := k.ProduceEvenly(t, topic, 2, 60, 20)
	sc := sidecar(t, k, topic, svc)
	svc.Await(t, 160, patience)
	all := slices.Concat(old, late)
	from := func(offset int64) (want []rig.Record) {
		for _, r := range all {
			if r.Partition == 1 && r.Offset >= offset {
				want = append(want, r)
			}
		}
		return want
	}
	for _, row := range []struct {
		to   string
		want []rig.Record
	}{
		{`"offset":40`, from(40)}, {`"to":"beginning"`, from(0)}, {`"to":"end"`, nil},
		{fmt.Sprintf(`"timestamp":%q`, noon.UTC().Format(time.RFC3339Nano)), from(50)}, {fmt.Sprintf(`"timestamp":%d`, noon.UnixMilli()), from(50)},
	} {
		noLag(t, k, topic)
		begin := svc.Attempts()
		sc.Call(t, 200, "POST", "/seek", fmt.Sprintf(`{"topic":%q,"partition":1,%s}`, topic, row.to))
		sc.Kill()
		svc.Orphaned(t)
		sc.Start(t)
		sc.Ready(t, patience)
		noLag(t, k, topic)
		seen := map[int64]int{}
		for _, r := range svc.After(begin) {
			seen[r.Offset]++
			if r.Partition != 1 || !r.Replay {
				t.Errorf("%s: of the other partition, or it does not say that it is a replay: %s", row.to, r)
			}
		}
		for _, r := range row.want {
			if seen[r.Offset] == 0 {
				t.Errorf("%s: %d did not come.", row.to, r.Offset)
			}
			delete(seen, r.Offset)
		}
		if len(seen) > 0 {
			t.Errorf("%s: others came: %v", row.to, seen)
		}
	}
	sc.Call(t, 400, "POST", "/seek", fmt.Sprintf(`{"topic":%q,"partition":1,"offset":81}`, topic))
	begin := svc.Attempts()
	sc.Call(t, 200, "POST", "/seek", fmt.Sprintf(`{"topic":%q,"partition":1,"offset":79}`, topic))
	rig.Within(t, patience, "a replay", func() bool { return len(svc.After(begin)) > 0 })
	if r := svc.After(begin)[0]; !r.Replay || r.Offset != 79 {
		t.Errorf("A replay does not say so: %s", r)
	}
	sc.Shut(t, 10*time.Second)
}

// TestReplicasAnswerForTheirOwn partitions, and say so of the others.
func TestReplicasAnswerForTheirOwn(t *testing.T) {
	t.Parallel()
	k, svc := kafka(t), service(t)
	topic := k.Topic(t, 4)
	first := sidecar(t, k, topic, svc)
	second := sidecar(t, k, topic, svc)
	count := func(sc *rig.Sidecar) int { return len(sc.Call(t, 200, "GET", "/status", "")["partitions"].([]any)) }
	rig.Within(t, patience, "two partitions each", func() bool { return count(first) == 2 && count(second) == 2 })
	for number := range 4 {
		codes := map[int]int{}
		for _, sc := range []*rig.Sidecar{first, second} {
			code, _ := sc.Try(t, "POST", "/pause", fmt.Sprintf(`{"topic":%q,"partition":%d}`, topic, number))
			codes[code]++
		}
		if codes[200] != 1 || codes[409] != 1 {
			t.Errorf("Partition %d is paused with %v.", number, codes)
		}
	}
	first.Call(t, 404, "POST", "/pause", `{"topic":"another"}`)
	first.Shut(t, 10*time.Second)
	second.Shut(t, 10*time.Second)
}
