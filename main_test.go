package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/api"
	"github.com/kpush/kpush/config"
	"github.com/kpush/kpush/offsets"
)

// nowhere is an address where nobody listens.
func nowhere(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// ready is a configuration that runs here, with a broker that is not there.
func ready(t *testing.T, more ...string) *config.Config {
	t.Helper()
	vars := map[string]string{"KPUSH_BROKERS": nowhere(t), "KPUSH_TOPIC": "orders", "KPUSH_GROUP": "shop", "KPUSH_OFFSETS_DIR": t.TempDir(),
		"KPUSH_HEALTH_ADDR": "127.0.0.1:0", "KPUSH_API_ADDR": "127.0.0.1:0", "KPUSH_DRAIN_TIMEOUT": "3s"}
	for _, m := range more {
		name, value, _ := strings.Cut(m, "=")
		vars[name] = value
	}
	var environ []string
	for name, value := range vars {
		environ = append(environ, name+"="+value)
	}
	cfg, err := config.Load(environ)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// Whatever a room has to know it is told: a field that main forgets is a variable that does nothing.
func TestEveryFieldIsFilled(t *testing.T) {
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KPUSH_SASL_PASSWORD_FILE", password)
	t.Setenv("KPUSH_SERVICE_TOKEN_FILE", password)
	cfg := ready(t, "KPUSH_DOMAIN=shop.example", "KPUSH_CAN_SKIP=true", "KPUSH_USE_SAVED_OFFSET_TIME=-1s", "KPUSH_INSTANCE_ID=shop-0", "KPUSH_CONFIRM_URL=/has",
		"KPUSH_CONCURRENCY=auto", "KPUSH_SKIP_ON=any", "KPUSH_DEAD_LETTER_TOPIC=dead", "KPUSH_READY_URL=/up", "KPUSH_BATCH_SIZE=9", "KPUSH_MESSAGE_DELIVERY_GUARANTEES=3",
		"KPUSH_URL=https://app/orders", "KPUSH_SERVICE_CA_FILE="+password, "KPUSH_SERVICE_CERT_FILE="+password, "KPUSH_SERVICE_KEY_FILE="+password, "KPUSH_SERVICE_TOKEN=secret")
	k := client(cfg, "0123456789abcdef")
	for _, told := range []any{k, service(cfg), service(cfg).Credentials, forwarding(cfg, k), door(cfg, producing(cfg))} {
		v := reflect.ValueOf(told)
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; v.Field(i).IsZero() && name != "Line" { // which is for tests
				t.Errorf("%s.%s is not filled", v.Type(), name)
			}
		}
	}
}

// A stop ends a process that has never seen a broker within its time, and it is no error. Until then the volume is its own, whatever is on it.
func TestRunStopsWithoutABroker(t *testing.T) {
	t.Run("guarantee 2", func(t *testing.T) { stopsWithoutABroker(t, "offsets") })
	t.Run("guarantee 1 with skip log and spool", func(t *testing.T) {
		stopsWithoutABroker(t, "lock", "KPUSH_MESSAGE_DELIVERY_GUARANTEES=1", "KPUSH_CAN_SKIP=true", "KPUSH_PUBLISH_SPOOL=1MiB")
	})
}

func stopsWithoutABroker(t *testing.T, file string, variables ...string) {
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	cfg := ready(t, variables...)
	go func() { ended <- run(ctx, cfg, newLog(cfg, io.Discard)) }()
	for {
		if _, err := os.Stat(filepath.Join(cfg.OffsetsDir, file)); err == nil {
			break
		}
		select {
		case err := <-ended:
			t.Fatal(err)
		case <-time.After(time.Millisecond):
		}
	}
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the stop hangs")
	}
	if store, err := offsets.Open(cfg.OffsetsDir, offsets.Options{}); err != nil {
		t.Errorf("the volume is not given back: %v", err)
	} else if err := store.Close(); err != nil {
		t.Error(err)
	}
}

// What only a change from outside can mend ends the start with a sentence and exit code 2.
func TestRunRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	another, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer another.Close()
	locked := t.TempDir()
	store, err := offsets.Open(locked, offsets.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	const skips = "KPUSH_MESSAGE_DELIVERY_GUARANTEES=1 KPUSH_CAN_SKIP=true KPUSH_OFFSETS_DIR="
	for name, row := range map[string]struct {
		variables string
		want      string
	}{
		"volume in use":                 {"KPUSH_OFFSETS_DIR=" + locked, locked},
		"volume not there":              {"KPUSH_OFFSETS_DIR=" + filepath.Join(locked, "missing"), "missing"},
		"volume in use, guarantee 1":    {skips + locked, "another kpush process"},
		"volume not there, guarantee 1": {skips + filepath.Join(locked, "missing"), "create it, or mount the volume there"},
		"volume in use, spool":          {"KPUSH_MESSAGE_DELIVERY_GUARANTEES=1 KPUSH_PUBLISH_SPOOL=1MiB KPUSH_OFFSETS_DIR=" + locked, "another kpush process"},
		"address in use":                {"KPUSH_HEALTH_ADDR=" + taken.Addr().String(), "cannot be listened on"},
		"address of the API in use":     {"KPUSH_API_ADDR=" + taken.Addr().String(), "KPUSH_API_ADDR=" + taken.Addr().String() + " cannot be listened on"},
		"both in use": {"KPUSH_HEALTH_ADDR=" + taken.Addr().String() + " KPUSH_API_ADDR=" + another.Addr().String(),
			"address already in use\nKPUSH_API_ADDR=" + another.Addr().String()},
		"property unknown":    {"KPUSH_CONSUMER_CONF=no.such.property=1", "No such configuration property"},
		"producer's property": {"KPUSH_PRODUCER_CONF=no.such.property=1", "No such configuration property"},
		"property mistaken":   {"KPUSH_CONSUMER_CONF=fetch.wait.max.ms=soon", "fetch.wait.max.ms"},
	} {
		ctx, end := context.WithTimeout(t.Context(), 5*time.Second)
		err := run(ctx, ready(t, strings.Fields(row.variables)...), newLog(new(config.Config), io.Discard))
		end()
		if err == nil || !errors.As(err, new(configError)) || !strings.Contains(err.Error(), row.want) || exit(err) != exitConfig {
			t.Errorf("%s: %v, want a configuration error with %q", name, err, row.want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for _, row := range []struct {
		err  error
		want int
	}{{nil, 0}, {errors.New("x"), exitFailed}, {configError{errors.New("x")}, exitConfig}, {fmt.Errorf("y: %w", configError{errors.New("x")}), exitConfig}} {
		if got := exit(row.err); got != row.want {
			t.Errorf("%v ends with %d, want %d", row.err, got, row.want)
		}
	}
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	well := nowhere(t)
	if err := api.Serve(t.Context(), api.HealthPort(well), api.Health(""), log); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KPUSH_HEALTH_ADDR", " "+well+"\n")
	if got := command([]string{"-healthz"}); got != 0 {
		t.Errorf("kpush -healthz with spaces around KPUSH_HEALTH_ADDR ends with %d, want 0", got)
	}
	if got := command([]string{"-healthz", "-offsets", ""}); got != exitConfig { // not the start, and nothing else either
		t.Errorf(`kpush -healthz -offsets "" ends with %d, want %d`, got, exitConfig)
	}
	t.Setenv("KPUSH_HEALTH_ADDR", nowhere(t))
	for args, want := range map[string]int{
		"-version": 0, "-help": 0, "-h": 0, "-nonsense": exitConfig, "start": exitConfig, "-healthz": exitFailed, "-offsets " + dir: exitFailed, "": exitConfig,
	} {
		if got := command(strings.Fields(args)); got != want {
			t.Errorf("kpush %s ends with %d, want %d", args, got, want)
		}
	}
}

// What is wrong is said at once, all of it and each once: who mends a line a start needs as many starts. What follows from another line is left out.
func TestAllThatIsWrongIsSaidAtOnce(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	at := " KPUSH_BROKERS=" + nowhere(t) + " KPUSH_OFFSETS_DIR=" + missing
	consumes := " KPUSH_TOPIC=orders KPUSH_GROUP=shop" + at
	const unknown = "No such configuration property"
	for name, row := range map[string]struct {
		variables string
		want      []string // in each line, in order
	}{
		"three kinds":            {"KPUSH_RETRY_INTERVAL=5 KPUSH_CONSUMER_CONF=nosuch=1" + consumes, []string{"KPUSH_RETRY_INTERVAL=5", unknown, missing}},
		"both clients":           {"KPUSH_PRODUCER_CONF=nosuchtoo=1 KPUSH_CONSUMER_CONF=nosuch=1" + consumes, []string{"nosuchtoo", `"nosuch"`, missing}},
		"consumer and volume":    {"KPUSH_CONSUMER_CONF=nosuch=1" + consumes, []string{missing, unknown}},
		"credentials":            {"KPUSH_SECURITY_PROTOCOL=sasl_plaintext KPUSH_SASL_MECHANISM=PLAIN" + consumes, []string{"KPUSH_SASL_USERNAME", "KPUSH_SASL_PASSWORD", missing}},
		"a wrong name":           {"KPUSH_OFSETS_DIR=/data" + consumes, []string{"KPUSH_OFSETS_DIR"}},
		"a volume nobody needs":  {"KPUSH_MESSAGE_DELIVERY_GUARANTEES=1 KPUSH_RETRY_INTERVAL=5" + consumes, []string{"KPUSH_RETRY_INTERVAL=5"}},
		"no group":               {"KPUSH_TOPIC=orders" + at, []string{"KPUSH_GROUP", missing}},
		"no broker":              {"KPUSH_TOPIC=orders KPUSH_GROUP=shop KPUSH_CONSUMER_CONF=nosuch=1 KPUSH_OFFSETS_DIR=" + missing, []string{"KPUSH_BROKERS", unknown, missing}},
		"publish only":           {"KPUSH_PUBLISH_TOPICS=/" + at, []string{"KPUSH_PUBLISH_TOPICS=/"}},
		"publish only and spool": {"KPUSH_PUBLISH_TOPICS=/ KPUSH_PUBLISH_SPOOL=1MiB" + at, []string{"KPUSH_PUBLISH_TOPICS=/", missing}},
	} {
		cfg, err := config.Load(strings.Fields(row.variables))
		if err != nil {
			err = withOthers(cfg, err)
		} else {
			err = run(t.Context(), cfg, newLog(new(config.Config), io.Discard))
		}
		lines := strings.Split(fmt.Sprint(err), "\n")
		if !slices.EqualFunc(lines, row.want, strings.Contains) || !errors.As(err, new(configError)) {
			t.Errorf("%s: %q, want %q", name, lines, row.want)
		}
	}
}

// Whoever asks for help gets it, and on stdout, so that it can be searched.
func TestHelpIsOnStdout(t *testing.T) {
	stdout := os.Stdout
	defer func() { os.Stdout = stdout }()
	var want strings.Builder
	new(config.Config).Help(&want)
	for _, asked := range []string{"-help", "-h", "--h"} {
		file, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		os.Stdout = file
		code := command([]string{asked})
		os.Stdout = stdout
		if got, err := os.ReadFile(file.Name()); err != nil || code != 0 || string(got) != want.String() {
			t.Errorf("kpush %s ends with %d, and %d bytes on stdout (%v), want 0 and %d", asked, code, len(got), err, want.Len())
		}
	}
}
