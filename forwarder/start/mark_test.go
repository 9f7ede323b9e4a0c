package start

import (
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/kpush/kpush/offsets"
)

// randomMark is a mark like those of a partition in trouble.
func randomMark(rng *rand.Rand) Mark {
	m := Mark{Cluster: "MkU3OEVBNTcwNTJENDM2Qg", TopicID: "AbC_-def", Volume: "0123456789abcdef", Edition: "17.130000.9f3a2b1c.ffffffff", Lineage: rng.Uint64(), Offset: rng.Int64N(1 << 50)}
	if rng.IntN(2) == 0 {
		m.Ceiling = m.Offset + 1 + rng.Int64N(100000)
	}
	at := m.Offset + rng.Int64N(3)
	for range rng.IntN(2000) {
		to := at + 1 + rng.Int64N(50)
		m.Done = m.Done.Add(at, to)
		at = to + 1 + rng.Int64N(50)
	}
	at = m.Offset
	for range rng.IntN(300) {
		m.Attempts = append(m.Attempts, offsets.Attempt{Offset: at, Number: 1 + rng.IntN(100), Faults: rng.IntN(5), InDoubt: rng.IntN(2) == 0})
		at += 1 + rng.Int64N(9)
	}
	if rng.IntN(2) == 0 {
		m.Had = m.Had.Add(m.Offset+5, m.Offset+90).Add(m.Offset+1000, m.Offset+2000)
	}
	return m
}

func TestMarkRoundTrip(t *testing.T) {
	for _, m := range []Mark{
		{},
		{Cluster: "C", TopicID: "T", Volume: "V", Lineage: 1<<64 - 1, Offset: 1<<62 - 1},
		{Cluster: "a b=c,%+ü", TopicID: "=", Volume: " ", Offset: 5},
		{Cluster: "C", Offset: 10, Ceiling: 11},
		{Cluster: "C", Volume: "V", Edition: "2.17.9f3a.1 =", Offset: 10},
		{Cluster: "C", Offset: 10, Ceiling: 1010, Done: offsets.Ranges{{From: 10, To: 11}, {From: 15, To: 4000}}},
		{Cluster: "C", Offset: 10, Had: offsets.Ranges{{From: 10, To: 11}, {From: 15, To: 4000}}},
		{Cluster: "C", Offset: 10, Attempts: []offsets.Attempt{{Offset: 10, Number: 3, Faults: 2, InDoubt: true}, {Offset: 12, Number: 1}}},
	} {
		s := m.Text(MarkSize)
		if got, ok := ParseMark(s); !ok || !reflect.DeepEqual(got, m) {
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
		s := m.Text(limit)
		if len(s) > limit || strings.ContainsFunc(s, func(r rune) bool { return r > 0x7e || r < 0x20 }) {
			t.Fatalf("%d characters of %d: %q", len(s), limit, s)
		}
		got, ok := ParseMark(s)
		if !ok || got.Cluster != m.Cluster || got.TopicID != m.TopicID || got.Volume != m.Volume || got.Lineage != m.Lineage || got.Offset != m.Offset {
			t.Fatalf("%q lost what it is about", s)
		}
		if u := got.Done.Union(m.Done); u.String() != m.Done.String() {
			t.Fatalf("it claims %s, done is %s", got.Done, m.Done)
		}
		if u := got.Had.Union(m.Had); u.String() != m.Had.String() || len(got.Had) > 0 && len(got.Done) < len(m.Done) {
			t.Fatalf("it claims %s to come again of %s, and done %s of %s", got.Had, m.Had, got.Done, m.Done)
		}
		if len(got.Done) < len(m.Done) {
			cut++
		} else if len(got.Attempts) < len(m.Attempts) && len(m.Done) >= len(m.Attempts) {
			t.Fatal("attempts were left out although there is more of done")
		}
		known := map[int64]offsets.Attempt{}
		for _, a := range got.Attempts {
			known[a.Offset] = a
		}
		for _, a := range m.Attempts {
			if k, ok := known[a.Offset]; ok && k != a || !ok && a.Offset >= got.Ceiling {
				t.Fatalf("attempt %+v became %+v, ceiling %d", a, k, got.Ceiling)
			}
		}
		if got.Ceiling < m.Ceiling {
			t.Fatalf("the ceiling fell from %d to %d", m.Ceiling, got.Ceiling)
		}
		for _, r := range m.Done { // finished, so sent: forgotten it must be in doubt
			if !got.Done.Contains(r.From) && r.To > got.Ceiling {
				t.Fatalf("%d-%d was left out and lies above the ceiling %d", r.From, r.To-1, got.Ceiling)
			}
		}
	}
	if cut < 15 {
		t.Errorf("only %d of 120 marks were too large", cut)
	}
}

// Every second of 3,000 messages fails: both what is done and what was tried are known of the oldest ones.
func TestMarkOfManyHoles(t *testing.T) {
	m := Mark{Cluster: "C", TopicID: "T", Offset: 1}
	for o := int64(1); o < 3_000; o += 2 {
		m.Attempts = append(m.Attempts, offsets.Attempt{Offset: o, Number: 1, Faults: 1})
		m.Done = m.Done.Add(o+1, o+2)
	}
	s := m.Text(MarkSize)
	got, ok := ParseMark(s)
	if !ok || len(s) > MarkSize || len(s) < MarkSize*4/5 || len(got.Done) < 150 || len(got.Attempts) < 150 || got.Ceiling != 3_001 {
		t.Errorf("%d characters hold %d ranges and %d attempts, the ceiling is %d (read: %t)", len(s), len(got.Done), len(got.Attempts), got.Ceiling, ok)
	}
}

func TestMarkOfNoRoomAtAll(t *testing.T) {
	m := Mark{Cluster: "a cluster with a name", TopicID: "T", Offset: 77, Ceiling: 900}
	got, ok := ParseMark(m.Text(BareSize))
	if !ok || got.Offset != 77 || !got.Bare() || m.Bare() {
		t.Errorf("%+v %t", got, ok)
	}
	m.Offset = math.MaxInt64
	if s := m.Text(BareSize); len(s) > BareSize {
		t.Errorf("bare, it has %d characters: %s", len(s), s)
	}
	if s := m.Text(BareSize - 1); s != "" {
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
		if m, ok := ParseMark(s); ok && s != "kpush1 o=1 u=" {
			t.Errorf("%q is taken for %+v", s, m)
		}
	}
	// A later version may say more.
	if m, ok := ParseMark("kpush1 c=C z=what o=5 new u=3 =,"); !ok || m.Offset != 5 || m.Ceiling != 8 {
		t.Errorf("unknown fields: %+v, %t", m, ok)
	}
}

// A mark that was cut or changed is refused, or at least claims nothing finished that was not.
func TestDamagedMarks(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range 60 {
		m := randomMark(rng)
		s := m.Text(MarkSize)
		if got, ok := ParseMark(s[:rng.IntN(len(s))]); ok && got.Offset == m.Offset && got.Done.Union(m.Done).String() != m.Done.String() {
			t.Fatalf("cut off, %q claims %s of %s", s, got.Done, m.Done)
		}
	}
}

func FuzzParseMark(f *testing.F) {
	f.Add("kpush1 c=C t=T l=ff v=V o=5 u=10 d=1-2,4-4 a=0:1:0:d,3:2:1")
	f.Add("kpush1 o=9223372036854775807 u=9223372036854775807 d=0-9223372036854775807 a=9223372036854775807:1:1")
	f.Add("kpush1 o=-5 d=0-0")
	f.Fuzz(func(t *testing.T, s string) {
		m, ok := ParseMark(s)
		if !ok {
			return
		}
		for i, r := range m.Done {
			if r.From >= r.To || r.From < m.Offset || i > 0 && r.From <= m.Done[i-1].To {
				t.Errorf("%q has the ranges %v at offset %d", s, m.Done, m.Offset)
			}
		}
		for _, a := range m.Attempts {
			if a.Offset < m.Offset {
				t.Errorf("%q has an attempt at %d below its offset %d", s, a.Offset, m.Offset)
			}
		}
		if again, ok := ParseMark(m.Text(1 << 20)); !ok || again.Offset != m.Offset || again.Done.String() != m.Done.String() {
			t.Errorf("%q became %+v", s, again)
		}
	})
}
