package forwarder

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// headerBudget is how many bytes of Kafka-Header-* lines a request may carry: common servers stop at 8 KiB a line and
// 16 KiB in all. A message with more has them in Kafka-Headers alone.
const headerBudget = 8 << 10

// contentTypeLimit is what a media type may take at the most; a longer one is not one.
const contentTypeLimit = 255

// tooLarge tells whether the service has refused the size of the headers: with 431, or (nginx, Apache) with 400 where
// they are large. Then key and headers are left out, because no message may be undeliverable because of them.
func tooLarge(status int, m *Message) bool {
	if status != http.StatusRequestHeaderFieldsTooLarge && status != http.StatusBadRequest {
		return false
	}
	size := len(m.Key)
	for _, k := range m.Headers {
		size += len(k.Name) + len(k.Value)
	}
	return status == http.StatusRequestHeaderFieldsTooLarge && size > 0 || size > headerBudget/2
}

// body is the request's body in the configured format.
func body(m *Message, format string) []byte {
	if format != "form" {
		return m.Value
	}
	var b bytes.Buffer
	b.Grow(len(m.Value) + len(m.Value)/4 + 40)
	b.WriteString("m=")
	b.WriteString(url.QueryEscape(string(m.Value)))
	b.WriteString("&p=")
	b.WriteString(strconv.FormatInt(int64(m.Partition), 10))
	b.WriteString("&o=")
	b.WriteString(strconv.FormatInt(m.Offset, 10))
	return b.Bytes()
}

// header is everything about the message that is the same for each attempt. slim leaves out what may be long: the
// service has answered that the headers are too large, and no message may be undeliverable because of them.
func header(m *Message, format string, slim bool) http.Header {
	h := make(http.Header, 12+len(m.Headers))
	h["User-Agent"] = []string{"kpush"}
	h["Content-Type"] = []string{"application/octet-stream"}
	h["Kafka-Topic"] = []string{m.Topic}
	h["Kafka-Partition"] = []string{strconv.FormatInt(int64(m.Partition), 10)}
	h["Kafka-Offset"] = []string{strconv.FormatInt(m.Offset, 10)}
	h["Kafka-Timestamp"] = []string{strconv.FormatInt(m.Timestamp, 10)}
	h["Kafka-Group"] = []string{m.Group}
	h["Kafka-Message-Id"] = []string{m.ID()}
	if m.Value == nil {
		h["Kafka-Tombstone"] = []string{"true"}
	}
	for _, k := range m.Headers {
		if strings.EqualFold(k.Name, "content-type") && fits(k.Value) && 0 < len(k.Value) && len(k.Value) <= contentTypeLimit {
			h["Content-Type"] = []string{string(k.Value)}
		}
	}
	if slim {
		h["Kafka-Headers-Left-Out"] = []string{strconv.Itoa(len(m.Headers))}
	} else {
		key(h, m.Key)
		kafkaHeaders(h, m.Headers)
	}
	if format == "form" {
		h["Content-Type"] = []string{"application/x-www-form-urlencoded"}
	}
	return h
}

func key(h http.Header, k []byte) {
	switch {
	case k == nil:
	case visible(k):
		h["Kafka-Key"] = []string{string(k)}
	default:
		h["Kafka-Key"] = []string{base64.StdEncoding.EncodeToString(k)}
		h["Kafka-Key-Encoding"] = []string{"base64"}
	}
}

// kafkaHeaders sends what is valid HTTP as Kafka-Header-NAME, and everything in Kafka-Headers as soon as one of them is
// not, or would lose something on the way: bytes, null, repeats, names that differ in case only.
func kafkaHeaders(h http.Header, list []Header) {
	var whole bool
	var size int
	seen := make(map[string]bool, len(list))
	for _, k := range list {
		lower := strings.ToLower(k.Name)
		ok := token(k.Name) && k.Value != nil && fits(k.Value)
		whole = whole || !ok || seen[lower]
		seen[lower] = true
		size += len("Kafka-Header-: \r\n") + len(k.Name) + len(k.Value)
		if !ok {
			continue
		}
		if lower == "traceparent" || lower == "tracestate" {
			h[http.CanonicalHeaderKey(lower)] = []string{string(k.Value)}
		}
		name := "Kafka-Header-" + k.Name
		h[name] = append(h[name], string(k.Value))
	}
	if size > headerBudget {
		whole = true
		for _, k := range list {
			delete(h, "Kafka-Header-"+k.Name)
		}
	}
	if whole {
		h["Kafka-Headers"] = []string{encodeHeaders(list)}
	}
}

func encodeHeaders(list []Header) string {
	pairs := make([][2]any, len(list))
	for i, k := range list {
		pairs[i] = [2]any{k.Name, k.Value} // []byte becomes base64, nil null
	}
	b, err := json.Marshal(pairs)
	if err != nil {
		return "" // strings and bytes always encode
	}
	return base64.StdEncoding.EncodeToString(b)
}

// visible tells whether b can stand in a header as it is and be told from base64: visible ASCII, not empty.
func visible(b []byte) bool {
	for _, c := range b {
		if c < 0x21 || c > 0x7e {
			return false
		}
	}
	return len(b) > 0
}

// fits tells whether an HTTP header carries b unchanged: printable ASCII, no blanks at the ends.
func fits(b []byte) bool {
	for _, c := range b {
		if c != '\t' && (c < 0x20 || c > 0x7e) {
			return false
		}
	}
	return len(b) == len(bytes.TrimSpace(b))
}

// token tells whether s is a header name by RFC 9110.
func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c >= 0x80 || c <= 0x20 || c == 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}
