package librdkafka

import (
	"context"
	"fmt"
	"slices"

	client "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/kpush/kpush/kafka"
)

// Group asks the group's coordinator. To librdkafka a group of share consumers is none.
func (a *Cluster) Group(ctx context.Context, name string) (found kafka.Group, err error) {
	var got client.DescribeConsumerGroupsResult
	err = a.ask(func(c *client.AdminClient) (err error) {
		got, err = c.DescribeConsumerGroups(ctx, []string{name}, client.SetAdminRequestTimeout(kafka.QuestionTime), client.SetAdminOptionIncludeAuthorizedOperations(true))
		return err
	})
	for _, g := range got.ConsumerGroupDescriptions {
		switch {
		case g.Error.Code() == client.ErrGroupAuthorizationFailed, !allowed(g.AuthorizedOperations, client.ACLOperationRead):
			return found, fmt.Errorf("%s: %w: %s is missing", name, kafka.ErrForbidden, kafka.Read)
		case g.Error.Code() != client.ErrNoError:
			return found, translate(g.Error)
		}
		found.Members = len(g.Members)
		if g.Type != client.ConsumerGroupTypeConsumer {
			found.Assignor = g.PartitionAssignor
		}
		found.Rebalancing = g.State == client.ConsumerGroupStatePreparingRebalance || g.State == client.ConsumerGroupStateCompletingRebalance
	}
	return found, err
}

var rights = map[kafka.Right]client.ACLOperation{kafka.Read: client.ACLOperationRead, kafka.Write: client.ACLOperationWrite}

// allowed tells whether an operation is among those that Kafka names; all are where it names none.
func allowed(named []client.ACLOperation, one client.ACLOperation) bool {
	return len(named) == 0 || slices.Contains(named, one)
}
