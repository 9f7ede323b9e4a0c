package forwarder

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/kpush/kpush/kafka"
)

const (
	sampleTime = 5 * time.Second
	wantedTime = time.Minute // for so long after somebody has asked for Status or Counts, Kafka is asked where partitions end
)

// Wanted notes that somebody wants to know how far behind the partitions are: for a minute Kafka is asked for it, every few seconds.
func (f *Forwarder) Wanted() { f.wanted.Store(time.Now().UnixNano()) }

// sample looks at the partitions every so often: how fast they are, and whether they stand still. Kafka is asked where they end
// while there is something to do, or the log goes on behind what can be read (a transaction is open), and while somebody wants to know of partitions that are not silent; of those that are, silent.go
// asks, every silentTime.
func (f *Forwarder) sample(ctx context.Context) {
	for w := newWatchdog(f); sleep(ctx, untilNext(sampleTime)) == nil; {
		a := f.consumer.published.Load()
		if f.bears(a.running) {
			f.askBounds(ctx, a.running)
		}
		w.look(a, time.Now())
	}
}

// bears tells whether the question where these partitions end has a reason.
func (f *Forwarder) bears(running []*partition) bool {
	wanted := time.Since(time.Unix(0, f.wanted.Load())) < wantedTime
	return slices.ContainsFunc(running, func(p *partition) bool {
		return p.gauge.behind() || p.gauge.ahead.Load() || wanted && time.Since(p.gauge.sampled.came) < silentTime
	})
}

// askBounds asks where partitions end. What a broker does not tell stays as it was.
func (f *Forwarder) askBounds(ctx context.Context, ps []*partition) {
	ctx, cancel := context.WithTimeout(ctx, kafka.QuestionTime)
	defer cancel()
	found, _ := f.parts.Cluster.Bounds(ctx, partitionsOf(ps))
	for _, p := range ps {
		if b, ok := found[p.Partition]; ok {
			p.gauge.ends.Store(&b)
		}
	}
}

// sample takes the pace, and returns how many outcomes there were since the last time. Half of the pace is of this interval, a
// quarter of the one before, and so on.
func (g *gauge) sample(now time.Time) (outcomes int64) {
	was, finished := g.sampled, g.finished.Load()
	g.sampled.finished, g.sampled.at = finished, now
	if at := g.position.Load(); at != was.position {
		g.sampled.position, g.sampled.came = at, now
	}
	outcomes = finished - was.finished
	if passed := now.Sub(was.at).Seconds(); passed > 0 {
		rate := (g.rate() + float64(outcomes)/passed) / 2
		if rate < 1e-3 {
			rate = 0
		}
		g.perSecond.Store(math.Float64bits(rate))
	}
	if !g.behind() {
		g.caughtUp.Store(now.UnixNano())
	}
	return outcomes
}
