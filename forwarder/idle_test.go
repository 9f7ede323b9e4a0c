package forwarder

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// Memory is given back when messages have stopped coming, and now and then as long as none comes.
func TestMemoryIsGivenBackWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, small(), handle(always))
		var given atomic.Int32
		r.f.parts.Idle = func() { given.Add(1) }
		r.run()
		r.kafka.give(t0)
		for range 20 {
			r.kafka.produce(t0, 1, 10)
			pass(idleTime / 2)
		}
		if n := given.Load(); n != 0 {
			t.Errorf("given back %d times although messages came all the time", n)
		}
		pass(idleTime)
		if n := given.Load(); n != 1 {
			t.Errorf("given back %d times when none came any more", n)
		}
		pass(tidyTime / 2)
		if n := given.Load(); n != 1 {
			t.Error("given back again at once")
		}
		pass(tidyTime / 2)
		if n := given.Load(); n != 2 {
			t.Errorf("given back %d times as long as none came", n)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}
