package push

import (
	"encoding/base64"
	"unicode/utf8"

	"github.com/kpush/kpush/kafka"
)

// writeBatch makes the request of a batch, of which it has the opening. rest is the body where it is too large to be sent in one piece with the head.
func (r *room) writeBatch(items []*Item, cfg *Config, t Trace) (rest []byte) {
	size := 2
	for _, it := range items {
		size += 256 + len(it.Value)
	}
	kind := "application/json"
	if cfg.events() {
		kind = batchedType
	}
	r.body = append(roomFor(r.body, size), '[')
	for i, it := range items {
		if i > 0 {
			r.body = append(r.body, ',')
		}
		if cfg.events() {
			r.body = appendBatched(r.body, it, cfg)
		} else {
			r.body = appendEnvelope(r.body, it)
		}
	}
	r.body = append(r.body, ']')
	b := appendLine(r.request, "Content-Type: ", kind)
	b = appendInt(b, "Kafka-Batch: ", int64(len(items)))
	b = appendLine(b, "Kafka-Topic: ", items[0].Topic)
	b = appendInt(b, "Kafka-Partition: ", int64(items[0].Number))
	b = appendLine(b, "Kafka-Group: ", items[0].Group)
	b = appendTrace(b, t)
	r.request, rest = appendBody(b, r.body)
	return rest
}

// sizeInBatch is what a message takes in the body of a batch at the most: JSON is counted as if it were a text, since to find out costs
// more. The brackets around all of them are counted with each.
func (c *Config) sizeInBatch(m *kafka.Message) int {
	const fixed = 280 // names, numbers, the topic's id
	size := fixed + 2*len(m.Topic) + textSize(m.Key) + textSize(m.Value)
	for _, h := range m.Headers {
		size += nameSize(h.Name) + base64.StdEncoding.EncodedLen(len(h.Value)) + len(`["",null],`)
	}
	if c.events() {
		size = c.sizeAsEvent(m)
	}
	return size
}

// sizeAsEvent counts a message as two: once for what its event says, and once for the extension attributes of a batch.
func (c *Config) sizeAsEvent(m *kafka.Message) int {
	const fixed = 640 // names, numbers, the ids of topic and cluster
	size := fixed + 3*len(m.Topic) + 2*len(c.EventType) + 2*max(len(c.ContentType), len("application/octet-stream"))
	size += textSize(m.Key) + base64.StdEncoding.EncodedLen(len(m.Key)) + max(textSize(m.Value), base64.StdEncoding.EncodedLen(len(m.Value)))
	list := len("[]")
	for _, h := range m.Headers {
		size += nameSize(h.Name) + textSize(h.Value) + len(`"":"",`)
		list += nameSize(h.Name) + base64.StdEncoding.EncodedLen(len(h.Value)) + len(`["",null],`)
	}
	return size + base64.StdEncoding.EncodedLen(list)
}

// nameSize is what a header's name takes as a JSON string at the most, but for its quotes.
func nameSize(name string) int {
	if !utf8.ValidString(name) {
		return len(`\ufffd`) * len(name)
	}
	return textSize([]byte(name))
}

// textSize is what bytes take as a JSON string at the most, or in base64 where they are no text.
func textSize(b []byte) int {
	if !utf8.Valid(b) {
		return base64.StdEncoding.EncodedLen(len(b))
	}
	size := len(b)
	for _, c := range b {
		switch {
		case c == '"' || c == '\\' || c == '\n' || c == '\r' || c == '\t':
			size++
		case c < 0x20 || c == '<' || c == '>' || c == '&':
			size += 5
		case c == 0xe2: // line separators have it
			size += 3
		}
	}
	return size
}
