package pace

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// stalling is a service on a machine that stands still now and then: a garbage collection, a host that takes the core.
type stalling struct {
	model
	stalls []stall // those to come
	past   time.Duration
}

type stall struct{ from, long time.Duration }

func newStalling(m model, gap, most, length time.Duration, r *rand.Rand) *stalling {
	s := &stalling{model: m}
	for at := time.Duration(0); at < length; {
		next := stall{at + time.Duration(r.ExpFloat64()*float64(gap)), time.Duration(r.Float64() * float64(most))}
		s.stalls = append(s.stalls, next)
		at = next.from + next.long
	}
	return s
}

// arrive asks the service by a clock that stands still, too.
func (s *stalling) arrive(now time.Duration) (time.Duration, bool) {
	for len(s.stalls) > 0 && s.stalls[0].from+s.stalls[0].long <= now {
		s.past += s.stalls[0].long
		s.stalls = s.stalls[1:]
	}
	own := now - s.past
	if len(s.stalls) > 0 {
		own = min(own, s.stalls[0].from-s.past)
	}
	took, refused := s.model.arrive(own)
	end := own + took + s.past
	for _, next := range s.stalls {
		if next.from > end {
			break
		}
		end += next.long
	}
	return max(end-now, 1), refused
}

// lost is how long it will stand still.
func (s *stalling) lost() (sum time.Duration) {
	for _, next := range s.stalls {
		sum += next.long
	}
	return sum
}

// A stall makes a whole turn slow, and says nothing of how many requests are best.
func TestAdaptiveIsNotMisledByStalls(t *testing.T) {
	t.Parallel()
	const seeds, length = 8, 20 * time.Second
	for _, n := range []int{4, 8, 32} {
		for _, stalls := range []struct{ gap, most time.Duration }{{200 * ms, 60 * ms}, {500 * ms, 300 * ms}, {30 * ms, 15 * ms}} {
			t.Run(fmt.Sprintf("%d workers, every %v up to %v", n, stalls.gap, stalls.most), func(t *testing.T) {
				var rate, latency float64
				far, of := 0, 0
				for seed := range uint64(seeds) {
					rnd := rand.New(rand.NewPCG(seed, 7))
					s := newStalling(newPool(n, jittered(5*ms)(rnd)), stalls.gap, stalls.most, length, rnd)
					best := float64(n) * 200 * (1 - s.lost().Seconds()/length.Seconds())
					got, limits := measure(simulate(newAdaptive(), s, 0, once(0, nil), rnd)[10:], best, 5*ms)
					rate += got.rate / seeds
					latency += got.latency / seeds
					for _, limit := range limits {
						of++
						if limit > 3*n+4 {
							far++
						}
					}
				}
				line := fmt.Sprintf("rate %.2f, latency %.1f, %.1f %% of the limits far above", rate, latency, 100*float64(far)/float64(of))
				t.Log(line)
				if rate < 0.85 || latency > 2.8 || far*10 > of {
					t.Errorf("%s; want 0.85, 2.8, 10 %%", line)
				}
			})
		}
	}
}
