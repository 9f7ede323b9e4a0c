package librdkafka

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

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
		return unreachable(e)
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
	case client.ErrGroupAuthorizationFailed:
		kind = kafka.ErrNotAdmitted
	default:
		if !strings.HasPrefix(e.String(), "JoinGroup failed: ") {
			return e
		}
		kind = kafka.ErrNotAdmitted
	}
	return fmt.Errorf("%w: %s", kind, e.String())
}

// broker is how librdkafka begins a word about a broker; one whose address another broker has told has its number behind that, or is
// the coordinator.
var broker = regexp.MustCompile(`^(GroupCoordinator: )?(?:[a-z_]+://)?([^ ]+?)(?:/(bootstrap|\d+))?: `)

// counted is what changes in it with each time.
var counted = regexp.MustCompile(` \(after \d+ms in state [A-Z_]+(?:, \d+ identical error\(s\) suppressed)?\)`)

// unreachable is why a broker cannot be reached, in the same words each time.
func unreachable(e client.Error) error {
	text := counted.ReplaceAllString(e.String(), "")
	at := broker.FindStringSubmatch(text)
	if at == nil {
		return fmt.Errorf("%w: %s", kafka.ErrNoBroker, text)
	}
	err := fmt.Errorf("%w: %s: %s", kafka.ErrNoBroker, at[2], text[len(at[0]):])
	if told := at[1] != "" || at[3] != "" && at[3] != "bootstrap"; told {
		return kafka.AddressError{Address: at[2], Err: err}
	}
	return err
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
