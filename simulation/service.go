package simulation

import (
	"context"
	"fmt"
	"time"

	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/kafka"
)

// deed is what the service knows of a message: the truth that all is judged by.
type deed struct {
	key      string
	begun    int       // requests that have come
	running  int       // of those, what is being done
	done     int       // and what was done, whoever heard of it
	newest   time.Time // when the newest of them came
	by       *life     // who had a complete 2xx, nil: nobody
	answered time.Time // and when
	skipped  bool      // an operator has, or may have
	had      bool      // an outcome, whatever an operator has asked for since
	excused  bool      // nothing that kpush can read knows of it: see excuse
	misread  *life     // who has sent it as a message of the topic that was before
}

// over tells whether nobody has to send it any more.
func (d *deed) over() bool { return d.done > 0 || d.skipped }

// service counts requests. Its owner is the world's lock.
type service struct {
	w     *World
	deeds map[kafka.Partition]map[int64]*deed // of the topic that there is now
	lanes map[lane][]int64                    // offsets that are not done, in the order of the log

	requests, repeats int
}

func newService(w *World) service {
	return service{w: w, deeds: map[kafka.Partition]map[int64]*deed{}, lanes: map[lane][]int64{}}
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
	s.requests++
	if s.w.verbose {
		s.w.say("%s sends %s/%d attempt %d in doubt %v", l, it.Partition, it.Offset, it.Attempt, it.InDoubt)
	}
	if string(it.Value) != s.w.topicID() {
		return &deed{} // a message of a topic that is gone
	}
	d := s.deeds[it.Partition][it.Offset]
	if d == nil {
		s.w.fail("%s sends %s/%d, which there is not", l, it.Partition, it.Offset)
		return &deed{}
	}
	if it.TopicID == s.w.topicID() {
		s.judge(l, it, d)
	} else {
		d.misread = l
	}
	d.begun++
	d.running++
	d.newest = time.Now()
	return d
}

func (s *service) judge(l *life, it *push.Item, d *deed) {
	flagged := it.InDoubt || it.Replay || d.excused || d.misread != nil && d.misread != l
	if (d.done > 0 || d.running > 0) && !flagged {
		s.w.fail("%s sends %s/%d (attempt %d) again without a flag: it was done %d times, and is under way %d times", l, it.Partition, it.Offset, it.Attempt, d.done, d.running)
	}
	if it.Replay && !d.had {
		s.w.fail("%s says of %s/%d that it had an outcome before, and it had none", l, it.Partition, it.Offset)
	}
	if s.w.paused[it.Partition] {
		s.w.fail("%s sends %s/%d, which an operator has paused", l, it.Partition, it.Offset)
	}
	if d.by != nil && !d.excused && d.misread == nil {
		s.charge(l, it.Partition, it.Offset, d)
	}
	if n, ok := s.laneOf(it.Partition, record{it.Offset, string(it.Key)}); ok && !d.over() && len(s.lanes[n]) > 0 && s.lanes[n][0] < it.Offset {
		s.w.fail("%s sends %s/%d before %d of the same lane is done", l, it.Partition, it.Offset, s.lanes[n][0])
	}
}

// excuse is for a volume that holds no more than it did then, and does not know it: what was sent since, until it was lost, is not in it. A copy that was put back can be
// told from the volume where Kafka has taken a commit of the partition that names more than that as what the volume held. Where a sync that failed has taken
// pages from memory some of what came later may be left, so that nothing is missed of it. known tells of which partitions it does know.
func (s *service) excuse(holds, until time.Time, known func(kafka.Partition) bool) {
	for p, deeds := range s.deeds {
		if known(p) {
			continue
		}
		for _, d := range deeds {
			d.excused = d.excused || d.newest.After(holds) && !d.newest.After(until)
		}
	}
}

func nobody(kafka.Partition) bool { return false }

// end is a request whose work is over; done: it was done.
func (s *service) end(p kafka.Partition, offset int64, d *deed, done bool) {
	d.running--
	if !done {
		return
	}
	was := d.over()
	d.had = true
	if d.done++; !was && s.deeds[p][offset] == d {
		s.w.undone--
		s.pass(p, offset, d)
	}
}

// pass takes what is over from the front of a lane.
func (s *service) pass(p kafka.Partition, offset int64, d *deed) {
	n, ok := s.laneOf(p, record{offset, d.key})
	for ok && len(s.lanes[n]) > 0 && s.deeds[p][s.lanes[n][0]].over() {
		s.lanes[n] = s.lanes[n][1:]
	}
}

// again begins a partition anew at an offset: what is there is to be done again, what is not done in front of it never.
func (s *service) again(p kafka.Partition, at int64) {
	for offset, d := range s.deeds[p] {
		if offset < at {
			d.skipped = d.skipped || d.done == 0
			continue
		}
		d.excused = d.excused || d.running > 0 // whoever sent it may still wait, and be heard
		d.done, d.by = 0, nil
		d.skipped = offset < s.w.logs[p].oldest // retention has taken it, but somebody may have it in memory
	}
	s.count(p)
}

// count counts anew what of a partition is not done.
func (s *service) count(p kafka.Partition) {
	for n := range s.lanes {
		if n.Partition == p {
			delete(s.lanes, n)
		}
	}
	for _, r := range s.w.logs[p].records {
		d := s.deeds[p][r.offset]
		if l, ok := s.laneOf(p, r); ok && !d.over() {
			s.lanes[l] = append(s.lanes[l], r.offset)
		}
	}
	s.w.low[p], s.w.undone = 0, 0
	for _, deeds := range s.deeds {
		for _, d := range deeds {
			if !d.over() {
				s.w.undone++
			}
		}
	}
}

// lowest is the first offset of a partition that is not done, or where its log ends.
func (s *service) lowest(p kafka.Partition) int64 {
	l := s.w.logs[p]
	for s.w.low[p] < len(l.records) && s.deeds[p][l.records[s.w.low[p]].offset].over() {
		s.w.low[p]++
	}
	if s.w.low[p] == len(l.records) {
		return l.next
	}
	return l.records[s.w.low[p]].offset
}

func serviceHost(n int) string { return fmt.Sprint("service host ", n) }

// Push is an attempt of a life's at the service.
func (l *life) Push(a *push.Attempt) push.Verdict {
	w, it := l.host.w, a.Items[0]
	l.step("send")
	if _, err := a.Gate.Cleared(); err != nil {
		return push.Verdict{Class: push.Aborted, Reason: err.Error()}
	}
	dice, mode, dead := w.dice("service", int64(it.Partition.Number), it.Offset, int64(it.Attempt)), "", false
	var d *deed
	w.with(func() {
		if dead = l.dead; dead {
			return
		}
		mode = w.now("service")
		if gone := w.now(serviceHost(a.Host)); gone != "" {
			mode = gone
		}
		if mode != "down" {
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
		if verdict.Class == push.Delivered {
			w.with(func() { d.by, d.answered = l, time.Now() })
		}
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
		return takes, push.Verdict{Class: push.Busy, Status: 429, Reason: "the service answered 429", RetryAfter: time.Duration(n%4) * time.Second}
	}
	return takes, push.Verdict{}
}
