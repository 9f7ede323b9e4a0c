package forwarder

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/kpush/kpush/offsets"
)

// headroom is how far a commit's ceiling lies above what was sent: the offsets of five seconds at the present pace, so
// that a commit that waits behind a rebalance does not hold up a partition that stays.
const (
	headroom     = 5 * time.Second
	leastCeiling = 100
	paceTime     = time.Second // a pace falls to what was sent in so long
)

// committer tells Kafka what is on record, one commit at a time. It is a goroutine of its own because a commit during a
// rebalance waits for the whole group, and one to a silent broker for ever.
type committer struct {
	f     *Forwarder
	token chan struct{} // who holds it may commit
	kick  chan struct{}
	limit int // characters of metadata; smaller where the broker allows less
	rests atomic.Bool

	refused map[string]time.Time // topics whose commits Kafka has not taken, and when; whoever holds the token owns this and taken
	taken   int                  // commits
}

// refusedTime is how long a topic whose commit was refused holds up no other: librdkafka takes a third of a second for such a one.
const refusedTime = 10 * time.Second

// restAfter so long without anything to commit the committer looks only once in a while, until somebody stirs it.
const restAfter = 10 * time.Second

// stir tells that there is something to commit.
func (c *committer) stir() {
	if c.rests.Load() {
		c.now()
	}
}

func newCommitter(f *Forwarder) *committer {
	return &committer{f: f, token: make(chan struct{}, 1), kick: make(chan struct{}, 1), limit: markSize, refused: map[string]time.Time{}}
}

// now asks for a commit at once.
func (c *committer) now() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

func (c *committer) run(ctx context.Context) {
	interval := c.f.cfg.CommitInterval * 3 / 4 // a quarter is for Kafka's answer: until then it is not committed
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
			tick.Reset(max(interval, watchTime))
		case !rests && c.rests.CompareAndSwap(true, false):
			tick.Reset(interval)
		}
		before := c.taken
		err := c.commit(due, true)
		if doubted && (err == nil || c.taken > before) {
			c.f.lease.doubted.Store(false)
		}
		<-c.token
		if errors.Is(err, errRebalancing) {
			_ = sleep(ctx, 50*time.Millisecond) // answered at once while the group changes
			c.now()
		}
	}
}

// due is what is worth a commit: partitions with progress, and those whose ceiling has come close or lies far off since
// the pace has fallen; all of them to prove the membership.
func (c *committer) due(all bool) []*partition {
	var out []*partition
	for _, p := range c.f.running() {
		if p.handedOver.Load() || !all && time.Since(c.refused[p.topic]) < refusedTime {
			continue
		}
		next, _ := p.rec.Progress()
		p.mu.Lock()
		p.measure()
		reach, room := p.reach(), p.room()
		off := p.ceiling-reach < room/4 || p.ceiling-max(reach, p.inherits) > 2*room
		changed := p.changes.Load() != p.synced.changes // what is done out of order leaves next where it is
		if all || next != p.synced.offset || c.f.keeps() && (changed || off) {
			out = append(out, p)
		}
		p.mu.Unlock()
	}
	return out
}

// commit tells Kafka how far ps are. alive: they go on, so the mark carries a ceiling; else they are handed over.
func (c *committer) commit(ps []*partition, alive bool) error {
	var errs []error
	for len(ps) > 0 {
		n, err := c.tell(ps, alive)
		if err != nil {
			errs = append(errs, c.notTaken(ps[:n], alive, err))
		}
		ps = ps[n:]
	}
	return errors.Join(errs...)
}

// notTaken weighs the error of a commit of ps. librdkafka has one for all: where that is about a topic (it is gone, or forbidden),
// each topic is committed by itself.
func (c *committer) notTaken(ps []*partition, alive bool, err error) error {
	if errors.Is(err, errNoTopic) || errors.Is(err, errNotTaken) {
		byTopic := map[string][]*partition{}
		for _, p := range ps {
			byTopic[p.topic] = append(byTopic[p.topic], p)
		}
		if len(byTopic) > 1 {
			var errs []error
			for _, of := range byTopic {
				errs = append(errs, c.commit(of, alive))
			}
			return errors.Join(errs...)
		}
		c.refused[ps[0].topic] = time.Now()
	}
	c.failed(err, ps[0].topic)
	return err
}

// commitMost is about how many bytes one commit may take: Kafka writes it as one batch, of max.message.bytes (1 MiB) at the most.
const commitMost = 256 << 10

// tell is one commit, of the first n of ps: as many as it takes, and one at the least.
func (c *committer) tell(ps []*partition, alive bool) (n int, err error) {
	list := make([]commit, 0, len(ps))
	ceilings := make([]int64, len(ps))
	started := make([]commitState, len(ps))
	for size := 0; n < len(ps); n++ {
		p := ps[n]
		m := c.mark(p, alive, &started[n])
		said := commit{p.tp, m.offset, m.text(c.limit)}
		if size += len(said.meta) + len(p.topic) + 100; size > commitMost && n > 0 {
			break
		}
		ceilings[n], list = m.ceiling, append(list, said)
	}
	c.f.state.committing(true)
	offsets.Crash("before a commit")
	err = c.f.client.commit(list)
	c.f.state.committing(false)
	if err != nil {
		return n, err
	}
	offsets.Crash("committed")
	c.taken++
	c.f.state.committed()
	for i, p := range ps[:n] {
		p.rec.Committed(started[i].offset)
		p.mu.Lock()
		p.synced = started[i]
		p.mu.Unlock()
		if alive {
			p.raise(ceilings[i])
		}
	}
	return n, nil
}

// mark is what the commit of p says, and state what holds once it is acknowledged. Only what is on record goes in (F2).
// A ceiling that falls holds for the lane at once, one that rises when Kafka has it.
func (c *committer) mark(p *partition, alive bool, state *commitState) mark {
	changes := p.changes.Load() // before what it counts
	next, done := p.rec.Progress()
	p.mu.Lock()
	defer p.mu.Unlock()
	m := mark{cluster: c.f.clusterID, topicID: p.topicID, volume: c.f.ledger.VolumeID(), edition: c.f.ledger.Edition(),
		lineage: p.lineage, offset: next, done: done, attempts: p.tried.list(next)}
	if p.inherits > next {
		m.ceiling = p.inherits
	}
	if alive && c.f.keeps() {
		m.ceiling = max(m.ceiling, max(next, p.reach())+p.room())
		p.ceiling = min(p.ceiling, m.ceiling)
	}
	*state = commitState{next, changes, sample{p.count, time.Now()}}
	return m
}

// keeps tells whether anything is remembered beside Kafka's commit. Where nothing is, nothing is flagged after a crash
// either, and no request has to wait for a ceiling.
func (f *Forwarder) keeps() bool {
	_, no := f.ledger.(memory)
	return !no
}

// uncommitted says what becomes of progress that Kafka was not told of.
func (f *Forwarder) uncommitted() string {
	if f.keeps() {
		return "nothing is lost, what is not committed is in the file on the volume"
	}
	return "what was sent and had no outcome is lost, as at a crash with guarantee 1; the rest comes again"
}

// measure takes the pace. It rises with what was sent since the newest commit, but falls only to what was sent in a longer
// time: commits can follow each other within a millisecond, and the last of them be the one that waits for the group. Nor
// does it fall while a lane has to wait for a commit: that lane does nothing in the meantime, and with less room
// it would wait for the next one, too. The caller holds p.mu.
func (p *partition) measure() {
	if p.synced.offset < 0 {
		return
	}
	p.pace = max(p.pace, p.paceSince(p.synced.sample))
	if time.Since(p.past.at) < paceTime {
		return
	}
	if time.Since(p.stood) > paceTime {
		p.pace = p.paceSince(p.past)
	}
	p.past = sample{p.count, time.Now()}
}

// paceSince is in requests a second. The caller holds p.mu.
func (p *partition) paceSince(s sample) float64 {
	return float64(p.count-s.count) / max(100*time.Millisecond, time.Since(s.at)).Seconds()
}

// reach is how far requests have come or want to come: what was done before leaves gaps between them. The caller holds p.mu.
func (p *partition) reach() int64 { return max(p.begun, p.wanted) }

// room is the headroom in offsets. The caller holds p.mu.
func (p *partition) room() int64 {
	return max(leastCeiling, int64(p.pace*headroom.Seconds()))
}

// failed says why a commit was not taken; topic is one of those that it was about.
func (c *committer) failed(err error, topic string) {
	log, bare := c.f.log, c.limit <= bareSize
	switch {
	case errors.Is(err, errRebalancing), errors.Is(err, errNotMember):
		log.Debug("commit refused, the group is changing; tried again", "error", err)
	case errors.Is(err, errMetadataSize) && c.limit > 256:
		c.limit = max(256, c.limit/4)
		log.Warn("the broker refuses the size of the commit's metadata (offset.metadata.max.bytes): a smaller one is used, which costs marks of what was finished out of order", "limit", c.limit)
	case errors.Is(err, errMetadataSize):
		if c.limit = bareSize; bare {
			c.limit = 0
		}
		log.Error("the broker refuses even small commit metadata: raise offset.metadata.max.bytes; until then another machine cannot know what is in doubt", "error", err)
	case errors.Is(err, errNoTopic), errors.Is(err, errNotTaken):
		if c.f.state.every("commit of "+topic+" failed", time.Minute) {
			log.Error("Kafka takes no commit of the topic: what was delivered of it stays uncommitted, and little more is delivered until Kafka does", "topic", topic, "error", err)
		}
	case c.f.state.every("commit failed", 10*time.Second):
		log.Warn("commit failed, tried again", "error", err)
	}
}

// handOver commits what partitions that were drained have on record, for whoever gets them; nothing after it commits
// them. A commit that is still under way has the rest of the time first.
func (c *committer) handOver(ps []*partition, atMost time.Duration) {
	if len(ps) == 0 {
		return
	}
	for _, p := range ps {
		p.handedOver.Store(true)
	}
	ctx, cancel := context.WithTimeout(context.Background(), atMost)
	defer cancel()
	select {
	case c.token <- struct{}{}:
	case <-ctx.Done():
		c.f.log.Warn("a commit is still under way: the last progress of given up partitions stays uncommitted; "+c.f.uncommitted(), "partitions", len(ps))
		return
	}
	done := make(chan struct{})
	go func() {
		defer func() { <-c.token; close(done) }()
		for tries := 0; tries < 3 && ctx.Err() == nil; {
			err := c.commit(ps, false)
			if err == nil {
				return
			}
			if !errors.Is(err, errMetadataSize) || c.limit == 0 { // a smaller mark is another question
				tries++
			}
		}
	}()
	select {
	case <-done:
	case <-ctx.Done():
		c.f.log.Warn("Kafka does not answer the last commit of given up partitions; "+c.f.uncommitted(), "partitions", len(ps))
	}
}
