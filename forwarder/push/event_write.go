package push

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// binary tells whether HTTP's headers can say the event: its content mode is binary then. A Content-Type of CloudEvents' own would be
// taken for another mode.
func (e *event) binary() bool {
	if e.members != nil && e.attributes == nil {
		e.readAttributes()
	}
	size := 0
	for _, a := range e.attributes {
		size += len("ce-: \r\n") + len(a.name) + percentSize(a.value)
	}
	media, _ := mediaType(e.kind)
	return (e.members == nil || e.text) && size <= headerBudget && !strings.HasPrefix(media, "application/cloudevents")
}

// appendAttributes appends the lines of the binary mode.
func appendAttributes(b []byte, all []attribute) []byte {
	for _, a := range all {
		b = append(append(append(b, "ce-"...), a.name...), ": "...)
		b = append(appendPercent(b, a.value), "\r\n"...)
	}
	return b
}

// visibleAttribute tells whether c stands in a line of the binary mode as it is.
func visibleAttribute(c byte) bool { return c > 0x20 && c < 0x7f && c != '"' && c != '%' }

func percentSize(s string) int {
	size := len(s)
	for i := range len(s) {
		if !visibleAttribute(s[i]) {
			size += 2
		}
	}
	return size
}

func appendPercent(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; visibleAttribute(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return b
}

// What a batch says of a message beside its event: names of extension attributes. A request of one message says it in its headers.
const (
	extensionID      = "kafkamessageid"
	extensionAttempt = "kafkaattempt"
	extensionInDoubt = "kafkaindoubt"
	extensionReplay  = "kafkareplay"
	extensionKey     = "kafkakey"
	extensionHeaders = "kafkaheaders"
)

var extensions = []string{extensionID, extensionAttempt, extensionInDoubt, extensionReplay, extensionKey, extensionHeaders}

// appendBatched appends a message's event as an element of a batch.
func appendBatched(b []byte, it *Item, cfg *Config) []byte {
	e := eventOf(it, cfg)
	more := []attribute{{name: extensionID, value: it.ID()}, {name: extensionAttempt, value: strconv.Itoa(it.Attempt), bare: true}}
	if it.InDoubt {
		more = append(more, attribute{name: extensionInDoubt, value: "true", bare: true})
	}
	if it.Replay {
		more = append(more, attribute{name: extensionReplay, value: "true", bare: true})
	}
	if it.Key != nil && (len(it.Key) == 0 || e.partitionKey() != string(it.Key)) {
		more = append(more, attribute{name: extensionKey, value: base64.StdEncoding.EncodeToString(it.Key)})
	}
	if len(it.Headers) > 0 {
		more = append(more, attribute{name: extensionHeaders, value: encodeHeaders(it.Headers)})
	}
	return e.appendJSON(b, more)
}

func (e *event) partitionKey() (key string) {
	if e.members == nil {
		return e.get("partitionkey")
	}
	_ = json.Unmarshal(e.members["partitionkey"], &key) // it is no string: no key
	return key
}

// appendJSON appends the event as a JSON object, with more attributes. What the record itself says by the name of one of them is left out.
func (e *event) appendJSON(b []byte, more []attribute) []byte {
	ours := func(name string) bool { return more != nil && slices.Contains(extensions, name) }
	b = append(b, '{')
	if e.members != nil {
		for _, name := range sortedNames(e.members) {
			if !ours(name) {
				b = append(appendName(b, name), e.members[name]...)
			}
		}
	} else {
		for _, a := range e.attributes {
			if !ours(a.name) {
				b = a.appendTo(b)
			}
		}
		if e.kindSaid {
			b = appendString(appendName(b, "datacontenttype"), e.kind)
		}
		b = appendData(b, e.data, e.kind)
	}
	for _, a := range more {
		b = a.appendTo(b)
	}
	return append(b, '}')
}

func (a attribute) appendTo(b []byte) []byte {
	if b = appendName(b, a.name); a.bare {
		return append(b, a.value...)
	}
	return appendString(b, a.value)
}

// appendName appends the name of a member of a JSON object, behind the members before it.
func appendName(b []byte, name string) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	return append(appendString(b, name), ':')
}

// appendData appends the data: JSON as it is, a text as a string, anything else in base64.
func appendData(b, data []byte, kind string) []byte {
	switch valid := utf8.Valid(data); {
	case data == nil:
		return b
	case valid && isJSON(kind) && json.Valid(data):
		return append(appendName(b, "data"), data...)
	case valid && isText(kind):
		return appendString(appendName(b, "data"), string(data))
	}
	return appendBase64(appendName(b, "data_base64"), data)
}

func sortedNames(members map[string]json.RawMessage) []string {
	return slices.Sorted(maps.Keys(members))
}
