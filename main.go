// Command kpush is a sidecar: it pushes the messages of a Kafka topic into the service beside it over HTTP, in order and
// for as long as it takes, and remembers each delivery on a volume. See README.md.
package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/kpush/kpush/api"
	"github.com/kpush/kpush/config"
	"github.com/kpush/kpush/forwarder"
	"github.com/kpush/kpush/kafka/librdkafka"
	"github.com/kpush/kpush/tracing"
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

// weighed is an error of the forwarder's, as one that only a change from outside can mend where it is.
func weighed(err error) error {
	if errors.Is(err, forwarder.ErrNeedsStatic) {
		return configError{err}
	}
	return err
}

// run is the sidecar's life, until ctx ends.
func run(ctx context.Context, cfg *config.Config, log *lines) error {
	ctx, stop := context.WithCancel(ctx)
	defer within(ctx, cfg.DrainTimeout, log)()
	defer stop()
	traces := tracing.Start(ctx, tracing.Options{Version: version, Hosts: cfg.HostNames(), Batch: cfg.BatchSize, Drain: cfg.DrainTimeout, Log: log.Logger})
	defer traces.Stop() // the volume is closed by then: the next process need not wait for a collector
	door, producer, err := openDoor(cfg, log.Logger)
	if err != nil {
		return withOthers(cfg, err)
	}
	f, volume, closeVolume, err := take(cfg, door, producer, traces, log.Logger)
	defer func() {
		stop() // the time for the end begins, if it has not
		closeVolume()
	}()
	if err != nil {
		return withOthers(cfg, err)
	}
	if err := openSpool(cfg, door, producer, log.Logger); err != nil {
		return configError{err}
	}
	network := api.NewNetwork(cfg.Brokers, log.Logger)
	serving, end := context.WithCancel(context.Background())
	defer end()
	answers := http.NewServeMux()
	answers.Handle("/", api.Health(volume, f, door, network, log))
	var measured api.Measured = f
	if cfg.PublishOnly() {
		measured = api.PublishOnly{}
	}
	answers.Handle("GET /metrics", api.Metrics(api.Build{Version: version, Librdkafka: librdkafka.Version()}, measured, door, log.left))
	unheard := api.Serve(serving, api.HealthPort(cfg.HealthAddr), answers, log.Logger)
	about := api.About{Version: version, Guarantee: cfg.Guarantee, Config: cfg.Effective(), Addr: cfg.APIAddr, Token: cfg.APIToken, Sources: []api.Source{door, network, log}, Publish: door,
		Descriptors: descriptors()}
	if err := errors.Join(unheard, api.New(f, about, log.Logger).Serve(serving)); err != nil {
		return configError{err}
	}
	dumpOnQuit(log, f.Status)
	orphaned := network.Guard(stop)
	skip := make(chan os.Signal, 1)
	signal.Notify(skip, syscall.SIGUSR1)
	go func() {
		for range skip {
			f.SkipBlocked()
		}
	}()
	log.Info("kpush starts", "version", version, "volume", volume, slog.Any("config", slog.GroupValue(cfg.Effective()...)))
	context.AfterFunc(ctx, func() {
		if why := context.Cause(ctx); why != context.Canceled { // a signal
			log.Info("kpush stops", "why", why.Error())
		}
	})
	for _, sentence := range idle(cfg) {
		log.Warn(sentence)
	}
	if cfg.PublishOnly() {
		log.Info(api.PublishOnlyNote)
	}
	err = weighed(serveUntil(ctx, stop, f, door, producer, cfg.DrainTimeout))
	return errors.Join(orphaned(), err) // a dead network is why, whatever else went wrong at the end
}
