package api

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/kpush/kpush/forwarder"
	"github.com/kpush/kpush/kafka"
)

// The page's charts show the last quarter of an hour. Where a process has more partitions than historyMost, the others have none.
const (
	sampleTime  = 5 * time.Second
	samples     = 180
	historyMost = 1024
)

// history remembers a sample of each partition every sampleTime.
type history struct {
	mu    sync.Mutex
	rings map[kafka.Partition]*ring
}

// ring holds the newest samples; NaN: there is none of that time.
type ring struct {
	last       int64 // number of the newest sample, counted from 1970
	rate, open [samples]float32
}

// keepHistory takes samples until ctx ends. A status that does not come leaves a gap.
func (a *API) keepHistory(ctx context.Context) {
	tick := time.NewTicker(sampleTime)
	defer tick.Stop()
	for {
		if s, err := a.watch.now(ctx); err == nil {
			a.history.add(time.Now(), s.Partitions)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (h *history) add(now time.Time, all []forwarder.PartitionStatus) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := sampleNumber(now)
	for p, r := range h.rings {
		if n-r.last > samples {
			delete(h.rings, p)
		}
	}
	for _, p := range all {
		r := h.rings[p.Partition]
		if r == nil {
			if len(h.rings) >= historyMost {
				continue
			}
			if h.rings == nil {
				h.rings = map[kafka.Partition]*ring{}
			}
			r = &ring{last: n - samples}
			h.rings[p.Partition] = r
		}
		for missed := max(r.last, n-samples) + 1; missed < n; missed++ {
			r.rate[missed%samples], r.open[missed%samples] = float32(math.NaN()), float32(math.NaN())
		}
		_, open := p.Lag()
		r.last, r.rate[n%samples], r.open[n%samples] = n, float32(p.PerSecond), float32(open)
	}
}

func sampleNumber(t time.Time) int64 { return t.Unix() / int64(sampleTime/time.Second) }

// of are a partition's samples up to now, oldest first; nil: there are none.
func (h *history) of(p kafka.Partition, now time.Time) (rate, open []float32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.rings[p]
	if r == nil {
		return nil, nil
	}
	for n, end := sampleNumber(now)-samples+1, sampleNumber(now); n <= end; n++ {
		if n > r.last || n <= r.last-samples {
			rate, open = append(rate, float32(math.NaN())), append(open, float32(math.NaN()))
			continue
		}
		rate, open = append(rate, r.rate[n%samples]), append(open, r.open[n%samples])
	}
	return rate, open
}

// chart is a line of rates as SVG draws it, in a box of samples × chartHeight, and in words.
type chart struct{ Path, Words string }

const chartHeight = 30

func chartOf(rate []float32, now float64) chart {
	highest := float32(now)
	for _, v := range rate {
		if v > highest {
			highest = v
		}
	}
	var path strings.Builder
	pen := "M"
	for x, v := range rate {
		if math.IsNaN(float64(v)) {
			pen = "M"
			continue
		}
		fmt.Fprintf(&path, "%s%d %.1f", pen, x, chartHeight-1-(chartHeight-2)*v/max(highest, 1))
		if pen == "M" {
			path.WriteString("h.5") // a sample alone is seen, too
		}
		pen = "L"
	}
	return chart{path.String(), fmt.Sprintf("messages a second in the last 15 minutes: now %s, highest %s", rateWords(now), rateWords(float64(highest)))}
}

func rateWords(v float64) string {
	if v != 0 && v < 10 {
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// catchUp is when nothing will be open any more: at the pace at which it became less in the last minute; in words.
func catchUp(p Partition, open []float32) string {
	switch {
	case p.Open == nil:
		return "not known"
	case *p.Open == 0:
		return "caught up"
	}
	const minute = int(time.Minute / sampleTime)
	pace := p.PerSecond
	for i := max(0, len(open)-minute); i < len(open); i++ {
		if was := float64(open[i]); !math.IsNaN(was) {
			if passed := time.Duration(len(open)-1-i) * sampleTime; passed > 0 {
				pace = (was - float64(*p.Open)) / passed.Seconds()
			}
			break
		}
	}
	if pace <= 0 {
		return "not at this pace"
	}
	return span(min(float64(*p.Open)/pace, 1e9))
}

// span is a length of time in seconds for people.
func span(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < time.Second:
		return "less than 1 s"
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}
