package forwarder

import "fmt"

// Message is one record of a topic. The forwarder owns it until its outcome is on record; a Handler must not change it.
type Message struct {
	Topic     string
	TopicID   string // "" where the cluster has none
	Partition int32
	Offset    int64
	Timestamp int64 // milliseconds since 1970, 0 where the record has none
	Group     string
	Key       []byte // nil: no key
	Value     []byte // nil: a tombstone
	Headers   []Header

	next *Message // in its lane
}

// Header is one Kafka header. A nil value is Kafka's null.
type Header struct {
	Name  string
	Value []byte
}

// ID is the same for every delivery of this record, whoever delivers it and how often:
// TOPIC/PARTITION/OFFSET, followed by /TOPICID where the cluster has topic ids.
func (m *Message) ID() string {
	if m.TopicID == "" {
		return fmt.Sprintf("%s/%d/%d", m.Topic, m.Partition, m.Offset)
	}
	return fmt.Sprintf("%s/%d/%d/%s", m.Topic, m.Partition, m.Offset, m.TopicID)
}

// perMessage is what a waiting message is counted with beside its bytes: the structs, the allocator's slack, and some of
// the room that the garbage collector wants above what is alive.
const perMessage = 400

// size is what the message counts against Config.Buffer, in bytes.
func (m *Message) size() int64 {
	n := int64(perMessage + len(m.Key) + len(m.Value))
	for _, h := range m.Headers {
		n += int64(len(h.Name) + len(h.Value) + 40)
	}
	return n
}
