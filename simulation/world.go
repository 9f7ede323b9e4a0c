package simulation

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/kpush/kpush/forwarder/start"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
	"github.com/kpush/kpush/volume/sim"
)

const (
	topic         = "orders"
	execTimeout   = 2 * time.Second
	drainTimeout  = 5 * time.Second
	revokeTimeout = 3 * time.Second
)

// World is all there is beside kpush. One lock guards the most of it; no call under it waits.
type World struct {
	seed     uint64
	cfg      settings
	dir      string
	verbose  bool // commits and requests are in the history, too
	began    time.Time
	platters sync.Mutex // of all hosts: one call at a time

	mu      sync.Mutex
	made    int // how often the topic was made
	history []string
	failure string
	logs    map[kafka.Partition]*plog
	low     map[kafka.Partition]int // index of the first record that is not done, or may be
	group   group
	service service
	hosts   []*host
	modes   map[string]mode
	asked   map[kafka.Partition][]int64 // where operators want it to go on, as long as Kafka has not heard of it
	paused  map[kafka.Partition]bool    // by an operator, who was told that it is
	resumes int
	undone  int
	kills   int
	closing bool // nothing starts any more
	random  *rand.Rand
	pending sync.WaitGroup // what was put off
}

// settings are the history's, drawn from its seed.
type settings struct {
	order             string
	concurrency       int
	partitions        int
	hosts             int
	services          int // hosts of the service
	static, comesBack bool
	sync              offsets.Sync
}

// mode is a fault that lasts.
type mode struct {
	what  string
	until time.Time
}

func newWorld(seed uint64, dir string) *World {
	w := &World{seed: seed, dir: dir, began: time.Now(), logs: map[kafka.Partition]*plog{}, low: map[kafka.Partition]int{}, modes: map[string]mode{}, asked: map[kafka.Partition][]int64{}, paused: map[kafka.Partition]bool{}}
	w.random = w.stream("numbers")
	r := w.stream("settings")
	w.cfg = settings{order: []string{"partition", "key", "none"}[r.IntN(3)], concurrency: []int{1, 4, 16}[r.IntN(3)], partitions: 1 + r.IntN(6), hosts: 1 + r.IntN(4), services: 1 + r.IntN(3),
		static: r.IntN(2) == 0, sync: []offsets.Sync{{}, offsets.DefaultSync, {Window: -1}}[r.IntN(3)]}
	w.cfg.comesBack = w.cfg.static && r.IntN(2) == 0
	w.group = group{w: w, owner: map[kafka.Partition]*client{}, commits: map[kafka.Partition]kafka.Commit{}, vouched: map[kafka.Partition]time.Time{}, ever: map[kafka.Position]bool{}}
	w.service = newService(w)
	for i := range w.cfg.partitions {
		w.logs[kafka.Partition{Topic: topic, Number: int32(i)}] = &plog{}
	}
	for i := range w.cfg.hosts {
		w.hosts = append(w.hosts, &host{w: w, name: fmt.Sprint("host ", i+1), disk: sim.New(w.stream(fmt.Sprint("disk ", i)), nil)})
	}
	return w
}

func (w *World) with(do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
}

// say adds a line to the history; fail ends it with one. Both under the lock.
func (w *World) say(format string, args ...any) {
	w.history = append(w.history, fmt.Sprintf("%9.3fs  %s", time.Since(w.began).Seconds(), fmt.Sprintf(format, args...)))
}

func (w *World) fail(format string, args ...any) {
	if w.failure == "" {
		w.failure = fmt.Sprintf(format, args...)
	}
	w.say("FAILURE: %s", fmt.Sprintf(format, args...))
}

// dice belongs to what it is named for: the order in which things happen to be asked for does not change it.
func (w *World) dice(what string, ids ...int64) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(what))
	for _, id := range ids {
		_, _ = h.Write(binary.LittleEndian.AppendUint64(nil, uint64(id)))
	}
	return rand.New(rand.NewPCG(w.seed, h.Sum64()))
}

func (w *World) stream(what string) *rand.Rand { return w.dice(what) }

func (w *World) number() (n uint64) {
	w.with(func() { n = w.random.Uint64() })
	return n
}

// now is the fault of a kind that lasts, "" where there is none. Under the lock.
func (w *World) now(kind string) string {
	if m := w.modes[kind]; time.Now().Before(m.until) {
		return m.what
	}
	return ""
}

// later runs do after a while, unless the history has ended by then.
func (w *World) later(d time.Duration, do func()) {
	w.pending.Go(func() { time.Sleep(d); do() })
}

func (w *World) partitions() (all []kafka.Partition) {
	for p := range w.logs {
		all = append(all, p)
	}
	slices.SortFunc(all, kafka.Compare)
	return all
}

// produce adds n messages. Under the lock.
func (w *World) produce(p kafka.Partition, n int, r *rand.Rand) {
	l := w.logs[p]
	for range n {
		gap := int64(0)
		if r.IntN(30) == 0 {
			gap = 1 + r.Int64N(3)
		}
		w.service.produced(p, l.append(fmt.Sprint("key ", r.IntN(8)), gap))
		w.undone++
	}
	if r.IntN(3) == 0 {
		l.next++ // the end of a transaction
	}
	for _, m := range w.group.members {
		m.wake()
	}
}

// topicID is the topic's, which is another one each time it is made. Under the lock.
func (w *World) topicID() string { return fmt.Sprintf("AAAAAAAAAAAAAAAAAAAA%02d", w.made) }

// settled tells whether all is done and committed. Under the lock.
func (w *World) settled() bool {
	for p, l := range w.logs {
		c, ok := w.group.commits[p]
		if m, marked := start.ParseMark(c.Meta); len(l.records) > 0 && (!ok || marked && m.TopicID != w.topicID() || c.Offset < l.next) {
			return false
		}
	}
	return w.undone == 0
}
