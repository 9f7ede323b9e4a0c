package forwarder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/kpush/kpush/forwarder/start"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// holdError keeps a partition from starting until somebody acts.
type holdError struct{ error }

// startPending tries once more, outside of a callback.
func (c *consumer) startPending() {
	if !c.asking && len(c.pending) > 0 && c.health.every("pending", time.Second) {
		c.startNow()
	}
}

// volumeHangs says of what is pending that it waits for a volume that hangs: to ask for it would be to wait, too.
func (c *consumer) volumeHangs() bool {
	err := c.health.volume()
	if !errors.Is(err, offsets.ErrHangs) {
		return false
	}
	for t := range c.pending {
		c.pending[t] = err
	}
	c.publish()
	return true
}

// startNow is startPending without a wait.
func (c *consumer) startNow() {
	if c.asking || c.volumeHangs() {
		return // startPending does it behind that
	}
	c.asking = true
	tps, round := slices.Collect(maps.Keys(c.pending)), c.past.round
	c.ask(func(ctx context.Context) func() {
		known, gone, missing := c.learn(ctx, tps)
		return func() {
			c.asking = false
			if round != c.past.round {
				return // a rebalance in between has made the answers old
			}
			if starts := c.resolve(tps, known, gone, missing); len(starts) > 0 {
				c.fetch(starts)
			}
		}
	})
}

// ask puts a question to the cluster on another goroutine: the poll loop does not wait for a broker that does not answer. The
// poll goroutine gets the answer, unless the process is stopping.
func (c *consumer) ask(question func(context.Context) (answer func())) {
	go func() {
		ctx, cancel := context.WithTimeout(c.stopping, kafka.QuestionTime)
		defer cancel()
		answer := question(ctx)
		_ = c.do(c.stopping, func(*consumer) error { answer(); return nil })
	}()
}

// fetch lets the consumer fetch partitions that were opened.
func (c *consumer) fetch(at []kafka.Position) {
	offsets.Crash("resolved, not assigned")
	if err := c.client.Assign(at); err != nil {
		c.log.Error("cannot start partitions", "error", err)
	}
	offsets.Crash("assigned")
	c.f.committer.now()
}

// resolve decides where partitions start and opens those that can; the others stay pending and say why. known, gone and missing are
// what learn says of them.
func (c *consumer) resolve(tps []kafka.Partition, known map[kafka.Partition]start.Knowledge, gone map[kafka.Partition]error, missing error) (starts []kafka.Position) {
	defer c.publish()
	opened := c.openAll(known)
	for _, t := range tps {
		o, was := opened[t], c.pending[t]
		if gone[t] != nil {
			c.pending[t] = gone[t]
			continue
		}
		if o == nil {
			c.pending[t] = fmt.Errorf("cannot learn where it starts: %s", oneLine(missing))
			continue
		}
		if o.err == nil || was == nil || was.Error() != o.err.Error() {
			c.sayStart(o)
		}
		if o.err != nil {
			c.pending[t] = o.err
			continue
		}
		delete(c.pending, t)
		delete(c.past.left, t)
		delete(c.past.asked, t)
		c.parts[t] = o.p
		starts = append(starts, kafka.Position{Partition: t, Offset: o.p.reading.next})
	}
	return starts
}

// opening is what came of a partition that was to be opened.
type opening struct {
	start.Knowledge
	start.Decision
	p   *partition
	err error
}

// openAll opens partitions side by side, so that they wait for the disk together.
func (c *consumer) openAll(known map[kafka.Partition]start.Knowledge) map[kafka.Partition]*opening {
	opened := make(map[kafka.Partition]*opening, len(known))
	paused := sync.OnceValue(c.f.pausedHere) // the audit is read once, and only where a commit has no mark
	results := make(chan *opening, len(known))
	for t, k := range known {
		o := &opening{Knowledge: k, Decision: start.Decide(c.adjust(k))}
		// between the moment it was made again and the moment that was noticed, the new topic was read under the old id
		if was := c.past.left[t]; offsets.Remade(was.topicID, k.Identity.TopicID) {
			o.Start.Ceiling = max(o.Start.Ceiling, was.next)
		}
		opened[t] = &opening{Knowledge: o.Knowledge, Decision: o.Decision, err: errSlowVolume} // until it is there
		go func() {
			o.p, o.err = c.open(o, paused)
			results <- o
		}()
	}
	late := time.NewTimer(openTime)
	defer late.Stop()
	for left := len(known); left > 0; left-- {
		select {
		case o := <-results:
			opened[o.Partition] = o
		case <-late.C:
			go closeLate(results, left)
			return opened
		}
	}
	return opened
}

// openTime is how long the volume may take to open partitions: the group waits for a callback.
const openTime = 4 * time.Second // more than offsets takes to say that it hangs

var errSlowVolume = fmt.Errorf("the volume has not taken in %v where it starts", openTime)

// closeLate lets go of partitions that are opened too late.
func closeLate(results <-chan *opening, left int) {
	for ; left > 0; left-- {
		if o := <-results; o.p != nil {
			o.p.lanes.Close()
			o.p.rec.Release()
		}
	}
}

// adjust has a partition start where an operator has asked for. It lets a partition that was added, or whose topic was made again, while
// this process runs start at its oldest message in any case: "latest" is about what was there before the group was.
func (c *consumer) adjust(k start.Knowledge) start.Knowledge {
	if at, ok := c.past.asked[k.Partition]; ok {
		k.Asked = &at
	}
	if k.Reset == "latest" && (k.Earlier() || c.f.remade(k.Identity) || c.f.added(k.Identity)) {
		k.Reset = "earliest"
	}
	return k
}

// past is what this process has had of partitions.
type past struct {
	round int                         // counts rebalance callbacks
	left  map[kafka.Partition]earlier // what it had, and has not any more
	asked map[kafka.Partition]int64   // where an operator wants it to start
}

// earlier is under which topic id a partition was read, and how far.
type earlier struct {
	topicID string
	next    int64
}

// sayStart says what an operator should hear of a start.
func (c *consumer) sayStart(o *opening) {
	log := c.log.With("topic", o.Partition.Topic, "partition", o.Partition.Number)
	if o.Saved == nil {
		for _, k := range o.Foreign {
			log.Warn("the volume holds offsets of another cluster, group or topic id for this partition; they do not apply",
				"cluster", k.Cluster, "group", k.Group, "topic_id", offsets.URLSafe(k.TopicID))
		}
	}
	for _, s := range o.Said {
		log.Warn(s)
	}
	if o.err != nil {
		log.Error("a partition cannot start", "error", o.err)
		return
	}
	if o.Paused {
		log.Warn("an operator has paused the partition: kpush -resume, or POST /resume, ends that")
	}
	log.Info("partition starts", "offset", o.Start.Next, "by", string(o.By), "end", o.Bounds.End, "in_doubt", o.Start.InDoubt(o.Bounds.End))
}

// open opens the partition's record. paused is asked where Kafka's commit does not say whether an operator has paused it.
func (c *consumer) open(o *opening, paused func() func(kafka.Partition) bool) (*partition, error) {
	if o.Hold != nil {
		return nil, holdError{o.Hold}
	}
	rec, err := c.assign(o.Identity, o.Start)
	if err != nil {
		return nil, err
	}
	c.f.counts.started(o)
	p := newPartition(c.f, o.Identity, rec, o.Start)
	p.gauge.ends.Store(&o.Bounds)
	if o.Paused = o.Paused || !o.Marked && paused()(p.Partition); o.Paused {
		p.gate.shut()
	}
	return p, nil
}
