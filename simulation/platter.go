package simulation

import (
	"sync"
	"time"

	"github.com/kpush/kpush/volume/sim"
)

// platter is the host's disk as one life has it.
type platter struct {
	*life
	disk *sim.Disk
	mu   *sync.Mutex
}

func (p platter) do(what string, call func() (int, error)) (n int, err error) {
	p.step(what)
	dead, mode := false, ""
	p.host.w.with(func() {
		dead, mode = p.dead, p.host.w.now("disk "+p.host.name)
		p.troubled = p.troubled || mode != ""
	})
	switch {
	case dead:
		return 0, errKilled
	case mode == "hangs" && what == "sync":
		time.Sleep(3 * time.Second)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.disk.Power.Fault = nil; mode == "fails" || mode == "is full" {
		kind := sim.FailPartly
		if mode == "is full" {
			kind = sim.Full
		}
		p.disk.Power.Fault = func(int) sim.Fault { return kind }
	}
	return call()
}

func (p platter) WriteAt(b []byte, at int64) (int, error) {
	return p.do(write, func() (int, error) {
		p.host.w.with(func() { p.host.wrote = time.Now() })
		return p.disk.WriteAt(b, at)
	})
}

func (p platter) ReadAt(b []byte, at int64) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.disk.ReadAt(b, at)
}

// Sync that fails may take from memory what was written since the last one that did not.
func (p platter) Sync() error {
	time.Sleep(300 * time.Microsecond)
	_, err := p.do("sync", func() (int, error) {
		err := p.disk.Sync()
		if err == nil {
			p.disk.Dropped = false
			p.host.w.with(func() { p.host.synced = p.host.wrote })
		}
		return 0, err
	})
	return err
}

func (p platter) Size() (int64, error) { return p.disk.Size() }
func (p platter) Unfit() string        { return "" }
func (p platter) Close() error         { return nil }
