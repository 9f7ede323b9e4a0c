package simulation

import (
	"context"
	"time"

	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/kafka"
)

// deed is what the service knows of a message: the truth that all is judged by.
type deed struct {
	key     string
	begun   int       // requests that have come
	running int       // of those, what is being done
	done    int       // and what was done, whoever heard of it
	newest  time.Time // when the newest of them came
	excused bool      // nothing that kpush can read knows of it: see excuse
}

// service counts requests. Its owner is the world's lock.
type service struct {
	w     *World
	deeds map[kafka.Partition]map[int64]*deed
	lanes map[lane][]int64 // offsets that are not done, in the order of the log

	requests, repeats, faults int
}

// lane is what is done one after the other.
type lane struct {
	kafka.Partition
	key string
}

// laneOf is a record's; ok is false where it has none.
func (s *service) laneOf(p kafka.Partition, r record) (l lane, ok bool) {
	switch s.w.cfg.order {
	case "partition":
		return lane{p, ""}, true
	case "key":
		return lane{p, r.key}, true
	}
	return lane{}, false
}

// produced notes a message that there is.
func (s *service) produced(p kafka.Partition, r record) {
	if s.deeds[p] == nil {
		s.deeds[p] = map[int64]*deed{}
	}
	s.deeds[p][r.offset] = &deed{key: r.key}
	if l, ok := s.laneOf(p, r); ok {
		s.lanes[l] = append(s.lanes[l], r.offset)
	}
}

// begin is a request that has come; it judges it.
func (s *service) begin(l *life, it *push.Item) *deed {
	d := s.deeds[it.Partition][it.Offset]
	if d == nil {
		s.w.fail("%s sends %s/%d, which there is not", l, it.Partition, it.Offset)
		return &deed{}
	}
	s.requests++
	if s.w.verbose {
		s.w.say("%s sends %s/%d attempt %d in doubt %v", l, it.Partition, it.Offset, it.Attempt, it.InDoubt)
	}
	if d.done > 0 {
		s.repeats++
	}
	if (d.done > 0 || d.running > 0) && !it.InDoubt && !it.Replay && !d.excused {
		s.w.fail("%s sends %s/%d (attempt %d) again without a flag: it was done %d times, and is under way %d times", l, it.Partition, it.Offset, it.Attempt, d.done, d.running)
	}
	if n, ok := s.laneOf(it.Partition, record{it.Offset, string(it.Key)}); ok && d.done == 0 && len(s.lanes[n]) > 0 && s.lanes[n][0] < it.Offset {
		s.w.fail("%s sends %s/%d before %d of the same lane is done", l, it.Partition, it.Offset, s.lanes[n][0])
	}
	d.begun++
	d.running++
	d.newest = time.Now()
	return d
}

// excuse is for a volume that holds no more than it did then, and does not know it: what was sent since is not in it. A copy that was put back can be
// told from the volume where Kafka has taken a commit of the partition since, which names what the volume held. Where a sync that failed has taken
// pages from memory some of what came later may be left, so that nothing is missed of it (known: false).
func (s *service) excuse(holds time.Time, known bool) {
	for p, deeds := range s.deeds {
		if known && s.w.group.taken[p].After(holds) {
			continue
		}
		for _, d := range deeds {
			d.excused = d.excused || d.newest.After(holds)
		}
	}
}

// end is a request whose work is over; done: it was done.
func (s *service) end(p kafka.Partition, offset int64, d *deed, done bool) {
	d.running--
	if !done {
		return
	}
	d.done++
	if d.done > 1 {
		return
	}
	s.w.undone--
	n, ok := s.laneOf(p, record{offset, d.key})
	if !ok {
		return
	}
	for len(s.lanes[n]) > 0 && s.deeds[p][s.lanes[n][0]].done > 0 {
		s.lanes[n] = s.lanes[n][1:]
	}
}

// lowest is the first offset of a partition that is not done, or where its log ends.
func (s *service) lowest(p kafka.Partition) int64 {
	l := s.w.logs[p]
	for s.w.low[p] < len(l.records) && s.deeds[p][l.records[s.w.low[p]].offset].done > 0 {
		s.w.low[p]++
	}
	if s.w.low[p] == len(l.records) {
		return l.next
	}
	return l.records[s.w.low[p]].offset
}

// Push is an attempt of a life's at the service.
func (l *life) Push(a *push.Attempt) push.Verdict {
	w, it := l.host.w, a.Items[0]
	if _, err := a.Gate.Cleared(); err != nil {
		return push.Verdict{Class: push.Aborted, Reason: err.Error()}
	}
	l.step("send")
	dice, mode, dead := w.dice("service", int64(it.Partition.Number), it.Offset, int64(it.Attempt)), "", false
	var d *deed
	w.with(func() {
		if dead = l.dead; dead {
			return
		}
		if mode = w.now("service"); mode != "down" {
			d = w.service.begin(l, it)
		}
	})
	switch {
	case dead:
		<-a.Context().Done()
		return push.Verdict{Class: push.Aborted, Reason: "killed"}
	case mode == "down":
		time.Sleep(time.Millisecond)
		return push.Verdict{Class: push.ServiceFault, Reason: "connection refused", Absent: true}
	}
	takes, verdict := answer(mode, dice.IntN(1000), time.Duration(1+dice.IntN(6))*time.Millisecond)
	over, partition, offset := make(chan struct{}), it.Partition, it.Offset
	time.AfterFunc(takes, func() {
		w.with(func() { w.service.end(partition, offset, d, verdict.Class == push.Delivered || verdict.InDoubt) })
		close(over)
	})
	late := time.NewTimer(execTimeout)
	defer late.Stop()
	select {
	case <-over:
		l.step("answer")
		return verdict
	case <-late.C:
		return push.Verdict{Class: push.MessageFault, Reason: "no answer in time", InDoubt: true}
	case <-a.Context().Done():
		return push.Verdict{Class: push.Aborted, Reason: context.Cause(a.Context()).Error(), InDoubt: true}
	}
}

// answer is how long a request takes, and what comes of it.
func answer(mode string, n int, takes time.Duration) (time.Duration, push.Verdict) {
	fault := push.Verdict{Class: push.MessageFault, Status: 500, Reason: "the service answered 500"}
	switch {
	case mode == "slow":
		takes += time.Duration(n) * time.Millisecond
	case mode == "hangs" && n < 300:
		takes = 2 * execTimeout
	case mode == "faults" && n < 300, n < 10:
		return takes, fault
	case mode == "breaks" && n < 300:
		return takes, push.Verdict{Class: push.ServiceFault, Reason: "the answer broke off", InDoubt: true}
	case mode == "busy" && n < 300:
		return takes, push.Verdict{Class: push.Busy, Status: 429, Reason: "the service answered 429", RetryAfter: time.Duration(n%2) * time.Second}
	}
	return takes, push.Verdict{}
}
