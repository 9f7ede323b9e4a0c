package start

import (
	"reflect"
	"testing"
	"time"

	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// askedKnowledge is of a partition of which the file knows what is done below 10 and at 12, with Kafka's commit of it.
func askedKnowledge(paused bool) Knowledge {
	id := offsets.Key{Cluster: "C", Group: "g", Topic: "t", TopicID: "T"}
	mark := Mark{Cluster: "C", TopicID: "T", Volume: "v", Lineage: 7, Offset: 10, Paused: paused}
	return Knowledge{Partition: kafka.Partition{Topic: "t"}, Identity: id, Volume: "v", Holds: func(string) bool { return true },
		Saved:  &offsets.Saved{Next: 10, Done: offsets.Ranges{{From: 12, To: 13}}, Lineage: 7, Committed: 10, Ceiling: 30, Attempts: []offsets.Attempt{{Offset: 11, Number: 3}}},
		Commit: kafka.Commit{Partition: kafka.Partition{Topic: "t"}, Offset: 10, Meta: mark.Text(MarkSize)}, Bounds: kafka.Bounds{Oldest: 2, End: 40, High: 40}, Reset: "earliest", Now: time.Now()}
}

// An operator's word while the process runs is a new lineage: nothing of the file applies, but for what is a replay.
func TestDecideWhatAnOperatorAsks(t *testing.T) {
	for _, row := range []struct {
		at, next int64
		replay   offsets.Ranges
		lost     int64
	}{
		{4, 4, offsets.Ranges{{From: 4, To: 10}, {From: 12, To: 13}}, 0},
		{10, 10, offsets.Ranges{{From: 12, To: 13}}, 0},
		{20, 20, nil, 0},
		{0, 2, offsets.Ranges{{From: 0, To: 10}, {From: 12, To: 13}}, 2}, // retention was faster
	} {
		k := askedKnowledge(true)
		k.Asked = &row.at
		d := Decide(k)
		s := d.Start
		if d.By != fromOperator || s.Next != row.next || s.Committed != -1 || s.Lineage == 7 || s.Lineage == 0 || len(s.Done)+len(s.Attempts) > 0 || s.Ceiling != 0 || !d.Paused || d.Lost != row.lost {
			t.Errorf("asked for %d: %+v", row.at, d)
		}
		if len(d.Replay) != len(row.replay) || len(row.replay) > 0 && !reflect.DeepEqual(d.Replay, row.replay) {
			t.Errorf("asked for %d: replay %v, want %v", row.at, d.Replay, row.replay)
		}
	}
}

// A pause is in the mark, and holds for whoever believes it: not for another topic of that name, nor behind an operator's reset.
func TestDecideAPause(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*Knowledge)
		paused bool
	}{
		"the file goes on":         {func(*Knowledge) {}, true},
		"another machine":          {func(k *Knowledge) { k.Saved, k.Volume = nil, "w" }, true},
		"not paused":               {func(k *Knowledge) { *k = askedKnowledge(false) }, false},
		"another topic":            {func(k *Knowledge) { k.Identity.TopicID = "U" }, false},
		"another cluster":          {func(k *Knowledge) { k.Identity.Cluster = "D" }, false},
		"an operator's reset":      {func(k *Knowledge) { k.Commit.Offset, k.Commit.Meta = 5, "" }, false},
		"the mark of another time": {func(k *Knowledge) { k.Commit.Offset = 5 }, false},
		"Kafka has lost it":        {func(k *Knowledge) { k.Commit = kafka.Commit{Offset: -1} }, false},
	} {
		k := askedKnowledge(true)
		row.change(&k)
		if d := Decide(k); d.Paused != row.paused {
			t.Errorf("%s: paused is %t", name, d.Paused)
		}
	}
}

// What an operator's reset brings again is a replay, as far as the file knows.
func TestDecideAReplay(t *testing.T) {
	k := askedKnowledge(false)
	k.Commit.Offset, k.Commit.Meta = 5, ""
	if d := Decide(k); !reflect.DeepEqual(d.Replay, offsets.Ranges{{From: 5, To: 10}, {From: 12, To: 13}}) || d.By != fromOperator {
		t.Errorf("%+v", d)
	}
	if k.Saved = nil; Decide(k).Replay != nil {
		t.Error("nobody knows of a replay")
	}
}

func TestMarkOfAPause(t *testing.T) {
	for _, paused := range []bool{true, false} {
		m := Mark{Cluster: "C", TopicID: "T", Volume: "v", Lineage: 7, Offset: 10, Paused: paused, Ceiling: 20}
		if got, ok := ParseMark(m.Text(MarkSize)); !ok || !reflect.DeepEqual(got, m) {
			t.Errorf("%+v became %+v", m, got)
		}
	}
}
