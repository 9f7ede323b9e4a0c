package forwarder

import (
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/kpush/kpush/offsets"
)

// randomMark is a mark like those of a partition in trouble.
func randomMark(rng *rand.Rand) mark {
	m := mark{cluster: "MkU3OEVBNTcwNTJENDM2Qg", topicID: "AbC_-def", volume: "0123456789abcdef", edition: "17.130000.9f3a2b1c.ffffffff", lineage: rng.Uint64(), offset: rng.Int64N(1 << 50)}
	if rng.IntN(2) == 0 {
		m.ceiling = m.offset + 1 + rng.Int64N(100000)
	}
	at := m.offset + rng.Int64N(3)
	for range rng.IntN(2000) {
		to := at + 1 + rng.Int64N(50)
		m.done = m.done.Add(at, to)
		at = to + 1 + rng.Int64N(50)
	}
	at = m.offset
	for range rng.IntN(300) {
		m.attempts = append(m.attempts, offsets.Attempt{Offset: at, Number: 1 + rng.IntN(100), Faults: rng.IntN(5), InDoubt: rng.IntN(2) == 0})
		at += 1 + rng.Int64N(9)
	}
	return m
}

func TestMarkRoundTrip(t *testing.T) {
	for _, m := range []mark{
		{},
		{cluster: "C", topicID: "T", volume: "V", lineage: 1<<64 - 1, offset: 1<<62 - 1},
		{cluster: "a b=c,%+ü", topicID: "=", volume: " ", offset: 5},
		{cluster: "C", offset: 10, ceiling: 11},
		{cluster: "C", volume: "V", edition: "2.17.9f3a.1 =", offset: 10},
		{cluster: "C", offset: 10, ceiling: 1010, done: offsets.Ranges{{From: 10, To: 11}, {From: 15, To: 4000}}},
		{cluster: "C", offset: 10, attempts: []offsets.Attempt{{Offset: 10, Number: 3, Faults: 2, InDoubt: true}, {Offset: 12, Number: 1}}},
	} {
		s := m.text(markSize)
		if got, ok := parseMark(s); !ok || !reflect.DeepEqual(got, m) {
			t.Errorf("%+v became %q became %+v, %t", m, s, got, ok)
		}
	}
}

// However little room there is, a mark is ASCII, fits, claims nothing that is not true, and forgets no doubt: what was left
// out of the attempts or is above what was left out lies below the ceiling.
func TestMarkIsLossyInOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	cut := 0
	for range 120 {
		m := randomMark(rng)
		limit := []int{4096, 4096, 1024, 256}[rng.IntN(4)]
		s := m.text(limit)
		if len(s) > limit || strings.ContainsFunc(s, func(r rune) bool { return r > 0x7e || r < 0x20 }) {
			t.Fatalf("%d characters of %d: %q", len(s), limit, s)
		}
		got, ok := parseMark(s)
		if !ok || got.cluster != m.cluster || got.topicID != m.topicID || got.volume != m.volume || got.lineage != m.lineage || got.offset != m.offset {
			t.Fatalf("%q lost what it is about", s)
		}
		if u := got.done.Union(m.done); u.String() != m.done.String() {
			t.Fatalf("it claims %s, done is %s", got.done, m.done)
		}
		if len(got.done) < len(m.done) {
			cut++
		} else if len(got.attempts) < len(m.attempts) && len(m.done) >= len(m.attempts) {
			t.Fatal("attempts were left out although there is more of done")
		}
		known := map[int64]offsets.Attempt{}
		for _, a := range got.attempts {
			known[a.Offset] = a
		}
		for _, a := range m.attempts {
			if k, ok := known[a.Offset]; ok && k != a || !ok && a.Offset >= got.ceiling {
				t.Fatalf("attempt %+v became %+v, ceiling %d", a, k, got.ceiling)
			}
		}
		if got.ceiling < m.ceiling {
			t.Fatalf("the ceiling fell from %d to %d", m.ceiling, got.ceiling)
		}
		for _, r := range m.done { // finished, so sent: forgotten it must be in doubt
			if !got.done.Contains(r.From) && r.To > got.ceiling {
				t.Fatalf("%d-%d was left out and lies above the ceiling %d", r.From, r.To-1, got.ceiling)
			}
		}
	}
	if cut < 15 {
		t.Errorf("only %d of 120 marks were too large", cut)
	}
}

// Every second of 3,000 messages fails: both what is done and what was tried are known of the oldest ones.
func TestMarkOfManyHoles(t *testing.T) {
	m := mark{cluster: "C", topicID: "T", offset: 1}
	for o := int64(1); o < 3_000; o += 2 {
		m.attempts = append(m.attempts, offsets.Attempt{Offset: o, Number: 1, Faults: 1})
		m.done = m.done.Add(o+1, o+2)
	}
	s := m.text(markSize)
	got, ok := parseMark(s)
	if !ok || len(s) > markSize || len(got.done) < 150 || len(got.attempts) < 150 || got.ceiling != 3_001 {
		t.Errorf("%d characters hold %d ranges and %d attempts, the ceiling is %d (read: %t)", len(s), len(got.done), len(got.attempts), got.ceiling, ok)
	}
}

func TestMarkOfNoRoomAtAll(t *testing.T) {
	m := mark{cluster: "a cluster with a name", topicID: "T", offset: 77, ceiling: 900}
	got, ok := parseMark(m.text(bareSize))
	if !ok || got.offset != 77 || !got.bare() || m.bare() {
		t.Errorf("%+v %t", got, ok)
	}
	m.offset = math.MaxInt64
	if s := m.text(bareSize); len(s) > bareSize {
		t.Errorf("bare, it has %d characters: %s", len(s), s)
	}
	if s := m.text(bareSize - 1); s != "" {
		t.Errorf("in no room at all: %s", s)
	}
}

func TestParseMarkRefusesWhatIsNotOne(t *testing.T) {
	for _, s := range []string{
		"", " ", "x", "kpush", "kpush2 c=C o=1", "o=1", "{\"kpush1\":1}",
		"kpush1 o=", "kpush1 o=x", "kpush1 o=99999999999999999999", "kpush1 l=xyz o=1", "kpush1 c=%zz o=1",
		"kpush1 o=1 u=", "kpush1 o=1 u=x", "kpush1 o=1 d=x", "kpush1 o=1 d=5", "kpush1 o=1 d=5-", "kpush1 o=1 d=5-4", "kpush1 o=1 d=-5-4",
		"kpush1 o=1 a=5", "kpush1 o=1 a=5:1", "kpush1 o=1 a=x:1:1",
	} {
		if m, ok := parseMark(s); ok && s != "kpush1 o=1 u=" {
			t.Errorf("%q is taken for %+v", s, m)
		}
	}
	// A later version may say more.
	if m, ok := parseMark("kpush1 c=C z=what o=5 new u=3 =,"); !ok || m.offset != 5 || m.ceiling != 8 {
		t.Errorf("unknown fields: %+v, %t", m, ok)
	}
}

// A mark that was cut or changed is refused, or at least claims nothing finished that was not.
func TestDamagedMarks(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range 60 {
		m := randomMark(rng)
		s := m.text(markSize)
		if got, ok := parseMark(s[:rng.IntN(len(s))]); ok && got.offset == m.offset && got.done.Union(m.done).String() != m.done.String() {
			t.Fatalf("cut off, %q claims %s of %s", s, got.done, m.done)
		}
	}
}

func FuzzParseMark(f *testing.F) {
	f.Add("kpush1 c=C t=T l=ff v=V o=5 u=10 d=1-2,4-4 a=0:1:0:d,3:2:1")
	f.Add("kpush1 o=9223372036854775807 u=9223372036854775807 d=0-9223372036854775807 a=9223372036854775807:1:1")
	f.Add("kpush1 o=-5 d=0-0")
	f.Fuzz(func(t *testing.T, s string) {
		m, ok := parseMark(s)
		if !ok {
			return
		}
		for i, r := range m.done {
			if r.From >= r.To || r.From < m.offset || i > 0 && r.From <= m.done[i-1].To {
				t.Errorf("%q has the ranges %v at offset %d", s, m.done, m.offset)
			}
		}
		for _, a := range m.attempts {
			if a.Offset < m.offset {
				t.Errorf("%q has an attempt at %d below its offset %d", s, a.Offset, m.offset)
			}
		}
		if again, ok := parseMark(m.text(1 << 20)); !ok || again.offset != m.offset || again.done.String() != m.done.String() {
			t.Errorf("%q became %+v", s, again)
		}
	})
}
