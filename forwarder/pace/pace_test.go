package pace

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
)

// owner is an Owner that admits everything below a limit.
type owner struct {
	limit int64
	tried map[int64]bool
	left  []int64
}

func newOwner() *owner { return &owner{limit: 1 << 40, tried: map[int64]bool{}} }

func (o *owner) Admits(offset int64) bool { return offset < o.limit }
func (o *owner) Tried(offset int64) bool  { return o.tried[offset] }
func (o *owner) Left(m *kafka.Message)    { o.left = append(o.left, m.Offset) }

// rig is a Pace whose batches the test delivers by itself.
type rig struct {
	*testing.T
	*Pace
	given chan *Batch
}

// bubble runs do in a synctest bubble.
func bubble(t *testing.T, cfg Config, do func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r, over := &rig{T: t, given: make(chan *Batch, 1000)}, make(chan struct{})
		r.Pace = New(cfg, func(b *Batch) { r.given <- b; <-over }, func(int, error) {})
		defer close(over)
		do(r)
	})
}

// push adds messages with one key, "" for none.
func push(s *Lanes, key string, offsets ...int64) {
	for _, o := range offsets {
		m := &kafka.Message{Offset: o}
		if key != "" {
			m.Key = []byte(key)
		}
		s.Push(m)
	}
}

func offsetsOf(b *Batch) (out []int64) {
	for _, m := range b.Messages() {
		out = append(out, m.Offset)
	}
	return out
}

// batch is the one with these messages that has got a turn on a goroutine of its own.
func (r *rig) batch(want ...int64) *Batch {
	r.Helper()
	synctest.Wait()
	var others [][]int64
	for range len(r.given) {
		b := <-r.given
		if slices.Equal(offsetsOf(b), want) {
			return b
		}
		others = append(others, offsetsOf(b))
		r.given <- b
	}
	r.Fatalf("%v got no turn, but %v", want, others)
	return nil
}

// idle wants nobody to have got a turn.
func (r *rig) idle(when string) {
	r.Helper()
	synctest.Wait()
	select {
	case b := <-r.given:
		r.Fatalf("%s: %v got a turn", when, offsetsOf(b))
	default:
	}
}

func (r *rig) holds(b *Batch, want ...int64) {
	r.Helper()
	if got := offsetsOf(b); !slices.Equal(got, want) {
		r.Fatalf("the batch holds %v, want %v", got, want)
	}
}

// is wants what a Lanes' owner and the turns are to be.
func (r *rig) is(o *owner, left []int64, taken int) {
	r.Helper()
	synctest.Wait()
	if got := r.Status().Taken; got != taken || !slices.Equal(o.left, left) {
		r.Fatalf("%d turns are taken and %v has left, want %d and %v", got, o.left, taken, left)
	}
}

// fail ends an attempt of a batch, which asks for another turn; err has what comes of that.
func (r *rig) fail(ctx context.Context, b *Batch, sign Sign) (err chan error) {
	err = make(chan error, 1)
	b.Began(time.Now())
	b.Host()
	b.Ended(sign, time.Now())
	b.Give()
	go func() { err <- b.Take(ctx, false) }()
	synctest.Wait()
	return err
}

// A lane goes on when the batch has none of its messages any more: by their outcome, by Keep, and with the batch's end.
func TestABatchEndsInParts(t *testing.T) {
	cfg := small()
	cfg.Order, cfg.Concurrency, cfg.BatchSize, cfg.BatchLinger = ByKey, 2, 4, 5*time.Millisecond
	bubble(t, cfg, func(r *rig) {
		o := newOwner()
		s := r.Open(o)
		push(s, "a", 0)
		push(s, "b", 1)
		push(s, "a", 2)
		r.idle("before there is enough for a batch")
		push(s, "c", 3)
		b := r.batch(0, 2, 1, 3) // a lane's together, the lanes by their oldest message
		if b.of != s || b.Owner() != o {
			r.Error("it does not know whose it is")
		}
		push(s, "a", 4)
		push(s, "b", 5)
		pass(time.Second)
		r.idle("while a batch has their lanes")

		b.Finish(b.Messages()[0], b.Messages()[2])
		r.holds(b, 2, 3)
		r.is(o, []int64{0, 1}, 1)
		pass(cfg.BatchLinger)
		other := r.batch(5) // and 4 waits behind 2
		b.Keep(1)
		r.holds(b, 2)
		if !other.Next(true, false) {
			r.Fatal("3 lingers again")
		}
		if r.holds(other, 3); other.Next(true, false) {
			r.Error("there is something beside 2 and 4")
		}
		r.is(o, []int64{0, 1, 5, 3}, 1)
		push(s, "d", 6, 7, 8, 9)
		other = r.batch(6, 7, 8, 9)
		if push(s, "e", 10, 11, 12); !b.Next(true, false) {
			r.Fatal("it does not go on")
		}
		r.holds(b, 4, 10, 11, 12)
		if b.Next(true, false) || other.Next(true, false) || !s.Empty() {
			r.Error("something is left")
		}
		r.is(o, []int64{0, 1, 5, 3, 2, 4, 10, 11, 12, 6, 7, 8, 9}, 0)
	})
}

// What was tried before goes without what is new, and what is not admitted waits for Resume.
func TestWhatABatchTakes(t *testing.T) {
	cfg := small()
	cfg.BatchSize = 10
	bubble(t, cfg, func(r *rig) {
		o := newOwner()
		o.limit, o.tried = 0, map[int64]bool{0: true, 1: true}
		s := r.Open(o)
		push(s, "", 0, 1, 2, 3, 4, 5)
		r.idle("before anything is admitted")
		o.limit = 5
		s.Resume()
		b := r.batch(0, 1)
		if !b.Next(true, false) {
			r.Fatal("it does not go on with what is new")
		}
		if r.holds(b, 2, 3, 4); b.Next(true, false) {
			r.Fatal("it goes on with what is not admitted")
		}
		r.is(o, []int64{0, 1, 2, 3, 4}, 0)
		o.limit = 6
		s.Resume()
		r.batch(5)
	})
}

// One message of a key at a time and in order, also while it fails; what has no key is on its own; all turns are used, and no more.
func TestOrderByKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		cfg.Order = ByKey
		var mu sync.Mutex
		rng := rand.New(rand.NewPCG(3, 4))
		busy, last := map[string]bool{}, map[string]int64{}
		inFlight, most := 0, 0
		attempt := func(b *Batch) Sign {
			b.Began(time.Now())
			b.Host()
			mu.Lock()
			inFlight++
			most = max(most, inFlight)
			took, fails := time.Duration(rng.IntN(50))*time.Millisecond, rng.IntN(4) == 0
			mu.Unlock()
			pass(took)
			mu.Lock()
			defer mu.Unlock()
			inFlight--
			if fails {
				return bad
			}
			return good
		}
		p := New(cfg, func(b *Batch) {
			for more := true; more; more = b.Next(true, false) {
				m := b.Messages()[0]
				name := fmt.Sprintf("%p %s", b.of, m.Key)
				if m.Key == nil {
					name = fmt.Sprintf("%p %d", b.of, m.Offset)
				}
				mu.Lock()
				if at, known := last[name]; busy[name] || known && at >= m.Offset {
					t.Errorf("%s: offset %d while or after %d", name, m.Offset, at)
				}
				busy[name], last[name] = true, m.Offset
				mu.Unlock()
				for {
					sign := attempt(b)
					if b.Ended(sign, time.Now()); sign == good {
						break
					}
					b.Give()
					pass(b.Pause(1))
					if err := b.Take(t.Context(), false); err != nil {
						t.Error(err)
					}
				}
				mu.Lock()
				busy[name] = false
				mu.Unlock()
			}
		}, func(int, error) {})
		first, second := newOwner(), newOwner()
		s, other := p.Open(first), p.Open(second)
		for o := range int64(500) {
			key, few := fmt.Sprint("k", o%20), fmt.Sprint("k", o%3)
			if o%7 == 0 {
				key, few = "", ""
			}
			push(s, key, o)
			push(other, few, o)
		}
		pass(time.Hour)
		synctest.Wait()
		if len(first.left) != 500 || len(second.left) != 500 || !s.Empty() || !other.Empty() {
			t.Errorf("%d and %d of 500 have left", len(first.left), len(second.left))
		}
		if most != cfg.Concurrency {
			t.Errorf("at most %d in flight, the concurrency is %d", most, cfg.Concurrency)
		}
		if st := p.Status(); st.Taken != 0 || st.Failing != 0 || p.retries != 0 || len(p.again) != 0 {
			t.Errorf("at the end %+v, %d retries, %d ask", st, p.retries, len(p.again))
		}
		s.Close()
		s.Wait()
	})
}

// With Close nothing starts any more: what waits leaves at once, what is behind a batch with its end, and Wait is for that.
func TestCloseDropsWhatWaits(t *testing.T) {
	for _, done := range []bool{true, false} {
		cfg := small()
		cfg.Order, cfg.Concurrency = ByKey, 1
		bubble(t, cfg, func(r *rig) {
			o := newOwner()
			s := r.Open(o)
			push(s, "a", 0)
			push(s, "b", 1, 2)
			push(s, "a", 3)
			b := r.batch(0)
			s.Close()
			r.is(o, []int64{1, 2}, 1)
			push(s, "a", 4)
			push(s, "c", 5)
			s.Resume()
			r.is(o, []int64{1, 2, 4, 5}, 1)
			waited := make(chan struct{})
			go func() { defer close(waited); s.Wait() }()
			synctest.Wait()
			select {
			case <-waited:
				r.Fatal("nobody waits for what is under way")
			default:
			}
			if b.Next(done, false) {
				r.Fatalf("done %t: %v starts", done, offsetsOf(b))
			}
			<-waited
			r.is(o, []int64{1, 2, 4, 5, 0, 3}, 0)
		})
	}
}

// Where an outcome is not on record yet, Next hands on nothing but a batch: the turn stays until Give, and Wait waits until Recorded.
func TestATurnIsKeptOverAnUnrecordedNext(t *testing.T) {
	cfg := small()
	cfg.Concurrency = 1
	bubble(t, cfg, func(r *rig) {
		o := newOwner()
		s, other := r.Open(o), r.Open(newOwner())
		push(s, "", 0)
		b := r.batch(0)
		push(other, "", 10)
		if !b.Next(true, true) {
			r.Fatal("it does not go on with another partition")
		}
		r.holds(b, 10)
		closed := make(chan struct{})
		go func() { defer close(closed); s.Close(); s.Wait() }()
		synctest.Wait()
		select {
		case <-closed:
			r.Fatal("what is not on record is not waited for")
		default:
		}
		s.Recorded()
		<-closed
		if b.Next(true, true) {
			r.Fatal("it goes on with nothing")
		}
		push(other, "", 11)
		r.idle("while the turn is kept")
		r.is(o, []int64{0}, 1)
		other.Recorded()
		b.Give()
		b = r.batch(11)

		// who asks for another attempt goes first: the turn is not used for a batch before that
		push(other, "", 12, 13)
		third := r.Open(newOwner())
		push(third, "", 20)
		again := r.fail(r.Context(), b, bad)
		hold := r.batch(20)
		push(third, "", 21)
		if hold.Next(true, true) {
			r.Fatal("it goes on although a retry asks")
		}
		r.idle("while the turn is kept")
		select {
		case <-again:
			r.Fatal("the retry has the turn that is kept")
		default:
		}
		third.Recorded()
		hold.Give()
		if err := <-again; err != nil {
			r.Error(err)
		}
		r.idle("while the retry has the turn")
	})
}

// Retries get their turns first, but not more than half: they may hang. Who gives up asking leaves nothing behind.
func TestRetriesLeaveHalf(t *testing.T) {
	cfg := small()
	cfg.Order, cfg.Concurrency = None, 4
	bubble(t, cfg, func(r *rig) {
		s := r.Open(newOwner())
		for o := range int64(50) {
			push(s, "", o)
		}
		ctx, cancel := context.WithCancelCause(r.Context())
		var asking []chan error
		granted := func() (n int) {
			synctest.Wait()
			for _, a := range asking {
				n += len(a)
			}
			return n
		}
		var first []*Batch
		for o := range int64(4) {
			first = append(first, r.batch(o))
		}
		for i, b := range first { // each gives the turn back, and then asks
			asking = append(asking, r.fail(ctx, b, bad))
			if want := min(i, 2); granted() != want {
				r.Fatalf("%d of %d retries have a turn, want %d", granted(), i+1, want)
			}
		}
		fresh := []*Batch{r.batch(4), r.batch(5)}
		for o := int64(6); o < 20; o += 2 { // those that hang leave the others theirs
			for i, b := range fresh {
				if !b.Next(true, false) {
					r.Fatal("it does not go on")
				}
				r.holds(b, o+int64(i))
			}
		}
		r.idle("with half of the turns taken by retries")
		if granted() != 2 || r.retries != 2 || r.Status().Failing != 4 {
			r.Errorf("%d retries have a turn, %d fail", granted(), r.Status().Failing)
		}
		first[0].Next(true, false) // the retry that waits for the longest gets it
		if granted() != 3 || r.retries != 2 || r.Status().Failing != 3 {
			r.Errorf("%d retries have had a turn, %d fail", granted(), r.Status().Failing)
		}
		why := errors.New("enough")
		cancel(why)
		if synctest.Wait(); len(r.again) != 0 {
			r.Errorf("%d ask after the end", len(r.again))
		}
		if err := <-asking[3]; !errors.Is(err, why) {
			r.Errorf("who waited hears %v", err)
		}
		if r.Status().Taken != 4 || r.retries != 2 {
			r.Errorf("%d turns are taken, %d by retries", r.Status().Taken, r.retries)
		}
	})
}

// While the service is down the oldest message has one attempt an interval, and nobody else; with an answer all go on.
func TestTheOldestProbes(t *testing.T) {
	cfg := small()
	cfg.Order = None
	bubble(t, cfg, func(r *rig) {
		s := r.Open(newOwner())
		push(s, "", 0, 1, 2)
		asking := map[*Batch]chan error{}
		var list []*Batch
		for o := range int64(3) {
			b := r.batch(o)
			b.Began(time.Now())
			list = append(list, b)
			pass(time.Millisecond)
		}
		for _, b := range slices.Backward(list) {
			asking[b] = r.fail(r.Context(), b, refused)
		}
		push(s, "", 3)
		oldest := list[0]
		for range 3 {
			pass(cfg.RetryInterval - 10*time.Millisecond)
			if r.idle("before the interval is over"); r.Status().Taken != 0 || r.Status().Up || !oldest.Down() {
				r.Fatalf("%+v", r.Status())
			}
			pass(20 * time.Millisecond)
			if r.Status().Taken != 1 || len(asking[oldest]) != 1 || !oldest.Goes() || list[1].Goes() {
				r.Fatalf("%+v: the oldest has no turn, or not alone", r.Status())
			}
			<-asking[oldest]
			asking[oldest] = r.fail(r.Context(), oldest, refused)
		}
		pass(cfg.RetryInterval + 10*time.Millisecond)
		<-asking[oldest]
		oldest.Began(time.Now())
		oldest.Ended(good, time.Now())
		r.batch(3)
		if n := len(asking[list[1]]) + len(asking[list[2]]); n != 2 || r.Status().Taken != 4 || !r.Status().Up {
			r.Errorf("after an answer %d of 2 go on, %+v", n, r.Status())
		}
	})
}
