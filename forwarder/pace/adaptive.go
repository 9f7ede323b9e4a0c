package pace

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of the limit of Config.Adaptive, in attempts under way, and where it begins.
const (
	AdaptiveMost  = 256
	AdaptiveFirst = 16
	adaptiveLeast = 1
)

// How carefully it moves; docs/decisions/0008-adaptive-concurrency.md has the measurements.
const (
	worthwhile = 0.3                   // the part of its share that more has to yield
	surely     = 2                     // standard errors between a yield and worthwhile before the limit moves
	certainly  = 4                     // the same where only the quickest stints say so
	exact      = 0.15                  // the standard error that the size of a step aims at
	fading     = 0.6                   // what a round's times count for in the next
	stepMost   = math.Ln2              // twice as many
	stepLeast  = 0.15                  // one more of six
	stintTimes = 2                     // a stint is no shorter than so many mean times,
	stintLeast = 10 * time.Millisecond // than this,
	stintFew   = 40                    // and than so many attempts
	refusals   = 5                     // so many, and a tenth of the answers, cut the limit
	capped     = 2 * time.Second       // how long after a cut nothing above it is tried
	believed   = 100                   // attempts that outweigh what is remembered of their variance
)

// adaptive finds how many requests may be in flight at once, and follows the service when that changes.
//
// In stints too short to hurt it allows some more and some fewer than seem right, and compares the mean times. By
// Little's law the rate is what is in flight over the mean time, so the times tell what more would yield: 1 its whole
// share, 0 that it only waits inside the service. Only attempts that filled the limit count: without load it stands
// still. Steps begin with a doubling, and shrink to what the scatter of the times can still tell apart.
type adaptive struct {
	allowed atomic.Int32 // what limit says

	mu       sync.Mutex
	levels   [3]int   // in flight: fewer, right, more
	times    [3]times // of each level
	quickest [3]times // of each level's quickest stint in this round
	stint    int      // index of rota
	since    time.Time
	own      times   // of the stint's level, since it began
	step     float64 // the natural logarithm of more/right and right/fewer
	doubt    float64 // the smallest standard error of this round
	scatter  float64 // relative variance of one attempt's time, remembered: a queue in the service hides it

	answered, refused int // since the last cut, fading
	cut               time.Time
	cap               int // nothing above it is tried
}

const (
	fewer = iota
	right
	more
)

// rota is a round: of what is compared, one goes before and one after, so that a change of the service touches both.
var rota = [...]int{right, more, right, more, right, fewer}

func newAdaptive() *adaptive {
	a := &adaptive{step: stepMost, cap: AdaptiveMost, scatter: 0.1, doubt: math.Inf(1)}
	a.levels[right] = AdaptiveFirst
	a.spread()
	a.allowed.Store(AdaptiveFirst)
	return a
}

// limit is how many requests may be in flight now.
func (a *adaptive) limit() int { return int(a.allowed.Load()) }

// learn takes an attempt: its time, how many were in flight when it began (with it), and whether the service said that
// it is too much (busy, 503, no answer in time). It returns the limit from now on.
func (a *adaptive) learn(now time.Time, took time.Duration, inFlight int, overload bool) (limit int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.since.IsZero() {
		a.since = now
	}
	if overload {
		a.refuse(now, now.Add(-took), inFlight)
		return a.limit()
	}
	a.answered++
	level := a.level(inFlight)
	if level < 0 {
		return a.limit()
	}
	a.times[level].add(float64(took))
	if a.levels[level] == a.levels[rota[a.stint]] {
		a.own.add(float64(took))
	}
	if a.own.n >= stintFew && now.Sub(a.since) >= max(stintLeast, time.Duration(stintTimes*a.own.mean())) {
		a.endStint(now)
	}
	return a.limit()
}

// level is the one that an attempt filled, -1 none.
func (a *adaptive) level(inFlight int) int {
	switch {
	case inFlight >= a.levels[more] && a.levels[more] > a.levels[right]:
		return more
	case inFlight >= a.levels[right]:
		return right
	case inFlight >= a.levels[fewer]:
		return fewer
	}
	return -1
}

func (a *adaptive) endStint(now time.Time) {
	if a.cap < AdaptiveMost && now.Sub(a.cut) > capped {
		a.cap = AdaptiveMost
		a.spread()
	}
	level := rota[a.stint]
	if quickest := &a.quickest[level]; quickest.n == 0 || a.own.mean() < quickest.mean() {
		*quickest = a.own
	}
	a.stint = (a.stint + 1) % len(rota)
	switch {
	case level == more && a.pays():
		a.move(more)
	case level == fewer && a.suffices():
		a.move(fewer)
	case level == fewer:
		a.stay()
	}
	a.answered, a.refused = a.answered/2, a.refused/2
	a.startStint(now)
}

// startStint starts the one that is due.
func (a *adaptive) startStint(now time.Time) {
	a.since, a.own = now, times{}
	a.allowed.Store(int32(a.levels[rota[a.stint]]))
}

// pays tells whether more is worth it. What stalls the service or this process for a moment makes a whole stint slow, and
// so says nothing of its level: the quickest stints have to agree.
func (a *adaptive) pays() bool {
	yield, err := a.yield(right, more)
	least, _ := a.leastYield(right, more)
	return yield-surely*err > worthwhile && least > worthwhile
}

// suffices tells whether fewer are enough: for certain by all stints, or by the quickest alone with far more certainty.
func (a *adaptive) suffices() bool {
	yield, err := a.yield(fewer, right)
	least, leastErr := a.leastYield(fewer, right)
	return yield+surely*err < worthwhile && least < worthwhile || least+certainly*leastErr < worthwhile
}

// yield is how much of its share the step from one level to the next brings, and the standard error of that.
func (a *adaptive) yield(from, to int) (yield, err float64) {
	yield, share, known := a.compare(&a.times, from, to)
	if !known {
		return yield, math.Inf(1)
	}
	f, t := &a.times[from], &a.times[to]
	seen := (a.scatter*believed + f.variance()*f.n + t.variance()*t.n) / (believed + f.n + t.n)
	a.scatter = max(seen, a.scatter*0.99)
	err = math.Sqrt(a.scatter*(1/f.n+1/t.n)) / share
	a.doubt = min(a.doubt, err)
	return yield, err
}

// leastYield is the same by the quickest stint of each level in this round.
func (a *adaptive) leastYield(from, to int) (yield, err float64) {
	yield, share, known := a.compare(&a.quickest, from, to)
	if !known {
		return yield, math.Inf(1)
	}
	f, t := &a.quickest[from], &a.quickest[to]
	return yield, math.Sqrt(f.variance()/f.n+t.variance()/t.n) / share
}

// compare tells what the mean times of two levels say of the step between them: its yield, and its share, which is the natural
// logarithm of it. Where too little is known the yield is one that moves nothing.
func (a *adaptive) compare(of *[3]times, from, to int) (yield, share float64, known bool) {
	f, t := &of[from], &of[to]
	if a.levels[from] == a.levels[to] || f.n < 2 || t.n < 2 {
		return worthwhile, 0, false
	}
	share = math.Log(float64(a.levels[to]) / float64(a.levels[from]))
	return 1 - math.Log(t.mean()/f.mean())/share, share, true
}

// move makes another level the right one.
func (a *adaptive) move(to int) {
	a.levels[right] = a.levels[to]
	a.restart()
	if to == fewer {
		a.stint = len(rota) - 2 // whether fewer yet is better is known soonest
	}
}

// restart begins a round around another level, of which nothing is known yet.
func (a *adaptive) restart() {
	a.times, a.quickest, a.doubt = [3]times{}, [3]times{}, math.Inf(1)
	a.spread()
	a.stint = 0
}

// stay ends a round that moved nothing.
func (a *adaptive) stay() {
	if !math.IsInf(a.doubt, 1) {
		a.step = min(stepMost, max(stepLeast, a.step/1.5, a.step*min(1.5, a.doubt/exact)))
	}
	a.quickest, a.doubt = [3]times{}, math.Inf(1)
	before := a.levels
	a.spread()
	for i := range a.times {
		if a.levels[i] == before[i] {
			a.times[i].fade()
		} else {
			a.times[i] = times{}
		}
	}
}

// spread sets the levels that the right one is compared with, each at least one away where there is room.
func (a *adaptive) spread() {
	r := a.levels[right]
	factor := math.Exp(a.step)
	a.levels[fewer] = max(adaptiveLeast, min(r-1, int(math.Round(float64(r)/factor))))
	a.levels[more] = max(r, min(AdaptiveMost, a.cap, max(r+1, int(math.Round(float64(r)*factor)))))
}

// refuse takes a refusal. A service that refuses a few now and then, whatever the load, is not cut.
func (a *adaptive) refuse(now, began time.Time, inFlight int) {
	if began.Before(a.cut) {
		return // it was cut for that
	}
	a.refused++
	if a.refused < refusals || a.refused*10 < a.answered {
		return
	}
	a.answered, a.refused, a.cut = 0, 0, now
	a.cap = max(adaptiveLeast, inFlight-1-inFlight/16)
	a.levels[right] = min(a.levels[right], a.cap)
	a.step = stepLeast
	a.restart()
	a.startStint(now)
}

// times sums up how long attempts took.
type times struct{ n, sum, squares float64 }

func (t *times) add(took float64) {
	took = max(1, took)
	t.n++
	t.sum += took
	t.squares += took * took
}

func (t *times) fade() { t.n, t.sum, t.squares = t.n*fading, t.sum*fading, t.squares*fading }

func (t *times) mean() float64 { return t.sum / t.n }

// variance is relative to the mean.
func (t *times) variance() float64 {
	m := t.mean()
	return max(0, t.squares/t.n/(m*m)-1)
}
