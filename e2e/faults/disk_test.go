package faults

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// standing is how long deliveries have to stand still to count as stopped.
const standing = 1500 * time.Millisecond

// stopped wants no request to begin any more, the process to live, and /readyz to name what is wrong.
func (s *scene) stopped(words ...string) {
	s.Helper()
	rig.Within(s, patience, "the end of the requests in flight", func() bool {
		return s.svc.InFlight() == 0 && len(s.svc.Since(time.Now().Add(-300*time.Millisecond))) == 0
	})
	attempts := s.svc.Attempts()
	rig.Throughout(s, standing, func() error {
		if now := s.svc.Attempts(); now > attempts {
			return fmt.Errorf("%d requests were made although nothing can be recorded", now-attempts)
		}
		if !s.sc.Alive() {
			return fmt.Errorf("the process has ended: %s", s.sc.Tail(3))
		}
		return nil
	})
	var last rig.Answer
	rig.Within(s, 5*time.Second, "a /readyz that says what is wrong", func() bool {
		last = s.sc.Ask("/readyz")
		why := strings.Join(last.Why, " ")
		for _, word := range words {
			if !strings.Contains(why, word) {
				return false
			}
		}
		return last.Code == 503
	})
	if health := s.sc.Ask("/healthz"); health.Code != 200 {
		s.Errorf("/healthz says %d %q: a restart would not help.", health.Code, health.Why)
	}
	s.Logf("/readyz: %q", last.Why)
}

// goesOn wants deliveries again without anybody's help.
func (s *scene) goesOn() time.Duration {
	s.Helper()
	healed := time.Now()
	took := s.svc.Next(s, healed, patience)
	s.sc.Ready(s, patience)
	return took
}

// injecting leaves the story out where system calls cannot be made to fail.
func injecting(t *testing.T, story string) {
	t.Helper()
	if err := rig.CanInject(); err != nil {
		rig.NotRun(t, story, err.Error())
	}
}

// TestAVolumeThatCannotBeWritten: deliveries stop, the process does not; they go on by themselves when it can, and a kill -9
// then finds a whole file.
func TestAVolumeThatCannotBeWritten(t *testing.T) {
	const concurrency = 8
	for _, errno := range []string{"EIO", "EROFS", "ENOSPC"}[:times(3, 1)] {
		t.Run(errno, func(t *testing.T) {
			story := "writes fail with " + errno + " for seconds"
			injecting(t, story)
			s := stage(t, story, setting{partitions: 8, concurrency: concurrency, bound: concurrency})
			s.sc.Start(t)
			var took time.Duration
			for range times(3, 1) {
				s.stock(400)
				s.svc.Await(t, s.svc.Delivered()+200, patience)
				before := s.svc.Repeats()
				heal := s.sc.Inject(t, "pwrite64:error="+errno, "fdatasync:error="+errno)
				s.stopped("offsets", "cannot be written")
				heal()
				took = max(took, s.goesOn())
				s.within("repeats", "a disk that cannot be written", s.svc.Repeats()-before, 0)
				s.crash(200, s.sc.Kill, func() { s.sc.Start(t) })
			}
			s.tell(fmt.Sprintf("by system call; went on by itself after at most %v; a kill -9 after each", took.Round(time.Millisecond)))
		})
	}
}

// TestSyncsThatFail: a failed fsync is not believed the next time; the other half of the file takes over.
func TestSyncsThatFail(t *testing.T) {
	const story, concurrency = "every 20th fsync fails", 8
	injecting(t, story)
	s := stage(t, story, setting{partitions: 8, concurrency: concurrency, bound: concurrency})
	s.sc.Start(t)
	s.stock(300)
	s.svc.Await(t, 100, patience)
	heal := s.sc.Inject(t, "fdatasync:error=EIO:when=2+20")
	rig.Within(t, patience, "a few failures", func() bool {
		s.stock(300)
		return len(s.sc.Find("can be written again")) >= times(5, 2)
	})
	s.within("repeats", "failing syncs", s.svc.Repeats(), 0)
	heal()
	s.crash(0, s.sc.Kill, func() { s.sc.Start(t) })
	s.tell("by system call; a kill -9 at the end")
}

// TestSlowSyncs: a disk that takes five seconds for each sync slows deliveries down, and breaks nothing.
func TestSlowSyncs(t *testing.T) {
	const concurrency = 8
	slow := time.Duration(times(5, 1)) * time.Second
	story := fmt.Sprintf("fsync takes %v", slow)
	injecting(t, story)
	s := stage(t, story, setting{partitions: 8, concurrency: concurrency, bound: concurrency})
	s.sc.Start(t)
	s.stock(1_500)
	s.svc.Await(t, 100, patience)
	heal := s.sc.Inject(t, fmt.Sprintf("fdatasync:delay_enter=%d", slow.Microseconds()))
	pass(slow) // what was in front of the first slow one
	before, begin := s.svc.Delivered(), time.Now()
	pass(2 * slow)
	delivered, syncs := s.svc.Delivered()-before, int(time.Since(begin)/slow)+1
	if most := syncs * 2 * (unsynced + concurrency); delivered == 0 || delivered > most {
		t.Errorf("%d messages were delivered in %v of slow syncs, want some, and at most %d: so many may be off the disk.", delivered, 2*slow, most)
	}
	if !s.sc.Alive() || s.sc.Ask("/healthz").Code != 200 {
		t.Errorf("The sidecar is not well: %q", s.sc.Ask("/healthz").Why)
	}
	s.crash(0, func() { s.sc.Kill(); heal() }, func() { s.sc.Start(t) })
	s.tell(fmt.Sprintf("by system call; %d delivered in %v; a kill -9 in it", delivered, 2*slow))
}

// TestAStopWhileTheDiskHangs: it is named, and neither the last records nor the end of the file hold a stop up for longer than KPUSH_DRAIN_TIMEOUT.
func TestAStopWhileTheDiskHangs(t *testing.T) {
	const story, concurrency, drain = "a stop while fsync hangs", 8, 2 * time.Second
	injecting(t, story)
	s := stage(t, story, setting{partitions: 8, concurrency: concurrency, bound: concurrency, env: []string{"KPUSH_DRAIN_TIMEOUT=" + drain.String()}})
	s.sc.Start(t)
	s.stock(1_500)
	s.svc.Await(t, 100, patience)
	heal := s.sc.Inject(t, "fdatasync:delay_enter=60000000")
	s.stopped("takes no write") // at the bound of what may be off the disk
	s.sc.Term(t)
	took := rig.Within(t, patience, "the end of the stop", func() bool { return len(s.sc.Find("the stop took longer than KPUSH_DRAIN_TIMEOUT")) > 0 })
	if took > drain+time.Second {
		rig.Missed(t, "The stop took %v, KPUSH_DRAIN_TIMEOUT is %v.", took, drain)
	}
	heal() // strace keeps a dead process for as long as its delay
	s.sc.Wait(t, 1, 5*time.Second)
	s.crash(0, s.sc.Kill, func() { s.sc.Start(t) })
	s.tell(fmt.Sprintf("by system call; the process ended after %v", took.Round(10*time.Millisecond)))
}

// TestAFrozenDisk: a file system that takes no write for a while stops deliveries and nothing else, is named, is not called ill health, and
// holds up no rebalance.
func TestAFrozenDisk(t *testing.T) {
	const story, concurrency = "frozen file system", 8
	frozen := time.Duration(times(25, 4)) * time.Second // longer than the poll loop may be silent
	m := machine(t, story, 24, "")
	s := stage(t, story, setting{partitions: 8, concurrency: concurrency, volume: m.Disk, bound: concurrency, env: []string{"KPUSH_REVOKE_TIMEOUT=1s"}})
	s.sc.Start(t)
	s.stock(5_000)
	s.svc.Await(t, 500, patience)
	thaw := m.Hold(t)
	begin := time.Now()
	s.stopped("takes no write")
	rig.Throughout(t, frozen-time.Since(begin), func() error {
		if health := s.sc.Ask("/healthz"); health.Code != 200 {
			return fmt.Errorf("/healthz says %d %q: a restart would not help", health.Code, health.Why)
		}
		return nil
	})
	other, joined := s.joins("/other")
	s.charges = append(s.charges, charge{begin, rig.Cost{Repeats: concurrency, Flagged: -1}}) // what was under way at the disk, in partitions that went
	s.crashes++
	thawed := time.Now()
	thaw()
	took := s.goesOn()
	rig.Within(t, patience, "deliveries of the one whose disk was frozen", func() bool { s.stock(300); return len(s.svc.Seen(thawed, "/")) > 0 })
	other.Shut(t, 15*time.Second)
	s.crash(0, s.sc.Kill, func() { s.sc.Start(t) })
	s.tell(fmt.Sprintf("for %v, a second member joined meanwhile in %v; went on by itself after %v; a kill -9 at the end", time.Since(begin).Round(time.Second),
		joined.Round(100*time.Millisecond), took.Round(time.Millisecond)))
}

// joins starts another sidecar with a path and a volume of its own, and returns it, and how long it took until it delivers from half of the
// partitions: the group has waited for none of its members for longer than that.
func (s *scene) joins(path string) (*rig.Sidecar, time.Duration) {
	s.Helper()
	const most = 20 * time.Second // far below max.poll.interval.ms
	other, since := s.another(path), time.Now()
	other.Start(s)
	took := rig.Within(s, patience, "the deliveries of a second member", func() bool { return len(s.svc.Seen(since, path)) == s.partitions/2 })
	if took > most {
		rig.Missed(s, "A second member has waited for %v, want %v at most.", took, most)
	}
	return other, took
}

// TestAFullDisk: the file has its room from the start, so deliveries go on; only a message that has to be skipped, and cannot
// be written to the skip log, blocks.
func TestAFullDisk(t *testing.T) {
	const story, poison = "full disk", 5
	m := machine(t, story, 24, "")
	s := stage(t, story, setting{partitions: 4, concurrency: 4, volume: m.Disk, env: []string{"KPUSH_CAN_SKIP=true", "KPUSH_RETRY_NUMS=2"}})
	s.failing(poison, rig.Action{})
	s.sc.Start(t)
	s.sc.Ready(t, patience)
	empty := m.Fill(t)
	s.stock(200)
	each := len(s.produced) / s.partitions
	s.svc.Await(t, 3*each+poison, patience)
	rig.Throughout(t, standing, func() error {
		if n := s.svc.Delivered(); n > 3*each+poison || skips(t, m.Disk) > 0 {
			return fmt.Errorf("%d delivered, %d in the skip log: the message that cannot be written there has to block", n, skips(t, m.Disk))
		}
		return nil
	})
	if said := s.sc.Find("skip log"); len(said) == 0 {
		t.Error("Nothing in the log says that the skip log cannot be written.")
	}
	answer := s.sc.Ask("/readyz")
	empty()
	freed := time.Now()
	s.svc.Await(t, len(s.produced)-1, patience)
	took := time.Since(freed)
	s.sc.Shut(t, 15*time.Second)
	s.committed()
	if n := skips(t, m.Disk); n != 1 {
		t.Errorf("The skip log holds %d messages, want 1.", n)
	}
	s.crashes = 1
	s.judge(fmt.Sprintf("deliveries went on, the skip blocked (/readyz %d %q) and was made %v after there was room", answer.Code, answer.Why, took.Round(time.Millisecond)))
}

// TestADiskThatDies: every write fails for good, with the machine running; after a new mount all is there.
func TestADiskThatDies(t *testing.T) {
	const concurrency = 8
	for _, row := range []struct {
		name, options string
		hurt          func(*rig.Machine, *testing.T)
	}{
		{"the disk goes away (EIO)", "", func(m *rig.Machine, t *testing.T) { m.Die(t) }},
		{"the kernel makes the disk read-only", "errors=remount-ro", func(m *rig.Machine, t *testing.T) { m.ErrorReadOnly(t) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := machine(t, row.name, 24, row.options)
			s := stage(t, row.name, setting{partitions: 8, concurrency: concurrency, bound: concurrency + unsynced, volume: m.Disk})
			m.Start(t, s.sc)
			for range times(5, 1) {
				s.stock(300)
				s.crash(300, func() {
					row.hurt(m, t)
					s.stopped("offsets")
					s.sc.Kill()
					m.Remount(t, row.options)
					m.Reboot(t)
				}, func() { m.Start(t, s.sc) })
			}
			s.tell("deliveries stopped, /readyz said so; a new mount and a restart")
		})
	}
}
