package forwarder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// admin asks through a connection of its own: on the consumer's, each question would wait behind the long poll of Fetch.
type admin struct {
	a         *kafka.AdminClient
	isolation kafka.IsolationLevel // the consumer's: where a partition ends for it depends on it

	asking  sync.WaitGroup // questions that must be over before the handle goes away
	mu      sync.Mutex
	leaders map[tp]int // broker ids as of the newest description, -1: none
}

func newAdmin(cfg Config) (*admin, error) {
	conf := kafka.ConfigMap{"client.id": "kpush-admin", "reconnect.backoff.max.ms": 1000, "enable.metrics.push": false,
		"log.connection.close": false, "log_level": 0}
	for k, v := range cfg.Kafka {
		if adminKnows(k) {
			conf[k] = v
		}
	}
	a, err := kafka.NewAdminClient(&conf)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	isolation := kafka.IsolationLevelReadCommitted
	if cfg.Kafka["isolation.level"] == "read_uncommitted" {
		isolation = kafka.IsolationLevelReadUncommitted
	}
	return &admin{a: a, isolation: isolation, leaders: map[tp]int{}}, nil
}

func (a *admin) close() {
	a.asking.Wait()
	a.a.Close()
}

func (a *admin) clusterID(ctx context.Context) (string, error) {
	id, err := a.a.ClusterID(ctx)
	return id, translate(err)
}

func (a *admin) topicIDs(ctx context.Context, topics []string) (map[string]string, error) {
	ids := make(map[string]string)
	return ids, a.describe(ctx, topics, func(d kafka.TopicDescription) {
		ids[d.Name] = ""
		if d.TopicID.GetMostSignificantBits() != 0 || d.TopicID.GetLeastSignificantBits() != 0 {
			ids[d.Name] = d.TopicID.String()
		}
	})
}

// partitions lists all of the topics' partitions.
func (a *admin) partitions(ctx context.Context, topics []string) (out []tp, err error) {
	err = a.describe(ctx, topics, func(d kafka.TopicDescription) {
		for _, p := range d.Partitions {
			out = append(out, tp{d.Name, int32(p.Partition)})
		}
	})
	return out, err
}

// describe asks the broker that librdkafka takes for the controller, and no other. In a cluster with KRaft that is any of
// them, and for librdkafka it stays the same one, dead or not, until it happens to hear of another. What can be told of some
// topics is told beside an error about others.
func (a *admin) describe(ctx context.Context, topics []string, each func(kafka.TopicDescription)) error {
	var got kafka.DescribeTopicsResult
	for {
		var err error
		if got, err = a.a.DescribeTopics(ctx, kafka.NewTopicCollectionOfTopicNames(topics), kafka.SetAdminRequestTimeout(describeTime)); err == nil {
			break
		}
		if ctx.Err() != nil || errors.Is(translate(err), errNoTopic) {
			return translate(err)
		}
		_, _ = a.a.GetMetadata(&topics[0], false, int(hearTime/time.Millisecond)) // so that it hears of another
		_ = sleep(ctx, 20*time.Millisecond)                                       // both may fail at once
	}
	var errs []error
	for _, d := range got.TopicDescriptions {
		if d.Error.Code() != kafka.ErrNoError {
			errs = append(errs, fmt.Errorf("%s: %w", d.Name, translate(d.Error)))
			continue
		}
		a.led(d)
		each(d)
	}
	return errors.Join(errs...)
}

// led remembers who leads the partitions.
func (a *admin) led(d kafka.TopicDescription) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range d.Partitions {
		leader := -1
		if p.Leader != nil {
			leader = p.Leader.ID
		}
		a.leaders[tp{d.Name, int32(p.Partition)}] = leader
	}
}

const (
	describeTime = 500 * time.Millisecond // of one question
	hearTime     = 500 * time.Millisecond // to hear of another controller
)

// lateTime is how much later than the first one a leader may answer.
const lateTime = 250 * time.Millisecond

var errLate = errors.New("its leader does not answer")

// bounds asks each leader by itself: librdkafka answers for all partitions of a question at once, when the slowest broker
// has answered or given up, and for none where one of them has no leader. The caller ends ctx, and with it what is late.
func (a *admin) bounds(ctx context.Context, tps []tp) (map[tp]bounds, error) {
	byLeader := map[int][]tp{}
	a.mu.Lock()
	for _, t := range tps {
		leader, known := a.leaders[t]
		if !known {
			leader = -1
		}
		byLeader[leader] = append(byLeader[leader], t)
	}
	a.mu.Unlock()
	type answer struct {
		found map[tp]bounds
		err   error
	}
	answers := make(chan answer, len(byLeader))
	for _, led := range byLeader {
		a.asking.Go(func() {
			found, err := a.boundsOf(ctx, led)
			answers <- answer{found, err}
		})
	}
	var errs []error
	var late <-chan time.Time
	out := make(map[tp]bounds, len(tps))
	for range byLeader {
		select {
		case got := <-answers:
			maps.Copy(out, got.found)
			errs = append(errs, got.err)
			if late == nil && got.err == nil {
				late = time.After(lateTime)
			}
		case <-late:
			return out, errors.Join(append(errs, errLate)...)
		}
	}
	return out, errors.Join(errs...)
}

// boundsOf is bounds for partitions that one broker leads.
func (a *admin) boundsOf(ctx context.Context, tps []tp) (map[tp]bounds, error) {
	oldest, err := a.listOffsets(ctx, tps, kafka.EarliestOffsetSpec, a.isolation)
	if err != nil {
		return nil, err
	}
	ends, err := a.listOffsets(ctx, tps, kafka.LatestOffsetSpec, a.isolation)
	if err != nil {
		return nil, err
	}
	highs := ends
	if a.isolation != kafka.IsolationLevelReadUncommitted {
		if highs, err = a.listOffsets(ctx, tps, kafka.LatestOffsetSpec, kafka.IsolationLevelReadUncommitted); err != nil {
			return nil, err
		}
	}
	out := make(map[tp]bounds, len(tps))
	for t, end := range ends {
		out[t] = bounds{oldest[t], end, highs[t]}
	}
	return out, nil
}

func (a *admin) listOffsets(ctx context.Context, tps []tp, spec kafka.OffsetSpec, isolation kafka.IsolationLevel) (map[tp]int64, error) {
	ask := make(map[kafka.TopicPartition]kafka.OffsetSpec, len(tps))
	for _, p := range toKafka(tps) {
		ask[p] = spec
	}
	got, err := a.a.ListOffsets(ctx, ask, kafka.SetAdminRequestTimeout(adminTimeout), kafka.SetAdminIsolationLevel(isolation))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", names(tps), translate(err))
	}
	out := make(map[tp]int64, len(tps))
	for p, r := range got.ResultInfos {
		t := tp{*p.Topic, p.Partition}
		if r.Error.Code() != kafka.ErrNoError {
			return nil, fmt.Errorf("%s: %w", t, translate(r.Error))
		}
		out[t] = int64(r.Offset)
	}
	return out, nil
}
