package librdkafka

import client "github.com/confluentinc/confluent-kafka-go/v2/kafka"

// Version is that of the library that is linked.
func Version() string {
	_, version := client.LibraryVersion()
	return version
}
