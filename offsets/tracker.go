package offsets

import (
	"cmp"
	"math"
	"slices"
	"sort"
)

// progress is how far the final outcome of a message has come.
type progress uint8

const (
	outstanding progress = iota
	written              // a frame says so, every snapshot must say so, too; the watermark waits
	recorded             // as durable as Options.Sync asks
)

// stage is how far the newest attempt at a message has come in this assignment.
type stage uint8

const (
	unsent   stage = iota
	underWay       // it counts among the attempts, and as one in doubt
	settled        // it has ended without an outcome
)

// row is one message that was handed over, and the offsets below it that do not exist.
type row struct {
	from, offset int64
	number       uint32 // of the newest attempt
	faults       uint32
	doubt        bool // of the attempts that are over
	stage        stage
	progress     progress
}

// rowsKept is the room for rows that a partition keeps when all of it is recorded.
const rowsKept = 1024

// tracker knows which offsets of a partition are finished. Its owner locks.
type tracker struct {
	next     int64             // every offset below is finished
	position int64             // one past the newest offset handed over
	markers  int64             // up to here, or where position is, there are no messages that were not handed over
	done     Ranges            // finished at or above next before this assignment
	attempts map[int64]Attempt // tried before this assignment, not handed over since
	rows     []row             // handed over, by offset; rows[:head] are past
	head     int
	top      int64 // no row at or above it is finished
	waiting  int   // rows that are outstanding or only written

	sentCounts bool // passed goes beyond what was sent
	handedOver bool // nothing more is waited for: what is under way is in doubt
}

// start begins an assignment: nothing is handed over yet.
func (t *tracker) start() {
	t.position, t.top = t.next, t.next
	t.settle()
}

// fetched takes over the next offset and says whether it has to be delivered.
func (t *tracker) fetched(offset int64) bool {
	if offset < t.position {
		return false
	}
	r := row{from: t.position, offset: offset, progress: outstanding}
	if t.done.Contains(offset) {
		r.progress = recorded
		t.top = offset + 1
	} else {
		t.waiting++
	}
	if a, ok := t.attempts[offset]; ok {
		r.note(a, unsent)
		delete(t.attempts, offset)
	}
	if t.head > 64 && t.head > len(t.rows)/2 {
		t.rows = t.rows[:copy(t.rows, t.rows[t.head:])]
		t.head = 0
	}
	t.rows = append(t.rows, r)
	t.position = offset + 1
	t.settle()
	return r.progress == outstanding
}

// find returns the row of an offset that was handed over and is not past, or nil. It is good until the lock is given up.
func (t *tracker) find(offset int64) *row {
	rows := t.rows[t.head:]
	if len(rows) == 0 || offset < rows[0].offset {
		return nil
	}
	i := int(min(offset-rows[0].offset, int64(len(rows)-1))) // there it is where no offsets are missing, else below
	if rows[i].offset != offset {
		i = sort.Search(i, func(i int) bool { return rows[i].offset >= offset })
	}
	if rows[i].offset != offset {
		return nil
	}
	return &rows[i]
}

// write marks a row as written: every snapshot says so from now on.
func (t *tracker) write(r *row) {
	r.progress = written
	t.top = max(t.top, r.offset+1)
}

// finish marks the offset as recorded and moves the watermark.
func (t *tracker) finish(offset int64) {
	if r := t.find(offset); r != nil && r.progress != recorded {
		t.write(r)
		r.progress = recorded
		t.waiting--
		t.settle()
	}
}

// settle moves the watermark up to the lowest row that is not recorded.
func (t *tracker) settle() {
	for t.head < len(t.rows) && t.rows[t.head].progress == recorded {
		t.head++
	}
	if t.head < len(t.rows) {
		t.next = t.rows[t.head].offset
		t.done = t.done.TrimBelow(t.next)
		return
	}
	if t.rows, t.head = t.rows[:0], 0; cap(t.rows) > rowsKept {
		t.rows = nil // a buffer full of messages is no measure of what an idle partition needs
	}
	t.next = t.position
	t.absorb()
}

// advance passes over offsets that hold no message. It says whether the watermark moved.
func (t *tracker) advance(position int64) bool {
	if !t.behind(position) {
		return false
	}
	t.position = position
	t.settle()
	return true
}

// behind tells whether the watermark may move up to position: nothing is outstanding.
func (t *tracker) behind(position int64) bool { return t.head == len(t.rows) && position > t.position }

// passed is the watermark that may be committed.
func (t *tracker) passed() int64 {
	if !t.sentCounts {
		return t.next
	}
	for _, r := range t.rows[t.head:] {
		if r.progress != recorded && r.stage == unsent {
			return r.offset
		}
	}
	return t.position
}

// finished is what is finished at or above the watermark and has come at least as far as p, in memory of its own.
func (t *tracker) finished(p progress) Ranges {
	rows := t.rows[t.head:]
	rows = rows[:sort.Search(len(rows), func(i int) bool { return rows[i].offset >= t.top })]
	runs, inside := 0, false
	for i := range rows {
		ok := rows[i].progress >= p
		if ok && !inside {
			runs++
		}
		inside = ok
	}
	out := make(Ranges, 0, runs)
	for i := range rows {
		if r := &rows[i]; r.progress >= p {
			out = out.Add(max(r.from, t.next), r.offset+1)
		}
	}
	if len(t.done) == 0 {
		return out
	}
	return out.Union(t.done)
}

// tried is what is known of the attempts at messages that are not finished, by offset.
func (t *tracker) tried() []Attempt { return t.list(t.next, math.MaxInt64, (*row).tried) }

// list is what is known of attempts at or above from, by offset: those from before the assignment, and what tell says of each
// row below to.
func (t *tracker) list(from, to int64, tell func(*row) (a Attempt, ok bool)) []Attempt {
	var out []Attempt
	for _, a := range t.attempts {
		if a.Offset >= from && !t.done.Contains(a.Offset) {
			out = append(out, a)
		}
	}
	rows := t.rows[t.head:]
	for i := 0; i < len(rows) && rows[i].offset < to; i++ {
		if a, ok := tell(&rows[i]); ok && a.Offset >= from {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b Attempt) int { return cmp.Compare(a.Offset, b.Offset) })
	return out
}

// release folds the rows into done and attempts: the assignment is over.
func (t *tracker) release() {
	done, tried := t.finished(written), t.tried()
	t.rows, t.head, t.waiting = nil, 0, 0
	t.done, t.position = done, t.next
	t.attempts = make(map[int64]Attempt, len(tried))
	for _, a := range tried {
		t.attempts[a.Offset] = a
	}
	t.absorb()
}

// absorb moves the watermark, with nothing outstanding, over what was done before.
func (t *tracker) absorb() {
	t.done = t.done.TrimBelow(t.next)
	if len(t.done) > 0 && t.done[0].From == t.next {
		t.next = t.done[0].To
		t.done = t.done[1:]
	}
	t.position = t.next
}

// try keeps what is known of an attempt from before the assignment; the later and the worse wins.
func (t *tracker) try(a Attempt) {
	old := t.attempts[a.Offset]
	t.attempts[a.Offset] = Attempt{
		Offset:  a.Offset,
		Number:  max(a.Number, old.Number),
		Faults:  max(a.Faults, old.Faults),
		InDoubt: a.InDoubt || old.InDoubt,
	}
}

// attempt is all that is known of the attempts at a message.
func (r *row) attempt() Attempt {
	return Attempt{Offset: r.offset, Number: int(r.number), Faults: int(r.faults), InDoubt: r.doubt || r.stage == underWay}
}

// tried is attempt, if there was one and the message has no outcome.
func (r *row) tried() (a Attempt, ok bool) {
	return r.attempt(), r.progress == outstanding && r.number > 0
}

// left is attempt, if there was one and the outcome is not as durable as it has to be.
func (r *row) left() (a Attempt, ok bool) {
	return r.attempt(), r.progress != recorded && r.number > 0
}

// over is what is known of the attempts that are over, if there is something and the message has no outcome on record.
func (r *row) over() (a Attempt, ok bool) {
	a = Attempt{Offset: r.offset, Number: int(r.number), Faults: int(r.faults), InDoubt: r.doubt}
	if r.stage == underWay {
		a.Number--
	}
	return a, r.progress != recorded && (a.Number > 0 || a.InDoubt)
}

func (r *row) note(a Attempt, s stage) {
	r.number, r.faults, r.doubt, r.stage = clamp(a.Number), clamp(a.Faults), a.InDoubt, s
}

// clamp keeps a count within the 32 bits that a frame has for it.
func clamp(n int) uint32 {
	return uint32(min(max(n, 0), 1<<32-1))
}
