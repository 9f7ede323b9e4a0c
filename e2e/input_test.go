package e2e

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// TestBadInputEndsWithOneSentence needs no Kafka: it must not even be asked.
func TestBadInputEndsWithOneSentence(t *testing.T) {
	good := []string{"KPUSH_BROKERS=127.0.0.1:1", "KPUSH_TOPIC=orders", "KPUSH_GROUP=shop"}
	taken, missing := t.TempDir(), filepath.Join(t.TempDir(), "missing")
	holder := rig.StartSidecarOn(t, taken, good...)
	rig.Within(t, patience, "the first process on the volume", func() bool { return holder.Ask("/healthz").Code != 0 })
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		volume string
		env    []string
		want   []string
	}{
		"nothing at all":           {t.TempDir(), nil, []string{"KPUSH_BROKERS"}},
		"no group":                 {t.TempDir(), good[:2], []string{"KPUSH_GROUP"}},
		"a duration without unit":  {t.TempDir(), append(good, "KPUSH_RETRY_INTERVAL=5"), []string{"KPUSH_RETRY_INTERVAL", "5s"}},
		"a misspelt variable":      {t.TempDir(), append(good, "KPUSH_CONCURENCY=5"), []string{"KPUSH_CONCURENCY", "KPUSH_CONCURRENCY"}},
		"two mistakes, one report": {t.TempDir(), append(good, "KPUSH_PORT=x", "KPUSH_CAN_SKIP=maybe"), []string{"KPUSH_PORT", "KPUSH_CAN_SKIP"}},
		"an owned property":        {t.TempDir(), append(good, "KPUSH_CONSUMER_CONF=enable.auto.commit=true"), []string{"enable.auto.commit"}},
		"a volume in use":          {taken, good, []string{taken, "one process"}},
		"a missing volume":         {missing, good, []string{missing}},
		"a file as a volume":       {file, good, []string{file}},
	} {
		t.Run(name, func(t *testing.T) {
			sc := rig.StartSidecarOn(t, c.volume, slices.Clone(c.env)...)
			sc.Wait(t, 2, 5*time.Second)
			said := sc.Tail(20)
			for _, want := range c.want {
				if !strings.Contains(said, want) {
					t.Errorf("The end was explained by %q, which does not name %s.", said, want)
				}
			}
			for _, noise := range []string{"panic", "goroutine", "envconfig", "librdkafka"} {
				if strings.Contains(said, noise) {
					t.Errorf("The end was explained by %q.", said)
				}
			}
		})
	}
}

// TestAReadOnlyVolumeIsRefused mounts one, for modes do not bind root.
func TestAReadOnlyVolumeIsRefused(t *testing.T) {
	volume := t.TempDir()
	if os.Geteuid() == 0 {
		if err := syscall.Mount(volume, volume, "", syscall.MS_BIND, ""); err != nil {
			t.Fatalf("root cannot mount here: %v", err)
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(volume, 0); err != nil {
				t.Errorf("%s stays mounted: %v", volume, err)
			}
		})
		if err := syscall.Mount("", volume, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
			t.Fatalf("the mount cannot be made read-only: %v", err)
		}
	} else if err := os.Chmod(volume, 0o500); err != nil {
		t.Fatal(err)
	}
	sc := rig.StartSidecarOn(t, volume, "KPUSH_BROKERS=127.0.0.1:1", "KPUSH_TOPIC=orders", "KPUSH_GROUP=shop")
	sc.Wait(t, 2, 5*time.Second)
	if said := sc.Tail(5); !strings.Contains(said, volume) {
		t.Errorf("The end was explained by %q, which does not name the volume %s.", said, volume)
	}
}

func TestAWrongBrokerAddressIsWaitedFor(t *testing.T) {
	sc := rig.StartSidecar(t, "KPUSH_BROKERS=127.0.0.1:1", "KPUSH_TOPIC=orders", "KPUSH_GROUP=shop", "KPUSH_DRAIN_TIMEOUT=3s")
	named(t, sc, "waiting for a broker", "127.0.0.1:1")
	if health := sc.Ask("/healthz"); health.Code != http.StatusOK {
		t.Errorf("An absent broker is called ill health: %d %q.", health.Code, health.Why)
	}
	sc.Term(t)
	rig.Within(t, 4*time.Second, "the end of the process", func() bool { return !sc.Alive() })
}

func TestAMissingTopicIsWaitedFor(t *testing.T) {
	k, svc := kafka(t), service(t)
	topic := k.Topic(t, 1) + "-later"
	sc := sidecar(t, k, topic, svc)
	named(t, sc, "waiting for the topic", topic)
	k.CreateTopic(t, topic, 2)
	produced := k.ProduceEvenly(t, topic, 2, 20, 20)
	took := svc.Await(t, len(produced), patience)
	sc.Ready(t, patience)
	sc.Shut(t, 10*time.Second)
	svc.Judge(produced).Kept(t, 0)
	committedIsEnd(t, k, topic)
	t.Logf("A topic made later was delivered %v after its first message.", took.Round(time.Millisecond))
}

// named waits until /readyz says no, and says all of what is to be named in one sentence.
func named(t *testing.T, sc *rig.Sidecar, wants ...string) {
	t.Helper()
	var last rig.Answer
	if _, ok := rig.Until(20*time.Second, func() bool {
		last = sc.Ask("/readyz")
		return last.Code == http.StatusServiceUnavailable && slices.ContainsFunc(last.Why, func(sentence string) bool {
			return !slices.ContainsFunc(wants, func(want string) bool { return !strings.Contains(sentence, want) })
		})
	}); !ok {
		t.Fatalf("/readyz says %d %q and does not name %q.", last.Code, last.Why, wants)
	}
}

// TestFewDescriptors: more connections to the service, and of callers, than there are descriptors. It is kpush's own want, and named as
// such; the health port answers all the while, and nothing is lost.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	const partitions = 64
	k, svc := kafka(t), service(t)
	svc.Rule(func(*rig.Request) rig.Action { return rig.Action{Delay: 500 * time.Millisecond} })
	topic := k.Topic(t, partitions)
	produced := k.ProduceEvenly(t, topic, partitions, 2*partitions, 20)
	sc := rig.NewSidecar(t, t.TempDir(), wiring(k, topic, svc, "KPUSH_CONCURRENCY=64", "KPUSH_CAN_SKIP=true", "KPUSH_SKIP_ON=any", "KPUSH_RETRY_NUMS=1")...)
	sc.StartWith(t, 64)
	sc.Ready(t, patience)
	for range 64 {
		c, err := net.Dial("tcp", sc.API())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	named := 0
	rig.Within(t, patience, "all are delivered", func() bool {
		for _, path := range []string{"/readyz", "/healthz"} {
			begin := time.Now()
			answer := sc.Ask(path)
			below(t, path, begin, time.Since(begin), 500*time.Millisecond)
			if answer.Code != http.StatusOK {
				t.Fatalf("%s: %d %q", path, answer.Code, answer.Why)
			}
			if slices.ContainsFunc(answer.Notes, func(n string) bool { return strings.Contains(n, "file descriptors (ulimit -n)") }) {
				named++
			}
		}
		return svc.Delivered() == len(produced)
	})
	if lines := sc.Find("file descriptors (ulimit -n)"); named == 0 || len(lines) != 1 || len(sc.Find("is down")) > 0 {
		t.Errorf("The want is noted %d times, and logged in %d lines.", named, len(lines))
	}
	sc.Shut(t, 10*time.Second)
	svc.Judge(produced).Kept(t, 0)
	committedIsEnd(t, k, topic)
}
