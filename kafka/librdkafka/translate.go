package librdkafka

import (
	"errors"
	"fmt"

	client "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/kpush/kpush/kafka"
)

// translate keeps librdkafka's sentence and adds what the rest of kpush has to know of it.
func translate(err error) error {
	var e client.Error
	if !errors.As(err, &e) {
		return err
	}
	if e.IsFatal() {
		return kafka.FatalError{Err: e}
	}
	var kind error
	switch e.Code() {
	case client.ErrAutoOffsetReset, client.ErrOffsetOutOfRange:
		kind = kafka.ErrOutOfRange
	case client.ErrUnknownTopicOrPart, client.ErrUnknownTopic, client.ErrUnknownPartition:
		kind = kafka.ErrNoTopic
	case client.ErrBadMsg, client.ErrBadCompression, client.ErrNotImplemented, client.ErrInvalidMsg, client.ErrInvalidMsgSize, client.ErrMsgSizeTooLarge, client.ErrUnsupportedCompressionType:
		kind = kafka.ErrUnreadable
	case client.ErrAllBrokersDown:
		kind = kafka.ErrAllDown
	case client.ErrTransport, client.ErrResolve, client.ErrAuthentication, client.ErrSsl:
		kind = kafka.ErrNoBroker
	case client.ErrRebalanceInProgress, client.ErrIllegalGeneration:
		kind = kafka.ErrRebalancing
	case client.ErrUnknownMemberID, client.ErrFencedInstanceID:
		kind = kafka.ErrNotMember
	case client.ErrMaxPollExceeded:
		kind = kafka.ErrUnpolled
	case client.ErrOffsetMetadataTooLarge:
		kind = kafka.ErrMetadataSize
	case client.ErrTopicAuthorizationFailed:
		kind = kafka.ErrForbidden
	case client.ErrInvalidCommitOffsetSize:
		kind = kafka.ErrNotTaken
	default:
		return e
	}
	return fmt.Errorf("%w: %s", kind, e.String())
}

func toKafka(of []kafka.Partition) []client.TopicPartition {
	out := make([]client.TopicPartition, len(of))
	for i := range of {
		out[i] = client.TopicPartition{Topic: &of[i].Topic, Partition: of[i].Number, Offset: client.OffsetInvalid}
	}
	return out
}

func positions(at []kafka.Position) []client.TopicPartition {
	out := make([]client.TopicPartition, len(at))
	for i := range at {
		out[i] = client.TopicPartition{Topic: &at[i].Topic, Partition: at[i].Number, Offset: client.Offset(at[i].Offset)}
	}
	return out
}

func fromKafka(list []client.TopicPartition) []kafka.Partition {
	out := make([]kafka.Partition, len(list))
	for i, p := range list {
		out[i] = kafka.Partition{Topic: *p.Topic, Number: p.Partition}
	}
	return out
}
