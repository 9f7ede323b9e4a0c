package forwarder

import (
	"fmt"
	"time"

	"github.com/kpush/kpush/forwarder/push"
)

// confirm asks the service for what is in doubt of the next request: so many items of the batch as a request may hold. An error means
// that the delivery was stopped.
func (d *delivery) confirm() error {
	n := 0
	for _, it := range d.items {
		if n == d.size {
			break
		}
		if it.InDoubt {
			d.pen.flush()
			has, err := d.has(it)
			if err != nil {
				return err
			}
			if has {
				it.final, it.confirmed, it.verdict = true, true, push.Verdict{}
				continue
			}
		}
		n++
	}
	return nil
}

// has asks until it knows whether the service has a message.
func (d *delivery) has(it *item) (bool, error) {
	failed := false
	defer func() {
		if failed {
			d.p.gauge.asking.Add(-1)
		}
	}()
	for {
		if err := d.batch.Turned(d.ctx(), d.blocked()); err != nil {
			return false, err
		}
		has, err := d.f.parts.Confirm(d.Context(), it.ID())
		if err == nil {
			if has {
				d.f.log.Info("in doubt, and the service has it: not sent again", it.where())
			}
			return has, nil
		}
		d.batch.Give()
		if !failed {
			failed = true
			d.p.gauge.asking.Add(1)
		}
		if d.f.health.every("confirm", time.Minute) {
			d.f.log.Error("KPUSH_CONFIRM_URL does not say whether the service has a message in doubt: the message waits",
				"error", fmt.Errorf("%s/%d: %w", it.Partition, it.Offset, err))
		}
		if err := sleep(d.ctx(), d.f.cfg.RetryInterval); err != nil {
			return false, err
		}
	}
}
