package offsets

import (
	"fmt"
	"time"
)

// A failed write is tried again, in the other half, after this long.
const retryAfter = time.Second

// spare is the room that begin leaves in a half for the frames that carry no fact: synced, then moved or clean.
const spare = 3

// capacity is the number of frames in a half.
func (s *Store) capacity() int { return int((s.header.size - headerSize) / frameSize) }

// fits says whether a snapshot leaves room to go on.
func (s *Store) fits(frames int) bool { return frames+16 <= s.capacity() }

// begin waits until n frames can be written at once in the current half. The lock is given up only before it returns.
func (s *Store) begin(n int) error {
	for {
		switch {
		case s.closed:
			return ErrClosed
		case s.turning:
			s.wake.Wait()
		case s.failed != nil:
			return s.failed
		case int(s.pos)+n+spare > s.capacity():
			s.turn()
		default:
			return nil
		}
	}
}

// add encodes a frame behind those that were added since the last write. The caller has made room with begin, and holds the
// lock since.
func (s *Store) add(f frame) {
	if s.added == 0 && s.onDisk > s.marked {
		s.encode(frame{kind: syncedKind, offset: int64(s.onDisk)})
		s.marked = s.onDisk
	}
	s.encode(f)
}

func (s *Store) encode(f frame) {
	s.place.encode(s.buf[s.added*frameSize:], s.pos+s.added, f)
	s.added++
}

// write puts all that was added into the file, in one go.
func (s *Store) write() error {
	n := s.added
	if n == 0 {
		return nil
	}
	s.added = 0
	return s.writeFrames(s.buf[:n*frameSize], n)
}

// put writes one frame.
func (s *Store) put(f frame) error {
	s.add(f)
	return s.write()
}

// putAll writes many frames in one go.
func (s *Store) putAll(frames []frame) error {
	b := make([]byte, len(frames)*frameSize)
	for i, f := range frames {
		s.place.encode(b[i*frameSize:], s.pos+uint32(i), f)
	}
	return s.writeFrames(b, uint32(len(frames)))
}

func (s *Store) writeFrames(b []byte, n uint32) error {
	if s.seq == s.synced {
		s.stir()
	}
	s.seq++
	if _, err := s.disk.WriteAt(b, s.byteOf(s.half, s.pos)); err != nil {
		return s.fail(err)
	}
	s.pos += n
	return nil
}

// byteOf is where a frame begins in the file.
func (s *Store) byteOf(half int, frame uint32) int64 {
	return int64(half)*s.header.size + headerSize + int64(frame)*frameSize
}

// turn writes all of memory into the other half and goes on there. It is the way out of a full half and of a failed write,
// whose pages are never trusted again. The lock is given up meanwhile, but nobody can write.
func (s *Store) turn() {
	s.turning = true
	for s.busy {
		s.wake.Wait()
	}
	s.busy = true
	defer func() {
		s.busy, s.turning = false, false
		s.rouse()
	}()
	s.header.generation++ // also after a failure: two writings never share a generation
	h := s.header
	h.life, h.boot = uint32(s.random()), s.boot
	b, frames := s.snapshot(h)
	half, seq := 1-s.half, s.seq
	if !s.fits(frames) {
		s.fail(fmt.Errorf("what has to be remembered takes %d frames of the %d that a half holds", frames, s.capacity()))
		return
	}
	s.mu.Unlock()
	Crash("half full")
	_, err := s.disk.WriteAt(b, int64(half)*h.size)
	if err == nil {
		Crash("snapshot written")
		err = s.disk.Sync()
	}
	Crash("snapshot on disk")
	s.mu.Lock()
	if err != nil {
		s.fail(err)
		return
	}
	s.depart(h.generation)
	s.half, s.place, s.written = half, h.place(), h.generation
	s.pos, s.onDisk, s.marked = uint32(frames), uint32(frames), uint32(frames)
	s.synced, s.unsynced = seq, 0
	s.healed()
}

// depart leaves a note in the old half: from now on a damaged new half is noticed instead of silently passed over.
func (s *Store) depart(generation uint64) {
	if int(s.pos) == s.capacity() {
		return
	}
	var b [frameSize]byte
	s.place.encode(b[:], s.pos, frame{kind: movedKind, offset: int64(generation)})
	_, _ = s.disk.WriteAt(b[:], s.byteOf(s.half, s.pos)) // it only helps to notice; the new half is on disk already
}

// fail closes the file for writing until turn has succeeded.
func (s *Store) fail(err error) error {
	if s.failed == nil {
		s.log.Error("offsets: nothing can be recorded, so nothing is delivered until the volume can be written again",
			"file", s.path, "error", err)
	}
	s.failed = fmt.Errorf("%s cannot be written (%w): nothing is delivered until the volume can be written again", s.path, err)
	s.retryAt = s.now().Add(retryAfter)
	s.rouse()
	s.stir()
	s.hurry() // whatever the window
	return s.failed
}

func (s *Store) healed() {
	if s.failed != nil {
		s.failed = nil
		s.log.Info("offsets: the volume can be written again", "file", s.path)
	}
}
