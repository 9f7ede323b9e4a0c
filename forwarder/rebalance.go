package forwarder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// resolveTime is how long the assign callback tries to learn where partitions start: as long as it lasts, those that stay are
// not fetched either. Once some can start, or the time is over, the rest is tried again outside of it.
const resolveTime = time.Second

// assignment is what the group has given to this process. Nobody changes it.
type assignment struct {
	running []*partition
	pending map[kafka.Partition]error
}

// publish makes a new list of the partitions for whoever is not the poll goroutine. Due after each change of parts or pending.
func (c *consumer) publish() {
	c.published.Store(&assignment{running: slices.Collect(maps.Values(c.parts)), pending: maps.Clone(c.pending)})
}

// running is every partition that delivers.
func (c *consumer) running() []*partition { return c.published.Load().running }

// assignment is what the group has given to this process, started or not.
func (c *consumer) assignment() []kafka.Partition {
	a := c.published.Load()
	return slices.AppendSeq(partitionsOf(a.running), maps.Keys(a.pending))
}

// assigned is the rebalance callback for new partitions. It resolves where they start: an error of the broker is never
// taken for "no offset".
func (c *consumer) assigned(tps []kafka.Partition) {
	defer c.health.callback()()
	c.past.round++
	c.f.counts.rebalances[wasAssigned].Add(1)
	for _, t := range tps {
		c.pending[t] = errors.New("starting")
	}
	c.publish()
	c.health.member(true)
	c.health.watched(admission, nil)
	if c.notStatic() || c.volumeHangs() {
		c.fetch(nil)
		return
	}
	var starts []kafka.Position
	ctx, cancel := context.WithTimeout(c.stopping, resolveTime)
	defer cancel()
	for asked := tps; len(asked) > 0; {
		known, gone, missing := c.learn(ctx, asked)
		starts = c.resolve(asked, known, gone, missing)
		asked = c.undecided(tps)
		if len(starts) > 0 || len(asked) == 0 || sleep(ctx, 100*time.Millisecond) != nil {
			break // what was pending before is startPending's, too: a broker that is gone costs time here
		}
	}
	c.fetch(starts)
	if len(tps) > 0 {
		c.log.Info("partitions assigned", "partitions", names(tps), "now", len(c.assignment()))
	}
}

// notStatic ends the loop where the brokers do not take this process for the static member that it must be.
func (c *consumer) notStatic() bool {
	if !c.f.cfg.MustBeStatic {
		return false
	}
	if old := c.client.TooOld(); old != "" {
		c.failed = tooOld(old)
	}
	return c.failed != nil
}

// undecided are those of tps that only a broker's answer is missing for.
func (c *consumer) undecided(tps []kafka.Partition) []kafka.Partition {
	return slices.DeleteFunc(slices.Clone(tps), func(t kafka.Partition) bool {
		why := c.pending[t]
		return why == nil || errors.As(why, new(holdError)) || errors.As(why, new(goneError))
	})
}

// revoked is the rebalance callback for partitions that go. When it returns, nothing of them is sent, recorded or
// committed any more (F4).
func (c *consumer) revoked(tps []kafka.Partition, lost bool) {
	defer c.health.callback()()
	c.past.round++
	started := partitionsOf(c.present(tps))
	if lost {
		c.f.counts.rebalances[wasLost].Add(1)
		c.lose(tps, errLost)
		c.log.Warn("partitions lost: this process was silent for longer than the session timeout, or was removed from the group, or the topic is gone", "partitions", names(tps))
		if len(c.assignment()) == 0 {
			c.health.member(false)
		}
	} else {
		c.f.counts.rebalances[wasRevoked].Add(1)
		c.giveUp(tps, errRevoked)
	}
	if err := c.client.Unassign(started); err != nil {
		c.log.Error("cannot unassign partitions", "partitions", names(started), "error", err)
	}
}

// lose ends partitions that belong to somebody else already: cancelled, and nothing more is recorded or committed.
func (c *consumer) lose(tps []kafka.Partition, cause error) {
	ps := c.forget(tps)
	for _, p := range ps {
		p.stage.Store(gone)
		p.stop(cause)
		p.abandon(cause)
	}
	c.release(ps)
	atMost(c.f.reserve(), func() {
		for _, p := range ps {
			p.lanes.Close()
			p.lanes.Wait()
		}
	})
}

// release ends the records of partitions. A disk that hangs in a write may take the rest of its time for it.
func (c *consumer) release(ps []*partition) {
	atMost(closeTime, func() {
		for _, p := range ps {
			p.rec.Release()
		}
	})
}

// giveUp ends partitions in good order: what is under way may finish, then all progress is committed.
func (c *consumer) giveUp(tps []kafka.Partition, cause error) {
	if _, stopping := c.health.stopDeadline(); stopping {
		cause = errStopping
	}
	ps := c.present(tps)
	c.drain(ps, cause)
	for _, p := range ps {
		p.rec.HandOver()
	}
	offsets.Crash("drained, not handed over")
	if cause != errRemade {
		c.f.committer.handOver(ps, c.f.reserve()*2/3)
	}
	offsets.Crash("handed over, not revoked")
	c.forget(tps)
	c.release(ps)
	if len(ps) > 0 {
		c.log.Info("partitions given up", "partitions", names(tps), "why", cause.Error())
	}
}

// present are those of tps that deliver.
func (c *consumer) present(tps []kafka.Partition) []*partition {
	var out []*partition
	for _, t := range tps {
		if p := c.parts[t]; p != nil {
			out = append(out, p)
		}
	}
	return out
}

func (c *consumer) forget(tps []kafka.Partition) []*partition {
	out := c.present(tps)
	for _, p := range out {
		c.past.left[p.Partition] = earlier{p.identity.TopicID, p.reading.next}
	}
	for _, t := range tps {
		delete(c.parts, t)
		delete(c.pending, t)
		delete(c.past.asked, t)
	}
	c.publish()
	return out
}

// restart gives partitions up, which drain together, and lets them start again. Nothing is committed of a topic that is gone.
func (c *consumer) restart(why error, ps ...*partition) {
	ps = slices.DeleteFunc(slices.Clone(ps), func(p *partition) bool { return c.parts[p.Partition] != p }) // given up in the meantime
	if len(ps) == 0 {
		return
	}
	tps := partitionsOf(ps)
	defer c.health.callback()() // it may take as long as one
	c.giveUp(tps, why)
	if err := c.client.Unassign(tps); err != nil {
		c.log.Error("cannot unassign partitions", "partitions", names(tps), "error", err)
	}
	for _, t := range tps {
		c.pending[t] = why
	}
	c.publish()
}

func names(tps []kafka.Partition) string { return strings.Trim(fmt.Sprint(tps), "[]") }

func partitionsOf(ps []*partition) []kafka.Partition {
	out := make([]kafka.Partition, len(ps))
	for i, p := range ps {
		out[i] = p.Partition
	}
	return out
}
