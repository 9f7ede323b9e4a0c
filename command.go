package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/kpush/kpush/api"
	"github.com/kpush/kpush/config"
	"github.com/kpush/kpush/offsets"
	"github.com/kpush/kpush/publisher/spool"
)

// command is kpush on the command line; it returns the exit code.
func command(args []string) int {
	if name, rest, ok := orderOf(args); ok {
		return operate(name, rest, os.Stdout)
	}
	flags := flag.NewFlagSet("kpush", flag.ContinueOnError)
	flags.Usage = func() { new(config.Config).Help(os.Stderr) }
	help := flags.Bool("help", false, "")
	flags.BoolVar(help, "h", false, "")
	show := flags.Bool("version", false, "")
	probe := flags.Bool("healthz", false, "")
	check := flags.Bool("check", false, "")
	dump := ""
	flags.Func("offsets", "", func(dir string) error {
		if dump = dir; dir == "" {
			return errors.New("name the directory of a volume, such as /var/lib/kpush")
		}
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return exitConfig
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "kpush takes no arguments (%q): it is configured by environment variables, see kpush -help\n", flags.Arg(0))
		return exitConfig
	}
	switch {
	case *help:
		new(config.Config).Help(os.Stdout)
		return 0
	case *show:
		fmt.Println("kpush", version)
		return 0
	case dump != "":
		return exit(dumpVolume(os.Stdout, dump))
	case *probe:
		volume := offsets.VolumeOf(cmp.Or(strings.TrimSpace(os.Getenv("KPUSH_OFFSETS_DIR")), "/var/lib/kpush"))
		said, err := api.Probe(context.Background(), cmp.Or(strings.TrimSpace(os.Getenv("KPUSH_HEALTH_ADDR")), ":9400"), volume)
		if err == nil {
			fmt.Println(said)
		}
		return exit(err)
	}
	cfg, err := config.Load(os.Environ())
	if err != nil {
		fmt.Fprintln(os.Stderr, withOthers(cfg, err))
		return exitConfig
	}
	ends := []os.Signal{syscall.SIGTERM, syscall.SIGINT}
	if !signal.Ignored(syscall.SIGHUP) { // nohup's
		ends = append(ends, syscall.SIGHUP) // the terminal is closed
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	defer stop()
	if *check {
		return exit(examine(ctx, cfg, os.Stdout))
	}
	signal.Ignore(syscall.SIGPIPE) // the end of whoever reads the log is not the sidecar's
	log := newLog(cfg, os.Stdout)
	defer log.flush(lastLine)
	return exit(run(ctx, cfg, log))
}

// within ends the process where a stop takes longer than it may, whatever it waits for: a disk that hangs, for one. Call what
// it returns when the stop has come to its end.
func within(stop context.Context, most time.Duration, log *lines) (over func()) {
	ended := make(chan struct{})
	context.AfterFunc(stop, func() {
		select {
		case <-ended:
		case <-time.After(most):
			log.Error("the stop took longer than KPUSH_DRAIN_TIMEOUT, most likely because the volume does not answer: the process ends all the same; nothing is lost",
				"drain_timeout", most.String())
			log.flush(lastLine)
			os.Exit(exitFailed)
		}
	})
	return func() { close(ended) }
}

// exit says on stderr why the process ends, and with which code.
func exit(err error) int {
	if err == nil {
		return 0
	}
	said := make(chan struct{})
	go func() {
		defer close(said)
		fmt.Fprintln(os.Stderr, "kpush:", err)
	}()
	select {
	case <-said:
	case <-time.After(lastLine): // nobody reads it
	}
	if errors.As(err, new(configError)) {
		return exitConfig
	}
	return exitFailed
}

// dumpVolume prints what the file and the spool of a volume say. A process that only publishes, or has guarantee 1, keeps no file.
func dumpVolume(w io.Writer, dir string) error {
	err := offsets.Dump(w, dir)
	if _, none := os.Stat(spool.Directory(dir)); none != nil {
		return err
	}
	if errors.Is(err, offsets.ErrVolume) {
		err = nil
	}
	return errors.Join(err, spool.Dump(w, dir))
}
