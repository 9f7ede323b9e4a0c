package librdkafka

/*
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#define LIBRDKAFKA __attribute__((weak)) extern
LIBRDKAFKA void *rd_kafka_queue_poll(void *queue, int timeout_ms);
LIBRDKAFKA int rd_kafka_event_type(void *event);
LIBRDKAFKA int rd_kafka_event_error(void *event);
LIBRDKAFKA int rd_kafka_event_error_is_fatal(void *event);
LIBRDKAFKA const char *rd_kafka_event_error_string(void *event);
LIBRDKAFKA void *rd_kafka_event_topic_partition_list(void *event);
LIBRDKAFKA void *rd_kafka_event_topic_partition(void *event);
LIBRDKAFKA void rd_kafka_topic_partition_destroy(void *partition);
LIBRDKAFKA const void *rd_kafka_event_message_next(void *event);
LIBRDKAFKA void rd_kafka_event_destroy(void *event);
LIBRDKAFKA const char *rd_kafka_topic_name(void *rkt);
LIBRDKAFKA int64_t rd_kafka_message_timestamp(const void *message, int *type);
LIBRDKAFKA int rd_kafka_message_headers(const void *message, void **headers);
LIBRDKAFKA int rd_kafka_header_get_all(void *headers, size_t i, const char **name, const void **value, size_t *size);

// rd_kafka_message_t, rd_kafka_topic_partition_t and its list, whose layouts are part of librdkafka's ABI.
typedef struct { int err; void *rkt; int32_t partition; void *payload; size_t len; void *key; size_t key_len; int64_t offset; void *opaque; } record;
typedef struct { char *topic; int32_t partition; int64_t offset; void *metadata; size_t metadata_size; void *opaque; int err; void *own; } place;
typedef struct { int count; int size; place *all; } places;

// polled is an event, and what it holds where it is a message.
typedef struct { void *event; int kind; const record *m; const char *topic; size_t topic_len; int64_t timestamp; int stamped; void *headers; } polled;

static void poll_into(void *queue, polled *p) {
	p->event = rd_kafka_queue_poll(queue, 0);
	p->kind = p->event ? rd_kafka_event_type(p->event) : 0;
	if (p->kind != 2)
		return;
	p->m = rd_kafka_event_message_next(p->event);
	p->topic = rd_kafka_topic_name(p->m->rkt);
	p->topic_len = strlen(p->topic);
	p->timestamp = rd_kafka_message_timestamp(p->m, &p->stamped);
	p->headers = NULL;
	rd_kafka_message_headers(p->m, &p->headers);
}
*/
import "C"

import (
	"strings"
	"time"
	"unsafe"

	client "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/kpush/kpush/kafka"
)

// A consumer's events; eventError is one of them, too.
const (
	eventMessage   = 2
	eventRebalance = 16
)

type polled = C.polled

// Poll takes what librdkafka's queue holds, without confluent-kafka-go: that does not say which partition an error is about, and
// behind a batch that cannot be read the next one may come (decision 23). While the client closes, that is the one who polls.
func (l *handle) Poll(timeout time.Duration) (*kafka.Message, error) {
	C.poll_into(l.queue.q, &l.polled)
	if l.polled.event == nil {
		l.queue.wait(timeout) // in Go: see queue
		if C.poll_into(l.queue.q, &l.polled); l.polled.event == nil {
			return nil, nil
		}
	}
	event := l.polled.event
	defer C.rd_kafka_event_destroy(event) // not later: it may hold a whole batch
	switch l.polled.kind {
	case eventMessage:
		return l.message()
	case eventRebalance:
		given := client.ErrorCode(C.rd_kafka_event_error(event)) == client.ErrAssignPartitions
		l.rebalanced(given, partitionsIn((*C.places)(C.rd_kafka_event_topic_partition_list(event))))
	case eventError:
		return nil, l.failure(event)
	}
	return nil, nil
}

// message is a copy of the one that was polled.
func (l *handle) message() (*kafka.Message, error) {
	p := &l.polled
	m := &kafka.Message{
		Partition: kafka.Partition{Topic: l.topicName(unsafe.String((*byte)(unsafe.Pointer(p.topic)), int(p.topic_len))), Number: int32(p.m.partition)},
		Offset:    int64(p.m.offset), Timestamp: -1, Key: copied(p.m.key, p.m.key_len), Value: copied(p.m.payload, p.m.len),
	}
	if p.stamped != 0 {
		m.Timestamp = int64(p.timestamp)
	}
	if p.m.err != 0 {
		return nil, kafka.PartitionError{Position: kafka.Position{Partition: m.Partition, Offset: m.Offset}, Err: translate(client.NewError(client.ErrorCode(p.m.err), "", false))}
	}
	if p.headers == nil {
		return m, nil
	}
	var name *C.char
	var value unsafe.Pointer
	var size C.size_t
	for i := C.size_t(0); C.rd_kafka_header_get_all(p.headers, i, &name, &value, &size) == 0; i++ {
		m.Headers = append(m.Headers, kafka.Header{Name: C.GoString(name), Value: copied(value, size)})
	}
	return m, nil
}

// topicName is one string for all messages of a topic.
func (l *handle) topicName(name string) string {
	if known, ok := l.topics[name]; ok {
		return known
	}
	known := strings.Clone(name)
	l.topics[known] = known
	return known
}

// copied is nil where there is none, which is another thing than an empty one.
func copied(from unsafe.Pointer, size C.size_t) []byte {
	if from == nil {
		return nil
	}
	out := make([]byte, size)
	copy(out, unsafe.Slice((*byte)(from), size))
	return out
}

func partitionsIn(list *C.places) []kafka.Partition {
	all := unsafe.Slice(list.all, list.count)
	out := make([]kafka.Partition, len(all))
	for i := range all {
		out[i] = kafka.Partition{Topic: C.GoString(all[i].topic), Number: int32(all[i].partition)}
	}
	return out
}

// failure is an event's error, with the partition that it is about, where there is one.
func (l *handle) failure(event unsafe.Pointer) error {
	code, text := client.ErrorCode(C.rd_kafka_event_error(event)), C.GoString(C.rd_kafka_event_error_string(event))
	if C.rd_kafka_event_error_is_fatal(event) != 0 {
		code, text = l.member.fatality()
		return l.member.fatal(client.NewError(code, text, true))
	}
	err := translate(client.NewError(code, text, false))
	at := (*C.place)(C.rd_kafka_event_topic_partition(event))
	if at == nil {
		return err
	}
	defer C.rd_kafka_topic_partition_destroy(unsafe.Pointer(at))
	return kafka.PartitionError{Position: kafka.Position{Partition: kafka.Partition{Topic: C.GoString(at.topic), Number: int32(at.partition)}, Offset: int64(at.offset)}, Err: err}
}
