package push

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/kpush/kpush/kafka"
)

// asEvent is the configuration of a format with events.
func asEvent(format string) *Config { return &Config{Format: format, EventType: "kafka.record"} }

// sentEvent is what of a message's request is its event's: the lines ce-… and Content-Type as they were sent, sorted, and the body.
func sentEvent(it *Item, format string) (lines, body string) {
	out, rest := request(opening, it, asEvent(format))
	head, small, _ := strings.Cut(string(out), "\r\n\r\n")
	var all []string
	for line := range strings.SplitSeq(head, "\r\n") {
		if strings.HasPrefix(line, "ce-") || strings.HasPrefix(line, "Content-Type: ") {
			all = append(all, line)
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n"), small + string(rest)
}

// sameJSON tells whether two texts say the same in JSON.
func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && fmt.Sprint(x) == fmt.Sprint(y)
}

// binaryRecord is a record in the binary mode of Kafka's binding; more are name, value, ….
func binaryRecord(value []byte, kind string, more ...string) kafka.Message {
	m := kafka.Message{Value: value, Headers: []kafka.Header{header("ce_specversion", "1.0"), header("ce_type", "com.example.someevent"),
		header("ce_source", "/mycontext/subcontext"), header("ce_id", "1234-1234-1234"), header("ce_time", "2018-04-05T03:56:24Z")}}
	if kind != "" {
		m.Headers = append(m.Headers, header("content-type", kind))
	}
	for i := 0; i < len(more); i += 2 {
		m.Headers = append(m.Headers, header(more[i], more[i+1]))
	}
	return m
}

func structuredRecord(kind, value string) kafka.Message {
	return kafka.Message{Value: []byte(value), Headers: []kafka.Header{header("content-type", kind)}}
}

// The examples of the specifications: of Kafka's binding, of HTTP's, and of the JSON format, where each is written out in both modes.
func TestEventsOfTheSpecifications(t *testing.T) {
	const extensions = `"time":"2018-04-05T17:31:00Z","comexampleextension1":"value","comexampleothervalue":5`
	written := func(id string) string {
		return "ce-comexampleextension1: value\nce-comexampleothervalue: 5\nce-id: " + id + "\nce-source: /mycontext\nce-specversion: 1.0\nce-time: 2018-04-05T17:31:00Z\nce-type: com.example.someevent"
	}
	inJSON := func(id, rest string) string {
		return `{ "specversion" : "1.0", "type":"com.example.someevent","source":"/mycontext","id":"` + id + `",` + extensions + rest + "}\n"
	}
	const someEvent = "ce-id: 1234-1234-1234\nce-source: /mycontext/subcontext\nce-specversion: 1.0\nce-time: 2018-04-05T03:56:24Z\nce-type: com.example.someevent"
	const someJSON = `"specversion":"1.0","type":"com.example.someevent","source":"/mycontext/subcontext","id":"1234-1234-1234","time":"2018-04-05T03:56:24Z"`
	for name, row := range map[string]struct {
		record      kafka.Message
		lines, body string // binary
		json        string // structured; "": the record's value as it is
	}{
		"Kafka, binary": {binaryRecord([]byte("\x02avro\xff"), "application/avro"), "Content-Type: application/avro\n" + someEvent, "\x02avro\xff",
			`{` + someJSON + `,"datacontenttype":"application/avro","data_base64":"AmF2cm//"}`},
		"HTTP, binary": {binaryRecord([]byte(`{"a": 1}`), "application/json; charset=utf-8"), "Content-Type: application/json; charset=utf-8\n" + someEvent, `{"a": 1}`,
			`{` + someJSON + `,"datacontenttype":"application/json; charset=utf-8","data":{"a": 1}}`},
		"HTTP, a value with blanks and letters": {binaryRecord(nil, "", "ce_subject", "Euro € 😀", "ce_quoted", `"%`),
			"Content-Type: application/octet-stream\n" + strings.Replace(strings.Replace(someEvent, "\nce-source", "\nce-quoted: %22%25\nce-source", 1), "\nce-time", "\nce-subject: Euro%20%E2%82%AC%20%F0%9F%98%80\nce-time", 1), "",
			`{` + someJSON + `,"subject":"Euro € 😀","quoted":"\"%"}`},
		"JSON, bytes": {structuredRecord("application/cloudevents+json", inJSON("A234-1234-1234", `,"datacontenttype":"application/vnd.apache.thrift.binary","data_base64":"AAH/"`)),
			"Content-Type: application/vnd.apache.thrift.binary\n" + written("A234-1234-1234"), "\x00\x01\xff", ""},
		"JSON, a text": {structuredRecord("application/cloudevents+json; charset=UTF-8", inJSON("B234-1234-1234", `,"unsetextension":null,"datacontenttype":"application/xml","data":"<much wow=\"xml\"/>"`)),
			"Content-Type: application/xml\n" + written("B234-1234-1234"), `<much wow="xml"/>`, ""},
		"JSON, an object": {structuredRecord("Application/CloudEvents+JSON", inJSON("C234-1234-1234", `,"subject":null,"datacontenttype":"application/json","data":{"appinfoA":"abc","appinfoB":123}`)),
			"Content-Type: application/json\n" + written("C234-1234-1234"), `{"appinfoA":"abc","appinfoB":123}`, ""},
		"JSON, a string of JSON": {structuredRecord("application/cloudevents+json", inJSON("D234-1234-1234", `,"subject":null,"data":"I'm just a string"`)),
			"Content-Type: application/json\n" + written("D234-1234-1234"), `"I'm just a string"`, ""},
	} {
		it := item(row.record)
		if lines, body := sentEvent(it, "cloudevents"); lines != row.lines || body != row.body {
			t.Errorf("%s, binary:\n%s\n%q\nwant\n%s\n%q", name, lines, body, row.lines, row.body)
		}
		kind, want := "application/cloudevents+json", row.json
		if want == "" {
			kind, want = string(row.record.Headers[0].Value), string(row.record.Value)
		}
		lines, body := sentEvent(it, "cloudevents-structured")
		if lines != "Content-Type: "+kind || row.json == "" && body != want || !sameJSON(body, want) {
			t.Errorf("%s, structured:\n%s\n%s\nwant\n%s", name, lines, body, want)
		}
	}
}

// What is no event becomes one, which every delivery of the record has in common.
func TestEventsOfOtherRecords(t *testing.T) {
	const lines = "Content-Type: %s\nce-id: orders/3/1042/T\nce-partitionkey: customer-17\nce-source: kafka://MkU3OEVBNTcwNTJENDM2Qg/orders\nce-specversion: 1.0\nce-subject: 3/1042\nce-time: 2026-11-18T12:26:40.007Z\nce-type: kafka.record"
	const object = `{"specversion":"1.0","id":"orders/3/1042/T","source":"kafka://MkU3OEVBNTcwNTJENDM2Qg/orders","type":"kafka.record","subject":"3/1042","time":"2026-11-18T12:26:40.007Z","partitionkey":"customer-17"%s}`
	for name, row := range map[string]struct {
		kind, value string
		json        string
	}{
		"bytes":                        {"", "\x00\xff", `,"datacontenttype":"application/octet-stream","data_base64":"AP8="`},
		"JSON that does not say so":    {"", `{"a":1}`, `,"datacontenttype":"application/octet-stream","data_base64":"eyJhIjoxfQ=="`},
		"JSON":                         {"application/json", ` {"a": [1.0]}`, `,"datacontenttype":"application/json","data": {"a": [1.0]}`},
		"JSON, by its suffix":          {"application/vnd.shop.order+json;v=1", `7`, `,"datacontenttype":"application/vnd.shop.order+json;v=1","data":7`},
		"JSON that is none":            {"application/json", `{"a":1`, `,"datacontenttype":"application/json","data_base64":"eyJhIjox"`},
		"JSON with a byte":             {"application/json", "\"\xff\"", `,"datacontenttype":"application/json","data_base64":"Iv8i"`},
		"nothing":                      {"application/json", "", `,"datacontenttype":"application/json","data_base64":""`},
		"a text":                       {"text/plain", "ö\n", `,"datacontenttype":"text/plain","data":"ö\n"`},
		"a text in UTF-8":              {`text/plain; charset="UTF-8"`, "ö", `,"datacontenttype":"text/plain; charset=\"UTF-8\"","data":"ö"`},
		"a text in Latin-1":            {"text/plain; charset=iso-8859-1", "\xc3\xb6", `,"datacontenttype":"text/plain; charset=iso-8859-1","data_base64":"w7Y="`},
		"a text that is none":          {"text/plain", "\xf6", `,"datacontenttype":"text/plain","data_base64":"9g=="`},
		"XML":                          {"image/svg+xml", "<svg/>", `,"datacontenttype":"image/svg+xml","data":"<svg/>"`},
		"an event that lacks its type": {"application/cloudevents+json", `{"specversion":"1.0","id":"1","source":"/"}`, `,"datacontenttype":"application/cloudevents+json","data":{"specversion":"1.0","id":"1","source":"/"}`},
		"an event of another version":  {"application/cloudevents+json", `{"specversion":"0.3","id":"1","source":"/","type":"t"}`, `,"datacontenttype":"application/cloudevents+json","data":{"specversion":"0.3","id":"1","source":"/","type":"t"}`},
		"an event whose data is none":  {"application/cloudevents+json", `{"specversion":"1.0","id":"1","source":"/","type":"t","data_base64":"?"}`, `,"datacontenttype":"application/cloudevents+json","data":{"specversion":"1.0","id":"1","source":"/","type":"t","data_base64":"?"}`},
		"several events":               {"application/cloudevents-batch+json", `[]`, `,"datacontenttype":"application/cloudevents-batch+json","data":[]`},
	} {
		m := kafka.Message{Partition: kafka.Partition{Topic: "orders", Number: 3}, Offset: 1042, Timestamp: 1795004800007, Key: []byte("customer-17"), Value: []byte(row.value)}
		kind := "application/octet-stream"
		if row.kind != "" {
			kind, m.Headers = row.kind, []kafka.Header{header("content-type", row.kind)}
		}
		it := item(m)
		it.Cluster = "MkU3OEVBNTcwNTJENDM2Qg"
		whole := fmt.Sprintf(object, row.json)
		got, body := sentEvent(it, "cloudevents")
		if strings.HasPrefix(kind, "application/cloudevents") { // as the type of a request it would say that the body is the event
			if got != "Content-Type: application/cloudevents+json" || body != whole {
				t.Errorf("%s, binary:\n%s\n%s\nwant\n%s", name, got, body, whole)
			}
		} else if got != fmt.Sprintf(lines, kind) || body != row.value {
			t.Errorf("%s, binary:\n%s\n%q\nwant\n%s", name, got, body, fmt.Sprintf(lines, kind))
		}
		if got, body = sentEvent(it, "cloudevents-structured"); got != "Content-Type: application/cloudevents+json" || body != whole {
			t.Errorf("%s, structured:\n%s\n%s\nwant\n%s", name, got, body, whole)
		}
	}
}

// What a record does not have its event does not have either.
func TestEventsLeaveOutWhatIsNotThere(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*Item)
		want   string // of {"time", "partitionkey", "data", "datacontenttype"} those that are there
	}{
		"all":                    {func(*Item) {}, "data_base64 datacontenttype partitionkey time"},
		"no timestamp":           {func(it *Item) { it.Timestamp = -1 }, "data_base64 datacontenttype partitionkey"},
		"a time beyond RFC 3339": {func(it *Item) { it.Timestamp = math.MaxInt64 }, "data_base64 datacontenttype partitionkey"},
		"no key":                 {func(it *Item) { it.Key = nil }, "data_base64 datacontenttype time"},
		"an empty key":           {func(it *Item) { it.Key = []byte{} }, "data_base64 datacontenttype time"},
		"a key of bytes":         {func(it *Item) { it.Key = []byte{0xff} }, "data_base64 datacontenttype time"},
		"a key with a newline":   {func(it *Item) { it.Key = []byte("a\nb") }, "data_base64 datacontenttype time"},
		"a tombstone":            {func(it *Item) { it.Value = nil }, "partitionkey time"},
		"a tombstone of a type":  {func(it *Item) { it.Value, it.Headers = nil, []kafka.Header{header("content-type", "a/b")} }, "datacontenttype partitionkey time"},
	} {
		it := item(kafka.Message{Key: []byte("Bücher"), Value: []byte("v"), Timestamp: 0})
		row.change(it)
		_, body := sentEvent(it, "cloudevents-structured")
		var members map[string]json.RawMessage
		if err := json.Unmarshal([]byte(body), &members); err != nil {
			t.Fatalf("%s: %v in %s", name, err, body)
		}
		var got []string
		for _, member := range sortedNames(members) {
			if strings.HasPrefix(member, "data") || member == "time" || member == "partitionkey" {
				got = append(got, member)
			}
		}
		if strings.Join(got, " ") != row.want {
			t.Errorf("%s: %q, want %s", name, got, row.want)
		}
		if lines, _ := sentEvent(it, "cloudevents"); strings.Contains(lines, "ce-time") != strings.Contains(row.want, "time") || strings.Contains(lines, "ce-partitionkey: B%C3%BCcher") != strings.Contains(row.want, "partitionkey") {
			t.Errorf("%s, binary: %s", name, lines)
		}
	}
	it := item(kafka.Message{})
	if lines, _ := sentEvent(it, "cloudevents"); !strings.Contains(lines, "ce-source: kafka:///t\n") {
		t.Errorf("of a cluster without an id: %s", lines)
	}
}

// Which headers are attributes of a record's own event, and when it is none.
func TestWhichHeadersAreAttributes(t *testing.T) {
	many := strings.Repeat("x", headerBudget)
	for name, row := range map[string]struct {
		more []kafka.Header
		want string // lines beside those of every binaryRecord; "-": the record is no event; "{": its event is sent in the structured mode
	}{
		"none":                           {nil, ""},
		"an extension":                   {[]kafka.Header{header("ce_traceid", "a b")}, "ce-traceid: a%20b"},
		"an empty extension":             {[]kafka.Header{header("ce_x", "")}, "ce-x: "},
		"an empty attribute":             {[]kafka.Header{header("ce_subject", "")}, ""},
		"null":                           {[]kafka.Header{null("ce_x")}, ""},
		"bytes":                          {[]kafka.Header{header("ce_x", "\xff")}, ""},
		"CR and LF":                      {[]kafka.Header{header("ce_x", "a\r\nX-Evil: 1")}, "ce-x: a%0D%0AX-Evil:%201"},
		"a name in capitals":             {[]kafka.Header{header("CE_TraceId", "1")}, "ce-traceid: 1"},
		"twice":                          {[]kafka.Header{header("ce_x", "1"), header("ce_X", "2")}, "ce-x: 2"},
		"no name":                        {[]kafka.Header{header("ce_", "1")}, ""},
		"a name that is none":            {[]kafka.Header{header("ce_a_b", "1"), header("ce_a-b", "1"), header("ce_ä", "1"), header("ce_a\r\n", "1")}, ""},
		"what the body is":               {[]kafka.Header{header("ce_data", "1"), header("ce_datacontenttype", "a/b")}, ""},
		"of HTTP's binding":              {[]kafka.Header{header("ce-x", "1")}, ""},
		"an empty id":                    {[]kafka.Header{header("ce_id", "")}, ""},
		"an id of bytes behind":          {[]kafka.Header{header("ce_id", "\xff")}, ""},
		"another version":                {[]kafka.Header{header("ce_specversion", "0.3")}, "-"},
		"more than HTTP's servers take":  {[]kafka.Header{header("ce_x", many)}, "{"},
		"more than they take, written %": {[]kafka.Header{header("ce_x", strings.Repeat(" ", headerBudget/3))}, "{"},
	} {
		m := binaryRecord([]byte("v"), "text/plain")
		m.Headers = append(m.Headers, row.more...)
		lines, body := sentEvent(item(m), "cloudevents")
		all := []string{"ce-specversion: 1.0", "ce-type: com.example.someevent", "ce-source: /mycontext/subcontext", "ce-id: 1234-1234-1234", "ce-time: 2018-04-05T03:56:24Z", "Content-Type: text/plain"}
		switch row.want {
		case "-":
			if !strings.Contains(lines, "ce-type: kafka.record\n") && !strings.HasSuffix(lines, "ce-type: kafka.record") {
				t.Errorf("%s: taken for an event: %s", name, lines)
			}
			continue
		case "{":
			if lines != "Content-Type: application/cloudevents+json" || !strings.Contains(body, `"id":"1234-1234-1234"`) || !strings.Contains(body, `"data":"v"`) {
				t.Errorf("%s: %.100s %.200s", name, lines, body)
			}
			continue
		case "":
		default:
			all = append(all, row.want)
		}
		if slices.Sort(all); lines != strings.Join(all, "\n") || body != "v" {
			t.Errorf("%s:\n%s\nwant\n%s", name, lines, strings.Join(all, "\n"))
		}
	}
	for _, missing := range []string{"id", "source", "type", "specversion"} {
		m := binaryRecord([]byte("v"), "")
		m.Headers = slices.DeleteFunc(m.Headers, func(h kafka.Header) bool { return h.Name == "ce_"+missing })
		if lines, _ := sentEvent(item(m), "cloudevents"); !strings.Contains(lines, "ce-type: kafka.record") || strings.Contains(lines, "1234") {
			t.Errorf("without %s it is taken for an event: %s", missing, lines)
		}
	}
}

// An event in JSON is sent as it is where headers cannot say it.
func TestStructuredEventsThatHeadersCannotSay(t *testing.T) {
	for member, binary := range map[string]bool{
		`"x":"ö"`: true, `"x":true`: true, `"x":-5`: true, `"x":null`: true, `"x_y":1`: false, `"X":1`: false, `"x":{"a":1}`: false, `"x":[1]`: false, `"":1`: false,
		`"datacontenttype":"json"`: false, `"datacontenttype":"application/cloudevents+json"`: false, `"datacontenttype":"a/b\r\nX: 1"`: false,
		`"x":"` + strings.Repeat("x", headerBudget) + `"`: false,
	} {
		value := `{"specversion":"1.0","id":"1","source":"/","type":"t",` + member + `,"data":[1]}`
		lines, body := sentEvent(item(structuredRecord("application/cloudevents+json", value)), "cloudevents")
		if got := strings.Contains(lines, "ce-id: 1\n"); got != binary || binary && body != "[1]" || !binary && (body != value || lines != "Content-Type: application/cloudevents+json") {
			t.Errorf("%.50s: %s %.100s", member, lines, body)
		}
	}
}

// KPUSH_CONTENT_TYPE says what a topic holds whose records do not: events, too.
func TestEventsByTheFallbackOfTheContentType(t *testing.T) {
	value := `{"specversion":"1.0","id":"1","source":"/","type":"t","data":1}`
	cfg := asEvent("cloudevents-structured")
	cfg.ContentType = "application/cloudevents+json"
	out, _ := request(opening, item(kafka.Message{Value: []byte(value)}), cfg)
	if !strings.HasSuffix(string(out), "\r\n\r\n"+value) || sentType(out) != "application/cloudevents+json" {
		t.Errorf("%q", out)
	}
}

// Where the service does not take the head of an event in the binary mode, the event comes in the body: nothing of it is left out.
func TestSlimEvents(t *testing.T) {
	it := item(binaryRecord([]byte("v"), "text/plain", "ce_large", strings.Repeat("x", 5000)))
	it.slim = true
	q := parse(request(opening, it, asEvent("cloudevents")))
	body, err := io.ReadAll(q.Body)
	if err != nil || q.Header.Get("Content-Type") != "application/cloudevents+json" || q.Header.Get("Ce-Id") != "" || q.Header.Get("Kafka-Headers-Left-Out") != "7" ||
		!bytes.Contains(body, []byte(`"large":"xxxx`)) || !bytes.Contains(body, []byte(`"data":"v"`)) {
		t.Errorf("%v %.100s %v", q.Header, body, err)
	}
}

// batchOf is what a service gets of a batch of events.
func batchOf(t *testing.T, items ...*Item) (head http.Header, events []map[string]any) {
	t.Helper()
	q := parse(batch(opening, items, asEvent("cloudevents-structured")))
	d := json.NewDecoder(q.Body)
	d.UseNumber()
	if err := d.Decode(&events); err != nil {
		t.Fatal(err)
	}
	return q.Header, events
}

// In a batch an event says what a request of its own would say in its headers, in extension attributes; nothing of the record is lost.
func TestBatchesOfEvents(t *testing.T) {
	plain := item(kafka.Message{Partition: kafka.Partition{Topic: "orders", Number: 3}, Offset: 7, Key: []byte("k"), Value: []byte("v")})
	plain.Attempt = 1
	again := item(kafka.Message{Partition: kafka.Partition{Topic: "orders", Number: 3}, Offset: 8, Key: []byte{0xff}, Value: nil, Headers: []kafka.Header{header("a", "1"), null("b")}})
	again.Attempt, again.InDoubt, again.Replay = 12, true, true
	binary := binaryRecord([]byte("{}"), "application/json", "ce_partitionkey", "k", "ce_kafkaattempt", "99")
	binary.Topic, binary.Key = "orders", []byte("k")
	structured := structuredRecord("application/cloudevents+json", `{"specversion":"1.0","id":"1","source":"/","type":"t","n":5,"data": {"a":1.0},"kafkaindoubt":true,"kafkaheaders":"old"}`)
	structured.Topic, structured.Key = "orders", []byte{}
	twice := binaryRecord([]byte("{}"), "application/json", "ce_id", "2")
	twice.Topic = "orders"
	head, events := batchOf(t, plain, again, item(binary), item(structured), item(twice))
	if head.Get("Content-Type") != "application/cloudevents-batch+json" || head.Get("Kafka-Batch") != "5" || head.Get("Kafka-Topic") != "orders" || head.Get("Kafka-Partition") != "3" || head.Get("Kafka-Group") != "g" {
		t.Errorf("the head is %v", head)
	}
	for i, want := range []string{
		"datacontenttype=application/octet-stream id=orders/3/7/T kafkaattempt=1 kafkamessageid=orders/3/7/T partitionkey=k type=kafka.record",
		"id=orders/3/8/T kafkaattempt=12 kafkaheaders=" + encodeHeaders(again.Headers) + " kafkaindoubt=true kafkakey=/w== kafkamessageid=orders/3/8/T kafkareplay=true type=kafka.record",
		"data=map[] datacontenttype=application/json id=1234-1234-1234 kafkaattempt=0 kafkaheaders=" + encodeHeaders(binary.Headers) + " kafkamessageid=orders/0/0/T partitionkey=k type=com.example.someevent",
		"data=map[a:1.0] id=1 kafkaattempt=0 kafkaheaders=" + encodeHeaders(structured.Headers) + " kafkakey= kafkamessageid=orders/0/0/T n=5 type=t",
		"data=map[] datacontenttype=application/json id=2 kafkaattempt=0 kafkaheaders=" + encodeHeaders(twice.Headers) + " kafkamessageid=orders/0/0/T type=com.example.someevent",
	} {
		var got []string
		for name, value := range events[i] {
			if name == "type" || name == "id" || name == "n" || strings.HasPrefix(name, "kafka") || name == "partitionkey" || name == "data" || name == "datacontenttype" {
				got = append(got, fmt.Sprintf("%s=%v", name, value))
			}
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("element %d:\n%s\nwant\n%s", i, strings.Join(got, " "), want)
		}
	}
}

// What a message is said to take in a batch of events is never less than it takes.
func TestSizeOfEventsInBatch(t *testing.T) {
	texts := []string{"", "plain", `{"a":"b"}`, "\"\\\n\r\t\b\f", "<&>", "\x00\x1f\x7f", "\u2028é€😀", "\xff\xfe", "\xe2\x80", "a\xffb"}
	names := []string{"content-type", "ce_id", "ce_source", "ce_type", "ce_x", "ce_specversion", "x", "<ü>", "\xff"}
	kinds := []string{"application/json", `text/plain; a="<&>"`, "application/cloudevents+json", "application/x", "1.0"}
	rng := rand.New(rand.NewPCG(19, 20))
	text := func() (out []byte) {
		for range rng.IntN(20) {
			out = append(out, texts[rng.IntN(len(texts))]...)
		}
		return out
	}
	for range 3000 {
		m := kafka.Message{Partition: kafka.Partition{Topic: strings.Repeat("t", 1+rng.IntN(249)), Number: math.MaxInt32}, Offset: math.MaxInt64, Timestamp: 253402300799999, Value: text(), Key: text()}
		switch rng.IntN(3) {
		case 0:
			m = structuredRecord("application/cloudevents+json", `{"specversion":"1.0","id":"1","source":"/","type":"t","<>":"é<","data":`+string(appendString(nil, strings.ToValidUTF8(string(text()), "?")))+`}`)
		case 1:
			m.Headers = binaryRecord(nil, kinds[rng.IntN(len(kinds))]).Headers
		}
		for range rng.IntN(5) {
			h := kafka.Header{Name: names[rng.IntN(len(names))], Value: text()}
			if rng.IntN(2) == 0 {
				h.Value = []byte(kinds[rng.IntN(len(kinds))])
			}
			m.Headers = append(m.Headers, h)
		}
		it := Item{Message: &m, TopicID: "USiVIew0TVeSVDySqVN7wg", Cluster: "MkU3OEVBNTcwNTJENDM2Qg", Attempt: math.MaxInt64, InDoubt: true, Replay: true}
		cfg := &Config{Format: "cloudevents", EventType: strings.Repeat("<", 255), ContentType: "text/" + strings.Repeat("x", 250)}
		if body, said := len(appendBatched(nil, &it, cfg))+len(",[]"), cfg.sizeInBatch(&m); body > said {
			t.Fatalf("%d bytes, said to be %d: %q %q", body, said, m.Value, m.Headers)
		}
	}
}

// json is the envelope that a batch has, alone, with the headers that every request has.
func TestOneEnvelope(t *testing.T) {
	it := item(kafka.Message{Offset: 5, Key: []byte("k"), Value: []byte(`{"a":1}`), Headers: []kafka.Header{header("source", "web"), header("content-type", "text/plain")}})
	it.Attempt = 2
	q := parse(request(opening, it, &Config{Format: "json"}))
	body, err := io.ReadAll(q.Body)
	if want := string(appendEnvelope(nil, it)); err != nil || string(body) != want || q.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%v: %s, want %s", q.Header, body, want)
	}
	for name, want := range map[string]string{"Kafka-Key": "k", "Kafka-Message-Id": "t/0/5/T", "Kafka-Attempt": "2", "Kafka-Header-Source": "web"} {
		if q.Header.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, q.Header.Get(name), want)
		}
	}
	several := parse(batch(opening, []*Item{it}, &Config{Format: "json"}))
	if all, err := io.ReadAll(several.Body); err != nil || string(all) != "["+string(body)+"]" || several.Header.Get("Content-Type") != "application/json" {
		t.Errorf("in a batch: %s", all)
	}
}

// decoded is an attribute as a receiver reads it from its line: percent-decoded, by the binding.
func decoded(t *testing.T, line string) string {
	t.Helper()
	text, err := url.PathUnescape(line)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func fromBase64(t *testing.T, text string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
