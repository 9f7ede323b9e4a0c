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
func (c *consumer) watchdog(now time.Time) {
	if now.Sub(c.when.looked) < silentTime {
		return
	}
	c.when.looked = now
	var silent []*partition
	for _, p := range c.parts {
		switch {
		case !p.goes() || p.stock.paused.Load() || p.stock.held.Load() > 0 || now.Sub(p.reading.came) < silentTime:
			p.reading.owed = 0
		case p.reading.owed > p.reading.next:
			c.log.Warn("the Kafka client does not fetch the partition's messages: it starts again",
				p.where(), "offset", p.reading.next, "end", p.reading.owed, "silent_s", int(now.Sub(p.reading.came).Seconds()))
			c.restart(errUnfetched, p)
		default:
			silent = append(silent, p)
		}
	}
	if len(silent) > 0 {
		c.askEnds(silent)
	}
}

// askEnds asks where partitions end, and notes what of it has not come. What a broker does not tell it need not bring either.
func (c *consumer) askEnds(silent []*partition) {
	c.ask(func(ctx context.Context) func() {
		found, _ := c.f.parts.Cluster.Bounds(ctx, partitionsOf(silent))
		return func() {
			for _, p := range silent {
				if b, ok := found[p.Partition]; ok {
					p.gauge.ends.Store(&b)
				}
				p.reading.owed = found[p.Partition].End
			}
			c.when.tidied = time.Time{} // the question took memory
		}
	})
}
