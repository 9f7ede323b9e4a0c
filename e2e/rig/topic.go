package rig

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

var topics atomic.Int64

// Topic creates a topic with a name that nobody else uses and returns it; configs are "name=value".
func (k *Kafka) Topic(t T, partitions int32, configs ...string) string {
	t.Helper()
	name := fmt.Sprintf("e2e-%d-%d", time.Now().UnixMilli(), topics.Add(1))
	k.CreateTopic(t, name, partitions, configs...)
	return name
}

// CreateTopic creates a topic, replicated on every node up to three, and waits until it can be written.
func (k *Kafka) CreateTopic(t T, name string, partitions int32, configs ...string) {
	t.Helper()
	ctx, cancel := limited()
	defer cancel()
	settings := map[string]*string{}
	for _, c := range configs {
		key, value, _ := strings.Cut(c, "=")
		settings[key] = &value
	}
	made, err := k.client.admin.CreateTopic(ctx, partitions, -1, settings, name)
	if err != nil {
		t.Fatalf("The topic %s cannot be created: %v", name, err)
	}
	// by its id: a broker may be so far behind that it still tells of a deleted topic of this name
	Within(t, 10*time.Second, "a leader for every partition of "+name, func() bool {
		found, err := k.client.admin.ListTopics(ctx, name)
		return err == nil && found[name].Err == nil && found[name].ID == made.ID && len(found[name].Partitions) == int(partitions) &&
			!slices.ContainsFunc(found[name].Partitions.Sorted(), func(p kadm.PartitionDetail) bool { return p.Err != nil || p.Leader < 0 })
	})
}

// DeleteTopic deletes a topic.
func (k *Kafka) DeleteTopic(t T, name string) {
	t.Helper()
	ctx, cancel := limited()
	defer cancel()
	if _, err := k.client.admin.DeleteTopic(ctx, name); err != nil {
		t.Fatalf("The topic %s cannot be deleted: %v", name, err)
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

// EndOffsets returns each partition's end.
func (k *Kafka) EndOffsets(t T, topic string) map[int32]int64 {
	t.Helper()
	ctx, cancel := limited()
	defer cancel()
	listed, err := k.client.admin.ListEndOffsets(ctx, topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		t.Fatalf("The end offsets of %s cannot be listed: %v", topic, err)
	}
	ends := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
	return ends
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

// Read reads what a topic holds below its present end, oldest first in each partition.
func (k *Kafka) Read(t T, topic string) (all []Record) {
	t.Helper()
	ctx, cancel := limited()
	defer cancel()
	from := map[int32]kgo.Offset{}
	left := k.EndOffsets(t, topic)
	for partition, end := range left {
		if from[partition] = kgo.NewOffset().AtStart(); end == 0 {
			delete(from, partition)
			delete(left, partition)
		}
	}
	if len(left) == 0 {
		return nil
	}
	reader, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(k.Brokers, ",")...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer reader.Close()
	for len(left) > 0 {
		fetches := reader.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%s cannot be read to its end: %v", topic, ctx.Err())
		}
		fetches.EachRecord(func(r *kgo.Record) {
			one := Record{Topic: topic, Partition: r.Partition, Offset: r.Offset, Key: r.Key, Value: r.Value}
			for _, h := range r.Headers {
				one.Headers = append(one.Headers, Header{h.Key, h.Value})
			}
			if all = append(all, one); r.Offset >= left[r.Partition]-1 {
				delete(left, r.Partition)
			}
		})
	}
	slices.SortFunc(all, func(a, b Record) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	return all
}
