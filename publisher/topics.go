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
	cluster func() (kafka.Cluster, error)
	mu      sync.Mutex
	known   map[string]int       // partitions of those that there are: as many as Kafka has at the most
	fresh   map[string]time.Time // when that was so
	asking  map[string]*question
}

// question is one to Kafka, for all who have it.
type question struct {
	done       chan struct{}
	partitions int
	err        error
}

const (
	askTime   = 1800 * time.Millisecond // 404 has to come within 2 s
	freshTime = 10 * time.Second        // how long an answer is taken for the truth
)

func newTopics(allowed []string, cluster func() (kafka.Cluster, error)) *topics {
	return &topics{allowed: allowed, cluster: sync.OnceValues(cluster), known: map[string]int{}, fresh: map[string]time.Time{}, asking: map[string]*question{}}
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

// partitions is their number. What is known is taken for the truth and asked again beside the caller, unless now.
func (t *topics) partitions(ctx context.Context, name string, now bool) (int, error) {
	t.mu.Lock()
	n, known := t.known[name]
	if known && !now && time.Since(t.fresh[name]) < freshTime {
		t.mu.Unlock()
		return n, nil
	}
	q := t.asking[name]
	if q == nil {
		q = &question{done: make(chan struct{})}
		t.asking[name] = q
		go t.ask(name, q)
	}
	t.mu.Unlock()
	if known && !now {
		return n, nil
	}
	select {
	case <-q.done:
		return q.partitions, q.err
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: %w", kafka.ErrNoBroker, ctx.Err())
	}
}

func (t *topics) ask(name string, q *question) {
	ctx, end := context.WithTimeout(context.Background(), askTime)
	defer end()
	c, err := t.cluster()
	if err == nil {
		var all []kafka.Partition
		if all, err = c.Partitions(ctx, []string{name}); err == nil && len(all) == 0 {
			err = kafka.ErrNoTopic
		}
		q.partitions = len(all)
	}
	if q.err = err; err != nil && problemOf(err).status == 504 {
		q.err = fmt.Errorf("%w: %w", kafka.ErrNoBroker, err) // nothing was sent
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.asking, name)
	switch {
	case err == nil:
		t.known[name], t.fresh[name] = q.partitions, time.Now()
	case errors.Is(err, kafka.ErrNoTopic):
		delete(t.known, name)
		delete(t.fresh, name)
	}
	close(q.done)
}
