package offsets

import (
	"fmt"
	"slices"
	"time"
)

// A failed write is tried again, in the other half, after this long.
const retryAfter = time.Second

// spare is the room that begin leaves in a half for the frames that carry no fact: synced, then moved or clean.
const spare = 3

// bufferKept is the room for frames that a journal keeps between two writes.
const bufferKept = 32 << 10

// journal is where the next frame goes in the file. Without a disk it takes every frame and keeps none. Guarded by Store.mu;
// whoever adds writes before the lock is given up.
type journal struct {
	disk    disk
	header  header // of the newest half; generation counts failed writings, too
	half    int    // that is written now
	written uint64 // generation of that half
	place   place
	pos     uint32 // number of the next frame
	onDisk  uint32 // frames of this half known to be on disk
	marked  uint32 // onDisk of the newest synced frame
	buffer  []byte // what was added since the last write
}

// added is the number of frames in the next write.
func (j *journal) added() uint32 { return uint32(len(j.buffer) / frameSize) }

// room is how many frames more the half has place for.
func (j *journal) room() int { return j.header.capacity() - int(j.pos+j.added()) - spare }

// add encodes a frame behind those that were added since the last write. The caller has made room with begin, and holds the
// lock since.
func (j *journal) add(f frame) {
	if j.disk == nil {
		return
	}
	if len(j.buffer) == 0 && j.onDisk > j.marked {
		j.encode(frame{kind: syncedKind, offset: int64(j.onDisk)})
		j.marked = j.onDisk
	}
	j.encode(f)
}

func (j *journal) encode(f frame) {
	n, at := j.pos+j.added(), len(j.buffer)
	j.buffer = slices.Grow(j.buffer, frameSize)[:at+frameSize]
	j.place.encode(j.buffer[at:], n, f)
}

// move goes on in the other half, which begins with so many frames, all on disk. It leaves a note in the old one: from now on
// a damaged new half is noticed instead of silently passed over.
func (j *journal) move(h header, frames int) {
	if int(j.pos) < h.capacity() {
		var b [frameSize]byte
		j.place.encode(b[:], j.pos, frame{kind: movedKind, offset: int64(h.generation)})
		_, _ = j.disk.WriteAt(b[:], h.byteOf(j.half, int(j.pos))) // it only helps to notice; the new half is on disk already
	}
	j.half, j.place, j.written = 1-j.half, h.place(), h.generation
	j.pos, j.onDisk, j.marked = uint32(frames), uint32(frames), uint32(frames)
}

// begin waits until n frames more can be added to the next write. The lock is given up only before it returns, and only when
// all that was added before is written.
func (s *Store) begin(n int) error {
	for {
		switch {
		case s.closed:
			return ErrClosed
		case s.turning && s.hangs():
			return s.hanging()
		case s.turning:
			s.wake.Wait()
		case s.failed != nil:
			return s.failed
		case !s.Keeps() || s.journal.room() >= n:
			return nil
		case s.journal.added() > 0:
			_ = s.write() // it shows in s.failed
		default:
			if err := s.turn(); err != nil {
				return err
			}
		}
	}
}

// write puts all that was added into the file, in one go.
func (s *Store) write() error {
	j := &s.journal
	b, n := j.buffer, j.added()
	if n == 0 {
		return nil
	}
	if s.backlog.seq == s.backlog.synced {
		poke(s.keeper.kick)
	}
	s.backlog.seq++
	if j.buffer = b[:0]; cap(b) > bufferKept {
		j.buffer = nil
	}
	if _, err := j.disk.WriteAt(b, j.header.byteOf(j.half, int(j.pos))); err != nil {
		return s.fail(err)
	}
	j.pos += n
	return nil
}

// put writes one frame.
func (s *Store) put(f frame) error {
	s.journal.add(f)
	return s.write()
}

// turn writes all of memory into the other half and goes on there. It is the way out of a full half and of a failed write,
// whose pages are never trusted again. The lock is given up meanwhile, but nobody can write. An error says that it was not tried, for
// the disk hangs; what came of it otherwise shows in s.failed.
func (s *Store) turn() error {
	j := &s.journal
	s.turning = true
	for s.backlog.busy {
		if s.hangs() {
			s.turning = false
			return s.hanging()
		}
		s.wake.Wait()
	}
	s.backlog.busy = true
	defer func() {
		s.backlog.busy, s.turning = false, false
		s.rouse()
	}()
	j.header.generation++ // also after a failure: two writings never share a generation
	h := j.header
	h.life, h.boot = uint32(s.opt.random()), s.opt.boot
	b, frames := s.table.snapshot(h)
	if most := h.capacity(); frames+16 > most {
		s.table.recount()
		s.forget(most / 2)
		b, frames = s.table.snapshot(h)
	}
	at, seq := int64(1-j.half)*h.size, s.backlog.seq
	if most := h.capacity(); frames+16 > most { // it has to leave room to go on
		s.fail(fmt.Errorf("what has to be remembered takes %d frames of the %d that a half holds", frames, most))
		return nil
	}
	err := s.visit(func() error {
		Crash("half full")
		_, err := j.disk.WriteAt(b, at)
		if err == nil {
			Crash("snapshot written")
			err = j.disk.Sync()
		}
		Crash("snapshot on disk")
		return err
	})
	if err != nil {
		s.fail(err)
		return nil
	}
	j.move(h, frames)
	s.backlog.synced, s.backlog.unsynced = seq, 0
	if s.failed != nil {
		s.failed = nil
		s.opt.Log.Info("offsets: the volume can be written again", "file", s.path)
	}
	return nil
}

// fail closes the file for writing until turn has succeeded.
func (s *Store) fail(err error) error {
	s.tell(0, err)
	if s.failed == nil {
		s.opt.Log.Error("offsets: nothing can be recorded, so nothing is delivered until the volume can be written again",
			"file", s.path, "error", err)
	}
	s.failed = fmt.Errorf("%s cannot be written (%w): nothing is delivered until the volume can be written again", s.path, err)
	s.retryAt = s.opt.Now().Add(retryAfter)
	s.rouse()
	poke(s.keeper.kick)
	poke(s.keeper.urgent) // whatever the window
	return s.failed
}
