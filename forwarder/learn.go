package forwarder

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/kpush/kpush/forwarder/start"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// learn asks the cluster and the file for all that a start rests on, while ctx lasts. What one broker does not tell keeps only
// the partitions back that it leads, a topic that is gone only its own.
func (c *consumer) learn(ctx context.Context, tps []kafka.Partition) (known map[kafka.Partition]start.Knowledge, missing error) {
	cluster, err := c.f.parts.Cluster.ID(ctx)
	if err != nil {
		return nil, err
	}
	c.f.cluster.Store(&cluster)
	names := map[string]bool{}
	for _, t := range tps {
		names[t.Topic] = true
	}
	topics, missing := c.f.topics(ctx, slices.Collect(maps.Keys(names)))
	tps = slices.DeleteFunc(slices.Clone(tps), func(t kafka.Partition) bool { _, there := topics[t.Topic]; return !there })
	if len(tps) == 0 {
		return nil, missing
	}
	deadline, _ := ctx.Deadline()
	commits, err := c.client.Committed(tps, max(time.Until(deadline), time.Millisecond))
	if err != nil {
		return nil, errors.Join(missing, err)
	}
	limits, err := c.f.parts.Cluster.Bounds(ctx, tps) // the last question, for it may take all the time
	known = make(map[kafka.Partition]start.Knowledge, len(commits))
	for _, m := range commits {
		if _, ok := limits[m.Partition]; !ok {
			continue
		}
		id := offsets.Key{Cluster: cluster, Group: c.f.cfg.Group, Topic: m.Topic, TopicID: topics[m.Topic].ID, Partition: m.Number}
		k := start.Knowledge{Partition: m.Partition, Identity: id, Volume: c.f.parts.Store.VolumeID(), Holds: c.f.parts.Store.Holds, Commit: m,
			Bounds: limits[m.Partition], Reset: c.f.cfg.Reset, TrustSaved: c.f.cfg.TrustSaved, Now: time.Now(), Running: time.Since(c.when.made)}
		if k.Saved, k.Foreign, err = c.f.parts.Store.Recall(id); err != nil {
			return nil, errors.Join(missing, err)
		}
		known[m.Partition] = k
	}
	return known, errors.Join(missing, err)
}

// topics asks for topics, and notes how many partitions each had when this process heard of it first.
func (f *Forwarder) topics(ctx context.Context, names []string) (map[string]kafka.Topic, error) {
	found, err := f.parts.Cluster.Topics(ctx, names, kafka.Read)
	for name, t := range found {
		f.widths.LoadOrStore(width{name, t.ID}, t.Partitions)
	}
	return found, err
}

// width is of a topic: how many partitions it had when this process heard of it first.
type width struct{ topic, id string }

// added tells whether a partition came to its topic while this process runs. One that has only moved here did not.
func (f *Forwarder) added(k offsets.Key) bool {
	first, known := f.widths.Load(width{k.Topic, k.TopicID})
	return known && k.Partition >= first.(int32)
}

// renewTopics has partitions start anew whose topic was made again, or an operator's word would be noted under the id of the one before,
// and be gone with the partition. Where Kafka does not answer nothing is noted there either.
func (f *Forwarder) renewTopics(ctx context.Context) {
	question, cancel := context.WithTimeout(ctx, kafka.QuestionTime)
	defer cancel()
	topics, _ := f.topics(question, f.cfg.Topics) // what is told of some, whatever is of others
	f.consumer.compare(ctx, topics)
}

// compare looks for partitions of a topic that was deleted and made again under its name: the client tells nothing of it
// and would go on at the old offset.
func (c *consumer) compare(ctx context.Context, topics map[string]kafka.Topic) {
	for _, p := range c.running() {
		is, was := topics[p.Topic].ID, p.identity.TopicID
		if is == "" || was == "" || is == was {
			continue
		}
		err := c.do(ctx, func(c *consumer) error {
			c.log.Warn("the topic was deleted and made again: what was delivered of the old one does not count for the new one",
				p.where(), "was", offsets.URLSafe(was), "is", offsets.URLSafe(is))
			c.restart(errRemade, p)
			return nil
		})
		if err != nil {
			return
		}
	}
}
