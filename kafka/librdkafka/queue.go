package librdkafka

/*
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>

// librdkafka's, which confluent-kafka-go links; weak, because cgo links this package alone first.
#define LIBRDKAFKA __attribute__((weak)) extern
LIBRDKAFKA void *rd_kafka_queue_new(void *rk);
LIBRDKAFKA void rd_kafka_queue_destroy(void *queue);
LIBRDKAFKA size_t rd_kafka_queue_length(void *queue);
LIBRDKAFKA void *rd_kafka_queue_poll(void *queue, int timeout_ms);
LIBRDKAFKA void rd_kafka_queue_io_event_enable(void *queue, int fd, const void *payload, size_t size);
LIBRDKAFKA int rd_kafka_set_log_queue(void *rk, void *queue);
LIBRDKAFKA int rd_kafka_event_log(void *event, const char **tag, const char **text, int *level);
LIBRDKAFKA void rd_kafka_event_destroy(void *event);

static int signal_of(void *queue) {
	const uint64_t one = 1;
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (fd >= 0)
		rd_kafka_queue_io_event_enable(queue, fd, &one, sizeof one);
	return fd;
}
*/
import "C"

import (
	"encoding/binary"
	"fmt"
	"os"
	"reflect"
	"time"
	"unsafe"

	client "github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// queue is one of librdkafka's, waited for in Go. A thread that waits inside the client keeps Go's monitor awake, for up to
// 10 ms each time; decision 2 has the figures.
type queue struct {
	q      unsafe.Pointer
	signal *os.File // librdkafka writes to it when something comes into the empty queue
	count  [8]byte
}

func newQueue(q unsafe.Pointer) (*queue, error) {
	fd, err := C.signal_of(q)
	if fd < 0 {
		return nil, fmt.Errorf("no eventfd for the Kafka client's queue: %w", err)
	}
	return &queue{q: q, signal: os.NewFile(uintptr(fd), "eventfd")}, nil
}

// wait returns when the queue has something, after wake, after so long, or for no reason. Only one goroutine may wait.
func (q *queue) wait(atMost time.Duration) {
	if C.rd_kafka_queue_length(q.q) > 0 {
		return // the signal was for the first of what is there
	}
	_ = q.signal.SetReadDeadline(time.Now().Add(atMost)) // an eventfd takes deadlines
	_, _ = q.signal.Read(q.count[:])
}

// wake ends a wait, or the next one. Safe for concurrent use.
func (q *queue) wake() { _, _ = q.signal.Write(binary.NativeEndian.AppendUint64(nil, 1)) }

// close ends every wait; the queue itself stays.
func (q *queue) close() {
	C.rd_kafka_queue_io_event_enable(q.q, -1, nil, 0) // first: the descriptor's number is free after it
	_ = q.signal.Close()
}

// hidden is a pointer that confluent-kafka-go keeps to itself in one of its clients.
func hidden(c any, name string) (unsafe.Pointer, error) {
	v := reflect.ValueOf(c).Elem().FieldByName("handle")
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() == reflect.Struct {
		v = v.FieldByName(name)
	}
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return nil, fmt.Errorf("this confluent-kafka-go keeps no handle.%s in its %T: build kpush with the version in its go.mod", name, c)
	}
	return v.UnsafePointer(), nil
}

// logQueue has what the client logs go to say, until its end is called. The client's log.queue must be on.
func logQueue(c *client.Consumer, say func(tag, text string, level int)) (end func(), err error) {
	rk, err := hidden(c, "rk")
	if err != nil {
		return nil, err
	}
	lines := C.rd_kafka_queue_new(rk)
	q, err := newQueue(lines)
	if err != nil {
		C.rd_kafka_queue_destroy(lines)
		return nil, err
	}
	C.rd_kafka_set_log_queue(rk, lines)
	over, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		for {
			for e := C.rd_kafka_queue_poll(lines, 0); e != nil; e = C.rd_kafka_queue_poll(lines, 0) {
				var tag, text *C.char
				var level C.int
				if C.rd_kafka_event_log(e, &tag, &text, &level) == 0 {
					say(C.GoString(tag), C.GoString(text), int(level))
				}
				C.rd_kafka_event_destroy(e)
			}
			select {
			case <-over:
				return
			default:
				q.wait(time.Hour)
			}
		}
	}()
	return func() {
		close(over)
		q.close()
		<-gone
		C.rd_kafka_queue_destroy(lines)
	}, nil
}
