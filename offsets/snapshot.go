package offsets

import (
	"cmp"
	"maps"
	"slices"
)

// snapshot is all of memory as the beginning of a half: header, frames, seal.
func (s *Store) snapshot(h header) (b []byte, frames int) {
	s.prune()
	for _, t := range s.current {
		if t.owner == nil {
			t.ceiling, t.ceilingOn = 0, 0 // its attempts are exact, in the same snapshot
		}
	}
	all := s.all()
	b = make([]byte, headerSize+(len(all)+1)*frameSize)
	h.encode(b)
	p := h.place()
	for i, f := range all {
		p.encode(b[headerSize+i*frameSize:], uint32(i), f)
	}
	n := len(all)
	p.encode(b[headerSize+n*frameSize:], uint32(n), frame{kind: sealKind, offset: int64(n)})
	return b, n + 1
}

// all is everything there is to say.
func (s *Store) all() []frame {
	var all []frame
	for _, t := range s.sorted() {
		all = t.frames(all, true)
	}
	return all
}

// sorted is every slot that counts, oldest first.
func (s *Store) sorted() []*slot {
	return slices.SortedFunc(maps.Values(s.current), func(a, b *slot) int { return cmp.Compare(a.number, b.number) })
}

// prune forgets topics that were deleted and made again: same names, another topic id, an older slot.
func (s *Store) prune() {
	newest := make(map[Key]*slot)
	general := func(k Key) Key { k.TopicID, k.Partition = "", 0; return k }
	for k, t := range s.current {
		if n := newest[general(k)]; k.TopicID != "" && (n == nil || n.number < t.number) {
			newest[general(k)] = t
		}
	}
	for k, t := range s.current {
		if n := newest[general(k)]; k.TopicID != "" && n.key.TopicID != k.TopicID && t.owner == nil {
			delete(s.current, k)
		}
	}
}
