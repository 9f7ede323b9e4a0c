package api

import (
	"bufio"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/publisher"
)

// instant is a producer and a cluster that acknowledge what has come since they looked last, all at once.
type instant struct {
	kafka.Producer
	mu   sync.Mutex
	open []func(kafka.Produced, error)
	some chan struct{}
}

func (f *instant) Queue(_ kafka.Record, done func(kafka.Produced, error)) error {
	f.mu.Lock()
	f.open = append(f.open, done)
	f.mu.Unlock()
	select {
	case f.some <- struct{}{}:
	default:
	}
	return nil
}

func (f *instant) Queued() int { return 1 }

func (f *instant) Partitions(context.Context, []string) ([]kafka.Partition, error) {
	return make([]kafka.Partition, 8), nil
}

func (f *instant) RecordMost(context.Context, string) (int, error) { return 1 << 20, nil }

func (f *instant) acknowledge() {
	at := kafka.Produced{Position: kafka.Position{Partition: kafka.Partition{Topic: "orders"}}, Timestamp: 1795000000000}
	for range f.some {
		f.mu.Lock()
		open := f.open
		f.open = nil
		f.mu.Unlock()
		for _, done := range open {
			at.Offset++
			done(at, nil)
		}
	}
}

func (*instant) Close() {}

// BenchmarkDoor is what a record costs on its way through the port and back, Kafka left out. The callers allocate nothing.
func BenchmarkDoor(b *testing.B) {
	f := &instant{some: make(chan struct{}, 1)}
	go f.acknowledge()
	defer close(f.some)
	log := slog.New(slog.DiscardHandler)
	p := publisher.New(publisher.Config{Topics: []string{"*"}, Timeout: 1e10, BodyMost: 1 << 20, Buffer: 1 << 24}, publisher.Parts{Producer: f, Cluster: func() (publisher.Cluster, error) { return f, nil }}, log)
	a := New(PublishOnly{}, About{Addr: "127.0.0.1:0", Publish: p}, log)
	var said strings.Builder
	if err := Serve(b.Context(), Port{Variable: "KPUSH_API_ADDR", Name: "api", Addr: "127.0.0.1:0", Publish: true}, a, slog.New(slog.NewTextHandler(&said, nil))); err != nil {
		b.Fatal(err)
	}
	_, addr, _ := strings.Cut(said.String(), "addr=")
	request := []byte("POST /topics/orders HTTP/1.1\r\nHost: 127.0.0.1:9401\r\nContent-Type: application/octet-stream\r\nKafka-Key: customer-000017\r\nContent-Length: 200\r\n\r\n" + strings.Repeat("x", 200))
	var all sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ReportAllocs()
	before := used(b)
	for range 64 {
		c, err := net.Dial("tcp", strings.TrimSpace(addr))
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		all.Go(func() {
			r := bufio.NewReader(c)
			for left.Add(-1) >= 0 {
				if _, err := c.Write(request); err != nil {
					b.Error(err)
				}
				for { // an answer ends with its only line that ends so
					line, err := r.ReadSlice('\n')
					if err != nil {
						b.Error(err)
						return
					}
					if line[0] == '{' {
						break
					}
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(used(b)-before)/float64(b.N), "cpu-ns/op")
}

// used is the CPU time of the process, the callers included.
func used(b *testing.B) int64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return r.Utime.Nano() + r.Stime.Nano()
}
