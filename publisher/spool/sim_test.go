package spool

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/volume/sim"
)

var (
	simStates = flag.Int("states", 600, "crash states that TestSimulated looks at")
	simSeed   = flag.Uint64("seed", 0, "first seed of TestSimulated")
)

// known is what the world knows of a record, whatever the spool knows.
type known struct {
	number  int
	topic   string
	lane    string // "": it has no key
	big     bool   // Kafka never takes it
	kept    bool   // Add said so
	never   bool   // Add said that it will not be
	arrived int    // how often it is in Kafka
	answers int    // how often Kafka's answer did not come: it may be there once more for each
}

// asked is a record that the producer has.
type asked struct {
	k    *known
	done func(kafka.Produced, error)
}

// world runs a Spool on a sim.Volume through many lives, and knows the truth. It is a kafka.Producer.
type world struct {
	kafka.Producer
	t       testing.TB
	seed    uint64
	rng     *rand.Rand
	volume  *sim.Volume
	spool   *Spool
	records []*known
	asked   []asked
	down    bool                       // no broker
	full    bool                       // no room in the producer
	again   map[string]map[*known]bool // by topic: what came again after the newest crash
	before  map[*known]int             // how often each had arrived at it
	window  int
	hurry   bool // the life ends at once: what has failed is not mended
	states  int
	lives   int
	trace   []string
}

func (w *world) say(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *world) fatal(format string, args ...any) {
	w.t.Helper()
	for _, line := range w.trace[max(0, len(w.trace)-80):] {
		w.t.Log(line)
	}
	w.t.Fatalf("seed %d, life %d: %s", w.seed, w.lives, fmt.Sprintf(format, args...))
}

// Queue is the producer's. A lane has one record there (S2).
func (w *world) Queue(r kafka.Record, done func(kafka.Produced, error)) error {
	if w.full && w.rng.IntN(2) == 0 {
		return kafka.ErrQueueFull
	}
	var number int
	if _, err := fmt.Sscan(string(r.Value), &number); err != nil || number >= len(w.records) {
		w.fatal("%q was never added", r.Value)
	}
	k := w.records[number]
	switch {
	case k.topic != r.Topic || k.lane != string(r.Key) || len(r.Headers) != number%3:
		w.fatal("%d is sent as %v", number, r)
	case k.never:
		w.fatal("S4: %d was refused, and is sent", number)
	}
	for _, a := range w.asked {
		if k.lane != "" && a.k.topic == k.topic && a.k.lane == k.lane {
			w.fatal("S2: %d and %d of one key are under way", a.k.number, number)
		}
	}
	if w.down && w.rng.IntN(2) == 0 {
		return fmt.Errorf("%w: at once", kafka.ErrNoBroker)
	}
	w.asked = append(w.asked, asked{k, done})
	return nil
}

// arrive puts a record into Kafka: the first time after all of its key that were added before (S2).
func (w *world) arrive(k *known) {
	if k.arrived++; k.arrived == 1 && k.lane != "" {
		for _, o := range w.records[k.number+1:] {
			if o.topic == k.topic && o.lane == k.lane && o.arrived > 0 {
				w.fatal("S2: %d arrives after %d", k.number, o.number)
			}
		}
	}
	if w.before[k] > 0 && k.arrived > w.before[k]+k.answers {
		if w.again[k.topic] == nil {
			w.again[k.topic] = map[*known]bool{}
		}
		w.again[k.topic][k] = true
		if n := len(w.again[k.topic]); n > w.window {
			w.fatal("S3: %d records of %s came again", n, k.topic)
		}
	}
	if k.arrived > 1+k.answers+w.lives {
		w.fatal("%d came %d times", k.number, k.arrived)
	}
}

// answer has Kafka say what became of one record.
func (w *world) answer() {
	if len(w.asked) == 0 {
		return
	}
	at := w.rng.IntN(len(w.asked))
	a := w.asked[at]
	w.asked = slices.Delete(w.asked, at, at+1)
	err := error(nil)
	switch n := w.rng.IntN(20); {
	case w.down && n < 12:
		err = fmt.Errorf("%w: later", kafka.ErrNoBroker)
	case w.down || n == 0:
		err = kafka.ErrUnknown
		if !a.k.big && w.rng.IntN(2) == 0 {
			w.arrive(a.k)
			a.k.answers++
		}
	case a.k.big:
		err = kafka.ErrTooLarge
	case n == 1 && slices.ContainsFunc(w.asked, func(o asked) bool { return o.k.topic == a.k.topic }): // one that it was sent with is refused
		err = kafka.ErrInvalid
	default:
		w.arrive(a.k)
	}
	w.say("answer %d: %v", a.k.number, err)
	a.done(kafka.Produced{}, err)
}

func (w *world) open() error {
	s, err := Open(Options{Dir: "/v", Limit: 64 << 10, Buffer: 4 << 10, Producer: w, Came: func(error) {}, Log: slog.New(slog.DiscardHandler),
		segment: 2 << 10, window: w.window, disk: w.volume, idle: true})
	w.spool = s
	return err
}

// add has a few callers add records, which the next flush writes.
func (w *world) add() {
	topic := []string{"a", "b"}[w.rng.IntN(2)]
	var waiting []<-chan error
	var of [][]*known
	for range 1 + w.rng.IntN(3) {
		var frames []byte
		var mine []*known
		for range 1 + w.rng.IntN(3) {
			k := &known{number: len(w.records), topic: topic, lane: []string{"", "k", "l", "m"}[w.rng.IntN(4)], big: w.rng.IntN(40) == 0}
			r := kafka.Record{Partition: -1, Value: fmt.Appendf(nil, "%d %s", k.number, strings.Repeat("x", w.rng.IntN(600))), Headers: make([]kafka.Header, k.number%3)}
			if k.lane != "" {
				r.Key = []byte(k.lane)
			}
			frames = appendFrame(frames, &r, time.Now())
			w.records, mine = append(w.records, k), append(mine, k)
		}
		wait, err := w.spool.queue(topic).join(frames, len(mine), 3)
		if err != nil {
			for _, k := range mine {
				k.never = true
			}
			w.say("add %d+%d: %v", mine[0].number, len(mine), err)
			continue
		}
		waiting, of = append(waiting, wait), append(of, mine)
	}
	if len(waiting) == 0 || w.rng.IntN(8) == 0 {
		return // the process ends before it is written, or somebody else's flush does it
	}
	w.spool.queue(topic).flush()
	for i, wait := range waiting {
		err := <-wait
		w.say("add %d+%d: %v", of[i][0].number, len(of[i]), err)
		w.hurry = w.hurry || err != nil && w.rng.IntN(2) == 0
		for _, k := range of[i] {
			k.kept, k.never = err == nil, err != nil && !errors.Is(err, kafka.ErrUnknown)
		}
	}
}

// live does n random things, each of which may meet a fault, until the power is off.
func (w *world) live(n int) {
	if w.rng.IntN(3) > 0 {
		at, kind, long := w.rng.IntN(3*n), sim.Fault(w.rng.IntN(int(sim.Kinds))), 1+w.rng.IntN(4)
		w.volume.Fault = func(step int) sim.Fault {
			if step == at || kind >= sim.FailLost && kind <= sim.Full && step > at && step < at+long {
				w.say("step %d: fault %d", step, kind)
				return kind
			}
			return sim.None
		}
	}
	for range n {
		if w.rng.IntN(30) == 0 {
			w.down = !w.down
		}
		w.full = w.rng.IntN(5) == 0
		queues := w.spool.all()
		switch w.rng.IntN(12) {
		case 0, 1, 2:
			w.add()
		case 3:
			time.Sleep([]time.Duration{100 * time.Millisecond, 2 * time.Second, 30 * time.Second}[w.rng.IntN(3)])
		case 4, 5, 6, 7:
			w.answer()
		default:
			for _, q := range queues {
				if w.rng.IntN(4) == 0 {
					q.flush()
				}
				q.step()
			}
		}
		if w.volume.Off || w.hurry {
			return
		}
	}
}

// survive ends the process, or the machine, looks at some of the states that the volume may be in, and goes on with the last.
func (w *world) survive() {
	w.hurry = false
	power := w.volume.Off || w.volume.Dropped || w.rng.IntN(2) == 0
	w.say("crash, power %v", power)
	w.asked, w.down = nil, false // what the producer had is lost, or in Kafka without an answer
	w.again, w.before = map[string]map[*known]bool{}, map[*known]int{}
	for _, k := range w.records {
		w.before[k] = k.arrived
	}
	old := w.volume
	for range 3 {
		w.states++
		w.volume = old.After(power)
		if w.rng.IntN(3) == 0 { // a crash in the recovery
			at := w.rng.IntN(3)
			w.volume.Fault = func(step int) sim.Fault {
				if step == at {
					return sim.PowerLost + sim.Fault(w.rng.IntN(3))
				}
				return sim.None
			}
			_ = w.open() // it may, or may not
			w.volume = w.volume.After(true)
		}
		if err := w.open(); err != nil {
			w.fatal("open: %v", err)
		}
		w.check()
	}
	w.lives++
}

// check holds what the volume has against what must be there (S1).
func (w *world) check() {
	w.t.Helper()
	there := map[int]bool{}
	for _, q := range w.spool.all() {
		left, at := int64(0), q.mark
		for at < q.end {
			f, err := q.read(q.segments, at, q.end)
			if err != nil {
				w.fatal("%s at %d: %v", q.topic, at, err)
			}
			r, err := f.record(q.topic)
			var n int
			if _, bad := fmt.Sscan(string(r.Value), &n); err != nil || bad != nil {
				w.fatal("%s at %d: %v %v", q.topic, at, err, bad)
			}
			there[n] = true
			left, at = left+1, at+f.size
		}
		if left != q.left.Load() {
			w.fatal("%d records of %s are there, %d are counted", left, q.topic, q.left.Load())
		}
	}
	refused := w.refused()
	for _, k := range w.records {
		if k.kept && !there[k.number] && k.arrived == 0 && !refused[k.number] {
			w.fatal("S1: %d is lost", k.number)
		}
		if k.never && there[k.number] {
			w.fatal("S4: %d was refused, and is there", k.number)
		}
	}
}

func (w *world) refused() map[int]bool {
	all := map[int]bool{}
	if d := w.volume.Files[refusedName]; d != nil {
		for line := range strings.Lines(string(d.Cache)) {
			var l struct{ Records []form }
			var n int
			if err := json.Unmarshal([]byte(line), &l); err != nil || len(l.Records) != 1 {
				w.fatal("refused: %s", line)
			}
			if _, err := fmt.Sscan(string(l.Records[0].Value), &n); err != nil {
				w.fatal("refused: %s", line)
			}
			all[n] = true
		}
	}
	return all
}

// end has everything be sent.
func (w *world) end() {
	w.volume.Fault, w.down, w.full = nil, false, false
	for range 5000 {
		for _, q := range w.spool.all() {
			q.flush()
			q.step()
		}
		w.answer()
		if left, _ := w.spool.Status(); left == 0 {
			break
		}
		if len(w.asked) == 0 {
			time.Sleep(time.Second)
		}
	}
	refused := w.refused()
	for _, k := range w.records {
		switch {
		case !k.kept:
		case k.big && !refused[k.number], !k.big && k.arrived == 0:
			w.fatal("S1: %d did not arrive; it is refused: %v", k.number, refused[k.number])
		}
	}
	for range 30 {
		time.Sleep(idleTime)
		for _, q := range w.spool.all() {
			q.step()
		}
	}
	if _, bytes := w.spool.Status(); bytes > 3*int64(len(w.spool.all()))*headSize { // marks, and segments without a record
		w.fatal("%d bytes are left, files %v", bytes, slices.Sorted(maps.Keys(w.volume.Files)))
	}
}

// TestSimulated: S1 to S4. No crash, wherever it falls and whatever the disk made of it, loses a record, sends one that was refused, changes the
// order of a key, or sends again more than the window.
func TestSimulated(t *testing.T) {
	states, lives, records := 0, 0, 0
	for seed := *simSeed; states < *simStates; seed++ {
		synctest.Test(t, func(t *testing.T) {
			w := &world{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), window: 12, before: map[*known]int{}, again: map[string]map[*known]bool{}}
			w.volume = sim.NewVolume(&sim.Power{Rng: w.rng})
			if err := w.open(); err != nil {
				t.Fatal(err)
			}
			for range 5 {
				w.live(20 + w.rng.IntN(200))
				w.survive()
			}
			w.end()
			states, lives, records = states+w.states, lives+w.lives, records+len(w.records)
		})
	}
	t.Logf("%d crash states, %d lives, %d records", states, lives, records)
}
