package forwarder

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// queued is a client of librdkafka that reads the first partition, and has told what it had to tell.
func (r *realRig) queued() *librdkafka {
	r.Helper()
	cfg := r.config()
	cfg.InstanceID = ""
	cfg.Kafka["debug"] = "fetch"
	l, err := newClient(cfg, slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		if err := l.close(); err != nil {
			r.Error(err)
		}
	})
	if err := l.assign([]tpOffset{{tp{"orders", 0}, 0}}); err != nil {
		r.Fatal(err)
	}
	for l.poll(300*time.Millisecond) != nil {
	}
	return l
}

// within calls do on another goroutine and wants it to return long before what it was asked to wait for is over.
func (r *realRig) within(what string, do func()) {
	r.Helper()
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		r.Fatalf("%s did not return", what)
	}
}

func TestAMessageEndsAPoll(t *testing.T) {
	r := newRealRig(t)
	l := r.queued()
	for _, text := range []string{"first", "second", "third"} {
		var got any
		go func() {
			time.Sleep(50 * time.Millisecond) // let it wait, most of the time
			r.produce(&kgo.Record{Topic: "orders", Value: []byte(text)})
		}()
		r.within("a poll with a message", func() {
			for got == nil { // also returns for no reason
				got = l.poll(time.Minute)
			}
		})
		if m, ok := got.(*Message); !ok || string(m.Value) != text {
			t.Fatalf("polled %v, want %s", got, text)
		}
	}
}

func TestWakeEndsAPoll(t *testing.T) {
	r := newRealRig(t)
	l := r.queued()
	r.within("a wake that nobody waits for", func() {
		for range 1000 { // they count once
			l.wake()
		}
	})
	r.within("a poll that was woken before it began", func() { l.poll(time.Minute) })
	time.AfterFunc(50*time.Millisecond, l.wake)
	r.within("a poll that was woken", func() { l.poll(time.Minute) })
	begun := time.Now()
	for l.poll(100*time.Millisecond) != nil {
	}
	if took := time.Since(begun); took < 80*time.Millisecond {
		t.Errorf("a poll of 100 ms with nothing to tell returned after %s", took)
	}
}

// The client signals only what comes into an empty queue: a poll that has used the signal for a callback must not wait while
// more is there.
func TestNobodyWaitsBesideAFullQueue(t *testing.T) {
	r := newRealRig(t)
	l := r.queued()
	for range 3 {
		r.produce(&kgo.Record{Topic: "orders", Value: []byte("x")})
	}
	r.within("the wait for the signal", func() { l.queue.wait(time.Minute) })
	r.within("the wait with the signal used up", func() { l.queue.wait(time.Minute) })
}

func TestTheClientsLinesAreLogged(t *testing.T) {
	r := newRealRig(t)
	r.queued()
	for tick, late := time.Tick(10*time.Millisecond), time.After(20*time.Second); ; {
		if lines := r.logs.with("librdkafka: "); len(lines) > 0 {
			if !strings.Contains(lines[0], "level=DEBUG") || !strings.Contains(lines[0], "tag=") {
				t.Errorf("a line of the client's debug is logged as %s", lines[0])
			}
			return
		}
		select {
		case <-tick:
		case <-late:
			t.Fatalf("nothing of the client's debug is in the log:\n%s", strings.Join(r.logs.with(""), ""))
		}
	}
}

func TestAnotherConfluentKafkaGoIsNamed(t *testing.T) {
	r := newRealRig(t)
	l := r.queued()
	for _, name := range []string{"gone", "name", "logq"} { // none, no pointer, nil
		if p, err := hidden(l.c, name); err == nil || !strings.Contains(err.Error(), "keeps no handle."+name) {
			t.Errorf("%s is %v, %v", name, p, err)
		}
	}
}
