package rig

import (
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const (
	beat    = 5 * time.Millisecond // how often each processor is looked at
	excused = 2 * time.Millisecond // later than this is not the timer's
)

// away is a time in which a processor of this machine ran nothing for us: its host, or other work, had taken it.
type away struct{ from, to time.Time }

var aways struct {
	sync.Mutex
	list []away
}

// Late is for how long the processors of this machine were taken away between two moments, added up. Whatever a story times
// goes from process to process, and may have met each of those delays.
func Late(from, to time.Time) (late time.Duration) {
	aways.Lock()
	defer aways.Unlock()
	return lateness(aways.list, from, to)
}

func lateness(list []away, from, to time.Time) (late time.Duration) {
	for _, a := range slices.Backward(list) {
		if a.to.Before(from) {
			break // they are in the order of their ends
		}
		if a.from.Before(from) {
			a.from = from
		}
		if a.to.After(to) {
			a.to = to
		}
		late += max(0, a.to.Sub(a.from))
	}
	return late
}

// watch looks at every processor from now on.
func watch() {
	for cpu := range runtime.NumCPU() {
		go watchOne(cpu)
	}
}

// watchOne sleeps on one processor, and notes whenever it wakes late.
func watchOne(cpu int) {
	runtime.LockOSThread()
	var set [16]uint64
	if cpu >= 64*len(set) {
		return
	}
	set[cpu/64] = 1 << (cpu % 64)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(set), uintptr(unsafe.Pointer(&set))); errno != 0 {
		return // not one of ours
	}
	rest := syscall.NsecToTimespec(beat.Nanoseconds())
	for {
		due := time.Now().Add(beat)
		_ = syscall.Nanosleep(&rest, nil)
		if time.Since(due) > excused {
			aways.Lock()
			aways.list = append(aways.list, away{due, time.Now()})
			aways.Unlock()
		}
	}
}
