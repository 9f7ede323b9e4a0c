package forwarder

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/kpush/kpush/forwarder/pace"
	"github.com/kpush/kpush/kafka"
)

// Status is what the forwarder is doing: a snapshot that stays as it is.
type Status struct {
	State      State
	Ready      bool
	Why        []string // it is not ready
	Notes      []string
	Cluster    string // its id, "" until a broker has said it
	Group      string
	InstanceID string
	Service    ServiceStatus
	Partitions []PartitionStatus // that deliver, in order
	Pending    []PendingStatus   // that the group has given, and do not deliver yet, in order
	Blocked    []BlockedStatus   // messages that keep failing, oldest first
	Letters    LettersStatus
	Stopping   bool
}

// State is the process's.
type State string

// The states.
const (
	Starting State = "starting" // not a member of the group yet
	Running  State = "running"
	Paused   State = "paused" // every partition is, by an operator
	Stopping State = "stopping"
)

// ServiceStatus is the service's.
type ServiceStatus struct {
	pace.Status
	Names   []string // of the hosts
	Waiting int      // messages without an outcome that are not under way
	Failing int      // messages that wait for another attempt; the pace's own counts batches
}

// PartitionStatus is one partition's.
type PartitionStatus struct {
	kafka.Partition
	Next        int64         // the lowest offset without an outcome
	Committed   int64         // as Kafka has acknowledged it to this process; -1: not yet
	End         int64         // for this consumer; -1: not known yet
	High        int64         // the next record's offset; above End while a transaction is open; -1: not known yet
	Done        int64         // finished at or above Next
	Oldest      time.Duration // how old the oldest message without an outcome is; 0: there is none
	PerSecond   float64       // outcomes, lately
	Outstanding int           // messages that were handed over and have no outcome
	InFlight    int           // of those, the ones that are under way
	Failing     int           // and the ones that wait for another attempt
	Bounded     string        // why nothing new is tried, "" where it is
	Paused      []string      // by whom: operator, flow
	Stall       string        // why nothing has moved for a while although there is something; "" where it does
}

// Lag is how many offsets are not done up to the end, by the group's commit; open only counts those without an outcome.
func (p PartitionStatus) Lag() (lag, open int64) {
	lag = max(0, p.End-p.Next)
	return lag, max(0, lag-p.Done)
}

// PendingStatus is a partition's that is not started.
type PendingStatus struct {
	kafka.Partition
	Why  string
	gone bool // its topic does not have it any more
}

// BlockedStatus is a message's that keeps failing.
type BlockedStatus struct {
	kafka.Position
	Key              []byte
	Attempts, Status int    // Status: of the newest answer, 0 where there was none
	Reason           string // without the answer's body
	Answer           string // the beginning of that body
	Since            time.Time
	Doubtful         bool // it waits for KPUSH_CONFIRM_URL, and Attempts counts the questions, too
}

// LettersStatus is what this process has to do with dead letters.
type LettersStatus struct {
	Topic    string           // "": there are none
	Sent     map[string]int64 // messages that are done as letters, by the topic they came from
	Waiting  int              // messages that are given up, and no letters yet
	Why      string           // of one of them
	Redriven int64            // letters sent back
	Refused  int64            // and those passed over: sent back too often, or of a topic that is not consumed
}

// Status may be asked at any time.
func (f *Forwarder) Status() Status {
	s := Status{Pending: f.pending(), Blocked: f.failures.status()}
	_, s.Stopping = f.health.stopDeadline()
	s.Service.Status, s.Service.Names = f.pace.Status(), f.cfg.Hosts
	s.Why, s.Notes, s.Group, s.InstanceID = f.Ready(), f.Notes(), f.cfg.Group, f.cfg.InstanceID
	s.Ready = len(s.Why) == 0
	if id := f.cluster.Load(); id != nil {
		s.Cluster = *id
	}
	now := time.Now()
	for _, p := range slices.SortedFunc(slices.Values(f.consumer.running()), byName) {
		one := p.status(now)
		s.Partitions = append(s.Partitions, one)
		s.Service.Waiting += max(0, one.Outstanding-one.InFlight)
		s.Service.Failing += one.Failing
	}
	s.Letters = f.lettersStatus()
	s.State = f.state(s)
	return s
}

func (f *Forwarder) lettersStatus() LettersStatus {
	c := &f.counts
	s := LettersStatus{Topic: f.cfg.DeadLetterTopic, Sent: map[string]int64{}, Waiting: int(f.unburied.Load()), Redriven: c.redriven.Load(), Refused: c.refused.Load()}
	s.Why = f.health.sentence(burying, letters)
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, t := range c.topics {
		if n := t.done[outcomeBuried].Load(); n > 0 {
			s.Sent[name] = n
		}
	}
	return s
}

// state is the process's, where s has all else.
func (f *Forwarder) state(s Status) State {
	running := func(p PartitionStatus) bool { return !slices.Contains(p.Paused, byOperator) }
	member := false
	f.health.with(func() { member = f.health.inGroup })
	switch {
	case s.Stopping:
		return Stopping
	case !member:
		return Starting
	case len(s.Partitions) > 0 && !slices.ContainsFunc(s.Partitions, running):
		return Paused
	}
	return Running
}

// status is the partition's.
func (p *partition) status(now time.Time) PartitionStatus {
	next, done, outstanding := p.rec.Standing()
	end, high := p.gauge.bounds()
	s := PartitionStatus{Partition: p.Partition, Next: next, Committed: p.ceiling.committed(), End: end, High: high, Done: done,
		Oldest: p.gauge.oldest(next, now), PerSecond: p.gauge.rate(), Outstanding: outstanding, InFlight: int(p.gauge.underWay.Load()),
		Failing: int(p.failing.Load()), Bounded: p.ceiling.boundedBy(), Paused: p.pausedBy()}
	if stall := p.gauge.stalled(); stall != nil {
		s.Stall = stall.text
	}
	return s
}

// Who may have paused a partition: an operator, so that no attempt begins, or flow control, so that nothing is fetched.
const (
	byOperator = "operator"
	byFlow     = "flow"
)

// pausedBy says who has.
func (p *partition) pausedBy() (by []string) {
	if p.gate.isShut() {
		by = append(by, byOperator)
	}
	if p.stock.paused.Load() {
		by = append(by, byFlow)
	}
	return by
}

func byName(a, b *partition) int { return kafka.Compare(a.Partition, b.Partition) }

// pending are partitions that do not deliver yet. It waits for nobody: health asks for it.
func (f *Forwarder) pending() (all []PendingStatus) {
	pending := f.consumer.published.Load().pending
	for _, t := range slices.SortedFunc(maps.Keys(pending), kafka.Compare) {
		all = append(all, PendingStatus{t, pending[t].Error(), errors.As(pending[t], new(goneError))})
	}
	return all
}
