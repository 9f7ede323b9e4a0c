package forwarder

import (
	"context"
	"errors"
	"time"

	"github.com/kpush/kpush/kafka"
)

// silentTime is how long a partition may bring nothing until Kafka is asked whether it has anything, and how long what it has
// may take to come after that.
const silentTime = 30 * time.Second

var errUnfetched = errors.New("the Kafka client brings nothing of it, and does not say why")

// watchdog has a partition fetched anew that has messages which the client does not bring. librdkafka's own pauses, around a
// rebalance, may cross the application's, and one of them is dropped: the partition stays paused or without a fetch, nothing
// is said of it, and it would last until the next rebalance (librdkafka #5591, #5153). It is silent, too, about a batch that does
// not end where it says.
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
			c.log.Warn("the Kafka client does not fetch the partition's messages: it is asked anew",
				p.where(), "offset", p.reading.next, "end", p.reading.owed, "silent_s", int(now.Sub(p.reading.came).Seconds()))
			c.unread(kafka.PartitionError{Position: kafka.Position{Partition: p.Partition, Offset: p.reading.next}, Err: errUnfetched})
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
