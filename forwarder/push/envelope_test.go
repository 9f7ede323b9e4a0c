package push

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/kpush/kpush/forwarder/wire"
	"github.com/kpush/kpush/kafka"
)

// element is a message in a batch, as a service reads it.
type element struct {
	ID        string          `json:"id"`
	Topic     string          `json:"topic"`
	Partition int32           `json:"partition"`
	Offset    int64           `json:"offset"`
	Timestamp int64           `json:"timestamp"`
	Attempt   int             `json:"attempt"`
	InDoubt   bool            `json:"inDoubt"`
	Key       *string         `json:"key"`
	KeyBase64 []byte          `json:"keyBase64"`
	Headers   [][]*string     `json:"headers"`
	Value     json.RawMessage `json:"value"`
	Encoding  string          `json:"encoding"`
}

// unpacked is what a service gets of messages that travel in one request, and the head of that request.
func unpacked(t *testing.T, sent ...*Item) (head string, items []element) {
	t.Helper()
	first, rest := batch(opening, sent, &Config{})
	q := parse(first, rest)
	var body bytes.Buffer
	if _, err := body.ReadFrom(q.Body); err != nil {
		t.Fatal(err)
	}
	if !utf8.Valid(body.Bytes()) {
		t.Errorf("the body is no UTF-8, so no JSON: %q", body.Bytes())
	}
	d := json.NewDecoder(&body)
	d.DisallowUnknownFields()
	if err := d.Decode(&items); err != nil {
		t.Fatalf("%v in %s", err, body.Bytes())
	}
	head, _, _ = strings.Cut(string(first), "\r\n\r\n")
	return head, items
}

// value is the message's value, as a service gets it back.
func (e element) value(t *testing.T) []byte {
	t.Helper()
	var text string
	if e.Encoding == "text" || e.Encoding == "base64" {
		if err := json.Unmarshal(e.Value, &text); err != nil {
			t.Fatal(err)
		}
	}
	switch e.Encoding {
	case "":
		if string(e.Value) != "null" {
			t.Errorf("a value without encoding: %s", e.Value)
		}
		return nil
	case "json":
		return e.Value
	case "text":
		return []byte(text)
	case "base64":
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return append([]byte{}, b...)
	}
	t.Fatalf("encoding %q", e.Encoding)
	return nil
}

// Every value comes back byte for byte, and says how.
func TestEnvelopeOfValues(t *testing.T) {
	for _, row := range []struct{ value, encoding string }{
		{`{"order":1,"note":"äöü","big":12345678901234567890123,"f":1e400,"a":[1,2,{"b":null}]}`, "json"},
		{`{"order":1,` + "\n\t" + `"twice":1,"twice":2}`, "json"},
		{`"a string"`, "json"},
		{`"\ud800 alone, and \u0000"`, "json"},
		{"null", "json"},
		{"true", "json"},
		{"-0.10E+5", "json"},
		{"[]", "json"},
		{"", "text"},
		{"a text", "text"},
		{`{"order":1`, "text"},
		{`{"order":1} {"order":2}`, "text"},
		{`{'order':1}`, "text"},
		{"01", "text"},
		{"\ufeff{}", "text"},
		{"NaN", "text"},
		{"quotes \" and \\ and / and <&>", "text"},
		{"\x00\x01\b\f\n\r\t\x1f\x7f", "text"},
		{"\u2028 \u2029 \ufffd \U0001f600", "text"},
		{"\xff\xfe", "base64"},
		{"\xed\xa0\x80", "base64"}, // a surrogate in UTF-8
		{"almost all of it is text \xc3", "base64"},
		{"\"a JSON string with a byte \xff\"", "base64"},
		{"{\"k\xc3\":1}", "base64"},
		{strings.Repeat("\x80", 100_000), "base64"},
	} {
		_, items := unpacked(t, item(kafka.Message{Value: []byte(row.value)}))
		if got := items[0].value(t); items[0].Encoding != row.encoding || got == nil || string(got) != row.value {
			t.Errorf("%.40q: came back as %.40q by %q, want %q", row.value, got, items[0].Encoding, row.encoding)
		}
	}
	_, items := unpacked(t, item(kafka.Message{}))
	if got := items[0].value(t); got != nil || items[0].Encoding != "" {
		t.Errorf("a tombstone came back as %q by %q", got, items[0].Encoding)
	}
	for c := range 256 {
		for _, value := range []string{string([]byte{byte(c)}), fmt.Sprintf("x%c", c), string([]byte{'"', byte(c), '"'})} {
			_, items := unpacked(t, item(kafka.Message{Value: []byte(value)}))
			got := items[0].value(t)
			if items[0].Encoding == "json" { // blanks around a value are not part of it
				value = strings.TrimSpace(value)
			}
			if string(got) != value {
				t.Errorf("%q came back as %q by %q", value, got, items[0].Encoding)
			}
		}
	}
}

// A key is text where it is UTF-8, and is there when it is empty, but not where there is none.
func TestEnvelopeOfKeys(t *testing.T) {
	for _, row := range []struct {
		key  []byte
		text bool
	}{
		{nil, false}, {[]byte{}, true}, {[]byte("customer-17"), true}, {[]byte("Bücher \"\n"), true}, {[]byte{0}, true},
		{[]byte{0xff}, false}, {[]byte{0, 0, 0, 7, 0x80}, false},
	} {
		_, items := unpacked(t, item(kafka.Message{Key: row.key, Value: []byte("v")}))
		e := items[0]
		switch {
		case row.text && (e.Key == nil || *e.Key != string(row.key) || e.KeyBase64 != nil):
			t.Errorf("key %q came as %v and %q", row.key, e.Key, e.KeyBase64)
		case !row.text && (e.Key != nil || !bytes.Equal(e.KeyBase64, row.key)):
			t.Errorf("key %q came as %v and %q", row.key, e.Key, e.KeyBase64)
		}
	}
}

// Headers keep their order, repeats, null and bytes.
func TestEnvelopeOfHeaders(t *testing.T) {
	for _, list := range [][]kafka.Header{
		nil,
		{header("a", "1"), header("A", "2"), header("a", "1")},
		{null("null"), header("empty", ""), header("", "no name")},
		{header("not a \"token\"\r\n", "\x00\xff\r\n"), header("ü", "ü")},
		{header("long", strings.Repeat("\xaa", 70_000))},
	} {
		_, items := unpacked(t, item(kafka.Message{Headers: list, Value: []byte("v")}))
		got := items[0].Headers
		if len(got) != len(list) {
			t.Errorf("%d headers came back as %d", len(list), len(got))
			continue
		}
		for i, h := range list {
			if len(got[i]) != 2 || got[i][0] == nil || *got[i][0] != h.Name || (got[i][1] == nil) != (h.Value == nil) {
				t.Errorf("header %q came back as %v", h.Name, got[i])
			} else if h.Value != nil {
				if b, err := base64.StdEncoding.DecodeString(*got[i][1]); err != nil || !bytes.Equal(b, h.Value) {
					t.Errorf("header %q came back as %.40q (%v)", h.Name, b, err)
				}
			}
		}
	}
}

// The envelope says what a request of its own would say in its headers; the request says what is the same for all.
func TestEnvelopeOfTheRest(t *testing.T) {
	var sent []*Item
	for i := range 3 {
		m := kafka.Message{Partition: kafka.Partition{Topic: "a.topic-of_9", Number: 7}, Offset: 1<<62 + int64(i), Timestamp: 1795000000000, Value: bytes.Repeat([]byte("x"), i*wire.AtOnce)}
		sent = append(sent, &Item{Message: &m, TopicID: "USiVIew0TVeSVDySqVN7wg", Group: "g", Attempt: i + 1, InDoubt: i == 1})
	}
	for n := 1; n <= 3; n++ { // the first in one piece, the others too large for that
		head, items := unpacked(t, sent[:n]...)
		if len(items) != n {
			t.Fatalf("%d of %d items", len(items), n)
		}
		for i, e := range items {
			if it := sent[i]; e.ID != it.ID() || e.Topic != it.Topic || e.Partition != 7 || e.Offset != it.Offset || e.Timestamp != it.Timestamp ||
				e.Attempt != i+1 || e.InDoubt != (i == 1) || len(e.value(t)) != i*wire.AtOnce {
				t.Errorf("item %d: %+v", i, e)
			}
		}
		for _, line := range []string{"POST /orders HTTP/1.1", "Content-Type: application/json", fmt.Sprintf("Kafka-Batch: %d", n), "Kafka-Topic: a.topic-of_9",
			"Kafka-Partition: 7", "Kafka-Group: g"} {
			if !strings.Contains(head+"\r\n", line+"\r\n") {
				t.Errorf("the head lacks %q: %q", line, head)
			}
		}
	}
}

// What a message is said to take is never less than it takes, and of plain text and bytes not much more.
func TestSizeInBatch(t *testing.T) {
	texts := []string{"", "plain", `{"a":"b"}`, "\"\\\n\r\t\b\f", "<&>", "\x00\x1f\x7f", "\u2028\u2029é€😀", "\xff\xfe", "\xe2\x80", "a\xffb", "\ufffd"}
	rng := rand.New(rand.NewPCG(9, 10))
	text := func() (out []byte) {
		for range rng.IntN(30) {
			out = append(out, texts[rng.IntN(len(texts))]...)
		}
		return out
	}
	for i := range 3000 {
		m := kafka.Message{Partition: kafka.Partition{Topic: strings.Repeat("t", 1+rng.IntN(249)), Number: math.MaxInt32}, Offset: math.MaxInt64, Timestamp: math.MaxInt64}
		if m.Value = text(); i%4 > 0 {
			m.Key = text()
		}
		for range i % 3 {
			m.Headers = append(m.Headers, kafka.Header{Name: string(text()), Value: text()})
		}
		it := Item{Message: &m, TopicID: "USiVIew0TVeSVDySqVN7wg", Attempt: math.MaxInt64, InDoubt: true, Replay: true}
		if body, said := len(appendEnvelope(nil, &it))+len(",[]"), (&Config{}).sizeInBatch(&m); body > said {
			t.Fatalf("%d bytes, said to be %d: %q", body, said, m.Value)
		}
	}
	for _, value := range texts {
		m := kafka.Message{Value: bytes.Repeat([]byte(value), 1000)}
		if body, said := len(appendEnvelope(nil, &Item{Message: &m})), (&Config{}).sizeInBatch(&m); body > said {
			t.Errorf("%q: %d bytes, said to be %d", value, body, said)
		}
	}
	for _, value := range []string{"plain", "\xff\xfe\x00"} {
		m := kafka.Message{Partition: kafka.Partition{Topic: "t"}, Value: bytes.Repeat([]byte(value), 1000)}
		if body, said := len(appendEnvelope(nil, &Item{Message: &m})), (&Config{}).sizeInBatch(&m); said > body+300 {
			t.Errorf("%q: %d bytes, said to be %d", value, body, said)
		}
	}
}
