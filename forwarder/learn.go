package forwarder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/kpush/kpush/forwarder/start"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// learn asks the cluster and the file for all that a start rests on, while ctx lasts. What one broker does not tell keeps only
// the partitions back that it leads, a topic that is gone only its own. gone are those that their topic does not have (any more).
func (c *consumer) learn(ctx context.Context, tps []kafka.Partition) (known map[kafka.Partition]start.Knowledge, gone map[kafka.Partition]error, missing error) {
	cluster, err := c.f.parts.Cluster.ID(ctx)
	if err != nil {
		return nil, nil, err
	}
	c.f.cluster.Store(&cluster)
	names := map[string]bool{}
	for _, t := range tps {
		names[t.Topic] = true
	}
	topics, missing := c.f.topics(ctx, slices.Collect(maps.Keys(names)))
	gone = map[kafka.Partition]error{}
	tps = slices.DeleteFunc(slices.Clone(tps), func(t kafka.Partition) bool {
		is, there := topics[t.Topic]
		if there && t.Number >= is.Partitions {
			gone[t] = notThere(is.Partitions)
		}
		return !there || gone[t] != nil
	})
	if len(tps) == 0 {
		return nil, gone, missing
	}
	deadline, _ := ctx.Deadline()
	commits, err := c.client.Committed(tps, max(time.Until(deadline), time.Millisecond))
	if err != nil {
		return nil, gone, errors.Join(missing, err)
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
		var recalled error
		if k.Saved, k.Foreign, k.Remade, recalled = c.f.parts.Store.Recall(id); recalled != nil {
			return nil, gone, errors.Join(missing, recalled)
		}
		known[m.Partition] = k
	}
	return known, gone, errors.Join(missing, err)
}

// goneError is of a partition that its topic does not have any more, because it was made again with fewer. The group's assignor leaves
// it with whoever had it (librdkafka's does so with all that it does not know), so nothing waits for it; should it come back it starts.
type goneError struct{ error }

func notThere(partitions int32) error {
	return goneError{fmt.Errorf("the topic has only %d partitions now", partitions)}
}

// topics asks for topics, and notes how many partitions each had when this process heard of it first.
func (f *Forwarder) topics(ctx context.Context, names []string) (map[string]kafka.Topic, error) {
	found, err := f.parts.Cluster.Topics(ctx, names, kafka.Read)
	for name, t := range found {
		f.widths.LoadOrStore(incarnation{name, t.ID}, t.Partitions)
	}
	return found, err
}

// incarnation is a topic, and not one that was made again under its name.
type incarnation struct{ topic, id string }

func (p *partition) incarnation() incarnation { return incarnation{p.Topic, p.identity.TopicID} }

// added tells whether a partition came to its topic while this process runs. One that has only moved here did not.
func (f *Forwarder) added(k offsets.Key) bool {
	first, known := f.widths.Load(incarnation{k.Topic, k.TopicID})
	return known && k.Partition >= first.(int32)
}

// remade tells whether this process has heard of an earlier topic of the name.
func (f *Forwarder) remade(k offsets.Key) (remade bool) {
	f.widths.Range(func(w, _ any) bool {
		o := w.(incarnation)
		remade = o.topic == k.Topic && offsets.Remade(o.id, k.TopicID)
		return !remade
	})
	return remade
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
		if !offsets.Remade(was, is) {
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
