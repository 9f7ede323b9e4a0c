package rig

import (
	"testing"
	"time"
)

func TestLateness(t *testing.T) {
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	list := []away{{at(0), at(10)}, {at(5), at(25)}, {at(40), at(60)}, {at(90), at(95)}}
	for _, c := range []struct{ from, to, want int }{
		{0, 100, 55}, // what two processors are away for counts twice
		{8, 50, 2 + 17 + 10},
		{25, 40, 0},
		{92, 93, 1},
		{100, 200, 0},
	} {
		if got := lateness(list, at(c.from), at(c.to)); got != time.Duration(c.want)*time.Millisecond {
			t.Errorf("From %d to %d ms the machine was away for %v, want %d ms.", c.from, c.to, got, c.want)
		}
	}
}
