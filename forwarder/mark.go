package forwarder

import (
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"

	"github.com/kpush/kpush/offsets"
)

// mark is what kpush writes into the metadata of each commit, so that whoever takes the partition over knows who
// committed and what else was finished. It is believed only where cluster, topic id and offset match the commit it
// came with: other tools wipe the metadata, MirrorMaker copies it to another cluster's offsets.
//
//	kpush1 c=CLUSTER t=TOPICID l=LINEAGE v=VOLUME o=OFFSET [e=EDITION] [u=CEILING] [d=DONE] [a=ATTEMPTS]
//
// EDITION is what the volume held then (offsets.Store.Edition), by which an older copy of it is known.
// DONE are ranges above the offset, ATTEMPTS entries offset:number:faults[:d] (d: in doubt), both counted from OFFSET.
// Unknown fields are passed over. ASCII, at most markSize characters: what does not fit of DONE is left out (it costs
// repeats, flagged through the ceiling), what does not fit of ATTEMPTS is covered by the ceiling.
type mark struct {
	cluster, topicID string
	volume, edition  string // edition "": written by a kpush that did not say
	lineage          uint64
	offset           int64
	ceiling          int64 // no request has passed it; 0: nothing but attempts is in doubt
	done             offsets.Ranges
	attempts         []offsets.Attempt
}

const (
	markVersion = "kpush1"
	markSize    = 4096 // the broker's default offset.metadata.max.bytes, in characters
	bareSize    = 32   // of a mark that says only that it is one
)

// text is the mark in at most limit characters. The highest offsets are left out first, and of what there is more: among
// many messages that fail many are done, and knowing of only one kind would be of no use. What does not fit at all is bare, or
// nothing.
func (m mark) text(limit int) string {
	for {
		s := m.encode()
		if len(s) <= limit {
			return s
		}
		switch {
		case len(m.done) > 0 && len(m.done) >= len(m.attempts):
			cut := len(m.done) / 2
			m.ceiling = max(m.ceiling, m.done[len(m.done)-1].To)
			m.done = m.done[:cut]
		case len(m.attempts) > 0:
			m.ceiling = max(m.ceiling, m.attempts[len(m.attempts)-1].Offset+1)
			m.attempts = m.attempts[:len(m.attempts)/2]
		case limit < bareSize:
			return ""
		default:
			return markVersion + " o=" + strconv.FormatInt(m.offset, 10)
		}
	}
}

func (m mark) encode() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s c=%s t=%s l=%x v=%s o=%d", markVersion, url.QueryEscape(m.cluster), url.QueryEscape(m.topicID),
		m.lineage, url.QueryEscape(m.volume), m.offset)
	if m.edition != "" {
		fmt.Fprintf(&b, " e=%s", url.QueryEscape(m.edition))
	}
	if m.ceiling > 0 {
		fmt.Fprintf(&b, " u=%d", m.ceiling-m.offset)
	}
	for i, r := range m.done {
		fmt.Fprintf(&b, "%s%d-%d", separator(i, " d="), r.From-m.offset, r.To-1-m.offset)
	}
	for i, a := range m.attempts {
		fmt.Fprintf(&b, "%s%d:%d:%d", separator(i, " a="), a.Offset-m.offset, a.Number, a.Faults)
		if a.InDoubt {
			b.WriteString(":d")
		}
	}
	return b.String()
}

// bare tells whether the mark says only that kpush made the commit.
func (m mark) bare() bool { return m.cluster == "" && m.lineage == 0 }

func separator(i int, first string) string {
	if i == 0 {
		return first
	}
	return ","
}

// parseMark reads a commit's metadata; false: kpush did not write it, or it is damaged.
func parseMark(s string) (m mark, ok bool) {
	fields := strings.Fields(s)
	if len(fields) == 0 || fields[0] != markVersion {
		return mark{}, false
	}
	var ceiling, done, attempts string
	var err error
	for _, f := range fields[1:] {
		k, v, _ := strings.Cut(f, "=")
		switch k {
		case "c":
			m.cluster, err = url.QueryUnescape(v)
		case "t":
			m.topicID, err = url.QueryUnescape(v)
		case "v":
			m.volume, err = url.QueryUnescape(v)
		case "e":
			m.edition, err = url.QueryUnescape(v)
		case "l":
			m.lineage, err = strconv.ParseUint(v, 16, 64)
		case "o":
			m.offset, err = strconv.ParseInt(v, 10, 64)
		case "u":
			ceiling = v
		case "d":
			done = v
		case "a":
			attempts = v
		}
		if err != nil {
			return mark{}, false
		}
	}
	if ceiling != "" {
		n, err := strconv.ParseInt(ceiling, 10, 64)
		if err != nil || !m.reaches(n) {
			return mark{}, false
		}
		m.ceiling = m.offset + n
	}
	return m, m.offset >= 0 && m.parseDone(done) && m.parseAttempts(attempts)
}

// reaches tells whether n, counted from the offset, is an offset.
func (m *mark) reaches(n int64) bool { return n >= 0 && n < math.MaxInt64-m.offset }

func (m *mark) parseDone(s string) bool {
	for r := range strings.SplitSeq(s, ",") {
		if r == "" {
			continue
		}
		var from, to int64
		if n, err := fmt.Sscanf(r, "%d-%d", &from, &to); n != 2 || err != nil || from < 0 || to < from || !m.reaches(to) {
			return false
		}
		m.done = m.done.Add(m.offset+from, m.offset+to+1)
	}
	return true
}

func (m *mark) parseAttempts(s string) bool {
	for a := range strings.SplitSeq(s, ",") {
		if a == "" {
			continue
		}
		rest, doubt := strings.CutSuffix(a, ":d")
		t := offsets.Attempt{InDoubt: doubt}
		if n, err := fmt.Sscanf(rest, "%d:%d:%d", &t.Offset, &t.Number, &t.Faults); n != 3 || err != nil {
			return false
		}
		if !m.reaches(t.Offset) {
			continue // says nothing of what is to come
		}
		t.Offset += m.offset
		m.attempts = append(m.attempts, t)
	}
	return true
}
