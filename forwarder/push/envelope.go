package push

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"unicode/utf8"

	"github.com/kpush/kpush/forwarder/wire"
	"github.com/kpush/kpush/kafka"
)

// appendBatch appends the request of a batch to b. rest is the body where it is too large to be sent in one piece with it.
func appendBatch(b, opening []byte, items []*Item, t Trace) (out, rest []byte) {
	size := 2
	for _, it := range items {
		size += 256 + len(it.Value)
	}
	body := append(make([]byte, 0, size), '[')
	for i, it := range items {
		if i > 0 {
			body = append(body, ',')
		}
		body = appendEnvelope(body, it)
	}
	body = append(body, ']')
	b = append(b, opening...)
	b = append(b, "Content-Type: application/json\r\n"...)
	b = appendInt(b, "Kafka-Batch: ", int64(len(items)))
	b = appendLine(b, "Kafka-Topic: ", items[0].Topic)
	b = appendInt(b, "Kafka-Partition: ", int64(items[0].Number))
	b = appendLine(b, "Kafka-Group: ", items[0].Group)
	b = appendTrace(b, t)
	b = appendInt(b, "Content-Length: ", int64(len(body)))
	b = append(b, "\r\n"...)
	if len(body) > wire.AtOnce {
		return b, body
	}
	return append(b, body...), nil
}

// SizeInBatch is what a message takes in the body of a batch at the most: JSON is counted as if it were a text, since to find out costs
// more. The brackets around all of them are counted with each.
func SizeInBatch(m *kafka.Message) int {
	const fixed = 280 // names, numbers, the topic's id
	size := fixed + 2*len(m.Topic) + textSize(m.Key) + textSize(m.Value)
	for _, h := range m.Headers {
		if !utf8.ValidString(h.Name) {
			size += len(`\ufffd`) * len(h.Name)
		}
		size += textSize([]byte(h.Name)) + base64.StdEncoding.EncodedLen(len(h.Value)) + len(`["",null],`)
	}
	return size
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

// appendEnvelope appends a message as a JSON object. What it is made of says "encoding": json (the value is there as it is),
// text or base64; a tombstone has none and a null.
func appendEnvelope(b []byte, it *Item) []byte {
	b = append(appendID(append(b, `{"id":"`...), it), '"')
	b = appendString(append(b, `,"topic":`...), it.Topic)
	b = strconv.AppendInt(append(b, `,"partition":`...), int64(it.Number), 10)
	b = strconv.AppendInt(append(b, `,"offset":`...), it.Offset, 10)
	if b = append(b, `,"timestamp":`...); it.Timestamp >= 0 {
		b = strconv.AppendInt(b, it.Timestamp, 10)
	} else {
		b = append(b, "null"...)
	}
	b = strconv.AppendInt(append(b, `,"attempt":`...), int64(it.Attempt), 10)
	if it.InDoubt {
		b = append(b, `,"inDoubt":true`...)
	}
	if it.Replay {
		b = append(b, `,"replay":true`...)
	}
	switch {
	case it.Key == nil:
	case utf8.Valid(it.Key):
		b = appendString(append(b, `,"key":`...), string(it.Key))
	default:
		b = appendBase64(append(b, `,"keyBase64":`...), it.Key)
	}
	if len(it.Headers) > 0 {
		b = appendHeaderList(append(b, `,"headers":`...), it.Headers)
	}
	b = append(b, `,"value":`...)
	switch {
	case it.Value == nil:
		return append(b, "null}"...)
	case !utf8.Valid(it.Value):
		return append(appendBase64(b, it.Value), `,"encoding":"base64"}`...)
	case json.Valid(it.Value):
		return append(append(b, it.Value...), `,"encoding":"json"}`...)
	}
	return append(appendString(b, string(it.Value)), `,"encoding":"text"}`...)
}

// appendString appends s as a JSON string.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // a string always encodes
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

func appendBase64(b, value []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(append(b, '"'), value), '"')
}

// appendHeaderList appends [[name, base64 or null], …].
func appendHeaderList(b []byte, list []kafka.Header) []byte {
	b = append(b, '[')
	for i, h := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(append(b, '['), h.Name), ',')
		if h.Value == nil {
			b = append(b, "null]"...)
		} else {
			b = append(appendBase64(b, h.Value), ']')
		}
	}
	return append(b, ']')
}
