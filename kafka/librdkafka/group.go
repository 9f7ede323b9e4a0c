package librdkafka

import (
	"context"
	"fmt"
	"slices"

	client "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/kpush/kpush/kafka"
)

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
