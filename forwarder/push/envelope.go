package push

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"unicode/utf8"

	"github.com/kpush/kpush/kafka"
)

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
