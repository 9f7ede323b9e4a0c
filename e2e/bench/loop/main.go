// Command loop is the loop that anybody writes in an afternoon: confluent-kafka-go, a queue of 1,000 messages for each
// partition, and retryablehttp as it comes. It keeps the order of a partition, loses nothing but what its automatic
// commit was too early for, and is what kpush is compared with.
package main

import (
	"log"
	"os"

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
	client := retryablehttp.NewClient()
	client.Logger = nil
	url := "http://127.0.0.1:" + os.Getenv("KPUSH_PORT") + "/"

	queues := map[int32]chan *kafka.Message{}
	for {
		switch event := consumer.Poll(100).(type) {
		case *kafka.Message:
			queue := queues[event.TopicPartition.Partition]
			if queue == nil {
				queue = make(chan *kafka.Message, 1_000)
				queues[event.TopicPartition.Partition] = queue
				go deliver(client, url, queue)
			}
			queue <- event
		case kafka.Error:
			log.Print(event)
		}
	}
}

// deliver sends one message after the other.
func deliver(client *retryablehttp.Client, url string, queue <-chan *kafka.Message) {
	for m := range queue {
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
