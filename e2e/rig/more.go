package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Fresh is the same cluster through a client that knows nothing of topics that were deleted since.
func (k *Kafka) Fresh(t T) *Kafka {
	t.Helper()
	fresh, err := connect(&Kafka{Brokers: k.Brokers})
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { fresh.close(false, nil) })
	return fresh
}

// Recommit writes commits with their metadata, as a broker that has lost the later ones would answer. The group is empty.
func (k *Kafka) Recommit(t T, group, topic string, commits map[int32]Commit) {
	t.Helper()
	ctx, cancel := limited()
	defer cancel()
	var set kadm.Offsets
	for partition, c := range commits {
		set.Add(kadm.Offset{Topic: topic, Partition: partition, At: c.Offset, LeaderEpoch: -1, Metadata: c.Metadata})
	}
	if err := k.client.admin.CommitAllOffsets(ctx, group, set); err != nil {
		t.Fatalf("The offsets of %s cannot be written back: %v", group, err)
	}
}

// DropBefore deletes the records below the offsets, as retention does.
func (k *Kafka) DropBefore(t T, topic string, offsets map[int32]int64) {
	t.Helper()
	ctx, cancel := limited()
	defer cancel()
	var set kadm.Offsets
	for partition, at := range offsets {
		set.AddOffset(topic, partition, at, -1)
	}
	dropped, err := k.client.admin.DeleteRecords(ctx, set)
	if err == nil {
		err = dropped.Error()
	}
	if err != nil {
		t.Fatalf("The records of %s cannot be deleted: %v", topic, err)
	}
}

// Widen adds partitions until there are so many, and waits until each can be written.
func (k *Kafka) Widen(t T, topic string, partitions int) {
	t.Helper()
	ctx, cancel := limited()
	defer cancel()
	answers, err := k.client.admin.UpdatePartitions(ctx, partitions, topic)
	if err == nil {
		err = answers.Error()
	}
	if err != nil {
		t.Fatalf("%s does not get %d partitions: %v", topic, partitions, err)
	}
	Within(t, 10*time.Second, fmt.Sprintf("a leader for each of %d partitions", partitions), func() bool {
		found, err := k.client.admin.ListTopics(ctx, topic)
		if err != nil || len(found[topic].Partitions) != partitions {
			return false
		}
		for _, p := range found[topic].Partitions {
			if p.Err != nil || p.Leader < 0 {
				return false
			}
		}
		return true
	})
}

// Transact produces the records in one transaction, and commits or aborts it.
func (k *Kafka) Transact(t T, topic string, commit bool, records ...Record) []Record {
	t.Helper()
	acked, end := k.Begin(t, topic, records...)
	end(commit)
	return acked
}

// Begin produces the records in a transaction that stays open until end commits or aborts it.
func (k *Kafka) Begin(t T, topic string, records ...Record) (acked []Record, end func(commit bool)) {
	t.Helper()
	ctx, cancel := limited()
	defer cancel()
	writer, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(k.Brokers, ",")...), kgo.TransactionalID("writer-"+topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(writer.Close)
	if err := writer.BeginTransaction(); err != nil {
		t.Fatalf("%v", err)
	}
	batch := make([]*kgo.Record, len(records))
	for i, r := range records {
		batch[i] = &kgo.Record{Topic: topic, Partition: r.Partition, Key: r.Key, Value: r.Value}
	}
	if err := writer.ProduceSync(ctx, batch...).FirstErr(); err != nil {
		t.Fatalf("Producing to %s in a transaction failed: %v", topic, err)
	}
	acked = make([]Record, len(records))
	for i, r := range records {
		r.Topic, r.Offset = topic, batch[i].Offset
		acked[i] = r
	}
	return acked, func(commit bool) {
		t.Helper()
		ctx, cancel := limited()
		defer cancel()
		if err := writer.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
			t.Fatalf("A transaction on %s does not end: %v", topic, err)
		}
		writer.Close()
	}
}

// Survivors reads what a partition's log still holds below its present end: its offsets, in order.
func (k *Kafka) Survivors(t T, topic string, partition int32) []int64 {
	t.Helper()
	ctx, cancel := limited()
	defer cancel()
	end := k.EndOffsets(t, topic)[partition]
	reader, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(k.Brokers, ",")...), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}))
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer reader.Close()
	var offsets []int64
	for len(offsets) == 0 || offsets[len(offsets)-1] < end-1 {
		fetched := reader.PollFetches(ctx)
		if err := fetched.Err(); err != nil {
			t.Fatalf("%s/%d cannot be read: %v", topic, partition, err)
		}
		fetched.EachRecord(func(r *kgo.Record) { offsets = append(offsets, r.Offset) })
	}
	return offsets
}

// Tool runs one of Kafka's own tools, by the class that its shell script starts, against the cluster and returns what
// it prints on stdout. It fails the test unless the tool ends well within a minute.
func (k *Kafka) Tool(t T, class string, args ...string) string {
	t.Helper()
	args = append([]string{"--bootstrap-server", k.Brokers}, args...)
	argv := []string{"docker", "run", "--rm", "--network", "host", "--entrypoint", "/opt/kafka/bin/kafka-run-class.sh", kafkaImage, class}
	if j, err := findJars(); err == nil {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "log4j2.xml"), []byte(strings.Replace(log4j, `name="out"`, `name="out" target="SYSTEM_ERR"`, 1)), 0o644); err != nil {
			t.Fatalf("%v", err)
		}
		argv = j.class(dir, "-Xmx128m", class)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:], args...)...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s%s", class, args, err, out, said.String())
	}
	return string(out)
}

// StartAs is Start on a machine of another host name; it needs root.
func (sc *Sidecar) StartAs(t T, host string) {
	t.Helper()
	binary, err := Binary()
	if err != nil {
		t.Fatalf("%v", err)
	}
	sc.launch(t, sc.env, "unshare", "--uts", "sh", "-c", `hostname "$1" && exec "$2"`, "sh", host, binary)
}

// StartToCrash starts a build that dies as by kill -9 when it comes to the named point for the nth time.
func (sc *Sidecar) StartToCrash(t T, point string, n int) {
	t.Helper()
	binary, err := crashing()
	if err != nil {
		t.Fatalf("%v", err)
	}
	sc.launch(t, append(sc.env[:len(sc.env):len(sc.env)], fmt.Sprintf("CRASH_AT=%s:%d", point, n)), binary)
}

func (sc *Sidecar) launch(t T, env []string, argv ...string) {
	t.Helper()
	sc.health, sc.begin = "", len(sc.Log())
	var err error
	if sc.process, err = spawn(argv, env, "", sc.logFile, syscall.SIGKILL); err != nil {
		t.Fatalf("%v", err)
	}
}

// crashing builds the binary that has crash points.
var crashing = sync.OnceValues(func() (string, error) {
	plain, err := Binary()
	if err != nil {
		return "", err
	}
	root, err := goCommand("", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return "", err
	}
	path := plain + "-crash"
	_, err = goCommand(root, "build", "-tags", "crashpoints", "-o", path, ".")
	return path, err
})

// Dead waits until the process has been ended by SIGKILL.
func (sc *Sidecar) Dead(t T, limit time.Duration) {
	t.Helper()
	if code, ended := sc.process.wait(limit); !ended || code != -1 {
		t.Fatalf("The sidecar was to die by SIGKILL within %v (ended %t, exit code %d).\n%s", limit, ended, code, sc.Tail(10))
	}
}
