package bench

import "testing"

// BenchmarkPublish is one caller, whose next record waits for the answer to the one before, beside the same with the client in the
// caller's own process.
func BenchmarkPublish(b *testing.B) {
	s := begin(b, "publish, 1 caller")
	s.published(s.k.Topic(s, 8),
		callers{name: "kpush", program: "kpush", count: 1},
		callers{name: "the client itself", count: 1},
		callers{name: "proxy", program: "proxy", count: 1, as: []string{"FORMAT=records"}},
		callers{name: atOnce, program: "proxy", env: []string{"KPUSH_BROKERS="}, count: 1, as: []string{"FORMAT=records", "PACE=500us"}},
		callers{name: "kpush, async", program: "kpush", count: 1, as: async},
		callers{name: "kpush, async, spool", program: "kpush", env: []string{"KPUSH_PUBLISH_SPOOL=1GiB"}, count: 1, as: async},
	)
	s.compare("p50", p50, "kpush", "the client itself", atMost(1.2, ""))
	if kpush, all := s.medians["kpush"].p50, s.medians["the client itself"].p50+s.medians[atOnce].p50; kpush > 0 && all > 0 {
		s.holds("p50, kpush : the client itself and an HTTP request", kpush/all, atMost(1.2, ""))
	}
	s.holds("p50, async", s.medians["kpush, async"].p50, atMost(0.2, " ms"))
	if f, ran := s.medians["kpush, async, spool"]; ran {
		s.holds("p50, async, spool", f.p50, atMost(1, " ms"))
	}
}

// atOnce is paced as a caller whose record takes its time: both processes have slept.
const atOnce = "an HTTP request, answered at once"

var async = []string{"QUERY=?async=true"}

// BenchmarkPublish64 is many callers. The machine is Kafka's and theirs, too.
func BenchmarkPublish64(b *testing.B) {
	s := begin(b, "publish, 64 callers")
	s.published(s.k.Topic(s, 8),
		callers{name: "kpush", program: "kpush", count: 64},
		callers{name: "the client itself", count: 64},
		callers{name: "proxy", program: "proxy", count: 64, as: []string{"FORMAT=records"}},
	)
	s.holds("records/s, kpush", s.medians["kpush"].rate, atLeast(15_000, ""))
	s.compare("records/s", rate, "kpush", "proxy", atLeast(0.8, ""))
	s.compare("CPU", cpu, "kpush", "proxy", atMost(1.25, ""))
}

// BenchmarkPublishBeside is what consuming loses to somebody who publishes.
func BenchmarkPublishBeside(b *testing.B) {
	s := begin(b, "8 partitions, 100 B, published to")
	n := messages(600_000)
	topic := s.fill(8, n, 100)
	s.race(
		entry{name: "with 200 published/s", program: "kpush", topic: topic, messages: n, beside: true},
		entry{name: "alone", program: "kpush", topic: topic, messages: n},
	)
	s.compare("messages/s", rate, "with 200 published/s", "alone", atLeast(0.9, ""))
}
