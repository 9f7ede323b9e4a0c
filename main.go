// Command kpush is a sidecar: it pushes the messages of a Kafka topic into the service beside it over HTTP, in order and
// for as long as it takes, and remembers each delivery on a volume. See README.md.
package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/kpush/kpush/api"
	"github.com/kpush/kpush/forwarder"
)

// version is set by the linker.
var version = "dev"

// Exit codes: 1, it could not go on (nothing is lost); 2, the configuration or the volume has to be changed first.
const (
	exitFailed = 1
	exitConfig = 2
)

func main() { os.Exit(command(os.Args[1:])) }

// configError is what only a change from outside can mend.
type configError struct{ error }

// run is the sidecar's life, until ctx ends.
func run(ctx context.Context, cfg *Config, log *slog.Logger) error {
	ctx, stop := context.WithCancel(ctx)
	defer within(ctx, cfg.DrainTimeout, log)()
	defer stop()
	store, volume, err := remember(cfg, log)
	if err != nil {
		return configError{err}
	}
	defer func() { stop(); forget(store, log) }() // the time for the end begins, if it has not
	f, err := forwarder.New(forwarding(cfg, volume), store, nil, log)
	if err != nil {
		return configError{err}
	}
	network := api.NewNetwork(cfg.Brokers, log)
	serving, end := context.WithCancel(context.Background())
	defer end()
	if err := api.Serve(serving, cfg.HealthAddr, api.Health(f, network), log); err != nil {
		return configError{err}
	}
	orphaned := network.Guard(stop)
	skip := make(chan os.Signal, 1)
	signal.Notify(skip, syscall.SIGUSR1)
	go func() {
		for range skip {
			f.SkipBlocked()
		}
	}()
	log.Info("kpush starts", "version", version, "volume", volume, slog.Any("config", slog.GroupValue(cfg.Effective()...)))
	err = f.Run(ctx)
	return errors.Join(orphaned(), err) // a dead network is why, whatever else went wrong at the end
}

// forwarding is the part of the configuration that the forwarder needs.
func forwarding(c *Config, volume string) forwarder.Config {
	id, comesBack := c.Member(volume)
	return forwarder.Config{
		Kafka: c.Kafka(), Topics: c.Topics, Group: c.Group, InstanceID: id, ComesBack: comesBack,
		Targets: c.Targets(), Domain: c.Domain, Format: c.Format, Ack: c.Ack,
		ConnTimeout: c.ConnTimeout, ExecTimeout: c.ExecTimeout, SlowTime: c.SlowTime,
		Order: c.Order, Concurrency: c.Concurrency.first(), Adaptive: c.Concurrency == auto,
		ReadyURL: c.ReadyTarget(), ReadyDomain: c.domainOf(c.ReadyURL),
		BatchSize: c.BatchSize, BatchLinger: c.BatchLinger,
		SkipOnAny: c.SkipOn == "any", CanSkip: c.CanSkip, RetryNums: c.RetryNums,
		RetryInterval: c.RetryInterval, RetryMaxInterval: c.RetryMaxInterval,
		CommitInterval: c.CommitInterval, Reset: c.AutoOffsetReset, TrustSaved: c.UseSavedOffsetTime,
		Buffer: int64(c.Buffer), DrainTimeout: c.DrainTimeout, SkipLog: filepath.Join(c.OffsetsDir, "skipped.jsonl"),
		Subscribed: c.subscribed(),
		ConfirmURL: c.ConfirmTarget(), ConfirmDomain: c.domainOf(c.ConfirmURL),
	}
}
