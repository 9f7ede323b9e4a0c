package librdkafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	client "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/kpush/kpush/kafka"
)

// Cluster is a kafka.Cluster. It asks through a connection of its own: on the consumer's, each question would wait behind the long
// poll of Fetch. Its client is a new one every staleTime as long as there is no answer: see Consumer.Renew.
type Cluster struct {
	cfg       Config
	isolation client.IsolationLevel // the consumer's: where a partition ends for it depends on it

	mu       sync.Mutex
	a        *admin
	closed   bool
	answered time.Time               // when a broker has, or the client was made
	leaders  map[kafka.Partition]int // broker ids as of the newest description, -1: none
}

// admin is a client with its questions, which must be over before it goes away.
type admin struct {
	*client.AdminClient
	asking sync.WaitGroup
}

// staleTime without an answer a client is given up.
const staleTime = 10 * time.Second

// NewCluster connects on its own. An error wraps kafka.ErrRefused.
func NewCluster(cfg Config) (*Cluster, error) {
	a := &Cluster{cfg: cfg, isolation: client.IsolationLevelReadCommitted, leaders: map[kafka.Partition]int{}}
	if cfg.Properties["isolation.level"] == "read_uncommitted" {
		a.isolation = client.IsolationLevelReadUncommitted
	}
	return a, a.renew()
}

// renew makes a new client, and closes the one before when its questions are over. The caller holds mu, or is alone.
func (a *Cluster) renew() error {
	conf := client.ConfigMap{"client.id": "kpush-admin", "reconnect.backoff.max.ms": 1000, "enable.metrics.push": false,
		"log.connection.close": false, "log_level": 0}
	for k, v := range a.cfg.fresh() {
		if clusterKnows(k) {
			conf[k] = v
		}
	}
	c, err := client.NewAdminClient(&conf)
	if err != nil {
		return fmt.Errorf("%w: %w", kafka.ErrRefused, err)
	}
	if a.a != nil {
		go a.a.close()
	}
	a.a, a.answered = &admin{AdminClient: c}, time.Now()
	return nil
}

func (a *admin) close() {
	a.asking.Wait()
	a.AdminClient.Close()
}

// ask puts a question to the client, and notes whether it has an answer.
func (a *Cluster) ask(question func(*client.AdminClient) error) error {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return errClusterClosed
	}
	c := a.a
	c.asking.Add(1)
	a.mu.Unlock()
	err := translate(question(c.AdminClient))
	c.asking.Done()
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case err == nil || errors.Is(err, kafka.ErrNoTopic):
		a.answered = time.Now()
	case time.Since(a.answered) > staleTime && c == a.a:
		err = errors.Join(err, a.renew())
	}
	return err
}

var errClusterClosed = fmt.Errorf("%w: the client is closed", kafka.ErrNoBroker)

// Close waits for the questions under way.
func (a *Cluster) Close() {
	a.mu.Lock()
	c := a.a
	a.closed = true
	a.mu.Unlock()
	c.close()
}

// ID is the cluster's.
func (a *Cluster) ID(ctx context.Context) (id string, err error) {
	return id, a.ask(func(c *client.AdminClient) (err error) { id, err = c.ClusterID(ctx); return err })
}

// Topics have their ids in standard base64, as Kafka has them.
func (a *Cluster) Topics(ctx context.Context, names []string, may kafka.Right) (map[string]kafka.Topic, error) {
	found, missing := make(map[string]kafka.Topic), []error(nil)
	err := a.describe(ctx, names, func(d client.TopicDescription) {
		t := kafka.Topic{Partitions: int32(len(d.Partitions))}
		if d.TopicID.GetMostSignificantBits() != 0 || d.TopicID.GetLeastSignificantBits() != 0 {
			t.ID = d.TopicID.String()
		}
		found[d.Name] = t
		if !allowed(d.AuthorizedOperations, rights[may]) {
			missing = append(missing, fmt.Errorf("%s: %w: %s is missing", d.Name, kafka.ErrForbidden, may))
		}
	})
	return found, errors.Join(append(missing, err)...)
}

// Partitions lists all of the topics' partitions.
func (a *Cluster) Partitions(ctx context.Context, topics []string) (out []kafka.Partition, err error) {
	err = a.describe(ctx, topics, func(d client.TopicDescription) {
		for _, p := range d.Partitions {
			out = append(out, kafka.Partition{Topic: d.Name, Number: int32(p.Partition)})
		}
	})
	return out, err
}

// RecordMost is a topic's max.message.bytes, which needs DESCRIBE_CONFIGS.
func (a *Cluster) RecordMost(ctx context.Context, topic string) (most int, err error) {
	err = a.ask(func(c *client.AdminClient) error {
		got, err := c.DescribeConfigs(ctx, []client.ConfigResource{{Type: client.ResourceTopic, Name: topic}}, client.SetAdminRequestTimeout(describeTime))
		if err == nil && got[0].Error.Code() != client.ErrNoError {
			err = got[0].Error
		}
		if err == nil {
			most, err = strconv.Atoi(got[0].Config["max.message.bytes"].Value)
		}
		return err
	})
	return most, err
}

// describe asks the broker that librdkafka takes for the controller, and no other. In a cluster with KRaft that is any of
// them, and for librdkafka it stays the same one, dead or not, until it happens to hear of another. What can be told of some
// topics is told beside an error about others.
func (a *Cluster) describe(ctx context.Context, topics []string, each func(client.TopicDescription)) error {
	var got client.DescribeTopicsResult
	for {
		err := a.ask(func(c *client.AdminClient) (err error) {
			got, err = c.DescribeTopics(ctx, client.NewTopicCollectionOfTopicNames(topics), client.SetAdminRequestTimeout(describeTime), client.SetAdminOptionIncludeAuthorizedOperations(true))
			return err
		})
		if err == nil {
			break
		}
		if ctx.Err() != nil || errors.Is(err, kafka.ErrNoTopic) {
			return err
		}
		_ = a.ask(func(c *client.AdminClient) error { // so that it hears of another
			_, err := c.GetMetadata(&topics[0], false, int(hearTime/time.Millisecond))
			return err
		})
		<-time.After(20 * time.Millisecond) // both may fail at once
	}
	var errs []error
	for _, d := range got.TopicDescriptions {
		if d.Error.Code() != client.ErrNoError {
			errs = append(errs, fmt.Errorf("%s: %w", d.Name, translate(d.Error)))
			continue
		}
		a.led(d)
		each(d)
	}
	return errors.Join(errs...)
}

// led remembers who leads the partitions.
func (a *Cluster) led(d client.TopicDescription) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range d.Partitions {
		leader := -1
		if p.Leader != nil {
			leader = p.Leader.ID
		}
		a.leaders[kafka.Partition{Topic: d.Name, Number: int32(p.Partition)}] = leader
	}
}

const (
	describeTime = 500 * time.Millisecond // of one question
	hearTime     = 500 * time.Millisecond // to hear of another controller
)
