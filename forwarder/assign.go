package forwarder

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kpush/kpush/offsets"
)

// resolveTime is how long the assign callback tries to learn where partitions start; what is not known by then is tried
// again outside of it, so that the other partitions go on.
const resolveTime = 5 * time.Second

// assigned is the rebalance callback for new partitions. It resolves where they start: an error of the broker is never
// taken for "no offset".
func (f *Forwarder) assigned(tps []tp) {
	defer f.state.callback()()
	f.round++
	f.mu.Lock()
	for _, t := range tps {
		f.pending[t] = errors.New("starting")
	}
	f.mu.Unlock()
	f.state.joined()
	var starts []tpOffset
	for deadline := time.Now().Add(resolveTime); len(f.pending) > 0; {
		asked := keys(f.pending)
		starts = append(starts, f.begin(asked, f.know(asked))...)
		if len(f.waitingForBroker()) == 0 || time.Now().After(deadline) || sleep(f.stopping, 100*time.Millisecond) != nil {
			break
		}
	}
	f.start(starts)
	f.client.nudge(keys(f.parts))
	if len(tps) > 0 {
		f.log.Info("partitions assigned", "partitions", names(tps), "now", len(f.assignment()))
	}
}

// waitingForBroker are the pending partitions that only a broker's answer is missing for.
func (f *Forwarder) waitingForBroker() []tp {
	var out []tp
	for t, why := range f.pending {
		if !errors.As(why, new(holdError)) {
			out = append(out, t)
		}
	}
	return out
}

// holdError keeps a partition from starting until somebody acts.
type holdError struct{ error }

// startPending tries once more, outside of a callback. The questions are asked on another goroutine: the poll loop does not
// wait for a broker that does not answer.
func (f *Forwarder) startPending() {
	if len(f.pending) == 0 || f.asking || !f.state.every("pending", time.Second) {
		return
	}
	f.asking = true
	tps, round := keys(f.pending), f.round
	go func() {
		found := f.know(tps)
		answer := func() {
			f.asking = false
			if round != f.round {
				return // a rebalance in between has made the answers old
			}
			if starts := f.begin(tps, found); len(starts) > 0 {
				f.start(starts)
			}
		}
		select {
		case f.calls <- answer:
		case <-f.stopping.Done():
		}
	}()
}

// start lets the consumer fetch partitions that were opened.
func (f *Forwarder) start(at []tpOffset) {
	if err := f.client.assign(at); err != nil {
		f.log.Error("cannot start partitions", "error", err)
	}
	f.committer.now()
}

// begin decides where partitions start and opens those that can; the others stay pending and say why.
func (f *Forwarder) begin(tps []tp, found answers) []tpOffset {
	f.mu.Lock()
	defer f.mu.Unlock()
	if found.err != nil {
		for _, t := range tps {
			f.pending[t] = fmt.Errorf("cannot learn where it starts: %w", found.err)
		}
		return nil
	}
	f.clusterID = found.clusterID
	var starts []tpOffset
	for _, k := range found.list {
		d := decide(k)
		p, err := f.open(k, d)
		was := f.pending[k.partition]
		if err != nil {
			if was == nil || was.Error() != err.Error() {
				f.tell(k, d)
				f.log.Error("a partition cannot start", "topic", k.partition.topic, "partition", k.partition.partition, "error", err)
			}
			f.pending[k.partition] = err
			continue
		}
		f.tell(k, d)
		delete(f.pending, k.partition)
		f.parts[k.partition] = p
		starts = append(starts, tpOffset{k.partition, p.next})
	}
	return starts
}

// answers are what the cluster and the file know of partitions.
type answers struct {
	clusterID string
	list      []knowledge
	err       error
}

// know asks the cluster and the file for all that a start rests on.
func (f *Forwarder) know(tps []tp) (found answers) {
	ctx, cancel := context.WithTimeout(f.stopping, adminTimeout)
	defer cancel()
	topics := map[string]bool{}
	for _, t := range tps {
		topics[t.topic] = true
	}
	var ids map[string]string
	var limits map[tp]bounds
	var commits []commit
	if found.clusterID, found.err = f.cluster.clusterID(ctx); found.err != nil {
		return found
	}
	if ids, found.err = f.cluster.topicIDs(ctx, keys(topics)); found.err != nil {
		return found
	}
	if limits, found.err = f.cluster.bounds(ctx, tps); found.err != nil {
		return found
	}
	if commits, found.err = f.client.committed(tps, adminTimeout); found.err != nil {
		return found
	}
	for _, c := range commits {
		id := offsets.Key{Cluster: found.clusterID, Group: f.cfg.Group, Topic: c.topic, TopicID: ids[c.topic], Partition: c.partition}
		k := knowledge{partition: c.tp, identity: id, volume: f.store.VolumeID(), commit: c, bounds: limits[c.tp],
			reset: f.cfg.Reset, trustSaved: f.cfg.TrustSaved}
		if saved, ok := f.store.Saved(id); ok {
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
		for _, o := range f.store.Foreign(k.identity) {
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
	rec, err := f.store.Assign(k.identity, d.start)
	if err != nil {
		return nil, err
	}
	f.lost.Add(d.lost)
	return newPartition(f, k.partition, k.identity.TopicID, rec, d.start), nil
}

// revoked is the rebalance callback for partitions that go. When it returns, nothing of them is sent, recorded or
// committed any more (F4).
func (f *Forwarder) revoked(tps []tp, lost bool) {
	defer f.state.callback()()
	f.round++
	var started []tp
	for _, t := range tps {
		if _, ok := f.parts[t]; ok {
			started = append(started, t)
		}
	}
	if lost {
		f.lose(tps, errLost)
		f.log.Warn("partitions lost: this process was silent for longer than the session timeout", "partitions", names(tps))
	} else {
		f.giveUp(tps)
	}
	if err := f.client.unassign(started); err != nil {
		f.log.Error("cannot unassign partitions", "partitions", names(started), "error", err)
	}
	f.client.nudge(keys(f.parts))
}

// lose ends partitions that belong to somebody else already: cancelled, and nothing more is recorded or committed.
func (f *Forwarder) lose(tps []tp, cause error) {
	ps := f.forget(tps)
	for _, p := range ps {
		p.handedOver.Store(true)
		p.stop(cause)
		p.abandon(cause)
		p.rec.Release()
	}
	for _, p := range ps {
		p.running.Wait()
		p.lane.clear()
	}
}

// giveUp ends partitions in good order: what is under way may finish, then all progress is committed.
func (f *Forwarder) giveUp(tps []tp) {
	cause := errRevoked
	deadline := f.drainDeadline()
	if _, stopping := f.state.stopDeadline(); stopping {
		cause = errStopping
	}
	ps := f.present(tps)
	for _, p := range ps {
		p.stop(cause)
	}
	for _, p := range ps {
		p.drain(deadline, cause)
	}
	f.committer.handOver(ps, f.reserve()*2/3)
	f.forget(tps)
	for _, p := range ps {
		p.rec.Release()
	}
	if len(ps) > 0 {
		f.log.Info("partitions given up", "partitions", names(tps), "why", cause.Error())
	}
}

// present are those of tps that deliver.
func (f *Forwarder) present(tps []tp) []*partition {
	var out []*partition
	for _, t := range tps {
		if p := f.parts[t]; p != nil {
			out = append(out, p)
		}
	}
	return out
}

func (f *Forwarder) forget(tps []tp) []*partition {
	out := f.present(tps)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range tps {
		delete(f.parts, t)
		delete(f.pending, t)
	}
	return out
}

// outOfRange finds those partitions whose position the log does not hold any more; the client does not say which. They
// start again once what is in memory is delivered: it may be the last copy.
func (f *Forwarder) outOfRange(cause error) {
	ctx, cancel := context.WithTimeout(f.stopping, adminTimeout)
	defer cancel()
	limits, err := f.cluster.bounds(ctx, keys(f.parts))
	if err != nil {
		f.strays = cause // the client reports it once: tidy looks again
		f.log.Warn("cannot look up which partition is out of range; tried again", "error", err)
		return
	}
	f.strays = nil
	for t, p := range f.parts {
		if b := limits[t]; p.next < b.oldest || p.next > b.end {
			p.astray = true
			f.log.Warn("the partition's position is out of range: it starts again when what is in memory is delivered",
				"topic", t.topic, "partition", t.partition, "offset", p.next, "oldest", b.oldest, "end", b.end, "error", cause)
		}
	}
}

// restart gives a partition up and lets it start again.
func (f *Forwarder) restart(p *partition) {
	f.giveUp([]tp{p.tp})
	if err := f.client.unassign([]tp{p.tp}); err != nil {
		f.log.Error("cannot unassign a partition", "topic", p.topic, "partition", p.partition, "error", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending[p.tp] = errors.New("starting again")
}

func names(tps []tp) string {
	var b strings.Builder
	for i, t := range tps {
		if i > 0 {
			b.WriteString(" ")
		}
		b.WriteString(t.String())
	}
	return b.String()
}

func keys[K comparable, V any](m map[K]V) []K {
	out := make([]K, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	return out
}
