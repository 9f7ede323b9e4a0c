// Command caller publishes for so long, as so many callers at once, each of which has its answer before it sends the next record: through
// kpush's door or a REST proxy (TO=127.0.0.1:9401, QUERY=?async=true, FORMAT=records), or with confluent-kafka-go itself (BROKERS), which
// is the floor. At the end it prints Count as JSON.
//
// TOPIC, CALLERS=64, LENGTH=3s, SIZE=200 (bytes of a value); PACE=5ms is from one record of a caller to its next.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Count is what the runner reads.
type Count struct {
	Records  int64         // while it was measured
	All      int64         // those before it, too
	Took     time.Duration // to publish Records
	P50, P99 time.Duration // from a call to its answer
}

// caller publishes one record, and returns what its answer says.
type caller func(key, value []byte) error

const (
	keys = 100_000 // as many as the messages of the other benchmarks have
	warm = 500 * time.Millisecond
)

func main() {
	all, length, pace, size := make([]caller, number("CALLERS")), duration("LENGTH"), duration("PACE"), number("SIZE")
	connect := byHTTP
	if os.Getenv("BROKERS") != "" {
		connect = byClient
	}
	for i := range all {
		var err error
		if all[i], err = connect(); err != nil {
			log.Fatalf("There is nobody to publish to: %v", err)
		}
	}
	var n atomic.Int64
	publish(all, warm, pace, size, &n) // connections, metadata, the broker's files
	before, begun := n.Load(), time.Now()
	took := publish(all, length, pace, size, &n)
	c := Count{Records: n.Load() - before, All: n.Load(), Took: time.Since(begun)}
	slices.Sort(took)
	c.P50, c.P99 = took[len(took)/2], took[len(took)*99/100]
	if err := json.NewEncoder(os.Stdout).Encode(c); err != nil {
		log.Fatal(err)
	}
}

// publish has all of them publish until the time is over, and returns how long each call took.
func publish(all []caller, length, pace time.Duration, size int, n *atomic.Int64) (took []time.Duration) {
	var mu sync.Mutex
	var over sync.WaitGroup
	end := time.Now().Add(length)
	for _, call := range all {
		over.Go(func() {
			var own []time.Duration
			value := make([]byte, size)
			for begin := time.Now(); begin.Before(end); begin = time.Now() {
				at := n.Add(1)
				if err := call(fmt.Appendf(nil, "customer-%06d", at%keys), fill(value, at)); err != nil {
					log.Fatalf("A record was not published: %v", err)
				}
				own = append(own, time.Since(begin))
				time.Sleep(time.Until(begin.Add(pace)))
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, own...)
		})
	}
	over.Wait()
	return took
}

// fill makes the value a text that differs from record to record.
func fill(value []byte, n int64) []byte {
	rest := value[copy(value, fmt.Appendf(nil, "record %012d ", n)):]
	for i := range rest {
		rest[i] = 'x'
	}
	return value
}

func number(name string) int {
	n, err := strconv.Atoi(os.Getenv(name))
	if err != nil {
		log.Fatalf("%s is %q, not a number.", name, os.Getenv(name))
	}
	return n
}

func duration(name string) time.Duration {
	d, err := time.ParseDuration(os.Getenv(name))
	if err != nil {
		log.Fatalf("%s is %q, not a duration such as 5s.", name, os.Getenv(name))
	}
	return d
}
