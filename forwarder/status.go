package forwarder

import (
	"maps"
	"slices"
	"time"

	"github.com/kpush/kpush/forwarder/pace"
	"github.com/kpush/kpush/kafka"
)

// Status is what the forwarder is doing: a snapshot that stays as it is.
type Status struct {
	Partitions []PartitionStatus // that deliver, in order
	Pending    []PendingStatus   // that the group has given, and do not deliver yet, in order
	Blocked    []BlockedStatus   // messages that keep failing, oldest first
	Service    pace.Status
	Stopping   bool
}

// PartitionStatus is one partition's.
type PartitionStatus struct {
	kafka.Partition
	Next        int64  // the lowest offset without an outcome
	Committed   int64  // as Kafka has acknowledged it to this process; -1: not yet
	Outstanding int    // messages that were handed over and have no outcome
	Failing     int    // of those, the ones that wait for another attempt
	Bounded     string // why nothing new is tried, "" where it is
}

// PendingStatus is a partition's that is not started.
type PendingStatus struct {
	kafka.Partition
	Why string
}

// BlockedStatus is a message's that keeps failing.
type BlockedStatus struct {
	kafka.Position
	Attempts, Status int // Status: of the newest answer, 0 where there was none
	Reason           string
	Since            time.Time // its first failed attempt
}

// Status may be asked at any time. Where the volume hangs it may wait for that, since it looks into the record.
func (f *Forwarder) Status() Status {
	a, s := f.consumer.published.Load(), f.waiting()
	s.Service = f.pace.Status()
	for _, p := range slices.SortedFunc(slices.Values(a.running), byName) {
		s.Partitions = append(s.Partitions, PartitionStatus{Partition: p.Partition, Next: p.rec.Next(), Committed: p.ceiling.committed(),
			Outstanding: p.rec.Outstanding(), Failing: int(p.failing.Load()), Bounded: p.ceiling.boundedBy()})
	}
	return s
}

func byName(a, b *partition) int { return kafka.Compare(a.Partition, b.Partition) }

// waiting is the part of a Status that waits for nobody: what does not deliver. Health asks for it.
func (f *Forwarder) waiting() (s Status) {
	a := f.consumer.published.Load()
	_, s.Stopping = f.health.stopDeadline()
	for _, t := range slices.SortedFunc(maps.Keys(a.pending), kafka.Compare) {
		s.Pending = append(s.Pending, PendingStatus{t, a.pending[t].Error()})
	}
	s.Blocked = f.failures.status()
	return s
}
