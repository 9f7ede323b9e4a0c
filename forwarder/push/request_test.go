package push

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/kpush/kpush/forwarder/wire"
	"github.com/kpush/kpush/kafka"
)

// request is what goes out of a message, in one piece or two.
func request(opening string, it *Item, cfg *Config) (out, rest []byte) {
	r := room{request: []byte(opening)}
	rest = r.write(it, cfg, Trace{})
	return r.request, rest
}

// batch is what goes out of several.
func batch(opening string, items []*Item, cfg *Config) (out, rest []byte) {
	r := room{request: []byte(opening)}
	rest = r.writeBatch(items, cfg, Trace{})
	return r.request, rest
}

const opening = "POST /orders HTTP/1.1\r\nHost: s\r\n"

// body is what is sent behind a head, and as much of it as that says.
func body(m *kafka.Message, format string) string {
	out, rest := request("", item(*m), &Config{Format: format})
	head, small, _ := bytes.Cut(out, []byte("\r\n\r\n"))
	whole := string(small) + string(rest)
	if !bytes.HasSuffix(head, fmt.Appendf(nil, "\r\nContent-Length: %d", len(whole))) || rest != nil && (len(small) > 0 || len(rest) <= wire.AtOnce) {
		panic(fmt.Sprintf("%s for %d and %d bytes", head, len(small), len(rest)))
	}
	return whole
}

func TestBody(t *testing.T) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for _, value := range [][]byte{nil, {}, []byte("v"), []byte(`{"a":"b c&d=e%"}`), []byte("päß\x00\xff"), every, bytes.Repeat([]byte("x"), 1<<20)} {
		m := &kafka.Message{Partition: kafka.Partition{Number: 7}, Offset: 1 << 40, Value: value}
		if got := body(m, "raw"); got != string(value) {
			t.Errorf("raw: %.40q became %.40q", value, got)
		}
		got := body(m, "form")
		form, err := url.ParseQuery(got)
		if err != nil || len(form) != 3 || form.Get("m") != string(value) || form.Get("p") != "7" || form.Get("o") != "1099511627776" {
			t.Errorf("form: %.40q became %.80q (%v)", value, got, err)
		}
	}
	if got := body(&kafka.Message{Partition: kafka.Partition{Number: 3}, Offset: 9, Value: []byte("a b+c&d=ü")}, "form"); got != "m=a+b%2Bc%26d%3D%C3%BC&p=3&o=9" {
		t.Errorf("form is %s: not what PHP's origin sent", got)
	}
}

// parse is a request as net/http's server reads it.
func parse(head, body []byte) *http.Request {
	r, err := http.ReadRequest(bufio.NewReader(io.MultiReader(bytes.NewReader(head), bytes.NewReader(body))))
	if err != nil {
		panic(fmt.Sprintf("%v: %q", err, head))
	}
	return r
}

// arrived is what a service gets of a message.
func arrived(it *Item, format string) http.Header {
	return parse(request(opening, it, &Config{Format: format})).Header
}

// The bytes of a request, whole.
func TestRequestBytes(t *testing.T) {
	for offset, row := range []struct {
		message kafka.Message
		target  string
		domain  string
		doubt   bool
		format  string
		want    string
	}{
		{kafka.Message{Timestamp: 17, Key: []byte("k"), Value: []byte("hello"), Headers: []kafka.Header{header("Trace-id", "x y")}}, "http://shop:8080/in?a=%20", "", false, "raw",
			"POST /in?a=%20 HTTP/1.1\r\nHost: shop:8080\r\nUser-Agent: kpush\r\nAccept-Encoding: identity\r\nContent-Type: application/octet-stream\r\nKafka-Topic: orders\r\nKafka-Partition: 4\r\n" +
				"Kafka-Offset: 0\r\nKafka-Timestamp: 17\r\nKafka-Group: g\r\nKafka-Message-Id: orders/4/0/T\r\nKafka-Key: k\r\nKafka-Header-Trace-id: x y\r\n" +
				"Kafka-Attempt: 1\r\nContent-Length: 5\r\n\r\nhello"},
		{kafka.Message{}, "http://u:p@shop", "shop.example", true, "raw",
			"POST / HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: kpush\r\nAccept-Encoding: identity\r\nAuthorization: Basic dTpw\r\nContent-Type: application/octet-stream\r\nKafka-Topic: orders\r\n" +
				"Kafka-Partition: 4\r\nKafka-Offset: 1\r\nKafka-Timestamp: 0\r\nKafka-Group: g\r\nKafka-Message-Id: orders/4/1/T\r\nKafka-Tombstone: true\r\n" +
				"Kafka-Attempt: 1\r\nKafka-In-Doubt: true\r\nContent-Length: 0\r\n\r\n"},
		{kafka.Message{Value: []byte("a b")}, "http://shop/", "", false, "form",
			"POST / HTTP/1.1\r\nHost: shop\r\nUser-Agent: kpush\r\nAccept-Encoding: identity\r\nContent-Type: application/x-www-form-urlencoded\r\nKafka-Topic: orders\r\nKafka-Partition: 4\r\n" +
				"Kafka-Offset: 2\r\nKafka-Timestamp: 0\r\nKafka-Group: g\r\nKafka-Message-Id: orders/4/2/T\r\nKafka-Attempt: 1\r\nContent-Length: 13\r\n\r\nm=a+b&p=4&o=2"},
	} {
		row.message.Partition, row.message.Offset = kafka.Partition{Topic: "orders", Number: 4}, int64(offset)
		it := item(row.message)
		it.Attempt, it.InDoubt = 1, row.doubt
		_, u, err := wire.New(row.target, wire.Options{})
		if err != nil {
			t.Fatal(err)
		}
		head, err := wire.Opening(http.MethodPost, u, row.domain)
		if err != nil {
			t.Fatal(err)
		}
		if out, rest := request(string(head), it, &Config{Format: row.format}); string(out) != row.want || rest != nil {
			t.Errorf("%q\nwant\n%q", out, row.want)
		}
		if id := fmt.Sprintf("orders/4/%d/T", offset); it.ID() != id {
			t.Errorf("called %s, want %s", it.ID(), id)
		}
	}
}

// Up to a limit the body goes out with the head, above it on its own: whole in either case.
func TestLargeBodiesAreNotCopied(t *testing.T) {
	for offset, size := range []int{0, 1, wire.AtOnce, wire.AtOnce + 1} {
		value := bytes.Repeat([]byte("v"), size)
		out, rest := request(opening, item(kafka.Message{Offset: int64(offset), Value: value}), &Config{})
		q := parse(out, rest)
		got, err := io.ReadAll(q.Body)
		if err != nil || !bytes.Equal(got, value) || q.ContentLength != int64(size) || (rest != nil) != (size > wire.AtOnce) {
			t.Errorf("%d bytes: %d of %d came (%v), %d of them on their own", size, len(got), q.ContentLength, err, len(rest))
		}
	}
}

func TestHeadersOfEveryMessage(t *testing.T) {
	m := kafka.Message{Partition: kafka.Partition{Topic: "orders.v1", Number: 4}, Offset: 1234567890123, Timestamp: 1700000000123, Key: []byte("k"), Value: []byte("v")}
	it := &Item{Message: &m, TopicID: "AbC_-123", Group: "shop"}
	got := arrived(it, "raw")
	for name, want := range map[string]string{
		"Content-Type": "application/octet-stream", "Kafka-Topic": "orders.v1", "Kafka-Partition": "4", "Kafka-Offset": "1234567890123",
		"Kafka-Timestamp": "1700000000123", "Kafka-Group": "shop", "Kafka-Key": "k", "Kafka-Key-Encoding": "",
		"Kafka-Message-Id": "orders.v1/4/1234567890123/AbC_-123", "Kafka-Tombstone": "", "Kafka-Headers": "", "Kafka-In-Doubt": "",
	} {
		if got.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, got.Get(name), want)
		}
	}
	it.TopicID = ""
	if id := arrived(it, "raw").Get("Kafka-Message-Id"); id != "orders.v1/4/1234567890123" {
		t.Errorf("without topic ids the message is called %s", id)
	}
	if ct := arrived(it, "form").Get("Content-Type"); ct != "application/x-www-form-urlencoded" {
		t.Errorf("form has Content-Type %s", ct)
	}
}

func TestTombstone(t *testing.T) {
	for _, format := range []string{"raw", "form"} {
		if got := arrived(item(kafka.Message{Value: nil}), format).Get("Kafka-Tombstone"); got != "true" {
			t.Errorf("%s: a null value has Kafka-Tombstone %q", format, got)
		}
		if got := arrived(item(kafka.Message{Value: []byte{}}), format).Get("Kafka-Tombstone"); got != "" {
			t.Errorf("%s: an empty value has Kafka-Tombstone %q", format, got)
		}
	}
}

func TestKey(t *testing.T) {
	for _, row := range []struct {
		key           []byte
		value, coding string
	}{
		{nil, "", ""},
		{[]byte{}, "", "base64"}, // an empty key is a key
		{[]byte("order-1"), "order-1", ""},
		{[]byte("!~"), "!~", ""},
		{[]byte("a b"), "YSBi", "base64"},
		{[]byte(" a"), "IGE=", "base64"},
		{[]byte("ü"), "w7w=", "base64"},
		{[]byte{0, 0, 0, 7}, "AAAABw==", "base64"},
		{[]byte("a\r\nX: y"), "YQ0KWDogeQ==", "base64"},
		{[]byte{0x7f}, "fw==", "base64"},
	} {
		got := arrived(item(kafka.Message{Key: row.key}), "raw")
		_, there := got["Kafka-Key"]
		if got.Get("Kafka-Key") != row.value || got.Get("Kafka-Key-Encoding") != row.coding || there != (row.key != nil) {
			t.Errorf("key %q: %q in %q, there %t", row.key, got.Get("Kafka-Key"), got.Get("Kafka-Key-Encoding"), there)
		}
	}
}

// whole decodes Kafka-Headers.
func whole(t *testing.T, h http.Header) (out []kafka.Header) {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(h.Get("Kafka-Headers"))
	if err != nil {
		t.Fatal(err)
	}
	var pairs [][2]*string
	if err := json.Unmarshal(raw, &pairs); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	for _, p := range pairs {
		k := kafka.Header{Name: *p[0]}
		if p[1] != nil {
			if k.Value, err = base64.StdEncoding.DecodeString(*p[1]); err != nil {
				t.Fatal(err)
			}
		}
		out = append(out, k)
	}
	return out
}

// many are headers h0, h1, …; singly is what the service sees of them.
func many(n int) (list []kafka.Header) {
	for i := range n {
		list = append(list, header(fmt.Sprintf("h%d", i), "v"))
	}
	return list
}

func singly(n int) map[string]string {
	seen := map[string]string{}
	for _, k := range many(n) {
		seen[k.Name] = string(k.Value)
	}
	return seen
}

func TestKafkaHeaders(t *testing.T) {
	for _, row := range []struct {
		name    string
		headers []kafka.Header
		single  map[string]string // Kafka-Header-… as the service sees them, repeats joined by |
		whole   bool              // all of them in Kafka-Headers
	}{
		{"none", nil, nil, false},
		{"plain", []kafka.Header{header("a", "1"), header("Trace-Id", "x y")}, map[string]string{"A": "1", "Trace-Id": "x y"}, false},
		{"every token character", []kafka.Header{header("!#$%&'*+-.^_`|~09aZ", "1")}, map[string]string{"!#$%&'*+-.^_`|~09az": "1"}, true},
		{"letters, digits, hyphens", []kafka.Header{header("tenant-id-09aZ", "1"), header("-", "2")}, map[string]string{"Tenant-Id-09az": "1", "-": "2"}, false},
		{"a dot, which nginx drops", []kafka.Header{header("trace.id", "1")}, map[string]string{"Trace.id": "1"}, true},
		{"low lines, which nginx drops", []kafka.Header{header("__TypeId__", "1")}, map[string]string{"__typeid__": "1"}, true},
		{"names that CGI folds", []kafka.Header{header("tenant-id", "1"), header("tenant_id", "2")}, map[string]string{"Tenant-Id": "1", "Tenant_id": "2"}, true},
		{"names that CGI folds, of other cases", []kafka.Header{header("A-b_c", "1"), header("a_B-c", "2")}, map[string]string{"A-B_c": "1", "A_b-C": "2"}, true},
		{"as many as go singly", many(60), singly(60), false},
		{"one more, and servers stop at 100 lines", many(61), nil, true},
		{"95 short ones", many(95), nil, true},
		{"twice would be over the budget", []kafka.Header{header("a", strings.Repeat("x", 4000)), null("b")}, nil, true},
		{"twice is within the budget", []kafka.Header{header("a", strings.Repeat("x", 2000)), null("b")}, map[string]string{"A": strings.Repeat("x", 2000)}, true},
		{"empty value", []kafka.Header{header("a", "")}, map[string]string{"A": ""}, false},
		{"null", []kafka.Header{null("a")}, nil, true},
		{"null beside others", []kafka.Header{null("a"), header("b", "2")}, map[string]string{"B": "2"}, true},
		{"repeats", []kafka.Header{header("a", "1"), header("a", "2")}, map[string]string{"A": "1|2"}, true},
		{"names that differ in case", []kafka.Header{header("a", "1"), header("A", "2")}, map[string]string{"A": "1|2"}, true},
		{"no name", []kafka.Header{header("", "1")}, nil, true},
		{"blank in the name", []kafka.Header{header("a b", "1")}, nil, true},
		{"colon in the name", []kafka.Header{header("a:b", "1")}, nil, true},
		{"umlaut in the name", []kafka.Header{header("ä", "1")}, nil, true},
		{"injection by name", []kafka.Header{header("a\r\nX-Evil: 1", "1")}, nil, true},
		{"injection by value", []kafka.Header{header("a", "1\r\nX-Evil: 1")}, nil, true},
		{"NUL", []kafka.Header{header("a", "1\x00")}, nil, true},
		{"obs-text", []kafka.Header{header("a", "\xfc")}, nil, true},
		{"UTF-8", []kafka.Header{header("a", "ü")}, nil, true},
		{"DEL", []kafka.Header{header("a", "\x7f")}, nil, true},
		{"tab within", []kafka.Header{header("a", "1\t2")}, map[string]string{"A": "1\t2"}, false},
		{"blank before", []kafka.Header{header("a", " 1")}, nil, true},
		{"tab behind", []kafka.Header{header("a", "1\t")}, nil, true},
		{"only a blank", []kafka.Header{header("a", " ")}, nil, true},
		{"over the budget", []kafka.Header{header("a", strings.Repeat("x", headerBudget)), header("b", "2")}, nil, true},
		{"named like ours", []kafka.Header{header("Kafka-Topic", "x"), header("s", "y"), header("-Left-Out", "z")}, map[string]string{"Kafka-Topic": "x", "S": "y", "-Left-Out": "z"}, false},
		{"hop by hop", []kafka.Header{header("Connection", "close"), header("Transfer-Encoding", "gzip"), header("Host", "evil"), header("Content-Length", "7")},
			map[string]string{"Connection": "close", "Transfer-Encoding": "gzip", "Host": "evil", "Content-Length": "7"}, false},
		{"re-send triggers", []kafka.Header{header("Idempotency-Key", "k"), header("X-Idempotency-Key", "k")}, map[string]string{"Idempotency-Key": "k", "X-Idempotency-Key": "k"}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := arrived(item(kafka.Message{Partition: kafka.Partition{Topic: "t"}, Value: []byte("v"), Headers: row.headers}), "raw")
			single := map[string]string{}
			for name, values := range got {
				if rest, ok := strings.CutPrefix(name, "Kafka-Header-"); ok {
					single[rest] = strings.Join(values, "|")
				}
			}
			want := map[string]string{}
			for name, v := range row.single {
				want[http.CanonicalHeaderKey("Kafka-Header-" + name)[len("Kafka-Header-"):]] = v
			}
			if !reflect.DeepEqual(single, want) {
				t.Errorf("Kafka-Header-*: %q, want %q", single, want)
			}
			if _, has := got["Kafka-Headers"]; has != row.whole {
				t.Errorf("Kafka-Headers is there: %t, want %t", has, row.whole)
			}
			if row.whole && !reflect.DeepEqual(whole(t, got), row.headers) {
				t.Errorf("Kafka-Headers holds %q, want %q", whole(t, got), row.headers)
			}
			for _, name := range []string{"X-Evil", "Idempotency-Key", "X-Idempotency-Key", "Connection", "Transfer-Encoding"} {
				if v, has := got[name]; has {
					t.Errorf("a Kafka header became the real %s: %q", name, v)
				}
			}
			if got.Get("Kafka-Topic") != "t" {
				t.Errorf("Kafka-Topic is %q", got.Get("Kafka-Topic"))
			}
		})
	}
}

func TestThousandHeaders(t *testing.T) {
	var list []kafka.Header
	for i := range 1000 {
		list = append(list, header(fmt.Sprintf("header-%d", i), "value"))
	}
	got := arrived(item(kafka.Message{Headers: list}), "raw")
	if !reflect.DeepEqual(whole(t, got), list) {
		t.Error("a thousand headers did not come through")
	}
	if len(got) > 20 {
		t.Errorf("%d header lines, many servers stop at 100", len(got))
	}
}

func TestPassedThroughHeaders(t *testing.T) {
	m := kafka.Message{Headers: []kafka.Header{header("traceparent", "00-1-2-01"), header("TraceState", "a=1"), header("content-TYPE", "application/json; charset=utf-8")}}
	it := item(m)
	got := arrived(it, "raw")
	if got.Get("Traceparent") != "00-1-2-01" || got.Get("Tracestate") != "a=1" || got.Get("Content-Type") != "application/json; charset=utf-8" {
		t.Errorf("%v", got)
	}
	if got.Get("Kafka-Header-Traceparent") != "00-1-2-01" || got.Get("Kafka-Header-Content-Type") == "" {
		t.Error("what is passed through is missing among the Kafka headers")
	}
	it.slim = true
	slim := arrived(it, "raw")
	if slim.Get("Content-Type") != "application/json; charset=utf-8" || slim.Get("Kafka-Headers-Left-Out") != "3" || slim.Get("Kafka-Header-Traceparent") != "" {
		t.Errorf("slim: %v", slim)
	}
}

// What is no media type is none of the request's: servers answer 400 to it.
func TestContentType(t *testing.T) {
	for _, row := range []struct {
		header string
		is     bool
	}{
		{"application/json", true}, {"Text/Plain", true}, {"application/vnd.shop.order.v2+json", true}, {`text/plain; charset="utf-8"; a=b`, true}, {"application/json;", true}, {"x-a/b_c", true},
		{"", false}, {"json", false}, {"JSON; charset=utf-8", false}, {"application/", false}, {"/json", false}, {"/", false}, {"application/json; charset", false}, {"a b/c", false},
		{"a/b/c", false}, {"a/b c", false}, {"text/plain, text/html", false}, {"a\r\nb", false}, {"a/b\r\nX: 1", false}, {"ü/ü", false}, {" a/x", false}, {"a/" + strings.Repeat("x", 300), false},
	} {
		for _, fallback := range []string{"", "application/json"} {
			it, want := item(kafka.Message{Headers: []kafka.Header{header("content-type", row.header)}}), cmp.Or(fallback, "application/octet-stream")
			if row.is {
				want = row.header
			}
			if got := parse(request(opening, it, &Config{ContentType: fallback})).Header["Content-Type"]; len(got) != 1 || got[0] != want {
				t.Errorf("content-type %.20q became %q, want %q", row.header, got, want)
			}
			it.Headers = append([]kafka.Header{header("Content-Type", "text/a")}, it.Headers...)
			if got := contentType(it.Message, &Config{ContentType: fallback}); !row.is && got != "text/a" {
				t.Errorf("content-type %.20q behind a valid one became %q", row.header, got)
			}
		}
	}
}

// A record without a timestamp has none, alone and in a batch; one of the first millisecond has it.
func TestTimestamp(t *testing.T) {
	for timestamp, want := range map[int64][2]string{-1: {"", "null"}, 0: {"0", "0"}, 1795000000000: {"1795000000000", "1795000000000"}} {
		it := item(kafka.Message{Timestamp: timestamp})
		h := arrived(it, "raw")
		var several []struct{ Timestamp json.RawMessage }
		if err := json.NewDecoder(parse(batch(opening, []*Item{it}, &Config{})).Body).Decode(&several); err != nil {
			t.Fatal(err)
		}
		if _, has := h["Kafka-Timestamp"]; has != (want[0] != "") || h.Get("Kafka-Timestamp") != want[0] || string(several[0].Timestamp) != want[1] {
			t.Errorf("%d: %q alone, %s in a batch", timestamp, h["Kafka-Timestamp"], several[0].Timestamp)
		}
	}
}

// sound is header lines that every server takes, and nothing but them.
var sound = regexp.MustCompile("^([!#$%&'*+.^_`|~0-9A-Za-z-]+: ([\\x21-\\x7e]([\\t\\x20-\\x7e]*[\\x21-\\x7e])?)?\r\n)+$")

// What an operator wants again says so, alone and in a batch.
func TestReplayIsSaid(t *testing.T) {
	it := item(kafka.Message{Offset: 5, Value: []byte("v")})
	for _, replay := range []bool{false, true} {
		it.Replay = replay
		one, _ := request("", it, &Config{})
		several, _ := batch("", []*Item{it}, &Config{})
		if bytes.Contains(one, []byte("Kafka-Replay: true\r\n")) != replay || bytes.Contains(several, []byte(`"replay":true`)) != replay {
			t.Errorf("replay %t: %s %s", replay, one, several)
		}
	}
}
