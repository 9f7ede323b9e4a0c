package librdkafka

/*
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// librdkafka's, which confluent-kafka-go links; weak, because cgo links this package alone first.
#define LIBRDKAFKA __attribute__((weak)) extern
LIBRDKAFKA void *rd_kafka_consumer_group_metadata(void *rk);
LIBRDKAFKA const char *rd_kafka_consumer_group_metadata_member_id(const void *metadata);
LIBRDKAFKA int32_t rd_kafka_consumer_group_metadata_generation_id(const void *metadata);
LIBRDKAFKA void rd_kafka_consumer_group_metadata_destroy(void *metadata);
LIBRDKAFKA int rd_kafka_fatal_error(void *rk, char *text, size_t size);
LIBRDKAFKA void *rd_kafka_consumer_close_queue(void *rk, void *queue);
LIBRDKAFKA int rd_kafka_consumer_closed(void *rk);
LIBRDKAFKA void rd_kafka_error_destroy(void *error);

// member_of is a copy of the member id, NULL where the client is no member. It never returns where the membership closes meanwhile.
static char *member_of(void *rk) {
	void *metadata = NULL;
	char *id = NULL;
	if (!rd_kafka_consumer_closed(rk))
		metadata = rd_kafka_consumer_group_metadata(rk);
	if (metadata == NULL)
		return NULL;
	if (rd_kafka_consumer_group_metadata_generation_id(metadata) >= 0)
		id = strdup(rd_kafka_consumer_group_metadata_member_id(metadata));
	rd_kafka_consumer_group_metadata_destroy(metadata);
	return id;
}

static void begin_close(void *rk, void *queue) {
	void *error = rd_kafka_consumer_close_queue(rk, queue);
	if (error != NULL)
		rd_kafka_error_destroy(error);
}
*/
import "C"

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	client "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/kpush/kpush/kafka"
)

// membership is under which member id the group has given what is assigned. librdkafka says that an assignment is lost only where it
// stands still: where a membership ends in the middle of a rebalance it keeps the partitions, and once it has joined anew it goes on
// with them, or has them revoked in good order, though others may have had them in between. It forgets that one is lost, too, when
// partitions are put in or taken out before the callback has run. But whenever a membership ends it forgets the member id, or the
// generation. See decision 24.
type membership struct {
	rk    unsafe.Pointer
	queue unsafe.Pointer         // of its events
	given atomic.Pointer[string] // nil: nothing was given yet; "": what was, by a membership that had ended by then

	learns atomic.Bool // under which one they were is asked again: the client had no time for an answer

	left atomic.Bool // on purpose: the client forgets the member id then, too

	asking chan struct{} // whoever asks librdkafka's thread has its only place
	mu     sync.RWMutex
	over   bool // rk is about to go
}

// askTime is how long librdkafka's thread, which answers within a millisecond, may take.
const askTime = time.Second

// now is the client's member id, "" where it has heard that it is no member. It is not known where the client's thread has no time: that says
// nothing of the membership.
func (m *membership) now() (id string, known bool) {
	answer := make(chan string, 1)
	go func() {
		m.asking <- struct{}{}
		defer func() { <-m.asking }()
		if m.gone() {
			answer <- ""
			return
		}
		id := C.member_of(m.rk)
		answer <- C.GoString(id)
		C.free(unsafe.Pointer(id))
	}()
	select {
	case id := <-answer:
		return id, true
	case <-time.After(askTime):
		return "", false
	}
}

func (m *membership) gone() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.over
}

// ended tells whether the membership under which partitions were given has, as far as the client has heard, and is known to have heard.
func (m *membership) ended() (ended, known bool) {
	given := m.given.Load()
	if given != nil && *given == "" {
		return true, true
	}
	if given == nil && !m.learns.Load() {
		return false, true
	}
	id, known := m.now()
	if known && id != "" && m.learns.CompareAndSwap(true, false) {
		m.given.Store(&id)
		return false, true
	}
	return known && !m.learns.Load() && id != *m.given.Load(), known
}

// assigned notes under which id partitions are given.
func (m *membership) assigned(id string, known bool) {
	switch {
	case !known:
		m.learns.Store(true)
	case id != "" || m.given.Load() == nil: // else it joins anew, and another callback comes
		m.given.Store(&id)
		m.learns.Store(false)
	}
}

// fatality is the error that has ended the client, 0 while there is none.
func (m *membership) fatality() (code client.ErrorCode, text string) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.over {
		return 0, ""
	}
	var room [512]C.char
	code = client.ErrorCode(C.rd_kafka_fatal_error(m.rk, &room[0], C.size_t(len(room))))
	return code, C.GoString(&room[0])
}

// failed is why the client is of no use any more, nil while it is.
func (m *membership) failed() error {
	if code, text := m.fatality(); code != 0 {
		return errors.New(text)
	}
	return nil
}

// fatal is what a failure means.
func (m *membership) fatal(err error) error {
	ended, _ := m.ended()
	return kafka.FatalError{Err: err, Expelled: !m.left.Load() && ended}
}

// leave closes the membership; polls are for the callbacks. The client's own Close waits for ever where it has failed, before or in it.
func (m *membership) leave(poll func()) error {
	m.left.Store(true)
	C.begin_close(m.rk, m.queue)
	for closed := false; !closed; {
		poll()
		closed = C.rd_kafka_consumer_closed(m.rk) == 1
		if err := m.failed(); err != nil {
			return m.fatal(err)
		}
	}
	select {
	case m.asking <- struct{}{}:
		defer func() { <-m.asking }()
	case <-time.After(askTime): // it is stuck, on a queue of its own
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.over = true
	return nil
}

// rebalance has l.on told what librdkafka says, and what it does not say: see membership.
func (l *handle) rebalance(given bool, tps []kafka.Partition, lost bool) {
	ended, _ := l.member.ended()
	if !given {
		l.on.Revoked(tps, lost || ended)
		return
	}
	now, known := l.member.now()
	if (ended && now != "" || !known) && len(l.mine) > 0 {
		kept := slices.Collect(maps.Keys(l.mine))
		l.on.Revoked(kept, true)
		tps = append(tps, kept...)
	}
	l.member.assigned(now, known)
	l.on.Assigned(tps)
}
