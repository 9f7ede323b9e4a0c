// Command demo shows in a few seconds what kpush promises: an embedded Kafka, a small service that fails now and
// then, a thousand messages, and the sidecar killed with -9 in the middle. With -keep everything stays up.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

const (
	messages   = 1_000
	partitions = 8
	topic      = "orders"
	group      = "shop"
)

func main() {
	keep := flag.Bool("keep", false, "leave everything running until Ctrl-C, with a message every second")
	flag.Parse()
	os.Exit(perform(*keep))
}

// perform is the show; it returns the exit code: 1 if the promise did not hold.
func perform(keep bool) int {
	s := newStage()
	held := false
	s.run(func() { held = show(s, keep) })
	if !held || s.Failed() {
		fmt.Println("\nThe promise did NOT hold.")
		return 1
	}
	return 0
}

func show(s *stage, keep bool) bool {
	fmt.Printf("kpush demo: Kafka topic %q → kpush → POST to a service, killed with -9 in the middle.\n\n", topic)
	say("building the sidecar")
	if _, err := rig.Binary(); err != nil {
		s.Fatalf("%v", err)
	}
	k := rig.Fake(s, partitions, topic)
	svc := rig.StartService(s)
	svc.Rule(rig.Every(50, rig.Action{Status: 500}, rig.Slow(8*time.Millisecond)))
	say("an embedded Kafka listens on %s, the service on 127.0.0.1:%d", k.Brokers, svc.Port)
	produced := k.ProduceEvenly(s, topic, partitions, messages, 100)
	say("%d messages are in %d partitions", messages, partitions)

	sc := rig.StartSidecar(s, "KPUSH_BROKERS="+k.Brokers, "KPUSH_TOPIC="+topic, "KPUSH_GROUP="+group,
		fmt.Sprintf("KPUSH_PORT=%d", svc.Port), "KPUSH_RETRY_INTERVAL=100ms")
	begin := time.Now()
	svc.Await(s, messages/2, 10*time.Second)
	say("%4d delivered; every 50th request is answered 500 and tried again", svc.Delivered())

	sc.Kill()
	killed := time.Now()
	say("kill -9 … and the sidecar is started again on the same volume")
	sc.Start(s)
	next := svc.Next(s, killed, 10*time.Second)
	say("the next delivery came %v after the kill", next.Round(time.Millisecond))
	took := svc.Await(s, messages, 10*time.Second) + killed.Sub(begin) + next
	say("all delivered in %v", took.Round(time.Millisecond))
	if keep {
		held := report(svc.Judge(produced))
		stay(s, k, svc, sc)
		return held
	}
	stop := sc.Shut(s, 10*time.Second)
	say("SIGTERM: stopped after %v, exit code 0", stop.Round(time.Millisecond))
	return report(svc.Judge(produced))
}

// most is the default of KPUSH_CONCURRENCY: what may repeat at a kill.
const most = 16

func report(v *rig.Verdict) bool {
	order := "yes"
	if len(v.Disorder)+len(v.Overlap) > 0 {
		order = "NO"
	}
	fmt.Printf(`
  produced               %5d
  delivered              %5d
  lost                   %5d
  altered                %5d
  repeated               %5d   in flight at the kill; the service cannot tell (at most %d)
  … flagged in doubt     %5d   Kafka-In-Doubt: true, so the service may check
  in order per partition %5s
`, v.Produced, v.Delivered, len(v.Lost), len(v.Altered), len(v.Repeats), most, len(v.Repeats)-len(v.Unflagged), order)
	return len(v.Lost)+len(v.Altered)+len(v.Disorder)+len(v.Overlap)+len(v.Unflagged)+len(v.Stray) == 0 && len(v.Repeats) <= most
}

// stay goes on with a message a second until Ctrl-C.
func stay(s *stage, k *rig.Kafka, svc *rig.Service, sc *rig.Sidecar) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	sc.Ready(s, 10*time.Second)
	fmt.Printf(`
Everything stays up until Ctrl-C, with a message every second:
  Kafka     %s   topic %s, group %s
  service   http://127.0.0.1:%d/
  sidecar   http://%s/healthz  http://%[5]s/readyz
  volume    %s
`, k.Brokers, topic, group, svc.Port, sc.HealthAddr(), sc.Volume)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			sc.Shut(s, 10*time.Second)
			fmt.Printf("\n%d messages were delivered.\n", svc.Delivered())
			return
		case <-tick.C:
			k.ProduceEvenly(s, topic, 1, 1, 100)
		}
	}
}

func say(format string, args ...any) {
	fmt.Printf("  %s  "+format+"\n", append([]any{time.Now().Format("15:04:05.000")}, args...)...)
}
