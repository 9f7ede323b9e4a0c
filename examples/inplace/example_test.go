package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kpush/kpush/forwarder/push"
)

// Three messages are handled inside the program: the second one fails at first, and comes again before the third. A second life on
// the same directory gets only what is new.
func Example() {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.DefaultProduceTopic("orders"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	dir, err := os.MkdirTemp("", "inplace")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	life := func(values ...string) {
		for _, v := range values {
			if err := client.ProduceSync(context.Background(), kgo.StringRecord(v)).FirstErr(); err != nil {
				fmt.Println(err)
			}
		}
		ctx, end := context.WithCancel(context.Background())
		defer end()
		err := consume(ctx, strings.Join(cluster.ListenAddrs(), ","), "orders", "billing", dir, slog.New(slog.DiscardHandler), func(it *push.Item) error {
			fmt.Printf("offset %d, attempt %d: %s\n", it.Offset, it.Attempt, it.Value)
			if string(it.Value) == "two" && it.Attempt == 1 {
				return errors.New("no such customer yet")
			}
			if string(it.Value) == values[len(values)-1] {
				end()
			}
			return nil
		})
		fmt.Println("end:", err)
	}
	life("one", "two", "three")
	life("four")
	// Output:
	// offset 0, attempt 1: one
	// offset 1, attempt 1: two
	// offset 1, attempt 2: two
	// offset 2, attempt 1: three
	// end: <nil>
	// offset 3, attempt 1: four
	// end: <nil>
}
