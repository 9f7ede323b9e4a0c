package push

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/kpush/kpush/forwarder/wire"
	"github.com/kpush/kpush/kafka"
)

// headerBudget is how many bytes of Kafka-Header-* lines a request may carry: common servers stop at 8 KiB a line and
// 16 KiB in all. A message with more has them in Kafka-Headers alone.
const headerBudget = 8 << 10

// contentTypeLimit is what a media type may take at the most; a longer one is not one.
const contentTypeLimit = 255

// resize takes the status of an answer for what it says of the size of the headers, and tells whether the next attempt leaves key
// and headers out because of it: no message may be undeliverable because of them. 431 says it. 400 may (nginx, Apache) where they
// are large, or be about the message: where the slim attempt gets it, too, it is, and they go in every attempt from then on.
func (it *Item) resize(status int) (slimmer bool) {
	if status != http.StatusRequestHeaderFieldsTooLarge && status != http.StatusBadRequest {
		return false
	}
	size := len(it.Key)
	for _, k := range it.Headers {
		size += len(k.Name) + len(k.Value)
	}
	was := it.slim
	switch {
	case status == http.StatusRequestHeaderFieldsTooLarge:
		it.slim, it.sized = was || size > 0, true
	case size > headerBudget/2 && !it.sized:
		it.slim, it.sized = !was, was
	}
	return it.slim && !was
}

// body is the request's body in the configured format.
func body(m *kafka.Message, format string) []byte {
	if format != "form" {
		return m.Value
	}
	value := url.QueryEscape(string(m.Value))
	b := append(make([]byte, 0, len(value)+40), "m="...)
	b = append(b, value...)
	b = strconv.AppendInt(append(b, "&p="...), int64(m.Number), 10)
	return strconv.AppendInt(append(b, "&o="...), m.Offset, 10)
}

// appendRequest appends the request of an attempt at one message to b. rest is the body where it is too large for that.
func appendRequest(b, opening []byte, it *Item, format string, t Trace) (out, rest []byte) {
	b = append(b, opening...)
	b = appendHeader(b, it, format, t)
	b = appendInt(b, "Kafka-Attempt: ", int64(it.Attempt))
	if it.InDoubt {
		b = append(b, "Kafka-In-Doubt: true\r\n"...)
	}
	rest = body(it.Message, format)
	b = appendInt(b, "Content-Length: ", int64(len(rest)))
	b = append(b, "\r\n"...)
	if len(rest) > wire.AtOnce {
		return b, rest
	}
	return append(b, rest...), nil
}

// appendHeader appends everything about the message that is the same for each attempt. A slim item leaves out what may be long:
// the service has answered that the headers are too large, and no message may be undeliverable because of them.
func appendHeader(b []byte, it *Item, format string, t Trace) []byte {
	m := it.Message
	b = appendLine(b, "Content-Type: ", contentType(m, format))
	b = appendLine(b, "Kafka-Topic: ", m.Topic)
	b = appendInt(b, "Kafka-Partition: ", int64(m.Number))
	b = appendInt(b, "Kafka-Offset: ", m.Offset)
	b = appendInt(b, "Kafka-Timestamp: ", m.Timestamp)
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

func contentType(m *kafka.Message, format string) string {
	if format == "form" {
		return "application/x-www-form-urlencoded"
	}
	value := last(m.Headers, "content-type", func(v []byte) bool { return fits(v) && 0 < len(v) && len(v) <= contentTypeLimit })
	return cmp.Or(string(value), "application/octet-stream")
}

// last is the value of the last header of that name that is ok; nil: there is none.
func last(list []kafka.Header, name string, ok func([]byte) bool) []byte {
	for _, k := range slices.Backward(list) {
		if k.Value != nil && strings.EqualFold(k.Name, name) && ok(k.Value) {
			return k.Value
		}
	}
	return nil
}

func appendKey(b []byte, k []byte) []byte {
	switch {
	case k == nil:
		return b
	case visible(k):
		return appendLine(b, "Kafka-Key: ", k)
	}
	b = append(b, "Kafka-Key: "...)
	b = base64.StdEncoding.AppendEncode(b, k)
	return append(b, "\r\nKafka-Key-Encoding: base64\r\n"...)
}

// appendKafkaHeaders sends what is valid HTTP as Kafka-Header-NAME, and everything in Kafka-Headers as soon as one of
// them is not, or would lose something on the way: bytes, null, repeats, names that differ in case only.
func appendKafkaHeaders(b []byte, list []kafka.Header, t Trace) []byte {
	size := 0
	for _, k := range list {
		size += len("Kafka-Header-: \r\n") + len(k.Name) + len(k.Value)
	}
	single, whole := list, false
	if size > headerBudget {
		single, whole = nil, true
	}
	for i, k := range single {
		if !token(k.Name) || k.Value == nil || !fits(k.Value) {
			whole = true
			continue
		}
		whole = whole || slices.ContainsFunc(list[:i], func(o kafka.Header) bool { return strings.EqualFold(o.Name, k.Name) })
		b = append(append(b, "Kafka-Header-"...), k.Name...)
		b = appendLine(b, ": ", k.Value)
	}
	if t.Parent != "" {
		b = appendTrace(b, t)
	} else {
		for _, name := range [...]string{"Traceparent", "Tracestate"} {
			if value := last(list, name, fits); value != nil {
				b = appendLine(append(b, name...), ": ", value)
			}
		}
	}
	if whole {
		b = appendLine(b, "Kafka-Headers: ", encodeHeaders(list))
	}
	return b
}

func encodeHeaders(list []kafka.Header) string {
	pairs := make([][2]any, len(list))
	for i, k := range list {
		pairs[i] = [2]any{k.Name, k.Value} // []byte becomes base64, nil null
	}
	b, _ := json.Marshal(pairs) // strings and bytes always encode
	return base64.StdEncoding.EncodeToString(b)
}

// visible tells whether b can stand in a header as it is and be told from base64: visible ASCII, not empty.
func visible(b []byte) bool {
	return len(b) > 0 && !bytes.ContainsFunc(b, func(c rune) bool { return c < 0x21 || c > 0x7e })
}

// fits tells whether an HTTP header carries b unchanged: printable ASCII, no blanks at the ends.
func fits(b []byte) bool {
	return len(b) == len(bytes.TrimSpace(b)) && !bytes.ContainsFunc(b, func(c rune) bool { return c != '\t' && (c < 0x20 || c > 0x7e) })
}

// token tells whether s is a header name by RFC 9110.
func token(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return c <= 0x20 || c >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
	})
}
