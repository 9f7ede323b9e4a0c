package start

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

var (
	startKey  = offsets.Key{Cluster: "C", Group: "g", Topic: "t", TopicID: "T", Partition: 3}
	startMark = Mark{Cluster: "C", TopicID: "T", Volume: "V", Lineage: 7}
)

// known is what a start knows: the file has finished all below 120 and 130, Kafka acknowledged 100, the log is 50–1000.
func known(change func(*Knowledge)) Knowledge {
	k := Knowledge{
		Partition: kafka.Partition{Topic: "t", Number: 3}, Identity: startKey, Volume: "V", Holds: func(edition string) bool { return edition == "1" }, Reset: "earliest", Bounds: spans(50, 1000),
		Saved: &offsets.Saved{Next: 120, Done: offsets.Ranges{{From: 130, To: 131}}, Committed: 100, Lineage: 7,
			Attempts: []offsets.Attempt{{Offset: 120, Number: 2, Faults: 1, InDoubt: true}}},
		Commit: kafka.Commit{Partition: kafka.Partition{Topic: "t", Number: 3}, Offset: 100, Meta: marked(100, nil)},
	}
	if change != nil {
		change(&k)
	}
	return k
}

// marked is the metadata of a commit that kpush made at offset.
func marked(offset int64, change func(*Mark)) string {
	m := startMark
	m.Offset = offset
	if change != nil {
		change(&m)
	}
	return m.Text(MarkSize)
}

// spans is a partition without an open transaction.
func spans(oldest, end int64) kafka.Bounds { return kafka.Bounds{Oldest: oldest, End: end, High: end} }

func noCommit(k *Knowledge) { k.Commit = kafka.Commit{Partition: k.Partition, Offset: -1001} }
func noFile(k *Knowledge)   { k.Saved = nil }
func by(offset int64, meta string) func(*Knowledge) {
	return func(k *Knowledge) { k.Commit.Offset, k.Commit.Meta = offset, meta }
}

func all(changes ...func(*Knowledge)) func(*Knowledge) {
	return func(k *Knowledge) {
		for _, c := range changes {
			c(k)
		}
	}
}

// another is the expected lineage where a new one has to be drawn: facts of the file must not apply.
const another = 0

// The contract's "Start of a partition", a sentence a row: operator's reset > saved file > broker's commit > reset policy.
func TestDecideWhereAPartitionStarts(t *testing.T) {
	rows := []struct {
		name    string
		know    func(*Knowledge)
		by      Origin
		next    int64
		lineage uint64
		done    string
		ceiling int64
		tried   int    // attempts that are known
		said    string // "" for a silent start
		lost    int64
	}{
		// Nobody knows anything.
		{name: "new, earliest", know: all(noCommit, noFile), by: fromReset, next: 50},
		{name: "new, latest", know: all(noCommit, noFile, func(k *Knowledge) { k.Reset = "latest" }), by: fromReset, next: 1000},
		{name: "new, empty log", know: all(noCommit, noFile, func(k *Knowledge) { k.Bounds = kafka.Bounds{} }), by: fromReset, next: 0},

		// The file and Kafka agree.
		{name: "file is ahead of its own commit", by: fromFile, next: 120, lineage: 7, done: "130-130", tried: 1},
		{name: "file is where the commit is", know: func(k *Knowledge) { k.Saved.Next, k.Saved.Done, k.Saved.Attempts = 100, nil, nil }, by: fromFile, next: 100, lineage: 7},
		{name: "killed between Kafka's answer and its record", know: by(110, marked(110, nil)), by: fromFile, next: 120, lineage: 7, done: "130-130", tried: 1},
		{name: "killed before the first commit", know: all(noCommit, func(k *Knowledge) { k.Saved.Committed = -1 }), by: fromFile, next: 120, lineage: 7, done: "130-130", tried: 1},
		{name: "own ceiling after a kill says nothing that the file does not know", know: by(100, marked(100, func(m *Mark) { m.Ceiling = 1100 })), by: fromFile, next: 120, lineage: 7, done: "130-130", tried: 1},
		{name: "the same with an edition that the file holds", know: by(100, marked(100, func(m *Mark) { m.Ceiling, m.Edition = 1100, "1" })), by: fromFile, next: 120, lineage: 7, done: "130-130", tried: 1},
		{name: "ceiling of the file after a power cut", know: func(k *Knowledge) { k.Saved.Ceiling = 700 }, by: fromFile, next: 120, lineage: 7, done: "130-130", ceiling: 700, tried: 1},

		// Kafka lost the commit.
		{name: "lost commit, file is trusted", know: noCommit, by: fromFile, next: 120, lineage: 7, done: "130-130", tried: 1, said: "lost the committed offset 100; the saved one (120) is trusted (to start over on purpose: kpush -seek)"},
		{name: "lost commit, file is trusted before latest", know: all(noCommit, func(k *Knowledge) { k.Reset = "latest" }), by: fromFile, next: 120, lineage: 7, done: "130-130", tried: 1, said: "lost the committed offset 100; the saved one (120) is trusted"},
		{name: "lost commit, trusting is forbidden", know: all(noCommit, func(k *Knowledge) { k.TrustSaved = -1 }), by: fromReset, next: 50, said: "KPUSH_USE_SAVED_OFFSET_TIME forbids"},
		{name: "forbidden, but there never was a commit to lose", know: all(noCommit, func(k *Knowledge) { k.TrustSaved, k.Saved.Committed = -1, -1 }), by: fromFile, next: 120, lineage: 7, done: "130-130", tried: 1},

		// Kafka rewound the commit.
		{name: "rewound commit, file is trusted", know: by(80, marked(80, nil)), by: fromFile, next: 120, lineage: 7, done: "130-130", tried: 1, said: "went back from 100 to 80"},
		{name: "rewound commit, trusting is forbidden", know: all(by(80, marked(80, nil)), func(k *Knowledge) { k.TrustSaved = -1 }), by: fromCommit, next: 80, lineage: another, said: "forbids"},

		// Another machine had the partition.
		{name: "taken over without a file", know: all(noFile, by(200, marked(200, func(m *Mark) {
			m.Done, m.Ceiling, m.Attempts = offsets.Ranges{{From: 205, To: 208}}, 300, []offsets.Attempt{{Offset: 200, Number: 4, Faults: 2, InDoubt: true}}
		}))), by: fromCommit, next: 200, lineage: 7, done: "205-207", ceiling: 300, tried: 1},
		{name: "taken over after a clean hand-over", know: all(noFile, by(200, marked(200, nil))), by: fromCommit, next: 200, lineage: 7},
		{name: "back after another machine had it, same lineage", know: by(200, marked(200, func(m *Mark) { m.Volume, m.Ceiling = "other", 300 })), by: fromCommit, next: 200, lineage: 7, done: "130-130", ceiling: 300},
		{name: "another machine was behind this file, its doubts count", know: by(110, marked(110, func(m *Mark) { m.Volume, m.Ceiling = "other", 300 })), by: fromFile, next: 120, lineage: 7, done: "130-130", ceiling: 300, tried: 1},
		{name: "another machine finished out of order", know: by(110, marked(110, func(m *Mark) { m.Volume, m.Done = "other", offsets.Ranges{{From: 121, To: 130}} })), by: fromFile, next: 120, lineage: 7, done: "121-130", tried: 1},
		{name: "file of an older lineage than the mark", know: by(60, marked(60, func(m *Mark) { m.Lineage, m.Volume = 9, "other" })), by: fromCommit, next: 60, lineage: 9},
		{name: "back after another machine had it, the edition of its volume says nothing", know: by(200, marked(200, func(m *Mark) { m.Volume, m.Ceiling, m.Edition = "other", 300, "2" })), by: fromCommit, next: 200, lineage: 7, done: "130-130", ceiling: 300},
		{name: "stale copy of the volume that is not behind the commit", know: by(110, marked(110, func(m *Mark) {
			m.Ceiling, m.Edition, m.Attempts = 600, "2", []offsets.Attempt{{Offset: 140, Number: 3}}
		})), by: fromFile, next: 120, lineage: 7, done: "130-130", ceiling: 600, tried: 2, said: "an older copy"},
		{name: "stale copy of the volume that is behind the commit, and known as one", know: by(500, marked(500, func(m *Mark) { m.Ceiling, m.Edition = 600, "2" })), by: fromCommit, next: 500, lineage: 7, done: "130-130", ceiling: 600, said: "an older copy"},
		{name: "stale copy of the volume, behind a mark that says nothing of it", know: by(500, marked(500, func(m *Mark) { m.Ceiling = 600 })), by: fromCommit, next: 500, lineage: 7, done: "130-130", ceiling: 600},
		{name: "the log has a gap behind what is finished: nothing is in doubt", know: by(125, marked(125, func(m *Mark) { m.Ceiling, m.Edition = 600, "1" })), by: fromCommit, next: 125, lineage: 7, done: "130-130"},
		{name: "attempts that reached Kafka and not the disk", know: by(110, marked(110, func(m *Mark) {
			m.Edition, m.Attempts = "1", []offsets.Attempt{{Offset: 140, Number: 3}}
		})), by: fromFile, next: 120, lineage: 7, done: "130-130", tried: 2},
		{name: "this volume began another lineage, and died before its first commit", know: by(100, marked(100, func(m *Mark) { m.Lineage, m.Edition = 5, "1" })), by: fromFile, next: 120, lineage: 7, done: "130-130", tried: 1},
		{name: "another lineage, of a copy of this volume that was further", know: by(100, marked(100, func(m *Mark) { m.Lineage, m.Edition = 5, "2" })), by: fromCommit, next: 100, lineage: 5},
		{name: "another lineage of this volume, where nothing was synced and the power was cut", know: all(by(100, marked(100, func(m *Mark) { m.Lineage, m.Edition, m.Ceiling = 5, "1", 300 })), func(k *Knowledge) { k.Saved.Unvouched = true }), by: fromCommit, next: 100, lineage: 5, ceiling: 300},
		{name: "what is to come is not in doubt", know: all(noFile, by(200, marked(200, func(m *Mark) { m.Ceiling = 5000 }))), by: fromCommit, next: 200, lineage: 7, ceiling: 1000},
		{name: "a power cut, and nothing was synced", know: all(by(110, marked(110, func(m *Mark) { m.Ceiling, m.Edition = 600, "1" })), func(k *Knowledge) { k.Saved.Unvouched = true }), by: fromFile, next: 120, lineage: 7, done: "130-130", ceiling: 600, tried: 1},

		// An operator, or a tool.
		{name: "operator goes back", know: by(70, ""), by: fromOperator, next: 70, lineage: another, said: "was not written by kpush"},
		{name: "operator goes forward", know: by(700, ""), by: fromOperator, next: 700, lineage: another, said: "it is obeyed"},
		{name: "operator goes to what the file has finished", know: by(120, ""), by: fromOperator, next: 120, lineage: another, said: "it is obeyed"},
		{name: "operator on a volume that knows nothing", know: all(noFile, by(70, "")), by: fromOperator, next: 70},
		{name: "somebody else's metadata", know: by(70, "flink checkpoint 4"), by: fromOperator, next: 70, lineage: another, said: "it is obeyed"},
		{name: "operator goes to offset 0", know: all(by(0, ""), func(k *Knowledge) { k.Bounds.Oldest = 0 }), by: fromOperator, next: 0, lineage: another, said: "it is obeyed"},
		{name: "console consumer wiped the mark", know: by(100, ""), by: fromFile, next: 120, lineage: another, done: "130-130", tried: 1},
		{name: "MirrorMaker copied the mark to another offset", know: by(90, marked(4000, nil)), by: fromOperator, next: 90, lineage: another, said: "it is obeyed"},
		{name: "MirrorMaker copied the mark to another cluster", know: by(90, marked(90, func(m *Mark) { m.Cluster = "D" })), by: fromOperator, next: 90, lineage: another, said: "it is obeyed"},
		{name: "damaged mark", know: by(90, marked(90, nil)[:12]+"\x00"), by: fromOperator, next: 90, lineage: another, said: "it is obeyed"},

		// A broker that takes only small metadata: the mark says that kpush made the commit, and nothing else.
		{name: "bare mark, died right after the commit", know: by(110, "kpush1 o=110"), by: fromFile, next: 120, lineage: another, done: "130-130", tried: 1},
		{name: "bare mark at the last commit", know: by(100, "kpush1 o=100"), by: fromFile, next: 120, lineage: another, done: "130-130", tried: 1},
		{name: "bare mark of a machine that was further", know: by(200, "kpush1 o=200"), by: fromOperator, next: 200, lineage: another, said: "it is obeyed"},
		{name: "bare mark that went back, maybe with an operator", know: by(80, "kpush1 o=80"), by: fromOperator, next: 80, lineage: another, said: "it is obeyed"},
		{name: "bare mark of another offset", know: by(110, "kpush1 o=105"), by: fromOperator, next: 110, lineage: another, said: "it is obeyed"},

		// The topic was deleted and made again.
		{name: "commit of an earlier topic, no file", know: all(noFile, by(100, marked(100, func(m *Mark) { m.TopicID = "S" }))), by: fromReset, next: 50, said: "earlier topic of this name"},
		{name: "commit of an earlier topic, file of this one", know: by(100, marked(100, func(m *Mark) { m.TopicID = "S" })), by: fromFile, next: 120, lineage: 7, done: "130-130", tried: 1, said: "earlier topic of this name"},
		{name: "end below the file, commit still fits", know: func(k *Knowledge) { k.Bounds = spans(50, 110) }, by: fromCommit, next: 100, lineage: another, ceiling: 110, said: "made again or cut"},
		{name: "end below file and commit", know: func(k *Knowledge) { k.Bounds = spans(0, 90) }, by: fromReset, next: 0, lineage: another, ceiling: 90, said: "made again or cut"},
		{name: "end below the commit, no file", know: all(noFile, func(k *Knowledge) { k.Bounds = spans(0, 90) }), by: fromReset, next: 0, lineage: another, ceiling: 90, said: "made again or cut"},
		{name: "end below the operator's word", know: all(by(2000, "")), by: fromReset, next: 50, lineage: another, ceiling: 1000, said: "made again or cut"},
		{name: "end below file and commit, no topic ids", know: func(k *Knowledge) {
			k.Bounds, k.Identity.TopicID = spans(0, 90), ""
		}, by: fromReset, next: 0, lineage: another, said: "made again or cut"},
		{name: "end below, latest", know: func(k *Knowledge) { k.Bounds, k.Reset = spans(0, 90), "latest" }, by: fromReset, next: 90, lineage: another, said: "made again or cut"},
		{name: "end below what was finished out of order", know: func(k *Knowledge) { k.Bounds = spans(50, 125) }, by: fromCommit, next: 100, lineage: another, ceiling: 125, said: "made again or cut"},
		{name: "end below what was finished out of order, no commit", know: all(noCommit, func(k *Knowledge) { k.Bounds = spans(0, 130) }), by: fromReset, next: 0, lineage: another, ceiling: 130, said: "made again or cut"},
		{name: "end below what another machine finished out of order", know: all(noFile, by(100, marked(100, func(m *Mark) { m.Done = offsets.Ranges{{From: 1000, To: 1001}} }))), by: fromCommit, next: 100, lineage: another, ceiling: 1000, said: "made again or cut"},
		{name: "end below what was tried", know: all(noCommit, func(k *Knowledge) {
			k.Bounds, k.Saved.Done = spans(0, 125), nil
			k.Saved.Attempts = append(k.Saved.Attempts, offsets.Attempt{Offset: 125, Number: 1})
		}), by: fromReset, next: 0, lineage: another, ceiling: 125, said: "made again or cut"},
		{name: "end below the file, the commit belongs to an earlier topic", know: all(by(50, marked(50, func(m *Mark) { m.TopicID = "S" })), func(k *Knowledge) { k.Bounds = spans(0, 60) }), by: fromReset, next: 0, lineage: another, ceiling: 60, said: "made again or cut"},
		{name: "everything is delivered", know: func(k *Knowledge) { k.Bounds, k.Saved.Done = spans(50, 120), nil; k.Saved.Attempts = nil }, by: fromFile, next: 120, lineage: 7},

		// A transaction is open.
		{name: "open transaction above the commit", know: func(k *Knowledge) { k.Bounds = kafka.Bounds{Oldest: 50, End: 110, High: 1000} }, by: fromFile, next: 120, lineage: 7, done: "130-130", tried: 1},
		{name: "operator goes to the end, behind an open transaction", know: all(by(1000, ""), func(k *Knowledge) { k.Bounds = kafka.Bounds{Oldest: 50, End: 900, High: 1000} }), by: fromOperator, next: 1000, lineage: another, said: "it is obeyed"},
		{name: "operator goes past the end, an open transaction below it", know: all(by(1001, ""), func(k *Knowledge) { k.Bounds = kafka.Bounds{Oldest: 50, End: 900, High: 1000} }), by: fromReset, next: 50, lineage: another, ceiling: 1000, said: "but the partition ends at 1000"},
		{name: "latest, an open transaction", know: all(noCommit, noFile, func(k *Knowledge) { k.Bounds, k.Reset = kafka.Bounds{Oldest: 50, End: 900, High: 1000}, "latest" }), by: fromReset, next: 900},

		// Retention went past.
		{name: "retention past the file", know: func(k *Knowledge) { k.Bounds.Oldest = 400 }, by: fromFile, next: 400, lineage: 7, done: "130-130", said: "offsets 120 to 399 are gone", lost: 280},
		{name: "retention past the commit", know: all(noFile, func(k *Knowledge) { k.Bounds.Oldest = 101 }), by: fromCommit, next: 101, lineage: 7, said: "up to 1 messages", lost: 1},
		{name: "retention past the commit, not past the file", know: func(k *Knowledge) { k.Bounds.Oldest = 120 }, by: fromFile, next: 120, lineage: 7, done: "130-130", tried: 1},
		{name: "everything is gone", know: func(k *Knowledge) { k.Bounds = spans(1000, 1000) }, by: fromFile, next: 1000, lineage: 7, done: "130-130", said: "possible loss of up to 880", lost: 880},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			k := known(row.know)
			d := Decide(k)
			said := strings.Join(d.Said, "\n")
			if d.By != row.by || d.Start.Next != row.next || d.Lost != row.lost || d.Hold != nil {
				t.Errorf("starts at %d by %s, lost %d, hold %v; want %d by %s, lost %d", d.Start.Next, d.By, d.Lost, d.Hold, row.next, row.by, row.lost)
			}
			if got := d.Start.Done.String(); got != row.done || d.Start.Ceiling != row.ceiling || len(d.Start.Attempts) != row.tried {
				t.Errorf("done %q, ceiling %d, attempts %v; want %q, %d, %d of them", got, d.Start.Ceiling, d.Start.Attempts, row.done, row.ceiling, row.tried)
			}
			if row.lineage == another && (d.Start.Lineage == 0 || k.Saved != nil && d.Start.Lineage == k.Saved.Lineage) || row.lineage != another && d.Start.Lineage != row.lineage {
				t.Errorf("lineage %d, want %d (0: a new one)", d.Start.Lineage, row.lineage)
			}
			if row.said == "" && said != "" || !strings.Contains(said, row.said) {
				t.Errorf("said %q, want %q", said, row.said)
			}
		})
	}
}

// Where nothing may be assumed the partition waits for a person, and the sentence says what to do.
func TestDecideHoldsWithoutAnOffset(t *testing.T) {
	for name, change := range map[string]func(*Knowledge){
		"nobody knows":           all(noCommit, noFile),
		"made again":             func(k *Knowledge) { k.Bounds = spans(0, 90) },
		"lost and not trusted":   all(noCommit, func(k *Knowledge) { k.TrustSaved = -time.Second }),
		"retention changes none": all(noCommit, noFile, func(k *Knowledge) { k.Bounds.Oldest = 900 }),
	} {
		d := Decide(known(all(change, func(k *Knowledge) { k.Reset = "error" })))
		if d.Hold == nil || !strings.Contains(d.Hold.Error(), "t/3") || !strings.Contains(d.Hold.Error(), "kafka-consumer-groups --reset-offsets") {
			t.Errorf("%s: hold %v, want a sentence with the partition and the remedy", name, d.Hold)
		}
		if d.Lost != 0 {
			t.Errorf("%s: %d offsets count as lost of a partition that does not start", name, d.Lost)
		}
	}
	if d := Decide(known(func(k *Knowledge) { k.Reset = "error" })); d.Hold != nil {
		t.Errorf("a known offset is held: %v", d.Hold)
	}
}

// A commit that kpush made on a cluster without topic ids still counts once the cluster has them.
func TestDecideAfterAnUpgradeToTopicIDs(t *testing.T) {
	d := Decide(known(all(noFile, by(100, marked(100, func(m *Mark) { m.TopicID = "" })))))
	if d.Start.Next != 100 || d.By != fromCommit {
		t.Errorf("starts at %d by %s, want 100 by the commit: %q", d.Start.Next, d.By, d.Said)
	}
}

// Whatever the mark adds to the file, no attempt is forgotten and no doubt is taken back.
func TestMergeAttempts(t *testing.T) {
	a := []offsets.Attempt{{Offset: 1, Number: 5, Faults: 1}, {Offset: 2, Number: 1, InDoubt: true}}
	b := []offsets.Attempt{{Offset: 1, Number: 3, Faults: 2, InDoubt: true}, {Offset: 2, Number: 2}, {Offset: 3, Number: 1}}
	want := []offsets.Attempt{{Offset: 1, Number: 5, Faults: 2, InDoubt: true}, {Offset: 2, Number: 2, InDoubt: true}, {Offset: 3, Number: 1}}
	if got := mergeAttempts(a, b); !reflect.DeepEqual(got, want) {
		t.Errorf("merged %v, want %v", got, want)
	}
	if a[0].Faults != 1 {
		t.Error("the file's own attempts were changed")
	}
}

// A decision must never start outside of the log, and never invent progress beyond what file and commit say.
func FuzzDecideStaysInsideTheLog(f *testing.F) {
	f.Add(int64(100), true, int64(120), int64(100), int64(50), int64(1000), int64(0), uint64(7))
	f.Add(int64(-1001), false, int64(120), int64(-1), int64(0), int64(90), int64(-1), uint64(7))
	f.Add(int64(500), true, int64(1), int64(1), int64(400), int64(400), int64(0), uint64(8))
	f.Fuzz(func(t *testing.T, committed int64, own bool, next, acknowledged, oldest, end, trust int64, lineage uint64) {
		if oldest < 0 || end < oldest || next < 0 || committed > 1<<60 || next > 1<<60 || end > 1<<60 {
			return // no such partition
		}
		k := known(func(k *Knowledge) {
			k.Saved.Next, k.Saved.Committed, k.Saved.Lineage, k.Saved.Done = next, acknowledged, lineage, nil
			k.Bounds, k.TrustSaved = spans(oldest, end), time.Duration(trust)
			k.Commit.Offset, k.Commit.Meta = committed, ""
			if own {
				k.Commit.Meta = marked(committed, nil)
			}
		})
		d := Decide(k)
		if d.Start.Next < oldest || d.Start.Next > end {
			t.Errorf("starts at %d, the log is %d to %d: %+v", d.Start.Next, oldest, end, d)
		}
		if d.By != fromReset && d.Start.Next > max(next, committed, oldest) {
			t.Errorf("starts at %d, beyond file %d, commit %d and oldest %d", d.Start.Next, next, committed, oldest)
		}
		if d.By == fromOperator && d.Start.Lineage == lineage {
			t.Error("an operator's word keeps the lineage: the file would still filter")
		}
	})
}

func TestSavedOffsetHasToBeOldEnough(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, row := range []struct {
		name  string
		know  func(*Knowledge)
		age   time.Duration
		holds bool
	}{
		{"lost, young", noCommit, 9 * time.Second, true},
		{"lost, old enough", noCommit, 10 * time.Second, false},
		{"rewound, young", by(80, marked(80, nil)), 9 * time.Second, true},
		{"rewound, old enough", by(80, marked(80, nil)), time.Hour, false},
		{"neither, young", nil, 0, false},
		{"never committed, young", all(noCommit, func(k *Knowledge) { k.Saved.Committed = -1 }), 0, false},
	} {
		k := known(row.know)
		k.TrustSaved, k.Now, k.Saved.At = 10*time.Second, now, now.Add(-row.age)
		d := Decide(k)
		if (d.Hold != nil) != row.holds || !row.holds && (d.By != fromFile || d.Start.Next != 120) {
			t.Errorf("%s: hold %v, %s at %d", row.name, d.Hold, d.By, d.Start.Next)
		}
		if row.holds && !strings.Contains(d.Hold.Error(), "trusted once it is 10s old") {
			t.Errorf("%s: %v", row.name, d.Hold)
		}
	}
}

// A clock that was set back makes the saved offset one of the future: it is trusted at once where that is the setting, and else
// once this process is as old.
func TestSavedOffsetOfTheFuture(t *testing.T) {
	for _, row := range []struct {
		trust, running time.Duration
		holds          bool
	}{{0, 0, false}, {10 * time.Second, 9 * time.Second, true}, {10 * time.Second, 10 * time.Second, false}} {
		k := known(noCommit)
		k.TrustSaved, k.Running, k.Now = row.trust, row.running, time.Unix(1_800_000_000, 0)
		k.Saved.At = k.Now.Add(time.Hour)
		if d := Decide(k); (d.Hold != nil) != row.holds {
			t.Errorf("trusted after %s, running for %s: hold %v", row.trust, row.running, d.Hold)
		}
	}
}
