package forwarder

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/kpush/kpush/forwarder/start"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// Each row says of a partition where it goes on, who says so, and what is left to do.
func TestCheckedRow(t *testing.T) {
	mark := func(change func(*start.Mark)) string {
		m := start.Mark{Cluster: "C", TopicID: "T", Volume: "V", Lineage: 7, Offset: 20, Done: offsets.Ranges{{From: 22, To: 25}, {From: 30, To: 31}}}
		change(&m)
		return m.Text(start.MarkSize)
	}
	is := func(*start.Mark) {}
	for _, row := range []struct {
		name, meta string
		offset     int64
		bounds     kafka.Bounds
		want       string // from end on
	}{
		{"never committed", "", -1001, kafka.Bounds{Oldest: 5, End: 50, High: 50}, "50|-|-|45|0|45"},
		{"by kpush", mark(is), 20, kafka.Bounds{Oldest: 5, End: 50, High: 50}, "50|20|kpush|30|4|26"},
		{"caught up", mark(func(m *start.Mark) { m.Done = nil }), 20, kafka.Bounds{Oldest: 5, End: 20, High: 20}, "20|20|kpush|0|0|0"},
		{"by hand", "", 20, kafka.Bounds{Oldest: 5, End: 50, High: 50}, "50|20|somebody else|30|0|30"},
		{"moved with its mark", mark(is), 10, kafka.Bounds{Oldest: 5, End: 50, High: 50}, "50|10|somebody else|40|0|40"},
		{"of another cluster", mark(func(m *start.Mark) { m.Cluster = "D" }), 20, kafka.Bounds{End: 50, High: 50}, "50|20|kpush, for another cluster|30|0|30"},
		{"of an earlier topic", mark(func(m *start.Mark) { m.TopicID = "U" }), 20, kafka.Bounds{End: 50, High: 50}, "50|20|kpush, for an earlier topic of this name|50|0|50"},
		{"a cluster without ids", mark(func(m *start.Mark) { m.TopicID = "" }), 20, kafka.Bounds{End: 50, High: 50}, "50|20|kpush|30|4|26"},
		{"bare", "kpush1 o=20", 20, kafka.Bounds{End: 50, High: 50}, "50|20|kpush|30|0|30"},
		{"a transaction", mark(is), 20, kafka.Bounds{End: 24, High: 60}, "24 (60)|20|kpush|4|2|2"},
		{"the log has lost some", mark(is), 20, kafka.Bounds{Oldest: 24, End: 50, High: 50}, "50|20|kpush|26|2|24"},
		{"the log was cut", mark(is), 20, kafka.Bounds{End: 10, High: 10}, "10|20|kpush|0|0|0"},
	} {
		c := checked{kafka.Commit{Partition: t0, Offset: row.offset, Meta: row.meta}, row.bounds, "C", "T"}
		if got := strings.ReplaceAll(c.row(), "\t", "|"); !strings.HasSuffix(got, "|"+row.want) || !strings.HasPrefix(got, "t/0|T|") {
			t.Errorf("%s: %s, want it to end in %s", row.name, got, row.want)
		}
	}
}

// midTransaction is a cluster with two partitions, in the second of which a transaction is open.
type midTransaction struct{ fakeAdmin }

func (midTransaction) Partitions(context.Context, []string) ([]kafka.Partition, error) {
	return []kafka.Partition{t0, t1}, nil
}

func (midTransaction) Bounds(context.Context, []kafka.Partition) (map[kafka.Partition]kafka.Bounds, error) {
	return map[kafka.Partition]kafka.Bounds{t0: {End: 5, High: 5}, t1: {End: 7, High: 9}}, nil
}

// What is worth knowing stands below the table.
func TestCheckNotes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(always))
		var said strings.Builder
		cfg := small().Config
		if err := Check(t.Context(), cfg, r.kafka, midTransaction{fakeAdmin{r.kafka}}, &said); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"cluster ", "done out of order  open\n", "t/0 ",
			"t/1 has an open transaction: what is at 7 and above, below 9, can", "2 together, and KPUSH_CONCURRENCY=16 is not reached\n"} {
			if !strings.Contains(said.String(), want) {
				t.Errorf("%s\nlacks %q", &said, want)
			}
		}
		cfg.DeadLetterTopic, r.kafka.gone = "dead", map[string]error{"dead": kafka.ErrNoTopic}
		if err := Check(t.Context(), cfg, r.kafka, midTransaction{fakeAdmin{r.kafka}}, &said); err == nil || !strings.Contains(err.Error(), "cannot describe the dead letter topic: dead") {
			t.Errorf("without the dead letter topic: %v", err)
		}
		if err := r.run().stop(); err != nil {
			t.Error(err)
		}
	})
}
