package start

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// Origin says which of the sources decided where a partition starts.
type Origin string

const (
	fromOperator Origin = "operator"
	fromFile     Origin = "file"
	fromCommit   Origin = "commit"
	fromReset    Origin = "reset policy"
)

// Knowledge is all that is known of a partition when it is assigned.
type Knowledge struct {
	Partition  kafka.Partition
	Identity   offsets.Key
	Volume     string
	Holds      func(edition string) bool // of the volume
	Saved      *offsets.Saved            // nil: the file knows nothing of this identity
	Foreign    []offsets.Key             // what the file has of the same name, and does not apply
	Remade     bool                      // the file knows an earlier topic of the name, as this group's in this cluster
	Commit     kafka.Commit              // Offset < 0: the broker knows nothing
	Bounds     kafka.Bounds
	Asked      *int64        // where an operator wants it to go on, while this process runs; nil: nobody has asked
	Reset      string        // earliest, latest, error
	TrustSaved time.Duration // negative: never when the broker lost or rewound its commit
	Now        time.Time
	Running    time.Duration // since when this process runs
}

// young tells whether the saved offset is not old enough to be trusted against the broker. One that is of the future, because
// the clock was set back, is taken to be as old as this process.
func (k Knowledge) young() bool {
	age := k.Now.Sub(k.Saved.At)
	if age < 0 {
		age = k.Running
	}
	return age < k.TrustSaved
}

// Earlier tells whether the group has consumed an earlier topic of the same name, as far as the file and Kafka's commit know.
func (k Knowledge) Earlier() bool {
	m, ours := ParseMark(k.Commit.Meta)
	return k.Remade || ours && m.Offset == k.Commit.Offset && m.Cluster == k.Identity.Cluster && k.earlier(m)
}

// earlier tells whether a mark is about an earlier topic of the same name.
func (k Knowledge) earlier(m Mark) bool {
	return offsets.Remade(m.TopicID, k.Identity.TopicID)
}

// Decision is where a partition starts, who said so, and what an operator should hear of it.
type Decision struct {
	Start offsets.Start
	By    Origin
	Said  []string // sentences worth a warning
	Lost  int64    // offsets that were passed over without an outcome
	// Paused: an operator wants no attempts, until an operator resumes them.
	Paused bool
	Marked bool  // Kafka's commit has a mark that says so, or not
	Hold   error // the partition cannot start until somebody acts; the sentence says what to do
}

// Decide is the rule of a start: operator's reset > saved file > broker's commit > reset policy.
//
// A commit without kpush's mark was written by somebody else. At the offset that kpush itself committed last it changes
// nothing (a console consumer that joined the group wipes the metadata of partitions it never read); anywhere else it is
// an operator's word and is obeyed, also backwards, as a new lineage in which the facts of the file do not apply.
//
// A commit with the mark of another lineage than the file's is newer than the file: another machine obeyed an
// operator in between. No request starts before the first commit of a lineage is acknowledged, so the file cannot hold
// facts of a lineage that Kafka has not seen. A mark of this very volume, which holds all that it held then, is older, unless nothing vouches for that:
// then the beginning of the mark's lineage may be what was lost.
func Decide(k Knowledge) Decision {
	m, ours := ParseMark(k.Commit.Meta)
	ours = ours && m.Offset == k.Commit.Offset
	marked := ours && m.Cluster == k.Identity.Cluster
	none := k.Commit.Offset < 0
	var d Decision
	if marked && k.earlier(m) {
		d.Said = append(d.Said, "Kafka's commit belongs to an earlier topic of this name and does not apply")
		marked, none = false, true
	}
	d.Paused, d.Marked = marked && m.Paused, marked
	switch {
	case k.Asked != nil:
		d.By = fromOperator
		d.Start = offsets.Start{Next: *k.Asked, Committed: -1, Lineage: NewLineage()}
		d.replays(k)
	case none && k.Saved == nil:
		d.resetTo(k)
	case none && k.TrustSaved < 0 && k.Saved.Committed >= 0:
		d.Said = append(d.Said, fmt.Sprintf("Kafka has lost the committed offset %d and KPUSH_USE_SAVED_OFFSET_TIME forbids to trust the saved one (%d)", k.Saved.Committed, k.Saved.Next))
		d.resetTo(k)
	case none && k.Saved.Committed >= 0 && k.young():
		d.Hold = fmt.Errorf("Kafka has lost the committed offset %d; the saved one (%d) is trusted once it is %s old (KPUSH_USE_SAVED_OFFSET_TIME)", k.Saved.Committed, k.Saved.Next, k.TrustSaved)
	case none:
		if k.Saved.Committed >= 0 {
			d.Said = append(d.Said, fmt.Sprintf("Kafka has lost the committed offset %d; the saved one (%d) is trusted (to start over on purpose: kpush -seek)", k.Saved.Committed, k.Saved.Next))
		}
		d.fromSaved(k)
	case !marked && k.Saved != nil && k.Saved.Committed == k.Commit.Offset,
		ours && m.Bare() && k.Saved != nil && k.Saved.Committed < m.Offset && m.Offset <= k.Saved.Next: // died right after it
		d.fromSaved(k)
		// it may be an operator's all the same: another machine may have been further
		d.Start.Committed, d.Start.Lineage = k.Commit.Offset, NewLineage()
	case !marked:
		d.By = fromOperator
		d.Start = offsets.Start{Next: k.Commit.Offset, Committed: k.Commit.Offset, Lineage: NewLineage()}
		d.replays(k)
		if k.Saved != nil {
			d.Said = append(d.Said, fmt.Sprintf("the committed offset %d was not written by kpush, which had finished everything below %d: it is obeyed", k.Commit.Offset, k.Saved.Next))
		}
	case k.Saved != nil && k.Saved.Lineage != m.Lineage && m.Volume == k.Volume && k.Holds(m.Edition) && !k.Saved.Unvouched:
		d.fromSaved(k) // this volume began another lineage since, and died before it was committed
	case k.Saved == nil || k.Saved.Lineage != m.Lineage:
		d.takeOver(m)
	case m.Offset < k.Saved.Committed && k.TrustSaved < 0:
		d.Said = append(d.Said, fmt.Sprintf("Kafka's commit went back from %d to %d and KPUSH_USE_SAVED_OFFSET_TIME forbids to trust the saved offset (%d)", k.Saved.Committed, m.Offset, k.Saved.Next))
		d.takeOver(m)
		d.Start.Lineage = NewLineage()
	case m.Offset < k.Saved.Committed && k.young():
		d.Hold = fmt.Errorf("Kafka's commit went back from %d to %d; the saved offset (%d) is trusted once it is %s old (KPUSH_USE_SAVED_OFFSET_TIME)", k.Saved.Committed, m.Offset, k.Saved.Next, k.TrustSaved)
	default:
		if m.Offset < k.Saved.Committed {
			d.Said = append(d.Said, fmt.Sprintf("Kafka's commit went back from %d to %d; the saved offset (%d) is trusted", k.Saved.Committed, m.Offset, k.Saved.Next))
		}
		d.fromSaved(k)
		d.join(k, m)
	}
	d.fit(k, !none)
	d.fitHad(k)
	// what comes from now on was never sent
	d.Start.Ceiling = min(d.Start.Ceiling, k.Bounds.High)
	d.Start.Attempts = slices.DeleteFunc(d.Start.Attempts, func(a offsets.Attempt) bool { // finished in the meantime, or gone
		return a.Offset < d.Start.Next || d.Start.Done.Contains(a.Offset)
	})
	return d
}

// replays notes what the file has of the history that an operator has ended.
func (d *Decision) replays(k Knowledge) {
	if k.Saved != nil {
		d.Start.Had = k.Saved.Had.Union(k.Saved.Done)
	}
}

// fitHad leaves out what the log does not hold any more. Where it ends below, it was cut: what comes at those offsets is another
// message, and no file may say so of it in a later life.
func (d *Decision) fitHad(k Knowledge) {
	d.Start.Had = d.Start.Had.TrimBelow(k.Bounds.Oldest)
	if n := len(d.Start.Had); n > 0 && d.Start.Had[n-1].To > k.Bounds.High {
		d.Start.Had, d.Start.Lineage = nil, NewLineage()
	}
}

// NewLineage is drawn: no two histories of a partition share one. Never 0.
func NewLineage() uint64 { return rand.Uint64() | 1 }

func (d *Decision) resetTo(k Knowledge) {
	d.By = fromReset
	d.Start = offsets.Start{Lineage: NewLineage(), Committed: -1}
	switch k.Reset {
	case "latest":
		d.Start.Next = k.Bounds.End
	case "error":
		d.Hold = fmt.Errorf("%s: neither Kafka nor the volume knows an offset of group %s, and KPUSH_AUTO_OFFSET_RESET=error: set one with kpush -seek %[1]s@OFFSET (or @TIME, @beginning, @end), or while no member runs with kafka-consumer-groups --reset-offsets; or choose earliest or latest", k.Partition, k.Identity.Group)
	default:
		d.Start.Next = k.Bounds.Oldest
	}
}

func (d *Decision) fromSaved(k Knowledge) {
	d.By = fromFile
	s := k.Saved
	d.Start = offsets.Start{Next: s.Next, Done: s.Done, Attempts: s.Attempts, Ceiling: s.Ceiling, Lineage: s.Lineage, Committed: s.Committed, Had: s.Had}
}

func (d *Decision) takeOver(m Mark) {
	d.By = fromCommit
	d.Start = offsets.Start{Next: m.Offset, Done: m.Done, Attempts: m.Attempts, Ceiling: m.Ceiling, Lineage: m.Lineage, Committed: m.Offset, Had: m.Had}
}

// join adds what the commit's mark knows to what the file knows of the same lineage. The mark's ceiling is older than the
// file's doubts where this volume wrote both, also where the log has a gap behind what the file has finished; it counts where
// another machine had the partition in between, where nothing vouches for the file (a power cut with KPUSH_OFFSETS_SYNC=never), or
// where the volume was put back from a copy that is older than the mark.
func (d *Decision) join(k Knowledge, m Mark) {
	behind := d.Start.Next < m.Offset
	d.Start.Done, d.Start.Had = d.Start.Done.Union(m.Done), d.Start.Had.Union(m.Had)
	d.Start.Committed = max(d.Start.Committed, m.Offset)
	d.Start.Attempts = mergeAttempts(d.Start.Attempts, m.Attempts)
	if behind {
		d.By = fromCommit
		d.Start.Next = m.Offset
	}
	own := m.Volume == k.Volume
	older := own && m.Edition != "" && !k.Holds(m.Edition)
	if own && !older && !k.Saved.Unvouched && (m.Edition != "" || !behind) {
		return
	}
	if older {
		d.Said = append(d.Said, fmt.Sprintf("the volume holds less than when Kafka's commit (%d) was made, so it is an older copy: what may have been sent since is flagged", m.Offset))
	}
	d.Start.Ceiling = max(d.Start.Ceiling, m.Ceiling)
}

// reach is the end of what the start knows: of what is finished, and of what was tried.
func (d *Decision) reach() int64 {
	reach := d.Start.Next
	for _, r := range d.Start.Done {
		reach = max(reach, r.To)
	}
	for _, a := range d.Start.Attempts {
		reach = max(reach, a.Offset+1)
	}
	return reach
}

func mergeAttempts(a, b []offsets.Attempt) []offsets.Attempt {
	known := make(map[int64]offsets.Attempt, len(a))
	for _, x := range slices.Concat(a, b) {
		o := known[x.Offset]
		o.Offset, o.Number, o.Faults, o.InDoubt = x.Offset, max(o.Number, x.Number), max(o.Faults, x.Faults), o.InDoubt || x.InDoubt
		known[x.Offset] = o
	}
	return slices.SortedFunc(maps.Values(known), func(x, y offsets.Attempt) int { return cmp.Compare(x.Offset, y.Offset) })
}

// fit moves a start that the partition's log does not hold any more; applies: Kafka's commit is about this topic.
func (d *Decision) fit(k Knowledge, applies bool) {
	if d.Hold != nil {
		return
	}
	if reach := d.reach(); reach > k.Bounds.High {
		d.Said = append(d.Said, fmt.Sprintf("the %s knows of offsets up to %d, but the partition ends at %d: it was made again or cut, so that does not apply", d.By, reach, k.Bounds.High))
		if c := k.Commit.Offset; applies && c <= k.Bounds.High {
			d.By = fromCommit
			d.Start = offsets.Start{Next: c, Committed: c, Lineage: NewLineage()}
		} else {
			d.resetTo(k)
		}
		if k.Identity.TopicID != "" && d.Start.Next < k.Bounds.End {
			d.Start.Ceiling = k.Bounds.High // it is the same topic, so it was cut: what is left of it was sent before
		}
	}
	if gap := k.Bounds.Oldest - d.Start.Next; d.Hold == nil && gap > 0 {
		d.Lost = gap
		d.Said = append(d.Said, fmt.Sprintf("offsets %d to %d are gone from Kafka without an outcome (retention?): possible loss of up to %d messages", d.Start.Next, k.Bounds.Oldest-1, gap))
		d.Start.Next = k.Bounds.Oldest
	}
}
