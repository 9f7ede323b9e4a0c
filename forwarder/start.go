package forwarder

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/kpush/kpush/offsets"
)

// origin says which of the sources decided where a partition starts.
type origin string

const (
	fromOperator origin = "operator"
	fromFile     origin = "file"
	fromCommit   origin = "commit"
	fromReset    origin = "reset policy"
)

// knowledge is all that is known of a partition when it is assigned.
type knowledge struct {
	partition  tp
	identity   offsets.Key
	volume     string
	holds      func(edition string) bool // of the volume
	saved      *offsets.Saved            // nil: the file knows nothing of this identity
	commit     commit                    // offset < 0: the broker knows nothing
	bounds     bounds
	reset      string        // earliest, latest, error
	trustSaved time.Duration // negative: never when the broker lost or rewound its commit
	now        time.Time
	running    time.Duration // since when this process runs
}

// young tells whether the saved offset is not old enough to be trusted against the broker. One that is of the future, because
// the clock was set back, is taken to be as old as this process.
func (k knowledge) young() bool {
	age := k.now.Sub(k.saved.At)
	if age < 0 {
		age = k.running
	}
	return age < k.trustSaved
}

// decision is where a partition starts, who said so, and what an operator should hear of it.
type decision struct {
	start offsets.Start
	by    origin
	said  []string // sentences worth a warning
	lost  int64    // offsets that were passed over without an outcome
	hold  error    // the partition cannot start until somebody acts; the sentence says what to do
}

// decide is the rule of a start: operator's reset > saved file > broker's commit > reset policy.
//
// A commit without kpush's mark was written by somebody else. At the offset that kpush itself committed last it changes
// nothing (a console consumer that joined the group wipes the metadata of partitions it never read); anywhere else it is
// an operator's word and is obeyed, also backwards, as a new lineage in which the facts of the file do not apply.
//
// A commit with the mark of another lineage than the file's is newer than the file: another machine obeyed an
// operator in between. No request starts before the first commit of a lineage is acknowledged, so the file cannot hold
// facts of a lineage that Kafka has not seen. A mark of this very volume, which holds all that it held then, is older.
func decide(k knowledge) decision {
	m, ours := parseMark(k.commit.meta)
	ours = ours && m.offset == k.commit.offset
	marked := ours && m.cluster == k.identity.Cluster
	none := k.commit.offset < 0
	var d decision
	if marked && m.topicID != k.identity.TopicID && m.topicID != "" && k.identity.TopicID != "" {
		d.said = append(d.said, "Kafka's commit belongs to an earlier topic of this name and does not apply")
		marked, none = false, true
	}
	switch {
	case none && k.saved == nil:
		d.resetTo(k)
	case none && k.trustSaved < 0 && k.saved.Committed >= 0:
		d.said = append(d.said, fmt.Sprintf("Kafka has lost the committed offset %d and KPUSH_USE_SAVED_OFFSET_TIME forbids to trust the saved one (%d)", k.saved.Committed, k.saved.Next))
		d.resetTo(k)
	case none && k.saved.Committed >= 0 && k.young():
		d.hold = fmt.Errorf("Kafka has lost the committed offset %d; the saved one (%d) is trusted once it is %s old (KPUSH_USE_SAVED_OFFSET_TIME)", k.saved.Committed, k.saved.Next, k.trustSaved)
	case none:
		if k.saved.Committed >= 0 {
			d.said = append(d.said, fmt.Sprintf("Kafka has lost the committed offset %d; the saved one (%d) is trusted", k.saved.Committed, k.saved.Next))
		}
		d.fromSaved(k)
	case !marked && k.saved != nil && k.saved.Committed == k.commit.offset,
		ours && m.bare() && k.saved != nil && k.saved.Committed < m.offset && m.offset <= k.saved.Next: // died right after it
		d.fromSaved(k)
		// it may be an operator's all the same: another machine may have been further
		d.start.Committed, d.start.Lineage = k.commit.offset, newLineage()
	case !marked:
		d.by = fromOperator
		d.start = offsets.Start{Next: k.commit.offset, Committed: k.commit.offset, Lineage: newLineage()}
		if k.saved != nil {
			d.said = append(d.said, fmt.Sprintf("the committed offset %d was not written by kpush, which had finished everything below %d: it is obeyed", k.commit.offset, k.saved.Next))
		}
	case k.saved != nil && k.saved.Lineage != m.lineage && m.volume == k.volume && k.holds(m.edition):
		d.fromSaved(k) // this volume began another lineage since, and died before it was committed
	case k.saved == nil || k.saved.Lineage != m.lineage:
		d.takeOver(m)
	case m.offset < k.saved.Committed && k.trustSaved < 0:
		d.said = append(d.said, fmt.Sprintf("Kafka's commit went back from %d to %d and KPUSH_USE_SAVED_OFFSET_TIME forbids to trust the saved offset (%d)", k.saved.Committed, m.offset, k.saved.Next))
		d.takeOver(m)
		d.start.Lineage = newLineage()
	case m.offset < k.saved.Committed && k.young():
		d.hold = fmt.Errorf("Kafka's commit went back from %d to %d; the saved offset (%d) is trusted once it is %s old (KPUSH_USE_SAVED_OFFSET_TIME)", k.saved.Committed, m.offset, k.saved.Next, k.trustSaved)
	default:
		if m.offset < k.saved.Committed {
			d.said = append(d.said, fmt.Sprintf("Kafka's commit went back from %d to %d; the saved offset (%d) is trusted", k.saved.Committed, m.offset, k.saved.Next))
		}
		d.fromSaved(k)
		d.join(k, m)
	}
	d.fit(k, !none)
	// what comes from now on was never sent
	d.start.Ceiling = min(d.start.Ceiling, k.bounds.high)
	d.start.Attempts = slices.DeleteFunc(d.start.Attempts, func(a offsets.Attempt) bool { // finished in the meantime, or gone
		return a.Offset < d.start.Next || d.start.Done.Contains(a.Offset)
	})
	return d
}

func newLineage() uint64 { return rand.Uint64() | 1 }

func (d *decision) resetTo(k knowledge) {
	d.by = fromReset
	d.start = offsets.Start{Lineage: newLineage(), Committed: -1}
	switch k.reset {
	case "latest":
		d.start.Next = k.bounds.end
	case "error":
		d.hold = fmt.Errorf("%s: neither Kafka nor the volume knows an offset of group %s, and KPUSH_AUTO_OFFSET_RESET=error: set one with kafka-consumer-groups --reset-offsets, or choose earliest or latest", k.partition, k.identity.Group)
	default:
		d.start.Next = k.bounds.oldest
	}
}

func (d *decision) fromSaved(k knowledge) {
	d.by = fromFile
	s := k.saved
	d.start = offsets.Start{Next: s.Next, Done: s.Done, Attempts: s.Attempts, Ceiling: s.Ceiling, Lineage: s.Lineage, Committed: s.Committed}
}

func (d *decision) takeOver(m mark) {
	d.by = fromCommit
	d.start = offsets.Start{Next: m.offset, Done: m.done, Attempts: m.attempts, Ceiling: m.ceiling, Lineage: m.lineage, Committed: m.offset}
}

// join adds what the commit's mark knows to what the file knows of the same lineage. The mark's ceiling is older than the
// file's doubts where this volume wrote both, also where the log has a gap behind what the file has finished; it counts where
// another machine had the partition in between, where nothing vouches for the file (a power cut with KPUSH_OFFSETS_SYNC=never), or
// where the volume was put back from a copy that is older than the mark.
func (d *decision) join(k knowledge, m mark) {
	behind := d.start.Next < m.offset
	d.start.Done = d.start.Done.Union(m.done)
	d.start.Committed = max(d.start.Committed, m.offset)
	d.start.Attempts = mergeAttempts(d.start.Attempts, m.attempts)
	if behind {
		d.by = fromCommit
		d.start.Next = m.offset
	}
	own := m.volume == k.volume
	older := own && m.edition != "" && !k.holds(m.edition)
	if own && !older && !k.saved.Unvouched && (m.edition != "" || !behind) {
		return
	}
	if older {
		d.said = append(d.said, fmt.Sprintf("the volume holds less than when Kafka's commit (%d) was made, so it is an older copy: what may have been sent since is flagged", m.offset))
	}
	d.start.Ceiling = max(d.start.Ceiling, m.ceiling)
}

// reach is the end of what the start knows: of what is finished, and of what was tried.
func (d *decision) reach() int64 {
	reach := d.start.Next
	for _, r := range d.start.Done {
		reach = max(reach, r.To)
	}
	for _, a := range d.start.Attempts {
		reach = max(reach, a.Offset+1)
	}
	return reach
}

func mergeAttempts(a, b []offsets.Attempt) []offsets.Attempt {
	known := make(map[int64]int, len(a))
	out := append([]offsets.Attempt(nil), a...)
	for i, x := range out {
		known[x.Offset] = i
	}
	for _, x := range b {
		i, ok := known[x.Offset]
		if !ok {
			out = append(out, x)
			continue
		}
		o := &out[i]
		o.Number, o.Faults, o.InDoubt = max(o.Number, x.Number), max(o.Faults, x.Faults), o.InDoubt || x.InDoubt
	}
	return out
}

// fit moves a start that the partition's log does not hold any more; applies: Kafka's commit is about this topic.
func (d *decision) fit(k knowledge, applies bool) {
	if d.hold != nil {
		return
	}
	if reach := d.reach(); reach > k.bounds.high {
		d.said = append(d.said, fmt.Sprintf("the %s knows of offsets up to %d, but the partition ends at %d: it was made again or cut, so that does not apply", d.by, reach, k.bounds.high))
		if c := k.commit.offset; applies && c <= k.bounds.high {
			d.by = fromCommit
			d.start = offsets.Start{Next: c, Committed: c, Lineage: newLineage()}
		} else {
			d.resetTo(k)
		}
		if k.identity.TopicID != "" && d.start.Next < k.bounds.end {
			d.start.Ceiling = k.bounds.high // it is the same topic, so it was cut: what is left of it was sent before
		}
	}
	if gap := k.bounds.oldest - d.start.Next; d.hold == nil && gap > 0 {
		d.lost = gap
		d.said = append(d.said, fmt.Sprintf("offsets %d to %d are gone from Kafka without an outcome (retention?): possible loss of up to %d messages", d.start.Next, k.bounds.oldest-1, gap))
		d.start.Next = k.bounds.oldest
	}
}
