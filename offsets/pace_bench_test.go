package offsets

import (
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// cpu is what this process has used, in user and kernel.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkMessage: the whole life of a message, by so many workers over 8 partitions, with a service that takes no time.
func BenchmarkMessage(b *testing.B) {
	for _, w := range windows[:2] {
		for _, workers := range []int{1, 8, 32} {
			b.Run(fmt.Sprintf("%s/%d", w.name, workers), func(b *testing.B) { benchMessage(b, w.sync, workers, false) })
			b.Run(fmt.Sprintf("%s/%d/one-write", w.name, workers), func(b *testing.B) { benchMessage(b, w.sync, workers, true) })
		}
	}
}

// benchMessage: b.N messages; with oneWrite, an outcome and the next intent go together.
func benchMessage(b *testing.B, sy Sync, workers int, oneWrite bool) {
	d := &counting{}
	parts := benchPartitions(b, sy, d)
	b.ReportAllocs()
	before, began := d.syncs.Load(), cpu()
	b.ResetTimer()
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() {
			p := parts[i%len(parts)]
			var last int64
			for n := range max(1, b.N/workers) {
				a := p.Earlier(p.take())
				a.Number++
				var done, intent error
				switch {
				case n == 0:
					intent = p.Intent(a)
				case oneWrite:
					done, intent = p.Write([]int64{last}, p.Partition, []Attempt{a})
				default:
					done, intent = p.Done(last), p.Intent(a)
				}
				if done != nil || intent != nil {
					b.Error(done, intent)
				}
				last = a.Offset
				runtime.Gosched() // the request
			}
			if err := p.Done(last); err != nil {
				b.Error(err)
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64((cpu()-began).Nanoseconds())/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(b.N)/float64(max(1, d.syncs.Load()-before)), "msgs/sync")
}

// stream is a partition whose messages are handed over as they are asked for.
type stream struct {
	*Partition
	mu   sync.Mutex
	next int64
}

func (s *stream) take() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.next
	s.next++
	s.Fetched(o)
	return o
}

func benchPartitions(b *testing.B, s Sync, d *counting) []*stream {
	store, err := Open(b.TempDir(), Options{Sync: s, wrap: func(inner disk) disk { d.disk = inner; return d }})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Close() })
	var parts []*stream
	for i := range 8 {
		p, err := store.Assign(Key{"cluster", "group", "topic", "id", int32(i)}, Start{Lineage: 1, Committed: -1})
		if err != nil {
			b.Fatal(err)
		}
		parts = append(parts, &stream{Partition: p})
	}
	return parts
}
