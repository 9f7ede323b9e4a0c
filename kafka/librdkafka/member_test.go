package librdkafka

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kpush/kpush/kafka"
)

// played is a member of the group that somebody polls. It starts what it is given at once.
type played struct {
	*Consumer
	r     *realRig
	calls chan func() // for the goroutine that polls
	end   func()

	mu    sync.Mutex
	heard []string // assigned orders/0, revoked orders/0, lost orders/0
	fatal error
	in    func() // runs in the callback of a revoke; nil: nothing
}

func (r *realRig) polled(id string, in func()) *played {
	r.Helper()
	cfg := r.config()
	cfg.InstanceID, cfg.Properties["heartbeat.interval.ms"] = id, "100"
	c, err := New(cfg, slog.New(slog.NewTextHandler(r.logs, nil)))
	if err != nil {
		r.Fatal(err)
	}
	p := &played{Consumer: c, r: r, calls: make(chan func()), in: in}
	if err := p.Subscribe([]string{"orders"}, kafka.Rebalance{Assigned: p.assigned, Revoked: p.revoked}); err != nil {
		r.Fatal(err)
	}
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-over:
				return
			case do := <-p.calls:
				do()
			default:
				_, err := p.Poll(20 * time.Millisecond)
				p.note("", err)
			}
		}
	}()
	p.end = sync.OnceFunc(func() { close(over); <-ended })
	r.Cleanup(p.end)
	return p
}

func (p *played) note(what string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if what != "" {
		p.heard = append(p.heard, what)
	}
	if errors.As(err, new(kafka.FatalError)) {
		p.fatal = err
	}
}

func (p *played) assigned(tps []kafka.Partition) {
	at := make([]kafka.Position, len(tps))
	for i, t := range tps {
		at[i].Partition = t
	}
	if err := p.Assign(at); err != nil {
		p.r.Error(err)
	}
	if len(tps) > 0 {
		p.note("assigned "+sorted(tps), nil)
	}
}

func (p *played) revoked(tps []kafka.Partition, lost bool) {
	if p.in != nil && !lost {
		p.in()
	}
	started := slices.DeleteFunc(slices.Clone(tps), func(t kafka.Partition) bool { return !p.mine[t] })
	if err := p.Unassign(started); err != nil {
		p.r.Error(err)
	}
	p.note(map[bool]string{true: "lost ", false: "revoked "}[lost]+sorted(tps), nil)
}

func (p *played) all() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.heard)
}

func sorted(tps []kafka.Partition) string {
	slices.SortFunc(tps, kafka.Compare)
	return strings.Trim(fmt.Sprint(tps), "[]")
}

// hears waits until it has heard n times of something, the last time of what, and returns what it heard before.
func (p *played) hears(n int, what string) (before []string) {
	p.r.Helper()
	for late := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		heard := p.all()
		if len(heard) == n && strings.HasPrefix(heard[n-1], what) {
			return heard[:n-1]
		}
		if len(heard) > n || time.Now().After(late) {
			p.r.Fatalf("not heard: %q, but %q", what, heard)
		}
	}
}

// expel has the group end the membership of a static member, as an operator can.
func (r *realRig) expel(id string) {
	r.Helper()
	q := kmsg.NewPtrLeaveGroupRequest()
	q.Group = "shop"
	m := kmsg.NewLeaveGroupRequestMember()
	m.InstanceID = &id
	q.Members = append(q.Members, m)
	answer, err := q.RequestWith(r.Context(), r.client)
	if err != nil || answer.ErrorCode != 0 || len(answer.Members) != 1 || answer.Members[0].ErrorCode != 0 {
		r.Fatalf("%+v, %v", answer, err)
	}
}

const all = "orders/0 orders/1 orders/2"

// A member that is expelled while a revoke drains knows it, and commits nothing any more, also while it joins anew: Kafka would fence the
// member that it becomes. As that one it hears that it has lost what it kept, for others may have had it meanwhile.
func TestAMemberExpelledInADrain(t *testing.T) {
	for _, alone := range []bool{false, true} { // the one that has had it is gone when it is back
		r := newRealRig(t)
		inside, over := make(chan struct{}), make(chan struct{})
		first := r.polled("first", sync.OnceFunc(func() { close(inside); <-over }))
		first.hears(1, "assigned "+all)
		commit := func() error {
			return first.Commit([]kafka.Commit{{Partition: kafka.Partition{Topic: "orders"}, Offset: 7}})
		}
		if err := commit(); err != nil || first.Member() == "" {
			t.Errorf("a commit of a member came to %v", err)
		}
		second := r.polled("second", nil)
		<-inside
		r.expel("first")
		second.hears(1, "assigned "+all)
		r.within("the end of the membership", func() {
			for first.Member() != "" {
				time.Sleep(10 * time.Millisecond)
			}
		})
		if failed, _ := errors.AsType[kafka.FatalError](first.current.Load().member.fatal(errors.New("fenced"))); !failed.Expelled {
			t.Errorf("alone %t: a failure of one that was expelled blames another process", alone)
		}
		if alone {
			r.expel("second")
			second.end()
		}
		close(over)
		var heard []string
		for heard = first.all(); len(heard) < 3; heard = first.all() {
			if err := commit(); !errors.Is(err, kafka.ErrNotMember) && len(first.all()) < 3 {
				t.Fatalf("alone %t: a commit by nobody came to %v", alone, err)
			}
		}
		r.within("its partitions as a member again", func() {
			for ; !strings.HasPrefix(heard[len(heard)-1], "assigned"); heard = first.all() {
				time.Sleep(10 * time.Millisecond)
			}
		})
		got := fmt.Sprint(heard[1:])
		if n := strings.Count(got, "revoked"); n != 1 || strings.Count(got, "lost") == 0 || alone && !strings.Contains(got, "lost orders/1 orders/2 assigned "+all) {
			t.Errorf("alone %t: heard %q", alone, heard)
		}
		r.within("a commit of a member again", func() {
			for commit() != nil {
				time.Sleep(10 * time.Millisecond)
			}
		})
		first.end()
	}
}

// An assignment that is lost stays so, whatever is put in or taken out before the callback that says it.
func TestWhatIsLostStaysLost(t *testing.T) {
	for name, do := range map[string]func(p *played) error{
		"put in":    func(p *played) error { return p.Assign(nil) },
		"taken out": func(p *played) error { return p.Unassign([]kafka.Partition{{Topic: "orders", Number: 1}}) },
	} {
		r := newRealRig(t)
		p := r.polled("first", nil)
		p.hears(1, "assigned "+all)
		p.calls <- func() { // nobody polls meanwhile
			r.expel("first")
			for late := time.Now().Add(20 * time.Second); !p.c.AssignmentLost() && time.Now().Before(late); {
				time.Sleep(10 * time.Millisecond)
			}
			if err := do(p); err != nil {
				t.Error(err)
			}
		}
		if heard := p.hears(3, "assigned "+all); heard[1] != "lost "+all {
			t.Errorf("%s: heard %q", name, heard)
		}
		p.end()
	}
}

// A client that has failed is not closed, and says so at once; also where it fails while it closes.
func TestCloseOfAClientThatFails(t *testing.T) {
	for name, inside := range map[string]bool{"before the close": false, "in the close": true} {
		r := newRealRig(t)
		var first *played
		fail := func() { // another process with its id comes
			r.polled("first", nil).hears(1, "assigned "+all)
			for first.member.failed() == nil {
				_ = first.Commit([]kafka.Commit{{Partition: kafka.Partition{Topic: "orders"}, Offset: 7}}) // that is how it hears of it
				time.Sleep(10 * time.Millisecond)
			}
		}
		if first = r.polled("first", nil); inside {
			first.in = fail
		}
		first.hears(1, "assigned "+all)
		if !inside {
			fail()
		}
		first.end()
		var err error
		r.within("the close", func() { err = first.Close() })
		var fatal kafka.FatalError
		if !errors.As(err, &fatal) || fatal.Expelled || !strings.Contains(strings.ToLower(err.Error()), "fenced") || first.Member() != "" {
			t.Errorf("%s: it came to %v", name, err)
		}
	}
}

// A client that has no time to say who it is, is a member all the same: nothing is committed until it has, and then all is well.
func TestAMemberWithoutTimeForAnAnswer(t *testing.T) {
	r := newRealRig(t)
	p := r.polled("first", nil)
	asking := p.current.Load().member.asking
	asking <- struct{}{}
	p.hears(1, "assigned "+all)
	commit := func() error {
		return p.Commit([]kafka.Commit{{Partition: kafka.Partition{Topic: "orders", Number: 0}, Offset: 1}})
	}
	if err := commit(); !errors.Is(err, kafka.ErrNotMember) {
		t.Errorf("a commit of nobody: %v", err)
	}
	<-asking
	if err := commit(); err != nil || p.Member() == "" {
		t.Errorf("a commit of member %q: %v", p.Member(), err)
	}
	p.end()
}
