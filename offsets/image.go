package offsets

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"slices"
)

// image is what the bytes of a file say.
type image struct {
	header header // of the half that is believed
	half   int
	table
	sound int    // frames that were read
	end   uint32 // one past the last sound frame
	torn  int    // frames that were written but not whole
	hole  bool   // sound ones come behind one that is not
	clean bool
}

// load reads the whole file.
func load(d disk, path string) ([]byte, error) {
	size, err := d.Size()
	if err != nil {
		return nil, unusable(path, err)
	}
	if size > 1<<32 {
		return nil, damaged(path, 0, "is larger than any offsets file")
	}
	b := make([]byte, size)
	if n, err := d.ReadAt(b, 0); n < len(b) {
		return nil, unusable(path, err)
	}
	return b, nil
}

// parse believes the newest half that is sealed, and of it every frame that verifies. It refuses a file that has lost
// something which was on disk.
func parse(b []byte, path string) (*image, error) {
	m := &image{half: -1}
	half := len(b) / 2
	var sound, seal int
	var volume uint64
	for i := range 2 {
		part := b[i*half:]
		h, ver, ok := parseHeader(part)
		switch {
		case !ok:
			continue
		case ver != version:
			return nil, &OpenError{Reason: ErrNewer, Path: path, Sentence: fmt.Sprintf("%s was written by a newer kpush (format %d; "+
				"this one knows %d): use that version, or move the file aside to start without it", path, ver, version)}
		case h.size*2 != int64(len(b)):
			return nil, damaged(path, int64(len(b)), fmt.Sprintf("has %d bytes instead of %d", len(b), h.size*2))
		case sound > 0 && h.volume != volume:
			return nil, damaged(path, int64(half), "is put together from two files")
		}
		sound, volume = sound+1, h.volume
		part = part[:half]
		at, ok := findSeal(part, h)
		if ok && (m.half < 0 || h.generation > m.header.generation) {
			m.header, m.half, seal = h, i, at
		}
	}
	if m.half < 0 {
		return nil, damaged(path, 0, unreadable(b, sound))
	}
	if err := m.read(b[m.half*half:][:half], seal, path); err != nil {
		return nil, err
	}
	return m, nil
}

// unreadable says what is wrong with a file that has no half to believe.
func unreadable(b []byte, sound int) string {
	switch {
	case len(b) == 0:
		return "is empty"
	case len(bytes.TrimLeft(b, "\x00")) == 0:
		return "holds nothing but zeros"
	case len(b) >= 6 && string(b[:6]) != magic && sound == 0:
		return "is not an offsets file of kpush, or its beginning is damaged"
	case sound == 0:
		return "is truncated, or its headers are damaged"
	}
	return "has no half that is whole"
}

// findSeal returns the number of the seal frame if every frame above it is whole.
func findSeal(b []byte, h header) (int, bool) {
	p := h.place()
	for i := range h.capacity() {
		f, ok := p.decode(b[headerSize+i*frameSize:], uint32(i))
		if !ok {
			return 0, false
		}
		if f.kind == sealKind {
			return i, f.offset == int64(i)
		}
	}
	return 0, false
}

// read takes in every sound frame of the believed half.
func (m *image) read(b []byte, seal int, path string) error {
	p := m.header.place()
	r := reader{slots: make(map[uint32]*found)}
	onDisk, hole, bad := seal+1, math.MaxInt, 0
	for i := range m.header.capacity() {
		f, ok := p.decode(b[headerSize+i*frameSize:], uint32(i))
		if !ok {
			hole, bad = min(hole, i), bad+1
			continue
		}
		m.sound++
		m.torn = bad
		m.end = uint32(i + 1)
		m.slots = max(m.slots, f.slot)
		switch f.kind {
		case syncedKind, cleanKind:
			onDisk, m.clean = max(onDisk, int(f.offset)), f.kind == cleanKind
		case movedKind:
			return damaged(path, m.header.byteOf(m.half, i), fmt.Sprintf("goes on in its other half, which is damaged (generation %d)", f.offset))
		case sealKind:
		default:
			if !r.take(f) {
				return &OpenError{Reason: ErrNewer, Path: path, Sentence: fmt.Sprintf("%s holds a frame of kind %d, written by a newer "+
					"kpush: use that version, or move the file aside to start without it", path, f.kind)}
			}
		}
	}
	if hole < onDisk {
		at := m.header.byteOf(m.half, hole)
		return damaged(path, at, fmt.Sprintf("is damaged at byte %d, in a part that was safely on disk", at))
	}
	m.hole = m.torn > 0
	if end := int(m.end); end < m.header.capacity() && p.claims(b[headerSize+end*frameSize:]) {
		m.torn++
	}
	m.current = r.current()
	return nil
}

// found is a slot as far as it was read.
type found struct {
	*slot
	text   []byte  // of its Key
	length int     // of the whole text; 0: nothing has opened the slot
	late   []Range // finished, below what was finished before: in no order until sort
}

// finish adds from ≤ n < to to what is finished.
func (t *found) finish(from, to int64) {
	if n := len(t.done); n == 0 || t.done[n-1].From <= from {
		t.done = t.done.Add(from, to)
	} else {
		t.late = append(t.late, Range{from, to})
	}
}

// sort puts what came late to what is finished.
func (t *found) sort() {
	slices.SortFunc(t.late, func(a, b Range) int { return cmp.Compare(a.From, b.From) })
	var sorted Ranges
	for _, x := range t.late {
		sorted = sorted.Add(x.From, x.To)
	}
	t.done = t.done.Union(sorted)
}

// reader puts frames together to slots.
type reader struct {
	slots map[uint32]*found
	last  *found // facts come in runs
}

func (r *reader) slot(n uint32) *found {
	if r.last == nil || r.last.number != n {
		if r.slots[n] == nil {
			r.slots[n] = &found{slot: newSlot(n)}
		}
		r.last = r.slots[n]
	}
	return r.last
}

// take adds one fact. It returns false for a kind that this version does not know.
func (r *reader) take(f frame) bool {
	t := r.slot(f.slot)
	switch f.kind {
	case textKind:
		if len(t.text) == 16*int(f.count) {
			t.text = f.text(t.text)
		}
	case openKind:
		t.next, t.lineage = max(t.next, f.offset), f.value
		t.length = int(f.count)
	case doneKind:
		t.finish(f.offset-int64(f.value>>32), f.offset+1)
		t.at = max(t.at, int64(uint32(f.value)))
		delete(t.attempts, f.offset)
	case finishedKind:
		t.finish(int64(f.value), f.offset)
	case bitsKind:
		each(f, t.finish)
	case hadKind:
		t.had = t.had.Add(int64(f.value), f.offset)
	case hadBitsKind:
		each(f, func(from, to int64) { t.had = t.had.Add(from, to) })
	case intentKind, settledKind:
		t.attempts[f.offset] = Attempt{Offset: f.offset, Number: int(f.value >> 32), Faults: int(uint32(f.value)),
			InDoubt: f.kind == intentKind || f.flags&inDoubtFlag != 0}
	case ceilingKind:
		t.ceiling = f.offset
	case doubtKind:
		t.doubt, t.unvouched = max(t.doubt, f.offset), f.flags&unvouchedFlag != 0
	case committedKind:
		t.committed, t.at = f.offset, max(t.at, int64(f.value))
	default:
		return false
	}
	return true
}

// each calls with every offset of a frame of bits.
func each(f frame, with func(from, to int64)) {
	for v := f.value; v != 0; v &= v - 1 {
		at := f.offset + int64(bits.TrailingZeros64(v))
		with(at, at+1)
	}
}

// current is the newest slot of every Key.
func (r *reader) current() map[Key]*slot {
	out := make(map[Key]*slot)
	for n, t := range r.slots {
		k, ok := parseKey(t.text)
		if !ok || len(t.text) != t.length || out[k] != nil && out[k].number > n {
			continue
		}
		t.key = k
		t.sort()
		all := slices.Clone(t.done)
		t.absorb()
		t.had, t.first = t.had.Union(all.Below(t.next)), t.next
		maps.DeleteFunc(t.attempts, func(o int64, _ Attempt) bool { return o < t.next || t.done.Contains(o) })
		out[k] = t.slot
	}
	return out
}

// claims says whether a frame that does not verify bears the mark of this writing of its half: it is torn, not old.
func (p place) claims(b []byte) bool {
	return binary.LittleEndian.Uint32(b[8:]) == p.life
}

func damaged(path string, position int64, what string) error {
	return &OpenError{Reason: ErrCorrupt, Path: path, Position: position, Sentence: fmt.Sprintf("%s %s: keep it, and move it aside "+
		"to start without it; then the offset committed to Kafka decides, and what was delivered since may come again", path, what)}
}
