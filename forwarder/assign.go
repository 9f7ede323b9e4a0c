package forwarder

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/kpush/kpush/offsets"
)

// resolveTime is how long the assign callback tries to learn where partitions start: as long as it lasts, those that stay are
// not fetched either. Once some can start, or the time is over, the rest is tried again outside of it.
const resolveTime = time.Second

// assigned is the rebalance callback for new partitions. It resolves where they start: an error of the broker is never
// taken for "no offset".
func (f *Forwarder) assigned(tps []tp) {
	defer f.state.callback()()
	f.round++
	tps = f.own(tps)
	f.mu.Lock()
	for _, t := range tps {
		f.pending[t], f.given[t] = errors.New("starting"), f.round
	}
	f.mu.Unlock()
	f.state.joined()
	var starts []tpOffset
	ctx, cancel := context.WithTimeout(f.stopping, resolveTime)
	defer cancel()
	for asked := tps; len(asked) > 0; asked = f.undecided(tps) {
		starts = f.begin(asked, f.know(ctx, asked))
		if len(starts) > 0 || len(f.undecided(tps)) == 0 || sleep(ctx, 100*time.Millisecond) != nil {
			break // what was pending before is startPending's, too: a broker that is gone costs time here
		}
	}
	f.start(starts)
	f.client.nudge(keys(f.parts))
	if len(tps) > 0 {
		f.log.Info("partitions assigned", "partitions", names(tps), "now", len(f.assignment()))
	}
}

// undecided are those of tps that only a broker's answer is missing for.
func (f *Forwarder) undecided(tps []tp) []tp {
	var out []tp
	for _, t := range tps {
		if why := f.pending[t]; why != nil && !errors.As(why, new(holdError)) {
			out = append(out, t)
		}
	}
	return out
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
		f.log.Warn("partitions lost: this process was silent for longer than the session timeout, or the topic is gone", "partitions", names(tps))
		if len(f.assignment()) == 0 {
			f.state.left()
		}
	} else {
		f.giveUp(tps, errRevoked)
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
		p.f.turns.drop(p)
		p.running.Wait()
	}
}

// giveUp ends partitions in good order: what is under way may finish, then all progress is committed.
func (f *Forwarder) giveUp(tps []tp, cause error) {
	if _, stopping := f.state.stopDeadline(); stopping {
		cause = errStopping
	}
	ps := f.present(tps)
	f.drain(ps, cause)
	for _, p := range ps {
		if m, ok := p.rec.(*page); ok {
			m.settle()
		}
	}
	offsets.Crash("drained, not handed over")
	if cause != errRemade {
		f.committer.handOver(ps, f.reserve()*2/3)
	}
	offsets.Crash("handed over, not revoked")
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
	for _, p := range out {
		f.former[p.tp] = former{p.topicID, p.next}
	}
	for _, t := range tps {
		delete(f.parts, t)
		delete(f.pending, t)
		delete(f.given, t)
	}
	f.started.Store(int32(len(f.parts)))
	return out
}

// restart gives a partition up and lets it start again. Nothing is committed of a topic that is gone.
func (f *Forwarder) restart(p *partition, why error) {
	if f.parts[p.tp] != p {
		return // given up in the meantime
	}
	defer f.state.callback()() // it may take as long as one
	f.giveUp([]tp{p.tp}, why)
	if err := f.client.unassign([]tp{p.tp}); err != nil {
		f.log.Error("cannot unassign a partition", "topic", p.topic, "partition", p.partition, "error", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending[p.tp] = why
}

// former is what this process had of a partition before: under which topic id, and how far it was read.
type former struct {
	topicID string
	next    int64
}

// remade tells whether the topic with this id was made after it.
func (e former) remade(id string) bool { return e.topicID != "" && id != "" && e.topicID != id }

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
