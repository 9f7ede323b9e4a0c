package forwarder

import (
	"net/http"
	"slices"

	"github.com/kpush/kpush/forwarder/push"
)

// learn tells pace what the service takes, after a request of several messages, or of one that was delivered. What is left of a batch
// that was too large goes in requests that are not: the next one that is refused would teach nothing new.
func (d *delivery) learn(v push.Verdict, sent []*item) {
	size := 0
	for _, it := range sent {
		size += it.Size
	}
	switch {
	case d.f.cfg.BatchBytes == 0:
	case v.Class == push.Delivered:
		d.batch.Delivered(size)
	case v.Status == http.StatusRequestEntityTooLarge && len(sent) > 1:
		d.most = d.batch.TooLarge(size)
	}
}

// within is how many of the first n items go into one request, where an earlier one was too large.
func (d *delivery) within(n int) int {
	size := 0
	for i, it := range d.items[:min(n, len(d.items))] {
		if size += it.Size; d.most > 0 && i > 0 && size > d.most {
			return i
		}
	}
	return n
}

// halve says how large the next request of a batch is, after one with count messages of which done have their outcome. A fault of
// several together is nobody's: the next request is half as large, until the message at fault is alone. Those that failed by
// themselves are tried again by themselves.
func (d *delivery) halve(v push.Verdict, fault bool, count, done int) {
	left := count - done
	d.suspects = max(0, d.suspects-done)
	switch {
	case fault && count > 1:
		d.suspects, d.size = count, count/2
	case left > 0 && (fault || v.Class == push.Delivered):
		d.size = left
		d.part(d.items[left-1])
	case left == 0 && d.suspects > 0:
		d.size = (d.suspects + 1) / 2
	case left == 0:
		d.size = max(1, d.f.cfg.BatchSize)
	}
	d.size = d.within(d.size)
}

// part gives back the lanes of which all is behind last: who gets them need not wait for the others. Their attempts are known to the
// record, and what was skipped meanwhile does not go back.
func (d *delivery) part(last *item) {
	if d.giveUpSkipped(d.items[slices.Index(d.items, last)+1:]) {
		d.complete()
	}
	n := slices.Index(d.items, last) + 1
	if n == len(d.items) {
		return
	}
	d.batch.Keep(n)
	kept, messages := d.items[:0], d.batch.Messages()
	for _, it := range d.items {
		if len(messages) > 0 && it.Message == messages[0] {
			kept, messages = append(kept, it), messages[1:]
		} else {
			d.close(it)
			it.over(false) // who waits for its end asks again
		}
	}
	d.items = kept
}
