package librdkafka

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kpush/kpush/kafka"
)

// queued is a client of librdkafka that reads the first partition, and has told what it had to tell.
func (r *realRig) queued() *Consumer {
	r.Helper()
	cfg := r.config()
	cfg.Properties["debug"] = "fetch"
	l, err := New(cfg, slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		if err := l.Close(); err != nil {
			r.Error(err)
		}
	})
	if err := l.Assign([]kafka.Position{{Partition: kafka.Partition{Topic: "orders"}}}); err != nil {
		r.Fatal(err)
	}
	for something(l.Poll(300 * time.Millisecond)) {
	}
	return l
}

// something tells whether a poll had anything to tell.
func something(m *kafka.Message, err error) bool { return m != nil || err != nil }

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
		var got *kafka.Message
		var err error
		produced := make(chan error, 1)
		go func() {
			time.Sleep(50 * time.Millisecond) // let it wait, most of the time
			produced <- r.client.ProduceSync(t.Context(), &kgo.Record{Topic: "orders", Value: []byte(text)}).FirstErr()
		}()
		r.within("a poll with a message", func() {
			for !something(got, err) { // also returns for no reason
				got, err = l.Poll(time.Minute)
			}
		})
		if err := <-produced; err != nil {
			t.Fatal(err)
		}
		if err != nil || string(got.Value) != text {
			t.Fatalf("polled %v, %v, want %s", got, err, text)
		}
	}
}

func TestWakeEndsAPoll(t *testing.T) {
	r := newRealRig(t)
	l := r.queued()
	r.within("a wake that nobody waits for", func() {
		for range 1000 { // they count once
			l.Wake()
		}
	})
	r.within("a poll that was woken before it began", func() { _, _ = l.Poll(time.Minute) })
	time.AfterFunc(50*time.Millisecond, l.Wake)
	r.within("a poll that was woken", func() { _, _ = l.Poll(time.Minute) })
	begun := time.Now()
	for something(l.Poll(100 * time.Millisecond)) {
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
		if lines := r.logs.With("librdkafka: "); len(lines) > 0 {
			if !strings.Contains(lines[0], "level=DEBUG") || !strings.Contains(lines[0], "tag=") {
				t.Errorf("a line of the client's debug is logged as %s", lines[0])
			}
			return
		}
		select {
		case <-tick:
		case <-late:
			t.Fatalf("nothing of the client's debug is in the log:\n%s", strings.Join(r.logs.With(""), ""))
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
