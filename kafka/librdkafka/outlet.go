package librdkafka

/*
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>

#define LIBRDKAFKA __attribute__((weak)) extern
LIBRDKAFKA void *rd_kafka_conf_new(void);
LIBRDKAFKA void rd_kafka_conf_destroy(void *conf);
LIBRDKAFKA int rd_kafka_conf_set(void *conf, const char *name, const char *value, char *why, size_t size);
LIBRDKAFKA void rd_kafka_conf_set_events(void *conf, int events);
LIBRDKAFKA void *rd_kafka_new(int type, void *conf, char *why, size_t size);
LIBRDKAFKA void rd_kafka_destroy_flags(void *rk, int flags);
LIBRDKAFKA int rd_kafka_set_log_queue(void *rk, void *queue);
LIBRDKAFKA void *rd_kafka_queue_get_main(void *rk);
LIBRDKAFKA void *rd_kafka_queue_poll(void *queue, int timeout_ms);
LIBRDKAFKA void rd_kafka_queue_destroy(void *queue);
LIBRDKAFKA int rd_kafka_producev(void *rk, ...);
LIBRDKAFKA int rd_kafka_flush(void *rk, int timeout_ms);
LIBRDKAFKA int rd_kafka_purge(void *rk, int flags);
LIBRDKAFKA void *rd_kafka_headers_new(size_t count);
LIBRDKAFKA int rd_kafka_header_add(void *headers, const char *name, ssize_t name_size, const void *value, ssize_t size);
LIBRDKAFKA void rd_kafka_headers_destroy(void *headers);
LIBRDKAFKA int rd_kafka_event_type(void *event);
LIBRDKAFKA int rd_kafka_event_error(void *event);
LIBRDKAFKA const char *rd_kafka_event_error_string(void *event);
LIBRDKAFKA int rd_kafka_event_log(void *event, const char **tag, const char **text, int *level);
LIBRDKAFKA const void *rd_kafka_event_message_next(void *event);
LIBRDKAFKA void rd_kafka_event_destroy(void *event);
LIBRDKAFKA int rd_kafka_message_status(const void *message);
LIBRDKAFKA int64_t rd_kafka_message_timestamp(const void *message, int *type);

// report is rd_kafka_message_t, whose layout is part of librdkafka's ABI.
typedef struct { int err; void *rkt; int32_t partition; void *payload; size_t len; void *key; size_t key_len; int64_t offset; void *opaque; } report;

typedef struct { uintptr_t id; int64_t offset, timestamp; int32_t partition; int err, status; } reported;

// take copies the next reports of the event, so many at the most, and returns how many.
static size_t take(void *event, reported *to, size_t most) {
	size_t n = 0;
	int kind;
	const report *m;
	while (n < most && (m = rd_kafka_event_message_next(event)))
		to[n++] = (reported){(uintptr_t)m->opaque, m->offset, rd_kafka_message_timestamp(m, &kind), m->partition, m->err, rd_kafka_message_status(m)};
	return n;
}

// The numbers are RD_KAFKA_VTYPE_*; 2 is RD_KAFKA_MSG_F_COPY. On success the headers are librdkafka's.
static int produce(void *rk, const char *topic, int32_t partition, const void *value, size_t size, const void *key, size_t key_size,
		int64_t timestamp, void *headers, uintptr_t opaque) {
	if (headers)
		return rd_kafka_producev(rk, 1, topic, 3, partition, 4, value, size, 5, key, key_size, 6, (void *)opaque, 7, 2, 8, timestamp, 10, headers, 0);
	return rd_kafka_producev(rk, 1, topic, 3, partition, 4, value, size, 5, key, key_size, 6, (void *)opaque, 7, 2, 8, timestamp, 0);
}
*/
import "C"

import (
	"fmt"
	"time"
	"unsafe"

	client "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/kpush/kpush/kafka"
)

// outlet is one producing client of librdkafka's. confluent-kafka-go's Producer does not say of a record that has failed whether it
// was sent, which is what a caller has to know; and a thread of its own waits inside the client, see queue.
type outlet struct {
	rk    unsafe.Pointer
	queue *queue
	taken [64]C.reported // room for poll
}

// outcome is a delivery report.
type outcome struct {
	id        uintptr
	code      client.ErrorCode
	sent      int // RD_KAFKA_MSG_STATUS: 0 it is not in Kafka, 1 it may be, 2 it is
	partition int32
	offset    int64
	timestamp int64
}

// event is what the client's queue holds: reports, or an error, or a line of its log.
type event struct {
	reports []outcome
	code    client.ErrorCode // ErrNoError: none
	tag     string
	text    string
	level   int
}

const (
	eventReports = 1
	eventLog     = 4
	eventError   = 8
)

func newOutlet(properties map[string]string) (*outlet, error) {
	conf, why := C.rd_kafka_conf_new(), (*C.char)(C.calloc(1, 512))
	defer C.free(unsafe.Pointer(why))
	for name, value := range properties {
		n, v := C.CString(name), C.CString(value)
		bad := C.rd_kafka_conf_set(conf, n, v, why, 512) != 0
		C.free(unsafe.Pointer(n))
		C.free(unsafe.Pointer(v))
		if bad {
			C.rd_kafka_conf_destroy(conf)
			return nil, fmt.Errorf("%w: %s", kafka.ErrRefused, C.GoString(why))
		}
	}
	C.rd_kafka_conf_set_events(conf, eventReports|eventLog|eventError)
	rk := C.rd_kafka_new(0, conf, why, 512) // 0: a producer, which owns conf from here on
	if rk == nil {
		C.rd_kafka_conf_destroy(conf)
		return nil, fmt.Errorf("%w: %s", kafka.ErrRefused, C.GoString(why))
	}
	C.rd_kafka_set_log_queue(rk, nil) // the main queue
	q, err := newQueue(C.rd_kafka_queue_get_main(rk))
	if err != nil {
		C.rd_kafka_destroy_flags(rk, 0)
		return nil, err
	}
	return &outlet{rk: rk, queue: q}, nil
}

// none stands for a key or value that is there and empty: a nil pointer is Kafka's null.
var none byte

func pointer(b []byte) (unsafe.Pointer, C.size_t) {
	switch {
	case b == nil:
		return nil, 0
	case len(b) == 0:
		return unsafe.Pointer(&none), 0
	}
	return unsafe.Pointer(&b[0]), C.size_t(len(b))
}

// send copies the record into the client's queue, and never waits.
func (o *outlet) send(r *kafka.Record, id uintptr) client.ErrorCode {
	topic := append([]byte(r.Topic), 0)
	var headers unsafe.Pointer
	if len(r.Headers) > 0 {
		headers = C.rd_kafka_headers_new(C.size_t(len(r.Headers)))
		for _, h := range r.Headers {
			name := C.CString(h.Name)
			value, size := pointer(h.Value)
			C.rd_kafka_header_add(headers, name, C.ssize_t(len(h.Name)), value, C.ssize_t(size))
			C.free(unsafe.Pointer(name))
		}
	}
	value, size := pointer(r.Value)
	key, keySize := pointer(r.Key)
	code := client.ErrorCode(C.produce(o.rk, (*C.char)(unsafe.Pointer(&topic[0])), C.int32_t(r.Partition), value, size, key, keySize, C.int64_t(r.Timestamp), headers, C.uintptr_t(id)))
	if code != client.ErrNoError && headers != nil {
		C.rd_kafka_headers_destroy(headers)
	}
	return code
}

// poll is the next event, nil after so long, or for no reason. Only one goroutine may poll.
func (o *outlet) poll(atMost time.Duration) *event {
	e := C.rd_kafka_queue_poll(o.queue.q, 0)
	if e == nil {
		o.queue.wait(atMost)
		if e = C.rd_kafka_queue_poll(o.queue.q, 0); e == nil {
			return nil
		}
	}
	defer C.rd_kafka_event_destroy(e)
	got := &event{}
	switch C.rd_kafka_event_type(e) {
	case eventReports:
		for n := len(o.taken); n == len(o.taken); {
			n = int(C.take(e, &o.taken[0], C.size_t(n)))
			for _, r := range o.taken[:n] {
				got.reports = append(got.reports, outcome{id: uintptr(r.id), code: client.ErrorCode(r.err), sent: int(r.status),
					partition: int32(r.partition), offset: int64(r.offset), timestamp: int64(r.timestamp)})
			}
		}
	case eventError:
		got.code, got.text = client.ErrorCode(C.rd_kafka_event_error(e)), C.GoString(C.rd_kafka_event_error_string(e))
	case eventLog:
		var tag, text *C.char
		var level C.int
		if C.rd_kafka_event_log(e, &tag, &text, &level) == 0 {
			got.tag, got.text, got.level = C.GoString(tag), C.GoString(text), int(level)
		}
	}
	return got
}

// flush has what lingers sent at once, and waits so long at the most. Another goroutine must poll meanwhile.
func (o *outlet) flush(atMost time.Duration) { C.rd_kafka_flush(o.rk, C.int(atMost/time.Millisecond)) }

// purge has all that is queued or under way reported as failed.
func (o *outlet) purge() { C.rd_kafka_purge(o.rk, 1|2|4) } // QUEUE, INFLIGHT, NON_BLOCKING

// close ends the client. What is still in it is not reported, and nobody polls any more.
func (o *outlet) close() {
	o.queue.close()
	C.rd_kafka_queue_destroy(o.queue.q)
	C.rd_kafka_destroy_flags(o.rk, 8) // NO_CONSUMER_CLOSE
}
