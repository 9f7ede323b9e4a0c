package push

import (
	"strconv"

	"github.com/kpush/kpush/forwarder/wire"
	"github.com/kpush/kpush/kafka"
)

// write makes the request of an attempt at one message, of which it has the opening. rest is the body where it is too large to be sent in one piece with the head.
func (r *room) write(it *Item, cfg *Config, t Trace) (rest []byte) {
	var kind string
	var attributes []attribute
	body := it.Value
	switch cfg.Format {
	case "form":
		kind = "application/x-www-form-urlencoded"
		r.body = appendForm(roomFor(r.body, formSize(it.Message)), it.Message)
		body = r.body
	case "json":
		kind = "application/json"
		r.body = appendEnvelope(roomFor(r.body, 256+len(it.Value)), it)
		body = r.body
	case cloudEvents, cloudEventsStructured:
		kind, attributes, body = r.event(it, cfg)
	default:
		kind = contentType(it.Message, cfg)
	}
	b := appendLine(r.request, "Content-Type: ", kind)
	b = appendAttributes(b, attributes)
	b = appendHeader(b, it, t)
	b = appendInt(b, "Kafka-Attempt: ", int64(it.Attempt))
	if it.InDoubt {
		b = append(b, "Kafka-In-Doubt: true\r\n"...)
	}
	r.request, rest = appendBody(b, body)
	return rest
}

// event is a message's event as a request says it: in the binary mode where it is asked for and headers can say it, else in the structured
// one. There a record's own event is the body as it is.
func (r *room) event(it *Item, cfg *Config) (kind string, attributes []attribute, body []byte) {
	e := eventOf(it, cfg)
	switch {
	case cfg.Format == cloudEvents && !it.slim && e.binary():
		return e.kind, e.attributes, e.data
	case e.members != nil:
		return contentType(it.Message, cfg), nil, it.Value
	}
	r.body = e.appendJSON(roomFor(r.body, 512+len(it.Value)), nil)
	return structuredType, nil, r.body
}

// The formats in which a message is an event.
const (
	cloudEvents           = "cloudevents"
	cloudEventsStructured = "cloudevents-structured"
)

func (c *Config) events() bool { return c.Format == cloudEvents || c.Format == cloudEventsStructured }

// roomFor is b, empty, with room for size bytes, and where it has none another one of just that size.
func roomFor(b []byte, size int) []byte {
	if cap(b) < size {
		return make([]byte, 0, size)
	}
	return b[:0]
}

// appendBody appends the end of the head and, where it is small, the body.
func appendBody(b, body []byte) (out, rest []byte) {
	b = append(appendInt(b, "Content-Length: ", int64(len(body))), "\r\n"...)
	if len(body) > wire.AtOnce {
		return b, body
	}
	return append(b, body...), nil
}

// formSize is what appendForm appends: a value can be large, and three times as large in a form.
func formSize(m *kafka.Message) int {
	size := len("m=") + len(m.Value)
	for _, c := range m.Value {
		if c != ' ' && !unreserved(c) {
			size += 2
		}
	}
	var tail [64]byte
	return size + len(appendFormTail(tail[:0], m))
}

// appendForm appends what the origin sent, in the words of url.QueryEscape.
func appendForm(b []byte, m *kafka.Message) []byte {
	b = append(b, "m="...)
	for _, c := range m.Value {
		switch {
		case unreserved(c):
			b = append(b, c)
		case c == ' ':
			b = append(b, '+')
		default:
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return appendFormTail(b, m)
}

const upperHex = "0123456789ABCDEF"

func appendFormTail(b []byte, m *kafka.Message) []byte {
	b = strconv.AppendInt(append(b, "&p="...), int64(m.Number), 10)
	return strconv.AppendInt(append(b, "&o="...), m.Offset, 10)
}

// unreserved tells whether a form shows c as it is.
func unreserved(c byte) bool { return alphanumeric(c) || c == '-' || c == '_' || c == '.' || c == '~' }

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// appendHeader appends everything about the message that is the same for each attempt. A slim item leaves out what may be long:
// the service has answered that the headers are too large, and no message may be undeliverable because of them.
func appendHeader(b []byte, it *Item, t Trace) []byte {
	m := it.Message
	b = appendLine(b, "Kafka-Topic: ", m.Topic)
	b = appendInt(b, "Kafka-Partition: ", int64(m.Number))
	b = appendInt(b, "Kafka-Offset: ", m.Offset)
	if m.Timestamp >= 0 {
		b = appendInt(b, "Kafka-Timestamp: ", m.Timestamp)
	}
	b = appendLine(b, "Kafka-Group: ", it.Group)
	b = append(appendID(append(b, "Kafka-Message-Id: "...), it), "\r\n"...)
	if m.Value == nil {
		b = append(b, "Kafka-Tombstone: true\r\n"...)
	}
	if it.Replay {
		b = append(b, "Kafka-Replay: true\r\n"...)
	}
	if it.slim {
		return appendInt(appendTrace(b, Trace{Parent: t.Parent}), "Kafka-Headers-Left-Out: ", int64(len(m.Headers)))
	}
	return appendKafkaHeaders(appendKey(b, m.Key), m.Headers, t)
}

// appendLine appends a header line; name ends in a colon and a blank.
func appendLine[T string | []byte](b []byte, name string, value T) []byte {
	b = append(b, name...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

func appendInt(b []byte, name string, n int64) []byte {
	b = append(b, name...)
	b = strconv.AppendInt(b, n, 10)
	return append(b, "\r\n"...)
}

// appendID appends what Item.ID returns.
func appendID(b []byte, m *Item) []byte {
	b = append(b, m.Topic...)
	b = strconv.AppendInt(append(b, '/'), int64(m.Number), 10)
	b = strconv.AppendInt(append(b, '/'), m.Offset, 10)
	if m.TopicID != "" {
		b = append(append(b, '/'), m.TopicID...)
	}
	return b
}
