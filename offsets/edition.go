package offsets

import "fmt"

// edition is how much a file holds: so many frames of one writing of a half, and all that earlier generations had.
type edition struct {
	generation uint64
	frames     uint32
	life       uint32 // of that writing
	opening    uint32 // of the Store that wrote it
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
	word := fmt.Sprintf(editionFormat, j.written, j.onDisk, j.place.life, s.read.opening)
	s.said.Store(&word)
	return word
}

// Holds says whether the file held all of an Edition of this volume when it was opened, or has it from this Store. False: the
// volume was put back from a copy that is older, and does not know what was sent since then. Without a file there is no copy.
func (s *Store) Holds(word string) bool {
	if !s.Keeps() {
		return true
	}
	var e edition
	if n, err := fmt.Sscanf(word, editionFormat, &e.generation, &e.frames, &e.life, &e.opening); n != 4 || err != nil {
		return false
	}
	r := s.read
	return e.opening == r.opening || e.generation < r.generation ||
		e.generation == r.generation && e.life == r.life && e.frames <= r.frames
}
