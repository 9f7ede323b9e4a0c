package forwarder

import (
	"errors"
	"syscall"
	"unsafe"
)

// errUnasked is of a connection on which something came that nobody asked for, or its end: a request on it would be lost or get
// somebody else's answer, so none goes out.
var errUnasked = errors.New("the service ended the connection, or wrote to it, before it was asked anything")

// unasked is errUnasked where that has happened to a connection. Where step does the writing, it looks for itself.
func (c *conn) unasked() error {
	c.quiet = false
	if c.raw.Control(c.look) != nil || !c.quiet {
		return errUnasked
	}
	return nil
}

// quiet tells whether nothing has come on a socket, not even its end.
func quiet(fd uintptr) bool {
	var one [1]byte
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&one[0])), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	return errno == syscall.EAGAIN
}
