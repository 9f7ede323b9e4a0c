package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/api"
	"github.com/kpush/kpush/config"
	"github.com/kpush/kpush/offsets"
	"github.com/kpush/kpush/tracing"
)

// -check has the start's exit codes and sentences: what the client or the volume refuses has to be changed, a broker may come.
func TestCheckRefuses(t *testing.T) {
	missing, damaged, locked := filepath.Join(t.TempDir(), "missing"), t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(damaged, "offsets"), []byte("nothing of the kind"), 0o644); err != nil {
		t.Fatal(err)
	}
	store, err := offsets.Open(locked, offsets.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	spoiled := t.TempDir()
	if err := errors.Join(os.MkdirAll(filepath.Join(spoiled, "spool", "orders"), 0o755), os.WriteFile(filepath.Join(spoiled, "spool", "orders", "00000000000000000000"), []byte("nothing of the kind"), 0o644)); err != nil {
		t.Fatal(err)
	}
	const one = "KPUSH_MESSAGE_DELIVERY_GUARANTEES=1 KPUSH_OFFSETS_DIR="
	for set, row := range map[string]struct {
		code int
		said string // in the error; the start says it as well where the code is 2
	}{
		"KPUSH_DOMAIN=":                          {exitFailed, "no broker at"},
		"KPUSH_CONSUMER_CONF=no.such.property=1": {exitConfig, "no.such.property"},
		"KPUSH_CONSUMER_CONF=security.protocol=sasl_ssl;sasl.mechanisms=MD5": {exitConfig, "MD5"},
		"KPUSH_OFFSETS_DIR=" + missing:                                       {exitConfig, "create it, or mount the volume there"},
		"KPUSH_OFFSETS_DIR=" + missing + "/below":                            {exitConfig, "create it, or mount the volume there"},
		"KPUSH_OFFSETS_DIR=" + damaged:                                       {exitConfig, "keep it, and move it aside"},
		one + missing + " KPUSH_CAN_SKIP=true":                               {exitConfig, "create it, or mount the volume there"},
		one + missing:                                                        {exitFailed, "no broker at"},
		one + damaged + " KPUSH_CAN_SKIP=true":                               {exitFailed, "no broker at"}, // it has no file
		"KPUSH_OFFSETS_DIR=" + spoiled:                                       {exitConfig, "orders/00000000000000000000 begins with what kpush has not written"},
		one + missing + " KPUSH_PUBLISH_SPOOL=1MiB":                          {exitConfig, "create it, or mount the volume there"},
		"KPUSH_OFFSETS_DIR=" + locked:                                        {exitFailed, "no broker at"}, // by the sidecar that runs
	} {
		cfg := ready(t, strings.Fields(set)...)
		ctx, end := context.WithTimeout(t.Context(), 400*time.Millisecond)
		err := examine(ctx, cfg, io.Discard)
		end()
		if code := exit(err); code != row.code || !strings.Contains(err.Error(), row.said) {
			t.Errorf("%s: %v ends with %d, want %d", set, err, code, row.code)
		}
		if row.code == exitFailed {
			continue
		}
		ctx, end = context.WithTimeout(t.Context(), 5*time.Second)
		err2 := run(ctx, cfg, newLog(new(config.Config), io.Discard))
		end()
		if exit(err2) != exitConfig || !strings.Contains(err.Error(), err2.Error()) {
			t.Errorf("%s: a start says %v\nand -check %v", set, err2, err)
		}
	}
}

// refused is how a process is that the group does not take.
type refused struct{}

func (refused) Live() []string  { return nil }
func (refused) Ready() []string { return []string{"group g: the group does not take this member"} }
func (refused) Notes() []string { return []string{"4 partitions assigned"} }

// What -check finds beside Kafka: a line for each thing, and a warning where something will not be as one may think.
func TestCheckSays(t *testing.T) {
	far := httptest.NewServer(http.NotFoundHandler())
	defer far.Close()
	port := far.URL[strings.LastIndex(far.URL, ":")+1:]
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	secure.Config.ErrorLog = nil
	defer secure.Close()
	socket := filepath.Join(t.TempDir(), "app.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	volume, locked := t.TempDir(), t.TempDir()
	store, err := offsets.Open(locked, offsets.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	running := httptest.NewServer(api.Health(store.VolumeID(), refused{}))
	defer running.Close()
	nobody, shut := nowhere(t), t.TempDir()
	for _, name := range []string{"skipped.jsonl", "audit.jsonl"} {
		if err := os.Mkdir(filepath.Join(shut, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		set  string
		want []string
	}{
		{"KPUSH_RETRY_NUMS=5", []string{"KPUSH_RETRY_NUMS=5\n", "\nwarning: KPUSH_RETRY_NUMS=5 has no effect: "}},
		{"KPUSH_OFFSETS_DIR=" + volume, []string{"\nvolume " + volume + ": no offsets file, ", " MiB free\n"}},
		{"KPUSH_OFFSETS_DIR=" + shut, []string{"\nwarning: open " + shut + "/skipped.jsonl: is a directory: nothing can be skipped, by you or by the service\n",
			"\nwarning: open " + shut + "/audit.jsonl: is a directory: no command is carried out\n"}},
		{"KPUSH_OFFSETS_DIR=" + locked, []string{"\nvolume " + locked + ": 0 partitions known, ", "used by another kpush process (pid ", "\nwarning: the kpush that runs: no kpush answers"}},
		{"KPUSH_OFFSETS_DIR=" + locked + " KPUSH_HEALTH_ADDR=" + running.Listener.Addr().String(),
			[]string{"\nthe kpush that runs: healthy: 4 partitions assigned; not ready (no reason for exit code 1): group g: the group does not take this member\n"}},
		{"KPUSH_MESSAGE_DELIVERY_GUARANTEES=1 KPUSH_OFFSETS_DIR=" + volume + "/no", []string{"\nwarning: nothing could be skipped, by you or by the service: the volume " + volume + "/no cannot"}},
		{"KPUSH_OFFSETS_DIR=" + volume + " KPUSH_PUBLISH_SPOOL=900000GiB", []string{"\nwarning: KPUSH_PUBLISH_SPOOL=900000GiB is more than the "}},
		{"KPUSH_PORT=" + port, []string{"\nservice 127.0.0.1:" + port + ": it connects\n"}},
		{"KPUSH_HOST=unix:" + socket + ",unix:" + socket + "2", []string{"\nservice unix:" + socket + ": it connects\n", "\nwarning: service unix:" + socket + "2: dial " + socket + "2: connect: no such file or directory; what"}},
		{"KPUSH_URL=http://me:secret@" + nobody + "/x", []string{"\nwarning: service " + nobody + ": dial " + nobody + ": connect: connection refused; what is sent until it answers is sent again\n"}},
		{"KPUSH_URL=" + secure.URL, []string{"\nwarning: service " + strings.TrimPrefix(secure.URL, "https://") + ": TLS handshake: "}},
	} {
		var said strings.Builder
		wait := 400 * time.Millisecond
		if strings.Contains(row.set, "https:") { // a handshake takes a busy machine its time
			wait = 3 * time.Second
		}
		ctx, end := context.WithTimeout(t.Context(), wait)
		err := examine(ctx, ready(t, strings.Fields(row.set)...), &said)
		end()
		if err == nil || errors.As(err, new(configError)) { // the broker is not there
			t.Errorf("%s: %v", row.set, err)
		}
		for _, want := range row.want {
			if !strings.Contains(said.String(), want) {
				t.Errorf("%s:\n%s\nlacks %q", row.set, &said, want)
			}
		}
		if strings.Contains(said.String(), "secret") {
			t.Errorf("%s: it shows the password:\n%s", row.set, &said)
		}
	}
}

// The memory that -check names is at least what docs/benchmarks.md bounds: 48 MiB with the default, 28 MiB while idle.
func TestMemory(t *testing.T) {
	for value, want := range map[string]int64{"16MiB": 52 << 20, "1MiB": 28<<20 + 3<<19, "1024MiB": 1564 << 20} {
		if got := memory(ready(t, "KPUSH_BUFFER="+value)); got != want {
			t.Errorf("KPUSH_BUFFER=%s: %d, want %d", value, got, want)
		}
	}
	for spool, want := range map[string]int64{"0": 84 << 20, "1GiB": 132 << 20} { // as docs/sizing.md says
		if c := ready(t, "KPUSH_PUBLISH_SPOOL="+spool); memory(c)+publishMemory(c) != want {
			t.Errorf("KPUSH_PUBLISH_SPOOL=%s: %d, want %d", spool, memory(c)+publishMemory(c), want)
		}
	}
}

// Go's collector is told of a large message: what -check names beside twice the largest one has to hold. A limit of the user's stands.
func TestRoomForLargeMessages(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "")
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	c := ready(t, "KPUSH_BUFFER=16MiB")
	for size, want := range map[int64]int64{2 << 20: 60 << 20, 20 << 20: 60 << 20, 64 << 20: 144 << 20} {
		makeRoom(c)(size)
		if got := debug.SetMemoryLimit(-1); got != want || got > largeMemory(c)+2*size {
			t.Errorf("a message of %d bytes: %d, want %d", size, got, want)
		}
	}
	t.Setenv("GOMEMLIMIT", "1GiB")
	if makeRoom(c) != nil {
		t.Error("the user's limit does not stand")
	}
}

// A start warns of each variable that is set and has no effect.
func TestStartWarns(t *testing.T) {
	var said strings.Builder
	cfg := ready(t, "KPUSH_RETRY_NUMS=5", "KPUSH_RETRY_MAX_INTERVAL=2s", "KPUSH_LOG_FORMAT=text")
	log := newLog(cfg, &said)
	ctx, end := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer end()
	if err := run(ctx, cfg, log); err != nil {
		t.Fatal(err)
	}
	log.flush(lastLine)
	for _, want := range cfg.Idle() {
		if n := strings.Count(said.String(), "level=WARN msg=\""+want+"\"\n"); n != 1 {
			t.Errorf("%q is said %d times:\n%s", want, n, &said)
		}
	}
	if len(cfg.Idle()) != 2 {
		t.Errorf("%q", cfg.Idle())
	}
}

// A build without traces says so where they are asked for, at the start and in -check.
func TestIdleKnowsOfTraces(t *testing.T) {
	cfg := ready(t)
	before := len(idle(cfg))
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
	if all, build := idle(cfg), tracing.Idle(); len(all) != before+len(build) || !slices.Equal(all[before:], build) {
		t.Errorf("said: %q, want also %q", all, build)
	}
}
