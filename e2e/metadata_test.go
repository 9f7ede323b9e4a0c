package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kpush/kpush/e2e/rig"
)

// TestAClientThatNeverComesBack: for a while Kafka's answers lead nowhere, as a restart behind a load balancer or a listener
// advertised by mistake makes them. The client may make nothing of the right ones afterwards; kpush notices, and delivers.
func TestAClientThatNeverComesBack(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(kmsg.Response){
		"empty": func(r kmsg.Response) {
			if m, ok := r.(*kmsg.MetadataResponse); ok {
				m.Brokers = nil
			}
		},
		"elsewhere": func(r kmsg.Response) {
			switch m := r.(type) {
			case *kmsg.MetadataResponse:
				for i := range m.Brokers {
					m.Brokers[i].Port = 1
				}
			case *kmsg.FindCoordinatorResponse:
				m.Port = 1
				for i := range m.Coordinators {
					m.Coordinators[i].Port = 1
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it mostly waits
			misled(t, name, change)
		})
	}
}

// misled tells the story of two sidecars, one that runs when the answers begin to lead nowhere, and one that starts then.
func misled(t *testing.T, name string, change func(kmsg.Response)) {
	const wrong, bound = 20 * time.Second, 45 * time.Second
	k := rig.Own(t, 1)
	link := k.Link(t)
	type way struct {
		name, topic string
		svc         *rig.Service
		sc          *rig.Sidecar
		produced    []rig.Record
	}
	ways := []*way{{name: "running"}, {name: "starting"}}
	for _, w := range ways {
		w.svc, w.topic = service(t), k.Topic(t, 4)
		w.produced = k.ProduceEvenly(t, w.topic, 4, 400, 100)
		w.sc = rig.NewSidecar(t, t.TempDir(), wiring(k, w.topic, w.svc, "KPUSH_BROKERS="+link.Brokers)...)
	}
	ways[0].sc.Start(t)
	ways[0].svc.Await(t, len(ways[0].produced), patience)
	link.Change(change)
	link.Heal(true) // connections end with what they led to
	ways[1].sc.Start(t)
	begin := time.Now()
	rig.Throughout(t, wrong, func() error {
		for _, w := range ways {
			if !w.sc.Alive() {
				return fmt.Errorf("the %s sidecar has ended: %s", w.name, w.sc.Tail(3))
			}
			if ready := w.sc.Ask("/readyz"); ready.Code == 200 && time.Since(begin) > wrong*3/4 {
				return fmt.Errorf("the %s sidecar calls itself ready", w.name)
			}
		}
		return nil
	})
	if name == "elsewhere" {
		for _, w := range ways {
			const told = "Kafka itself gives the address 127.0.0.1:1 for a broker (its advertised.listeners), KPUSH_BROKERS does not have it"
			if why := strings.Join(w.sc.Ask("/readyz").Why, "; "); !strings.Contains(why, told) {
				t.Errorf("The %s sidecar says %q, and not whose address it is.", w.name, why)
			}
		}
		checked(t, ways[0].sc, 1, "Kafka itself gives the address 127.0.0.1:1")
	}
	link.Change(nil)
	mended := time.Now()
	for _, w := range ways {
		w.produced = append(w.produced, k.ProduceEvenly(t, w.topic, 4, 400, 100)...)
		w.svc.Await(t, len(w.produced), patience)
		took := time.Since(mended)
		below(t, "Flow after the answers were right again", mended, took, bound)
		t.Logf("A %s sidecar whose answers lead nowhere for %v: flow %v after they were right again.", w.name, wrong, took.Round(time.Millisecond))
	}
	for _, w := range ways {
		w.sc.Shut(t, 10*time.Second)
		w.svc.Judge(w.produced).Kept(t, 0)
		committedIsEnd(t, k, w.topic)
	}
}
