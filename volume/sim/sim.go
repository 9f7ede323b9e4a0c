// Package sim is a disk for tests, which fails, tears, reorders and forgets as a real one may.
package sim

import (
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
)

// Sector is what a disk writes whole or not at all.
const Sector = 512

// ErrPower is every call's after the power has gone.
var ErrPower = errors.New("the power is off")

// Power is what all disks of a machine share.
type Power struct {
	mu      sync.Mutex // held for each call of a disk or volume; who looks into them has to be alone
	Rng     *rand.Rand
	Steps   int                  // writes and syncs so far
	Fault   func(step int) Fault // nil: none
	Off     bool                 // the power is off
	Never   bool                 // no crash will come: nothing is kept for it
	Dropped bool                 // pages went from memory after a failed sync: a crash of the process is as bad as one of the machine
}

// Disk is one whose unsynced sectors survive a power cut in any subset and in any of the versions that were written. A write behind
// its end makes it longer; so may be what is left of it, with or without what was written there.
type Disk struct {
	*Power
	Cache   []byte // what reads see
	Durable []byte // what was there at the last sync
	pending []sectorWrite
}

type sectorWrite struct {
	at   int // byte of the sector
	data [Sector]byte
}

// Fault is what a step meets.
type Fault int

// The faults. Full is FailPartly for want of room, and never all of a write.
const (
	None       Fault = iota
	FailLost         // an error, and nothing was done
	FailDone         // an error, and all was done
	FailPartly       // an error, and a part was done
	Full
	PowerLost   // the power goes before it
	PowerDone   // the power goes after it
	PowerPartly // the power goes in the middle
	Kinds
)

// New is a disk on a machine of its own.
func New(rng *rand.Rand, image []byte) *Disk { return newDisk(&Power{Rng: rng}, image) }

func newDisk(p *Power, image []byte) *Disk {
	return &Disk{Power: p, Cache: append([]byte(nil), image...), Durable: append([]byte(nil), image...)}
}

// After is the disk after the end of the process, or with power after that of the machine, on a machine of its own: what was not on the disk
// is not because a process has ended.
func (d *Disk) After(power bool) *Disk { return d.after(power, &Power{Rng: d.Rng}) }

func (d *Disk) after(power bool, p *Power) *Disk {
	if power {
		return newDisk(p, d.Crash(true))
	}
	next := newDisk(p, d.Cache)
	next.Durable, next.pending = slices.Clone(d.Durable), slices.Clone(d.pending)
	return next
}

func (p *Power) next() Fault {
	f := None
	if p.Fault != nil {
		f = p.Fault(p.Steps)
	}
	p.Steps++
	return f
}

// failed is the error of a fault.
func (p *Power) failed(f Fault) error {
	switch f {
	case None:
		return nil
	case Full:
		return syscall.ENOSPC
	case FailLost, FailDone, FailPartly:
		return syscall.EIO
	}
	p.Off = true
	return ErrPower
}

// ReadAt reads what was written, on the disk or not.
func (d *Disk) ReadAt(b []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off >= int64(len(d.Cache)) {
		return 0, io.EOF
	}
	if n := copy(b, d.Cache[off:]); n < len(b) {
		return n, io.EOF
	}
	return len(b), nil
}

// WriteAt writes as much as the fault lets.
func (d *Disk) WriteAt(b []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.Off {
		return 0, ErrPower
	}
	f := d.next()
	n := len(b)
	switch f {
	case FailLost, PowerLost:
		n = 0
	case FailPartly, PowerPartly:
		n = d.Rng.IntN(len(b) + 1)
	case Full:
		n = d.Rng.IntN(len(b))
	}
	if more := int(off) + n - len(d.Cache); more > 0 {
		d.Cache = append(d.Cache, make([]byte, more)...)
	}
	copy(d.Cache[off:], b[:n])
	if d.Never {
		return n, nil
	}
	for at := int(off) / Sector * Sector; at < int(off)+n; at += Sector {
		w := sectorWrite{at: at}
		copy(w.data[:], d.Cache[at:])
		d.pending = append(d.pending, w)
	}
	return n, d.failed(f)
}

// Sync puts all on the disk, or fails as Linux does: the pages count as clean then, and may be dropped from memory at any time after.
func (d *Disk) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.Off {
		return ErrPower
	}
	f := d.next()
	switch f {
	case None, FailDone, PowerDone:
		d.Durable = append(d.Durable[:0], d.Cache...)
		d.pending = d.pending[:0]
	case FailLost, FailPartly, Full:
		d.Durable = d.Crash(f != FailLost)
		d.pending = d.pending[:0]
		if d.Rng.IntN(2) == 0 {
			copy(d.Cache, append(d.Durable, make([]byte, len(d.Cache)-len(d.Durable))...))
			d.Dropped = true
		}
	}
	return d.failed(f)
}

// Crash is what the platter may hold after a power cut now.
func (d *Disk) Crash(some bool) []byte {
	image := append([]byte(nil), d.Durable...)
	if !some {
		return image
	}
	if more := len(d.Cache) - len(image); more > 0 {
		image = append(image, make([]byte, d.Rng.IntN(more+1))...)
	}
	mode := d.Rng.IntN(4)
	limit := d.Rng.IntN(len(d.pending) + 1)
	sectors := make([]struct{ versions, keep, seen int }, len(d.Cache)/Sector+1)
	for _, w := range d.pending {
		sectors[w.at/Sector].versions++
	}
	for i := range sectors {
		sectors[i].keep = d.Rng.IntN(sectors[i].versions + 1)
	}
	for i, w := range d.pending {
		s := &sectors[w.at/Sector]
		s.seen++
		if mode == 1 && i >= limit || mode > 1 && s.seen > s.keep {
			continue // in order up to a point; any version of any sector
		}
		if w.at < len(image) {
			copy(image[w.at:], w.data[:])
		}
	}
	return image
}

// Size is its length.
func (d *Disk) Size() (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return int64(len(d.Cache)), nil
}

// Unfit is never so.
func (d *Disk) Unfit() string { return "" }

// Close has nothing to do.
func (d *Disk) Close() error { return nil }
