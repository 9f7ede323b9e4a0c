package e2e

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// TestATopicIsDeletedAndMadeAgain under its name: nothing that is known of the old one holds back a message of the new.
func TestATopicIsDeletedAndMadeAgain(t *testing.T) {
	t.Parallel()
	const partitions, before = 2, 200
	for _, c := range []struct {
		running bool
		after   int
		reset   string
		now     int // partitions
	}{{false, 50, "earliest", 2}, {false, 600, "earliest", 2}, {false, 50, "latest", 4}, {true, 50, "earliest", 2}, {true, 600, "earliest", 1}, {true, 50, "latest", 4}, {true, 600, "latest", 2}} {
		name := fmt.Sprintf("%s, %d after %d, %d partitions, %s", map[bool]string{true: "while it runs", false: "while it is down"}[c.running], c.after, before, c.now, c.reset)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, svc := kafka(t), service(t)
			topic := k.Topic(t, partitions)
			sc := sidecar(t, k, topic, svc, "KPUSH_AUTO_OFFSET_RESET="+c.reset)
			sc.Ready(t, patience)
			old := k.Produce(t, topic, numbered("old", partitions, before)...)
			hears(t, svc, 0, old)
			if !c.running {
				sc.Shut(t, 10*time.Second)
			}
			from := svc.Attempts()
			k.DeleteTopic(t, topic)
			k = k.Fresh(t)
			k.CreateTopic(t, topic, int32(c.now))
			made := time.Now()
			produced := k.Produce(t, topic, numbered("new", c.now, c.after)...)
			if !c.running {
				sc.Start(t)
			}
			hears(t, svc, from, produced)
			took := time.Since(made)
			below(t, "The delivery of a topic that was made again", made, took, 20*time.Second)
			late := k.Produce(t, topic, numbered("late", c.now, c.now)...)
			hears(t, svc, from, late)
			sc.Shut(t, 10*time.Second)
			early := early(svc, from)
			if !c.running && len(early) > 0 || len(early) > 0 && early[0].Offset < before/partitions {
				t.Errorf("%d messages came under the old topic's id, such as %s.", len(early), early[0])
			}
			twice := map[string]bool{}
			for _, r := range early {
				twice[r.Head] = true
			}
			for _, r := range svc.After(from + len(early)) {
				if r.Attempt != 1 || twice[r.Head] && !r.InDoubt || !c.running && r.InDoubt {
					t.Errorf("%s: no attempt at the old topic's messages counts, and only what was read twice is in doubt.", r)
				}
			}
			exactly(t, svc, from+len(early), append(produced, late...))
			committedIsEnd(t, k, topic)
			t.Logf("Topic made again %s: all delivered once under its id, %v after it was there, %d before that under the old one's.", name, took.Round(10*time.Millisecond), len(early))
		})
	}
}

// early are the requests from the given one on that carry the first topic's id: what Kafka hands over from the old position
// on until the other topic is noticed.
func early(svc *rig.Service, from int) (out []*rig.Request) {
	requests := svc.Requests()
	old := requests[0].ID[strings.LastIndex(requests[0].ID, "/"):]
	for _, r := range requests[from:] {
		if strings.HasSuffix(r.ID, old) {
			out = append(out, r)
		}
	}
	return out
}

// TestATopicIsMadeAgainInTheMiddle of deliveries, with messages of the old one in memory, in flight and failing.
func TestATopicIsMadeAgainInTheMiddle(t *testing.T) {
	t.Parallel()
	const partitions, before, after = 4, 4_000, 1_000
	k, svc := kafka(t), service(t)
	var again atomic.Bool
	svc.Rule(func(r *rig.Request) rig.Action {
		if r.Partition == 1 && !again.Load() {
			return rig.Action{Status: 500}
		}
		return rig.Action{Delay: 2 * time.Millisecond}
	})
	topic := k.Topic(t, partitions)
	k.Produce(t, topic, numbered("old", partitions, before)...)
	sc := sidecar(t, k, topic, svc)
	svc.Await(t, before/8, patience)
	k.DeleteTopic(t, topic)
	k = k.Fresh(t)
	k.CreateTopic(t, topic, partitions)
	made := time.Now()
	again.Store(true)
	produced := k.Produce(t, topic, numbered("new", partitions, after)...)
	hears(t, svc, 0, produced)
	took := time.Since(made)
	sc.Kill()
	sc.Start(t)
	late := k.Produce(t, topic, numbered("late", partitions, after)...)
	hears(t, svc, 0, late)
	sc.Shut(t, 10*time.Second)
	values := heard(svc, 0)
	repeats := 0
	for _, r := range slices.Concat(produced, late) {
		if n := values[string(r.Value)]; n > 1 {
			repeats += n - 1
		}
	}
	if repeats > partitions {
		t.Errorf("%d of the new topic's messages came again, the bound is what was in flight at the kill, %d.", repeats, partitions)
	}
	committedIsEnd(t, k, topic)
	t.Logf("Topic made again with %d old messages undone: all %d new ones delivered %v after, %d repeated after a kill -9.", before-before/8, after, took.Round(10*time.Millisecond), repeats)
}

// TestATopicIsDeletedBesideAnother: Kafka takes no commit of the one that is gone, and the client gives its partitions up only
// when it hears of it; the other one is delivered all the time.
func TestATopicIsDeletedBesideAnother(t *testing.T) {
	const partitions, bound = 2, 3 * time.Second
	k, svc := kafka(t), service(t)
	stays, goes := k.Topic(t, partitions), k.Topic(t, partitions)
	sc := sidecar(t, k, stays, svc, "KPUSH_TOPIC="+stays+","+goes, "KPUSH_CONSUMER_CONF=topic.metadata.refresh.interval.ms=60000")
	sc.Ready(t, patience)
	svc.Rule(func(r *rig.Request) rig.Action {
		if r.Topic == goes {
			return rig.Action{Delay: time.Second}
		}
		return rig.Action{}
	})
	first := k.Produce(t, goes, numbered("gone", partitions, 2)...)
	rig.Within(t, patience, "requests under way for both partitions", func() bool { return svc.InFlight() == partitions })
	k.DeleteTopic(t, goes)
	hears(t, svc, 0, first) // and no commit of it is taken any more
	deleted := time.Now()
	produced := k.Produce(t, stays, numbered("stays", partitions, 5_000)...)
	took := hears(t, svc, 0, produced)
	below(t, "The delivery of the topic that stays", deleted, took, bound)
	noLag(t, k, stays)
	sc.Shut(t, 10*time.Second)
	exactly(t, svc, 0, append(first, produced...))
	t.Logf("%d messages of the topic that stays took %v.", len(produced), took.Round(10*time.Millisecond))
}

// TestRetentionPassesTheSavedOffset while the sidecar is down: it goes on at what is left, and says what may be lost.
func TestRetentionPassesTheSavedOffset(t *testing.T) {
	const partitions, count, gone = 2, 200, 150
	k, svc := kafka(t), service(t)
	topic := k.Topic(t, partitions)
	produced := k.Produce(t, topic, numbered("order", partitions, count)...)
	sc := sidecar(t, k, topic, svc)
	hears(t, svc, 0, produced)
	sc.Shut(t, 10*time.Second)
	from := svc.Attempts()
	produced = append(produced, k.Produce(t, topic, numbered("late", partitions, count)...)...)
	k.DropBefore(t, topic, map[int32]int64{0: gone, 1: 50}) // of partition 1 only what was done
	sc.Start(t)
	left := above(produced, func(partition int32) int64 { return map[int32]int64{0: gone, 1: count / partitions}[partition] })
	hears(t, svc, from, left)
	sc.Shut(t, 10*time.Second)
	exactly(t, svc, from, left)
	said(t, sc, fmt.Sprintf("offsets %d to %d are gone from Kafka without an outcome", count/partitions, gone-1), fmt.Sprintf("possible loss of up to %d messages", gone-count/partitions))
	if n := len(sc.Find("possible loss")); n != 1 {
		t.Errorf("A possible loss was said %d times; it concerns one partition.", n)
	}
	committedIsEnd(t, k, topic)
	t.Logf("Retention passed the saved offset by %d: the %d that were left were delivered once, and the possible loss was said once.", gone-count/partitions, len(left))
}

// TestRetentionOvertakesADeadService: what is in memory is the last copy and is delivered; the rest goes on at what is left.
func TestRetentionOvertakesADeadService(t *testing.T) {
	t.Parallel()
	const partitions, count, size = 2, 4_000, 4_000
	k, svc := kafka(t), service(t)
	topic := k.Topic(t, partitions)
	records := numbered("order", partitions, count)
	for i := range records {
		records[i].Value = append(append(records[i].Value, ' '), bytes.Repeat([]byte("x"), size)...)
	}
	svc.Rule(rig.First(200, rig.Action{}, rig.Status(503)))
	sc := sidecar(t, k, topic, svc, "KPUSH_BUFFER=2MiB")
	produced := k.Produce(t, topic, records...)
	svc.Await(t, 200, patience)
	rig.Within(t, patience, "a service that is down for a while", func() bool { return svc.Attempts() > 240 })
	svc.Down()
	k.DropBefore(t, topic, map[int32]int64{0: count/partitions - 100, 1: count/partitions - 100})
	svc.Rule(nil)
	svc.Up(t)
	up := time.Now()
	left := above(produced, func(int32) int64 { return count/partitions - 100 })
	arrived := func() (n int) {
		for _, r := range svc.Requests() {
			if r.Done && r.Offset >= count/partitions-100 {
				n++
			}
		}
		return n
	}
	took := rig.Within(t, patience, fmt.Sprintf("the delivery of the %d messages that are left", len(left)), func() bool { return arrived() >= len(left) })
	late := k.Produce(t, topic, numbered("late", partitions, 100)...)
	hears(t, svc, 0, late)
	sc.Shut(t, 10*time.Second)
	memory := svc.Delivered() - 200 - len(left) - len(late)
	if memory <= 0 {
		t.Errorf("%d messages were delivered from memory; they were the last copies.", memory)
	}
	if svc.Repeats() > 0 {
		t.Errorf("%d messages were repeated.", svc.Repeats())
	}
	said(t, sc, "possible loss")
	committedIsEnd(t, k, topic)
	t.Logf("Retention overtook a dead service: %d more from memory, all %d that were left %v after the service's return (%v in all), %d lost to retention and said.",
		memory, len(left), took.Round(10*time.Millisecond), time.Since(up).Round(time.Millisecond), len(produced)-200-len(left)-memory)
}

// TestPartitionsAreAdded while it runs: they are found, and begin at their beginning, whatever the reset policy.
func TestPartitionsAreAdded(t *testing.T) {
	t.Parallel()
	const bound = 12 * time.Second
	for _, reset := range []string{"earliest", "latest"} {
		t.Run(reset, func(t *testing.T) {
			t.Parallel()
			k, svc := kafka(t), service(t)
			topic := k.Topic(t, 2)
			sc := sidecar(t, k, topic, svc, "KPUSH_AUTO_OFFSET_RESET="+reset)
			sc.Ready(t, patience)
			produced := k.Produce(t, topic, numbered("first", 2, 100)...)
			hears(t, svc, 0, produced)
			k.Widen(t, topic, 6)
			produced = append(produced, k.Fresh(t).Produce(t, topic, numbered("second", 6, 600)...)...)
			added := time.Now()
			took := hears(t, svc, 0, produced)
			sc.Shut(t, 10*time.Second)
			verdict := svc.Judge(produced)
			verdict.Kept(t, 0)
			noDoubt(t, verdict)
			committedIsEnd(t, k, topic)
			below(t, "Finding partitions that were added", added, took, bound)
			t.Logf("4 partitions added to 2 (%s): all delivered after %v (bound %v), 0 lost, 0 repeated.", reset, took.Round(10*time.Millisecond), bound)
		})
	}
}

// TestACompactedTopic has holes where messages were, also at the saved offset and at the end.
func TestACompactedTopic(t *testing.T) {
	t.Parallel()
	const keys, count = 10, 2_000
	k, svc := rig.Own(t, 1, "log.cleaner.backoff.ms=100", "log.cleaner.min.cleanable.ratio=0.01", "log.initial.task.delay.ms=100"), service(t)
	topic := k.Topic(t, 1, "cleanup.policy=compact", "segment.ms=200", "min.cleanable.dirty.ratio=0.01", "delete.retention.ms=100")
	records := func(word string) []rig.Record {
		records := numbered(word, 1, count)
		for i := range records {
			records[i].Key = fmt.Appendf(nil, "key-%d", i%keys)
		}
		return records
	}
	first := k.Produce(t, topic, records("first")...)
	sc := sidecar(t, k, topic, svc)
	hears(t, svc, 0, first[:count/2])
	sc.Kill()
	from := svc.Attempts()
	k.Produce(t, topic, records("second")...)
	var survive []int64
	rig.Within(t, patience, "the compaction", func() bool {
		k.Produce(t, topic, rig.Record{Key: []byte("roll"), Value: []byte("roll")}) // a new segment, so that the one before can be cleaned
		survive = k.Survivors(t, topic, 0)
		return len(survive) < count
	})
	sc.Start(t)
	end := k.EndOffsets(t, topic)[0]
	rig.Within(t, patience, "the delivery of the last message", func() bool {
		requests := svc.Requests()
		return len(requests) > from && requests[len(requests)-1].Offset == end-1
	})
	noLag(t, k, topic)
	sc.Shut(t, 10*time.Second)
	last := int64(-1)
	delivered := map[int64]bool{}
	for i, r := range svc.Requests() {
		if i >= from && r.Offset <= last {
			t.Errorf("%s came after offset %d.", r, last)
		}
		if i >= from {
			last = r.Offset
		}
		delivered[r.Offset] = true
	}
	for _, at := range k.Survivors(t, topic, 0) { // what is still there was there all the time
		if !delivered[at] {
			t.Errorf("Offset %d is in the log and was not delivered.", at)
		}
	}
	committedIsEnd(t, k, topic)
	t.Logf("Compaction left %d of %d messages: %d delivered after the restart, in order, lag 0.", len(survive), end, len(svc.After(from)))
}
