package forwarder

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/kpush/kpush/kafka"
)

// Selection says which failing messages are meant: Blocked, or those of Topic with Key, or the one at Position.
type Selection struct {
	kafka.Position
	Blocked bool
	Key     []byte // nil: not by key; the empty one is a key, and not that of a message without one
}

// SkipOutcome is what came of a skip: how many messages it has given up, and a sentence where that is not what was asked for.
type SkipOutcome struct {
	Skipped int
	Note    string
}

// Skip gives failing messages up, as skipped. They are on record when it returns. One whose attempt under way is answered 2xx
// meanwhile is delivered, and not skipped; one that something else gives up is not counted either.
func (f *Forwarder) Skip(ctx context.Context, who string, s Selection) (SkipOutcome, error) {
	list, to, err := f.selected(s)
	if err != nil {
		return SkipOutcome{}, err
	}
	if err := f.audit(who, "skip", to); err != nil {
		return SkipOutcome{}, err
	}
	switch {
	case len(list) > 0:
	case s.Blocked:
		return SkipOutcome{Note: "nothing is blocked in this process"}, nil
	default:
		return SkipOutcome{Note: "no failing message of this process has that key"}, nil
	}
	mine, over := f.giveUp(list), 0
	if err := await(ctx, fmt.Sprintf("the skip of %d messages", len(list)), func() bool {
		for over < len(list) && list[over].isOver() {
			over++
		}
		return over == len(list)
	}); err != nil {
		if why := f.health.sentence(skipping, burying); why != "" {
			err = fmt.Errorf("%w: %s", err, why)
		}
		return SkipOutcome{}, err
	}
	var delivered, elsewhere, skipped int
	for _, one := range list {
		switch {
		case !one.done && one.kept:
			return SkipOutcome{}, refuse(ErrMoves, "%s/%d is where given-up messages go, but its partition went before that was on record: it may come again at whoever has it", one.Partition, one.Offset)
		case !one.done:
			return SkipOutcome{}, fmt.Errorf("%s/%d is not skipped: %w", one.Partition, one.Offset, f.absent(one.Topic, one.Number))
		case one.delivered:
			delivered++
		case mine[one]:
			skipped++
		default:
			elsewhere++
		}
	}
	var notes []string
	if delivered > 0 {
		notes = append(notes, fmt.Sprintf("delivered meanwhile, and so not skipped: %d", delivered))
	}
	if elsewhere > 0 {
		notes = append(notes, fmt.Sprintf("given up meanwhile, but not by this command: %d", elsewhere))
	}
	return SkipOutcome{skipped, strings.Join(notes, "; ")}, nil
}

// selected are the failing messages that are meant, and what to call them.
func (f *Forwarder) selected(s Selection) (list []*failure, to string, err error) {
	switch {
	case s.Blocked:
		return f.failures.blocked(), "blocked", nil
	case s.Key != nil:
		if _, err := f.owned(s.Topic, All); err != nil {
			return nil, "", err
		}
		return f.failures.where(func(one *failure) bool { return one.Topic == s.Topic && one.Key != nil && bytes.Equal(one.Key, s.Key) }),
			fmt.Sprintf("%s key %q", s.Topic, s.Key), nil
	}
	if _, err := f.owned(s.Topic, s.Number); err != nil {
		return nil, "", err
	}
	to = fmt.Sprintf("%s/%d", s.Partition, s.Offset)
	if list = f.failures.where(func(one *failure) bool { return one.Position == s.Position }); len(list) == 0 {
		return nil, "", fmt.Errorf("%s is %w: only a message that has failed can be skipped", to, ErrNotFailing)
	}
	return list, to, nil
}

// giveUp skips failing messages, as soon as the skip log takes them, and says which it is the first to skip.
func (f *Forwarder) giveUp(list []*failure) map[*failure]bool {
	mine := f.failures.end(list, errSkipped)
	if len(mine) > 0 {
		f.evidence.found()
	}
	return mine
}

// SkipBlocked gives up every message that is blocked now, as SIGUSR1 asks for, and says how many there were. It waits for nothing: who
// sends a signal cannot be told that a disk is full.
func (f *Forwarder) SkipBlocked() int {
	list := f.failures.blocked()
	if err := f.audit("SIGUSR1", "skip", "blocked"); err != nil {
		f.log.Warn("SIGUSR1 is not in the audit", "error", err)
	}
	n := len(f.giveUp(list))
	f.log.Info("SIGUSR1: blocked messages are skipped", "count", n)
	return n
}
