package forwarder

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/offsets"
)

// The skip log is listed, and sent again on request: each once, outside the order, with what it was.
func TestResend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		well := false
		r := newRig(t, hasty(OrderPartition, func(c *settings) { c.GiveUpInARow = 0 }), handle(func(d *Delivery) Verdict {
			if !well {
				return bad
			}
			m := d.Message
			got = append(got, fmt.Sprintf("%s#%d %q=%q %v %d", d.ID(), d.Number(), m.Key, m.Value, m.Headers, m.Timestamp))
			return good
		})).run()
		r.kafka.with(func() {
			r.kafka.log[t0] = []*kafka.Message{
				{Partition: t0, Offset: 0, Key: []byte{0xff, 0}, Value: []byte("a"), Timestamp: 17, Headers: []kafka.Header{{Name: "h", Value: []byte("v")}, {Name: "null"}}},
				{Partition: t0, Offset: 1, Value: []byte{}}, {Partition: t0, Offset: 2}}
		})
		r.kafka.give(t0)
		pass(time.Minute)
		page, err := r.f.Skipped(0, 100)
		list := page.Messages
		if err != nil || len(list) != 3 || list[0].Size != 1 || list[0].Attempts != 1 || string(list[0].Key) != "\xff\x00" || list[2].Offset != 2 || !list[0].Resent.IsZero() {
			t.Fatalf("%+v, %v", list, err)
		}
		lines, err := os.ReadFile(r.f.skips.path)
		if err == nil { // a line of a version that wrote the topic's id in standard base64
			err = os.WriteFile(r.f.skips.path, bytes.Replace(lines, []byte(`"t/0/1/T"`), []byte(`"t/0/1/T/+="`), 1), 0o600)
		}
		must(t, err)
		one := []kafka.Position{{Partition: t0, Offset: 0}}
		if out, err := r.f.Resend(t.Context(), "op", one); err != nil || len(out) != 1 || out[0].Delivered || out[0].Reason != bad.Reason {
			t.Errorf("%+v, %v", out, err)
		}
		well = true
		if out, err := r.f.Resend(t.Context(), "op", one); err != nil || len(out) != 1 || !out[0].Delivered {
			t.Errorf("%+v, %v", out, err)
		}
		if out, err := r.f.Resend(t.Context(), "op", nil); err != nil || len(out) != 2 {
			t.Errorf("%+v, %v", out, err)
		}
		if out, err := r.f.Resend(t.Context(), "op", nil); err != nil || len(out) != 0 {
			t.Errorf("again %+v, %v", out, err)
		}
		if _, err := r.f.Resend(t.Context(), "op", []kafka.Position{{Partition: t0, Offset: 9}}); !errors.Is(err, ErrNotFailing) {
			t.Error(err)
		}
		want := []string{`t/0/0/T#3 "\xff\x00"="a" [{h [118]} {null []}] 17`, `t/0/1/T_-#2 ""="" [] 0`, `t/0/2/T#2 ""="" [] 0`}
		if !slices.Equal(got, want) {
			t.Errorf("sent %q", got)
		}
		page, err = r.f.Skipped(0, 100)
		if list = page.Messages; err != nil || len(list) != 3 || list[0].Resent.IsZero() || list[2].Resent.IsZero() {
			t.Errorf("%+v, %v", list, err)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// What is no line is passed over, by the list and by the audit; a file that is not there is an empty one.
func TestTornLinesAreLeftOut(t *testing.T) {
	r := newRig(t, small(), handle(always))
	if page, err := r.f.Skipped(0, 100); err != nil || page.Messages != nil || page.Next != 0 {
		t.Error(page, err)
	}
	whole, err := json.Marshal(skipped{ID: "t/0/5", Topic: "t", Offset: 5})
	if err != nil {
		t.Fatal(err)
	}
	text := string(whole[:20]) + "\n" + string(whole) + "\nnot JSON\n" + string(whole[:9])
	if err := os.WriteFile(r.f.skips.path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if page, err := r.f.Skipped(0, 100); err != nil || len(page.Messages) != 1 || page.Messages[0].Offset != 5 {
		t.Errorf("%+v, %v", page, err)
	}
}

// writeSkips writes a skip log of lines: "5" is a skip of t/0/5, "5?" one that was in doubt; begins, delivered, refused behind it a resend's.
func writeSkips(t *testing.T, path string, lines ...string) {
	t.Helper()
	var text []byte
	for i, line := range lines {
		name, note, isNote := strings.Cut(line, " ")
		offset, err := strconv.ParseInt(strings.TrimSuffix(name, "?"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		at, id := noon.Add(time.Duration(i)*time.Second), fmt.Sprintf("t/0/%d/T", offset)
		var v any = skipped{Time: at, ID: id, Topic: "t", Offset: offset, Attempts: 3, Reason: fmt.Sprint("reason ", i), InDoubt: strings.HasSuffix(name, "?"),
			Value: []byte(`{"id":"t/0/1/T","resend":"delivered"}`), ValueText: `{"id":"t/0/1/T","resend":"delivered"}`}
		if isNote {
			v = resentLine{Time: at, ID: id, Topic: "t", Offset: offset, Resend: note}
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		text = append(append(text, b...), '\n')
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// inPages reads a log in pages of so many, and says what is in them.
func inPages(t *testing.T, page func(after int64, limit int) (SkippedPage, error), limit int) string {
	t.Helper()
	var all []string
	for after := int64(0); ; {
		p, err := page(after, limit)
		if err != nil || len(p.Messages) > limit {
			t.Fatal(p, err)
		}
		for _, m := range p.Messages {
			text := fmt.Sprintf("%d#%d", m.Offset, m.Attempts)
			if !m.Resent.IsZero() {
				text += "!"
			}
			if m.InDoubt {
				text += "?"
			}
			all = append(all, text)
		}
		if after = p.Next; after == 0 {
			return strings.Join(all, " ")
		}
	}
}

// Page by page is the same as all at once. The list has each line of a message, with what was noted behind it; a resend has each message
// once, where it was skipped last, with what was noted before, too.
func TestSkippedInPages(t *testing.T) {
	for _, row := range []struct{ log, list, unsent string }{
		{"", "", ""},
		{"1|2|3", "1#3 2#3 3#3", "1#3 2#3 3#3"},
		{"1|1 begins|1 delivered|2|3|2 begins|2 refused", "1#4!? 2#4 3#3", "1#4!? 2#4 3#3"},
		{"1|2|1 begins", "1#4? 2#3", "1#4? 2#3"},
		{"1|1 begins|2|3|1", "1#4? 2#3 3#3 1#3", "2#3 3#3 1#4?"},               // nobody knows what came of the resend
		{"1|1 begins|1 delivered|2|1", "1#4!? 2#3 1#3", "2#3 1#4?"},            // skipped once more, behind a seek
		{"1|1 begins|1 refused|2|1", "1#4 2#3 1#3", "2#3 1#4"},                 //
		{"1?|2|1", "1#3? 2#3 1#3", "2#3 1#3?"},                                 // in doubt ever
		{"1|1|1|2|1 begins|1 delivered", "1#4!? 1#4!? 1#4!? 2#3", "1#4!? 2#3"}, // a crash before it was on record
		{"1|1 begins|1 refused|1 begins|1 delivered|1 begins", "1#6!?", "1#6!?"},
		{"9 begins|1", "1#3", "1#3"}, // of a file that was rotated
		{"1|2|3|4|5|3 begins|3 delivered|4|5", "1#3 2#3 3#4!? 4#3 5#3 4#3 5#3", "1#3 2#3 3#4!? 4#3 5#3"},
	} {
		r := newRig(t, small(), handle(always))
		if row.log != "" {
			writeSkips(t, r.f.skips.path, strings.Split(row.log, "|")...)
		}
		for limit := 1; limit < 9; limit++ {
			if got := inPages(t, r.f.Skipped, limit); got != row.list {
				t.Errorf("%s listed in pages of %d: %s, want %s", row.log, limit, got, row.list)
			}
			unsent := func(after int64, limit int) (SkippedPage, error) { return r.f.skips.unsent(after, limit, nil) }
			if got := inPages(t, unsent, limit); got != row.unsent {
				t.Errorf("%s for a resend in pages of %d: %s, want %s", row.log, limit, got, row.unsent)
			}
		}
	}
}

// What is counted follows the file: more lines, and a rotation. The newest are told, the newest first.
func TestSkipCounts(t *testing.T) {
	r := newRig(t, small(), handle(always))
	path := r.f.skips.path
	want := func(skips, resent int64, newest string) {
		t.Helper()
		c, err := r.f.SkipCounts()
		var names []string
		for _, m := range c.Newest {
			name := fmt.Sprint(m.Offset)
			if !m.Resent.IsZero() {
				name += "!"
			}
			names = append(names, name)
		}
		if err != nil || c.Skipped != skips || c.Resent != resent || strings.Join(names, " ") != newest {
			t.Errorf("%d skipped, %d resent, newest %v, %v; want %d, %d, %s", c.Skipped, c.Resent, names, err, skips, resent, newest)
		}
	}
	want(0, 0, "")
	writeSkips(t, path, "1", "2", "1 begins", "1 delivered")
	want(2, 1, "2 1!")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for i, piece := range []string{string(whole[:20]), string(whole[20:]), "no line\n"} { // half a line is none yet
		if _, err := file.WriteString(piece); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			want(2, 1, "2 1!")
		}
	}
	want(4, 2, "2 1! 2 1!")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	want(0, 0, "")
	var many []string
	for o := range 3 * newestMost {
		many = append(many, fmt.Sprint(o))
	}
	writeSkips(t, path, many...)
	want(60, 0, "59 58 57 56 55 54 53 52 51 50 49 48 47 46 45 44 43 42 41 40")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	writeSkips(t, path, "7")
	want(1, 0, "7")
	if _, err := r.f.Skipped(100_000, 10); !errors.Is(err, ErrAsked) || !strings.Contains(err.Error(), "rotated") {
		t.Error(err)
	}
}

// A log of any length takes the memory of a page.
func TestALongSkipLogTakesNoMemory(t *testing.T) {
	r := newRig(t, small(), handle(always))
	file, err := os.Create(r.f.skips.path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	out := bufio.NewWriter(file)
	const count = 100_000
	for o := range count {
		fmt.Fprintf(out, `{"time":"2026-11-30T12:00:00Z","id":"t/0/%d/T","topic":"t","partition":0,"offset":%[1]d,"timestamp":0,"attempts":3,"reason":"r","in_doubt":false,"key":null,"value":"%s","headers":[]}`+"\n", o, strings.Repeat("A", 100))
	}
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	var most uint64
	held := func() {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapAlloc)
	}
	held()
	before, n := most, 0
	for after := int64(0); ; {
		page, err := r.f.Skipped(after, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		held()
		runtime.KeepAlive(page)
		n += len(page.Messages)
		if after = page.Next; after == 0 {
			break
		}
	}
	c, err := r.f.SkipCounts()
	if held(); err != nil || n != count || c.Skipped != count || most-before > 8<<20 {
		t.Errorf("%d listed, %d counted, %d MiB more at the most, %v", n, c.Skipped, (most-before)>>20, err)
	}
}

// A message's id has the topic's as Kafka's own tools write it: one part, however many slashes standard base64 has in it.
func TestAMessagesIDHasFourParts(t *testing.T) {
	for id, want := range map[string]string{"a/b+c/d==": "a_b-c_d", "USiVIew0TVeSVDySqVN7wg": "USiVIew0TVeSVDySqVN7wg", "": ""} {
		if got := offsets.URLSafe(id); got != want {
			t.Errorf("%q became %q, want %q", id, got, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		var got string
		r := newRig(t, small(), handle(func(d *Delivery) Verdict { got = d.ID(); return good }))
		r.kafka.ids["t"] = "//++AA=="
		r.run()
		r.kafka.produce(t0, 1, 10)
		r.kafka.give(t0)
		pass(time.Second)
		if got != "t/0/0/__--AA" || r.newestMark(t0).TopicID != "//++AA==" {
			t.Errorf("the id is %s, the mark has %s", got, r.newestMark(t0).TopicID)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A message that is refused by name is not resent; one that was skipped twice is sent once; none goes out once the process stops.
func TestResendSaysTheTruth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := batches(4, OrderPartition, func(c *settings) { c.CanSkip, c.RetryNums = true, 1 })
		r := newRig(t, cfg, nil)
		k := opened(r, func(posted) reply { return reply{status: 400} })
		r.run()
		r.kafka.produce(t0, 1, 10)
		r.kafka.give(t0)
		r.until("it is skipped", func() bool { return r.skipped() == 1 })
		line, err := os.ReadFile(r.f.skips.path)
		if err == nil {
			err = os.WriteFile(r.f.skips.path, append(line, line...), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		k.answer = func(posted) reply { return naming(0) }
		if out, err := r.f.Resend(t.Context(), "op", nil); err != nil || len(out) != 1 || out[0].Delivered || out[0].Reason != reasonNamed {
			t.Errorf("%+v, %v", out, err)
		}
		k.answer = func(posted) reply { return reply{cut: true} }
		if out, err := r.f.Resend(t.Context(), "op", nil); err != nil || len(out) != 1 || out[0].Delivered {
			t.Errorf("%+v, %v", out, err)
		}
		var doubt bool
		k.answer = func(q posted) reply { doubt = q.items[0].InDoubt; return reply{} }
		for want := 1; want >= 0; want-- {
			if out, err := r.f.Resend(t.Context(), "op", nil); err != nil || len(out) != want || want > 0 && !(out[0].Delivered && doubt) {
				t.Errorf("%+v, %v, in doubt %t", out, err, doubt)
			}
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if _, err := r.f.Resend(t.Context(), "op", nil); !errors.Is(err, ErrEnding) {
			t.Error(err)
		}
	})
}

// A stop waits for a request of a resend as for any other, and lets no other one begin.
func TestAStopWaitsForAResend(t *testing.T) {
	for _, takes := range []time.Duration{5 * time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			var again atomic.Bool
			r := newRig(t, hasty(OrderPartition, nil), handle(func(d *Delivery) Verdict {
				if !again.Load() {
					return bad
				}
				time.Sleep(takes)
				return good
			})).run()
			r.kafka.produce(t0, 2, 10)
			r.kafka.give(t0)
			r.until("both are skipped", func() bool { return r.skipped() == 2 })
			again.Store(true)
			came := make(chan []Resent, 1)
			go func() {
				out, _ := r.f.Resend(t.Context(), "op", nil)
				came <- out
			}()
			pass(time.Second)
			begun := time.Now()
			if err := r.stop(); err != nil {
				t.Error(err)
			}
			took, late := time.Since(begun), len(r.logs.With("a resend was still under way when the drain ended")) == 1
			if inTime := takes < 25*time.Second; late == inTime || inTime && took < 3*time.Second || took > 25*time.Second {
				t.Errorf("takes %v: the stop took %v, and says that one was under way: %t", takes, took, late)
			}
			if out := <-came; len(out) != 1 || !out[0].Delivered {
				t.Errorf("%+v", out)
			}
		})
	}
}
