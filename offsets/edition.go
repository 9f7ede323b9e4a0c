package offsets

import (
	"fmt"
	"slices"
)

// edition is how much a file holds: so many frames of one writing of a half, and all that earlier generations had.
type edition struct {
	generation uint64
	frames     uint32
	life       uint32 // of that writing
	opening    uint32 // of the Store that wrote it
}

// within tells whether what e holds is a part of what other holds.
func (e edition) within(other edition) bool {
	return e.generation < other.generation || e.generation == other.generation && e.life == other.life && e.frames <= other.frames
}

// history is who has written the file, and how much of each it holds: what a copy of the volume that was put back does not.
type history struct {
	before edition   // of all that were before the list
	list   []edition // the newest is who has it open now, and holds all of itself
}

// historyMost is as many as a header has room for. Of a copy that was put back it is known as long that it is one.
const historyMost = 16

// next is what it is for a Store that finds so much.
func (h history) next(found edition, opening uint32) history {
	list := slices.Clone(h.list)
	if n := len(list); n > 0 {
		found.opening = list[n-1].opening
		list[n-1] = found
	} else {
		h.before = found // a new file, or one that had no list yet
	}
	if list = append(list, edition{opening: opening}); len(list) > historyMost {
		h.before, list = list[0], list[1:]
	}
	return history{h.before, list}
}

// opening is who has it open.
func (h history) opening() uint32 {
	if len(h.list) == 0 {
		return 0
	}
	return h.list[len(h.list)-1].opening
}

func (h history) holds(e edition) bool {
	if e.opening == h.opening() {
		return true
	}
	for _, one := range h.list {
		if one.opening == e.opening {
			return e.within(one)
		}
	}
	return e.within(h.before)
}

const editionFormat = "%d.%d.%x.%x"

// Edition is what the file holds on disk, in a word without spaces for those who keep it elsewhere; see Holds. "" without a file.
// It does not wait for a disk that hangs: what it said before is true, too.
func (s *Store) Edition() string {
	if !s.Keeps() {
		return ""
	}
	if !s.lockSoon() {
		if word := s.said.Load(); word != nil {
			return *word
		}
		return ""
	}
	defer s.mu.Unlock()
	j := &s.journal
	word := fmt.Sprintf(editionFormat, j.written, j.onDisk, j.place.life, s.past.opening())
	s.said.Store(&word)
	return word
}

// Holds says whether the file holds all of an Edition of this volume. False: the volume was put back from a copy that is older, and does
// not know what was sent since then. Without a file there is no copy.
func (s *Store) Holds(word string) bool {
	if !s.Keeps() {
		return true
	}
	var e edition
	if n, err := fmt.Sscanf(word, editionFormat, &e.generation, &e.frames, &e.life, &e.opening); n != 4 || err != nil {
		return false
	}
	return s.past.holds(e)
}
