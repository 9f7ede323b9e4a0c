package forwarder

import (
	"slices"
	"sync"

	"github.com/kpush/kpush/offsets"
)

// ledger remembers outcomes: the file on the volume, or with guarantee 1 nothing but memory.
type ledger interface {
	VolumeID() string
	Edition() string
	Holds(edition string) bool
	Saved(offsets.Key) (offsets.Saved, bool)
	Foreign(offsets.Key) []offsets.Key
	Assign(offsets.Key, offsets.Start) (record, error)
	Err() error
}

// record is one partition in a ledger; *offsets.Partition has the words for its methods.
type record interface {
	Fetched(offset int64) bool
	Earlier(offset int64) offsets.Attempt
	Intent(offsets.Attempt) error
	IntentAll([]offsets.Attempt) error
	Settled(...offsets.Attempt) error
	Done(offset int64) error
	DoneAll([]int64) error
	DoneThen(offset int64, next record, a offsets.Attempt) (done, intent error) // next is of the same ledger
	Advance(position int64)
	Progress() (next int64, done offsets.Ranges)
	Next() int64
	Outstanding() int
	Committed(offset int64)
	Release()
}

// file is the ledger on the volume.
type file struct{ *offsets.Store }

func (f file) Assign(k offsets.Key, st offsets.Start) (record, error) {
	p, err := f.Store.Assign(k, st)
	if err != nil {
		return nil, err
	}
	return filed{p}, nil
}

// filed is a partition in the file.
type filed struct{ *offsets.Partition }

func (p filed) DoneThen(offset int64, next record, a offsets.Attempt) (done, intent error) {
	return p.Partition.DoneThen(offset, next.(filed).Partition, a)
}

// memory is the ledger of guarantee 1: what was sent counts as done, so a crash loses what is in flight and repeats what was
// not committed.
type memory struct{}

func (memory) VolumeID() string                        { return "" }
func (memory) Edition() string                         { return "" }
func (memory) Holds(string) bool                       { return true }
func (memory) Saved(offsets.Key) (offsets.Saved, bool) { return offsets.Saved{}, false }
func (memory) Foreign(offsets.Key) []offsets.Key       { return nil }
func (memory) Err() error                              { return nil }
func (memory) Assign(_ offsets.Key, st offsets.Start) (record, error) {
	return &page{next: st.Next, before: st.Done}, nil
}

// page is a partition in memory. Progress passes over what was sent; once the partition is handed over (settle), it stops
// at what has no outcome and names what is done above it, so that a stop or a rebalance loses and repeats nothing.
type page struct {
	mu       sync.Mutex
	next     int64          // the offset after the newest one fetched
	before   offsets.Ranges // finished out of order by whoever handed the partition over
	waiting  []leaf
	settled  bool
	released bool
}

type leaf struct {
	offset     int64
	sent, done bool
}

func (p *page) Fetched(offset int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = offset + 1
	if p.before.Contains(offset) {
		return false
	}
	p.waiting = append(p.waiting, leaf{offset: offset})
	return !p.released
}

func (p *page) Earlier(offset int64) offsets.Attempt { return offsets.Attempt{Offset: offset} }
func (p *page) Intent(a offsets.Attempt) error       { return p.turn(a.Offset, false) }
func (p *page) Settled(...offsets.Attempt) error     { return nil }
func (p *page) Done(offset int64) error              { return p.turn(offset, true) }

func (p *page) IntentAll(all []offsets.Attempt) (err error) {
	for _, a := range all {
		err = p.Intent(a)
	}
	return err
}

func (p *page) DoneAll(all []int64) (err error) {
	for _, offset := range all {
		err = p.Done(offset)
	}
	return err
}

func (p *page) DoneThen(offset int64, next record, a offsets.Attempt) (done, intent error) {
	return p.Done(offset), next.Intent(a)
}

func (p *page) turn(offset int64, done bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released {
		return offsets.ErrReleased
	}
	i, ok := slices.BinarySearchFunc(p.waiting, offset, func(l leaf, o int64) int { return int(l.offset - o) })
	if ok {
		p.waiting[i].sent = true
		p.waiting[i].done = p.waiting[i].done || done
	}
	for len(p.waiting) > 0 && p.waiting[0].done {
		p.waiting = p.waiting[1:]
	}
	return nil
}

func (p *page) Advance(position int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		p.next = max(p.next, position)
	}
}

func (p *page) Progress() (int64, offsets.Ranges) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.waiting, func(l leaf) bool { return !l.done && (p.settled || !l.sent) })
	if i < 0 {
		return p.next, p.doneAbove(p.next, nil)
	}
	return p.waiting[i].offset, p.doneAbove(p.waiting[i].offset, p.waiting[i:])
}

// doneAbove is what is finished above next, also among leaves.
func (p *page) doneAbove(next int64, leaves []leaf) offsets.Ranges {
	done := p.before.Union(nil).TrimBelow(next)
	for _, l := range leaves {
		if l.done {
			done = done.Add(l.offset, l.offset+1)
		}
	}
	return done
}

func (p *page) Next() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) > 0 {
		return p.waiting[0].offset
	}
	return p.next
}

func (p *page) Outstanding() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting)
}

func (p *page) Committed(int64) {}

// settle makes Progress stop at what has no outcome.
func (p *page) settle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settled = true
}

func (p *page) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.released = true
}
