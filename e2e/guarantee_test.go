package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// TestGuaranteeOneAtACrash loses at the most what is in flight, and repeats at the most what a commit interval brought.
func TestGuaranteeOneAtACrash(t *testing.T) {
	t.Parallel() // it mostly waits
	const partitions, kills = 4, 5
	const interval = time.Second
	k, svc := kafka(t), service(t)
	svc.Rule(rig.Slow(20 * time.Millisecond))
	topic := k.Topic(t, partitions)
	produced := k.Produce(t, topic, numbered("order", partitions, 6_000)...)
	sc := sidecar(t, k, topic, svc, "KPUSH_MESSAGE_DELIVERY_GUARANTEES=1", fmt.Sprint("KPUSH_COMMIT_INTERVAL=", interval),
		"KPUSH_INSTANCE_ID=shop-0") // static, so that a restart does not wait for the session
	bound := 0
	for kill := range kills {
		svc.Await(t, svc.Delivered()+200+rand.IntN(200), patience)
		sc.Kill()
		before, completed := svc.Repeats(), within(svc, time.Now().Add(-interval-50*time.Millisecond)) // a commit takes a moment itself
		sc.Start(t)
		svc.Await(t, svc.Delivered()+200, patience)
		if repeats := svc.Repeats() - before; repeats > completed+partitions {
			rig.Missed(t, "Kill %d cost %d repeats, the bound is %d and the %d of the last commit interval.", kill+1, repeats, partitions, completed)
		}
		bound += partitions + completed
	}
	svc.Rule(nil)
	noLag(t, k, topic)
	sc.Shut(t, 10*time.Second)
	verdict := svc.Judge(produced)
	atMost := func(what string, list []string, bound int) {
		if len(list) > bound {
			t.Errorf("%d messages were %s, the bound is %d: %q", len(list), what, bound, list[:min(len(list), 5)])
		}
	}
	atMost("lost", verdict.Lost, kills*partitions)
	atMost("repeated", verdict.Repeats, bound)
	if len(verdict.Disorder)+len(verdict.Altered)+len(verdict.Stray) > 0 {
		t.Errorf("%s", verdict)
	}
	empty(t, sc.Volume)
	t.Logf("Guarantee 1, %d kills -9 over %d messages: %d lost (bound %d, in flight), %d repeated (bound %d, done within a commit interval), no file.",
		kills, len(produced), len(verdict.Lost), kills*partitions, len(verdict.Repeats), bound)
}

// within counts what the service has answered since the moment.
func within(svc *rig.Service, since time.Time) (count int) {
	for _, r := range svc.Requests() {
		if r.Done && r.End.After(since) {
			count++
		}
	}
	return count
}

// empty wants nothing on the volume.
func empty(t *testing.T, volume string) {
	t.Helper()
	files, err := os.ReadDir(volume)
	if err != nil || len(files) > 0 {
		t.Errorf("Guarantee 1 left %v on the volume (%v).", files, err)
	}
}

// TestGuaranteeOneAtAStop loses and repeats nothing, nor at a handover, with messages that fail and wait meanwhile.
func TestGuaranteeOneAtAStop(t *testing.T) {
	t.Parallel() // it mostly waits
	const partitions, count, stops = 4, 4_000, 5
	k, svc := kafka(t), service(t)
	svc.Rule(rig.Every(9, rig.Action{Status: 500}, rig.Slow(3*time.Millisecond)))
	topic := k.Topic(t, partitions)
	produced := k.Produce(t, topic, numbered("order", partitions, count)...)
	guarantee := "KPUSH_MESSAGE_DELIVERY_GUARANTEES=1"
	sc, other := sidecar(t, k, topic, svc, guarantee, "KPUSH_URL=/first"), rig.NewSidecar(t, t.TempDir(), wiring(k, topic, svc, guarantee, "KPUSH_URL=/second")...)
	for range stops {
		delivers(t, svc, "/first")
		sc.Shut(t, 10*time.Second)
		sc.Start(t)
	}
	delivers(t, svc, "/first")
	other.Start(t)
	delivers(t, svc, "/second")
	other.Shut(t, 10*time.Second)
	svc.Await(t, count, patience)
	sc.Shut(t, 10*time.Second)
	verdict := svc.Judge(produced)
	verdict.Kept(t, 0)
	committedIsEnd(t, k, topic)
	empty(t, sc.Volume)
	t.Logf("Guarantee 1, %d stops and a second replica that came and went over %d messages: %d lost, %d repeated, no file.", stops, count, len(verdict.Lost), len(verdict.Repeats))
}

// TestGuaranteeThreeAtKills is guarantee 2's bound with every intent and outcome on the disk first.
func TestGuaranteeThreeAtKills(t *testing.T) {
	const partitions, kills = 32, 10
	k, svc := kafka(t), service(t)
	svc.Rule(rig.Slow(2 * time.Millisecond))
	topic := k.Topic(t, partitions)
	produced := k.Produce(t, topic, numbered("order", partitions, 8_000)...)
	sc := sidecar(t, k, topic, svc, "KPUSH_MESSAGE_DELIVERY_GUARANTEES=3")
	var killed []time.Time
	for range kills {
		svc.Await(t, svc.Delivered()+100+rand.IntN(300), patience)
		sc.Kill()
		killed = append(killed, svc.Orphaned(t))
		sc.Start(t)
		svc.Await(t, svc.Delivered()+100, patience)
	}
	svc.Rule(nil)
	svc.Await(t, len(produced), patience)
	sc.Shut(t, 10*time.Second)
	verdict := svc.Judge(produced)
	verdict.Kept(t, kills*concurrency)
	verdict.Rare(t, 2*concurrency*kills)
	most := svc.Bounded(t, killed, concurrency, 2*concurrency)
	committedIsEnd(t, k, topic)
	t.Logf("Guarantee 3, %d kills -9 over %d messages in %d partitions: %d lost, %d repeats (at most %d a kill, bound %d), all flagged, %d flagged needlessly.",
		kills, len(produced), partitions, len(verdict.Lost), len(verdict.Repeats), most.Repeats, concurrency, len(verdict.Needless))
}

// crashPoint is a named point in the code, after how many passes the process dies there, and whether only a stop comes by.
type crashPoint struct {
	name   string
	passes int
	stop   bool
}

// crashPoints begin on an empty volume. Each start rewrites the file into its other half.
var crashPoints = []crashPoint{
	{"file written, not named", 1, false},
	{"half full", 1, false},
	{"snapshot written", 1, false},
	{"snapshot on disk", 1, false},
	{"resolved, not assigned", 1, false},
	{"assigned", 1, false},
	{"intent written, not sent", 100, false},
	{"answered, not recorded", 100, false},
	{"recorded, not committed", 100, false},
	{"before a commit", 3, false},
	{"committed", 3, false},
	{"drained, not handed over", 1, true},
	{"handed over, not revoked", 1, true},
}

// TestACrashAtEachNamedPoint loses nothing, and what comes again is flagged.
func TestACrashAtEachNamedPoint(t *testing.T) {
	t.Parallel()
	const partitions, each = 4, 600
	k, svc := kafka(t), service(t)
	svc.Rule(rig.Every(13, rig.Action{Status: 500}, rig.Slow(time.Millisecond)))
	topic := k.Topic(t, partitions)
	var produced []rig.Record
	sc := rig.NewSidecar(t, t.TempDir(), wiring(k, topic, svc)...)
	costs := map[string]int{}
	for _, point := range crashPoints {
		produced = append(produced, k.Produce(t, topic, numbered(point.name, partitions, each)...)...)
		before := svc.Repeats()
		sc.StartToCrash(t, point.name, point.passes)
		if point.stop {
			svc.Await(t, len(produced)-each/2, patience)
			sc.Term(t)
		}
		sc.Dead(t, 20*time.Second)
		sc.Start(t)
		svc.Await(t, len(produced), patience)
		sc.Shut(t, 10*time.Second)
		costs[point.name] = svc.Repeats() - before
		if costs[point.name] > concurrency {
			t.Errorf("The crash at %q cost %d repeats, the bound is %d.", point.name, costs[point.name], concurrency)
		}
	}
	verdict := svc.Judge(produced)
	verdict.Kept(t, len(crashPoints)*concurrency)
	if needless := len(verdict.Needless); needless > 2*concurrency*len(crashPoints) {
		t.Errorf("%d requests were flagged although nothing had arrived, the bound is %d.", needless, 2*concurrency*len(crashPoints))
	}
	committedIsEnd(t, k, topic)
	everyPoint(t)
	t.Logf("Killed at each of %d named points: %d lost, %d repeats in all %v, all flagged, %d flagged needlessly.",
		len(crashPoints), len(verdict.Lost), len(verdict.Repeats), costs, len(verdict.Needless))
}

// everyPoint holds the table against the source: a point that nobody crashes at is a promise that nobody has tried.
func everyPoint(t *testing.T) {
	t.Helper()
	called := regexp.MustCompile(`\bCrash\("([^"]+)"\)`)
	for _, room := range []string{"offsets", "forwarder"} {
		files, err := filepath.Glob(filepath.Join("..", room, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("The source of %s cannot be found: %v", room, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatalf("%v", err)
			}
			for _, found := range called.FindAllStringSubmatch(string(text), -1) {
				if !slices.ContainsFunc(crashPoints, func(p crashPoint) bool { return p.name == found[1] }) && !slices.Contains(letterPoints, found[1]) {
					t.Errorf("%s: nobody crashes at %q.", file, found[1])
				}
			}
		}
	}
}

// TestAnotherMachineAfterACrash: the volume is gone with the machine, the commit's mark is all that is left, also where a message
// that keeps failing holds the committed offset back.
func TestAnotherMachineAfterACrash(t *testing.T) {
	t.Parallel()
	mayRename(t)
	for _, order := range []string{"partition", "none"} {
		t.Run("order "+order, func(t *testing.T) {
			t.Parallel() // it mostly waits
			anotherMachineAfterACrash(t, order)
		})
	}
}

func anotherMachineAfterACrash(t *testing.T, order string) {
	const partitions, crashes = 8, 3
	const interval = 200 * time.Millisecond
	k, svc := kafka(t), service(t)
	svc.Order = order
	slow := rig.Slow(2 * time.Millisecond)
	svc.Rule(func(r *rig.Request) rig.Action {
		if order == "none" && r.Offset == 3 {
			return rig.Action{Status: 500}
		}
		return slow(r)
	})
	topic := k.Topic(t, partitions)
	produced := k.Produce(t, topic, numbered("order", partitions, 40_000)...)
	env := wiring(k, topic, svc, "KPUSH_ORDER="+order, fmt.Sprint("KPUSH_COMMIT_INTERVAL=", interval), "KPUSH_CONSUMER_CONF=session.timeout.ms=6000;heartbeat.interval.ms=1000")
	sc := rig.StartSidecar(t, env...)
	svc.Await(t, 500, patience)
	var nexts []time.Duration
	bound, most := 0, 0
	for crash := range crashes {
		svc.Await(t, svc.Delivered()+2_000+rand.IntN(500), patience)
		sc.Kill()
		killed := time.Now()
		before, completed := svc.Repeats(), within(svc, killed.Add(-interval*3/2)) // half of it for a slow answer on a shared machine
		sc = rig.NewSidecar(t, t.TempDir(), env...)
		sc.StartAs(t, fmt.Sprintf("node-%d", crash+2))
		nexts = append(nexts, svc.Next(t, killed.Add(50*time.Millisecond), patience))
		svc.Await(t, svc.Delivered()+1_000, patience)
		repeats := svc.Repeats() - before
		most = max(most, repeats)
		if repeats > concurrency+completed {
			rig.Missed(t, "Crash %d cost %d repeats, the bound is %d and the %d of the last commit interval.", crash+1, repeats, concurrency, completed)
		}
		bound += concurrency + completed
	}
	svc.Rule(nil)
	svc.Await(t, len(produced), patience)
	sc.Shut(t, 10*time.Second)
	verdict := svc.Judge(produced)
	verdict.Kept(t, bound)
	committedIsEnd(t, k, topic)
	t.Logf("order %s: %d times kill -9 and another machine with an empty volume: %d lost, %d repeats (at most %d, bound %d in all), all flagged, %d flagged needlessly; next delivery %s.",
		order, crashes, len(verdict.Lost), len(verdict.Repeats), most, bound, len(verdict.Needless), spread(nexts))
}
