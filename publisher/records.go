package publisher

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/kpush/kpush/kafka"
)

// recordsMost bounds a request: what a record costs beside its bytes adds up.
const recordsMost = 10_000

// formats are those of Confluent's REST API v2, of the Strimzi bridge, and of v1, whose records are the same: what a key or a value is in JSON, and in Kafka.
var formats = map[string]func(json.RawMessage) ([]byte, error){
	"application/vnd.kafka.json.v2+json":   jsonBytes,
	"application/vnd.kafka.binary.v2+json": binaryBytes,
	"application/vnd.kafka.v2+json":        binaryBytes, // its default
	"application/vnd.kafka.text.v2+json":   textBytes,
	"application/vnd.kafka.v1+json":        binaryBytes,
	"application/vnd.kafka.json.v1+json":   jsonBytes,
	"application/vnd.kafka.binary.v1+json": binaryBytes,
}

// formatOf is what the Content-Type says; nil: the body is a value.
func formatOf(contentType string) (func(json.RawMessage) ([]byte, error), error) {
	kind, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	if kind = strings.TrimSpace(kind); !strings.HasPrefix(kind, "application/vnd.kafka.") {
		return nil, nil
	}
	if f := formats[kind]; f != nil {
		return f, nil
	}
	return nil, refuse(415, "%.80q is not taken: there are application/vnd.kafka.json.v2+json, .binary. and .text.; anything else is a value, whole", kind)
}

func jsonBytes(raw json.RawMessage) ([]byte, error) {
	var b bytes.Buffer
	err := json.Compact(&b, raw)
	return b.Bytes(), err
}

func textBytes(raw json.RawMessage) ([]byte, error) {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return nil, fmt.Errorf("is not a string")
	}
	return []byte(text), nil
}

func binaryBytes(raw json.RawMessage) ([]byte, error) {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return nil, fmt.Errorf("is not a string of base64")
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("is not base64")
	}
	return b, nil
}

// records reads a body in one of the formats. What is beside records in it is for schemas, and passed over.
func (c call) records(body []byte, format func(json.RawMessage) ([]byte, error)) ([]kafka.Record, error) {
	if c.key != nil || c.tombstone || c.timestamp != 0 || len(c.headers) > 0 {
		return nil, refuse(400, "with records, key, timestamp, headers and tombstones go into each record")
	}
	if !utf8.Valid(body) {
		return nil, refuse(400, "the body is not UTF-8")
	}
	var all struct {
		Other   json.RawMessage   `json:"RECORDS"` // a name in other capitals goes to the field that it fits first
		Records []json.RawMessage `json:"records"`
	}
	if err := json.Unmarshal(body, &all); err != nil {
		return nil, refuse(400, `the body cannot be read as {"records":[…]}: %s`, strings.TrimPrefix(err.Error(), "json: "))
	}
	switch n := len(all.Records); {
	case n == 0:
		return nil, refuse(400, "records is empty, or not there")
	case n > recordsMost:
		return nil, refuse(413, "there are %d records, and may be %d", n, recordsMost)
	}
	out := make([]kafka.Record, 0, len(all.Records))
	for i, raw := range all.Records {
		r, err := c.one(raw, format)
		if err != nil {
			return nil, refuse(400, "record %d: %v", i, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// one is a record. A value that is null or absent is a tombstone, such a key is none.
func (c call) one(raw json.RawMessage, format func(json.RawMessage) ([]byte, error)) (kafka.Record, error) {
	r := kafka.Record{Topic: c.topic, Partition: c.partition}
	var fields struct {
		key, value json.RawMessage
		partition  *int32
		timestamp  *int64
		headers    []json.RawMessage
	}
	err := exactly(raw, map[string]any{"key": &fields.key, "value": &fields.value, "partition": &fields.partition, "timestamp": &fields.timestamp, "headers": &fields.headers})
	if err != nil {
		return r, err
	}
	if there(fields.key) {
		if r.Key, err = format(fields.key); err != nil {
			return r, fmt.Errorf("key %w", err)
		}
	}
	if there(fields.value) {
		if r.Value, err = format(fields.value); err != nil {
			return r, fmt.Errorf("value %w", err)
		}
	}
	if p := fields.partition; p != nil {
		if *p < 0 {
			return r, fmt.Errorf("partition is a number from 0")
		}
		r.Partition = *p
	}
	if at := fields.timestamp; at != nil {
		if *at < 0 {
			return r, fmt.Errorf("timestamp is milliseconds since 1970")
		}
		r.Timestamp = *at
	}
	for _, raw := range fields.headers {
		var header kafka.Header
		var value *string
		if err = exactly(raw, map[string]any{"key": &header.Name, "value": &value}); err != nil {
			return r, fmt.Errorf("header %w", err)
		}
		if value != nil {
			if header.Value, err = base64.StdEncoding.DecodeString(*value); err != nil {
				return r, fmt.Errorf("header %.40q is not base64", header.Name)
			}
		}
		r.Headers = append(r.Headers, header)
	}
	return r, nil
}

// exactly reads an object whose members have just these names: encoding/json would take a Value for the value, and lose one of two.
func exactly(raw json.RawMessage, fields map[string]any) error {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil || members == nil {
		return fmt.Errorf("is not an object")
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if fields[name] == nil {
			return fmt.Errorf("unknown field %.40q", name)
		}
		if err := json.Unmarshal(members[name], fields[name]); err != nil {
			return fmt.Errorf("%s %s", name, strings.TrimPrefix(err.Error(), "json: "))
		}
	}
	return nil
}

func there(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }
