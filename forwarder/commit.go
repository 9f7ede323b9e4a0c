package forwarder

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/kpush/kpush/forwarder/start"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// committer tells Kafka what is on record, one commit at a time. It is a goroutine of its own because a commit during a
// rebalance waits for the whole group, and one to a silent broker for ever.
type committer struct {
	f     *Forwarder
	token chan struct{} // who holds it may commit
	kick  chan struct{}
	limit int // characters of metadata; smaller where the broker allows less
	rests atomic.Bool

	owes atomic.Bool // a hand-over that Kafka has not taken
	bare atomic.Bool // limit has no room for what a mark says

	refused  map[incarnation]time.Time // topics whose commits Kafka has not taken, and when; whoever holds the token owns this and accepted
	accepted int                       // commits
}

// refusedTime is how long a topic whose commit was refused holds up no other: librdkafka takes a third of a second for such a one.
const refusedTime = 10 * time.Second

// restAfter so long without anything to commit the committer looks only every restTick, until somebody stirs it.
const (
	restAfter = 10 * time.Second
	restTick  = 5 * time.Second
)

// stir tells that there is something to commit.
func (c *committer) stir() {
	if c.rests.Load() {
		c.now()
	}
}

func newCommitter(f *Forwarder) *committer {
	return &committer{f: f, token: make(chan struct{}, 1), kick: make(chan struct{}, 1), limit: start.MarkSize, refused: map[incarnation]time.Time{}}
}

// now asks for a commit at once.
func (c *committer) now() { poke(c.kick) }

func (c *committer) run(ctx context.Context) {
	interval := c.f.cfg.CommitInterval * 3 / 4  // a quarter is for Kafka's answer: until then it is not committed
	interval = min(interval, c.f.cfg.Session/4) // what proves the membership must not be old when a commit has no answer
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for busy := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-c.kick:
		}
		c.token <- struct{}{}
		doubted := c.f.lease.doubted.Load()
		due := c.due(doubted)
		if len(due) > 0 {
			busy = time.Now()
		}
		switch rests := time.Since(busy) > restAfter; {
		case rests && c.rests.CompareAndSwap(false, true):
			tick.Reset(max(interval, restTick))
		case !rests && c.rests.CompareAndSwap(true, false):
			tick.Reset(interval)
			c.f.news.tell()
		}
		before := c.accepted
		err := c.commit(due, alive)
		switch {
		case errors.Is(err, kafka.ErrNotMember):
			c.f.lease.doubted.Store(true)
		case doubted && c.accepted > before: // what has nothing proves nothing
			c.f.lease.doubted.Store(false)
		}
		<-c.token
		if errors.Is(err, kafka.ErrRebalancing) {
			_ = sleep(ctx, 50*time.Millisecond) // answered at once while the group changes
			c.now()
		}
	}
}

// due is what is worth a commit; all partitions, to prove the membership.
func (c *committer) due(all bool) []*partition {
	var out []*partition
	for _, p := range c.f.consumer.running() {
		if !all && time.Since(c.refused[p.incarnation()]) < refusedTime {
			continue
		}
		next, _ := p.rec.Progress()
		if p.ceiling.due(next, p.changes.Load(), c.f.parts.Store.Keeps()) || all {
			out = append(out, p)
		}
	}
	return out
}

// The stages of a partition, for whoever commits it.
const (
	alive       = iota // it goes on, so the mark of a commit carries a ceiling
	handingOver        // only its last commit is made
	gone               // none is
)

// commit tells Kafka how far those of ps are that are at this stage. It looks before each part: what the part before has waited
// for may be the end of a partition (F4).
func (c *committer) commit(ps []*partition, stage int32) error {
	var errs []error
	for {
		ps = slices.DeleteFunc(slices.Clone(ps), func(p *partition) bool { return p.stage.Load() != stage })
		if len(ps) == 0 {
			return errors.Join(errs...)
		}
		n, err := c.send(ps, stage == alive)
		if err != nil {
			errs = append(errs, c.notTaken(ps[:n], stage, err))
		}
		ps = ps[n:]
	}
}

// notTaken weighs the error of a commit of ps. librdkafka has one for all: where that is about a topic (it is gone, or forbidden),
// each topic is committed by itself.
func (c *committer) notTaken(ps []*partition, stage int32, err error) error {
	if ofTopic(err) {
		byTopic := map[string][]*partition{}
		for _, p := range ps {
			byTopic[p.Topic] = append(byTopic[p.Topic], p)
		}
		if len(byTopic) > 1 {
			var errs []error
			for _, of := range byTopic {
				errs = append(errs, c.commit(of, stage))
			}
			return errors.Join(errs...)
		}
		for _, p := range ps {
			c.refused[p.incarnation()] = time.Now()
		}
	}
	c.failed(err, ps[0].Topic)
	return err
}

// ofTopic tells whether a commit was refused for one of its topics.
func ofTopic(err error) bool {
	return errors.Is(err, kafka.ErrNoTopic) || errors.Is(err, kafka.ErrForbidden) || errors.Is(err, kafka.ErrNotTaken)
}

// commitMost is about how many bytes one commit may take: Kafka writes it as one batch, of max.message.bytes (1 MiB) at the most.
const commitMost = 256 << 10

// send is one commit, of the first n of ps: as many as it takes, and one at the least.
func (c *committer) send(ps []*partition, goesOn bool) (n int, err error) {
	list := make([]kafka.Commit, 0, len(ps))
	states := make([]commitState, 0, len(ps))
	for size := 0; n < len(ps); n++ {
		p := ps[n]
		m, state := c.mark(p, goesOn)
		said := kafka.Commit{Partition: p.Partition, Offset: m.Offset, Meta: m.Text(c.limit)}
		if size += len(said.Meta) + len(p.Topic) + 100; size > commitMost && n > 0 {
			break
		}
		list, states = append(list, said), append(states, state)
	}
	c.f.health.committing(true)
	offsets.Crash("before a commit")
	began, over := time.Now(), c.f.vouch()
	err = c.f.parts.Consumer.Commit(list)
	over()
	c.f.counts.committed(time.Since(began), err)
	c.f.health.committing(false)
	if err != nil {
		return n, err
	}
	offsets.Crash("committed")
	c.accepted++
	c.f.lease.prove(began.Add(c.f.cfg.Session * 3 / 4))
	c.f.health.say(broker, nil)
	c.f.health.watched(admission, nil)
	for i, state := range states {
		p := ps[i]
		p.ceiling.acknowledge(state) // first: the note may have to wait for the disk
		if goesOn && p.ceiling.raise(state.ceiling) {
			p.lanes.Resume()
		}
		p.rec.Committed(state.offset)
	}
	return n, nil
}

// mark is what the commit of p says, and state what holds once it is acknowledged. Only what is on record goes in (F2).
func (c *committer) mark(p *partition, goesOn bool) (m start.Mark, state commitState) {
	changes := p.changes.Load() // before what it counts
	next, done := p.rec.Progress()
	store := c.f.parts.Store
	m = start.Mark{Cluster: p.identity.Cluster, TopicID: p.identity.TopicID, Volume: store.VolumeID(), Edition: store.Edition(),
		Lineage: p.lineage, Paused: p.gate.isShut(), Offset: next, Done: done, Attempts: p.rec.Unfinished(),
		Had: slices.Clone(p.replay).TrimBelow(next)}
	var started sample
	m.Ceiling, started = p.ceiling.mark(next, goesOn && store.Keeps())
	return m, commitState{next, m.Ceiling, changes, started}
}

// failed says why a commit was not taken; topic is one of those that it was about.
func (c *committer) failed(err error, topic string) {
	log, bare := c.f.log, c.limit <= start.BareSize
	switch {
	case errors.Is(err, kafka.ErrRebalancing), errors.Is(err, kafka.ErrNotMember):
		log.Debug("commit refused, the group is changing; tried again", "error", err)
	case errors.Is(err, kafka.ErrMetadataSize) && c.limit > 256:
		c.limit = max(256, c.limit/4)
		log.Warn("the broker refuses the size of the commit's metadata (offset.metadata.max.bytes): a smaller one is used, which costs marks of what was finished out of order", "limit", c.limit)
	case errors.Is(err, kafka.ErrMetadataSize):
		if c.limit = start.BareSize; bare {
			c.limit = 0
		}
		c.bare.Store(true)
		log.Error("the broker refuses even small commit metadata: raise offset.metadata.max.bytes; until then another machine cannot know what is in doubt", "error", err)
	case errors.Is(err, kafka.ErrNotAdmitted):
		c.f.health.watched(admission, notAdmitted(c.f.cfg.Group, err))
	case ofTopic(err):
		if c.f.health.every("commit of "+topic+" failed", time.Minute) {
			log.Error("Kafka takes no commit of the topic: what was delivered of it stays uncommitted, and little more is delivered until Kafka does", "topic", topic, "error", err)
		}
	case c.f.health.every("commit failed", 10*time.Second):
		log.Warn("commit failed, tried again", "error", err)
	}
}

// handOver commits what partitions that were drained have on record, for whoever gets them; once it has returned nothing commits
// them any more. A commit that is still under way has the rest of the time first.
func (c *committer) handOver(ps []*partition, most time.Duration) {
	if len(ps) == 0 {
		return
	}
	for _, p := range ps {
		p.stage.Store(handingOver)
		defer p.stage.Store(gone)
	}
	defer func() {
		if slices.ContainsFunc(ps, (*partition).owes) {
			c.owes.Store(true)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	select {
	case c.token <- struct{}{}:
	case <-ctx.Done():
		c.f.log.Warn("a commit is still under way: the last progress of given up partitions stays uncommitted; "+c.f.uncommitted(), "partitions", len(ps))
		return
	}
	done := inBackground(func() {
		defer func() { <-c.token }()
		for tries := 0; tries < 3 && ctx.Err() == nil; {
			err := c.commit(ps, handingOver)
			if err == nil {
				return
			}
			if !errors.Is(err, kafka.ErrMetadataSize) || c.limit == 0 { // a smaller mark is another question
				tries++
			}
		}
	})
	select {
	case <-done:
	case <-ctx.Done():
		c.f.log.Warn("Kafka does not answer the last commit of given up partitions; "+c.f.uncommitted(), "partitions", len(ps))
	}
}

// extra is a commit of partitions that the group does not consume.
func (c *committer) extra(list []kafka.Commit) error {
	c.token <- struct{}{}
	defer func() { <-c.token }()
	return c.f.parts.Consumer.Commit(list)
}
