package publisher

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/kpush/kpush/kafka"
)

// call is what the URL and the headers say.
type call struct {
	topic     string
	async     bool
	partition int32
	key       []byte // nil: none
	tombstone bool
	timestamp int64
	headers   []kafka.Header
}

// parameters are all there are: another one is a mistake that would go unnoticed.
var parameters = []string{"key", "partition", "async"}

func parse(topic, partition string, r *http.Request) (c call, err error) {
	query, bad := url.ParseQuery(r.URL.RawQuery)
	if bad != nil {
		return c, refuse(400, "the query cannot be read: %v", bad)
	}
	for name, values := range query {
		if !slices.Contains(parameters, name) {
			return c, refuse(400, "there is no parameter %.40q; there are key, partition and async", name)
		}
		if len(values) > 1 {
			return c, refuse(400, "%s is there twice", name)
		}
	}
	for name, values := range r.Header {
		if len(values) > 1 && strings.HasPrefix(name, "Kafka-") && !strings.HasPrefix(name, "Kafka-Header-") {
			return c, refuse(400, "the header %s is there twice", name)
		}
	}
	c.topic = topic
	if c.async, err = isAsync(query, r.Header); err != nil {
		return c, err
	}
	if c.partition, err = partitionOf(query, partition); err != nil {
		return c, err
	}
	if c.key, err = keyOf(query, r.Header); err != nil {
		return c, err
	}
	if c.tombstone, err = yes("Kafka-Tombstone", r.Header.Get("Kafka-Tombstone")); err != nil {
		return c, err
	}
	if c.timestamp, err = timestampOf(r.Header.Get("Kafka-Timestamp")); err != nil {
		return c, err
	}
	c.headers, err = headersOf(r)
	return c, err
}

func isAsync(query url.Values, h http.Header) (bool, error) {
	for _, line := range h.Values("Prefer") {
		for preference := range strings.SplitSeq(line, ",") {
			name, _, _ := strings.Cut(preference, ";")
			if strings.EqualFold(strings.TrimSpace(name), "respond-async") && !query.Has("async") {
				return true, nil
			}
		}
	}
	if query.Get("async") == "" && query.Has("async") {
		return false, refuse(400, "async is true or false")
	}
	return yes("async", query.Get("async"))
}

func yes(name, value string) (bool, error) {
	switch strings.ToLower(value) {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, refuse(400, "%s is true or false", name)
}

// partitionOf is ?partition=, or what the path has.
func partitionOf(query url.Values, path string) (int32, error) {
	switch {
	case query.Has("partition") && path != "":
		return 0, refuse(400, "the partition is in the path and in the query; send one")
	case query.Has("partition"):
		path = query.Get("partition")
	case path == "":
		return kafka.AnyPartition, nil
	}
	n, err := strconv.ParseInt(path, 10, 32)
	if err != nil || n < 0 {
		return 0, refuse(400, "partition is a number from 0")
	}
	return int32(n), nil
}

// keyOf is ?key= or Kafka-Key. An empty key is one.
func keyOf(query url.Values, h http.Header) ([]byte, error) {
	_, given := h["Kafka-Key"]
	encoding := h.Get("Kafka-Key-Encoding")
	switch {
	case query.Has("key") && (given || encoding != ""):
		return nil, refuse(400, "the key is in the URL and in Kafka-Key; send one")
	case query.Has("key"):
		return []byte(query.Get("key")), nil
	case encoding == "" && given:
		return []byte(h.Get("Kafka-Key")), nil
	case encoding == "":
		return nil, nil
	case !strings.EqualFold(encoding, "base64"):
		return nil, refuse(400, "Kafka-Key-Encoding is base64, or not there")
	case !given:
		return nil, refuse(400, "Kafka-Key-Encoding needs Kafka-Key")
	}
	key, err := base64.StdEncoding.DecodeString(h.Get("Kafka-Key"))
	if err != nil {
		return nil, refuse(400, "Kafka-Key is not base64, as Kafka-Key-Encoding says")
	}
	return key, nil
}

// timestampOf is in milliseconds since 1970; 0, as where there is none, is now.
func timestampOf(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil || ms < 0 {
		return 0, refuse(400, "Kafka-Timestamp is milliseconds since 1970")
	}
	return ms, nil
}

// headersOf are the record's. Kafka-Headers is all of them where it is there; else Kafka-Header-* are, and what a tracer sends is
// passed on.
func headersOf(r *http.Request) ([]kafka.Header, error) {
	if r.Header.Get("Kafka-Headers-Left-Out") != "" {
		return nil, refuse(400, "Kafka-Headers-Left-Out: key and headers of that message were left out on the way to the service, so it is not whole")
	}
	if text, all := r.Header["Kafka-Headers"]; all {
		return decodeHeaders(text[0])
	}
	list := lines(r, "Kafka-Header-")
	for _, h := range list {
		if h.Name == "" {
			return nil, refuse(400, "Kafka-Header- has no name behind it; a header without a name goes into Kafka-Headers")
		}
	}
	for _, name := range []string{"traceparent", "tracestate"} {
		value := r.Header.Get(name)
		if value != "" && !slices.ContainsFunc(list, func(h kafka.Header) bool { return strings.EqualFold(h.Name, name) }) {
			list = append(list, kafka.Header{Name: name, Value: []byte(value)})
		}
	}
	return list, nil
}

const headersForm = "Kafka-Headers is base64 of JSON [[name, base64 or null], …]"

func decodeHeaders(text string) ([]kafka.Header, error) {
	plain, err := base64.StdEncoding.DecodeString(text)
	if err != nil || !utf8.Valid(plain) {
		return nil, refuse(400, headersForm)
	}
	var pairs [][]*string
	if json.Unmarshal(plain, &pairs) != nil {
		return nil, refuse(400, headersForm)
	}
	list := make([]kafka.Header, 0, len(pairs))
	for _, pair := range pairs {
		if len(pair) != 2 || pair[0] == nil {
			return nil, refuse(400, headersForm)
		}
		h := kafka.Header{Name: *pair[0]}
		if pair[1] != nil {
			if h.Value, err = base64.StdEncoding.DecodeString(*pair[1]); err != nil {
				return nil, refuse(400, headersForm)
			}
		}
		list = append(list, h)
	}
	return list, nil
}

// record is what a request is whose body is a value.
func (c call) record(body []byte) (kafka.Record, error) {
	r := kafka.Record{Topic: c.topic, Partition: c.partition, Timestamp: c.timestamp, Key: c.key, Value: body, Headers: c.headers}
	if c.tombstone {
		if len(body) > 0 {
			return r, refuse(400, "Kafka-Tombstone: true has no body")
		}
		r.Value = nil
	}
	return r, nil
}
