package librdkafka

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The group says who is in it also while it waits for one of its members, and what the others ask waits with it.
func TestAGroupThatWaits(t *testing.T) {
	r := newRealRig(t)
	c, err := NewCluster(r.config())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if g, err := c.Group(t.Context(), "shop"); err != nil || g.Rebalancing || len(g.Members) > 0 {
		t.Errorf("nobody is there: %+v, %v", g, err)
	}
	inside, over := make(chan struct{}), make(chan struct{})
	first := r.polled("first", sync.OnceFunc(func() { close(inside); <-over }))
	first.hears(1, "assigned "+all)
	if g, err := c.Group(t.Context(), "shop"); err != nil || g.Rebalancing || !slices.Equal(g.Members, []string{first.Member()}) {
		t.Errorf("one is there: %+v, %v", g, err)
	}
	second := r.polled("second", nil)
	<-inside
	third := r.polled("third", nil)
	r.within("the wait for the first", func() {
		for {
			g, err := c.Group(t.Context(), "shop")
			if err != nil {
				t.Error(err)
			}
			if g.Rebalancing && len(g.Members) == 3 && slices.Contains(g.Members, first.Member()) && slices.Contains(g.Members, second.Member()) {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	close(over)
	third.hears(1, "assigned orders/")
	first.end()
	second.end()
	third.end()
}

// A broker that is silent, or ends the connection, hides no group that another one coordinates.
func TestAGroupBesideABrokerThatIsAway(t *testing.T) {
	for name, silent := range map[string]bool{"silent": true, "ends the connection": false} {
		fake, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.SeedTopics(3, "orders"))
		if err != nil {
			t.Fatal(err)
		}
		defer fake.Close()
		r := newRigOn(t, fake)
		first := r.polled("first", nil)
		first.hears(1, "assigned "+all)
		c, err := NewCluster(r.config())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Group(t.Context(), "shop"); err != nil {
			t.Error(err)
		}
		over, asked := make(chan struct{}), 0
		away := (fake.CoordinatorFor("shop") + 1) % 3
		fake.ControlKey(int16(kmsg.ListGroups), func(kmsg.Request) (kmsg.Response, error, bool) {
			fake.KeepControl()
			if fake.CurrentNode() != away {
				return nil, nil, false
			}
			if silent {
				fake.SleepControl(func() { <-over })
				return nil, nil, false
			}
			if asked++; asked%2 == 0 {
				return nil, nil, false
			}
			return nil, errors.New("the end"), true
		})
		for range 3 {
			begun := time.Now()
			g, err := c.Group(t.Context(), "shop")
			if took := time.Since(begun); err != nil || !slices.Equal(g.Members, []string{first.Member()}) || took > 3*groupTime {
				t.Errorf("%s: %+v, %v after %v", name, g, err, took)
			}
		}
		close(over)
		first.end()
		c.Close()
	}
}
