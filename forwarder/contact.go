package forwarder

import (
	"context"
	"fmt"
	"time"

	"github.com/kpush/kpush/kafka"
)

// contact is whether the consumer's client still finds its way to Kafka. librdkafka may lose it for ever: an answer without brokers,
// or with addresses where nobody is, stays the last one it has heard. It belongs to watch, which asks both.
type contact struct {
	answered time.Time // the client's newest answer, or when it was made
	others   time.Time // since when another client has been answered each time; zero: it was not
	renewed  int       // clients in a row without an answer
}

const (
	askTime  = 10 * time.Second // between two questions to a client that answers
	deadTime = 30 * time.Second // without an answer a client is dead, if
	proof    = 10 * time.Second // another one is answered for so long
	lives    = 3                // clients in a row that have no answer until the process ends
)

// check asks the client, if that is due, and renews it where it is dead. answered: another client was, just now.
func (c *contact) check(ctx context.Context, f *Forwarder, answered bool) {
	now := time.Now()
	if !answered {
		c.others = time.Time{}
		return
	}
	if c.others.IsZero() {
		c.others = now
	}
	if now.Sub(c.answered) < askTime {
		return
	}
	err := f.parts.Consumer.Reach(kafka.QuestionTime)
	if now = time.Now(); err == nil {
		c.answered, c.renewed = now, 0
		f.health.changed(client, nil)
		return
	}
	if now.Sub(c.answered) < deadTime || now.Sub(c.others) < proof {
		return
	}
	question, cancel := context.WithTimeout(ctx, kafka.QuestionTime)
	defer cancel()
	if rebalancing, failed := f.parts.Cluster.Rebalancing(question, f.cfg.Group); rebalancing || failed != nil {
		return // its coordinator has no time, or is away
	}
	why := fmt.Errorf("the Kafka client has had no answer for %s, though Kafka answers another one", now.Sub(c.answered).Round(time.Second))
	f.health.changed(client, fmt.Errorf("%w: a new client takes its place: %w", why, err))
	c.renewed++
	_ = f.consumer.do(ctx, func(consumer *consumer) error {
		if c.renewed >= lives {
			consumer.failed = fmt.Errorf("%w, and so it went for %d clients, so this process ends (nothing is lost): %w", why, lives, err)
		} else {
			consumer.renew()
		}
		return nil
	}) // an error says that the process stops
	c.answered = time.Now()
}

// renew goes on with a new client. The group may have given the partitions to somebody else long ago.
func (c *consumer) renew() {
	defer c.health.callback()()
	c.past.round++
	c.lose(c.assignment(), errDeadClient)
	c.health.member(false)
	if err := c.client.Renew(); err != nil {
		c.failed = fmt.Errorf("the Kafka client has no answer any more, and there is no other one, so this process ends (nothing is lost): %w", err)
	}
}
