package forwarder

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kpush/kpush/forwarder/pace"
	"github.com/kpush/kpush/kafka"
)

// Notes are worth knowing, but no reason to call the process ill or not ready: blocked messages, a full buffer.
func (f *Forwarder) Notes() (notes []string) {
	notes = append(notes, fmt.Sprintf("%d partitions assigned", len(f.consumer.running())))
	f.health.with(func() {
		for _, a := range []aspect{serviceDown, notReady, wanting, bufferFull, bounded} {
			if s := f.health.said[a]; s != "" {
				notes = append(notes, s)
			}
		}
	})
	notes = append(notes, f.slowed()...)
	if s := f.paused(); s != "" {
		notes = append(notes, s)
	}
	notes = append(notes, f.transactions()...)
	if s := f.goneSentence(); s != "" {
		notes = append(notes, s)
	}
	if broker := f.parts.Consumer.TooOld(); broker != "" && f.cfg.InstanceID != "" {
		notes = append(notes, notStatic(broker, f.cfg.Session))
	}
	for _, s := range []string{f.standstill(), f.longRequests(time.Now())} {
		if s != "" {
			notes = append(notes, s)
		}
	}
	if all := f.failures.doubtful(); len(all) > 0 {
		notes = append(notes, doubtfulSentence(all))
	}
	if all := slices.DeleteFunc(f.failures.status(), func(b BlockedStatus) bool { return b.Doubtful }); len(all) > 0 {
		notes = append(notes, blockedSentence(all))
	}
	return notes
}

// slowed is why the service gets less than it might, where it is not down.
func (f *Forwarder) slowed() (why []string) {
	s := f.pace.Status()
	for i, h := range s.Hosts {
		if s.Up && !h.Up {
			why = append(why, fmt.Sprintf("service host %s is down since %s (%s): the others have its deliveries", f.cfg.Hosts[i], h.Since.UTC().Format(time.RFC3339), h.Why))
		}
	}
	if !s.Paused.IsZero() {
		why = append(why, fmt.Sprintf("the service asked for a pause until %s (Retry-After)", s.Paused.UTC().Format(time.RFC3339)))
	}
	if s.Limit == 1 && f.cfg.Concurrency > 1 {
		why = append(why, fmt.Sprintf("the service gets one request at a time, of KPUSH_CONCURRENCY %d: it is slower, or busy (429, 503), with more", f.cfg.Concurrency))
	}
	return why
}

// paused names the partitions that an operator has paused; "" where there is none.
func (f *Forwarder) paused() string {
	var all []kafka.Partition
	for _, p := range f.consumer.running() {
		if slices.Contains(p.pausedBy(), byOperator) {
			all = append(all, p.Partition)
		}
	}
	if len(all) == 0 {
		return ""
	}
	s := fmt.Sprintf("an operator has paused %d partitions, of which nothing is delivered: %s: kpush -resume, or POST /resume, ends that", len(all), some(all))
	if here := f.PausedHere(); here != "" {
		s += "; " + here
	}
	return s
}

// PausedHere says that a pause is known to this process and its volume only; "" where Kafka's commit tells others, too.
func (f *Forwarder) PausedHere() string {
	if !f.committer.bare.Load() {
		return ""
	}
	return "the pause does not survive a move to another volume: the broker takes no commit that tells of it (offset.metadata.max.bytes)"
}

// goneSentence names the partitions that the group gives this process, and that their topics do not have any more; "" where there is none.
func (f *Forwarder) goneSentence() string {
	var all []kafka.Partition
	for _, p := range f.pending() {
		if p.gone {
			all = append(all, p.Partition)
		}
	}
	if len(all) == 0 {
		return ""
	}
	return fmt.Sprintf("%d partitions are given to this process, and the topic, which was made again with fewer, does not have them any more: %s: nothing is missed, and they are gone with the next restart", len(all), some(all))
}

// transactions are the partitions that wait for one to end.
func (f *Forwarder) transactions() (waiting []string) {
	for _, p := range slices.SortedFunc(slices.Values(f.consumer.running()), byName) {
		if end, high := p.gauge.bounds(); high > end && p.gauge.position.Load() >= end {
			waiting = append(waiting, transaction(p.Partition, end, high))
		}
	}
	if more := len(waiting) - namesMost; more > 0 {
		waiting = append(waiting[:namesMost], fmt.Sprintf("and %d more partitions wait for open transactions", more))
	}
	return waiting
}

// transaction says that a partition waits for one to end.
func transaction(p kafka.Partition, end, high int64) string {
	return fmt.Sprintf("%s has an open transaction: what is at %d and above, below %d, can be read once it has ended (%d offsets; kafka-transactions find-hanging shows one that never does)", p, end, high, high-end)
}

// notStatic says what is not to be had of a broker that knows no static members.
func notStatic(broker string, session time.Duration) string {
	return fmt.Sprintf("broker %s is older than Kafka 2.3 and knows no static members: after a kill this one has its partitions back when its session has timed out (%v), not at once", broker, session)
}

// tooOld says it where that may not be.
func tooOld(broker string) error {
	return fmt.Errorf("KPUSH_MESSAGE_DELIVERY_GUARANTEES=3 %w, and broker %s is older than Kafka 2.3 and knows none: have newer brokers, or choose 2", ErrNeedsStatic, broker)
}

// ErrNeedsStatic ends a member that the brokers do not take for a static one, and that must be.
var ErrNeedsStatic = errors.New("needs a static member")

// sayDown notes that the service, or one of its hosts, is down (why), or there again (nil).
func (f *Forwarder) sayDown(host int, err error) {
	switch {
	case host == pace.Whole:
		f.health.changed(serviceDown, err)
	case err != nil:
		f.log.Warn("a service host is down: the others have its deliveries", "host", f.cfg.Hosts[host], "error", err)
	default:
		f.log.Info("a service host is there again", "host", f.cfg.Hosts[host])
	}
}

// doubtfulSentence says of messages in doubt what they wait for.
func doubtfulSentence(all []BlockedStatus) string {
	return fmt.Sprintf("%d messages in doubt wait: KPUSH_CONFIRM_URL does not say whether the service has them: %s; kpush -skip TOPIC/PARTITION/OFFSET gives one up", len(all), longest(all))
}

// blockedSentence says how many others are blocked.
func blockedSentence(all []BlockedStatus) string {
	return fmt.Sprintf("%d messages are blocked: they failed %d times or more: %s; kpush -status names all, and kpush -skip gives up one that is itself at fault", len(all), blockedAfter, longest(all))
}

// longest names those that have been failing for longest, and counts the others.
func longest(all []BlockedStatus) string {
	slices.SortStableFunc(all, func(a, b BlockedStatus) int { return a.Since.Compare(b.Since) })
	said := make([]string, 0, namesMost)
	for _, b := range all[:min(len(all), namesMost)] {
		said = append(said, fmt.Sprintf("%s/%d since %s (%s)", b.Partition, b.Offset, b.Since.UTC().Format(time.RFC3339), strings.TrimPrefix(b.Reason, doubtReason)))
	}
	more := ""
	if n := len(all) - namesMost; n > 0 {
		more = fmt.Sprintf(", and %d more", n)
	}
	return strings.Join(said, ", ") + more
}
