package forwarder

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/offsets"
)

// A page is written with words: f fetched, x fetched and known as done, s sent, d done, S settled; what follows is the offset.
func TestPage(t *testing.T) {
	for _, row := range []struct {
		steps []string
		next  int64
		open  int
		done  string
	}{
		{nil, 5, 0, "20-21"},
		{[]string{"f7"}, 7, 1, "20-21"},
		{[]string{"f7", "s7"}, 8, 1, "20-21"},
		{[]string{"f7", "s7", "d7"}, 8, 0, "20-21"},
		{[]string{"f7", "f8", "s8"}, 7, 2, "20-21"},
		{[]string{"f7", "f8", "f9", "s7", "s8"}, 9, 3, "20-21"},
		{[]string{"f7", "f8", "s7", "s8", "d8"}, 9, 2, "20-21"},
		{[]string{"f7", "f8", "s7", "s8", "d8", "S0"}, 7, 2, "8-8,20-21"},
		{[]string{"f7", "f8", "s7", "d7", "s8", "S0"}, 8, 1, "20-21"},
		{[]string{"f7", "f8", "f9", "f10", "d8", "d9", "S0"}, 7, 4, "8-9,20-21"},
		{[]string{"f7", "d7", "S0"}, 8, 0, "20-21"},
		{[]string{"f7", "x20"}, 7, 1, "20-21"},
		{[]string{"f7", "x20", "d7"}, 21, 0, "21-21"},
		{[]string{"f7", "x20", "x21", "f22", "d7", "S0"}, 22, 1, ""},
	} {
		p := &page{next: 5, before: offsets.Ranges{{From: 20, To: 22}}}
		for _, s := range row.steps {
			var what rune
			var o int64
			if _, err := fmt.Sscanf(s, "%c%d", &what, &o); err != nil {
				t.Fatal(err)
			}
			var err error
			switch what {
			case 'f', 'x':
				if p.Fetched(o) != (what == 'f') {
					t.Errorf("%v: %d is filtered: %v", row.steps, o, what == 'f')
				}
			case 's':
				err = p.Intent(offsets.Attempt{Offset: o})
			case 'd':
				err = p.Done(o)
			case 'S':
				p.settle()
			}
			if err != nil {
				t.Errorf("%v: %v", row.steps, err)
			}
		}
		if next, done := p.Progress(); next != row.next || done.String() != row.done || p.Outstanding() != row.open {
			t.Errorf("%v: next %d, done %s, %d open; want %d, %s, %d", row.steps, next, done, p.Outstanding(), row.next, row.done, row.open)
		}
	}
	p := &page{next: 5}
	p.Advance(9)
	if next, _ := p.Progress(); next != 9 {
		t.Errorf("next %d behind markers, want 9", next)
	}
	p.Release()
	if err := p.Done(9); !errors.Is(err, offsets.ErrReleased) || p.Fetched(10) {
		t.Errorf("after the release: %v", err)
	}
}

// Guarantee 1 commits what was sent, and at a hand-over only what has its outcome; it needs no volume.
func TestGuaranteeOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(always))
		r.f = build(r.f.cfg, nil, handle(func(d *Delivery) Verdict {
			if d.Offset < 3 {
				return good
			}
			<-d.Attempt().Done()
			return Verdict{Class: Aborted, InDoubt: true}
		}), r.kafka, fakeAdmin{r.kafka}, slog.New(slog.NewTextHandler(io.Discard, nil)))
		r.run()
		r.kafka.produce(t0, 10, 10)
		r.kafka.give(t0)
		r.until("what is in flight is committed", func() bool { return r.kafka.storedAt(t0) == 4 })
		pass(time.Minute)
		if n := len(r.kafka.callsOf("commit")); n > 5 {
			t.Errorf("%d commits in a minute without progress", n)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if at := r.kafka.storedAt(t0); at != 3 {
			t.Errorf("the stop committed %d, and 3 has no outcome", at)
		}
	})
}

// Guarantee 1 repeats nothing at a stop, a rebalance or a change of the guarantee, also of what is done out of order.
func TestGuaranteeOneOutOfOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small()
		cfg.Order = OrderNone
		r, b := newRig(t, cfg, handle(always)), newBook()
		stuck := b.keeping(func(d *Delivery) Verdict {
			if d.Offset == 3 {
				return bad
			}
			return good
		})
		without := func() *rig {
			r.f = build(r.f.cfg, nil, stuck, r.kafka, fakeAdmin{r.kafka}, slog.New(slog.NewTextHandler(io.Discard, nil)))
			return r.run()
		}
		r.kafka.produce(t0, 100, 10)
		without()
		r.kafka.give(t0)
		r.until("all but one are tried", func() bool { return b.count() >= 100 })
		pass(time.Minute)
		r.kafka.take(false, t0)
		if at := r.kafka.storedAt(t0); at != 3 {
			t.Errorf("the hand-over committed %d, and 3 has no outcome", at)
		}
		r.kafka.give(t0)
		pass(time.Minute)
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		without()
		r.kafka.give(t0)
		pass(time.Minute)
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		others := 0
		for _, a := range b.of(t0) {
			if !strings.Contains(a, "/3#") {
				others++
			}
		}
		if others != 99 {
			t.Errorf("%d attempts at the 99 messages that are done", others)
		}
	})
}
