package forwarder

import (
	"context"
	"time"
)

// silentTime is how long a partition may bring nothing until Kafka is asked whether it has anything, and how long what it has
// may take to come after that.
const silentTime = 30 * time.Second

// watchdog lets a partition start again that has messages which the client does not fetch. librdkafka's own pauses, around a
// rebalance, may cross the application's, and one of them is dropped: the partition stays paused or without a fetch, nothing
// is said of it, and it would last until the next rebalance (librdkafka #5591, #5153).
func (f *Forwarder) watchdog(now time.Time) {
	if now.Sub(f.looked) < silentTime {
		return
	}
	f.looked = now
	var silent []*partition
	for _, p := range f.parts {
		switch {
		case !p.goes() || p.paused || p.held.Load() > 0 || now.Sub(p.came) < silentTime:
			p.owed = 0
		case p.owed > p.next:
			f.log.Warn("the Kafka client does not fetch the partition's messages: it starts again",
				"topic", p.topic, "partition", p.partition, "offset", p.next, "end", p.owed, "silent_s", int(now.Sub(p.came).Seconds()))
			f.restart(p, errUnfetched)
		default:
			silent = append(silent, p)
		}
	}
	if len(silent) > 0 {
		f.askEnds(silent)
	}
}

// askEnds asks where partitions end, and notes what of it has not come. What a broker does not tell it need not bring either.
func (f *Forwarder) askEnds(silent []*partition) {
	tps := make([]tp, len(silent))
	for i, p := range silent {
		tps[i] = p.tp
	}
	f.ask(func(ctx context.Context) func() {
		found, _ := f.cluster.bounds(ctx, tps)
		return func() {
			for _, p := range silent {
				p.owed = found[p.tp].end
			}
			f.tidied = time.Time{} // the question took memory
		}
	})
}
