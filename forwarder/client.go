package forwarder

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// client is what the forwarder needs of a Kafka consumer. Only the goroutine that owns it calls it, but for commit.
type client interface {
	source
	wake() // ends a poll, or the next one; from any goroutine
	subscribe(topics []string, on rebalance) error
	committed(tps []tp, timeout time.Duration) ([]commit, error)
	commit(cs []commit) error // may block for as long as the broker is silent
	assign(at []tpOffset) error
	unassign(tps []tp) error
	nudge(tps []tp) // after a rebalance: fetching of the partitions that stay goes on at once
	unsubscribe() error
	standIn(at []tpOffset) (source, error) // reads these partitions without a group; the caller closes it
}

// source is what messages come from.
type source interface {
	poll(timeout time.Duration) any // nil, *Message or error
	pause(tps []tp) error
	resume(tps []tp) error
	position(tps []tp) ([]tpOffset, error)
	end(t tp) int64 // the end of the log as of the newest fetch, -1 if not known
	close() error   // may block for ever
}

// cluster is what the forwarder asks a broker beside consuming. Safe for concurrent use.
type cluster interface {
	clusterID(ctx context.Context) (string, error)
	// topicIDs returns the ids of the topics that there are, "" where the cluster has none, also beside an error about others.
	topicIDs(ctx context.Context, topics []string) (map[string]string, error)
	// bounds returns what it has learned beside an error: a broker that does not answer leaves out only what it leads.
	bounds(ctx context.Context, tps []tp) (map[tp]bounds, error)
	close()
}

type (
	tp struct {
		topic     string
		partition int32
	}
	tpOffset struct {
		tp
		offset int64
	}
	// commit is an offset in Kafka with its metadata; offset < 0 means that there is none.
	commit struct {
		tp
		offset int64
		meta   string
	}
	// bounds are the oldest offset a partition still has, where it ends for this consumer (before the first open transaction,
	// where it reads what is committed only), and the offset that the next record gets.
	bounds struct{ oldest, end, high int64 }
	// rebalance is called on the goroutine that polls (or closes).
	rebalance struct {
		assigned func([]tp)
		revoked  func(tps []tp, lost bool)
	}
	// fatalError says that the client is of no use any more.
	fatalError struct{ error }
)

func (t tp) String() string { return fmt.Sprintf("%s/%d", t.topic, t.partition) }

// ErrRefused is about the properties of Config: trying again does not help.
var ErrRefused = errors.New("the Kafka client refuses its configuration")

var (
	errOutOfRange   = errors.New("an offset is out of range, or there is none")
	errNoTopic      = errors.New("topic does not exist")
	errNoBroker     = errors.New("no broker can be reached")
	errAllDown      = fmt.Errorf("%w, none of them", errNoBroker) // says nothing of the reason
	errRebalancing  = errors.New("the group is rebalancing")
	errNotMember    = errors.New("this process is no longer a member of the group")
	errNotTaken     = errors.New("Kafka does not take the commit of one of the topics")
	errUnpolled     = errors.New("the client has not been polled for longer than max.poll.interval.ms")
	errMetadataSize = errors.New("the commit's metadata is larger than the broker allows")
)
