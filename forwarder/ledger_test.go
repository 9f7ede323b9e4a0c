package forwarder

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/offsets"
)

// A page is written with words: f fetched, s sent, d done, S settled; what follows is the offset.
func TestPage(t *testing.T) {
	for _, row := range []struct {
		steps []string
		next  int64
		open  int
	}{
		{nil, 5, 0},
		{[]string{"f7"}, 7, 1},
		{[]string{"f7", "s7"}, 8, 1},
		{[]string{"f7", "s7", "d7"}, 8, 0},
		{[]string{"f7", "f8", "s8"}, 7, 2},
		{[]string{"f7", "f8", "f9", "s7", "s8"}, 9, 3},
		{[]string{"f7", "f8", "s7", "s8", "d8"}, 9, 2},
		{[]string{"f7", "f8", "s7", "s8", "d8", "S0"}, 7, 2},
		{[]string{"f7", "f8", "s7", "d7", "s8", "S0"}, 8, 1},
		{[]string{"f7", "d7", "S0"}, 8, 0},
	} {
		p := &page{next: 5}
		for _, s := range row.steps {
			var what rune
			var o int64
			if _, err := fmt.Sscanf(s, "%c%d", &what, &o); err != nil {
				t.Fatal(err)
			}
			var err error
			switch what {
			case 'f':
				if !p.Fetched(o) {
					t.Errorf("%v: %d is filtered", row.steps, o)
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
		if next, done := p.Progress(); next != row.next || len(done) > 0 || p.Outstanding() != row.open {
			t.Errorf("%v: next %d, %d open; want %d, %d", row.steps, next, p.Outstanding(), row.next, row.open)
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
