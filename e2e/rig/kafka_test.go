package rig

import (
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

func TestFakeKafka(t *testing.T) { producesAndCommits(t, Fake(t, 1, "warm")) }

func TestSharedKafka(t *testing.T) { producesAndCommits(t, Shared(t)) }

func producesAndCommits(t *testing.T, k *Kafka) {
	topic := k.Topic(t, 3)
	produced := k.Produce(t, topic,
		Record{Partition: 2, Key: []byte("a"), Value: []byte("1"), Headers: []Header{{"h", nil}}},
		Record{Partition: 2, Value: nil}, Record{Partition: -1, Key: []byte("b"), Value: []byte("3")})
	if produced[0].Partition != 2 || produced[0].Offset != 0 || produced[1].Offset != 1 || produced[2].Topic != topic {
		t.Errorf("produced %+v", produced)
	}
	if even := k.ProduceEvenly(t, topic, 3, 7000, 100); len(even) != 7000 {
		t.Errorf("%d records, want 7000", len(even))
	}
	total := int64(0)
	for _, end := range k.EndOffsets(t, topic) {
		total += end
	}
	if total != 7003 {
		t.Errorf("the ends add up to %d, want 7003", total)
	}
	k.Alter(t, "group-"+topic, topic, map[int32]int64{2: 1})
	if got := k.Committed(t, "group-"+topic, topic); len(got) != 1 || got[2] != (Commit{Offset: 1}) {
		t.Errorf("committed %v", got)
	}
	k.Forget(t, "group-"+topic, topic, 2)
	if got := k.Committed(t, "group-"+topic, topic); len(got) != 0 {
		t.Errorf("committed after Forget %v", got)
	}
}

func TestKafkaIsKilledAndFrozen(t *testing.T) {
	t.Parallel() // it mostly waits
	k := Own(t, 1)
	topic := k.Topic(t, 1)
	k.Produce(t, topic, Record{Value: []byte("before")})
	k.Kill(t)
	if k.serves() == nil {
		t.Error("a killed Kafka serves")
	}
	k.Start(t)
	k.Pause(t)
	begin := time.Now()
	if k.serves() == nil || time.Since(begin) < time.Second {
		t.Error("a frozen Kafka answers")
	}
	k.Cont(t)
	k.Produce(t, topic, Record{Value: []byte("after")})
	if end := k.EndOffsets(t, topic)[0]; end != 2 {
		t.Errorf("the end is %d after a kill and a freeze, want 2", end)
	}
}

func TestThreeNodes(t *testing.T) {
	t.Parallel() // it mostly waits
	k := Own(t, 3)
	topic := k.Topic(t, 6)
	k.Kill(t, k.Coordinator(t, "a group"))
	k.ProduceEvenly(t, topic, 6, 600, 10)
	total := int64(0)
	for _, end := range k.EndOffsets(t, topic) {
		total += end
	}
	if total != 600 {
		t.Errorf("%d of 600 acknowledged records are there with a node dead", total)
	}
	k.Stop(t) // also when one is dead already
}
