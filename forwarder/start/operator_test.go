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
		Saved:  &offsets.Saved{Next: 10, Had: offsets.Ranges{{From: 0, To: 10}}, Done: offsets.Ranges{{From: 12, To: 13}}, Lineage: 7, Committed: 10, Ceiling: 30, Attempts: []offsets.Attempt{{Offset: 11, Number: 3}}},
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
		{0, 2, offsets.Ranges{{From: 2, To: 10}, {From: 12, To: 13}}, 2}, // retention was faster
	} {
		k := askedKnowledge(true)
		k.Asked = &row.at
		d := Decide(k)
		s := d.Start
		if d.By != fromOperator || s.Next != row.next || s.Committed != -1 || s.Lineage == 7 || s.Lineage == 0 || len(s.Done)+len(s.Attempts) > 0 || s.Ceiling != 0 || !d.Paused || d.Lost != row.lost {
			t.Errorf("asked for %d: %+v", row.at, d)
		}
		if got := d.Start.Had.TrimBelow(row.next); got.String() != row.replay.String() {
			t.Errorf("asked for %d: replay %v, want %v", row.at, got, row.replay)
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

// What an operator's reset brings again is a replay, as far as the file knows, or the mark of who obeyed it. It stays one over restarts,
// until the log is cut: then another message is there.
func TestDecideAReplay(t *testing.T) {
	reset := func(k *Knowledge) { k.Commit.Offset, k.Commit.Meta = 5, "" }
	rewound := func(k *Knowledge) { // obeyed, in lineage 8: 12 and 20 to 29 are to come again
		k.Saved = &offsets.Saved{Next: 11, Had: offsets.Ranges{{From: 0, To: 11}, {From: 12, To: 13}, {From: 20, To: 30}}, Lineage: 8, Committed: 10}
		m := Mark{Cluster: "C", TopicID: "T", Volume: "v", Lineage: 8, Offset: 10, Had: offsets.Ranges{{From: 12, To: 13}, {From: 20, To: 30}}}
		k.Commit.Offset, k.Commit.Meta = 10, m.Text(MarkSize)
	}
	for name, row := range map[string]struct {
		know   func(*Knowledge)
		by     Origin
		replay string
	}{
		"reset":                         {reset, fromOperator, "5-9,12-12"},
		"reset, nobody knows":           {all(reset, noFile), fromOperator, ""},
		"reset, began at the newest":    {all(reset, func(k *Knowledge) { k.Saved.Had = offsets.Ranges{{From: 8, To: 10}} }), fromOperator, "8-9,12-12"},
		"reset, and a second time":      {all(rewound, reset), fromOperator, "5-10,12-12,20-29"},
		"reset of a log that was cut":   {all(rewound, reset, func(k *Knowledge) { k.Bounds = spans(2, 29) }), fromOperator, ""},
		"nobody has asked":              {func(*Knowledge) {}, fromFile, ""},
		"restart":                       {rewound, fromFile, "12-12,20-29"},
		"restart on a log that was cut": {all(rewound, func(k *Knowledge) { k.Bounds = spans(2, 29) }), fromFile, ""},
		"restart, the commit is lost":   {all(rewound, noCommit), fromFile, "12-12,20-29"},
		"restart, the mark was wiped":   {all(rewound, func(k *Knowledge) { k.Commit.Meta = "" }), fromFile, "12-12,20-29"},
		"an older file":                 {all(rewound, func(k *Knowledge) { k.Saved.Next, k.Saved.Had = 6, nil }), fromCommit, "12-12,20-29"},
		"another machine":               {all(rewound, noFile), fromCommit, "12-12,20-29"},
		"another machine, a log cut":    {all(rewound, noFile, func(k *Knowledge) { k.Bounds = spans(2, 29) }), fromCommit, ""},
		"another topic of that name":    {all(rewound, noFile, func(k *Knowledge) { k.Identity.TopicID = "U" }), fromReset, ""},
	} {
		k := askedKnowledge(false)
		row.know(&k)
		d := Decide(k)
		if got := d.Start.Had.TrimBelow(d.Start.Next).String(); got != row.replay || d.By != row.by {
			t.Errorf("%s: by %s, replay %q, want %s, %q", name, d.By, got, row.by, row.replay)
		}
		if cut := k.Bounds.High == 29; cut && k.Saved != nil && d.Start.Lineage == k.Saved.Lineage {
			t.Errorf("%s: the file says it again in the next life", name)
		}
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
