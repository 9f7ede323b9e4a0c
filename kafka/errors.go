package kafka

import (
	"errors"
	"fmt"
)

// ErrRefused is about the client's configuration: trying again does not help.
var ErrRefused = errors.New("the Kafka client refuses its configuration")

// What a Reader, Consumer, Cluster or Producer reports, each wrapped with the client's own sentence.
var (
	ErrOutOfRange   = errors.New("an offset is out of range, or there is none")
	ErrNoTopic      = errors.New("topic does not exist")
	ErrUnreadable   = errors.New("what is there cannot be read")
	ErrNoBroker     = errors.New("no broker can be reached")
	ErrAllDown      = fmt.Errorf("%w, none of them", ErrNoBroker) // says nothing of the reason
	ErrRebalancing  = errors.New("the group is rebalancing")
	ErrNotMember    = errors.New("this process is no longer a member of the group")
	ErrNotTaken     = errors.New("Kafka does not take the commit of one of the topics")
	ErrUnpolled     = errors.New("the client has not been polled for longer than max.poll.interval.ms")
	ErrForbidden    = errors.New("Kafka's ACLs forbid it")
	ErrNotAdmitted  = errors.New("the group does not take this member")
	ErrTooLarge     = errors.New("the record is larger than the broker or topic allows")
	ErrInvalid      = errors.New("Kafka does not take the record")
	ErrQueueFull    = errors.New("the queue of records to be sent is full")
	ErrUnknown      = errors.New("nobody knows whether Kafka has it")
	ErrRenewed      = errors.New("the Kafka client has been replaced meanwhile")
	ErrMetadataSize = errors.New("the commit's metadata is larger than the broker allows")
)

// AddressError is about an address that Kafka itself has given for a broker (its advertised.listeners).
type AddressError struct {
	Address string
	Err     error
}

func (e AddressError) Error() string { return e.Err.Error() }

func (e AddressError) Unwrap() error { return e.Err }

// PartitionError is what the client says of one partition, at an offset (below 0: of none).
type PartitionError struct {
	Position
	Err error
}

func (e PartitionError) Error() string {
	return fmt.Sprintf("%s at offset %d: %v", e.Partition, e.Offset, e.Err)
}

func (e PartitionError) Unwrap() error { return e.Err }

// FatalError says that the client is of no use any more. Expelled: the group had ended its membership before, so that nobody else need
// be there whom Kafka has taken in its place.
type FatalError struct {
	Err      error
	Expelled bool
}

func (e FatalError) Error() string { return e.Err.Error() }

func (e FatalError) Unwrap() error { return e.Err }
