package forwarder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/kpush/kpush/offsets"
)

// holdError keeps a partition from starting until somebody acts.
type holdError struct{ error }

// startPending tries once more, outside of a callback.
func (f *Forwarder) startPending() {
	if len(f.pending) == 0 || f.asking || !f.state.every("pending", time.Second) {
		return
	}
	f.asking = true
	tps, round := keys(f.pending), f.round
	f.ask(func(ctx context.Context) func() {
		found := f.know(ctx, tps)
		return func() {
			f.asking = false
			if round != f.round {
				return // a rebalance in between has made the answers old
			}
			if starts := f.begin(tps, found); len(starts) > 0 {
				f.start(starts)
			}
		}
	})
}

// ask puts a question to the cluster on another goroutine: the poll loop does not wait for a broker that does not answer. The
// poll goroutine gets the answer, unless the process is stopping.
func (f *Forwarder) ask(question func(context.Context) (answer func())) {
	go func() {
		ctx, cancel := context.WithTimeout(f.stopping, adminTimeout)
		defer cancel()
		f.hand(f.stopping, question(ctx))
	}()
}

// hand gives the poll goroutine something to do, at once; false: ctx ended first.
func (f *Forwarder) hand(ctx context.Context, call func()) bool {
	select {
	case f.calls <- call:
		f.client.wake()
		return true
	case <-ctx.Done():
		return false
	}
}

// start lets the consumer fetch partitions that were opened.
func (f *Forwarder) start(at []tpOffset) {
	offsets.Crash("resolved, not assigned")
	if err := f.client.assign(at); err != nil {
		f.log.Error("cannot start partitions", "error", err)
	}
	offsets.Crash("assigned")
	f.committer.now()
}

// begin decides where partitions start and opens those that can; the others stay pending and say why.
func (f *Forwarder) begin(tps []tp, found answers) []tpOffset {
	opened := f.openAll(found.list)
	f.mu.Lock()
	defer f.mu.Unlock()
	known := make(map[tp]bool, len(found.list))
	for _, k := range found.list {
		known[k.partition] = true
	}
	for _, t := range tps {
		if !known[t] {
			f.pending[t] = fmt.Errorf("cannot learn where it starts: %s", oneLine(found.err))
		}
	}
	if f.clusterID == "" { // the committer reads it from then on
		f.clusterID = found.clusterID
	}
	var starts []tpOffset
	for i, k := range found.list {
		o, was := opened[i], f.pending[k.partition]
		if o.err != nil {
			if was == nil || was.Error() != o.err.Error() {
				f.tell(k, o.decision)
				f.log.Error("a partition cannot start", "topic", k.partition.topic, "partition", k.partition.partition, "error", o.err)
			}
			f.pending[k.partition] = o.err
			continue
		}
		f.tell(k, o.decision)
		delete(f.pending, k.partition)
		delete(f.former, k.partition)
		f.parts[k.partition] = o.p
		starts = append(starts, tpOffset{k.partition, o.p.next})
	}
	f.started.Store(int32(len(f.parts)))
	return starts
}

// entry is what came of a partition that was to be opened.
type entry struct {
	decision
	p   *partition
	err error
}

// openAll opens partitions side by side, so that they wait for the disk together.
func (f *Forwarder) openAll(list []knowledge) []entry {
	opened := make([]entry, len(list))
	var all sync.WaitGroup
	for i, k := range list {
		o := &opened[i]
		o.decision = decide(f.newcomer(k))
		// between the moment it was made again and the moment that was noticed, the new topic was read under the old id
		if was := f.former[k.partition]; was.remade(k.identity.TopicID) {
			o.start.Ceiling = max(o.start.Ceiling, was.next)
		}
		all.Go(func() { o.p, o.err = f.open(k, o.decision) })
	}
	all.Wait()
	return opened
}

// newcomer lets a partition that comes while its topic is being consumed (it was added, or the topic was made again) start
// at its oldest message in any case: "latest" is about what was there before the group was.
func (f *Forwarder) newcomer(k knowledge) knowledge {
	if k.reset == "latest" && (f.madeAgain(k) || f.comesLater(k.partition)) {
		k.reset = "earliest"
	}
	return k
}

// madeAgain tells whether this group has consumed an earlier topic of the same name.
func (f *Forwarder) madeAgain(k knowledge) bool {
	if f.former[k.partition].remade(k.identity.TopicID) {
		return true
	}
	earlier := func(o offsets.Key) bool {
		return o.Cluster == k.identity.Cluster && o.Group == k.identity.Group && o.TopicID != k.identity.TopicID
	}
	return slices.ContainsFunc(f.ledger.Foreign(k.identity), earlier)
}

// comesLater tells whether a rebalance before the one that brought t has brought another partition of its topic.
func (f *Forwarder) comesLater(t tp) bool {
	for other := range f.parts {
		if other.topic == t.topic && f.given[other] < f.given[t] {
			return true
		}
	}
	return false
}

// answers are what the cluster and the file know of partitions.
type answers struct {
	clusterID string
	list      []knowledge
	err       error // why the list is not whole
}

// know asks the cluster and the file for all that a start rests on, while ctx lasts. What one broker does not tell keeps only
// the partitions back that it leads, a topic that is gone only its own.
func (f *Forwarder) know(ctx context.Context, tps []tp) (found answers) {
	topics := map[string]bool{}
	for _, t := range tps {
		topics[t.topic] = true
	}
	if found.clusterID, found.err = f.cluster.clusterID(ctx); found.err != nil {
		return found
	}
	ids, err := f.cluster.topicIDs(ctx, keys(topics))
	found.err = err
	tps = slices.DeleteFunc(slices.Clone(tps), func(t tp) bool { _, there := ids[t.topic]; return !there })
	if len(tps) == 0 {
		return found
	}
	deadline, _ := ctx.Deadline()
	commits, err := f.client.committed(tps, max(time.Until(deadline), time.Millisecond))
	if err != nil {
		found.err = errors.Join(found.err, err)
		return found
	}
	limits, err := f.cluster.bounds(ctx, tps) // the last question, for it may take all the time
	found.err = errors.Join(found.err, err)
	for _, c := range commits {
		if _, known := limits[c.tp]; !known {
			continue
		}
		id := offsets.Key{Cluster: found.clusterID, Group: f.cfg.Group, Topic: c.topic, TopicID: ids[c.topic], Partition: c.partition}
		k := knowledge{partition: c.tp, identity: id, volume: f.ledger.VolumeID(), holds: f.ledger.Holds, commit: c,
			bounds: limits[c.tp], reset: f.cfg.Reset, trustSaved: f.cfg.TrustSaved, now: time.Now(), running: time.Since(f.since)}
		if saved, ok := f.ledger.Saved(id); ok {
			k.saved = &saved
		}
		found.list = append(found.list, k)
	}
	return found
}

// tell says what an operator should hear of a start.
func (f *Forwarder) tell(k knowledge, d decision) {
	log := f.log.With("topic", k.partition.topic, "partition", k.partition.partition)
	if k.saved == nil {
		for _, o := range f.ledger.Foreign(k.identity) {
			log.Warn("the volume holds offsets of another cluster, group or topic id for this partition; they do not apply",
				"cluster", o.Cluster, "group", o.Group, "topic_id", o.TopicID)
		}
	}
	for _, s := range d.said {
		log.Warn(s)
	}
	if d.hold == nil {
		log.Info("partition starts", "offset", d.start.Next, "by", string(d.by), "end", k.bounds.end)
	}
}

// open opens the partition's record.
func (f *Forwarder) open(k knowledge, d decision) (*partition, error) {
	if d.hold != nil {
		return nil, holdError{d.hold}
	}
	rec, err := f.ledger.Assign(k.identity, d.start)
	if err != nil {
		return nil, err
	}
	f.lost.Add(d.lost)
	return newPartition(f, k.partition, k.identity.TopicID, rec, d.start), nil
}

// outOfRange finds those partitions whose position the log does not hold any more; the client does not say which. They
// start again once what is in memory is delivered: it may be the last copy.
func (f *Forwarder) outOfRange(cause error) {
	ctx, cancel := context.WithTimeout(f.stopping, adminTimeout)
	defer cancel()
	limits, err := f.cluster.bounds(ctx, keys(f.parts))
	if f.strays = nil; err != nil {
		f.strays = cause // the client reports it once: tidy looks again
		f.log.Warn("cannot look up for all partitions whether they are out of range; tried again", "error", err)
	}
	for t, b := range limits {
		if p := f.parts[t]; !p.astray && (p.next < b.oldest || p.next > b.high) {
			p.astray = true
			f.log.Warn("the partition's position is out of range: it starts again when what is in memory is delivered",
				"topic", t.topic, "partition", t.partition, "offset", p.next, "oldest", b.oldest, "end", b.high, "error", cause)
		}
	}
}

// compare looks for partitions of a topic that was deleted and made again under its name: the client tells nothing of it
// and would go on at the old offset.
func (f *Forwarder) compare(ctx context.Context, ids map[string]string) {
	for _, p := range f.running() {
		if id := ids[p.topic]; id == "" || p.topicID == "" || id == p.topicID {
			continue
		}
		remade := func() {
			f.log.Warn("the topic was deleted and made again: what was delivered of the old one does not count for the new one",
				"topic", p.topic, "partition", p.partition, "was", p.topicID, "is", ids[p.topic])
			f.restart(p, errRemade)
		}
		if !f.hand(ctx, remade) {
			return
		}
	}
}
