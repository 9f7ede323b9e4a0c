package start

import (
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"

	"github.com/kpush/kpush/offsets"
)

// Mark is what kpush writes into the metadata of each commit, so that whoever takes the partition over knows who
// committed and what else was finished. It is believed only where cluster, topic id and offset match the commit it
// came with: other tools wipe the metadata, MirrorMaker copies it to another cluster's offsets.
//
//	kpush1 c=CLUSTER t=TOPICID l=LINEAGE v=VOLUME o=OFFSET [e=EDITION] [p=1] [u=CEILING] [d=DONE] [a=ATTEMPTS] [r=HAD]
//
// p says that an operator has paused the partition. EDITION is what the volume held then (offsets.Store.Edition), by which an older copy of it is known.
// DONE are ranges above the offset, ATTEMPTS entries offset:number:faults[:d] (d: in doubt), HAD ranges that were done before an operator
// had it begin anew, all counted from OFFSET.
// Unknown fields are passed over. ASCII, at most MarkSize characters: what does not fit of DONE is left out (it costs
// repeats, flagged through the ceiling), what does not fit of ATTEMPTS is covered by the ceiling. HAD goes first: it costs a header.
type Mark struct {
	Cluster, TopicID string
	Volume, Edition  string // Edition "": written by a kpush that did not say
	Lineage          uint64
	Offset           int64
	Paused           bool
	Ceiling          int64 // no request has passed it; 0: nothing but attempts is in doubt
	Done             offsets.Ranges
	Attempts         []offsets.Attempt
	Had              offsets.Ranges // what comes of it is a replay
}

// Sizes of a mark's text.
const (
	MarkSize = 4096 // the broker's default offset.metadata.max.bytes, in characters
	BareSize = 32   // of a mark that says only that it is one
)

const markVersion = "kpush1"

// Text is the mark in at most limit characters. The highest offsets are left out first, and of what there is more: among
// many messages that fail many are done, and knowing of only one kind would be of no use. What does not fit at all is bare, or
// nothing.
func (m Mark) Text(limit int) string {
	for {
		s := m.encode()
		if len(s) <= limit {
			return s
		}
		switch {
		case len(m.Had) > 0:
			m.Had = m.Had[:fewer(len(m.Had), limit, len(s))]
		case len(m.Done) > 0 && len(m.Done) >= len(m.Attempts):
			m.Ceiling = max(m.Ceiling, m.Done[len(m.Done)-1].To)
			m.Done = m.Done[:fewer(len(m.Done), limit, len(s))]
		case len(m.Attempts) > 0:
			m.Ceiling = max(m.Ceiling, m.Attempts[len(m.Attempts)-1].Offset+1)
			m.Attempts = m.Attempts[:fewer(len(m.Attempts), limit, len(s))]
		case limit < BareSize:
			return ""
		default:
			return markVersion + " o=" + strconv.FormatInt(m.Offset, 10)
		}
	}
}

// fewer is how many of n are tried next: about as many as fit, seven eighths at the most, so that little is left out in vain.
func fewer(n, limit, size int) int { return max(n/2, min(n*7/8, n*limit/size)) }

func (m Mark) encode() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s c=%s t=%s l=%x v=%s o=%d", markVersion, url.QueryEscape(m.Cluster), url.QueryEscape(m.TopicID),
		m.Lineage, url.QueryEscape(m.Volume), m.Offset)
	if m.Edition != "" {
		fmt.Fprintf(&b, " e=%s", url.QueryEscape(m.Edition))
	}
	if m.Paused {
		b.WriteString(" p=1")
	}
	if m.Ceiling > 0 {
		fmt.Fprintf(&b, " u=%d", m.Ceiling-m.Offset)
	}
	m.encodeSet(&b, " d=", m.Done)
	before := " a="
	for _, a := range m.Attempts {
		fmt.Fprintf(&b, "%s%d:%d:%d", before, a.Offset-m.Offset, a.Number, a.Faults)
		if a.InDoubt {
			b.WriteString(":d")
		}
		before = ","
	}
	m.encodeSet(&b, " r=", m.Had)
	return b.String()
}

func (m Mark) encodeSet(b *strings.Builder, before string, set offsets.Ranges) {
	for _, r := range set {
		fmt.Fprintf(b, "%s%d-%d", before, r.From-m.Offset, r.To-1-m.Offset)
		before = ","
	}
}

// Bare tells whether the mark says only that kpush made the commit.
func (m Mark) Bare() bool { return m.Cluster == "" && m.Lineage == 0 }

// ParseMark reads a commit's metadata; false: kpush did not write it, or it is damaged.
func ParseMark(s string) (m Mark, ok bool) {
	fields := strings.Fields(s)
	if len(fields) == 0 || fields[0] != markVersion {
		return Mark{}, false
	}
	var ceiling, done, attempts, had string
	var err error
	for _, f := range fields[1:] {
		k, v, _ := strings.Cut(f, "=")
		switch k {
		case "c":
			m.Cluster, err = url.QueryUnescape(v)
		case "t":
			m.TopicID, err = url.QueryUnescape(v)
		case "v":
			m.Volume, err = url.QueryUnescape(v)
		case "e":
			m.Edition, err = url.QueryUnescape(v)
		case "l":
			m.Lineage, err = strconv.ParseUint(v, 16, 64)
		case "o":
			m.Offset, err = strconv.ParseInt(v, 10, 64)
		case "p":
			m.Paused = v == "1"
		case "u":
			ceiling = v
		case "d":
			done = v
		case "a":
			attempts = v
		case "r":
			had = v
		}
		if err != nil {
			return Mark{}, false
		}
	}
	if ceiling != "" {
		n, err := strconv.ParseInt(ceiling, 10, 64)
		if err != nil || !m.reaches(n) {
			return Mark{}, false
		}
		m.Ceiling = m.Offset + n
	}
	return m, m.Offset >= 0 && m.parseSet(&m.Done, done) && m.parseAttempts(attempts) && m.parseSet(&m.Had, had)
}

// reaches tells whether n, counted from the offset, is an offset.
func (m *Mark) reaches(n int64) bool { return n >= 0 && n < math.MaxInt64-m.Offset }

func isComma(r rune) bool { return r == ',' }

func (m *Mark) parseSet(set *offsets.Ranges, s string) bool {
	for r := range strings.FieldsFuncSeq(s, isComma) {
		var from, to int64
		if n, err := fmt.Sscanf(r, "%d-%d", &from, &to); n != 2 || err != nil || from < 0 || to < from || !m.reaches(to) {
			return false
		}
		*set = set.Add(m.Offset+from, m.Offset+to+1)
	}
	return true
}

func (m *Mark) parseAttempts(s string) bool {
	for a := range strings.FieldsFuncSeq(s, isComma) {
		rest, doubt := strings.CutSuffix(a, ":d")
		t := offsets.Attempt{InDoubt: doubt}
		if n, err := fmt.Sscanf(rest, "%d:%d:%d", &t.Offset, &t.Number, &t.Faults); n != 3 || err != nil {
			return false
		}
		if !m.reaches(t.Offset) {
			continue // says nothing of what is to come
		}
		t.Offset += m.Offset
		m.Attempts = append(m.Attempts, t)
	}
	return true
}
