package api

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// moving is a list of interfaces that changes.
type moving struct {
	atomic.Pointer[[]string]
	broken atomic.Bool
}

func (m *moving) set(links ...string) { m.Store(&links) }

func (m *moving) list() ([]string, error) {
	if m.broken.Load() {
		return nil, errors.New("netlink says no")
	}
	return *m.Load(), nil
}

func pass(d time.Duration) { <-time.After(d) } // in a bubble only

// A namespace of which only lo is left is ill at once and ends the process after the grace; one that comes back does not.
func TestDeadNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		links := &moving{}
		links.set("lo", "eth0")
		var log bytes.Buffer
		n := NewNetwork([]string{"127.0.0.1:9092", "kafka:9092"}, slog.New(slog.NewTextHandler(&log, nil)))
		n.links = links.list
		stopped := make(chan struct{})
		why := n.Guard(func() { close(stopped) })
		well := func(moment string, want bool) {
			t.Helper()
			if got := len(n.Live()) == 0; got != want || len(n.Ready()) != len(n.Live()) || len(n.Notes()) != 0 {
				t.Errorf("%s: health %q, ready %q, notes %q", moment, n.Live(), n.Ready(), n.Notes())
			}
		}
		pass(time.Hour)
		well("with eth0", true)
		links.set("lo")
		pass(networkTick + time.Second)
		well("with lo alone", false)
		pass(networkGrace - networkTick - time.Second)
		links.set("lo", "eth0")
		pass(networkTick + time.Second)
		well("with eth0 again", true)
		links.set("lo")
		pass(networkGrace - 2*time.Second)
		links.broken.Store(true) // a look that fails says nothing
		pass(networkTick)
		well("unknown", true)
		links.broken.Store(false)
		begun := time.Now()
		<-stopped
		err := why()
		if took := time.Since(begun); took < networkGrace || took > networkGrace+2*networkTick {
			t.Errorf("ended after %s with lo alone, the grace is %s", took, networkGrace)
		}
		if err == nil || !strings.Contains(err.Error(), "only the loopback interface") || !strings.Contains(err.Error(), "restart") {
			t.Errorf("ended with %v", err)
		}
		well("at the end", false)
		for line, times := range map[string]int{"only the loopback interface": 3, "the network is there again": 1} {
			if n := strings.Count(log.String(), line); n != times {
				t.Errorf("%q was logged %d times, want %d:\n%s", line, n, times, &log)
			}
		}
	})
}

// A process that ends for another reason is not told of a network that is well, or has been dead for a moment only.
func TestGuardEndsWithTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		links := &moving{}
		links.set("lo")
		n := NewNetwork([]string{"kafka:9092"}, slog.New(slog.DiscardHandler))
		n.links = links.list
		why := n.Guard(func() { t.Error("stopped") })
		pass(networkTick + time.Second)
		if err := why(); err != nil {
			t.Errorf("ended with %v", err)
		}
	})
}

// Where all brokers are on this machine a network of lo alone is all that is needed.
func TestBrokersOnLoopbackNeedNoNetwork(t *testing.T) {
	for _, brokers := range [][]string{nil, {"127.0.0.1:9092"}, {"127.8.9.1:9092", "[::1]:9092", "localhost:9092", "LOCALHOST:1"}, {"localhost"}} {
		synctest.Test(t, func(t *testing.T) {
			n := NewNetwork(brokers, slog.New(slog.DiscardHandler))
			n.links = func() ([]string, error) { return []string{"lo"}, nil }
			ctx, end := context.WithTimeout(t.Context(), time.Hour)
			defer end()
			if err := n.Watch(ctx); err != nil || len(n.Live()) > 0 {
				t.Errorf("brokers %q: %v, %q", brokers, err, n.Live())
			}
		})
	}
}

func TestNoInterfacesAtAllIsDead(t *testing.T) {
	if !onlyLoopback(nil) || !onlyLoopback([]string{"lo"}) || onlyLoopback([]string{"lo", "wlan0"}) {
		t.Error("an interface is overlooked or made up")
	}
}

func TestLoopbackByName(t *testing.T) {
	for broker, want := range map[string]bool{"kafka:9092": false, "10.0.0.1:9092": false, "127.0.0.1": true, "localhost.example:9092": false, "[fe80::1]:9092": false} {
		if loopback(broker) != want {
			t.Errorf("%s is on loopback: %t, want %t", broker, !want, want)
		}
	}
}

func TestInterfacesUp(t *testing.T) {
	up, err := interfacesUp()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(up, "lo") {
		t.Errorf("interfaces %q, and no lo", up)
	}
}
