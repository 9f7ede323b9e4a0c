package offsets

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kpush/kpush/volume/sim"
)

// sample runs f b.N times and reports the median besides the mean.
func sample(b *testing.B, f func()) {
	took := make([]time.Duration, 0, b.N)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		start := time.Now()
		f()
		took = append(took, time.Since(start))
	}
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
}

func benchPartition(b *testing.B, s Sync) *Partition {
	store, err := Open(b.TempDir(), Options{Sync: s})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Close() })
	p, err := store.Assign(Key{"cluster", "group", "topic", "id", 0}, Start{Lineage: 1, Committed: -1})
	if err != nil {
		b.Fatal(err)
	}
	return p
}

var windows = []struct {
	name string
	sync Sync
}{{"window", DefaultSync}, {"always", Sync{}}, {"never", Sync{Window: -1}}}

// BenchmarkDone: one completion recorded.
func BenchmarkDone(b *testing.B) {
	for _, w := range windows {
		b.Run(w.name, func(b *testing.B) {
			p, next := benchPartition(b, w.sync), int64(0)
			sample(b, func() {
				p.Fetched(next)
				if err := p.Done(next); err != nil {
					b.Fatal(err)
				}
				next++
			})
		})
	}
}

// BenchmarkIntentDone: what guarantee 3 costs a message, without the request.
func BenchmarkIntentDone(b *testing.B) {
	for _, w := range windows {
		b.Run(w.name, func(b *testing.B) {
			p, next := benchPartition(b, w.sync), int64(0)
			sample(b, func() {
				p.Fetched(next)
				if p.Intent(Attempt{Offset: next, Number: 1}) != nil || p.Done(next) != nil {
					b.Fatal("not recorded")
				}
				next++
			})
		})
	}
}

// BenchmarkGroupCommit: 256 writers share the syncs.
func BenchmarkGroupCommit(b *testing.B) {
	const writers = 256
	p := benchPartition(b, Sync{})
	for o := range int64(b.N) {
		p.Fetched(o)
	}
	b.ResetTimer()
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for o := w; o < b.N; o += writers {
				if err := p.Done(int64(o)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// BenchmarkOutOfOrder: the lowest of n offsets stays open, the rest finish from the top down.
func BenchmarkOutOfOrder(b *testing.B) {
	for _, n := range []int64{100, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			var t tracker
			left, next := int64(0), int64(0)
			for range b.N {
				if left == 0 {
					b.StopTimer()
					t = tracker{}
					for o := range n + 1 {
						t.fetched(o)
					}
					left, next = n, n
					b.StartTimer()
				}
				t.finish(next)
				next--
				left--
			}
		})
	}
}

// BenchmarkRecovery: reading a file that is full of facts, a MiB of frames at a time.
func BenchmarkRecovery(b *testing.B) {
	image, mib := fullImage(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parse(image, "offsets"); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N)/mib, "ms/MiB")
}

// fullImage is a file whose newest half is almost full: 8 partitions, intents and outcomes, 32 messages at once.
func fullImage(tb testing.TB) ([]byte, float64) {
	o := Options{Sync: Sync{Window: -1}, idle: true}
	first, size := newFile(o)
	d := sim.New(nil, append(first, make([]byte, int(size)-len(first))...))
	d.Never = true
	s, err := recoverFrom(d, "offsets", o)
	if err != nil {
		tb.Fatal(err)
	}
	var parts []*Partition
	for i := range 8 {
		p, err := s.Assign(Key{"cluster", "group", "topic", "id", int32(i)}, Start{Lineage: 1, Committed: -1})
		if err != nil {
			tb.Fatal(err)
		}
		parts = append(parts, p)
	}
	for n := int64(0); int(s.journal.pos) < s.journal.header.capacity()-1000; n += 32 {
		for _, p := range parts {
			for o := n; o < n+32; o++ {
				p.Fetched(o)
				_ = p.Intent(Attempt{Offset: o, Number: 1})
			}
			for o := n + 31; o >= n; o-- {
				_ = p.Done(o)
			}
		}
	}
	return d.Cache, float64(s.journal.pos) * frameSize / (1 << 20)
}

// BenchmarkWindow: the lowest of 10,000 offsets stays open. One more is handed over, tried and done, at random below the top.
func BenchmarkWindow(b *testing.B) {
	const n = 10_000
	b.Run("message", func(b *testing.B) {
		b.ReportAllocs()
		tr, rng := &tracker{}, rand.New(rand.NewPCG(1, 1))
		var open []int64
		for o := range int64(n) {
			tr.fetched(o)
			open = append(open, o)
		}
		for b.Loop() { // as many are open as before, and the window slides when the lowest is finished
			i := rng.IntN(len(open))
			tr.write(tr.find(open[i]))
			tr.finish(open[i])
			open[i] = tr.position
			tr.fetched(tr.position)
		}
	})
	b.Run("progress", func(b *testing.B) {
		b.ReportAllocs()
		tr := ahead(n)
		for b.Loop() {
			tr.finished(recorded)
		}
	})
	b.Run("recovery", func(b *testing.B) { // a MiB of outcomes in any order within a window
		frames, rng := make([]frame, 0, 32768), rand.New(rand.NewPCG(2, 2))
		for base := int64(0); len(frames) < 30_000; base += n {
			for _, i := range rng.Perm(n) {
				frames = append(frames, doneFrame(1, base+int64(i), 0, 0))
			}
		}
		for b.Loop() {
			r := reader{slots: make(map[uint32]*found)}
			for _, f := range frames {
				r.take(f)
			}
			r.last.sort()
		}
	})
}
