package push

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/kpush/kpush/kafka"
)

// packed is a message for the fuzzer: key, value and headers, each part with its length in front; the length of what is null is 0xffff.
func packed(m kafka.Message) (b []byte) {
	part := func(p []byte) {
		if p == nil {
			b = append(b, 0xff, 0xff)
			return
		}
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(p))), p...)
	}
	part(m.Key)
	part(m.Value)
	for _, h := range m.Headers {
		part([]byte(h.Name))
		part(h.Value)
	}
	return b
}

// unpack makes a message of any bytes.
func unpack(b []byte) (m kafka.Message) {
	part := func() []byte {
		if len(b) < 2 {
			b = nil
			return nil
		}
		n := int(binary.BigEndian.Uint16(b))
		if b = b[2:]; n == 0xffff {
			return nil
		}
		p := b[:min(n, len(b))]
		b = b[len(p):]
		return append([]byte{}, p...)
	}
	m = kafka.Message{Partition: kafka.Partition{Topic: "t", Number: 3}, Offset: 7, Timestamp: 1795000000007, Key: part(), Value: part()}
	for len(b) > 0 {
		m.Headers = append(m.Headers, kafka.Header{Name: string(part()), Value: part()})
	}
	return m
}

// gateway is what a service behind a server in the manner of CGI has of a head: names in capitals with low lines, nothing of a name with
// other characters than letters, digits and hyphens, and of several lines the last.
func gateway(head string) map[string]string {
	env := map[string]string{}
	_, lines, _ := strings.Cut(head, "\r\n")
	for line := range strings.SplitSeq(lines, "\r\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && plain(name) {
			env[strings.ToUpper(strings.ReplaceAll(name, "-", "_"))] = strings.Trim(value, " \t")
		}
	}
	return env
}

// rebuild is the key and the headers of a record, from what a gateway has left. Where Kafka-Headers is not there, names are in small letters,
// and sorted: HTTP's have no case, and a gateway keeps no order.
func rebuild(t *testing.T, env map[string]string) (key []byte, headers []kafka.Header) {
	if text, ok := env["KAFKA_KEY"]; ok {
		if key = []byte(text); env["KAFKA_KEY_ENCODING"] == "base64" {
			key = append([]byte{}, fromBase64(t, text)...)
		}
	}
	if text, ok := env["KAFKA_HEADERS"]; ok {
		return key, headersFrom(t, text)
	}
	for name, value := range env {
		if name, ok := strings.CutPrefix(name, "KAFKA_HEADER_"); ok {
			headers = append(headers, kafka.Header{Name: strings.ToLower(strings.ReplaceAll(name, "_", "-")), Value: []byte(value)})
		}
	}
	slices.SortFunc(headers, func(a, b kafka.Header) int { return strings.Compare(a.Name, b.Name) })
	return key, headers
}

func headersFrom(t *testing.T, text string) []kafka.Header {
	return whole(t, http.Header{"Kafka-Headers": {text}})
}

// asRebuilt is the message's key and headers as rebuild should find them. A name that is no UTF-8, which Kafka's protocol does not have, is
// JSON's closest.
func asRebuilt(m *kafka.Message, exact bool) (list []kafka.Header) {
	for _, h := range m.Headers {
		name := strings.ToValidUTF8(h.Name, "\ufffd")
		if quoted, err := json.Marshal(h.Name); err == nil {
			_ = json.Unmarshal(quoted, &name) // one � for each byte
		}
		if !exact {
			name = strings.ToLower(name)
		}
		list = append(list, kafka.Header{Name: name, Value: h.Value})
	}
	if !exact {
		slices.SortFunc(list, func(a, b kafka.Header) int { return strings.Compare(a.Name, b.Name) })
	}
	return list
}

func sameHeaders(a, b []kafka.Header) bool {
	return slices.EqualFunc(a, b, func(a, b kafka.Header) bool { return a.Name == b.Name && sameBytes(a.Value, b.Value) })
}

func sameBytes(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

// sameValue tells whether a value is what it was. Blanks around JSON are no part of what a service reads.
func sameValue(got, want []byte) bool {
	return sameBytes(got, want) || json.Valid(want) && bytes.Equal(got, bytes.Trim(want, " \t\r\n"))
}

// ours are the headers that a request may have: whatever else a message is called, it becomes none.
var ours = []string{"User-Agent", "Accept-Encoding", "Content-Type", "Content-Length", "Traceparent", "Tracestate", "Kafka-Topic", "Kafka-Partition", "Kafka-Offset", "Kafka-Timestamp",
	"Kafka-Group", "Kafka-Message-Id", "Kafka-Key", "Kafka-Key-Encoding", "Kafka-Tombstone", "Kafka-Headers", "Kafka-Attempt"}

// FuzzAnyMessage: whatever a record holds, its first request is one that every server takes, it is nothing but one request, and a service
// that loses what CGI servers lose rebuilds key and headers byte for byte. In each format the value comes through as it was.
func FuzzAnyMessage(f *testing.F) {
	for _, m := range unusual() {
		f.Add(packed(m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := unpack(b)
		for _, format := range []string{"raw", "form", "json", cloudEvents, cloudEventsStructured} {
			it := item(m)
			out, rest := request("POST /in HTTP/1.1\r\nHost: s\r\nUser-Agent: kpush\r\n", it, asEvent(format))
			head, small, _ := strings.Cut(string(out), "\r\n\r\n")
			_, lines, _ := strings.Cut(head, "\r\n")
			if lines += "\r\n"; !sound.MatchString(lines) || strings.Count(lines, "\n") > 100 {
				t.Fatalf("%s: no proper head: %.1000q", format, head)
			}
			q := parse(out, rest)
			body, err := io.ReadAll(q.Body)
			if err != nil || string(body) != small+string(rest) {
				t.Fatalf("%s: %d bytes of %d, %v: more or less than one request", format, len(body), len(small)+len(rest), err)
			}
			for name := range q.Header {
				attribute := strings.HasPrefix(name, "Ce-") && format == cloudEvents
				if !slices.Contains(ours, name) && !strings.HasPrefix(name, "Kafka-Header-") && !attribute {
					t.Errorf("%s: a header of the message became %s", format, name)
				}
			}
			env := gateway(head)
			_, exact := env["KAFKA_HEADERS"]
			key, headers := rebuild(t, env)
			if !sameBytes(key, m.Key) || !sameHeaders(headers, asRebuilt(&m, exact)) {
				t.Errorf("%s: key %q and headers %q became %q and %q", format, m.Key, m.Headers, key, headers)
			}
			if value, known := valueFrom(t, format, it, q.Header, body); known && !sameValue(value, m.Value) && (len(value) > 0 || len(m.Value) > 0) {
				t.Errorf("%s: the value %q became %q", format, m.Value, value)
			}
			it.slim = true
			out, _ = request("", it, asEvent(format))
			if lines, _, _ := strings.Cut(string(out), "\r\n\r\n"); !sound.MatchString(lines+"\r\n") || len(lines) > headLarge {
				t.Errorf("%s: a head of %d bytes without key and headers: %.1000q", format, len(lines), lines)
			}
		}
		inBatches(t, &m)
	})
}

// valueFrom is the record's value, as a service has it from a request; not known of a record that is an event in JSON: that is its value.
func valueFrom(t *testing.T, format string, it *Item, h http.Header, body []byte) (value []byte, known bool) {
	switch format {
	case "form":
		form, err := url.ParseQuery(string(body))
		if err != nil {
			t.Fatal(err)
		}
		return []byte(form.Get("m")), true
	case "json":
		var e element
		if err := json.Unmarshal(body, &e); err != nil {
			t.Fatalf("%v in %q", err, body)
		}
		return e.value(t), true
	case cloudEvents, cloudEventsStructured:
		if e := eventOf(it, asEvent(format)); e.members != nil {
			return nil, false
		}
		if kind, _ := mediaType(h.Get("Content-Type")); kind == structuredType {
			return dataFrom(t, body), true
		}
	}
	return body, true
}

// dataFrom is the data of an event in JSON.
func dataFrom(t *testing.T, object []byte) []byte {
	var e struct {
		DataContentType string          `json:"datacontenttype"`
		Data            json.RawMessage `json:"data"`
		DataBase64      *string         `json:"data_base64"`
	}
	if err := json.Unmarshal(object, &e); err != nil {
		t.Fatalf("%v in %q", err, object)
	}
	var text string
	switch {
	case e.DataBase64 != nil:
		return append([]byte{}, fromBase64(t, *e.DataBase64)...)
	case e.Data == nil || isJSON(e.DataContentType):
		return bytes.Clone(e.Data)
	case json.Unmarshal(e.Data, &text) != nil:
		t.Fatalf("data is no text: %s", object)
	}
	return []byte(text)
}

// inBatches looks at the message as an element of either kind of batch.
func inBatches(t *testing.T, m *kafka.Message) {
	for _, format := range []string{"json", cloudEvents} {
		cfg := asEvent(format)
		out, rest := batch(opening, []*Item{item(*m)}, cfg)
		q := parse(out, rest)
		body, err := io.ReadAll(q.Body)
		if err != nil || len(body) > cfg.sizeInBatch(m)+len("[]") {
			t.Errorf("%s: a batch of %d bytes, said to be %d (%v)", format, len(body), cfg.sizeInBatch(m), err)
		}
		if format == "json" {
			var all []element
			if err := json.Unmarshal(body, &all); err != nil || len(all) != 1 {
				t.Fatalf("%v in %q", err, body)
			}
			if got := all[0].value(t); !sameValue(got, m.Value) {
				t.Errorf("in a batch the value %q became %q", m.Value, got)
			}
			continue
		}
		var all []map[string]json.RawMessage
		if err := json.Unmarshal(body, &all); err != nil || len(all) != 1 {
			t.Fatalf("%v in %q", err, body)
		}
		rebuiltFromEvent(t, m, all[0])
	}
}

// rebuiltFromEvent wants key and headers in an event of a batch.
func rebuiltFromEvent(t *testing.T, m *kafka.Message, members map[string]json.RawMessage) {
	text := func(name string) (s string, there bool) {
		there = json.Unmarshal(members[name], &s) == nil && members[name] != nil
		return s, there
	}
	key, has := text(extensionKey)
	if has {
		key = string(fromBase64(t, key))
	} else if key, has = text("partitionkey"); m.Key == nil && has {
		has = false // the record's own event has one, and the record no key
	}
	if has != (m.Key != nil) || has && key != string(m.Key) {
		t.Errorf("in a batch of events the key %q became %q (%t)", m.Key, key, has)
	}
	var headers []kafka.Header
	if list, has := text(extensionHeaders); has {
		headers = headersFrom(t, list)
	}
	if !sameHeaders(headers, asRebuilt(m, true)) {
		t.Errorf("in a batch of events the headers %q became %q", m.Headers, headers)
	}
}

// unusual are records that have been seen to be trouble, or would be.
func unusual() (all []kafka.Message) {
	of := func(key []byte, value string, headers ...kafka.Header) {
		all = append(all, kafka.Message{Key: key, Value: []byte(value), Headers: headers})
	}
	for _, key := range []string{"", "k", "a b", " a", "\r\nX-Evil: 1", "\x00\xff", "ü", strings.Repeat("k", 20_000), "AA==", "%41"} {
		of([]byte(key), "v")
	}
	for _, value := range []string{"1", "", " ", "a b", " a", "a\t", "1\r\nX-Evil: 1", "\r\n\r\nGET / HTTP/1.1\r\n\r\n", "\x00", "\x7f", "\xfc", "ü", "a,b", `"q"`, strings.Repeat("x", 9_000)} {
		of(nil, "v", header("a", value))
		of(nil, "v", header("a", value), header("a", value))
		of([]byte("k"), "", header("ce_specversion", "1.0"), header("ce_id", value), header("ce_source", "/"), header("ce_type", "t"), header("content-type", value))
	}
	for _, name := range []string{"", "a b", "a:b", "ä", "a\r\nX-Evil: 1", "\xff", "\xe2\x80", "\ufffd", "trace.id", "__TypeId__", "-", "-Left-Out", "s", "Kafka-Topic", "Kafka-Headers", "Header-x",
		"Connection", "Keep-Alive", "Transfer-Encoding", "TE", "Trailer", "Upgrade", "Host", "Content-Length", "Content-Type", "content-type", "Authorization", "Proxy-Authorization", "Cookie",
		"X-Forwarded-For", "Idempotency-Key", "traceparent", "tracestate", "Traceparent", "ce_id", "ce-id", "Expect", strings.Repeat("n", 9_000)} {
		of(nil, "v", header(name, "text/plain"))
		of(nil, "v", header(name, "100-continue"), null(name))
	}
	of(nil, "v", header("tenant-id", "1"), header("tenant_id", "2"))
	of(nil, "v", header("A", "1"), header("a", "2"))
	of(nil, "v", header("ce_a", "1"), header("CE_A", "2"))
	all = append(all, kafka.Message{}, kafka.Message{Headers: []kafka.Header{null("")}})
	for _, n := range []int{60, 61, 1000} {
		all = append(all, kafka.Message{Value: []byte("v"), Headers: many(n)})
	}
	for _, value := range []string{`{"specversion":"1.0","id":"1","source":"/","type":"t"}`, `{"specversion":"1.0","id":"1","source":"/","type":"t","data":null,"kafkakey":"x"}`,
		`{"specversion":"1.0","id":"1","source":"/","type":"t","data_base64":"` + base64.StdEncoding.EncodeToString([]byte("\r\n")) + `","X":1,"partitionkey":"k"}`,
		`{"specversion":"1.0","id":"` + "\u00e9\\r\\n" + `","source":"/","type":"t","datacontenttype":"text/plain","data":"x"}`, `{"specversion":"1.0"`, "null", "[]", "{}"} {
		of([]byte("k"), value, header("content-type", "application/cloudevents+json"))
		of(nil, value, header("content-type", "application/json"))
		of([]byte{}, value, header("content-type", "Application/CloudEvents+JSON; charset=utf-8"), header("a", "1"))
	}
	for i := range all {
		all[i].Headers = slices.Clip(all[i].Headers)
	}
	return all
}

// What is packed for the fuzzer is the message.
func TestPacked(t *testing.T) {
	for _, m := range unusual() {
		got := unpack(packed(m))
		if !sameBytes(got.Key, m.Key) || !sameBytes(got.Value, m.Value) || !sameHeaders(got.Headers, m.Headers) {
			t.Errorf("%q became %q", fmt.Sprint(m), fmt.Sprint(got))
		}
	}
}
