package rig

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Verdict is what the service's memory says about the messages that were produced. Each list holds one
// readable line per difference.
type Verdict struct {
	Produced, Delivered, Requests int

	Lost      []string // produced and never answered with a completed 2xx
	Stray     []string // delivered and never produced
	Repeats   []string // requests after the service had completed a 2xx for the message
	Unflagged []string // requests after one that may have taken effect, without Kafka-In-Doubt
	Needless  []string // Kafka-In-Doubt although every earlier request had got its answer, or none had arrived
	Disorder  []string // first deliveries of a lane out of the order of its offsets
	Overlap   []string // requests for two messages of one lane at the same time
	Altered   []string // value, key or headers differ from what was produced
}

// Judge compares the requests with the produced records, once none is in flight; one that stays so for five
// seconds is left out.
func (s *Service) Judge(produced []Record) *Verdict {
	Until(5*time.Second, s.idle)
	requests := s.Requests()
	v := &Verdict{Produced: len(produced), Requests: len(requests)}
	records := make(map[position]*Record, len(produced))
	for i := range produced {
		r := &produced[i]
		records[position{r.Topic, r.Partition, r.Offset}] = r
	}
	byMessage := map[position][]*Request{}
	for _, r := range requests {
		byMessage[r.position()] = append(byMessage[r.position()], r)
		if record := records[r.position()]; record != nil {
			if what := r.differs(record); what != "" {
				v.Altered = append(v.Altered, fmt.Sprintf("%s: %s", r.position(), what))
			}
		} else {
			v.Stray = append(v.Stray, r.String())
		}
	}
	for at := range records {
		if !v.history(byMessage[at]) {
			v.Lost = append(v.Lost, fmt.Sprintf("%s, %d requests", at, len(byMessage[at])))
		}
	}
	slices.Sort(v.Lost)
	v.order(lanes(requests, s.Order))
	return v
}

// history walks through one message's requests and says whether it was delivered.
func (v *Verdict) history(requests []*Request) bool {
	delivered, doubt := false, false
	for _, r := range requests {
		if delivered {
			v.Repeats = append(v.Repeats, r.String())
		}
		if (doubt || delivered) && !r.InDoubt {
			v.Unflagged = append(v.Unflagged, r.String())
		}
		if r.InDoubt && !doubt && !delivered {
			v.Needless = append(v.Needless, r.String())
		}
		delivered = delivered || r.Done
		// once in doubt, a clear answer to a later attempt does not tell what the earlier one did
		doubt = doubt || r.Status == 0 || r.Status == 502 || r.Status == 504 || r.Status/100 == 2 && !r.Done
	}
	if delivered {
		v.Delivered++
	}
	return delivered
}

// order looks at each lane by itself.
func (v *Verdict) order(lanes map[lane][]*Request) {
	for _, lane := range lanes {
		seen := map[int64]bool{}
		newest := int64(-1)
		ahead := map[int64]int64{} // what the service named as failed is behind the others of its batch
		for _, r := range lane {
			if r.Named {
				ahead[r.Offset] = max(ahead[r.Offset], r.last)
			}
		}
		done := slices.DeleteFunc(slices.Clone(lane), func(r *Request) bool { return !r.Done })
		slices.SortStableFunc(done, func(a, b *Request) int { return a.End.Compare(b.End) })
		for _, r := range done {
			if !seen[r.Offset] && r.Offset < newest && newest > ahead[r.Offset] {
				v.Disorder = append(v.Disorder, fmt.Sprintf("%s after %d", r, newest))
			}
			seen[r.Offset], newest = true, max(newest, r.Offset)
		}
		for i := 1; i < len(lane); i++ {
			// an abandoned request ends here later than the sidecar gave it up
			if a, b := lane[i-1], lane[i]; a.Offset != b.Offset && (a.Batch == 0 || a.Batch != b.Batch) && a.Status != 0 && b.Start.Before(a.End) {
				v.Overlap = append(v.Overlap, fmt.Sprintf("%s before the end of %s", b, a))
			}
		}
	}
}

// lane is what one message at a time is delivered of: a partition, or a key of it.
type lane struct {
	topic     string
	partition int32
	key       string
}

// lanes sorts the requests by lane, in the order of their arrival; what is delivered in no order is in none.
func lanes(requests []*Request, order string) map[lane][]*Request {
	found := map[lane][]*Request{}
	for _, r := range requests {
		of := lane{topic: r.Topic, partition: r.Partition}
		switch {
		case order == "none", order == "key" && r.Key == nil:
			continue
		case order == "key":
			of.key = string(r.Key)
		}
		found[of] = append(found[of], r)
	}
	return found
}

func (r *Request) String() string {
	return fmt.Sprintf("%s attempt %d (in doubt %t, status %d, completed %t) at %s",
		r.position(), r.Attempt, r.InDoubt, r.Status, r.Done, r.Start.Format("15:04:05.000"))
}

// differs says how the request is not what was produced; a body that was not read is not compared.
func (r *Request) differs(record *Record) string {
	switch read := r.Head != "" || r.Status != 0; {
	case r.Wrong != "":
		return r.Wrong
	case read && (r.Size != len(record.Value) || r.Sum != sum(record.Value)):
		return fmt.Sprintf("the value is %d bytes %q, produced were %d bytes %q", r.Size, r.Head, len(record.Value), record.Value[:min(headLength, len(record.Value))])
	case !bytes.Equal(r.Key, record.Key):
		return fmt.Sprintf("the key is %q, produced was %q", r.Key, record.Key)
	case r.Tombstone != (record.Value == nil):
		return fmt.Sprintf("Kafka-Tombstone is %t", r.Tombstone)
	case r.Exact && !slices.EqualFunc(r.Headers, record.Headers, same):
		return fmt.Sprintf("Kafka-Headers holds %s, produced were %s", show(r.Headers), show(record.Headers))
	case !r.Exact && !slices.EqualFunc(fold(r.Headers), fold(record.Headers), same):
		return fmt.Sprintf("Kafka-Header-* are %s, produced were %s", show(fold(r.Headers)), show(fold(record.Headers)))
	}
	return ""
}

func same(a, b Header) bool {
	return a.Name == b.Name && bytes.Equal(a.Value, b.Value) && (a.Value == nil) == (b.Value == nil)
}

// fold is what HTTP leaves of headers: names without case, ordered only within a name.
func fold(headers []Header) []Header {
	folded := make([]Header, len(headers))
	for i, h := range headers {
		folded[i] = Header{strings.ToLower(h.Name), h.Value}
	}
	slices.SortStableFunc(folded, func(a, b Header) int { return cmp.Compare(a.Name, b.Name) })
	return folded
}

func show(headers []Header) string {
	var text []string
	for i, h := range headers {
		if i == 5 {
			text = append(text, fmt.Sprintf("… %d in all", len(headers)))
			break
		}
		text = append(text, fmt.Sprintf("%q=%q", h.Name, h.Value[:min(len(h.Value), headLength)]))
	}
	return "[" + strings.Join(text, " ") + "]"
}

func (v *Verdict) String() string {
	return fmt.Sprintf("%d produced, %d delivered in %d requests: %d lost, %d repeats, %d unflagged, %d needlessly flagged, %d out of order, %d overlaps, %d altered",
		v.Produced, v.Delivered, v.Requests, len(v.Lost), len(v.Repeats), len(v.Unflagged), len(v.Needless), len(v.Disorder), len(v.Overlap), len(v.Altered))
}

// Kept fails the test unless every message was delivered, unaltered and in order, with every doubt flagged,
// and at most repeats were repeated.
func (v *Verdict) Kept(t T, repeats int) {
	t.Helper()
	t.Logf("%s", v)
	atMost(t, "lost messages", v.Lost, 0)
	atMost(t, "messages that nobody produced", v.Stray, 0)
	atMost(t, "repeats", v.Repeats, repeats)
	atMost(t, "doubtful requests without Kafka-In-Doubt", v.Unflagged, 0)
	atMost(t, "first deliveries out of order", v.Disorder, 0)
	atMost(t, "overlapping requests in a lane", v.Overlap, 0)
	atMost(t, "altered messages", v.Altered, 0)
}

// Rare fails the test when more requests than the bound were called in doubt although nothing had arrived.
func (v *Verdict) Rare(t T, bound int) {
	t.Helper()
	atMost(t, "requests called in doubt in vain", v.Needless, bound)
}

func atMost(t T, what string, list []string, bound int) {
	t.Helper()
	if len(list) > bound {
		t.Errorf("There were %d %s, allowed are %d:\n  %s", len(list), what, bound, strings.Join(list[:min(len(list), 10)], "\n  "))
	}
}

// Gap is a time without a completed delivery in a partition.
type Gap struct {
	Partition int32
	Length    time.Duration
	Begin     time.Time
	Moved     bool // the deliveries before and after it came from different sidecars (by their path)
}

func (g Gap) String() string {
	how := "stayed"
	if g.Moved {
		how = "moved"
	}
	return fmt.Sprintf("partition %d (%s) silent for %v at %s", g.Partition, how, g.Length.Round(time.Millisecond), g.Begin.Format("15:04:05.000"))
}

// Silence returns the longest gap between deliveries of any partition that stayed with its sidecar, and of
// any that moved, within the time given. Some may be left out.
func (s *Service) Silence(from, to time.Time, but ...int32) (stayed, moved Gap) {
	for _, lane := range lanes(s.Requests(), "partition") {
		var last *Request
		for _, r := range lane {
			if slices.Contains(but, r.Partition) || !r.Done || r.End.Before(from) || r.End.After(to) {
				continue
			}
			if last != nil {
				gap := Gap{r.Partition, r.End.Sub(last.End), last.End, r.Path != last.Path}
				if longest := map[bool]*Gap{false: &stayed, true: &moved}[gap.Moved]; gap.Length > longest.Length {
					*longest = gap
				}
			}
			last = r
		}
	}
	return stayed, moved
}
