package forwarder

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
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
		list, err := r.f.Skipped()
		if err != nil || len(list) != 3 || list[0].Size != 1 || list[0].Attempts != 1 || string(list[0].Key) != "\xff\x00" || list[2].Offset != 2 || !list[0].Resent.IsZero() {
			t.Fatalf("%+v, %v", list, err)
		}
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
		want := []string{`t/0/0/T#3 "\xff\x00"="a" [{h [118]} {null []}] 17`, `t/0/1/T#2 ""="" [] 0`, `t/0/2/T#2 ""="" [] 0`}
		if !slices.Equal(got, want) {
			t.Errorf("sent %q", got)
		}
		if list, err = r.f.Skipped(); err != nil || len(list) != 3 || list[0].Resent.IsZero() || list[2].Resent.IsZero() {
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
	if list, err := r.f.Skipped(); err != nil || list != nil {
		t.Error(list, err)
	}
	whole, err := json.Marshal(skipped{ID: "t/0/5", Topic: "t", Offset: 5})
	if err != nil {
		t.Fatal(err)
	}
	text := string(whole[:20]) + "\n" + string(whole) + "\nnot JSON\n" + string(whole[:9])
	if err := os.WriteFile(r.f.skips.path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := r.f.Skipped(); err != nil || len(list) != 1 || list[0].Offset != 5 {
		t.Errorf("%+v, %v", list, err)
	}
}

// A message's id has the topic's as Kafka's own tools write it: one part, however many slashes standard base64 has in it.
func TestAMessagesIDHasFourParts(t *testing.T) {
	for id, want := range map[string]string{"a/b+c/d==": "a_b-c_d", "USiVIew0TVeSVDySqVN7wg": "USiVIew0TVeSVDySqVN7wg", "": ""} {
		if got := urlSafe(id); got != want {
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
