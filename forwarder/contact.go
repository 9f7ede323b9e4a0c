package forwarder

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/kpush/kpush/kafka"
)

// contact is whether the consumer's client still finds its way to Kafka. librdkafka may lose it for ever: an answer without brokers,
// or with addresses where nobody is, stays the last one it has heard. It belongs to watch, which asks both.
type contact struct {
	answered time.Time            // the client's newest answer, or when it was made
	vain     time.Time            // the first question since then that had none, the other client's included; zero: there is none
	others   time.Time            // since when another client has been answered each time; zero: it was not
	renewed  int                  // clients in a row without an answer
	files    map[string]time.Time // Config.Credentials, and when they had changed last as the client was made
}

const (
	askTime  = 10 * time.Second // between two questions to a client that answers; longer where the cluster is asked less often
	deadTime = 30 * time.Second // without an answer a client is dead, if
	proof    = 10 * time.Second // another one is answered for so long
	staleKey = 5 * time.Second  // without an answer it is dead, if a file that it was made of has changed, and another one is answered
	lives    = 3                // clients in a row that have no answer until the process ends
)

// check asks the client, if that is due, and renews it where it is dead. answered: another client was, just now.
func (c *contact) check(ctx context.Context, f *Forwarder, answered bool) {
	now := time.Now()
	if !answered {
		c.others = time.Time{}
		c.unheard(now)
		return
	}
	if c.others.IsZero() {
		c.others = now
	}
	if now.Sub(c.answered) < askTime {
		return
	}
	err := f.parts.Consumer.Reach(kafka.QuestionTime)
	if err == nil {
		c.answered, c.vain, c.renewed = time.Now(), time.Time{}, 0
		f.health.changed(client, nil)
		return
	}
	c.unheard(now)
	f.news.bad.Store(now.UnixNano())
	now = time.Now()
	silent := min(now.Sub(c.answered), askTime+now.Sub(c.vain)) // who is not asked need not answer
	dead, why := deadTime, fmt.Sprintf("the Kafka client has had no answer for %s, though Kafka answers another one", now.Sub(c.answered).Round(time.Second))
	proven := now.Sub(c.others) >= proof
	if file := c.changed(f.cfg.Credentials); file != "" {
		dead, proven, why = staleKey, true, fmt.Sprintf("%s has changed since the Kafka client was made of it, and Kafka answers one that is made of it now", file)
	}
	if silent < dead || !proven {
		return
	}
	question, cancel := context.WithTimeout(ctx, kafka.QuestionTime)
	defer cancel()
	if group, failed := f.parts.Cluster.Group(question, f.cfg.Group); group.Rebalancing || failed != nil {
		return // its coordinator has no time, or is away
	}
	f.health.changed(client, fmt.Errorf("%s: a new client takes its place: %w", why, err))
	c.renewed++
	_ = f.consumer.do(ctx, func(consumer *consumer) error {
		if c.renewed >= lives {
			consumer.failed = fmt.Errorf("%s, and so it went for %d clients, so this process ends (nothing is lost): %w", why, lives, err)
		} else {
			consumer.renew()
		}
		return nil
	}) // an error says that the process stops
	c.made(f.cfg.Credentials)
}

// unheard notes a question that has had no answer.
func (c *contact) unheard(asked time.Time) {
	if c.vain.IsZero() {
		c.vain = asked
	}
}

// made notes that there is a new client, made of the files as they are now.
func (c *contact) made(of []string) {
	c.answered, c.vain, c.files = time.Now(), time.Time{}, map[string]time.Time{}
	for _, file := range of {
		c.files[file] = modified(file)
	}
}

// changed is a file that has changed since the client was made of it, "" where none has.
func (c *contact) changed(of []string) string {
	for _, file := range of {
		if now := modified(file); !now.IsZero() && !now.Equal(c.files[file]) {
			return file
		}
	}
	return ""
}

func modified(file string) time.Time {
	stat, err := os.Stat(file) // through links: Kubernetes changes those
	if err != nil {
		return time.Time{}
	}
	return stat.ModTime()
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
