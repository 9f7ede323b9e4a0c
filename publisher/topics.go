package publisher

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/kpush/kpush/kafka"
)

// topics knows how many partitions a topic has, so that one that is not there is refused before anything is queued. It asks for a
// description, which creates nothing.
type topics struct {
	allowed []string
	cluster func() (Cluster, error)
	mu      sync.Mutex
	known   map[string]topic // those that there are
	asking  map[string]*question
}

// topic is what Kafka says of one.
type topic struct {
	partitions int       // as many as Kafka has at the most
	most       int       // bytes that it takes of records at once; 0: not known
	fresh      time.Time // when that was so
	again      time.Time // when most is to be asked for
}

// question is one to Kafka, for all who have it.
type question struct {
	done chan struct{}
	topic
	err error
}

const (
	askTime   = 1800 * time.Millisecond // 404 has to come within 2 s
	freshTime = 10 * time.Second        // how long an answer is taken for the truth
	mostTime  = 10 * time.Minute        // and of how many bytes a topic takes
	denyTime  = time.Minute             // where Kafka does not say it
)

func newTopics(allowed []string, cluster func() (Cluster, error)) *topics {
	return &topics{allowed: allowed, cluster: sync.OnceValues(cluster), known: map[string]topic{}, asking: map[string]*question{}}
}

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// admit refuses what is no topic's name, and what KPUSH_PUBLISH_TOPICS does not name.
func (t *topics) admit(name string) error {
	if !topicName.MatchString(name) || name == "." || name == ".." {
		return refuse(400, "%.80q is not a topic; Kafka takes up to 249 letters, digits, dots, underscores and hyphens", name)
	}
	for _, a := range t.allowed {
		if beginning, isPrefix := strings.CutSuffix(a, "*"); a == name || isPrefix && strings.HasPrefix(name, beginning) {
			return nil
		}
	}
	return refuse(403, "KPUSH_PUBLISH_TOPICS does not name the topic %s", name)
}

// of describes a topic. What is known is taken for the truth and asked again beside the caller, unless now.
func (t *topics) of(ctx context.Context, name string, now bool) (topic, error) {
	t.mu.Lock()
	was, known := t.known[name]
	if known && !now && time.Since(was.fresh) < freshTime {
		t.mu.Unlock()
		return was, nil
	}
	q := t.question(name)
	t.mu.Unlock()
	if known && !now {
		return was, nil
	}
	select {
	case <-q.done:
		return q.topic, q.err
	case <-ctx.Done():
		return topic{}, fmt.Errorf("%w: %w", kafka.ErrNoBroker, ctx.Err())
	}
}

// question is the one that is under way, or a new one. The caller holds t.mu.
func (t *topics) question(name string) *question {
	q := t.asking[name]
	if q == nil {
		q = &question{done: make(chan struct{})}
		t.asking[name] = q
		go t.ask(name, q)
	}
	return q
}

// Lacks tells whether Kafka has said lately that there is the topic, without this partition. Where it has not it is asked beside the caller.
func (p *Publisher) Lacks(name string, partition int32) bool {
	t := p.topics
	t.mu.Lock()
	defer t.mu.Unlock()
	is := t.known[name]
	if time.Since(is.fresh) > freshTime {
		t.question(name)
		return false
	}
	return int(partition) >= is.partitions
}

// Batch is how many bytes of records a topic takes at once, as far as it is known; 0: it is not.
func (p *Publisher) Batch(name string) int {
	p.topics.mu.Lock()
	defer p.topics.mu.Unlock()
	return p.topics.known[name].most
}

// tooLarge has the bound of a topic asked for with the next question: it may have changed.
func (t *topics) tooLarge(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if was, known := t.known[name]; known {
		was.again = time.Time{}
		t.known[name] = was
	}
}

func (t *topics) ask(name string, q *question) {
	ctx, end := context.WithTimeout(context.Background(), askTime)
	defer end()
	is, err := t.look(ctx, name)
	if q.topic, q.err = is, err; err != nil && problemOf(err).status == 504 {
		q.err = fmt.Errorf("%w: %w", kafka.ErrNoBroker, err) // nothing was sent
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.asking, name)
	switch {
	case err == nil:
		t.known[name] = is
	case errors.Is(err, kafka.ErrNoTopic):
		delete(t.known, name)
	}
	close(q.done)
}

// look asks Kafka for the topic, and where that is due for its bound, which not everybody may know.
func (t *topics) look(ctx context.Context, name string) (is topic, err error) {
	c, err := t.cluster()
	if err != nil {
		return is, err
	}
	all, err := c.Partitions(ctx, []string{name})
	if err == nil && len(all) == 0 {
		err = kafka.ErrNoTopic
	}
	if err != nil {
		return is, err
	}
	t.mu.Lock()
	is = t.known[name]
	t.mu.Unlock()
	is.partitions, is.fresh = len(all), time.Now()
	if is.again.After(is.fresh) {
		return is, nil
	}
	is.again = is.fresh.Add(denyTime)
	if most, err := c.RecordMost(ctx, name); err == nil {
		is.most, is.again = most, is.fresh.Add(mostTime)
	}
	return is, nil
}
