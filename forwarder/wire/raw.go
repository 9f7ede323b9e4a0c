//go:build !race

package wire

import (
	"syscall"
	"unsafe"
)

// unannounced makes a call to the kernel, SYS_READ or SYS_WRITE, on a socket that never waits, until no signal interrupts it.
// Go's scheduler is not told: it would take the processor away from a call that takes long for want of a fast machine.
func unannounced(call uintptr, fd int, p []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}
