package offsets

import (
	"maps"
	"math"
	"reflect"
	"sync"
	"time"
)

// slot is a Key in one lineage. Its number is never used again, so a frame belongs to it for ever.
type slot struct {
	mu sync.Mutex // guards tracker, doubt, committed and noted: the innermost lock, with which nobody waits. All else is guarded by Store.mu
	tracker
	number    uint32
	key       Key
	lineage   uint64
	first     int64     // all from it on below next was finished in this lineage
	had       Ranges    // finished in earlier ones, or below first
	doubt     int64     // unfinished offsets below may have been sent in a life whose intents are lost
	ceiling   int64     // no request of this slot has passed it
	ceilingOn int64     // the part of ceiling that is known to be on disk
	reach     int64     // how far ahead of a request the ceiling is written
	lifted    time.Time // when it was, last
	liftedAt  int64     // the offset that needed it
	stood     bool      // somebody had to wait for it since
	unvouched bool      // see Saved; until it is assigned
	unwritten bool      // what an assignment has joined did not get into the file
	noted     bool      // committed, or where the tracker is advanced to, waits to be written
	seq       uint64    // backlog.seq at the newest ceiling, and at the release
	committed int64
	counted   int   // frames, as of the table's newest count
	at        int64 // unix seconds of the newest fact
	owner     *Partition
}

func newSlot(number uint32) *slot {
	return &slot{number: number, committed: -1, tracker: tracker{attempts: make(map[int64]Attempt)}}
}

// past is what was finished in earlier lineages, or below next in this one, in memory of its own.
func (t *slot) past() Ranges { return t.had.Union(Ranges(nil).Add(t.first, t.next)) }

// saved is what a new assignment may believe.
func (t *slot) saved() Saved {
	ceiling := t.doubt
	if ceiling <= t.next {
		ceiling = 0
	}
	return Saved{
		Next:      t.next,
		Done:      t.finished(written),
		Had:       t.past(),
		Attempts:  t.tried(),
		Ceiling:   ceiling,
		Unvouched: t.unvouched,
		Committed: t.committed,
		Lineage:   t.lineage,
		At:        time.Unix(t.at, 0),
	}
}

// join adds what a Start knows and says whether any of it was new.
func (t *slot) join(st Start) (changed bool) {
	before := t.saved()
	t.next = max(t.next, st.Next)
	t.done, t.had = t.done.Union(st.Done), t.had.Union(st.Had)
	t.absorb()
	for _, a := range st.Attempts {
		t.try(a)
	}
	maps.DeleteFunc(t.attempts, func(o int64, _ Attempt) bool { return o < t.next || t.done.Contains(o) })
	t.doubt = max(t.doubt, st.Ceiling)
	t.committed = max(t.committed, st.Committed)
	return !reflect.DeepEqual(before, t.saved())
}

// near says whether the ceiling has to be lifted for a request at offset: less than half of it is left.
func (t *slot) near(offset int64) bool { return offset >= t.ceiling-t.reach/2 }

// lift writes the ceiling ahead of offset as far as the partition goes in six times lag. A reach changes at most by a factor
// of two at a time, since messages come in bursts, and doubles when somebody had to wait.
func (t *slot) lift(offset int64, now time.Time, lag time.Duration) frame {
	reach := float64(nearestReach)
	if t.ceiling > 0 {
		pace := math.Inf(1)
		if took := now.Sub(t.lifted); took > 0 && !t.stood {
			pace = float64(offset-t.liftedAt) * float64(6*lag) / float64(took)
		}
		reach = min(max(pace, float64(t.reach)/2, nearestReach), float64(2*t.reach), farthestReach)
	}
	t.reach, t.ceiling = int64(reach), offset+int64(reach)
	t.lifted, t.liftedAt, t.stood = now, offset, false
	return frame{kind: ceilingKind, slot: t.number, offset: t.ceiling}
}

// hasNote tells whether something waits to be written.
func (t *slot) hasNote() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.noted
}

// frames says all there is to say about the slot; identity is left out where the file has it.
func (t *slot) frames(out []frame, identity bool) []frame {
	t.mu.Lock()
	defer t.mu.Unlock()
	if identity {
		out = textFrames(out, t.number, t.key)
	}
	open := frame{kind: openKind, slot: t.number, count: uint16(len(keyText(t.key))), offset: t.next, value: t.lineage}
	out = append(out, open, committedFrame(t))
	if t.doubt > t.next || t.unvouched {
		doubt := frame{kind: doubtKind, slot: t.number, offset: t.doubt}
		if t.unvouched {
			doubt.flags = unvouchedFlag
		}
		out = append(out, doubt)
	}
	if t.owner != nil && t.ceiling > 0 {
		out = append(out, frame{kind: ceilingKind, slot: t.number, offset: t.ceiling})
	}
	past := t.past()
	out = setFrames(out, t.number, past.Below(t.next).Union(t.finished(written)), finishedKind, bitsKind)
	out = setFrames(out, t.number, past.TrimBelow(t.next), hadKind, hadBitsKind)
	for _, a := range t.tried() {
		out = append(out, attemptFrame(settledKind, t.number, a))
	}
	return out
}
