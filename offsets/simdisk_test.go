package offsets

import (
	"errors"
	"io"
	"math/rand/v2"
	"syscall"
)

const sector = 512

var errPower = errors.New("the power is off")

// simDisk is a disk whose unsynced sectors survive a power cut in any subset and in any of the versions that were written.
// A sector itself is written whole or not at all.
type simDisk struct {
	rng     *rand.Rand
	cache   []byte // what reads see
	durable []byte // what was there at the last sync
	pending []sectorWrite
	steps   int                     // writes and syncs so far
	fault   func(step int) simFault // nil: none
	off     bool                    // the power is off
	never   bool                    // no crash will come: nothing is kept for it
	dropped bool                    // pages went from memory after a failed sync: a crash of the process is as bad as one of the machine
}

type sectorWrite struct {
	at   int // byte of the sector
	data [sector]byte
}

type simFault int

const (
	noFault     simFault = iota
	failLost             // an error, and nothing was done
	failDone             // an error, and all was done
	failPartly           // an error, and a part was done
	powerLost            // the power goes before it
	powerDone            // the power goes after it
	powerPartly          // the power goes in the middle
	simFaultKinds
)

func newSimDisk(rng *rand.Rand, image []byte) *simDisk {
	return &simDisk{rng: rng, cache: append([]byte(nil), image...), durable: append([]byte(nil), image...)}
}

func (d *simDisk) next() simFault {
	f := noFault
	if d.fault != nil {
		f = d.fault(d.steps)
	}
	d.steps++
	return f
}

func (d *simDisk) ReadAt(b []byte, off int64) (int, error) {
	if n := copy(b, d.cache[off:]); n < len(b) {
		return n, io.EOF
	}
	return len(b), nil
}

func (d *simDisk) WriteAt(b []byte, off int64) (int, error) {
	if d.off {
		return 0, errPower
	}
	f := d.next()
	n := len(b)
	switch f {
	case failLost, powerLost:
		n = 0
	case failPartly, powerPartly:
		n = d.rng.IntN(len(b) + 1)
	}
	copy(d.cache[off:], b[:n])
	if d.never {
		return n, nil
	}
	for at := int(off) / sector * sector; at < int(off)+n; at += sector {
		w := sectorWrite{at: at}
		copy(w.data[:], d.cache[at:])
		d.pending = append(d.pending, w)
	}
	switch f {
	case noFault:
		return n, nil
	case failLost, failDone, failPartly:
		return n, syscall.EIO
	}
	d.off = true
	return 0, errPower
}

func (d *simDisk) Sync() error {
	if d.off {
		return errPower
	}
	switch f := d.next(); f {
	case noFault, failDone, powerDone:
		copy(d.durable, d.cache)
		d.pending = d.pending[:0]
		if f == noFault {
			return nil
		}
		if f == powerDone {
			d.off = true
			return errPower
		}
		return syscall.EIO
	case failLost, failPartly:
		// As Linux does: the pages count as clean now. They may be dropped from memory at any time after.
		d.durable = d.crash(f == failPartly)
		d.pending = d.pending[:0]
		if d.rng.IntN(2) == 0 {
			copy(d.cache, d.durable)
			d.dropped = true
		}
		return syscall.EIO
	}
	d.off = true
	return errPower
}

// crash is what the platter may hold after a power cut now.
func (d *simDisk) crash(some bool) []byte {
	image := append([]byte(nil), d.durable...)
	if !some {
		return image
	}
	mode := d.rng.IntN(4)
	limit := d.rng.IntN(len(d.pending) + 1)
	var versions, keep, seen [64]int // by sector
	for _, w := range d.pending {
		versions[w.at/sector]++
	}
	for i := range keep {
		keep[i] = d.rng.IntN(versions[i] + 1)
	}
	for i, w := range d.pending {
		n := w.at / sector
		seen[n]++
		if mode == 1 && i >= limit || mode > 1 && seen[n] > keep[n] {
			continue // in order up to a point; any version of any sector
		}
		copy(image[w.at:], w.data[:])
	}
	return image
}

func (d *simDisk) Size() (int64, error) { return int64(len(d.cache)), nil }
func (d *simDisk) ReadOnly() bool       { return false }
func (d *simDisk) Close() error         { return nil }
