package rig

import (
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Commit is a committed offset with its metadata.
type Commit struct {
	Offset   int64
	Metadata string
}

// Committed returns what the group has committed; partitions without a commit are missing.
func (k *Kafka) Committed(t T, group, topic string) map[int32]Commit {
	t.Helper()
	ctx, cancel := limited()
	defer cancel()
	fetched, err := k.client.admin.FetchOffsets(ctx, group)
	if err == nil {
		err = fetched.Error()
	}
	if err != nil {
		t.Fatalf("The committed offsets of %s cannot be fetched: %v", group, err)
	}
	commits := map[int32]Commit{}
	for partition, o := range fetched[topic] {
		if o.At >= 0 {
			commits[partition] = Commit{Offset: o.At, Metadata: o.Metadata}
		}
	}
	return commits
}

// CommitHistory returns every offset that the group has committed for a topic, in the order of Kafka's own log: what a
// coordinator answers may be behind that for a moment after it has moved.
func (k *Kafka) CommitHistory(t T, group, topic string) map[int32][]int64 {
	t.Helper()
	const internal = "__consumer_offsets"
	ctx, cancel := limited()
	defer cancel()
	ends, at, left := k.EndOffsets(t, internal), map[int32]kgo.Offset{}, 0
	for p, end := range ends {
		if at[p] = kgo.NewOffset().AtStart(); end > 0 {
			left++
		}
	}
	reader, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(k.Brokers, ",")...), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.KeepControlRecords(), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{internal: at}))
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer reader.Close()
	history := map[int32][]int64{}
	for left > 0 {
		fetched := reader.PollFetches(ctx)
		if err := fetched.Err(); err != nil {
			t.Fatalf("%s cannot be read: %v", internal, err)
		}
		fetched.EachRecord(func(r *kgo.Record) {
			if r.Offset == ends[r.Partition]-1 {
				left--
			}
			key, value := kmsg.NewOffsetCommitKey(), kmsg.NewOffsetCommitValue()
			if len(r.Key) < 2 || r.Key[0] != 0 || r.Key[1] > 1 || key.ReadFrom(r.Key) != nil || value.ReadFrom(r.Value) != nil {
				return // of a group's membership, or a deletion
			}
			if key.Group == group && key.Topic == topic {
				history[key.Partition] = append(history[key.Partition], value.Offset)
			}
		})
	}
	return history
}

// Alter sets committed offsets as an operator's reset does: without any metadata, on an empty group.
func (k *Kafka) Alter(t T, group, topic string, offsets map[int32]int64) {
	t.Helper()
	commits := map[int32]Commit{}
	for partition, at := range offsets {
		commits[partition] = Commit{Offset: at}
	}
	k.Recommit(t, group, topic, commits)
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

// Forget deletes the group's committed offsets of a topic.
func (k *Kafka) Forget(t T, group, topic string, partitions ...int32) {
	t.Helper()
	ctx, cancel := limited()
	defer cancel()
	deleted, err := k.client.admin.DeleteOffsets(ctx, group, kadm.TopicsSet{topic: set(partitions)})
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		t.Fatalf("The offsets of %s cannot be deleted: %v", group, err)
	}
}

func set(partitions []int32) map[int32]struct{} {
	all := map[int32]struct{}{}
	for _, p := range partitions {
		all[p] = struct{}{}
	}
	return all
}

// Group is a consumer group as its coordinator sees it.
type Group struct {
	State   string
	Members map[string]int // member id → partitions it has
}

// Describe asks the coordinator for the group.
func (k *Kafka) Describe(t T, group string) Group {
	t.Helper()
	ctx, cancel := limited()
	defer cancel()
	described, err := k.client.admin.DescribeGroups(ctx, group)
	if err != nil && !kerr.IsRetriable(err) {
		t.Fatalf("The group %s cannot be described: %v", group, err)
	}
	g := Group{State: described[group].State, Members: map[string]int{}}
	for _, m := range described[group].Members {
		g.Members[m.MemberID] = 0
		if assigned, ok := m.Assigned.AsConsumer(); ok {
			for _, topic := range assigned.Topics {
				g.Members[m.MemberID] += len(topic.Partitions)
			}
		}
	}
	return g
}

// Expel has the coordinator end the membership of a static member, as an operator can; instance is what its id begins with.
func (k *Kafka) Expel(t T, group, instance string) {
	t.Helper()
	ctx, cancel := limited()
	defer cancel()
	described, err := k.client.admin.DescribeGroups(ctx, group)
	if err != nil {
		t.Fatalf("The group %s cannot be described: %v", group, err)
	}
	for _, m := range described[group].Members {
		if m.InstanceID != nil && strings.HasPrefix(*m.InstanceID, instance) {
			if _, err := k.client.admin.LeaveGroup(ctx, kadm.LeaveGroup(group).InstanceIDs(*m.InstanceID)); err != nil {
				t.Fatalf("%s cannot be expelled: %v", *m.InstanceID, err)
			}
			return
		}
	}
	t.Fatalf("No member of %s has the instance id %s….", group, instance)
}
