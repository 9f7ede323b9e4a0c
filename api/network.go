package api

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Network notices that the network namespace has died: a container that shares its partner's network keeps the old
// namespace when the partner's container is replaced, and only the loopback interface is left in it. Nothing inside can
// mend that; an exit can, because the restart joins the new namespace.
type Network struct {
	elsewhere bool                     // some broker is not on this machine
	links     func() ([]string, error) // names of the interfaces that are up
	log       *slog.Logger
	dead      atomic.Bool
}

// NewNetwork watches on behalf of a process that talks to brokers (host:port).
func NewNetwork(brokers []string, log *slog.Logger) *Network {
	elsewhere := slices.ContainsFunc(brokers, func(b string) bool { return !loopback(b) })
	return &Network{elsewhere: elsewhere, links: interfacesUp, log: log}
}

// The namespace is looked at every networkTick; the process ends networkGrace after it was found dead. The grace is for
// the partner to be up again: Docker does not restart a container into the network of one that is down.
const (
	networkTick  = 3 * time.Second
	networkGrace = 10 * time.Second
)

// Watch returns nil when ctx ends, and an error once the network has been dead for networkGrace.
func (n *Network) Watch(ctx context.Context) error {
	if !n.elsewhere {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(networkTick)
	defer tick.Stop()
	var since time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		links, err := n.links()
		switch dead := err == nil && onlyLoopback(links); {
		case !dead:
			since = time.Time{}
			if n.dead.Swap(false) && err == nil {
				n.log.Info("the network is there again")
			}
		case since.IsZero():
			since = time.Now()
			n.dead.Store(true)
			n.log.Warn(deadSentence)
		case time.Since(since) >= networkGrace:
			return fmt.Errorf("%s; the process ends so that its restart joins the new one", deadSentence)
		}
	}
}

// Guard watches until the returned function is called, and stops the process where the network stays dead. That function says
// why it did, nil where it did not.
func (n *Network) Guard(stop func()) (why func() error) {
	ctx, end := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		err := n.Watch(ctx)
		if err != nil {
			stop()
		}
		ended <- err
	}()
	return func() error { end(); return <-ended }
}

const deadSentence = "the network namespace has only the loopback interface left: the container whose network this one shares was replaced or restarted"

// Live tells of a dead network; so does Ready. There is nothing to note.
func (n *Network) Live() []string {
	if n.dead.Load() {
		return []string{deadSentence}
	}
	return nil
}

// Ready has nothing to add to Live.
func (n *Network) Ready() []string { return n.Live() }

// Notes are none.
func (n *Network) Notes() []string { return nil }

func onlyLoopback(links []string) bool {
	return !slices.ContainsFunc(links, func(l string) bool { return l != "lo" })
}

func interfacesUp() ([]string, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var up []string
	for _, i := range list {
		if i.Flags&net.FlagUp != 0 {
			up = append(up, i.Name)
		}
	}
	return up, nil
}

// loopback tells whether host:port is on this machine by its very name.
func loopback(broker string) bool {
	host, _, err := net.SplitHostPort(broker)
	if err != nil {
		host = broker
	}
	return loopbackHost(host)
}

func loopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}
