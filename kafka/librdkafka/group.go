package librdkafka

/*
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// librdkafka's, which confluent-kafka-go links; weak, because cgo links this package alone first.
#define LIBRDKAFKA __attribute__((weak)) extern

struct member_info {
	char *member_id, *client_id, *client_host;
	void *metadata;
	int metadata_size;
	void *assignment;
	int assignment_size;
};

struct group_info {
	struct { int32_t id; char *host; int port; } broker;
	char *group;
	int err;
	char *state, *protocol_type, *protocol;
	struct member_info *members;
	int member_cnt;
};

struct group_list {
	struct group_info *groups;
	int group_cnt;
};

LIBRDKAFKA int rd_kafka_list_groups(void *rk, const char *group, const struct group_list **list, int timeout_ms);
LIBRDKAFKA void rd_kafka_group_list_destroy(const struct group_list *list);
*/
import "C"

import (
	"context"
	"fmt"
	"slices"
	"time"
	"unsafe"

	client "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/kpush/kpush/kafka"
)

// groupTime bounds the question for a group: a broker that is down has no answer, and the others' come after it.
const groupTime = time.Second

// Group has an answer also while members wait for theirs: what they ask goes behind their join. It is librdkafka's older way to ask; the
// newer one (DescribeConsumerGroups) aborts the process where the coordinator's connection comes back after the question has timed out
// (#4605).
func (a *Cluster) Group(ctx context.Context, name string) (found kafka.Group, err error) {
	err = a.ask(func(c *client.AdminClient) error {
		rk, err := hidden(c, "rk")
		if err != nil {
			return err
		}
		wanted, list := C.CString(name), (*C.struct_group_list)(nil)
		defer C.free(unsafe.Pointer(wanted))
		for tries := 0; list == nil; tries++ { // a connection that ends hides what other brokers have said
			code := client.ErrorCode(C.rd_kafka_list_groups(rk, wanted, &list, C.int(groupTime/time.Millisecond)))
			if list == nil && (tries == 2 || ctx.Err() != nil || code != client.ErrTransport) {
				return client.NewError(code, code.String(), false)
			}
		}
		defer C.rd_kafka_group_list_destroy(list)
		for _, g := range unsafe.Slice(list.groups, list.group_cnt) {
			if code := client.ErrorCode(g.err); code != client.ErrNoError {
				return client.NewError(code, code.String(), false)
			}
			state := C.GoString(g.state)
			found.Rebalancing = state == "PreparingRebalance" || state == "CompletingRebalance"
			found.Assignor = C.GoString(g.protocol)
			for _, m := range unsafe.Slice(g.members, g.member_cnt) {
				found.Members = append(found.Members, C.GoString(m.member_id))
			}
		}
		return nil
	})
	return found, err
}

// Admits asks the group's coordinator. Once a process at the most: see Group.
func (a *Cluster) Admits(ctx context.Context, name string) error {
	var got client.DescribeConsumerGroupsResult
	err := a.ask(func(c *client.AdminClient) (err error) {
		got, err = c.DescribeConsumerGroups(ctx, []string{name}, client.SetAdminRequestTimeout(kafka.QuestionTime), client.SetAdminOptionIncludeAuthorizedOperations(true))
		return err
	})
	for _, g := range got.ConsumerGroupDescriptions {
		if g.Error.Code() == client.ErrGroupAuthorizationFailed || !allowed(g.AuthorizedOperations, client.ACLOperationRead) {
			return fmt.Errorf("%s: %w: %s is missing", name, kafka.ErrForbidden, kafka.Read)
		}
	}
	return err
}

var rights = map[kafka.Right]client.ACLOperation{kafka.Read: client.ACLOperationRead, kafka.Write: client.ACLOperationWrite}

// allowed tells whether an operation is among those that Kafka names; all are where it names none.
func allowed(named []client.ACLOperation, one client.ACLOperation) bool {
	return len(named) == 0 || slices.Contains(named, one)
}
