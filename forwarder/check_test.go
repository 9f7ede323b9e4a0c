package forwarder

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/forwarder/start"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// Each row says of a partition where it goes on, who says so, and what is left to do.
func TestCheckedRow(t *testing.T) {
	mark := func(change func(*start.Mark)) string {
		m := start.Mark{Cluster: "C", TopicID: "T+/==", Volume: "V", Lineage: 7, Offset: 20, Done: offsets.Ranges{{From: 22, To: 25}, {From: 30, To: 31}}}
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
		{"a transaction", mark(is), 20, kafka.Bounds{End: 24, High: 60}, "24 (60)|20|kpush|4 (40)|2|2"},
		{"the log has lost some", mark(is), 20, kafka.Bounds{Oldest: 24, End: 50, High: 50}, "50|20|kpush|26|2|24"},
		{"the log was cut", mark(is), 20, kafka.Bounds{End: 10, High: 10}, "10|20|kpush|0|0|0"},
	} {
		c := checked{kafka.Commit{Partition: t0, Offset: row.offset, Meta: row.meta}, row.bounds, "C", "T+/=="}
		if got := strings.ReplaceAll(c.row(), "\t", "|"); !strings.HasSuffix(got, "|"+row.want) || !strings.HasPrefix(got, "t/0|T-_|") {
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
		if err := Check(t.Context(), cfg, r.kafka, midTransaction{fakeAdmin{r.kafka}}, &said); err == nil || !strings.Contains(err.Error(), "the dead letter topic: dead: topic does not exist") {
			t.Errorf("without the dead letter topic: %v", err)
		}
		if err := r.run().stop(); err != nil {
			t.Error(err)
		}
	})
}

// What is missing is told beside all that is there: one sentence hides no other.
func TestCheckHidesNothing(t *testing.T) {
	nowhere := kafka.AddressError{Address: "broker-0:9092", Err: fmt.Errorf("%w: broker-0:9092: Name or service not known", kafka.ErrNoBroker)}
	for name, row := range map[string]struct {
		with func(r *rig, cfg *Config)
		said []string // what there is
		err  []string // what is missing; none: no error
	}{
		"all well": {func(r *rig, cfg *Config) {}, []string{"t/0 ", "u/0 "}, nil},
		"a topic that may not be read": {func(r *rig, cfg *Config) { r.kafka.forbidden = map[string]kafka.Right{"u": kafka.Read} }, []string{"t/0 ", "u/0 "},
			[]string{"the topic: u: Kafka's ACLs forbid it: READ is missing"}},
		"a topic that is not there, and a group that takes nobody": {func(r *rig, cfg *Config) {
			r.kafka.gone, r.kafka.admits = map[string]error{"u": kafka.ErrNoTopic}, fmt.Errorf("g: %w: READ is missing", kafka.ErrForbidden)
			r.kafka.committedFault = func() error { return errors.New("it was asked all the same") }
		}, []string{"t/0 "}, []string{"the topic: u: topic does not exist", "the group: g: Kafka's ACLs forbid it: READ is missing"}},
		"dead letters may not be written": {func(r *rig, cfg *Config) {
			cfg.DeadLetterTopic, r.kafka.forbidden = "d", map[string]kafka.Right{"d": kafka.Write}
		}, []string{"t/0 "},
			[]string{"the dead letter topic: d: Kafka's ACLs forbid it: WRITE is missing"}},
		"no topic at all": {func(r *rig, cfg *Config) {
			r.kafka.gone = map[string]error{"t": kafka.ErrNoTopic, "u": kafka.ErrNoTopic}
		}, []string{"cluster C, group g"}, []string{"u: topic does not exist"}},
		"another assignor": {func(r *rig, cfg *Config) { r.kafka.assignor = "range" },
			[]string{"note: group g has 2 members that use the assignor range: Kafka refuses this one, which uses cooperative-sticky"}, nil},
		"the same assignor": {func(r *rig, cfg *Config) { r.kafka.assignor = kafka.Assignor }, []string{"t/0 "}, nil},
		"old brokers":       {func(r *rig, cfg *Config) { r.kafka.tooOld = "kafka:9092/1" }, []string{"note: broker kafka:9092/1 is older than Kafka 2.3"}, nil},
		"old brokers, and guarantee 3": {func(r *rig, cfg *Config) { r.kafka.tooOld, cfg.MustBeStatic = "kafka:9092/1", true }, []string{"t/0 "},
			[]string{"KPUSH_MESSAGE_DELIVERY_GUARANTEES=3 needs a static member, and broker kafka:9092/1"}},
		"an address that leads nowhere": {func(r *rig, cfg *Config) {
			r.kafka.clusterFault = func(question string) error {
				if question != "cluster" {
					pass(time.Second)
					return context.DeadlineExceeded
				}
				return nil
			}
			r.kafka.report(nowhere)
		}, nil, []string{"cannot describe the topics: context deadline exceeded: no broker can be reached: broker-0:9092: Name or service not known; Kafka itself gives the address broker-0:9092"}},
		"nobody": {func(r *rig, cfg *Config) {
			r.kafka.clusterFault = func(string) error { return context.DeadlineExceeded }
		}, nil,
			[]string{"no broker at kafka:9092 answers: it does not answer, or closes the connection"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, small(), handle(always))
			cfg := small().Config
			cfg.Topics, cfg.InstanceID = []string{"t", "u"}, "kpush-1"
			row.with(r, &cfg)
			var said strings.Builder
			err := Check(t.Context(), cfg, r.kafka, fakeAdmin{r.kafka}, &said)
			for _, want := range row.said {
				if !strings.Contains(said.String(), want) {
					t.Errorf("%s:\n%s\nlacks %q", name, &said, want)
				}
			}
			for _, want := range row.err {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %v lacks %q", name, err, want)
				}
			}
			if (err != nil) != (len(row.err) > 0) || strings.Contains(said.String(), "refuses") != (name == "another assignor") {
				t.Errorf("%s: %v\n%s", name, err, &said)
			}
			r.kafka.with(func() { r.kafka.clusterFault, r.kafka.committedFault = nil, nil })
			if err := r.run().stop(); err != nil {
				t.Error(err)
			}
		})
	}
}
