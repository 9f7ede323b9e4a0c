// Command floor is what kpush's packages cost when nothing is asked of them: confluent-kafka-go and retryablehttp over
// fasthttp, no record, no bound on what waits in memory. Nothing built of them can be much cheaper, and nobody should
// run it: it is what kpush's own cost is measured against.
package main

import (
	"log"
	"os"
	"sync"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/hashicorp/go-retryablehttp"
)

func main() {
	consumer, err := kafka.NewConsumer(&kafka.ConfigMap{
		"bootstrap.servers":       os.Getenv("KPUSH_BROKERS"),
		"group.id":                os.Getenv("KPUSH_GROUP"),
		"auto.offset.reset":       "earliest",
		"auto.commit.interval.ms": 200,
	})
	if err != nil {
		log.Fatalf("No consumer for %s: %v", os.Getenv("KPUSH_BROKERS"), err)
	}
	if err := consumer.Subscribe(os.Getenv("KPUSH_TOPIC"), nil); err != nil {
		log.Fatalf("The topic %s cannot be subscribed to: %v", os.Getenv("KPUSH_TOPIC"), err)
	}
	addr := "127.0.0.1:" + os.Getenv("KPUSH_PORT")
	client := retryablehttp.NewClient()
	client.Logger = nil
	client.HTTPClient.Transport = newTransport(addr)

	queues := map[int32]*queue{}
	for {
		switch event := consumer.Poll(100).(type) {
		case *kafka.Message:
			q := queues[event.TopicPartition.Partition]
			if q == nil {
				q = &queue{}
				q.filled.L = &q.mu
				queues[event.TopicPartition.Partition] = q
				go deliver(client, "http://"+addr+"/", q)
			}
			q.put(event)
		case kafka.Error:
			log.Print(event)
		}
	}
}

// deliver sends one message after the other.
func deliver(client *retryablehttp.Client, url string, q *queue) {
	for {
		for _, m := range q.take() {
			response, err := client.Post(url, "application/octet-stream", m.Value)
			if err != nil {
				log.Fatalf("%s was not delivered: %v", m.TopicPartition, err)
			}
			if response.StatusCode != 200 {
				log.Fatalf("%s was answered %s", m.TopicPartition, response.Status)
			}
			response.Body.Close()
		}
	}
}

// queue is a partition's messages, without a bound.
type queue struct {
	mu     sync.Mutex
	filled sync.Cond
	waits  []*kafka.Message
}

func (q *queue) put(m *kafka.Message) {
	q.mu.Lock()
	q.waits = append(q.waits, m)
	q.mu.Unlock()
	q.filled.Signal()
}

// take waits for messages and returns all there are.
func (q *queue) take() []*kafka.Message {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waits) == 0 {
		q.filled.Wait()
	}
	all := q.waits
	q.waits = nil
	return all
}
