package offsets

import (
	"cmp"
)

// Open locks the volume, then creates the file or recovers what it knows. It returns an OpenError where a person has to act.
func Open(dir string, o Options) (*Store, error) {
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	d, err := openFile(dir, o)
	if err == nil {
		var s *Store
		if s, err = recoverFrom(d, filePath(dir), o); err == nil {
			s.lock = lock
			return s, nil
		}
		_ = d.Close() // nothing was written that matters
	}
	_ = lock.Close()
	return nil, err
}

// recoverFrom believes what d holds and goes on in the half that is not the newest.
func recoverFrom(d disk, path string, o Options) (*Store, error) {
	s := newStore(o, path)
	if o.wrap != nil {
		d = o.wrap(d)
	}
	b, err := load(d, path)
	if err != nil {
		return nil, err
	}
	m, err := parse(b, path)
	if err != nil {
		return nil, err
	}
	// What was read may be in the page cache alone, for whoever wrote it was killed: turn writes over the other half, which may be
	// the only one that is on disk.
	if err = d.Sync(); err == nil {
		s.journal.disk = d
		s.adopt(m)
		s.mu.Lock()
		err = cmp.Or(s.turn(), s.failed)
		s.mu.Unlock()
	}
	if err != nil {
		restore(d, b)
		return nil, unusable(path, err)
	}
	if o.idle {
		close(s.keeper.gone)
	} else {
		go s.run()
	}
	return s, nil
}

// restore writes what was read, for whoever reads next: a sync that fails may drop from the page cache what is not on the disk.
func restore(d disk, b []byte) {
	for at, tries := 0, 0; at < len(b) && tries < 30; tries++ {
		n, _ := d.WriteAt(b[at:], int64(at)) // it is of use as far as it goes
		at += n
	}
}

// adopt takes over what was read. After a power cut the ceilings are all that is known of lost intents: they become doubt. So they do where
// frames are missing in front of sound ones although the machine was up all the time: neither a kill nor a write that fails does that, but a sync
// that fails may take pages from memory.
func (s *Store) adopt(m *image) {
	j := &s.journal
	j.header, j.half, j.place, j.pos, s.table = m.header, m.half, m.header.place(), m.end, m.table
	s.past = m.header.past.next(edition{generation: m.header.generation, frames: m.end, life: m.header.life}, uint32(s.opt.random()))
	j.header.past = s.past
	lost := !m.clean && (m.header.boot != s.opt.boot || m.hole)
	for _, t := range m.current {
		s.table.count(t)
		if lost {
			t.doubt = max(t.doubt, t.ceiling)
			t.unvouched = s.opt.Sync.Window < 0
		}
		t.ceiling = 0
	}
	if m.torn > 0 {
		s.opt.Log.Warn("offsets: the newest frames were not whole and are left out; their messages may come again",
			"file", s.path, "torn", m.torn, "read", m.sound)
	}
}
