package forwarder

import "github.com/kpush/kpush/forwarder/push"

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
		d.part(left)
	case left == 0 && d.suspects > 0:
		d.size = (d.suspects + 1) / 2
	case left == 0:
		d.size = max(1, d.f.cfg.BatchSize)
	}
}

// part gives back the lanes of which none is among the first n items: these failed, and the others need not wait for them. Their
// attempts are known to the record.
func (d *delivery) part(n int) {
	if len(d.items) == 1 {
		return
	}
	d.batch.Keep(n)
	kept, messages := d.items[:0], d.batch.Messages()
	for _, it := range d.items {
		if len(messages) > 0 && it.Message == messages[0] {
			kept, messages = append(kept, it), messages[1:]
		} else {
			d.close(it)
		}
	}
	d.items = kept
}
