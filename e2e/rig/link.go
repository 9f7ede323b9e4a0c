package rig

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Link is a way of its own to a cluster's brokers, for a sidecar that is to be cut off from it: a listener of each node that
// is advertised under the port of a proxy in this process.
type Link struct {
	Brokers string // bootstrap list

	mu     sync.Mutex
	mend   *sync.Cond
	sealed bool // what passes cannot be read
	cut    bool
	over   bool
	conns  []*net.TCPConn
	answer func(kmsg.Request) kmsg.Response
	change func(kmsg.Response)
}

// Link opens the way. Its proxies end with the test.
func (k *Kafka) Link(t T) *Link { t.Helper(); return k.through(t, &Link{}) }

// SealedLink is Link for connections whose content is encrypted.
func (k *Kafka) SealedLink(t T) *Link { t.Helper(); return k.through(t, &Link{sealed: true}) }

func (k *Kafka) through(t T, l *Link) *Link {
	t.Helper()
	l.mend = sync.NewCond(&l.mu)
	var all []string
	for _, n := range k.nodes {
		door, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", n.proxy))
		if err != nil {
			t.Fatalf("The proxy of node %d cannot listen: %v", n.id, err)
		}
		t.Cleanup(func() { _ = door.Close() })
		all = append(all, door.Addr().String())
		go l.serve(door, fmt.Sprintf("127.0.0.1:%d", n.link))
	}
	t.Cleanup(l.end)
	l.Brokers = strings.Join(all, ",")
	return l
}

// Cut lets nothing through any more, and breaks nothing: no end has anything but silence, new connections included.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
}

// Heal lets everything through again, what was sent meanwhile first. With reset every connection is broken instead.
func (l *Link) Heal(reset bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if reset {
		for _, c := range l.conns {
			_ = c.SetLinger(0) // the end has to be a reset; it may have come already
			_ = c.Close()
		}
		l.conns = nil
	}
	l.cut = false
	l.mend.Broadcast()
}

func (l *Link) end() {
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.Heal(true)
}

// passes waits until there is no cut; false: the link is at its end.
func (l *Link) passes() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.cut && !l.over {
		l.mend.Wait()
	}
	return !l.over
}

func (l *Link) serve(door net.Listener, broker string) {
	for {
		c, err := door.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			go l.pass(c.(*net.TCPConn), broker)
		}
	}
}

// pass joins a connection with one to the broker, until either ends.
func (l *Link) pass(client *net.TCPConn, broker string) {
	defer client.Close()
	if !l.hold(client) || !l.passes() {
		return
	}
	c, err := net.Dial("tcp", broker)
	if err != nil {
		return
	}
	server := c.(*net.TCPConn)
	defer server.Close()
	if !l.hold(server) {
		return
	}
	w := wire{link: l, client: client, server: server, asked: map[int32]api{}}
	var both sync.WaitGroup
	both.Go(func() { w.copy(server, client, w.request) })
	both.Go(func() { w.copy(client, server, w.response) })
	both.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = slices.DeleteFunc(l.conns, func(c *net.TCPConn) bool { return c == client || c == server })
}

func (l *Link) hold(c *net.TCPConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, c)
	return !l.over
}
