package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// byHost answers each host's requests by a rule of its own.
func byHost(rules map[string]func(*rig.Request) rig.Action) func(*rig.Request) rig.Action {
	return func(r *rig.Request) rig.Action {
		for host, rule := range rules {
			if r.To(host) {
				return rule(r)
			}
		}
		return rig.Action{Status: http.StatusTeapot}
	}
}

// sent is how many requests came to a host.
func sent(requests []*rig.Request, host string) (count int) {
	for _, r := range requests {
		if r.To(host) {
			count++
		}
	}
	return count
}

// TestOneOfTwoHostsIsDown: the other one is used at the rate that it has alone at the same time, and the first again once it
// is back.
func TestOneOfTwoHostsIsDown(t *testing.T) {
	const good, ill, interval, settle, measure, least = "127.0.0.1", "127.0.0.2", 500 * time.Millisecond, 4 * time.Second, 3 * time.Second, 0.75
	workers := func() func(*rig.Request) rig.Action { return rig.Workers(8, 40*time.Millisecond) }
	prepare := func(t *testing.T, count int, hosts string, rule func(*rig.Request) rig.Action) (*rig.Service, *rig.Sidecar, []rig.Record) {
		k, svc := kafka(t), service(t, good, ill)
		topic := k.Topic(t, 8)
		svc.Rule(byHost(map[string]func(*rig.Request) rig.Action{good: workers(), ill: rule}))
		produced := k.ProduceEvenly(t, topic, 8, count, 100)
		sc := rig.NewSidecar(t, t.TempDir(), wiring(k, topic, svc, "KPUSH_HOST="+hosts, "KPUSH_ORDER=key", "KPUSH_CONCURRENCY=16",
			"KPUSH_RETRY_INTERVAL=500ms", "KPUSH_EXEC_TIMEOUT=2s")...)
		return svc, sc, produced
	}
	alone, sc, _ := prepare(t, 12_000, good, nil)
	sc.Start(t)
	t.Run("down", func(t *testing.T) {
		for name, rule := range map[string]func(*rig.Request) rig.Action{
			"refused": nil, "503": rig.Status(http.StatusServiceUnavailable),
			"hangs": func(*rig.Request) rig.Action { return rig.Action{Break: rig.Hang} },
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				svc, sc, produced := prepare(t, 2_600, good+","+ill, rule)
				if rule == nil {
					svc.Down(ill)
				}
				sc.Start(t)
				svc.Await(t, 10, patience)
				pass(settle)
				settled := time.Now()
				pass(measure)
				back := time.Now()
				svc.Rule(byHost(map[string]func(*rig.Request) rig.Action{good: workers(), ill: workers()}))
				svc.Up(t)
				pass(2*interval + time.Second)
				share := svc.Between(back.Add(2*interval), back.Add(2*interval+time.Second))
				svc.Await(t, len(produced), patience)
				sc.Shut(t, 10*time.Second)
				keptInAnyOrder(t, svc, produced)

				rate := float64(svc.Completed(settled, back)) / float64(alone.Completed(settled, back))
				if rate < least {
					rig.Missed(t, "With one host of two down the rate is %.2f of what that host has alone at the same time; the bound is %.2f.", rate, least)
				}
				hasty, probes := svc.Hasty(ill, settled, back, interval)
				if len(hasty) > 0 {
					t.Errorf("The host that is down is probed more often than every %v: %q", interval, hasty)
				}
				if n := sent(share, ill); n < len(share)/4 || n == 0 {
					rig.Missed(t, "The host that was down has %d of %d requests after two intervals.", n, len(share))
				}
				if lines := sc.Find("the service is down"); len(lines) > 0 {
					t.Errorf("The whole service is called down: %s", lines[0].Text)
				}
				t.Logf("One of two hosts %s: %.2f of the rate of one host alone, %d probes in %v; after it is back %d of %d requests.",
					name, rate, probes, measure, sent(share, ill), len(share))
			})
		}
	})
	if alone.Delivered() == 12_000 {
		t.Error("The messages of the host alone did not last.")
	}
	sc.Shut(t, 10*time.Second)
}

// TestARefusedHostCostsNoWait: with an interval of half a minute every message is delivered before the first one is over.
func TestARefusedHostCostsNoWait(t *testing.T) {
	const good, ill, count, interval = "127.0.0.1", "127.0.0.2", 2_000, 30 * time.Second
	k, svc := kafka(t), service(t, "127.0.0.1", ill)
	svc.Down(ill)
	topic := k.Topic(t, 8)
	produced := k.ProduceEvenly(t, topic, 8, count, 100)
	begin := time.Now()
	sc := sidecar(t, k, topic, svc, "KPUSH_HOST="+good+","+ill, "KPUSH_RETRY_INTERVAL=30s")
	svc.Await(t, count, patience)
	took := time.Since(begin)
	sc.Shut(t, 10*time.Second)
	svc.Judge(produced).Kept(t, 0)
	refused := unseen(svc)
	if refused == 0 {
		t.Errorf("No message was refused by %s first.", ill)
	}
	below(t, "Delivery past a host that refuses", begin, took, interval)
	t.Logf("%d refused attempts, %d messages in %v (interval %v).", refused, count, took.Round(time.Millisecond), interval)
}

// TestSocketsAsHosts, alone and beside a port.
func TestSocketsAsHosts(t *testing.T) {
	const count = 2_000
	for _, mixed := range []bool{false, true} {
		t.Run(map[bool]string{false: "alone", true: "mixed"}[mixed], func(t *testing.T) {
			dir, err := os.MkdirTemp("", "kpush") // the name of a socket is short
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) }) // under the system's temporary directory anyway
			socket, port := "unix:"+filepath.Join(dir, "app.sock"), "127.0.0.1"
			svc := service(t, port, socket)
			hosts := socket
			if mixed {
				hosts += "," + port
			}
			svc.Rule(rig.Every(10, rig.Action{Status: 500}, rig.Every(97, rig.Action{Break: rig.AfterRead}, nil)))
			k := kafka(t)
			topic := k.Topic(t, 4)
			produced := k.Produce(t, topic, keyed(count)...)
			env := []string{"KPUSH_HOST=" + hosts, "KPUSH_URL=/in?a=b", "KPUSH_RETRY_INTERVAL=5ms"}
			if !mixed {
				env = append(env, "KPUSH_PORT=") // a socket has none
			}
			sc := sidecar(t, k, topic, svc, env...)
			svc.Await(t, count/2, patience)
			svc.Down(socket)
			away := time.Now()
			if mixed {
				svc.Await(t, count*3/4, patience)
			} else {
				rig.Within(t, patience, "a line that the service is down", func() bool { return len(sc.Find("the service is down")) > 0 })
			}
			svc.Up(t, socket)
			svc.Await(t, count, patience)
			sc.Shut(t, 10*time.Second)
			svc.Judge(produced).Kept(t, 0)
			committedIsEnd(t, k, topic)
			all := svc.Requests()
			if n := sent(all, socket); !mixed && n != len(all) || mixed && (n < len(all)/5 || n > len(all)*4/5) {
				t.Errorf("%d of %d requests came through the socket.", n, len(all))
			}
			for _, r := range all {
				if r.Path != "/in?a=b" || r.To(socket) && r.Host != "localhost" || r.To(port) && r.Host != fmt.Sprintf("%s:%d", port, svc.Port) {
					t.Fatalf("%s came to %s at %s.", r, r.Path, r.Host)
				}
			}
			t.Logf("Over %s: %d of %d requests through the socket, which was away for a moment at %s.", hosts, sent(all, socket), len(all), away.Format("15:04:05.000"))
		})
	}
}
