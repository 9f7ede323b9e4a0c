package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// TestTransactionsLeaveNoLag: what was aborted is not delivered, and the markers behind the last message count as done.
func TestTransactionsLeaveNoLag(t *testing.T) {
	const partitions, count, rounds = 2, 100, 6
	k, svc := kafka(t), service(t)
	topic := k.Topic(t, partitions)
	sc := sidecar(t, k, topic, svc)
	var produced []rig.Record
	for round := range rounds {
		commit := round%2 == 0
		records := k.Transact(t, topic, commit, numbered(fmt.Sprint("transaction", round), partitions, count)...)
		if commit {
			produced = append(produced, records...)
		}
	}
	hears(t, svc, 0, produced)
	took := noLag(t, k, topic)
	hidden, end := k.Begin(t, topic, numbered("hidden", 1, count)...)
	from := hidden[0].Offset
	note := fmt.Sprintf("%s/0 has an open transaction: what is at %d and above, below %d, can be read once it has ended", topic, from, from+count)
	rig.Within(t, 15*time.Second, "a note of who waits for a transaction", func() bool { return strings.Contains(fmt.Sprint(sc.Ask("/readyz").Notes), note) })
	checked(t, sc, 0, note, fmt.Sprintf("%d (%d)", from, from+count), fmt.Sprintf("0 (%d)", count))
	end(false)
	noLag(t, k, topic)
	sc.Kill()
	sc.Start(t)
	produced = append(produced, k.Transact(t, topic, true, numbered("late", partitions, count)...)...)
	k.Transact(t, topic, false, numbered("aborted", partitions, count)...)
	hears(t, svc, 0, produced)
	noLag(t, k, topic)
	sc.Shut(t, 10*time.Second)
	exactly(t, svc, 0, produced)
	verdict := svc.Judge(produced)
	verdict.Kept(t, 0)
	committedIsEnd(t, k, topic)
	t.Logf("%d transactions, every other one aborted: the %d committed messages once, lag 0 %v after the last of them, also past the aborted ones at the end.", rounds+2, len(produced), took.Round(10*time.Millisecond))
}

// noLag waits until the group has committed each partition's end, while the sidecar runs.
func noLag(t *testing.T, k *rig.Kafka, topic string) time.Duration {
	t.Helper()
	return rig.Within(t, patience, "a lag of 0", func() bool {
		commits := k.Committed(t, topic, topic)
		for partition, end := range k.EndOffsets(t, topic) {
			if commits[partition].Offset != end {
				return false
			}
		}
		return true
	})
}

// TestAResetBehindAnOpenTransaction: --to-latest commits the end of the log, which lies behind what a consumer of committed
// messages may read while a transaction is open. That is no sign of a topic that was cut.
func TestAResetBehindAnOpenTransaction(t *testing.T) {
	const partitions = 2
	k, svc := kafka(t), service(t)
	topic := k.Topic(t, partitions)
	produced := k.Produce(t, topic, numbered("first", partitions, 100)...)
	sc := sidecar(t, k, topic, svc)
	hears(t, svc, 0, produced)
	sc.Shut(t, 10*time.Second)
	nobody(t, k, topic)
	passed, end := k.Begin(t, topic, numbered("passed", partitions, 20)...)
	k.Alter(t, topic, topic, k.EndOffsets(t, topic))
	sc.Start(t)
	sc.Ready(t, patience)
	k.Produce(t, topic, numbered("behind", partitions, 20)...)
	end(true)
	after := k.Transact(t, topic, true, numbered("after", partitions, 20)...)
	hears(t, svc, 0, after)
	noLag(t, k, topic)
	sc.Shut(t, 10*time.Second)
	values := heard(svc, 0)
	for i := range passed {
		if value := string(passed[i].Value); values[value] > 0 {
			t.Fatalf("%s was delivered, which the operator had passed over.", value)
		}
	}
	for value, n := range values {
		if n > 1 {
			t.Errorf("%s was delivered %d times after a reset to the end.", value, n)
		}
	}
	if lines := sc.Find("made again or cut"); len(lines) > 0 {
		t.Errorf("The log takes the topic for another one: %s", lines[0])
	}
}
