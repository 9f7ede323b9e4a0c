package wire

import (
	"cmp"
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// deadPeer is how long a peer may be silent that has acknowledged all and that the network does not reach any more, also where an exchange
// may last for hours. What it has not acknowledged the system repeats for some 15 minutes; TCP_USER_TIMEOUT would be shorter, but it
// also counts the time in which a busy service has no room for a request.
const deadPeer = 30 * time.Second

var keepAlive = net.KeepAliveConfig{Enable: true, Idle: deadPeer / 2, Interval: deadPeer / 6, Count: 3}

// dial makes a connection; an error means that no request was sent.
func (w *Wire) dial(ctx context.Context, deadline time.Time) (*conn, error) {
	until := time.Now().Add(w.connTimeout)
	if !deadline.IsZero() && deadline.Before(until) {
		until = deadline
	}
	limited, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	dialer := net.Dialer{KeepAliveConfig: keepAlive, Control: w.affords}
	socket, err := dialer.DialContext(limited, w.network, w.address)
	err = unroutable(err, net.Dial)
	var c *conn
	if err == nil {
		if c, err = w.secured(limited, socket); err != nil {
			socket.Close()
		}
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return nil, cause
	}
	return c, err
}

// secured makes a connection of a socket, behind TLS where the URL is one of https.
func (w *Wire) secured(ctx context.Context, socket net.Conn) (*conn, error) {
	if w.tls == nil {
		return newConn(ctx, socket, nil)
	}
	config := w.tls().Clone()
	config.ServerName = cmp.Or(config.ServerName, w.name)
	return newConn(ctx, socket, config)
}

// unroutable tells an address that nobody here has a way to, such as one of IPv6 where there is none, from a want of local ports: the system
// has one word for both. Where there is a way, UDP finds it, and sends nothing.
func unroutable(err error, dial func(network, address string) (net.Conn, error)) error {
	var op *net.OpError
	if !errors.Is(err, syscall.EADDRNOTAVAIL) || !errors.As(err, &op) || op.Addr == nil {
		return err
	}
	c, again := dial("udp", op.Addr.String())
	if again == nil {
		c.Close()
	}
	if !errors.Is(again, syscall.EADDRNOTAVAIL) {
		return err
	}
	return &net.OpError{Op: op.Op, Net: op.Net, Addr: op.Addr, Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}
}

// affords is why there are too few descriptors left for another connection, before it is made; nil where there are enough. The system
// gives out the lowest one that is free. One connection at a time may have one of those that are for others: where nearly all are used,
// something goes on.
func (w *Wire) affords(_, _ string, socket syscall.RawConn) error {
	number := 0
	if err := socket.Control(func(fd uintptr) { number = int(fd) }); err != nil || w.descriptors == 0 || number < w.descriptors {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.beyond != nil && w.beyond.Control(func(uintptr) {}) == nil { // it is open
		return syscall.EMFILE
	}
	w.beyond = socket
	return nil
}
