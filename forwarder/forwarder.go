package forwarder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kpush/kpush/forwarder/pace"
	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// Config is what the forwarder has to know; main fills it from the environment.
type Config struct {
	Brokers      string // as the user wrote them, for what is said
	Topics       []string
	Group        string
	InstanceID   string        // group.instance.id; "" for a dynamic member
	MustBeStatic bool          // a broker that knows no static members ends it
	ComesBack    bool          // a stop keeps the partitions for the session timeout instead of leaving the group
	Session      time.Duration // how long the group waits for a member that is silent
	PollInterval time.Duration // how long the consumer may be without a poll

	Order            string   // pace.ByPartition, ByKey, None
	Concurrency      int      // attempts under way at once, over all partitions
	Adaptive         bool     // find the service's best concurrency, beginning with Concurrency
	Hosts            []string // of the service, for people
	BatchSize        int      // messages of one request at the most
	BatchLinger      time.Duration
	BatchBytes       int           // of its body at the most, where it has several messages; 0: no bound
	ExecTimeout      time.Duration // of one attempt; 0: none
	SlowTime         time.Duration // deliveries that take longer are logged; 0: none
	SkipOnAny        bool          // service faults count like message faults
	CanSkip          bool
	DeadLetterTopic  string // where given-up messages go; "": to the skip log. It implies CanSkip
	RedriveMax       int    // how often a message may be sent back from there
	RetryNums        int    // message faults until a message is given up
	GiveUpInARow     int    // messages given up with no delivery in between; 0: no bound
	RetryInterval    time.Duration
	RetryMaxInterval time.Duration

	Credentials    []string // files that Kafka's clients are made of
	CommitInterval time.Duration
	Reset          string        // earliest, latest, error
	TrustSaved     time.Duration // negative: not when Kafka lost or rewound its commit
	Buffer         int64         // bytes
	DrainTimeout   time.Duration // how long a stop waits for requests under way,
	RevokeTimeout  time.Duration // and a revoke, with the whole group; at most DrainTimeout
	SkipLog        string        // path
}

// givesUp tells whether a message that keeps failing may be given up.
func (c *Config) givesUp() bool { return c.CanSkip || c.DeadLetterTopic != "" }

// Parts are what a Forwarder works with. They stay the caller's, but for Consumer and Cluster, which Run closes.
type Parts struct {
	Consumer kafka.Consumer
	Cluster  kafka.Cluster
	Reader   func(at []kafka.Position) (kafka.Reader, error) // reads partitions without a group
	Store    *offsets.Store                                  // to be closed after Run
	Handler  push.Handler
	Size     func(*kafka.Message) int                                  // what a message takes of a request's body, where that has several; nil: it is not measured
	Letters  kafka.Producer                                            // writes to Config.DeadLetterTopic, and back from there; nil: there is none
	Confirm  func(ctx context.Context, host int, id string) push.Reply // whether the service has a message in doubt; nil: it is sent again
	Ready    func(context.Context) error                               // deliveries wait until it returns nil; nil: they do not
	Large    func(size int64)                                          // a message has come that is larger than any before, and than a MiB; nil: nobody asks
	Idle     func()                                                    // gives memory back; nil: nothing does
}

// Forwarder is one consumer of a group and all its deliveries.
type Forwarder struct {
	cfg        Config
	log        *slog.Logger
	parts      Parts
	consumer   *consumer
	committer  *committer
	pace       *pace.Pace
	budget     *budget
	skips      *skipLog
	failures   failures
	loud       loud
	evidence   evidence
	resending  chan struct{} // held by the one resend that there may be, or a message is sent twice
	redriving  sync.Mutex    // likewise
	unburied   atomic.Int64  // messages that wait for the dead letter topic
	wants      atomic.Int64  // sinceBorn: the newest want; 0: wanting is not said
	lease      lease
	news       news
	health     health
	counts     counts
	wanted     atomic.Int64           // unix nanoseconds: somebody has asked for Status or Counts
	cluster    atomic.Pointer[string] // its id; nil: no broker has said it
	widths     sync.Map               // of incarnation to int32: how many partitions it had when this process heard of it first
	deliveries sync.Pool              // of *delivery, which goroutines have used
}

// New connects nothing yet. An error is about the volume.
func New(cfg Config, parts Parts, log *slog.Logger) (*Forwarder, error) {
	if cfg.DeadLetterTopic != "" && parts.Letters == nil {
		return nil, errors.New("KPUSH_DEAD_LETTER_TOPIC is set, and nothing writes to Kafka")
	}
	if cfg.BatchSize <= 1 || parts.Size == nil {
		cfg.BatchBytes = 0 // nothing has to be measured: a message alone is as large as it is
	}
	f := &Forwarder{cfg: cfg, log: log, parts: parts,
		skips: &skipLog{path: cfg.SkipLog, locked: parts.Store.Locked()}, budget: newBudget(cfg.Buffer / 2)}
	f.news.come, f.resending = make(chan struct{}, 1), make(chan struct{}, 1)
	f.evidence.most = int32(cfg.GiveUpInARow)
	f.health.log, f.health.volume = log, f.parts.Store.Err
	f.health.stepped(time.Now())
	f.counts.init()
	parts.Store.Observe(f.counts.file)
	f.committer = newCommitter(f)
	f.pace = pace.New(pace.Config{Order: cfg.Order, Concurrency: cfg.Concurrency, Adaptive: cfg.Adaptive, Hosts: len(cfg.Hosts), Closed: parts.Ready != nil,
		BatchSize: cfg.BatchSize, BatchLinger: cfg.BatchLinger, BatchBytes: cfg.BatchBytes, Size: parts.Size, BlockedAfter: blockedAfter, ExecTimeout: cfg.ExecTimeout,
		RetryInterval: cfg.RetryInterval, RetryMaxInterval: cfg.RetryMaxInterval}, f.work, f.sayDown)
	f.consumer = newConsumer(f)
	if cfg.CanSkip {
		if err := f.skips.lock(); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Run consumes and delivers until ctx ends, then drains, commits and leaves the group: nil. A client that is of no use
// any more, or a stop that did not come to its end within DrainTimeout, is an error; nothing is lost then either.
func (f *Forwarder) Run(ctx context.Context) error {
	c := f.consumer
	c.stopping = ctx
	defer f.skips.close()
	if err := c.client.Subscribe(f.cfg.Topics, kafka.Rebalance{Assigned: c.assigned, Revoked: c.revoked}); err != nil {
		return fmt.Errorf("cannot subscribe to %v: %w", f.cfg.Topics, err)
	}
	background, cancel := context.WithCancel(context.Background())
	watching, sampling := inBackground(func() { f.watch(background) }), inBackground(func() { f.sample(background) })
	defer func() { cancel(); <-watching; <-sampling; atMost(closeTime, f.parts.Cluster.Close) }()
	go f.committer.run(background)
	go f.lease.beat(background, f.cutOff, f.committer.now)
	if f.cfg.DeadLetterTopic != "" {
		go f.keepRedriven(background)
	}
	if f.parts.Ready != nil {
		go f.awaitReady(background)
	}
	if err := c.loop(ctx); err != nil {
		f.health.fail(err)
		atMost(f.reserve(), func() { c.lose(c.assignment(), errFatal) })
		return err
	}
	return f.stop()
}

// leaveTime is how long a client may take to leave behind its last revoke.
const leaveTime = time.Second

// closeTime is for what may hang behind a name server or a disk, and is of no use any more.
const closeTime = 250 * time.Millisecond

// atMost waits so long for do.
func atMost(d time.Duration, do func()) {
	select {
	case <-inBackground(do):
	case <-time.After(d):
	}
}

func inBackground(do func()) (done <-chan struct{}) {
	over := make(chan struct{})
	go func() { defer close(over); do() }()
	return over
}

// stop drains all partitions, and then ends the membership: a client that leaves, or closes, sends no heartbeats any more. A stop that means
// to leave the group unsubscribes and polls until the revoke is done and the client has forgotten its member id, which it does as it leaves
// (a static member that closes before that does not leave, and is missed by the group for its session timeout); one that means to come back
// only closes, which revokes, too. The client's Close may block for ever, so it gets what is left of the time.
func (f *Forwarder) stop() error {
	c, deadline := f.consumer, f.stopBegins()
	f.committer.owes.Store(false) // what an earlier rebalance left is the next owner's
	done := make(chan error, 1)
	go func() {
		drained := f.drainDeadline()
		c.drain(slices.Collect(maps.Values(c.parts)), errStopping)
		if !f.cfg.ComesBack {
			if err := c.client.Unsubscribe(); err != nil {
				f.log.Warn("cannot unsubscribe", "error", err)
			}
			late := time.Now().Add(leaveTime)
			for polls := 0; polls < 3 || len(c.assignment()) > 0 || c.client.Member() != "" && time.Now().Before(late); polls++ {
				if _, err := c.client.Poll(10 * time.Millisecond); errors.As(err, new(kafka.FatalError)) { // all else is for the next life
					done <- err
					return
				}
			}
		}
		f.awaitResend(drained) // it needs no membership
		done <- c.client.Close()
	}()
	var waits atomic.Bool // the group, for another member: what this one asks has no answer before that one has joined
	question, over := context.WithDeadline(context.Background(), deadline)
	defer over()
	asking := time.AfterFunc(time.Until(deadline)-kafka.QuestionTime, func() {
		group, err := f.parts.Cluster.Group(question, f.cfg.Group)
		waits.Store(err == nil && group.Rebalancing)
	})
	defer asking.Stop()
	select {
	case err := <-done:
		if left := c.assignment(); len(left) > 0 {
			c.lose(left, errStopping)
		}
		if fatal, ok := errors.AsType[kafka.FatalError](err); ok {
			return fmt.Errorf("while it stopped: %w", fatalSentence(fatal, f.cfg))
		}
		return err
	case <-time.After(time.Until(deadline)):
	}
	switch {
	case waits.Load() && !f.owes():
		f.log.Warn("the group waits for another of its members: the process ends without having left it, and its partitions go to others after the session timeout", "session", f.cfg.Session.String())
		return nil
	case waits.Load():
		return fmt.Errorf("the stop took longer than KPUSH_DRAIN_TIMEOUT (%s), because group %s waits for another of its members, and takes no commit meanwhile: the process ends all the same; %s", f.cfg.DrainTimeout, f.cfg.Group, f.uncommitted())
	}
	return fmt.Errorf("the stop took longer than KPUSH_DRAIN_TIMEOUT (%s), most likely because a broker does not answer: the process ends all the same; %s", f.cfg.DrainTimeout, f.uncommitted())
}

// owes tells whether there is something that Kafka has not been told, or that has not ended.
func (f *Forwarder) owes() bool {
	return f.committer.owes.Load() || slices.ContainsFunc(f.consumer.running(), func(p *partition) bool { return p.gauge.underWay.Load() > 0 || p.owes() })
}

// stopBegins sets the stop's deadline, once, and lets nothing new start.
func (f *Forwarder) stopBegins() (deadline time.Time) {
	deadline = f.health.stop(time.Now().Add(f.cfg.DrainTimeout - f.margin()))
	for _, p := range f.consumer.running() {
		p.stop(errStopping)
	}
	return deadline
}

// drainDeadline is until when requests under way may finish when a partition is given up now. A stop keeps a part of
// its time for the last commit and for leaving.
func (f *Forwarder) drainDeadline() time.Time {
	if deadline, stopping := f.health.stopDeadline(); stopping {
		return soonest(deadline.Add(-f.reserve()), f.polledDeadline())
	}
	return f.revokeDeadline()
}

// revokeDeadline is drainDeadline where the group waits for it. It has to come before the group takes this member for dead.
func (f *Forwarder) revokeDeadline() time.Time {
	return soonest(time.Now().Add(f.cfg.RevokeTimeout), f.polledDeadline())
}

// polledDeadline is how long nobody need poll: beyond max.poll.interval.ms the client leaves the group.
func (f *Forwarder) polledDeadline() time.Time { return time.Now().Add(f.cfg.PollInterval * 3 / 4) }

func soonest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// reserve is the part of DrainTimeout that the last commit and leaving may take.
func (f *Forwarder) reserve() time.Duration { return min(3*time.Second, f.cfg.DrainTimeout/8) }

// margin is the part of DrainTimeout that noticing the stop before, and closing the file after it, may take.
func (f *Forwarder) margin() time.Duration {
	return min(time.Second, max(f.cfg.DrainTimeout/20, min(250*time.Millisecond, f.cfg.DrainTimeout/4)))
}

// uncommitted says what becomes of progress that Kafka was not told of.
func (f *Forwarder) uncommitted() string {
	if f.parts.Store.Keeps() {
		return "nothing is lost, what is not committed is in the file on the volume"
	}
	return "what was sent and had no outcome is lost, as at a crash with guarantee 1; the rest comes again"
}

// readyTime is between two questions whether the service is ready.
const readyTime = time.Second

// awaitReady asks until the service is ready, and lets deliveries begin then. The group is joined meanwhile, and
// messages are fetched until the buffer is full.
func (f *Forwarder) awaitReady(ctx context.Context) {
	for ctx.Err() == nil {
		err := f.parts.Ready(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			f.health.changed(notReady, fmt.Errorf("deliveries wait until KPUSH_READY_URL answers 2xx: %w", err))
			_ = sleep(ctx, readyTime)
		default:
			f.health.changed(notReady, nil)
			f.pace.Ready()
			return
		}
	}
}
