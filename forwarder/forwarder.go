package forwarder

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kpush/kpush/offsets"
)

// Config is what the forwarder has to know; main fills it from the environment.
type Config struct {
	Kafka      map[string]string // librdkafka properties: brokers, security, the user's own
	Topics     []string
	Group      string
	InstanceID string // group.instance.id; "" for a dynamic member
	ComesBack  bool   // a stop keeps the partitions for the session timeout instead of leaving the group

	Targets     []string // one URL per host
	Domain      string   // Host header; "" for the URL's
	Format      string   // raw, form
	Ack         string   // status, errno
	ConnTimeout time.Duration
	ExecTimeout time.Duration // of one attempt; 0: none
	SlowTime    time.Duration // deliveries that take longer are logged; 0: none

	Order            string // OrderPartition, OrderKey, OrderNone
	Concurrency      int    // attempts under way at once, over all partitions
	Adaptive         bool   // find the service's best concurrency, beginning with Concurrency
	ReadyURL         string // deliveries wait until it answers 2xx; "": they do not
	ReadyDomain      string // Domain of ReadyURL
	BatchSize        int    // messages of one request at the most
	BatchLinger      time.Duration
	SkipOnAny        bool // service faults count like message faults
	CanSkip          bool
	RetryNums        int // message faults until a message is given up
	RetryInterval    time.Duration
	RetryMaxInterval time.Duration

	CommitInterval time.Duration
	Reset          string        // earliest, latest, error
	TrustSaved     time.Duration // negative: not when Kafka lost or rewound its commit
	Buffer         int64         // bytes
	DrainTimeout   time.Duration
	SkipLog        string // path
	Subscribed     string // path of what a static member remembers of its topics; "": nothing
	ConfirmURL     string // asked before a message in doubt is sent again; "": it is sent
	ConfirmDomain  string // Domain of ConfirmURL
}

// Forwarder is one consumer of a group and all its deliveries.
type Forwarder struct {
	cfg       Config
	log       *slog.Logger
	ledger    ledger
	client    client
	cluster   cluster
	handler   Handler
	batches   batcher   // nil: a request holds one message
	ready     *question // nil: deliveries begin at once
	committer *committer
	skips     *skipLog

	turns   *turns
	service *service
	pace    *pace
	budget  *budget
	lease   lease
	blocked blocked
	disk    *repeated
	unsure  *repeated
	state   state

	filtered atomic.Int64 // messages that came again and were finished already
	lost     atomic.Int64 // offsets passed over without an outcome
	started  atomic.Int32 // partitions that deliver

	mu      sync.Mutex // guards parts and pending for readers; only the poll goroutine writes
	parts   map[tp]*partition
	pending map[tp]error // assigned, but not started yet, and why

	since     time.Time   // when it was made
	calls     chan func() // for the poll goroutine
	clusterID string      // "" until a broker has said it; set before the first partition starts
	stopping  context.Context
	source    source        // what the poll goroutine polls: client, or its stand-in; owned by the poll goroutine
	waiting   bool          // likewise: a drain waits, and the stand-in is polled
	swept     time.Time     // likewise: when it was tidied last
	full      time.Time     // since when the budget is used up; owned by the poll goroutine
	standing  bool          // likewise: full for longer than a moment
	given     map[tp]int    // likewise: the rebalance that brought what is assigned
	former    map[tp]former // likewise: partitions that it had and has not any more
	asking    bool          // likewise: a goroutine asks where pending partitions start
	looked    time.Time     // likewise: when the watchdog looked last
	round     int           // likewise: counts rebalance callbacks
	busy      time.Time     // likewise: when a message came last
	tidied    time.Time     // likewise: when memory was given back
	relieved  time.Time     // likewise: when relieve looked last
	member    membership    // likewise
	unpolled  time.Time     // likewise: when Kafka's client said last that it was not polled for too long
	strays    error         // likewise: some partition's position is out of range, and it is not known which
}

// New connects nothing yet. The store stays the caller's, who closes it after Run; nil: guarantee 1, nothing is kept. handler
// nil: POST to cfg.Targets.
func New(cfg Config, store *offsets.Store, handler Handler, log *slog.Logger) (*Forwarder, error) {
	c, err := newClient(cfg, log)
	if err != nil {
		return nil, err
	}
	a, err := newAdmin(cfg)
	if err != nil {
		return nil, err
	}
	if handler == nil {
		if handler, err = newHTTP(cfg); err != nil {
			return nil, err
		}
	}
	f := build(cfg, store, handler, c, a, log)
	if cfg.CanSkip {
		if err := f.skips.hold(); err != nil {
			return nil, err
		}
	}
	if cfg.ReadyURL != "" {
		if f.ready, err = newQuestion(cfg.ReadyURL, cfg.ReadyDomain, &cfg, readyTime); err != nil {
			return nil, fmt.Errorf("KPUSH_READY_URL: %w", err)
		}
	}
	return f, nil
}

func build(cfg Config, store *offsets.Store, handler Handler, c client, a cluster, log *slog.Logger) *Forwarder {
	var b ledger = memory{}
	if store != nil {
		b = file{store}
	}
	f := &Forwarder{cfg: cfg, log: log, ledger: b, client: c, source: c, cluster: a, handler: handler,
		skips: &skipLog{path: cfg.SkipLog, taken: store != nil}, budget: newBudget(cfg.Buffer / 2), busy: time.Now(), since: time.Now(),
		parts: map[tp]*partition{}, pending: map[tp]error{}, calls: make(chan func(), 16), former: map[tp]former{}, given: map[tp]int{}}
	f.committer = newCommitter(f)
	f.service = newService(&f.cfg)
	f.service.changed = func(err error) { f.changed(serviceDown, err) }
	f.turns = newTurns(&f.cfg, f.service, f.work)
	if b, ok := handler.(batcher); ok && cfg.BatchSize > 1 {
		f.batches, f.turns.run = b, f.workBatch
	}
	f.pace = newPace(f.turns, &f.cfg)
	f.disk = &repeated{log: log, every: time.Minute, text: "the volume does not take records: deliveries wait"}
	f.unsure = &repeated{log: log, every: time.Minute, text: "KPUSH_CONFIRM_URL does not say whether the service has a message in doubt: the message waits"}
	f.state.turn(time.Now())
	return f
}

// Run consumes and delivers until ctx ends, then drains, commits and leaves the group: nil. A client that is of no use
// any more, or a stop that did not come to its end within DrainTimeout, is an error; nothing is lost then either.
func (f *Forwarder) Run(ctx context.Context) error {
	f.stopping = ctx
	defer f.skips.end()
	f.compareTopics()
	if err := f.client.subscribe(f.cfg.Topics, rebalance{f.assigned, f.revoked}); err != nil {
		return fmt.Errorf("cannot subscribe to %v: %w", f.cfg.Topics, err)
	}
	background, end := context.WithCancel(context.Background())
	watching := make(chan struct{})
	go func() { defer close(watching); f.watch(background) }()
	defer func() { end(); <-watching; atMost(closeTime, f.cluster.close) }()
	go f.committer.run(background)
	go f.lease.beat(background, f.cutOff, f.committer.now)
	if f.ready != nil {
		go f.awaitReady(background)
	}
	if err := f.loop(ctx); err != nil {
		f.state.fail(err)
		atMost(f.reserve(), func() { f.lose(f.assignment(), errFatal) })
		return err
	}
	return f.stop()
}

// closeTime is for what may hang behind a name server or a disk, and is of no use any more.
const closeTime = 250 * time.Millisecond

// atMost waits so long for do.
func atMost(d time.Duration, do func()) {
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	select {
	case <-done:
	case <-time.After(d):
	}
}

// stop ends the membership. A stop that means to leave the group unsubscribes and polls until the revoke is done (a
// member without partitions that only closes is missed by the group for its session timeout); one that means to come
// back only closes, which revokes, too. The client's Close may block for ever, so it gets what is left of the time.
func (f *Forwarder) stop() error {
	deadline := f.stopBegins()
	done := make(chan error, 1)
	go func() {
		if !f.cfg.ComesBack {
			if err := f.client.unsubscribe(); err != nil {
				f.log.Warn("cannot unsubscribe", "error", err)
			}
			for polls := 0; polls < 3 || len(f.assignment()) > 0; polls++ {
				f.client.poll(10 * time.Millisecond)
			}
		}
		done <- f.client.close()
	}()
	t := time.NewTimer(time.Until(deadline))
	defer t.Stop()
	select {
	case err := <-done:
		if left := f.assignment(); len(left) > 0 {
			f.lose(left, errStopping)
		}
		return err
	case <-t.C:
		return fmt.Errorf("the stop took longer than KPUSH_DRAIN_TIMEOUT (%s), most likely because a broker does not answer: the process ends all the same; %s", f.cfg.DrainTimeout, f.uncommitted())
	}
}

// stopBegins sets the stop's deadline, once, and lets nothing new start.
func (f *Forwarder) stopBegins() (deadline time.Time) {
	deadline = f.state.stop(time.Now().Add(f.cfg.DrainTimeout - f.margin()))
	for _, p := range f.running() {
		p.stop(errStopping)
	}
	return deadline
}

// drainDeadline is until when requests under way may finish when a partition is given up now. A stop keeps a part of
// its time for the last commit and for leaving; a revoke has to be over before the group takes this member for dead.
func (f *Forwarder) drainDeadline() time.Time {
	if deadline, stopping := f.state.stopDeadline(); stopping {
		return deadline.Add(-f.reserve())
	}
	return time.Now().Add(min(f.cfg.DrainTimeout, pollInterval(f.cfg)*3/4))
}

func (f *Forwarder) reserve() time.Duration { return min(3*time.Second, f.cfg.DrainTimeout/4) }

// margin is the part of DrainTimeout that noticing the stop before, and closing the file after it, may take.
func (f *Forwarder) margin() time.Duration {
	return min(time.Second, max(f.cfg.DrainTimeout/10, min(250*time.Millisecond, f.cfg.DrainTimeout/2)))
}

// assignment is what the group has given to this process, started or not.
func (f *Forwarder) assignment() []tp {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]tp, 0, len(f.parts)+len(f.pending))
	for t := range f.parts {
		out = append(out, t)
	}
	for t := range f.pending {
		out = append(out, t)
	}
	return out
}

// running is every partition that delivers.
func (f *Forwarder) running() []*partition {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]*partition, 0, len(f.parts))
	for _, p := range f.parts {
		out = append(out, p)
	}
	return out
}

// work delivers a lane's first message, and goes on with what turns gives it after that. Two Deliveries in turn do for a
// goroutine as long as nothing fails: one is under way, the one before waits for its record.
func (f *Forwarder) work(l *lane) {
	for before, spare := (*Delivery)(nil), (*Delivery)(nil); l != nil; {
		d := spare
		if d == nil {
			d = new(Delivery)
		}
		d.begin(l.p, l.head)
		d.turn, d.probe, l.probe, d.before = firstTurn, l.probe, 0, before
		done := l.p.deliver(d)
		d.settleBefore()
		if spare = before; spare != nil && spare.waiting != nil {
			spare = nil // somebody may still know it
		}
		if l = f.turns.next(l, d, done); !d.unrecorded {
			before = nil
		} else if before = d; l == nil {
			d.put()
			f.turns.give(d)
		}
	}
}

// failingShare is how many messages of each partition may wait for another attempt.
func (f *Forwarder) failingShare() int32 {
	return max(16, failingLimit/max(1, f.started.Load()))
}

// SkipBlocked gives up every message that is blocked now, and says how many there were.
func (f *Forwarder) SkipBlocked() int {
	list := f.blocked.list()
	for _, d := range list {
		d.skip(errSkipped)
	}
	f.log.Info("SIGUSR1: blocked messages are skipped", "count", len(list))
	return len(list)
}
