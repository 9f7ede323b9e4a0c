package push

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"mime"
	"slices"
	"strings"

	"github.com/kpush/kpush/kafka"
)

// Bounds of the Kafka-Header-* lines of a request: common servers stop at 8 KiB a line, 16 KiB in all and 100 lines. A message with more
// has its headers in Kafka-Headers alone.
const (
	headerBudget = 8 << 10
	singlyMost   = 60
)

// contentTypeLimit is what a media type may take at the most; a longer one is not one.
const contentTypeLimit = 255

// contentType is the value's: the record's own where that is one.
func contentType(m *kafka.Message, cfg *Config) string {
	return cmp.Or(string(last(m.Headers, "content-type", isMediaType)), cfg.ContentType, "application/octet-stream")
}

// isMediaType tells whether a server takes v for a Content-Type; some answer 400 to what is none.
func isMediaType(v []byte) bool {
	kind, sub, slash := bytes.Cut(v, []byte{'/'})
	if !slash || len(kind) == 0 || len(v) > contentTypeLimit || !fits(v) {
		return false
	}
	if plain(sub) && plain(kind) { // nearly every one, without an allocation
		return true
	}
	parsed, _, err := mime.ParseMediaType(string(v))
	return err == nil && strings.Contains(parsed, "/")
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

// appendKafkaHeaders sends what is valid HTTP as Kafka-Header-NAME, and everything in Kafka-Headers as soon as one of them is not, or
// may lose something on the way; that alone where both would be too much.
func appendKafkaHeaders(b []byte, list []kafka.Header, t Trace) []byte {
	start, all := len(b), ""
	b, survive := appendSingly(b, list)
	if !survive {
		all = encodeHeaders(list)
		if len(list) > singlyMost || len(b)-start+len(all) > headerBudget {
			b = b[:start]
		}
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

	if !survive {
		b = appendLine(b, "Kafka-Headers: ", all)
	}
	return b
}

// appendSingly appends a line for each header that is valid HTTP, and tells whether they say all that there is to say: bytes, null,
// repeats, names that differ in case only would be lost, and servers in the manner of CGI drop or fold what is no letter, digit or
// hyphen. It stops where the lines are too many or too long.
func appendSingly(b []byte, list []kafka.Header) (out []byte, survive bool) {
	if len(list) > singlyMost {
		return b, false
	}
	start := len(b)
	survive = true
	for i, k := range list {
		if !token(k.Name) || k.Value == nil || !fits(k.Value) {
			survive = false
			continue
		}
		b = append(append(b, "Kafka-Header-"...), k.Name...)
		if b = appendLine(b, ": ", k.Value); len(b)-start > headerBudget {
			return b, false
		}
		survive = survive && plain(k.Name) && !slices.ContainsFunc(list[:i], func(o kafka.Header) bool { return strings.EqualFold(o.Name, k.Name) })
	}
	return b, survive
}

// plain tells whether s is nothing but letters, digits and hyphens.
func plain[T string | []byte](s T) bool {
	for i := range len(s) {
		if !alphanumeric(s[i]) && s[i] != '-' {
			return false
		}
	}
	return len(s) > 0
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
