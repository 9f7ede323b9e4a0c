package forwarder

import (
	"fmt"
	"net/http"
	"time"
)

// confirmer asks the service whether it has a message that is in doubt, before it is sent again.
type confirmer struct{ *question }

// confirmTimeout bounds one question where KPUSH_EXEC_TIMEOUT does not.
const confirmTimeout = time.Minute

// has asks until it knows: 200 means that the service has the message, 404 that it does not, anything else to ask again.
// An error means that the delivery was stopped. holder has the turn: d itself, or the first of its batch.
func (c *confirmer) has(d, holder *Delivery) (bool, error) {
	f := d.p.f
	for {
		if holder.turn == noTurn {
			if err := f.turns.take(holder); err != nil {
				return false, err
			}
		}
		status, err := c.ask(d.Attempt(), "id", d.ID())
		switch {
		case status == http.StatusOK:
			f.log.Info("in doubt, and the service has it: not sent again", d.where())
			return true, nil
		case status == http.StatusNotFound:
			return false, nil
		case err == nil:
			err = fmt.Errorf("the answer was %d, where 200 means that the service has the message, 404 that it does not", status)
		}
		f.turns.give(holder)
		f.unsure.report(fmt.Errorf("%s/%d/%d: %w", d.Topic, d.Partition, d.Offset, err))
		if err := sleep(holder.ctx(), f.cfg.RetryInterval); err != nil {
			return false, err
		}
	}
}
