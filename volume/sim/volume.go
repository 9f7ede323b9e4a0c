package sim

import (
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/kpush/kpush/volume"
)

// Volume is a directory of disks that share one power. A name that was made is there after a power cut, unless making it has failed: then it may
// be what it was; one that was removed may come back, until the next one is made.
type Volume struct {
	*Power
	Files  map[string]*Disk
	unsure map[string]*Disk // what a power cut may bring back; nil: nothing
}

// NewVolume is an empty one.
func NewVolume(p *Power) *Volume {
	return &Volume{Power: p, Files: map[string]*Disk{}, unsure: map[string]*Disk{}}
}

// List is sorted.
func (v *Volume) List() ([]string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Sorted(maps.Keys(v.Files)), nil
}

// Create makes a file whole, or replaces one.
func (v *Volume) Create(name string, content []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.Off {
		return ErrPower
	}
	f := v.next()
	done := f == None || f == FailDone || f == PowerDone
	if f == FailPartly || f == PowerPartly {
		if done = v.Rng.IntN(2) == 0; done {
			v.unsure[name] = v.Files[name]
		} else {
			v.Files[name+".new"] = newDisk(v.Power, content[:v.Rng.IntN(len(content))])
		}
	}
	if done {
		v.Files[name] = newDisk(v.Power, content)
	}
	if done && f == None {
		clear(v.unsure)
	}
	return v.failed(f)
}

// Open is a file that there is.
func (v *Volume) Open(name string) (volume.File, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if d := v.Files[name]; d != nil && !v.Off {
		return d, nil
	}
	return nil, fs.ErrNotExist
}

// Remove takes a name away.
func (v *Volume) Remove(name string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.Off {
		return ErrPower
	}
	f := v.next()
	if f != FailLost && f != PowerLost {
		if d := v.Files[name]; d != nil && !strings.HasSuffix(name, ".new") {
			v.unsure[name] = d
		}
		delete(v.Files, name)
	}
	return v.failed(f)
}

// Append is on the disk, or not there.
func (v *Volume) Append(name string, line []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.Off {
		return ErrPower
	}
	f := v.next()
	if f == None || f == FailDone || f == PowerDone {
		var before []byte
		if d := v.Files[name]; d != nil {
			before = d.Durable
		}
		v.Files[name] = newDisk(v.Power, append(before, line...))
	}
	return v.failed(f)
}

// After is what there is after the end of the process, or with power after that of the machine.
func (v *Volume) After(power bool) *Volume {
	next := NewVolume(&Power{Rng: v.Rng})
	for _, name := range slices.Sorted(maps.Keys(v.Files)) {
		next.Files[name] = v.Files[name].after(power, next.Power)
	}
	if !power {
		return next
	}
	for _, name := range slices.Sorted(maps.Keys(v.unsure)) {
		switch d := v.unsure[name]; {
		case v.Rng.IntN(2) == 0:
		case d == nil:
			delete(next.Files, name)
		default:
			next.Files[name] = newDisk(next.Power, d.Crash(true))
		}
	}
	return next
}
