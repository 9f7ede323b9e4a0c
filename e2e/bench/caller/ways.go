package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/valyala/fasthttp"
)

// byHTTP is a caller on a connection of its own, as lean as one can be: what it costs is taken away from what is measured.
func byHTTP() (caller, error) {
	c, err := net.Dial("tcp", os.Getenv("TO"))
	if err != nil {
		return nil, err
	}
	records := os.Getenv("FORMAT") == "records"
	head := fmt.Appendf(nil, "POST /topics/%s HTTP/1.1\r\nHost: %s\r\n", os.Getenv("TOPIC")+os.Getenv("QUERY"), os.Getenv("TO"))
	from := bufio.NewReader(c)
	var request []byte
	var answer fasthttp.Response
	return func(key, value []byte) error {
		request = append(request[:0], head...)
		if records {
			value = fmt.Appendf(nil, `{"records":[{"key":"%s","value":"%s"}]}`, base64.StdEncoding.EncodeToString(key), base64.StdEncoding.EncodeToString(value))
			request = append(request, "Content-Type: application/vnd.kafka.binary.v2+json\r\n"...)
		} else {
			request = fmt.Appendf(request, "Kafka-Key: %s\r\n", key)
		}
		request = append(fmt.Appendf(request, "Content-Length: %d\r\n\r\n", len(value)), value...)
		if _, err := c.Write(request); err != nil {
			return err
		}
		if err := answer.Read(from); err != nil {
			return err
		}
		if code := answer.StatusCode(); code != 200 && code != 202 {
			return fmt.Errorf("the answer is %d: %s", code, answer.Body())
		}
		return nil
	}, nil
}

// client is one for all callers.
var client = sync.OnceValues(func() (*kafka.Producer, error) {
	return kafka.NewProducer(&kafka.ConfigMap{"bootstrap.servers": os.Getenv("BROKERS"), "acks": "all", "enable.idempotence": true, "linger.ms": 0,
		"partitioner": "murmur2_random"})
})

// byClient is a caller of the client's own.
func byClient() (caller, error) {
	p, err := client()
	if err != nil {
		return nil, err
	}
	topic, reports := os.Getenv("TOPIC"), make(chan kafka.Event, 1)
	return func(key, value []byte) error {
		m := &kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: kafka.PartitionAny}, Key: key, Value: value}
		if err := p.Produce(m, reports); err != nil {
			return err
		}
		return (<-reports).(*kafka.Message).TopicPartition.Error
	}, nil
}
