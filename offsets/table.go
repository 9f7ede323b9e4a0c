package offsets

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// table is all that a file has to remember: the slot that counts of every Key. Guarded by Store.mu.
type table struct {
	current map[Key]*slot
	slots   uint32    // the highest slot number ever given
	size    int       // about how many frames all of it takes: of a slot that has an owner, as of its assignment or
	counted time.Time // the newest recount
}

// count notes how many frames a slot takes.
func (m *table) count(t *slot) {
	n := len(t.frames(nil, true))
	m.size += n - t.counted
	t.counted = n
}

// take has a slot count for its Key, and remove has nothing count.
func (m *table) take(t *slot) {
	m.remove(t.key)
	m.current[t.key], t.counted = t, 0
	m.count(t)
}

func (m *table) remove(k Key) {
	if t := m.current[k]; t != nil {
		m.size -= t.counted
		delete(m.current, k)
	}
}

// recount counts the slots that have an owner anew: they have grown.
func (m *table) recount() {
	for _, t := range m.current {
		if t.owner != nil {
			m.count(t)
		}
	}
}

// snapshot is all of it as the beginning of a half: header, frames, seal.
func (m *table) snapshot(h header) (b []byte, frames int) {
	m.prune()
	for _, t := range m.current {
		if t.owner == nil {
			t.ceiling, t.ceilingOn = 0, 0 // its attempts are exact, in the same snapshot
		}
	}
	all := m.frames()
	all = append(all, frame{kind: sealKind, offset: int64(len(all))})
	b = make([]byte, headerSize+len(all)*frameSize)
	h.encode(b)
	p := h.place()
	for i, f := range all {
		p.encode(b[headerSize+i*frameSize:], uint32(i), f)
	}
	return b, len(all)
}

// frames is everything there is to say.
func (m *table) frames() []frame {
	var all []frame
	for _, t := range m.sorted() {
		all = t.frames(all, true)
	}
	return all
}

// sorted is every slot, oldest first.
func (m *table) sorted() []*slot {
	return slices.SortedFunc(maps.Values(m.current), func(a, b *slot) int { return cmp.Compare(a.number, b.number) })
}

// prune forgets topics that were deleted and made again: same names, another topic id, an older slot.
func (m *table) prune() {
	newest := make(map[Key]*slot)
	general := func(k Key) Key { k.TopicID, k.Partition = "", 0; return k }
	for k, t := range m.current {
		if n := newest[general(k)]; k.TopicID != "" && (n == nil || n.number < t.number) {
			newest[general(k)] = t
		}
	}
	for k, t := range m.current {
		if n := newest[general(k)]; k.TopicID != "" && n.key.TopicID != k.TopicID && t.owner == nil {
			m.remove(k)
		}
	}
}
