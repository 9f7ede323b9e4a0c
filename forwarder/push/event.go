package push

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/kpush/kpush/kafka"
)

// event is a message as a CloudEvent 1.0: the record's own where it is one in Kafka's binding, else one that kpush makes.
type event struct {
	kind       string // of its data
	kindSaid   bool   // the attribute datacontenttype is there, also without data
	attributes []attribute
	data       []byte                     // nil: none
	members    map[string]json.RawMessage // of the record's value, where that is the event in JSON; nil: it is not
	text       bool                       // each of the members can be said as an attribute
}

// attribute is what an event says of itself, but for datacontenttype.
type attribute struct {
	name, value string
	bare        bool // in JSON it is no string
}

const (
	structuredType = "application/cloudevents+json"
	batchedType    = "application/cloudevents-batch+json"
	eventVersion   = "1.0"
)

// specified are the attributes of the specification: an empty one counts as none.
const specified = " id source specversion type datacontenttype dataschema subject time "

// eventOf is the message as an event.
func eventOf(it *Item, cfg *Config) event {
	kind := contentType(it.Message, cfg)
	if media, _ := mediaType(kind); media == structuredType {
		if e, ok := structuredEvent(it.Value); ok {
			return e
		}
	}
	e := event{kind: kind, data: it.Value, kindSaid: it.Value != nil || last(it.Headers, "content-type", isMediaType) != nil}
	if !e.read(it.Headers) {
		e.wrap(it, cfg)
	}
	return e
}

// read takes the attributes from the headers of a record in the binary mode of Kafka's binding; false: those that an event must have
// are not there.
func (e *event) read(headers []kafka.Header) bool {
	for _, h := range headers {
		name, ok := strings.CutPrefix(strings.ToLower(h.Name), "ce_")
		empty := len(h.Value) == 0 && (h.Value == nil || strings.Contains(specified, " "+name+" "))
		if !ok || !isAttribute(name) || name == "datacontenttype" || empty || !utf8.Valid(h.Value) {
			continue
		}
		e.set(name, string(h.Value))
	}
	return e.get("id") != "" && e.get("source") != "" && e.get("type") != "" && e.get("specversion") == eventVersion
}

// set sets an attribute. The last of its name counts.
func (e *event) set(name, value string) {
	for i := range e.attributes {
		if a := &e.attributes[i]; a.name == name {
			a.value = value
			return
		}
	}
	e.attributes = append(e.attributes, attribute{name: name, value: value})
}

func (e *event) get(name string) string {
	for _, a := range e.attributes {
		if a.name == name {
			return a.value
		}
	}
	return ""
}

// wrap makes the event of a record that is none.
func (e *event) wrap(it *Item, cfg *Config) {
	e.attributes = append(e.attributes[:0], attribute{name: "specversion", value: eventVersion}, attribute{name: "id", value: it.ID()},
		attribute{name: "source", value: "kafka://" + it.Cluster + "/" + it.Topic}, attribute{name: "type", value: cfg.EventType},
		attribute{name: "subject", value: strconv.Itoa(int(it.Number)) + "/" + strconv.FormatInt(it.Offset, 10)})
	if at := time.UnixMilli(it.Timestamp).UTC(); it.Timestamp >= 0 && at.Year() <= 9999 { // RFC 3339 has no later ones
		e.attributes = append(e.attributes, attribute{name: "time", value: at.Format("2006-01-02T15:04:05.000Z07:00")})
	}
	if len(it.Key) > 0 && utf8.Valid(it.Key) && strings.IndexFunc(string(it.Key), unicode.IsControl) < 0 {
		e.attributes = append(e.attributes, attribute{name: "partitionkey", value: string(it.Key)})
	}
}

// structuredEvent reads an event in JSON.
func structuredEvent(value []byte) (e event, ok bool) {
	if !utf8.Valid(value) || json.Unmarshal(value, &e.members) != nil {
		return event{}, false
	}
	for _, name := range [...]string{"specversion", "id", "source", "type"} {
		var text string
		if json.Unmarshal(e.members[name], &text) != nil || text == "" || name == "specversion" && text != eventVersion {
			return event{}, false
		}
	}
	return e, e.readData()
}

// readData takes the data from the members; false: they hold none that can be read.
func (e *event) readData() bool {
	e.kind = "application/json" // where it is not said
	if raw := e.members["datacontenttype"]; there(raw) && json.Unmarshal(raw, &e.kind) != nil {
		return false
	}
	raw, has := e.members["data"]
	var text string
	switch {
	case there(e.members["data_base64"]):
		var err error
		if json.Unmarshal(e.members["data_base64"], &text) == nil {
			e.data, err = base64.StdEncoding.DecodeString(text)
		}
		return err == nil && e.data != nil
	case !has || !isJSON(e.kind) && !there(raw):
	case isJSON(e.kind) || json.Unmarshal(raw, &text) != nil:
		e.data = raw
	default:
		e.data = append([]byte{}, text...)
	}
	return true
}

// readAttributes makes attributes of the members; text is whether that can be said of each.
func (e *event) readAttributes() {
	e.text = isMediaType([]byte(e.kind))
	for _, name := range sortedNames(e.members) {
		raw := e.members[name]
		if name == "data" || name == "data_base64" || name == "datacontenttype" || !there(raw) {
			continue
		}
		a := attribute{name: name, value: string(raw), bare: raw[0] != '"'}
		e.text = e.text && isAttribute(name) && raw[0] != '{' && raw[0] != '['
		if !a.bare {
			_ = json.Unmarshal(raw, &a.value) // it is a string
		}
		e.attributes = append(e.attributes, a)
	}
}

// there tells whether JSON has a value, which null is none of.
func there(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// isAttribute tells whether an attribute may have that name.
func isAttribute(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != "" && name != "data"
}

// mediaType is a Content-Type without its parameters, and these, both in small letters.
func mediaType(kind string) (media, parameters string) {
	media, parameters, _ = strings.Cut(strings.ToLower(kind), ";")
	return strings.TrimSpace(media), parameters
}

// isJSON tells whether data of that type is JSON, by CloudEvents' rule.
func isJSON(kind string) bool {
	media, _ := mediaType(kind)
	return strings.HasSuffix(media, "/json") || strings.HasSuffix(media, "+json")
}

// isText tells whether data of that type is a text in UTF-8.
func isText(kind string) bool {
	media, parameters := mediaType(kind)
	_, charset, has := strings.Cut(parameters, "charset=")
	charset = strings.TrimPrefix(charset, `"`)
	utf8 := !has || strings.HasPrefix(charset, "utf-8") || strings.HasPrefix(charset, "us-ascii")
	return utf8 && (strings.HasPrefix(media, "text/") || strings.HasSuffix(media, "/xml") || strings.HasSuffix(media, "+xml"))
}
