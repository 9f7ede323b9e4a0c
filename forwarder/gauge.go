package forwarder

import (
	"math"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kpush/kpush/kafka"
)

// gauge is what can be told of a partition without waiting for anybody, the volume included. Deliveries and the poll goroutine
// write it, the sampler its own part.
type gauge struct {
	topic    *topicCounts
	handed   atomic.Int64 // messages that were handed over
	position atomic.Int64 // the offset after the newest message handed over, or after what holds none behind it
	ages     ages
	_        [64]byte     // the poll goroutine's are above, and each line of a cache is one processor's
	finished atomic.Int64 // messages with their outcome on record
	underWay atomic.Int64 // messages of requests under way
	_        [64]byte

	ahead     atomic.Bool // the log goes on behind what was read, as the client has heard; the consumer's
	ends      atomic.Pointer[kafka.Bounds]
	perSecond atomic.Uint64 // outcomes; bits of a float64. This and what follows is the sampler's
	caughtUp  atomic.Int64  // unix nanoseconds: there was nothing to do then, or it was started
	stall     atomic.Pointer[stall]
	waits     atomic.Int64 // unix nanoseconds: since when the first attempts that are under way were, and nothing was finished; 0: something was, or none is
	sampled   sampled
}

// sampled is a partition as the sampler saw it last.
type sampled struct {
	finished, position int64
	at                 time.Time
	came               time.Time // when the position had changed
}

func (g *gauge) open(topic *topicCounts, next int64, now time.Time) {
	g.topic, g.sampled = topic, sampled{at: now, came: now, position: next}
	g.position.Store(next)
	g.caughtUp.Store(now.UnixNano())
}

// outstanding is how many messages have been handed over and have no outcome on record.
func (g *gauge) outstanding() int64 { return g.handed.Load() - g.finished.Load() }

// ended counts messages whose outcome is on record.
func (g *gauge) ended(how [len(outcomeWords)]int64) {
	for i, n := range how {
		if n > 0 {
			g.topic.done[i].Add(n)
			g.finished.Add(n)
		}
	}
}

// bounds says where the partition ends for this consumer, and where its next record goes: -1 where that is not known. What was
// read is newer than what was asked.
func (g *gauge) bounds() (end, high int64) {
	b, at := g.ends.Load(), g.position.Load()
	if b == nil {
		return -1, -1
	}
	return max(b.End, at), max(b.High, at)
}

// behind tells whether there is anything to do, as far as is known.
func (g *gauge) behind() bool {
	end, _ := g.bounds()
	return g.outstanding() > 0 || end > g.position.Load()
}

// rate is how many outcomes a second there were lately.
func (g *gauge) rate() float64 { return math.Float64frombits(g.perSecond.Load()) }

// oldest is how old the oldest message without an outcome is, next being its offset; 0: there is none. Of one that was not fetched
// only the time is known for which there has been something to do.
func (g *gauge) oldest(next int64, now time.Time) time.Duration {
	at, known := g.ages.at(next)
	switch {
	case !g.behind():
		return 0
	case g.outstanding() == 0 || !known:
		at = time.Unix(0, g.caughtUp.Load())
	}
	return max(time.Millisecond, now.Sub(at)) // a record may be of the future
}

// ages knows about how old the messages are that were handed over: the time of one in ageMessages, and of each whose time is another.
type ages struct {
	newest age // this and the next one are the poll goroutine's
	behind int // messages since the newest

	mu   sync.Mutex
	list []age // by offset
}

// age is a message's.
type age struct{ offset, timestamp int64 } // milliseconds since 1970

const (
	ageMessages = 64
	ageTime     = 100 // milliseconds: times that are less apart are the same
	agesMost    = 1024
)

// add notes a message. next tells where the oldest one without an outcome is: what is below it is forgotten.
func (a *ages) add(m *kafka.Message, next func() int64) {
	timestamp := m.Timestamp
	if timestamp <= 0 {
		timestamp = time.Now().UnixMilli() // when it came
	}
	a.behind++
	apart := timestamp - a.newest.timestamp
	if a.behind < ageMessages && (-ageTime < apart && apart < ageTime || len(a.list) >= agesMost) {
		return
	}
	a.newest, a.behind = age{m.Offset, timestamp}, 0
	at := next()
	a.mu.Lock()
	defer a.mu.Unlock()
	if past := a.before(at); past > len(a.list)/2 {
		a.list = slices.Delete(a.list, 0, past)
	}
	a.list = append(a.list, a.newest)
}

// before is the index of the newest entry that is not above offset, -1 where there is none. The caller holds mu.
func (a *ages) before(offset int64) int {
	return sort.Search(len(a.list), func(i int) bool { return a.list[i].offset > offset }) - 1
}

// at is about the time of the message at offset.
func (a *ages) at(offset int64) (t time.Time, known bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := a.before(offset)
	if i < 0 {
		return time.Time{}, false
	}
	return time.UnixMilli(a.list[i].timestamp), true
}
