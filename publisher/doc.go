// Package publisher is the door back into Kafka: a request to /topics/NAME becomes records, and what Kafka says of them an answer.
//
// It promises no 2xx for a record that Kafka has not (202: that is not in the producer's queue), that no caller waits beyond the
// delivery timeout, and that what kpush delivers can be published again, byte for byte. It owns the bytes of bodies under way, what it
// knows of topics, and its counts. It must not know a client of Kafka's, nor who may call: that is api's.
package publisher
