package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// numbered makes count messages, in turn over the partitions, whose values "word-N" say which they are.
func numbered(word string, partitions, count int) []rig.Record {
	records := make([]rig.Record, count)
	for i := range records {
		records[i] = rig.Record{Partition: int32(i % partitions), Value: fmt.Appendf(nil, "%s-%d", word, i)}
	}
	return records
}

// heard counts by value what the service has answered with a completed 2xx, from the given request on.
func heard(svc *rig.Service, from int) map[string]int {
	values := map[string]int{}
	for _, r := range svc.After(from) {
		if r.Done {
			values[r.Head]++
		}
	}
	return values
}

// hears waits until every record was delivered, from the given request on.
func hears(t *testing.T, svc *rig.Service, from int, records []rig.Record) time.Duration {
	t.Helper()
	return rig.Within(t, patience, fmt.Sprintf("the delivery of %d messages", len(records)), func() bool {
		values := heard(svc, from)
		for _, r := range records {
			if values[string(r.Value)] == 0 {
				return false
			}
		}
		return true
	})
}

// exactly wants, from the given request on, each of the records once, and nothing else.
func exactly(t *testing.T, svc *rig.Service, from int, records []rig.Record) {
	t.Helper()
	values := heard(svc, from)
	var wrong []string
	for _, r := range records {
		if n := values[string(r.Value)]; n != 1 {
			wrong = append(wrong, fmt.Sprintf("%s (%s/%d/%d) %d times", r.Value, r.Topic, r.Partition, r.Offset, n))
		}
		delete(values, string(r.Value))
	}
	if len(wrong) > 0 {
		t.Errorf("%d messages were not delivered exactly once: %q", len(wrong), wrong[:min(len(wrong), 5)])
	}
	if len(values) > 0 {
		t.Errorf("%d other messages were delivered: %v.", len(values), values)
	}
}

// said wants a line of the log that contains each of the words.
func said(t *testing.T, sc *rig.Sidecar, words ...string) {
	t.Helper()
	for _, word := range words {
		if len(sc.Find(word)) == 0 {
			t.Errorf("The log does not say %q.\n%s", word, sc.Tail(10))
		}
	}
}

// nobody waits until the group has no member.
func nobody(t *testing.T, k *rig.Kafka, group string) {
	t.Helper()
	rig.Within(t, patience, "an empty group", func() bool { return len(k.Describe(t, group).Members) == 0 })
}

// above are the records of a partition from the offset on.
func above(records []rig.Record, at func(partition int32) int64) (out []rig.Record) {
	for _, r := range records {
		if r.Offset >= at(r.Partition) {
			out = append(out, r)
		}
	}
	return out
}

// TestTheOperatorsToolMovesTheGroup: Kafka's own kafka-consumer-groups, backwards after a stop, and forward after a
// kill -9 in the middle of deliveries, when the file knows better and the doubts are still open.
func TestTheOperatorsToolMovesTheGroup(t *testing.T) {
	t.Parallel()
	const partitions, each, back, ahead = 2, 200, 30, 350
	k, svc := kafka(t), service(t)
	topic := k.Topic(t, partitions)
	tool := func(args ...string) {
		k.Tool(t, "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", append([]string{"--group", topic, "--topic", topic, "--reset-offsets", "--execute"}, args...)...)
	}
	produced := k.Produce(t, topic, numbered("order", partitions, partitions*each)...)
	sc := sidecar(t, k, topic, svc, "KPUSH_CONSUMER_CONF=session.timeout.ms=2000;heartbeat.interval.ms=500")
	svc.Await(t, len(produced), patience)
	sc.Shut(t, 10*time.Second)
	from := svc.Attempts()

	tool("--shift-by", fmt.Sprint(-back))
	sc.Start(t)
	again := above(produced, func(int32) int64 { return each - back })
	hears(t, svc, from, again)
	produced = append(produced, k.Produce(t, topic, numbered("late", partitions, partitions*each)...)...)
	svc.Rule(rig.Slow(5 * time.Millisecond))
	svc.Await(t, partitions*each+100, patience)
	sc.Kill()
	rig.Within(t, patience, "the end of what was in flight", func() bool { return svc.InFlight() == 0 })
	exactly(t, svc, from, append(again, before(svc, from, produced, partitions*each)...))
	said(t, sc, "was not written by kpush")
	for _, r := range svc.After(from) {
		if r.InDoubt {
			t.Errorf("%s is called in doubt after an operator's rewind.", r)
		}
	}

	nobody(t, k, topic)
	tool("--to-offset", fmt.Sprint(ahead))
	from = svc.Attempts()
	sc.Start(t)
	rest := above(produced, func(int32) int64 { return ahead })
	hears(t, svc, from, rest)
	sc.Shut(t, 10*time.Second)
	exactly(t, svc, from, rest)
	committedIsEnd(t, k, topic)
	t.Logf("kafka-consumer-groups back by %d: %d messages again, none called in doubt; to %d after a kill -9: the %d from there, nothing before.", back, len(again), ahead, len(rest))
}

// before are the records from the given one on that the service has answered so far.
func before(svc *rig.Service, from int, records []rig.Record, first int) (out []rig.Record) {
	values := heard(svc, from)
	for _, r := range records[first:] {
		if values[string(r.Value)] > 0 {
			out = append(out, r)
		}
	}
	return out
}

// console is Kafka's console consumer as a member of the group; it returns what it has read.
func console(t *testing.T, k *rig.Kafka, topic string, args ...string) []string {
	t.Helper()
	out := k.Tool(t, "org.apache.kafka.tools.consumer.ConsoleConsumer", append([]string{"--group", topic, "--topic", topic,
		"--command-property", "heartbeat.interval.ms=500", // or it hears of its partitions after 3 s
		"--command-property", "partition.assignment.strategy=org.apache.kafka.clients.consumer.CooperativeStickyAssignor"}, args...)...)
	return strings.Fields(out)
}

// without are the records but for those with the values.
func without(records []rig.Record, values []string) (out []rig.Record) {
	for _, r := range records {
		if !slices.Contains(values, string(r.Value)) {
			out = append(out, r)
		}
	}
	return out
}

// TestAConsoleConsumerInTheGroup: a Java consumer beside the sidecar commits what it was given, read or not, without a
// mark when it leaves. What it read is its own; of the rest nothing is lost, repeated or in doubt.
func TestAConsoleConsumerInTheGroup(t *testing.T) {
	t.Parallel()
	const partitions, count, taken = 4, 400, 5
	k, svc := kafka(t), service(t)
	topic := k.Topic(t, partitions)
	produced := k.Produce(t, topic, numbered("first", partitions, count)...)
	sc := sidecar(t, k, topic, svc)
	svc.Await(t, count, patience)
	if read := console(t, k, topic, "--timeout-ms", "6000"); len(read) > 0 {
		t.Errorf("The console consumer read %q where nothing was left.", read)
	}
	if len(sc.Find("partitions given up")) == 0 {
		t.Error("The console consumer was given nothing: the story is not told.")
	}
	produced = append(produced, k.Produce(t, topic, numbered("second", partitions, count)...)...)
	svc.Await(t, 2*count, patience)

	svc.Rule(rig.Slow(20 * time.Millisecond))
	produced = append(produced, k.Produce(t, topic, numbered("third", partitions, 5*count)...)...)
	read := console(t, k, topic, "--max-messages", fmt.Sprint(taken), "--timeout-ms", "20000")
	svc.Rule(nil)
	if len(read) != taken {
		t.Errorf("The console consumer read %q, want %d messages.", read, taken)
	}
	ours := without(produced, read)
	hears(t, svc, 0, ours)
	sc.Shut(t, 10*time.Second)
	exactly(t, svc, 0, ours)
	noDoubt(t, svc.Judge(produced))
	committedIsEnd(t, k, topic)
	t.Logf("A console consumer came and read nothing, and came again and read %d of %d: the other %d were delivered once, none in doubt.", taken, len(produced), len(ours))
}

// TestAConsoleConsumerWipesTheMarks of a sidecar that is dead, while the file is far ahead of the commits. Where it read
// nothing its commit says nothing new, and the file goes on. Where it read its commit is obeyed, as an operator's is.
func TestAConsoleConsumerWipesTheMarks(t *testing.T) {
	t.Parallel()
	const partitions, count = 4, 2_000
	k, svc := kafka(t), service(t)
	svc.Rule(rig.Slow(2 * time.Millisecond))
	topic := k.Topic(t, partitions)
	produced := k.Produce(t, topic, numbered("order", partitions, count)...)
	sc := sidecar(t, k, topic, svc, "KPUSH_COMMIT_INTERVAL=60s", "KPUSH_CONSUMER_CONF=session.timeout.ms=2000;heartbeat.interval.ms=500")
	svc.Await(t, count/2, patience)
	sc.Kill()
	nobody(t, k, topic)
	marked := k.Committed(t, topic, topic)
	from, done := svc.Attempts(), svc.Delivered()
	read := console(t, k, topic, "--max-messages", "1", "--timeout-ms", "20000")
	wiped := k.Committed(t, topic, topic)
	unmarked, moved := 0, int32(-1)
	for partition, c := range wiped {
		if c.Metadata == "" {
			unmarked++
		}
		if c.Offset != marked[partition].Offset {
			moved = partition
		}
	}
	if unmarked != partitions || moved < 0 || len(read) != 1 {
		t.Fatalf("The console consumer read %q and wiped the marks of %d partitions, want 1 message and %d: the story is not told.", read, unmarked, partitions)
	}
	sc.Start(t)
	hears(t, svc, 0, without(produced, read))
	sc.Shut(t, 10*time.Second)
	again, flagged, seen := map[bool]int{}, 0, map[string]bool{}
	for _, r := range svc.Requests() {
		if seen[r.ID] {
			again[r.Partition == moved]++
			if r.InDoubt {
				flagged++
			}
		}
		seen[r.ID] = true
	}
	if again[false] > partitions-1 || flagged < again[false] {
		t.Errorf("Of the partitions it read nothing of %d messages came again, %d flagged; at most those in flight may, %d.", again[false], flagged, partitions-1)
	}
	committedIsEnd(t, k, topic)
	t.Logf("Killed with %d done and nearly nothing committed (%v), the marks of %d partitions wiped: %d came again where the console consumer read nothing (in flight, flagged), %d of the partition that it moved; %d requests before.",
		done, marked[0].Offset, unmarked, again[false], again[true], from)
}

// TestTheBrokerLosesOrRewindsTheCommit: the saved offset answers, as KPUSH_USE_SAVED_OFFSET_TIME says.
func TestTheBrokerLosesOrRewindsTheCommit(t *testing.T) {
	t.Parallel()
	const partitions, count = 2, 100
	const trusted = 10 * time.Second
	for _, c := range []struct {
		trust   string
		rewound bool
		again   int // which batches come again
		says    string
	}{
		{"0s", false, 0, "Kafka has lost the committed offset"},
		{"0s", true, 0, "Kafka's commit went back"},
		{"10s", false, 0, "Kafka has lost the committed offset"},
		{"10s", true, 0, "Kafka's commit went back"},
		{"-1", false, 2, "forbids to trust the saved one"},
		{"-1", true, 1, "forbids to trust the saved offset"},
	} {
		how := map[bool]string{false: "lost", true: "rewound"}[c.rewound]
		t.Run(how+" "+c.trust, func(t *testing.T) {
			t.Parallel()
			k, svc := kafka(t), service(t)
			topic := k.Topic(t, partitions)
			first := k.Produce(t, topic, numbered("first", partitions, count)...)
			sc := sidecar(t, k, topic, svc, "KPUSH_USE_SAVED_OFFSET_TIME="+c.trust)
			hears(t, svc, 0, first)
			sc.Shut(t, 10*time.Second)
			old := k.Committed(t, topic, topic)
			second := k.Produce(t, topic, numbered("second", partitions, count)...)
			sc.Start(t)
			hears(t, svc, 0, second)
			sc.Shut(t, 10*time.Second)
			saved := time.Now()
			if c.rewound {
				k.Recommit(t, topic, topic, old)
			} else {
				k.Forget(t, topic, topic, 0, 1)
			}
			from := svc.Attempts()
			third := k.Produce(t, topic, numbered("third", partitions, count)...)
			sc.Start(t)
			want := append([]rig.Record{}, third...)
			if c.again > 0 {
				want = append(want, second...)
			}
			if c.again > 1 {
				want = append(want, first...)
			}
			hears(t, svc, from, want)
			waited := svc.After(from)[0].Start.Sub(saved)
			if c.trust == "10s" && (waited < trusted-2*time.Second || waited > trusted+3*time.Second) {
				rig.Missed(t, "The saved offset was trusted %v after it was saved, want %v.", waited, trusted)
			}
			sc.Shut(t, 10*time.Second)
			exactly(t, svc, from, want)
			said(t, sc, c.says)
			committedIsEnd(t, k, topic)
			t.Logf("Commit %s, KPUSH_USE_SAVED_OFFSET_TIME=%s: %d of %d came again, the first delivery %v after the saved offset.",
				how, c.trust, len(want)-len(third), len(first)+len(second), waited.Round(10*time.Millisecond))
		})
	}
}

// TestAPartitionIsAnotherMachinesInBetween: graceful handovers between two volumes repeat nothing and doubt nothing.
func TestAPartitionIsAnotherMachinesInBetween(t *testing.T) {
	t.Parallel()
	const partitions, count, rounds = 4, 200, 4
	k, svc := kafka(t), service(t)
	topic := k.Topic(t, partitions)
	env := wiring(k, topic, svc, "KPUSH_RETRY_INTERVAL=200ms") // so that at each handover something waits for its next attempt
	machines := []*rig.Sidecar{rig.NewSidecar(t, t.TempDir(), env...), rig.NewSidecar(t, t.TempDir(), env...)}
	svc.Rule(rig.Every(7, rig.Action{Status: 500}, rig.Slow(time.Millisecond)))
	var produced []rig.Record
	for round := range rounds {
		produced = append(produced, k.Produce(t, topic, numbered(fmt.Sprint("round", round), partitions, count)...)...)
		machines[round%2].Start(t)
		svc.Await(t, len(produced)-count/2, patience) // half of it is the next one's
		machines[round%2].Shut(t, 10*time.Second)
	}
	machines[0].Start(t)
	svc.Await(t, len(produced), patience)
	machines[0].Shut(t, 10*time.Second)
	verdict := svc.Judge(produced)
	verdict.Kept(t, 0)
	noDoubt(t, verdict)
	committedIsEnd(t, k, topic)
	for _, machine := range machines {
		if lines := machine.Find("was not written by kpush"); len(lines) > 0 {
			t.Errorf("One machine does not know the other's commit: %s", lines[0].Text)
		}
	}
	t.Logf("%d handovers between two volumes in the middle of %d messages: %d lost, %d repeated, %d in doubt.",
		rounds, len(produced), len(verdict.Lost), len(verdict.Repeats), len(verdict.Needless))
}

// TestAVolumeIsPutBackFromACopy that was made at the last stop: the copy is not behind Kafka's commit, and yet a life has
// delivered since. Whatever that one may have sent comes again with the flag.
func TestAVolumeIsPutBackFromACopy(t *testing.T) {
	t.Parallel()
	const partitions, count = 4, 200
	k, svc := kafka(t), service(t)
	topic := k.Topic(t, partitions)
	sc := sidecar(t, k, topic, svc, "KPUSH_COMMIT_INTERVAL=1m") // the next life is over before it commits anything done
	first := k.Produce(t, topic, numbered("first", partitions, count)...)
	hears(t, svc, 0, first)
	sc.Shut(t, 10*time.Second)
	file := filepath.Join(sc.Volume, "offsets")
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sc.Start(t)
	second := k.Produce(t, topic, numbered("second", partitions, count)...)
	hears(t, svc, 0, second)
	sc.Kill()
	if err := os.WriteFile(file, old, 0o644); err != nil {
		t.Fatal(err)
	}
	from := svc.Attempts()
	sc.Start(t)
	hears(t, svc, from, second)
	sc.Shut(t, 10*time.Second)
	verdict := svc.Judge(append(first, second...))
	verdict.Kept(t, count)
	if len(verdict.Repeats) != count {
		t.Errorf("%d messages came again, want the %d that the copy does not know of.", len(verdict.Repeats), count)
	}
	said(t, sc, "it is an older copy")
	committedIsEnd(t, k, topic)
	t.Logf("An older copy of the volume: %d repeats, %d without the flag.", len(verdict.Repeats), len(verdict.Unflagged))
}

// TestAnotherGroupOrClusterOnTheSameVolume starts by its own rules, and the first group's offsets outlive both.
func TestAnotherGroupOrClusterOnTheSameVolume(t *testing.T) {
	const partitions, count = 2, 100
	k, svc := kafka(t), service(t)
	topic := k.Topic(t, partitions)
	produced := k.Produce(t, topic, numbered("order", partitions, count)...)
	sc := sidecar(t, k, topic, svc)
	hears(t, svc, 0, produced)
	sc.Shut(t, 10*time.Second)

	other := rig.Fake(t, partitions, topic)
	for name, env := range map[string]string{"group": "KPUSH_GROUP=" + topic + "-other", "cluster": "KPUSH_BROKERS=" + other.Brokers} {
		from, want := svc.Attempts(), produced
		if name == "cluster" {
			want = other.Produce(t, topic, numbered("elsewhere", partitions, count)...)
		}
		sc.Set("KPUSH_GROUP="+topic, "KPUSH_BROKERS="+k.Brokers, env)
		sc.Start(t)
		hears(t, svc, from, want)
		sc.Shut(t, 10*time.Second)
		exactly(t, svc, from, want)
	}
	if n := len(sc.Find("the volume holds offsets of another cluster, group or topic id")); n < 2*partitions {
		t.Errorf("It was said %d times that what is on the volume does not apply, want once for each partition of both.", n)
	}

	k.Forget(t, topic, topic, 0, 1) // so that only the file can know
	from := svc.Attempts()
	late := k.Produce(t, topic, numbered("late", partitions, count)...)
	sc.Set("KPUSH_GROUP="+topic, "KPUSH_BROKERS="+k.Brokers)
	sc.Start(t)
	hears(t, svc, from, late)
	sc.Shut(t, 10*time.Second)
	exactly(t, svc, from, late)
	t.Logf("Another group and another cluster on the volume got all %d each from the beginning; the first one went on with the %d new ones by the file alone.", count, count)
}
