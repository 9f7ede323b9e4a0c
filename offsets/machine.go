package offsets

import "github.com/kpush/kpush/volume"

// Machine is where a simulated file is: everything of the real one that Open reads from the system.
type Machine struct {
	Boot   string        // names its start: what was not on the disk under another one is in doubt
	Half   int64         // bytes of a half of a file that is made new
	Random func() uint64 // draws the names of volumes and lives
}

// Open is a Store on a file that nobody else has. An empty one is made a volume's first; path is for what is said.
func (m Machine) Open(f volume.File, path string, o Options) (*Store, error) {
	o.boot, o.half, o.random = m.Boot, m.Half, m.Random
	if n, err := f.Size(); err != nil {
		return nil, unusable(path, err)
	} else if n == 0 {
		if err := fill(f, o); err != nil {
			return nil, unusable(path, err)
		}
	}
	return recoverFrom(f, path, o)
}
