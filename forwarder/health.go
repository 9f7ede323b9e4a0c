package forwarder

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// aspects of what the forwarder may be waiting for; each says its newest sentence.
type aspect string

const (
	broker aspect = "broker"
	topic  aspect = "topic"
	// admission is about a group that does not take this process as a member.
	admission  aspect = "place in the group"
	client     aspect = "Kafka client"
	bufferFull aspect = "buffer"
	// bounded is about partitions whose oldest messages keep failing, so that nothing new of them is tried.
	bounded aspect = "bounded"
	// unreadable is about partitions of which the client cannot read on.
	unreadable  aspect = "unreadable"
	serviceDown aspect = "service"
	notReady    aspect = "service's readiness"
	// wanting is about kpush's own want of descriptors, ports or memory.
	wanting aspect = "room for connections"
	// skipping is about a message that cannot be skipped because the skip log cannot be written.
	skipping aspect = "skip log"
	// burying is about messages that were given up and are not in the dead letter topic yet.
	burying aspect = "way into the dead letter topic"
	letters aspect = "dead letter topic"
)

// health is what others may know of the forwarder at any time: for health and readiness.
type health struct {
	log      *slog.Logger
	volume   func() error // why it takes no records
	steps    atomic.Int64 // sinceBorn: the newest step of the poll loop
	mu       sync.Mutex
	said     map[aspect]string
	last     map[string]time.Time
	logged   map[aspect]string // the newest sentence of what is watched that the log has
	detail   string            // why no broker could be reached, and
	heard    time.Time         // when the client said so
	inGroup  bool
	fatal    error
	inside   time.Time // since when a rebalance callback runs
	commit   time.Time // since when a commit is under way
	deadline time.Time // of the stop
}

func (s *health) stepped(now time.Time) { s.steps.Store(sinceBorn(now)) }

func (s *health) with(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

func (s *health) member(is bool) { s.with(func() { s.inGroup = is }) }
func (s *health) fail(err error) { s.with(func() { s.fatal = err }) }

// stop sets the deadline of a stop; the first one counts.
func (s *health) stop(t time.Time) (deadline time.Time) {
	s.with(func() {
		if s.deadline.IsZero() {
			s.deadline = t
		}
		deadline = s.deadline
	})
	return deadline
}

func (s *health) stopDeadline() (t time.Time, stopping bool) {
	s.with(func() { t, stopping = s.deadline, !s.deadline.IsZero() })
	return
}

// callback notes that a rebalance callback runs; call what it returns at its end.
func (s *health) callback() (over func()) {
	s.with(func() { s.inside = time.Now() })
	return func() {
		s.with(func() { s.inside = time.Time{} })
		s.stepped(time.Now())
	}
}

func (s *health) committing(on bool) {
	s.with(func() {
		s.commit = time.Time{}
		if on {
			s.commit = time.Now()
		}
	})
}

// unanswered is how long a commit has had no answer, 0 where none is under way.
func (s *health) unanswered() (d time.Duration) {
	s.with(func() {
		if !s.commit.IsZero() {
			d = time.Since(s.commit)
		}
	})
	return d
}

// say sets (or with nil clears) the sentence of an aspect, and tells whether that changed.
func (s *health) say(a aspect, err error) (changed bool) {
	s.with(func() {
		if s.said == nil {
			s.said = map[aspect]string{}
		}
		was, is := s.said[a], ""
		if err != nil {
			is = err.Error()
		}
		changed = was != is
		s.said[a] = is
	})
	return changed
}

// sentence is that of the first aspect that has one.
func (s *health) sentence(all ...aspect) (is string) {
	s.with(func() {
		for _, a := range all {
			is = cmp.Or(is, s.said[a])
		}
	})
	return is
}

// every tells once per interval that what is due.
func (s *health) every(what string, interval time.Duration) (due bool) {
	s.with(func() {
		if len(s.last) == 0 || len(s.last) > 100 { // texts of errors differ without end
			s.last = map[string]time.Time{}
		}
		if due = time.Since(s.last[what]) >= interval; due {
			s.last[what] = time.Now()
		}
	})
	return due
}

// stepLimit is how long the poll loop may be silent before the process counts as ill; a callback that drains or resolves
// has its own, longer limit.
const stepLimit = 15 * time.Second

// Live says why the process cannot make progress by itself any more; nothing: it can. A dead service or broker, or a volume that
// hangs, is not a reason: a restart would not help.
func (f *Forwarder) Live() (why []string) {
	s, limit, stopping := &f.health, stepLimit, false
	s.with(func() {
		if s.fatal != nil {
			why = append(why, s.fatal.Error())
		}
		if s.said[client] != "" {
			why = append(why, s.said[client])
		}
		stopping = !s.deadline.IsZero() // a stop ends by itself
		if !s.inside.IsZero() {
			limit += f.cfg.DrainTimeout + resolveTime + f.reserve()
		}
	})
	silent := time.Duration(sinceBorn(time.Now()) - s.steps.Load())
	if !stopping && silent > limit && !errors.Is(f.health.volume(), offsets.ErrHangs) {
		why = append(why, fmt.Sprintf("the poll loop has not turned for %s", silent.Round(time.Second)))
	}
	return why
}

// Ready says what the forwarder is waiting for before it can deliver; nothing: it delivers, or is a spare member whose
// group has more members than partitions.
func (f *Forwarder) Ready() (why []string) {
	why = f.Live()
	s := &f.health
	s.with(func() {
		if !s.deadline.IsZero() {
			why = append(why, "stopping")
		}
		for _, a := range []aspect{broker, topic, admission, unreadable, letters, skipping, burying} {
			if s.said[a] != "" {
				why = append(why, s.said[a])
			}
		}
		if !s.inGroup && len(why) == 0 {
			why = append(why, fmt.Sprintf("waiting for group %s to give this member its partitions", f.cfg.Group))
		}
	})
	if d := s.unanswered(); d > 10*time.Second {
		why = append(why, fmt.Sprintf("Kafka has not answered a commit for %s", d.Round(time.Second)))
	}
	for _, p := range f.pending() {
		if p.gone {
			continue // nothing waits for it
		}
		why = append(why, fmt.Sprintf("%s is not started: %s", p.Partition, p.Why))
	}
	if n := f.unconfirmed(); n != "" {
		why = append(why, fmt.Sprintf("Kafka has not taken a commit of where %s started: were the volume lost now, so would be what comes meanwhile", n))
	}
	if err := f.health.volume(); err != nil {
		why = append(why, err.Error())
	}
	return why
}

// namesMost is how many partitions a sentence names.
const namesMost = 5

// unconfirmed names the partitions of whose start Kafka has no commit, "" where there are none.
func (f *Forwarder) unconfirmed() string {
	all := slices.DeleteFunc(slices.Clone(f.consumer.running()), func(p *partition) bool { return !p.goes() || p.ceiling.committed() >= 0 })
	return some(partitionsOf(all))
}

// watched notes what is looked at all the time. The log has what has changed, once a minute at the most: it may come and go.
func (s *health) watched(a aspect, err error) {
	s.say(a, err)
	is, was := "", ""
	if err != nil {
		is = err.Error()
	}
	s.with(func() { was = s.logged[a] })
	if is == was || is != "" && !s.every("watched: "+string(a), time.Minute) {
		return
	}
	s.with(func() {
		if s.logged == nil {
			s.logged = map[aspect]string{}
		}
		s.logged[a] = is
	})
	if is == "" {
		s.log.Info("the " + string(a) + " is there again")
	} else {
		s.log.Warn(is)
	}
}

func (s *health) changed(a aspect, err error) {
	switch changed := s.say(a, err); {
	case changed && err != nil:
		s.log.Warn(err.Error())
	case changed:
		s.log.Info("the " + string(a) + " is there again")
	}
}

// fatalSentence says what a fatal error means.
func fatalSentence(err kafka.FatalError, cfg Config) error {
	fenced := strings.Contains(strings.ToLower(err.Error()), "fenced")
	switch {
	case fenced && err.Expelled:
		return fmt.Errorf("group %s has expelled this member (instance id %q), which was silent or not polled for too long, or was removed by an operator, and fences what is left of it, so this process ends (nothing is lost): its restart joins anew; where that comes again, look whether it stands still (CPU limits, a frozen machine) or is cut off from Kafka: %w", cfg.Group, cfg.InstanceID, err)
	case fenced:
		return fmt.Errorf("another process uses the instance id %q in group %s, so this one ends (nothing is lost): give each process an own volume, or its own KPUSH_INSTANCE_ID: %w", cfg.InstanceID, cfg.Group, err)
	}
	return fmt.Errorf("the Kafka client cannot go on, so this process ends (nothing is lost): %w", err)
}
