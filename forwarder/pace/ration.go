package pace

import "github.com/kpush/kpush/kafka"

// tryMore is after how many delivered batches one may have twice the bytes that a 413 has left: if it is refused, that is a
// quarter of one in a hundred.
const tryMore = 400

// ration is how many bytes a batch may have: Config.BatchBytes, less once the service has refused as many, and slowly more again.
// Guarded by Pace.mu.
type ration struct {
	most  int // 0: no bound
	now   int
	since int // batches delivered since one was refused or had more
}

// next is for the next batch; trial: it is more than the service is known to take.
func (r *ration) next() (size int, trial bool) {
	if r.now < r.most && r.since >= tryMore {
		r.since = 0
		return min(2*r.now, r.most), true
	}
	return r.now, false
}

// Delivered notes that the service has taken a batch of so many bytes.
func (b *Batch) Delivered(size int) {
	b.pace.mu.Lock()
	defer b.pace.mu.Unlock()
	r := &b.pace.ration
	r.since++
	r.now = max(r.now, min(size, r.most))
}

// TooLarge notes that it has refused one because of its size, for what all lanes send from now on, and returns how many bytes a batch
// may have.
func (b *Batch) TooLarge(size int) int {
	b.pace.mu.Lock()
	defer b.pace.mu.Unlock()
	r := &b.pace.ration
	if r.since = 0; !b.trial {
		r.now = min(r.now, size/2)
	}
	b.trial = false
	return r.now
}

// fits tells whether there is room for a message. There always is for one.
func (b *Batch) fits(m *kafka.Message) bool {
	return len(b.messages) == 0 || b.pace.ration.most == 0 || b.size+m.Size <= b.room
}

// full tells whether the ready ones make a batch that need not wait for more.
func (s *Lanes) full() bool {
	r := &s.pace.ration
	return s.waiting >= s.pace.cfg.BatchSize || r.most > 0 && s.bytes >= r.now
}
