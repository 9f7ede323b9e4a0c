// Command inplace handles the messages of a topic inside a Go program, instead of pushing them to a service: with the same order,
// records, retries and commits as the sidecar has.
//
//	go run ./examples/inplace localhost:9092 orders billing /var/lib/billing
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/kpush/kpush/forwarder"
	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/kafka/librdkafka"
	"github.com/kpush/kpush/offsets"
)

// handler is a push.Handler: what it returns decides what follows.
type handler func(it *push.Item) error

// Push handles one message.
func (h handler) Push(a *push.Attempt) push.Verdict {
	if err := h(a.Items[0]); err != nil {
		return push.Verdict{Class: push.MessageFault, Reason: err.Error()} // tried again after RetryInterval
	}
	return push.Verdict{Class: push.Delivered}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: inplace BROKERS TOPIC GROUP DIRECTORY")
		os.Exit(2)
	}
	err := consume(ctx, os.Args[1], os.Args[2], os.Args[3], os.Args[4], slog.Default(), func(it *push.Item) error {
		fmt.Printf("%s attempt %d: %s\n", it.ID(), it.Attempt, it.Value)
		return nil
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// consume handles messages until ctx ends.
func consume(ctx context.Context, brokers, topic, group, dir string, log *slog.Logger, h handler) error {
	store, err := offsets.Open(dir, offsets.Options{Sync: offsets.DefaultSync, Log: log})
	if err != nil {
		return err
	}
	defer store.Close()
	client := librdkafka.Config{Properties: map[string]string{"bootstrap.servers": brokers}, Group: group,
		InstanceID: "inplace-" + store.VolumeID(), Buffer: 16 << 20, DrainTimeout: 25 * time.Second}
	consumer, err := librdkafka.New(client, log)
	if err != nil {
		return err
	}
	cluster, err := librdkafka.NewCluster(client)
	if err != nil {
		return err
	}
	f, err := forwarder.New(forwarder.Config{
		Brokers: brokers, Topics: []string{topic}, Group: group, InstanceID: client.InstanceID,
		Session: librdkafka.Session(client), PollInterval: librdkafka.PollInterval(client),
		Order: "partition", Concurrency: 16, Hosts: []string{"in place"}, BatchSize: 1,
		RetryInterval: 100 * time.Millisecond, RetryMaxInterval: 100 * time.Millisecond,
		CommitInterval: 200 * time.Millisecond, Reset: "earliest", Buffer: client.Buffer, DrainTimeout: client.DrainTimeout, RevokeTimeout: 5 * time.Second,
		SkipLog: filepath.Join(dir, "skipped.jsonl"),
	}, forwarder.Parts{
		Consumer: consumer, Cluster: cluster, Store: store, Handler: h,
		Reader: func(at []kafka.Position) (kafka.Reader, error) { return librdkafka.NewReader(client, at, log) },
	}, log)
	if err != nil {
		return err
	}
	return f.Run(ctx)
}
