package pace

import (
	"context"
	"time"
)

// Turn is the right of a batch to make an attempt, and what is known of its attempts so far. A goroutine keeps it from batch to
// batch, gives it back when it has to wait, and takes one again. Guarded by Pace.mu while nobody delivers it.
type Turn struct {
	pace    *Pace
	kind    kind
	since   time.Time     // of the first attempt of these messages
	began   time.Time     // of the newest one
	before  time.Time     // of the one before; zero: there was none
	host    int           // that the newest one went to, -1 before the first
	probe   *host         // that the next one probes; nil: none
	hops    int           // hosts tried without a pause
	among   int           // attempts that were under way when the newest one began, with it
	failing bool          // counted in Pace.failing
	blocked bool          // its messages may be why the service seems down
	asks    bool          // it wants a turn for a question
	granted chan struct{} // closed when it has the turn that it asked for
}

// kind is what a Turn has of Config.Concurrency.
type kind uint8

const (
	none  kind = iota
	first      // given to a lane
	retry      // asked for
)

// renew forgets the attempts at the messages before.
func (t *Turn) renew() {
	if t.failing {
		t.pace.failing--
	}
	*t = Turn{pace: t.pace, kind: t.kind, host: -1}
}

// Goes tells whether an attempt may begin: there is a turn, and the service does not rest, or this one probes it.
func (t *Turn) Goes() bool { return t.kind != none && (t.probe != nil || !t.pace.hosts.rests()) }

// Take waits until Goes. blocked: the messages may be why the service seems down. An error is why ctx has ended.
func (t *Turn) Take(ctx context.Context, blocked bool) error {
	for !t.Goes() {
		t.Give()
		if err := t.Turned(ctx, blocked); err != nil {
			return err
		}
	}
	return nil
}

// Turned waits for a turn where there is none; it may be used although the service has begun to rest since.
func (t *Turn) Turned(ctx context.Context, blocked bool) error {
	if t.kind != none {
		return nil
	}
	p := t.pace
	p.mu.Lock()
	t.blocked, t.granted = blocked, make(chan struct{})
	p.again = append(p.again, t)
	p.dispatch()
	p.mu.Unlock()
	select {
	case <-t.granted:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	p.forget(t)
	p.mu.Unlock()
	t.Give() // it may have been granted in the meantime
	return context.Cause(ctx)
}

// Give takes the turn back, if there is one.
func (t *Turn) Give() {
	p := t.pace
	p.mu.Lock()
	defer p.mu.Unlock()
	if !t.failing && !t.since.IsZero() {
		t.failing = true
		p.failing++
	}
	if p.reclaim(t) {
		p.taken--
		p.dispatch()
	}
}

// Began notes the beginning of an attempt.
func (t *Turn) Began(now time.Time) {
	t.before, t.began, t.among = t.began, now, t.pace.limiter.enter()
	if t.since.IsZero() {
		t.since = now
	}
}

// Delayed begins the attempt anew: nothing has been sent until now.
func (t *Turn) Delayed(now time.Time) { t.began = now }

// Host chooses where the attempt goes.
func (t *Turn) Host() int {
	t.host = t.pace.hosts.pick(t, len(t.pace.hosts.list) > 1 && t.pace.few())
	return t.host
}

// Rest is how long nobody may send yet, not even a probe, because the service asked for that.
func (t *Turn) Rest() time.Duration { return t.pace.hosts.heldOff(t) }

// Elsewhere decides whether the next attempt goes to another host at once: where one is up that this round of attempts has not
// come to, and nothing was sent, or this one was only probed.
func (t *Turn) Elsewhere(s Sign) bool {
	hosts := &t.pace.hosts
	if s.Kind != Fault || !s.Unsent && t.probe == nil || t.hops >= len(hosts.list)-1 || !hosts.elsewhere(t) {
		t.hops = 0
		return false
	}
	t.hops++
	return true
}

// Ended takes what an attempt tells of the service. The turn stays, so that a pause which the service has asked for holds before
// anybody gets it.
func (t *Turn) Ended(s Sign, now time.Time) {
	t.pace.hosts.heed(t, s, now)
	t.pace.limiter.leave(t, s, now)
	t.probe = nil
}

// Down tells whether all hosts of the service are.
func (t *Turn) Down() bool { return t.pace.hosts.isDown() }

// Pause is how long to wait after attempt number n; after 0, how long a message waits that asks for a probe: these set the pace
// where the service is down, so it asks a little before.
func (t *Turn) Pause(n int) time.Duration {
	if interval := t.pace.cfg.RetryInterval; n == 0 {
		return interval - min(interval/20, 10*time.Millisecond)
	}
	return t.pace.cfg.backoff(n)
}

// Sign is what an attempt tells of the service, whatever of the message.
type Sign struct {
	Kind       Kind
	Answered   bool          // a status has come
	Unsent     bool          // nothing has reached the service
	Spared     bool          // it may be the message, which its next attempt tells: a fault of a host only where that was probed
	Absent     bool          // nobody listens there
	TooMuch    bool          // it could do no more: busy, 503, none in time
	RetryAfter time.Duration // it asked for this pause; 0: it did not
	Why        string        // a clause for people
}

// Kind is how an attempt ended for the service.
type Kind uint8

// The kinds.
const (
	Answered  Kind = iota // it is there, whatever it said
	Delivered             // it has taken the message
	Busy                  // it asks to slow down
	Fault                 // it is not there, or cannot work
	Silent                // no answer in time: its fault, or the message's
	Cancelled             // nobody waited for the answer
)
