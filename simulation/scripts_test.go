package simulation

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/kafka/librdkafka"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var brokers = flag.String("brokers", "", "play the scripts with a real broker, too")

// stage is where a script is played: a group that is made up, or a broker's.
type stage interface {
	open(t *testing.T, instance string) kafka.Consumer
	expel(t *testing.T, member string)
	topic() string
}

// troupe plays a script: what its members hear is what it comes to.
type troupe struct {
	t     *testing.T
	stage stage
	mu    sync.Mutex
	heard []string
	all   []*actor
}

// actor is a member, which belongs to the goroutine that polls.
type actor struct {
	troupe *troupe
	name   string
	c      kafka.Consumer
	calls  chan func()
	quit   chan struct{}
	gone   chan struct{}
	drain  time.Duration
	going  chan []kafka.Partition // what is being given up, where it takes a while
	mine   map[kafka.Partition]bool
}

func (tr *troupe) say(format string, args ...any) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.heard = append(tr.heard, fmt.Sprintf(format, args...))
}

// joins begins a member, and waits until it has so many partitions; below 0: it does not.
func (tr *troupe) joins(name, instance string, want int) *actor {
	a := &actor{troupe: tr, name: name, c: tr.stage.open(tr.t, instance), calls: make(chan func()), quit: make(chan struct{}), gone: make(chan struct{}), going: make(chan []kafka.Partition, 1), mine: map[kafka.Partition]bool{}}
	tr.all = append(tr.all, a)
	if err := a.c.Subscribe([]string{tr.stage.topic()}, kafka.Rebalance{Assigned: a.assigned, Revoked: a.revoked}); err != nil {
		tr.t.Fatal(err)
	}
	go a.run()
	if want >= 0 {
		a.until(want)
	}
	return a
}

func (a *actor) assigned(ps []kafka.Partition) {
	var at []kafka.Position
	for _, p := range ps {
		a.mine[p] = true
		at = append(at, kafka.Position{Partition: p})
	}
	if len(ps) > 0 {
		a.troupe.say("%s gets %d", a.name, len(ps))
	}
	if err := a.c.Assign(at); err != nil {
		a.troupe.t.Error(err)
	}
}

func (a *actor) revoked(ps []kafka.Partition, lost bool) {
	what := "gives up"
	if lost {
		what = "loses"
	}
	a.troupe.say("%s %s %d", a.name, what, len(ps))
	if a.drain > 0 {
		a.going <- ps
		time.Sleep(a.drain)
		a.troupe.say("%s has drained", a.name)
	}
	for _, p := range ps {
		delete(a.mine, p)
	}
	if err := a.c.Unassign(ps); err != nil {
		a.troupe.t.Error(err)
	}
}

func (a *actor) run() {
	defer close(a.gone)
	for {
		select {
		case call := <-a.calls:
			call()
		case <-a.quit:
			return
		default:
		}
		if _, err := a.c.Poll(50 * time.Millisecond); errors.As(err, new(kafka.FatalError)) {
			a.troupe.say("%s is fenced", a.name)
			for {
				select {
				case call := <-a.calls:
					call()
				case <-a.quit:
					return
				}
			}
		}
	}
}

// do has the member do something on its goroutine.
func (a *actor) do(what func()) {
	done := make(chan struct{})
	a.calls <- func() { what(); close(done) }
	<-done
}

// until waits for so many partitions.
func (a *actor) until(want int) {
	a.troupe.t.Helper()
	for n, end := -1, time.Now().Add(30*time.Second); n != want; time.Sleep(20 * time.Millisecond) {
		a.do(func() { n = len(a.mine) })
		if time.Now().After(end) {
			a.troupe.t.Errorf("%s has %d partitions, and waits for %d", a.name, n, want)
			return
		}
	}
}

// commits makes a commit, and says what came of it. It is asked again while the group rebalances.
func (a *actor) commits(ps []kafka.Partition, offset int64) {
	var cs []kafka.Commit
	for _, p := range ps {
		cs = append(cs, kafka.Commit{Partition: p, Offset: offset, Meta: "of " + a.name})
	}
	err := a.c.Commit(cs)
	for end := time.Now().Add(10 * time.Second); errors.Is(err, kafka.ErrRebalancing) && time.Now().Before(end); err = a.c.Commit(cs) {
		time.Sleep(50 * time.Millisecond)
	}
	word := map[error]string{nil: "is taken", kafka.ErrNotMember: "is no member's"}
	for e, w := range word {
		if err == e || e != nil && errors.Is(err, e) {
			a.troupe.say("a commit of %s %s", a.name, w)
			return
		}
	}
	a.troupe.say("a commit of %s: %v", a.name, err)
}

func (a *actor) stored(p kafka.Partition) {
	all, err := a.c.Committed([]kafka.Partition{p}, 5*time.Second)
	if err != nil || len(all) != 1 {
		a.troupe.say("%s hears %v %v", a.name, all, err)
		return
	}
	a.troupe.say("%s hears %d %q", a.name, all[0].Offset, all[0].Meta)
}

// leaves ends a membership in good order.
func (a *actor) leaves() {
	a.do(func() { _ = a.c.Unsubscribe() })
	a.until(0)
}

func (a *actor) partitions() (all []kafka.Partition) {
	a.do(func() { all = slices.SortedFunc(maps.Keys(a.mine), kafka.Compare) })
	return all
}

// scripts are played on both stages, and come to the same.
var scripts = []struct {
	name string
	play func(*troupe)
	want string
}{
	{"join and leave", func(tr *troupe) {
		a := tr.joins("A", "", 4)
		b := tr.joins("B", "", 2)
		a.until(2)
		b.leaves()
		a.until(4)
	}, "A gets 4; A gives up 2; B gets 2; B gives up 2; A gets 2"},
	{"commits", func(tr *troupe) {
		a := tr.joins("A", "", 4)
		p := a.partitions()[0]
		a.stored(p)
		a.commits([]kafka.Partition{p}, 5)
		a.stored(p)
		a.commits([]kafka.Partition{p}, 3)
		a.stored(p)
	}, `A gets 4; A hears -1001 ""; a commit of A is taken; A hears 5 "of A"; a commit of A is taken; A hears 3 "of A"`},
	{"fencing", func(tr *troupe) {
		a := tr.joins("A", "one", 4)
		ps := a.partitions()
		b := tr.joins("B", "one", 4)
		time.Sleep(5 * time.Second)
		a.commits(ps[:1], 5)
		b.commits(ps[:1], 6)
		b.stored(ps[0])
	}, `A gets 4; B gets 4; A is fenced; a commit of A: Local: Fatal error; a commit of B is taken; B hears 6 "of B"`},
	{"a static member that is back", func(tr *troupe) {
		a := tr.joins("A", "one", 4)
		a.ends()
		b := tr.joins("B", "one", 4)
		b.commits(b.partitions()[:1], 5)
	}, "A gets 4; A gives up 4; B gets 4; a commit of B is taken"},
	{"expulsion", func(tr *troupe) {
		a := tr.joins("A", "", 4)
		tr.stage.expel(tr.t, a.c.Member())
		time.Sleep(6 * time.Second) // a heartbeat tells
		a.until(4)
		a.commits(a.partitions()[:1], 7)
	}, "A gets 4; A loses 4; A gets 4; a commit of A is taken"},
	{"a slow drain", func(tr *troupe) {
		a := tr.joins("A", "", 4)
		a.do(func() { a.drain = 3 * time.Second })
		b := tr.joins("B", "", 2)
		b.commits(b.partitions()[:1], 5)
	}, "A gets 4; A gives up 2; A has drained; B gets 2; a commit of B is taken"},
	{"commits in a slow drain", func(tr *troupe) {
		a := tr.joins("A", "", 4)
		all := a.partitions()
		a.do(func() { a.drain = 3 * time.Second })
		b := tr.joins("B", "", -1)
		gone := <-a.going
		kept := slices.DeleteFunc(all, func(p kafka.Partition) bool { return slices.Contains(gone, p) })
		time.Sleep(time.Second)
		a.commits(kept[:1], 5) // of what stays
		a.commits(gone[:1], 6) // and of what goes
		b.until(2)
		b.stored(gone[0])
	}, `A gets 4; A gives up 2; a commit of A is taken; a commit of A is taken; A has drained; B gets 2; B hears 6 "of A"`},
}

// ends closes a member without a word to the group.
func (a *actor) ends() {
	close(a.quit)
	<-a.gone
	_ = a.c.Close()
}

func (tr *troupe) end() {
	for _, a := range tr.all {
		select {
		case <-a.quit:
		default:
			a.drain = 0
			a.ends()
		}
	}
}

// play is what a script comes to.
func play(t *testing.T, s stage, script func(*troupe)) string {
	tr := &troupe{t: t, stage: s}
	script(tr)
	tr.mu.Lock()
	heard := strings.Join(tr.heard, "; ")
	tr.mu.Unlock()
	tr.end()
	return heard
}

// TestScripts: the group that is made up tells its members what a real one does. make e2e plays them with a broker.
func TestScripts(t *testing.T) {
	for _, s := range scripts {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel() // a broker takes its time
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				if got := play(t, newMadeUp(t, dir), s.play); got != s.want {
					t.Errorf("made up: %s\nwant: %s", got, s.want)
				}
			})
			if *brokers == "" {
				return
			}
			if got := play(t, newReal(t), s.play); got != s.want {
				t.Errorf("a broker: %s\nwant: %s", got, s.want)
			}
		})
	}
}

// madeUp is a world without processes.
type madeUp struct{ w *World }

func newMadeUp(t *testing.T, dir string) madeUp {
	w := newWorld(1, dir)
	w.logs = map[kafka.Partition]*plog{}
	for i := range int32(4) {
		w.logs[kafka.Partition{Topic: topic, Number: i}] = &plog{next: 10}
	}
	ctx, end := context.WithCancel(t.Context())
	t.Cleanup(end)
	go func() {
		for ctx.Err() == nil {
			time.Sleep(500 * time.Millisecond)
			w.with(func() { w.group.tick(time.Now()) })
		}
	}()
	t.Cleanup(func() { end(); time.Sleep(time.Second) })
	return madeUp{w}
}

func (madeUp) topic() string { return topic }

func (m madeUp) open(_ *testing.T, instance string) kafka.Consumer {
	h := &host{w: m.w, name: "somebody"}
	return newClient(m.w, &life{host: h, account: account{committed: map[kafka.Partition]time.Time{}}}, instance)
}

func (m madeUp) expel(_ *testing.T, member string) {
	m.w.with(func() {
		for _, c := range slices.Clone(m.w.group.members) {
			if fmt.Sprint(c.member) == member {
				c.expelled = true
				m.w.group.leave(c)
			}
		}
	})
}

// real is a broker, with a topic and a group of its own.
type real struct {
	client *kgo.Client
	name   string
}

func newReal(t *testing.T) real {
	c, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(*brokers, ",")...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	r, admin := real{c, fmt.Sprint("scripts-", time.Now().UnixNano())}, kadm.NewClient(c)
	if _, err := admin.CreateTopic(t.Context(), 4, 1, nil, r.name); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r real) topic() string { return r.name }

func (r real) open(t *testing.T, instance string) kafka.Consumer {
	c, err := librdkafka.New(librdkafka.Config{Properties: map[string]string{"bootstrap.servers": *brokers, "session.timeout.ms": "10000", "heartbeat.interval.ms": "1000"},
		Group: r.name, InstanceID: instance, Buffer: 1 << 20, DrainTimeout: drainTimeout}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// expel removes a member as kafka-consumer-groups does.
func (r real) expel(t *testing.T, member string) {
	leave := kmsg.NewPtrLeaveGroupRequest()
	one := kmsg.NewLeaveGroupRequestMember()
	one.MemberID = member
	leave.Group, leave.Members = r.name, append(leave.Members, one)
	if _, err := leave.RequestWith(t.Context(), r.client); err != nil {
		t.Fatal(err)
	}
}
