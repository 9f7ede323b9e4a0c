package forwarder

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/kafka"
)

// counts are what goroutines that deliver, start and commit only add to: no lock, no look-up and no allocation a message. Read by
// Forwarder.Counts.
type counts struct {
	suppressed atomic.Int64 // messages that came again and were finished already
	lost       atomic.Int64 // offsets passed over without an outcome
	inDoubt    atomic.Int64 // attempts at messages in doubt
	fileErrors atomic.Int64 // writes and syncs of the offsets file that failed
	redriven   atomic.Int64 // dead letters sent back
	refused    atomic.Int64 // and passed over
	rebalances [len(rebalanceWords)]atomic.Int64
	commits    [len(commitWords)]atomic.Int64
	rewinds    [len(rewindWords)]atomic.Int64
	commitTime histogram
	syncTime   histogram

	mu     sync.Mutex
	topics map[string]*topicCounts // for as long as the process lives: a counter never falls
}

// topicCounts are a topic's. A partition finds them once, when it starts.
type topicCounts struct {
	fetched    atomic.Int64                     // messages that the consumer has brought
	_          [64]byte                         // the poll goroutine's is above
	slow       atomic.Int64                     // requests that took longer than Config.SlowTime
	deliveries [len(deliveryWords)]atomic.Int64 // attempts, each of a batch's messages
	done       [len(outcomeWords)]atomic.Int64  // messages with their outcome on record
	retries    [len(retryReasons)]atomic.Int64  // attempts that another one has to follow
	attempt    histogram                        // of one request, unless nobody waited for its end
	endToEnd   histogram                        // from the record's timestamp to its 2xx
}

// The words of each label: closed sets, and an index into them each.
var (
	rebalanceWords = [...]string{"assigned", "revoked", "lost"}
	commitWords    = [...]string{"ok", "rebalancing", "failed"}
	rewindWords    = [...]string{"operator", "file", "commit", "reset"}
	deliveryWords  = [...]string{"delivered", "message_fault", "service_fault", "busy", "aborted"}
	outcomeWords   = [...]string{"delivered", "skipped", "confirmed", "dead_lettered"}
	retryReasons   = [...]string{"message_fault", "no_answer", "service_fault", "busy", "other_host", "headers"}
)

const (
	wasAssigned = iota
	wasRevoked
	wasLost
)

const (
	commitTaken = iota
	commitRebalancing
	commitFailed
)

const (
	outcomeDelivered = iota
	outcomeSkipped
	outcomeConfirmed // the service had it already
	outcomeBuried
)

const (
	againMessage = iota
	againSilent  // there was no answer in time
	againService
	againBusy
	againElsewhere // at another host, at once
	againHeaders   // without key and headers
)

// deliveryOf is what an attempt's class counts as. That the service asks to pass a message over, or to give it up, is about the message.
var deliveryOf = [...]int{push.Delivered: 0, push.MessageFault: 1, push.Skip: 1, push.GiveUp: 1, push.Drop: 1, push.ServiceFault: 2, push.Busy: 3, push.Aborted: 4}

func (c *counts) init() {
	c.topics = map[string]*topicCounts{}
	c.commitTime = newHistogram(time.Microsecond, requestBounds)
	c.syncTime = newHistogram(time.Microsecond, syncBounds)
}

// committed counts a commit.
func (c *counts) committed(took time.Duration, err error) {
	result := commitTaken
	switch {
	case errors.Is(err, kafka.ErrRebalancing), errors.Is(err, kafka.ErrNotMember):
		result = commitRebalancing
	case err != nil:
		result = commitFailed
	}
	c.commits[result].Add(1)
	c.commitTime.observe(took)
}

// topic finds what is counted of a topic.
func (c *counts) topic(name string) *topicCounts {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.topics[name]
	if t == nil {
		t = &topicCounts{attempt: newHistogram(time.Microsecond, requestBounds), endToEnd: newHistogram(time.Millisecond, endToEndBounds)}
		c.topics[name] = t
	}
	return t
}

// started counts what a start has found: offsets that are gone, and that it begins below what was done or committed before.
func (c *counts) started(o *opening) {
	c.lost.Add(o.Lost)
	if o.Saved == nil || o.Commit.Offset >= o.Saved.Committed && o.Start.Next >= o.Saved.Next {
		return
	}
	by, _, _ := strings.Cut(string(o.By), " ")
	if i := slices.Index(rewindWords[:], by); i >= 0 {
		c.rewinds[i].Add(1)
	}
}

// file takes what the offsets file tells: how long a sync took, or that something failed.
func (c *counts) file(sync time.Duration, failed error) {
	if failed != nil {
		c.fileErrors.Add(1)
	} else {
		c.syncTime.observe(sync)
	}
}

// attempted counts what an attempt at one message came to, and why another one follows.
func (t *topicCounts) attempted(it *item, silent bool, now time.Time) {
	class := it.verdict.Class
	t.deliveries[deliveryOf[class]].Add(1)
	switch {
	case class == push.Delivered:
		if it.Timestamp > 0 {
			t.endToEnd.observe(now.Sub(time.UnixMilli(it.Timestamp))) // no longer than a Duration may be
		}
	case it.final || class == push.Aborted:
	case it.elsewhere:
		t.retries[againElsewhere].Add(1)
	case it.verdict.Spared:
		t.retries[againHeaders].Add(1)
	case silent:
		t.retries[againSilent].Add(1)
	case class == push.ServiceFault:
		t.retries[againService].Add(1)
	case class == push.Busy:
		t.retries[againBusy].Add(1)
	default:
		t.retries[againMessage].Add(1)
	}
}

// outcome is how a message that is final has ended.
func (it *item) outcome() int {
	switch {
	case it.confirmed:
		return outcomeConfirmed
	case it.delivered():
		return outcomeDelivered
	case it.buried:
		return outcomeBuried
	}
	return outcomeSkipped
}

// histogram counts durations by the smallest bound that they do not exceed. To observe is two additions.
type histogram struct {
	unit   time.Duration // of sum: fine enough, and far from an overflow
	bounds []time.Duration
	counts []atomic.Int64 // one more than bounds: what exceeds them all
	sum    atomic.Int64
}

// Bounds: of requests and commits, of a message's way, of a sync.
var (
	requestBounds  = times(1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
	endToEndBounds = times(5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 21600, 86400)
	syncBounds     = times(1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1, 2.5, 10)
)

func times(seconds ...float64) (out []time.Duration) {
	for _, s := range seconds {
		out = append(out, time.Duration(s*float64(time.Second)))
	}
	return out
}

func newHistogram(unit time.Duration, bounds []time.Duration) histogram {
	return histogram{unit: unit, bounds: bounds, counts: make([]atomic.Int64, len(bounds)+1)}
}

// observe counts d. A clock that was set back counts as no time at all.
func (h *histogram) observe(d time.Duration) {
	d = max(0, d)
	i := 0
	for i < len(h.bounds) && d > h.bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d / h.unit))
}
