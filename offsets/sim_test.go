package offsets

import (
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/kpush/kpush/volume/sim"
)

var (
	simStates = flag.Int("states", 30000, "crash states that TestSimulated looks at")
	simSeed   = flag.Uint64("seed", 0, "first seed of TestSimulated")
)

// msg is what the world knows of one message, whatever the file knows.
type msg struct {
	done   bool // Done was called: the fact is true
	acked  bool // Done returned nil
	safe   bool // a synced frame says so
	sent   int  // attempts that Intent let go
	number int  // attempts, those whose Intent failed included
	doubt  bool // the last of them has no outcome, or one in doubt
	open   bool // the last of them is under way
	unsure bool // that it has one could not be recorded
}

// part is one partition as the world knows it, in its newest lineage.
type part struct {
	key      Key
	lineage  uint64
	maybe    map[uint64]bool // lineages whose Assign failed: on disk, or not
	start    int64
	top      int64 // the highest position ever
	msgs     map[int64]*msg
	position int64
	ever     map[int64]bool // had an outcome, in whatever lineage
	had      Ranges         // that the lineage began with
	ceiling  int64          // that the last recovery found
	p        *Partition
	assigned bool // Assign returned for this lineage
	pending  []pendingDone
}

type pendingDone struct {
	seq    uint64
	offset int64
}

// world runs a Store on a simDisk through many lives, and knows the truth.
type world struct {
	t      testing.TB
	seed   uint64
	rng    *rand.Rand
	disk   *sim.Disk
	store  *Store
	clock  time.Time
	boot   int // of this life
	boots  int // ever
	parts  []*part
	opts   Options
	held   string // Edition of the life before, which what it left always holds
	states int
	trace  []string
	lives  int
}

func newWorld(t testing.TB, seed uint64) *world {
	w := &world{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), clock: time.Unix(1_800_000_000, 0)}
	w.opts = Options{
		Sync: []Sync{{}, {Window: 1, Unsynced: 3}, {Window: time.Hour, Unsynced: 8}}[seed%3],
		Now:  func() time.Time { return w.clock }, Log: slog.New(slog.DiscardHandler),
		half: 5 * sim.Sector, random: w.rng.Uint64, idle: true, boot: "boot 0",
	}
	first, size := newFile(w.opts)
	w.disk = sim.New(w.rng, append(first, make([]byte, int(size)-len(first))...))
	for i := range 2 {
		w.parts = append(w.parts, &part{key: Key{"c", "g", "t", "i", int32(i)}, msgs: map[int64]*msg{}, maybe: map[uint64]bool{}, ever: map[int64]bool{}})
	}
	return w
}

func (w *world) say(format string, args ...any) {
	for i, a := range args {
		if err, ok := a.(error); ok && len(err.Error()) > 20 {
			args[i] = "error"
		}
	}
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *world) fatal(format string, args ...any) {
	w.t.Helper()
	for _, line := range w.trace[max(0, len(w.trace)-60):] {
		w.t.Log(line)
	}
	w.t.Fatalf("seed %d, life %d: %s", w.seed, w.lives, fmt.Sprintf(format, args...))
}

// open starts a life on the disk as it is, without faults.
func (w *world) open() {
	w.opts.boot = fmt.Sprint("boot ", w.boot)
	w.disk.Fault = nil
	s, err := recoverFrom(w.disk, "offsets", w.opts)
	if err != nil {
		w.fatal("open: %v", err)
	}
	w.store = s
	w.lives++
	if w.held != "" && !s.Holds(w.held) {
		w.fatal("the file that held %s is taken for an older copy: %+v", w.held, s.past)
	}
}

// live does n random things, each of which may meet a fault, until the power is off.
func (w *world) live(n int, faults bool) {
	if faults {
		at, kind, long := w.disk.Steps+w.rng.IntN(2*n), sim.Fault(w.rng.IntN(int(sim.Kinds))), 1+w.rng.IntN(3)
		w.disk.Fault = func(step int) sim.Fault {
			if step == at || kind >= sim.FailLost && kind <= sim.Full && step > at && step < at+long {
				return kind
			}
			return sim.None
		}
	}
	for range n {
		w.clock = w.clock.Add(time.Duration(w.rng.IntN(700)) * time.Millisecond)
		w.step(w.parts[w.rng.IntN(len(w.parts))])
		w.held = w.store.Edition()
		for _, p := range w.parts {
			w.settleSafe(p)
		}
		if w.disk.Off {
			return
		}
	}
}

// settleSafe marks what the file itself counts as synced: none of it may ever be lost.
func (w *world) settleSafe(p *part) {
	p.pending = slices.DeleteFunc(p.pending, func(d pendingDone) bool {
		if d.seq > w.store.backlog.synced {
			return false
		}
		p.msgs[d.offset].safe = true
		return true
	})
}

func (w *world) step(p *part) {
	if p.p == nil {
		w.assign(p)
		return
	}
	switch w.rng.IntN(24) {
	case 0:
		w.say("tick: %v", w.store.tick())
	case 1:
		p.p.Committed(p.position)
	case 2:
		if p.p.Outstanding() == 0 {
			for !exists(p.position) {
				p.position++
			}
			p.top = max(p.top, p.position)
			p.p.Advance(p.position)
		}
	case 3:
		if w.rng.IntN(3) == 0 {
			w.say("release %d", p.key.Partition)
			p.p.Release()
			p.p = nil
		}
	case 4, 5, 6, 7:
		if p.p.Outstanding() < 6 {
			w.fetch(p)
		}
	default:
		w.work(p)
	}
}

// restart starts the machine anew.
func (w *world) restart() {
	w.boots++
	w.boot = w.boots
}

// exists says which offsets hold a message: the rest are compacted away, or markers.
func exists(o int64) bool { return o%7 != 3 && o/64%4 != 1 }

func (w *world) fetch(p *part) {
	o := p.position
	for !exists(o) {
		o++
	}
	p.position = o + 1
	p.top = max(p.top, p.position)
	m := p.msgs[o]
	if deliver := p.p.Fetched(o); !deliver && (m == nil || !m.done) {
		w.fatal("offset %d of %d was filtered and never done", o, p.key.Partition)
	} else if deliver && m != nil && m.acked {
		w.fatal("offset %d of %d is done and comes again", o, p.key.Partition)
	} else if deliver && m == nil {
		p.msgs[o] = &msg{}
	}
	w.say("fetch %d:%d", p.key.Partition, o)
}

// work moves one outstanding message on.
func (w *world) work(p *part) {
	rows := p.p.slot.rows[p.p.slot.head:]
	if len(rows) == 0 {
		return
	}
	if w.rng.IntN(8) == 0 {
		w.together(p, rows)
		return
	}
	r := rows[w.rng.IntN(len(rows))]
	if r.progress == recorded {
		return
	}
	o, m := r.offset, p.msgs[r.offset]
	if m.done || m.sent > 0 && w.rng.IntN(2) == 0 {
		m.done, p.ever[o] = true, true
		if q := w.parts[w.rng.IntN(len(w.parts))]; w.rng.IntN(2) == 0 && w.doneThen(p, o, q) {
			return
		}
		w.concluded(p, o, p.p.Done(o))
		return
	}
	if m.open && w.rng.IntN(2) == 0 {
		a := Attempt{Offset: o, Number: m.number, Faults: 1, InDoubt: w.rng.IntN(2) == 0}
		w.settled(p, p.p.Settled(a), a)
		return
	}
	w.begun(p, o, p.p.Intent(w.attempt(p, o)))
}

// together moves all that can go the same way on in one call.
func (w *world) together(p *part, rows []row) {
	var fresh, open, done []int64
	for _, r := range rows {
		switch m := p.msgs[r.offset]; {
		case r.progress == recorded:
		case m.done:
			done = append(done, r.offset)
		case m.open:
			open = append(open, r.offset)
		default:
			fresh = append(fresh, r.offset)
		}
	}
	w.rng.Shuffle(len(fresh), func(i, k int) { fresh[i], fresh[k] = fresh[k], fresh[i] })
	var all []Attempt
	what := w.rng.IntN(4) // outcomes, intents, or both; 0: the ends of attempts
	if what == 0 {
		for _, o := range open {
			all = append(all, Attempt{Offset: o, Number: p.msgs[o].number, Faults: 1, InDoubt: w.rng.IntN(2) == 0})
		}
		w.settled(p, p.p.Settled(all...), all...)
		return
	}
	if what&1 == 0 {
		done, open = nil, nil
	}
	if what&2 == 0 {
		fresh = nil
	}
	for _, o := range open {
		p.msgs[o].done, p.ever[o] = true, true
	}
	done = append(done, open...)
	for _, o := range fresh {
		all = append(all, w.attempt(p, o))
	}
	recorded, announced := p.p.Write(done, p.p, all)
	for _, o := range done {
		w.concluded(p, o, recorded)
	}
	for _, o := range fresh {
		w.begun(p, o, announced)
	}
}

// settled notes what became of a Settled.
func (w *world) settled(p *part, err error, all ...Attempt) {
	for _, a := range all {
		m := p.msgs[a.Offset]
		m.unsure, m.doubt, m.open = err != nil, a.InDoubt, false
		w.say("settled %d:%d doubt %v: %v", p.key.Partition, a.Offset, a.InDoubt, err)
	}
}

// doneThen ends the message o of p and begins one of q in the same write, if q has one to begin.
func (w *world) doneThen(p *part, o int64, q *part) bool {
	if q.p == nil {
		return false
	}
	for _, r := range q.p.slot.rows[q.p.slot.head:] {
		if m := q.msgs[r.offset]; r.progress == outstanding && !m.done && !m.open {
			done, intent := p.p.Write([]int64{o}, q.p, []Attempt{w.attempt(q, r.offset)})
			w.concluded(p, o, done)
			w.begun(q, r.offset, intent)
			return true
		}
	}
	return false
}

// concluded notes what became of a Done.
func (w *world) concluded(p *part, o int64, err error) {
	w.say("done %d:%d: %v (seq %d, synced %d)", p.key.Partition, o, err, w.store.backlog.seq, w.store.backlog.synced)
	if err != nil {
		return
	}
	p.msgs[o].acked = true
	p.pending = append(p.pending, pendingDone{w.store.backlog.seq, o})
	if w.opts.Sync.Window == 0 && w.store.backlog.synced < w.store.backlog.seq {
		w.fatal("done %d returned before it was on disk", o)
	}
}

// attempt is the next one at a message.
func (w *world) attempt(p *part, o int64) Attempt {
	before, m := p.p.Earlier(o), p.msgs[o]
	w.wantFlag(p, o, before.InDoubt)
	m.number = max(m.number, before.Number) + 1
	return Attempt{Offset: o, Number: m.number}
}

// begun notes what became of an Intent.
func (w *world) begun(p *part, o int64, err error) {
	w.say("intent %d:%d: %v", p.key.Partition, o, err)
	if m := p.msgs[o]; err == nil {
		m.sent, m.doubt, m.open = m.number, true, true
	}
}

// wantFlag checks the flag of a message about to be sent again.
func (w *world) wantFlag(p *part, o int64, flagged bool) {
	if m := p.msgs[o]; m.sent > 0 && m.doubt && !flagged {
		w.fatal("offset %d of %d was sent and is not in doubt", o, p.key.Partition)
	}
}

// assign begins from what the file says, or in a new lineage.
func (w *world) assign(p *part) {
	saved, ok := w.store.Saved(p.key)
	st := Start{Next: saved.Next, Done: saved.Done, Attempts: saved.Attempts, Ceiling: saved.Ceiling, Lineage: saved.Lineage, Committed: saved.Committed, Had: saved.Had}
	if !ok || w.rng.IntN(12) == 0 {
		st = Start{Next: int64(w.rng.IntN(50)), Lineage: w.rng.Uint64(), Committed: -1, Had: saved.Had.Union(saved.Done)}
		p.maybe[st.Lineage] = true
	}
	h, err := w.store.Assign(p.key, st)
	w.say("assign %d next %d done %s lineage %x: %v", p.key.Partition, st.Next, st.Done, st.Lineage, err)
	if err != nil {
		return
	}
	if p.lineage != st.Lineage {
		w.rewind(p, st.Lineage, st.Next)
		p.had = st.Had
	}
	p.p, p.assigned = h, true
	p.position, _ = h.Progress()
	if w.store.backlog.synced < w.store.backlog.seq {
		w.fatal("assign returned before it was on disk")
	}
}

func (w *world) rewind(p *part, lineage uint64, start int64) {
	p.lineage, p.start, p.top = lineage, start, start
	clear(p.maybe)
	p.msgs, p.pending = map[int64]*msg{}, nil
}

// check compares what a recovered file says with the truth. Lost power may cost what was not synced; otherwise nothing is
// lost; and without a power cut nothing but intents is in doubt, so no ceiling appears.
func (w *world) check(s *Store, power, exact bool) {
	w.states++
	for _, p := range w.parts {
		saved, ok := s.Saved(p.key)
		w.checkHad(p, saved)
		if !ok || saved.Lineage != p.lineage {
			if p.assigned && (!ok || !p.maybe[saved.Lineage]) {
				w.fatal("the lineage %x of %d is lost: %+v", p.lineage, p.key.Partition, saved)
			}
			continue // the new lineage of an Assign that failed, or nothing yet
		}
		if exact && saved.Ceiling != 0 && saved.Ceiling != p.ceiling {
			w.fatal("a ceiling of %d without a power cut", saved.Ceiling)
		}
		known := attempts(saved)
		for o, m := range p.msgs {
			finished := o < saved.Next || saved.Done.Contains(o)
			a := known[o]
			flagged := a.InDoubt || o < saved.Ceiling
			switch {
			case finished && !m.done:
				w.fatal("false fact: %d of %d is not done; next %d done %s", o, p.key.Partition, saved.Next, saved.Done)
			case m.safe && !finished:
				w.fatal("lost: %d of %d was on disk as done; next %d done %s", o, p.key.Partition, saved.Next, saved.Done)
			case !power && m.acked && !finished:
				w.fatal("kill -9 lost: %d of %d was done; next %d done %s", o, p.key.Partition, saved.Next, saved.Done)
			case finished:
			case m.sent > 0 && m.doubt && !flagged:
				w.fatal("%d of %d was sent and is not in doubt: %+v", o, p.key.Partition, saved)
			case !power && a.Number < m.sent:
				w.fatal("%d of %d: kill -9 lost attempts: %d of %d", o, p.key.Partition, a.Number, m.sent)
			case !power && flagged && !m.doubt && !m.unsure && a.Number == m.sent && o >= saved.Ceiling:
				w.fatal("%d of %d is in doubt without a reason: %+v", o, p.key.Partition, a)
			case m.number == 0 && a.Number > 0:
				w.fatal("%d of %d was never tried: %+v", o, p.key.Partition, a)
			}
		}
		if saved.Next > max(p.top, p.start) {
			w.fatal("next %d is beyond %d, the last offset of %d", saved.Next, p.top, p.key.Partition)
		}
	}
}

// checkHad: what a lineage has begun with is never lost, and nothing is said to be finished that never was.
func (w *world) checkHad(p *part, saved Saved) {
	if saved.Lineage == p.lineage && saved.Had.Union(p.had).String() != saved.Had.String() {
		w.fatal("%d was begun with %s finished before, and the file says %s", p.key.Partition, p.had, saved.Had)
	}
	for _, r := range saved.Had {
		for o := r.From; o < r.To; o++ {
			if exists(o) && !p.ever[o] {
				w.fatal("false fact: %d of %d was never finished; %s", o, p.key.Partition, saved.Had)
			}
		}
	}
}

// survive crashes now, looks at some of the states that the disk may be in, with crashes in the recovery from them, and goes
// on from the last one.
func (w *world) survive(power bool, images int) {
	if power {
		w.restart()
	}
	w.last(power)
	w.say("crash, power %v", power)
	before, boot := w.disk, w.boot
	for range images {
		w.boot, w.disk = boot, before.After(power)
		cut := power
		for range w.rng.IntN(3) {
			at, kind := w.rng.IntN(5), sim.PowerLost+sim.Fault(w.rng.IntN(3))
			w.disk.Fault = func(step int) sim.Fault {
				if step == at {
					return kind
				}
				return sim.None
			}
			w.opts.boot = fmt.Sprint("boot ", w.boot)
			if s, err := recoverFrom(w.disk, "offsets", w.opts); err == nil {
				w.check(s, cut, false)
			}
			goes := w.rng.IntN(2) == 0 // the power, not only the process
			if w.disk = w.disk.After(goes); goes {
				w.restart()
				cut = true
			}
		}
		w.open()
		w.check(w.store, cut, !cut)
	}
	w.afterCrash()
}

// last is what a process may still do in the moment before the crash.
func (w *world) last(power bool) {
	switch w.rng.IntN(4) {
	case 0:
		for _, p := range w.parts {
			if p.p != nil {
				p.p.Release()
			}
		}
	case 1:
		if power {
			w.say("close: %v", w.store.Close())
		}
	}
}

// afterCrash forgets what the crash took, and holds the file to what it knows now.
func (w *world) afterCrash() {
	for _, p := range w.parts {
		p.p, p.pending = nil, nil
		saved, ok := w.store.Saved(p.key)
		if !ok || saved.Lineage != p.lineage {
			continue
		}
		p.ceiling = saved.Ceiling
		known := attempts(saved)
		for o, m := range p.msgs {
			m.safe = o < saved.Next || saved.Done.Contains(o)
			m.done, m.acked = m.safe, m.safe
			if a := known[o]; !m.safe {
				m.sent, m.number, m.doubt, m.open = a.Number, a.Number, a.InDoubt || o < saved.Ceiling, false
			}
		}
	}
}

func attempts(saved Saved) map[int64]Attempt {
	known := make(map[int64]Attempt)
	for _, a := range saved.Attempts {
		known[a.Offset] = a
	}
	return known
}

// TestSimulated: O2. No crash, wherever it falls and whatever the disk made of it, loses a synced fact or makes a false one.
func TestSimulated(t *testing.T) {
	states, lives := 0, 0
	for seed := *simSeed; states < *simStates; seed++ {
		w := newWorld(t, seed)
		w.open()
		for range 6 {
			w.live(10+w.rng.IntN(80), w.rng.IntN(3) > 0)
			power := w.disk.Dropped || w.rng.IntN(3) > 0
			if !power && !w.disk.Off && w.rng.IntN(3) == 0 && w.store.Err() == nil {
				w.stop()
				continue
			}
			w.survive(power, 4)
		}
		states, lives = states+w.states, lives+w.lives
	}
	t.Logf("%d crash states, %d lives", states, lives)
}

// stop closes cleanly: whatever had an outcome has it for ever, and nothing but intents without one is in doubt.
func (w *world) stop() {
	w.say("close")
	w.disk.Fault = nil
	if err := w.store.Close(); err != nil {
		w.fatal("close: %v", err)
	}
	w.restart() // the machine goes down after it, too
	w.disk = sim.New(w.rng, w.disk.Durable)
	for _, p := range w.parts {
		for _, m := range p.msgs {
			m.safe = m.safe || m.acked
		}
	}
	w.open()
	w.check(w.store, false, true)
	w.afterCrash()
}
