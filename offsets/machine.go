package offsets

import "github.com/kpush/kpush/volume"

// Machine is where a simulated file is: everything of the real one that Open reads from the system.
type Machine struct {
	Boot   string        // names its start: what was not on the disk under another one is in doubt
	Half   int64         // bytes of a half of a file that is made new
	Random func() uint64 // draws the names of volumes and lives
}

// Format writes what a new file begins with.
func (m Machine) Format(f volume.File) error { return fill(f, m.options(Options{})) }

// Open is a Store on a formatted file that nobody else has; path is for what is said.
func (m Machine) Open(f volume.File, path string, o Options) (*Store, error) {
	return recoverFrom(f, path, m.options(o))
}

func (m Machine) options(o Options) Options {
	o.boot, o.half, o.random = m.Boot, m.Half, m.Random
	return o
}
