//go:build race

package wire

import "syscall"

// unannounced is announced where the race detector looks: package syscall tells it what a socket puts in order.
func unannounced(call uintptr, fd int, p []byte) (n int, err error) {
	for {
		if call == syscall.SYS_WRITE {
			n, err = syscall.Write(fd, p)
		} else {
			n, err = syscall.Read(fd, p)
		}
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}
