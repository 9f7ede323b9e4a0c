package forwarder

import (
	"context"
	"fmt"
	"time"
)

// readyTime is between two questions whether the service is ready, and what an answer may take.
const readyTime = time.Second

// awaitReady asks Config.ReadyURL until it answers 2xx, and lets deliveries begin then. The group is joined meanwhile, and
// messages are fetched until the buffer is full.
func (f *Forwarder) awaitReady(ctx context.Context) {
	for {
		status, err := f.ready.ask(ctx, "", "")
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && status >= 200 && status < 300:
			f.changed(notReady, nil)
			f.service.open()
			return
		case err == nil:
			err = fmt.Errorf("it answered %d", status)
		}
		f.changed(notReady, fmt.Errorf("deliveries wait until KPUSH_READY_URL answers 2xx: %w", err))
		if sleep(ctx, readyTime) != nil {
			return
		}
	}
}
