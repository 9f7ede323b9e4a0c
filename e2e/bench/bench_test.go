package bench

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

var page = flag.String("write", "", "the page that gets the table")

func TestMain(m *testing.M) {
	code := rig.Main(m)
	if len(book.rows) > 0 {
		book.print(os.Stdout)
		if *page != "" {
			if err := write(*page, book.heading(time.Now())+book.markdown()); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}
	}
	os.Exit(code)
}

// What is compared does its work: each contender delivers every message.
func TestContenders(t *testing.T) {
	const n = 2_000
	s := begin(t, "contenders")
	topic := s.fill(8, n, 100)
	for _, program := range []string{"kpush", "floor", "loop"} {
		svc := startService(s)
		p := s.enter(entry{program: program, topic: topic}, svc)
		rig.Within(s, patience, program+"'s delivery of all messages", func() bool { return svc.count(s).Messages >= n })
		if c := svc.count(s); c.Messages != n || c.Requests != n || p.cpu(s) == 0 || p.memory(s, "VmHWM") == 0 {
			t.Errorf("%s: %+v of %d messages in %v of CPU time and %.1f MiB", program, c, n, p.cpu(s), p.memory(s, "VmHWM"))
		}
		p.end()
		svc.end()
	}
}

func BenchmarkPartition100B(b *testing.B) {
	s := begin(b, "8 partitions, 100 B")
	n, short := messages(300_000), messages(100_000)
	topic := s.fill(8, n, 100)
	s.race(
		entry{name: "kpush", program: "kpush", topic: topic, messages: n},
		entry{name: "floor", program: "floor", topic: topic, messages: n},
		entry{name: "loop", program: "loop", topic: s.fill(8, short, 100), messages: short},
		entry{name: "order=key, 64 in flight", program: "kpush", topic: topic, messages: n, env: []string{"KPUSH_ORDER=key", "KPUSH_CONCURRENCY=64"}},
	)
	s.compare("messages/s", rate, "order=key, 64 in flight", "kpush", atLeast(0.75, ""))
	s.compare("messages/s", rate, "kpush", "loop", atLeast(3.5, ""))
	s.compare("CPU", cpu, "kpush", "loop", atMost(0.35, ""))
	s.compare("messages/s", rate, "kpush", "floor", atLeast(0.8, ""))
	s.compare("CPU", cpu, "kpush", "floor", atMost(1.25, ""))
}

// BenchmarkWatched is what an operator's page and a Prometheus cost.
func BenchmarkWatched(b *testing.B) {
	s := begin(b, "8 partitions, 100 B, looked at")
	n := messages(600_000)
	topic := s.fill(8, n, 100)
	s.race(
		entry{name: "watched", program: "kpush", topic: topic, messages: n, watched: true},
		entry{name: "alone", program: "kpush", topic: topic, messages: n},
	)
	s.compare("messages/s", rate, "watched", "alone", atLeast(0.98, ""))
}

func BenchmarkPartition1KiB(b *testing.B) {
	s := begin(b, "8 partitions, 1 KiB")
	n, short := messages(150_000), messages(60_000)
	topic := s.fill(8, n, 1024)
	s.race(
		entry{name: "kpush", program: "kpush", topic: topic, messages: n},
		entry{name: "floor", program: "floor", topic: topic, messages: n},
		entry{name: "loop", program: "loop", topic: s.fill(8, short, 1024), messages: short},
	)
	s.compare("messages/s", rate, "kpush", "floor", atLeast(0.8, ""))
	s.compare("messages/s", rate, "kpush", "loop", atLeast(1, ""))
}

func BenchmarkOrders(b *testing.B) {
	s := begin(b, "service of 5 ms, 64 in flight")
	n := messages(40_000)
	topic := s.fill(8, n, 100)
	order := func(name string, count int) entry {
		return entry{name: "order=" + name, program: "kpush", topic: topic, messages: count,
			env: []string{"KPUSH_CONCURRENCY=64", "KPUSH_ORDER=" + name}, service: []string{"SLEEP=5ms"}}
	}
	s.race(order("partition", n/8), order("key", n), order("none", n))
	s.compare("messages/s", rate, "order=key", "order=partition", atLeast(5, ""))
	s.compare("messages/s", rate, "order=key", "order=none", atLeast(0.9, ""))
}

func BenchmarkBatch(b *testing.B) {
	s := begin(b, "batch, service of 5 ms, 8 partitions, 100 B")
	n := messages(300_000)
	topic := s.fill(8, n, 100)
	sleep := []string{"SLEEP=5ms"}
	s.race(
		entry{name: "batch of 100", program: "kpush", topic: topic, messages: n, env: []string{"KPUSH_BATCH_SIZE=100"}, service: sleep},
		entry{name: "single", program: "kpush", topic: topic, messages: n / 50, service: sleep},
	)
	s.compare("messages/s", rate, "batch of 100", "single", atLeast(10, ""))
}

func BenchmarkPartitions500(b *testing.B) {
	s := begin(b, "500 partitions, 100 B")
	n := messages(300_000)
	s.race(
		entry{name: "500 partitions", program: "kpush", topic: s.fill(500, n, 100), messages: n},
		entry{name: "8 partitions", program: "kpush", topic: s.fill(8, n, 100), messages: n},
	)
	s.compare("CPU", cpu, "500 partitions", "8 partitions", atMost(1.3, ""))
}

// BenchmarkGuarantees is what the record costs, of all that the process uses for a message.
func BenchmarkGuarantees(b *testing.B) {
	s := begin(b, "guarantees, 32 partitions, 32 in flight, 100 B")
	n := messages(300_000)
	topic := s.fill(32, n, 100)
	with := func(name string, env ...string) entry {
		return entry{name: name, program: "kpush", topic: topic, messages: n, env: append(env, "KPUSH_CONCURRENCY=32")}
	}
	s.race(
		with("guarantee 1", "KPUSH_MESSAGE_DELIVERY_GUARANTEES=1"),
		with("guarantee 2"),
		with("guarantee 2, sync never", "KPUSH_OFFSETS_SYNC=never"),
		with("guarantee 3", "KPUSH_MESSAGE_DELIVERY_GUARANTEES=3"),
	)
	s.compare("CPU", cpu, "guarantee 2", "guarantee 1", atMost(1.1, ""))
	s.compare("CPU", cpu, "guarantee 3", "guarantee 1", atMost(1.6, ""))
}

// BenchmarkMemory has far more waiting than there may be in memory.
func BenchmarkMemory(b *testing.B) {
	s := begin(b, "1,000,000 × 1 KiB waiting")
	topic := s.fill(8, messages(1_000_000), 1024)
	const length = 20 * time.Second
	f, _ := s.run(entry{name: "kpush", program: "kpush", topic: topic, messages: messages(1_000_000), limit: length})
	book.row(row{scene: s.name, name: "instant service", figures: f})
	s.holds("peak RSS, instant service", f.rss, atMost(48, " MiB"))

	svc := startService(s, "SLEEP=forever")
	p := s.enter(entry{program: "kpush", topic: topic}, svc)
	rig.Within(s, patience, "a first request", func() bool { return svc.count(s).Requests > 0 })
	s.alone(length, p)
	hung := figures{rss: p.memory(s, "VmHWM")}
	p.end()
	svc.end()
	book.row(row{scene: s.name, name: "service hangs", figures: hung})
	s.holds("peak RSS, service hangs", hung.rss, atMost(48, " MiB"))
	s.k.DeleteTopic(s, topic)
}

// alone lets the processes run for so long.
func (s *scene) alone(length time.Duration, all ...*process) {
	s.Helper()
	rig.Throughout(s, length, func() error {
		for _, p := range all {
			if !p.alive() {
				return fmt.Errorf("a process has ended by itself: %s", p.said())
			}
		}
		return nil
	})
}

// BenchmarkIdle is a minute with nothing to do, for a sidecar that never had much and for one that has just had.
func BenchmarkIdle(b *testing.B) {
	const length = time.Minute
	s := begin(b, "idle for a minute")
	svc := startService(s)
	defer svc.end()
	names, counts := []string{"after 8 messages", "after 300,000"}, []int{8, messages(300_000)}
	var idle []*process
	for _, n := range counts {
		before := svc.count(s).Messages
		p := s.enter(entry{program: "kpush", topic: s.fill(8, n, 100)}, svc)
		defer p.end()
		rig.Within(s, patience+longest, "the delivery of all", func() bool { return svc.count(s).Messages >= before+int64(n) })
		idle = append(idle, p)
	}
	s.alone(12*time.Second, idle...) // kpush looks for commits, and tidies its memory, for ten seconds more
	used := []time.Duration{idle[0].cpu(s), idle[1].cpu(s)}
	s.alone(length, idle...)
	for i, p := range idle {
		percent := 100 * (p.cpu(s) - used[i]).Seconds() / length.Seconds()
		now := p.memory(s, "VmRSS")
		book.row(row{scene: s.name, name: names[i], figures: figures{rss: p.memory(s, "VmHWM")}, remark: fmt.Sprintf("%.2f %% CPU, %.1f MiB, of which anonymous %.1f", percent, now, p.memory(s, "RssAnon"))})
		s.holds("CPU "+names[i], percent, atMost(0.35, " %"))
		s.holds("RSS "+names[i], now, atMost(28, " MiB"))
		s.holds("anonymous memory "+names[i], p.memory(s, "RssAnon"), atMost(8, " MiB"))
	}
}

// BenchmarkLatency is the time from just before the producer's call to the request's arrival: the medians of short runs in
// turn, because one stall of this machine makes the p99 of a whole run.
func BenchmarkLatency(b *testing.B) {
	s := begin(b, "200 messages/s")
	runs := map[string][]figures{}
	contenders := []string{"kpush", "floor"}
	for range 5 {
		for _, program := range contenders {
			run, kafka := s.latency(program)
			runs[program] = append(runs[program], run)
			runs[acknowledged] = append(runs[acknowledged], kafka)
		}
	}
	for _, program := range append(contenders, acknowledged) {
		f := median(runs[program])
		s.medians[program] = f
		book.row(row{scene: s.name, name: program, figures: f, remark: f.times("")})
	}
	s.holds("p50, produced to requested", s.medians["kpush"].p50, atMost(1.2, " ms"))
	s.holds("p99, produced to requested", s.medians["kpush"].p99, atMost(3, " ms"))
}

// acknowledged is the row of what Kafka alone takes, from the producer's call to its answer.
const acknowledged = "Kafka acknowledges"

// latency is one run of a contender at 200 messages a second, and what Kafka took to acknowledge them. The topic has an index
// already: a broker that writes the first entry, after 4 KiB, may wait for its disk for half a second, and acknowledges nothing meanwhile.
func (s *scene) latency(program string) (run, kafka figures) {
	const length, pace, partitions, before = 6 * time.Second, 200, 8, 8 * 100
	topic := s.fill(partitions, before, 100)
	svc := startService(s)
	defer svc.end()
	p := s.enter(entry{program: program, topic: topic}, svc)
	defer p.end()
	rig.Within(s, patience, "the first messages", func() bool { return svc.count(s).Messages >= before })
	used, begun := p.cpu(s), time.Now()
	took := s.trickle(topic, partitions, pace, length)
	sent := len(took)
	rig.Within(s, patience, "all messages", func() bool { return svc.count(s).Messages >= int64(before+partitions+sent) })
	c := svc.count(s)
	run = figures{rate: float64(sent) / time.Since(begun).Seconds(), cpu: (p.cpu(s) - used).Seconds() / float64(sent) * 100_000,
		rss: p.memory(s, "VmHWM"), p50: ms(c.P50), p99: ms(c.P99)}
	return run, figures{p50: ms(took[sent/2]), p99: ms(took[sent*99/100])}
}

// BenchmarkSyncs is how often the record goes to the disk: each sync costs CPU, and a cloud disk counts them.
func BenchmarkSyncs(b *testing.B) {
	const length, partitions = 6 * time.Second, 8
	s := begin(b, "syncs of the file")
	svc := startService(s)
	defer svc.end()
	for _, pace := range []int{200, 2000} {
		topic, before := s.fill(partitions, partitions, 100), svc.count(s).Messages
		p := s.enter(entry{program: "kpush", topic: topic}, svc)
		rig.Within(s, patience, "the first messages", func() bool { return svc.count(s).Messages >= before+partitions })
		syncs, begun := s.syncs(p), time.Now()
		sent := len(s.trickle(topic, partitions, pace, length))
		took := time.Since(begun).Seconds()
		each, name := float64(s.syncs(p)-syncs)/took, fmt.Sprintf("%d messages/s", pace)
		p.end()
		book.row(row{scene: s.name, name: name, figures: figures{rate: float64(sent) / took}, remark: fmt.Sprintf("%.1f syncs/s", each)})
		s.holds("syncs/s at "+name, each, atMost(25, ""))
	}
}
