package forwarder

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kpush/kpush/kafka"
)

// unheardTime without a message short of the end is no reading any more.
const unheardTime = 10 * time.Second

// read hands over what lies in partitions from where they are read to their end, each in its order.
func (r *redrive) read(ctx context.Context, graves []*grave, do func(*grave, *kafka.Message) error) error {
	open, at := map[kafka.Partition]*grave{}, []kafka.Position{}
	for _, g := range graves {
		if g.Offset < g.until {
			open[g.Partition], at = g, append(at, g.Position)
		}
	}
	if len(open) == 0 {
		return nil
	}
	reader, err := r.f.parts.Reader(at)
	if err != nil {
		return err
	}
	defer func() { go func() { _ = reader.Close() }() }() // it may block for as long as a broker is silent, and holds nothing
	shut := func(g *grave) {
		delete(open, g.Partition)
		_ = reader.Pause([]kafka.Partition{g.Partition}) // what comes all the same is passed over
	}
	var why error
	for heard := time.Now(); len(open) > 0; {
		m, err := reader.Poll(pollTime)
		switch {
		case ctx.Err() != nil:
			return errEnough
		case err != nil:
			why = err
		case m != nil:
			heard = time.Now()
			g := open[m.Partition]
			if g != nil && m.Offset < g.until {
				if err := do(g, m); err != nil {
					return err
				}
			}
			if g != nil && m.Offset >= g.until-1 {
				shut(g)
			}
		default: // behind the last message there may be what holds none
			positions, _ := reader.Positions(partitionsAt(at))
			for _, p := range positions {
				if g := open[p.Partition]; g != nil && p.Offset >= g.until {
					shut(g)
				}
			}
		}
		if time.Since(heard) > unheardTime {
			return errors.Join(fmt.Errorf("nothing has come for %s", unheardTime), why)
		}
	}
	return nil
}

func partitionsAt(at []kafka.Position) (tps []kafka.Partition) {
	for _, p := range at {
		tps = append(tps, p.Partition)
	}
	return tps
}
