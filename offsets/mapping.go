package offsets

import (
	"errors"
	"os"
	"runtime/debug"
	"syscall"
)

// mapSize is how much of the file is mapped at once: so little that it does not show in the memory of the process.
const mapSize = 256 << 10

// mapMost is the longest write that goes through the mapping: what one call about a message adds.
const mapMost = 5 * frameSize

// errPage is what a write would have returned as an error of its own.
var errPage = errors.New("the file system does not take a page of it: a bad disk, a full or read-only file system, or a file cut short")

// mapping is the part of the file that is written now, in memory. What is stored there is in the page cache at once, as after
// a write, and a sync puts it on disk; only the system call is saved, which costs most of what a record costs. Where the file
// system says no, the processor faults: store makes an error of that. Its owner locks.
type mapping struct {
	fd int
	at int64 // of b in the file
	b  []byte
}

// mappable are the file systems known to treat a stored page as a written one (statfs(2)); on others every frame is written.
var mappable = map[int64]bool{
	0xef53:     true, // ext2, ext3, ext4
	0x58465342: true, // xfs
	0x01021994: true, // tmpfs
	0x794c7630: true, // overlayfs, whatever lies below
}

// newMapping maps nothing yet. It is nil where the file is to be written instead.
func newMapping(f *os.File) *mapping {
	var fs syscall.Statfs_t
	if syscall.Fstatfs(int(f.Fd()), &fs) != nil || !mappable[int64(fs.Type)] {
		return nil
	}
	return &mapping{fd: int(f.Fd())}
}

// store puts b into the file, unless that part of it cannot be mapped.
func (m *mapping) store(b []byte, off int64) (stored bool, err error) {
	if off < m.at || off+int64(len(b)) > m.at+int64(len(m.b)) {
		if m.move(off); off+int64(len(b)) > m.at+int64(len(m.b)) {
			return false, nil
		}
	}
	defer func() {
		switch fault := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }: // what SetPanicOnFault promises
			err = errPage
		default:
			panic(fault)
		}
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	copy(m.b[off-m.at:], b)
	return true, nil
}

// move maps the part of the file that begins with the page of off. It may go beyond the file's end, where nobody writes.
func (m *mapping) move(off int64) {
	m.drop()
	at := off &^ int64(os.Getpagesize()-1)
	b, err := syscall.Mmap(m.fd, at, mapSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err == nil {
		m.at, m.b = at, b
	}
}

// drop unmaps; what was stored stays in the page cache.
func (m *mapping) drop() {
	if m.b != nil {
		_ = syscall.Munmap(m.b) // it was mapped just so
		m.at, m.b = 0, nil
	}
}
