package forwarder

import (
	"sync/atomic"
)

// Counts are what a Forwarder has counted since it was made: a snapshot. A label's words are a closed set, and all of them are there.
type Counts struct {
	Topics       map[string]TopicCounts
	Rebalances   map[string]int64 // by kind: assigned, revoked, lost
	Commits      map[string]int64 // by result: ok, rebalancing, failed
	Rewinds      map[string]int64 // by who had the partition start: operator, file, commit, reset
	Stalled      map[string]int64 // partitions that do not move now, by reason
	CommitTime   Histogram
	SyncTime     Histogram // of the offsets file
	Suppressed   int64     // messages that came again and were finished already
	InDoubt      int64     // attempts at messages in doubt
	Lost         int64     // offsets passed over without an outcome
	FileErrors   int64     // writes and syncs of the offsets file that failed
	WaitingBytes int64     // of messages without an outcome, those under way included
	Degraded     bool      // the volume takes no records now
}

// TopicCounts are a topic's.
type TopicCounts struct {
	Fetched    int64
	Slow       int64
	Deliveries map[string]int64 // attempts, each of a batch's messages, by outcome
	Done       map[string]int64 // messages, by how: delivered, skipped, confirmed, dead_lettered
	Retries    map[string]int64 // attempts that another one has to follow, by reason
	Attempt    Histogram
	EndToEnd   Histogram
}

// Histogram is a distribution of durations, in seconds.
type Histogram struct {
	Bounds []float64
	Counts []uint64 // of each bound, what does not exceed it
	Count  uint64
	Sum    float64
}

// Counts may be asked at any time. It waits for nobody, but for a volume that hangs, a second at most.
func (f *Forwarder) Counts() Counts {
	f.Wanted()
	c := &f.counts
	out := Counts{Topics: map[string]TopicCounts{}, Rebalances: by(rebalanceWords[:], c.rebalances[:]), Commits: by(commitWords[:], c.commits[:]),
		Rewinds: by(rewindWords[:], c.rewinds[:]), Stalled: map[string]int64{}, CommitTime: c.commitTime.snapshot(), SyncTime: c.syncTime.snapshot(),
		Suppressed: c.suppressed.Load(), InDoubt: c.inDoubt.Load(), Lost: c.lost.Load(), FileErrors: c.fileErrors.Load(),
		WaitingBytes: f.budget.held.Load(), Degraded: f.health.volume() != nil}
	for _, word := range stallWords {
		out.Stalled[word] = 0
	}
	for _, p := range f.consumer.running() {
		if s := p.gauge.stalled(); s != nil {
			out.Stalled[s.word]++
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, t := range c.topics {
		out.Topics[name] = TopicCounts{Fetched: t.fetched.Load(), Slow: t.slow.Load(), Deliveries: by(deliveryWords[:], t.deliveries[:]),
			Done: by(outcomeWords[:], t.done[:]), Retries: by(retryReasons[:], t.retries[:]), Attempt: t.attempt.snapshot(), EndToEnd: t.endToEnd.snapshot()}
	}
	return out
}

func by(words []string, counts []atomic.Int64) map[string]int64 {
	out := make(map[string]int64, len(words))
	for i, word := range words {
		out[word] = counts[i].Load()
	}
	return out
}

func (h *histogram) snapshot() (out Histogram) {
	for i, bound := range h.bounds {
		out.Count += uint64(h.counts[i].Load())
		out.Bounds, out.Counts = append(out.Bounds, bound.Seconds()), append(out.Counts, out.Count)
	}
	out.Count += uint64(h.counts[len(h.bounds)].Load())
	out.Sum = float64(h.sum.Load()) * h.unit.Seconds()
	return out
}
