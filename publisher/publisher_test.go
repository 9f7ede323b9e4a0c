package publisher

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
)

// fake is a producer and a cluster, which has the topics orders (3 partitions) and billing-x (1), and hides billing-secret.
type fake struct {
	mu     sync.Mutex
	got    []kafka.Record
	open   int
	refuse error                                      // of Queue
	answer func(kafka.Record) (kafka.Produced, error) // nil: acknowledged
	hold   chan struct{}                              // answers come when it is closed
	asked  int
	most   int  // bytes that a topic takes of records at once; 0: Kafka does not say it
	bounds int  // questions for that
	dead   bool // the cluster says nothing
}

func (f *fake) Produce(context.Context, kafka.Record) (kafka.Produced, error) { panic("unused") }

func (f *fake) Queue(r kafka.Record, done func(kafka.Produced, error)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return f.refuse
	}
	r.Key, r.Value, r.Headers = bytes.Clone(r.Key), bytes.Clone(r.Value), slices.Clone(r.Headers) // its bytes are the caller's
	for i := range r.Headers {
		r.Headers[i].Value = bytes.Clone(r.Headers[i].Value)
	}
	f.got = append(f.got, r)
	f.open++
	n := int64(len(f.got) - 1)
	go func() {
		if f.hold != nil {
			<-f.hold
		}
		at, err := kafka.Produced{Position: kafka.Position{Partition: kafka.Partition{Topic: r.Topic, Number: max(0, r.Partition)}, Offset: n}, Timestamp: 1795000000000}, error(nil)
		if f.answer != nil {
			at, err = f.answer(r)
		}
		f.mu.Lock()
		f.open--
		f.mu.Unlock()
		done(at, err)
	}()
	return nil
}

func (f *fake) Queued() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}

func (f *fake) Flush(ctx context.Context) int {
	for f.Queued() > 0 && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	return f.Queued()
}

func (f *fake) Close() {}

func (f *fake) Partitions(ctx context.Context, topics []string) (out []kafka.Partition, err error) {
	f.mu.Lock()
	f.asked++
	dead := f.dead
	f.mu.Unlock()
	if dead {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	n := map[string]int32{"orders": 3, "billing-x": 1}[topics[0]]
	for i := range n {
		out = append(out, kafka.Partition{Topic: topics[0], Number: i})
	}
	switch {
	case topics[0] == "billing-secret":
		err = fmt.Errorf("%s: %w: Broker: Topic authorization failed", topics[0], kafka.ErrForbidden)
	case n == 0:
		err = fmt.Errorf("%s: %w", topics[0], kafka.ErrNoTopic)
	}
	return out, err
}

func (f *fake) RecordMost(context.Context, string) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bounds++; f.most == 0 {
		return 0, kafka.ErrForbidden
	}
	return f.most, nil
}

func newTest(f *fake, change ...func(*Config)) *Publisher {
	cfg := Config{Topics: []string{"orders", "billing-*", "nothing"}, Timeout: 10 * time.Second, BodyMost: 1 << 20, Buffer: 1 << 20}
	for _, c := range change {
		c(&cfg)
	}
	return New(cfg, Parts{Producer: f, Cluster: func() (Cluster, error) { return f, nil }}, slog.New(slog.DiscardHandler))
}

// ask makes a request, its headers as Name: value apart by |.
func ask(p http.Handler, request, headers, body string) *httptest.ResponseRecorder {
	method, path, _ := strings.Cut(request, " ")
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for header := range strings.SplitSeq(headers, "|") {
		if name, value, ok := strings.Cut(header, ": "); ok {
			r.Header[http.CanonicalHeaderKey(name)] = append(r.Header[http.CanonicalHeaderKey(name)], value)
		}
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

// shown is a record in one line: null is told from empty.
func shown(r kafka.Record) string {
	show := func(b []byte) string {
		if b == nil {
			return "null"
		}
		return fmt.Sprintf("%q", b)
	}
	text := fmt.Sprintf("%s/%d@%d %s=%s", r.Topic, r.Partition, r.Timestamp, show(r.Key), show(r.Value))
	for _, h := range r.Headers {
		text += fmt.Sprintf(" %s:%s", h.Name, show(h.Value))
	}
	return text
}

func b64(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

const (
	asJSON   = "Content-Type: application/vnd.kafka.json.v2+json"
	asBinary = "Content-Type: application/vnd.kafka.binary.v2+json"
	asText   = "Content-Type: application/vnd.kafka.text.v2+json; charset=utf-8"
)

// A request becomes the records it means, or an error that says why not.
func TestRequests(t *testing.T) {
	for _, row := range []struct {
		request, headers, body string
		want                   int
		asked                  string // the records apart by |, or what the answer holds
	}{
		{"POST /topics/orders", "", "v", 200, `orders/-1@0 null="v"`},
		{"POST /topics/orders", "", "", 200, `orders/-1@0 null=""`},
		{"POST /topics/billing-x", "Content-Type: application/x-www-form-urlencoded", "a=b", 200, `billing-x/-1@0 null="a=b"`},
		{"POST /topics/orders?key=k%00%FF&partition=2", "Kafka-Timestamp: 1795000000000", "v", 200, `orders/2@1795000000000 "k\x00\xff"="v"`},
		{"POST /topics/orders?key=", "", "v", 200, `orders/-1@0 ""="v"`},
		{"POST /topics/orders", "Kafka-Key: customer 17", "v", 200, `orders/-1@0 "customer 17"="v"`},
		{"POST /topics/orders", "Kafka-Key: AP8=|Kafka-Key-Encoding: base64", "v", 200, `orders/-1@0 "\x00\xff"="v"`},
		{"POST /topics/orders", "Kafka-Key: |Kafka-Key-Encoding: base64", "v", 200, `orders/-1@0 ""="v"`},
		{"POST /topics/orders", "Kafka-Tombstone: true|Kafka-Key: k", "", 200, `orders/-1@0 "k"=null`},
		{"POST /topics/orders", "Kafka-Partition: 9|Kafka-Offset: 1|Kafka-Topic: other|Kafka-Timestamp: 0", "v", 200, `orders/-1@0 null="v"`},
		{"POST /topics/orders", "Kafka-Header-b: 2|Kafka-Header-a: 1|traceparent: 00-x|Kafka-Header-b: 3", "v", 200, `orders/-1@0 null="v" a:"1" b:"2" b:"3" traceparent:"00-x"`},
		{"POST /topics/orders", "Kafka-Header-x: 9|traceparent: 00-y|Kafka-Headers: " + b64(`[["b","AP8="],["a",null],["B",""],["","eA=="],["Ünï","eA=="]]`), "v", 200,
			`orders/-1@0 null="v" b:"\x00\xff" a:null B:"" :"x" Ünï:"x"`},
		{"POST /topics/orders?async=true", "", "v", 202, `orders/-1@0 null="v"`},
		{"POST /topics/orders", "Prefer: wait=1, respond-async; x", "v", 202, `orders/-1@0 null="v"`},
		{"POST /topics/orders?async=false", "Prefer: respond-async", "v", 200, `orders/-1@0 null="v"`},

		{"POST /topics/orders", asJSON, `{"records":[{"value":{"a": 1.50, "b":"\u00e9<"}},{"key":"k","value":null,"partition":1},{"key":7,"value":"x"}],"value_schema":null}`, 200,
			`orders/-1@0 null="{\"a\":1.50,\"b\":\"\\u00e9<\"}"|orders/1@0 "\"k\""=null|orders/-1@0 "7"="\"x\""`},
		{"POST /topics/orders", asBinary, `{"records":[{"key":"AP8=","value":"","timestamp":5,"headers":[{"key":"h","value":"AA=="},{"key":"n","value":null}]},{}]}`, 200,
			`orders/-1@5 "\x00\xff"="" h:"\x00" n:null|orders/-1@0 null=null`},
		{"POST /topics/orders", "Content-Type: application/vnd.kafka.v1+json", `{"records":[{"value":"aGVsbG8="}]}`, 200, `orders/-1@0 null="hello"`}, // as npm's kafka-rest sends it
		{"POST /topics/orders?partition=2", asText, `{"records":[{"key":"","value":"é"}]}`, 200, `orders/2@0 ""="é"`},
		{"POST /topics/orders?async=true", asText, `{"records":[{"value":"a"},{"value":"b"}]}`, 202, `orders/-1@0 null="a"|orders/-1@0 null="b"`},
		{"POST /topics/orders", asText, `{"records":[{"value":"a"},{"value":"b","partition":3}]}`, 207, `orders/-1@0 null="a"`},

		{"POST /topics/orders?kye=k", "", "v", 400, `there is no parameter`},
		{"POST /topics/orders?key=a&key=b", "", "v", 400, `key is there twice`},
		{"POST /topics/orders?key=a;b", "", "v", 400, `query cannot be read`},
		{"POST /topics/orders?key=%zz", "", "v", 400, `query cannot be read`},
		{"POST /topics/orders?key=a", "Kafka-Key: b", "v", 400, `send one`},
		{"POST /topics/orders", "Kafka-Key: a|Kafka-Key: b", "v", 400, `Kafka-Key is there twice`},
		{"POST /topics/orders", "Kafka-Headers: W10=|Kafka-Headers: W10=", "v", 400, `Kafka-Headers is there twice`},
		{"POST /topics/orders", "Kafka-Key: ?|Kafka-Key-Encoding: base64", "v", 400, `is not base64`},
		{"POST /topics/orders", "Kafka-Key: a|Kafka-Key-Encoding: hex", "v", 400, `Kafka-Key-Encoding is base64`},
		{"POST /topics/orders", "Kafka-Key-Encoding: base64", "v", 400, `needs Kafka-Key`},
		{"POST /topics/orders?partition=-1", "", "v", 400, `partition is a number`},
		{"POST /topics/orders?partition=2147483648", "", "v", 400, `partition is a number`},
		{"POST /topics/orders?partition=", "", "v", 400, `partition is a number`},
		{"POST /topics/orders?async=yes", "", "v", 400, `async is true or false`},
		{"POST /topics/orders?async=", "", "v", 400, `async is true or false`},
		{"POST /topics/orders", "Kafka-Tombstone: true", "v", 400, `has no body`},
		{"POST /topics/orders", "Kafka-Tombstone: 1", "", 400, `true or false`},
		{"POST /topics/orders", "Kafka-Timestamp: -1", "v", 400, `milliseconds`},
		{"POST /topics/orders", "Kafka-Timestamp: 2026-11-30", "v", 400, `milliseconds`},
		{"POST /topics/orders", "Kafka-Header-: x", "v", 400, `no name`},
		{"POST /topics/orders", "Kafka-Headers: [[]]", "v", 400, `base64 of JSON`},
		{"POST /topics/orders", "Kafka-Headers: " + b64(`[["a"]]`), "v", 400, `base64 of JSON`},
		{"POST /topics/orders", "Kafka-Headers: " + b64(`[[null,"eA=="]]`), "v", 400, `base64 of JSON`},
		{"POST /topics/orders", "Kafka-Headers: " + b64(`[["a","?"]]`), "v", 400, `base64 of JSON`},
		{"POST /topics/orders", "Kafka-Headers: " + b64("[[\"\xff\",null]]"), "v", 400, `base64 of JSON`},
		{"POST /topics/orders", "Kafka-Headers-Left-Out: 1000", "v", 400, `is not whole`},
		{"POST /topics/orders", "", strings.Repeat("v", 1<<20+1), 413, `may have 1048576`},
		{"POST /topics/orders?partition=3", "", "v", 404, `"error_code":40402`},
		{"POST /topics/nothing", "", "v", 404, `"error_code":40401`},
		{"POST /topics/nothing?async=true", "", "v", 404, `"error_code":40401`},
		{"POST /topics/secret", "", "v", 403, `KPUSH_PUBLISH_TOPICS does not name`},
		{"POST /topics/billing", "", "v", 403, `KPUSH_PUBLISH_TOPICS does not name`},
		{"POST /topics/a%2Fb", "", "v", 400, `is not a topic`},
		{"POST /topics/", "", "v", 400, `is not a topic`},
		{"POST /topics/..", "", "v", 400, `is not a topic`},
		{"PUT /topics/orders", "", "v", 405, `takes POST`},
		{"GET /topics/orders", "", "", 200, `{"name":"orders","partitions":[{"partition":0},{"partition":1},{"partition":2}]}`},
		{"GET /topics/nothing", "", "", 404, `40401`},
		{"GET /topics/secret", "", "", 403, `403`},

		{"POST /topics/orders", "Content-Type: application/vnd.kafka.avro.v2+json", `{"records":[]}`, 415, `is not taken`},
		{"POST /topics/orders", asJSON + "|Content-Encoding: gzip", `{"records":[]}`, 415, `encoding`},
		{"POST /topics/orders", asJSON + "; x=;;", `{"records":[]}`, 400, `records is empty`},
		{"POST /topics/orders", asJSON, `{"records":[]}`, 400, `records is empty`},
		{"POST /topics/orders", asJSON, `{"recrods":[{}]}`, 400, `records is empty`},
		{"POST /topics/orders", asJSON, `[]`, 400, `cannot be read`},
		{"POST /topics/orders", asJSON, `{"records":[{"value":1}]} x`, 400, `cannot be read`},
		{"POST /topics/orders", asJSON, `{"records":[{"vlaue":1}]}`, 400, `record 0: unknown field`},
		{"POST /topics/orders", asJSON, `{"records":[{"value":1,"Value":null}]}`, 400, `record 0: unknown field \"Value\"`}, // no tombstone instead of a value
		{"POST /topics/orders", asJSON, `{"records":[{"KEY":1}]}`, 400, `record 0: unknown field \"KEY\"`},
		{"POST /topics/orders", asJSON, `{"records":[{"headers":[{"key":"h","Value":"AA=="}]}]}`, 400, `record 0: header unknown field \"Value\"`},
		{"POST /topics/orders", asJSON, `{"records":[{"headers":[7]}]}`, 400, `record 0: header is not an object`},
		{"POST /topics/orders", asJSON, `{"records":[{"partition":"one"}]}`, 400, `record 0: partition cannot unmarshal string`},
		{"POST /topics/orders", asJSON, `{"records":[{"value":1}],"Records":[{"value":2}]}`, 200, `orders/-1@0 null="1"`}, // what is beside records is passed over
		{"POST /topics/orders", asJSON, `{"Records":[{"value":1}]}`, 400, `records is empty`},
		{"POST /topics/orders", asJSON, `{"records":[{},7]}`, 400, `record 1: `},
		{"POST /topics/orders", asJSON, `{"records":[null]}`, 400, `record 0: `},
		{"POST /topics/orders", asJSON, `{"records":[{"partition":-1}]}`, 400, `partition is a number`},
		{"POST /topics/orders", asJSON, `{"records":[{"timestamp":-1}]}`, 400, `timestamp is`},
		{"POST /topics/orders", asBinary, `{"records":[{"value":"?"}]}`, 400, `record 0: value is not base64`},
		{"POST /topics/orders", asBinary, `{"records":[{"key":{}}]}`, 400, `record 0: key is not a string`},
		{"POST /topics/orders", asBinary, `{"records":[{"headers":[{"key":"h","value":"?"}]}]}`, 400, `is not base64`},
		{"POST /topics/orders", asText, `{"records":[{"value":1}]}`, 400, `value is not a string`},
		{"POST /topics/orders", asText, "{\"records\":[{\"value\":\"\xff\"}]}", 400, `is not UTF-8`},
		{"POST /topics/orders/partitions/1", asText, `{"records":[{"value":"v"}]}`, 200, `orders/1@0 null="v"`},
		{"POST /topics/orders/partitions/2", "", "v", 200, `orders/2@0 null="v"`},
		{"POST /topics/orders/partitions/3", "", "v", 404, `40402`},
		{"POST /topics/orders/partitions/x", "", "v", 400, `partition is a number`},
		{"POST /topics/orders/partitions/1?partition=1", "", "v", 400, `send one`},
		{"POST /topics/orders/partitions/", "", "v", 200, `orders/-1@0 null="v"`},
		{"GET /topics/orders/partitions/1", "", "", 400, `is not a topic`},
		{"POST /topics/billing-secret", "", "v", 403, `"message":"billing-secret: Kafka's ACLs forbid it: Broker: Topic authorization failed","retriable":false`},
		{"GET /topics/billing-secret", "", "", 403, `"error_code":403`},
		{"POST /topics/orders", asText + "|Kafka-Key: k", `{"records":[{}]}`, 400, `go into each record`},
		{"POST /topics/orders", asText, `{"records":[` + strings.Repeat("{},", recordsMost) + `{}]}`, 413, `10001 records`},
	} {
		f := &fake{}
		p := newTest(f)
		w := ask(p, row.request, row.headers, row.body)
		var got []string
		for _, r := range f.got {
			got = append(got, shown(r))
		}
		name := fmt.Sprintf("%s %s %.60s", row.request, row.headers, row.body)
		if w.Code != row.want {
			t.Errorf("%s: %d %s, want %d", name, w.Code, w.Body, row.want)
		}
		if taken := w.Code < 300 && strings.HasPrefix(row.request, "POST"); taken && strings.Join(got, "|") != row.asked {
			t.Errorf("%s asks for\n%s, want\n%s", name, strings.Join(got, "|"), row.asked)
		} else if !taken && (len(got) > 0 || !strings.Contains(w.Body.String(), row.asked)) {
			t.Errorf("%s asks for %v and says %s, want %s", name, got, w.Body, row.asked)
		}
		if left := p.bodies.left; left != 1<<20 {
			t.Errorf("%s keeps %d bytes of the budget", name, 1<<20-left)
		}
	}
}

// What Kafka says becomes a status; nothing that failed is a 2xx.
func TestAnswers(t *testing.T) {
	for _, row := range []struct {
		err        error
		async      bool
		status     int
		want, word string
	}{
		{nil, false, 200, `{"topic":"orders","partition":0,"offset":0,"timestamp":1795000000000}`, ""},
		{kafka.ErrNoTopic, false, 404, `"error_code":40401,"message":"topic does not exist","retriable":false}`, "no_topic"},
		{kafka.ErrForbidden, false, 403, `"error_code":403`, "forbidden"},
		{kafka.ErrTooLarge, false, 413, `"error_code":413`, "too_large"},
		{kafka.ErrInvalid, false, 400, `"error_code":400`, "invalid"},
		{fmt.Errorf("%w: timed out", kafka.ErrNoBroker), false, 503, `"error_code":503,"message":"no broker can be reached: timed out","retriable":true}`, "no_broker"},
		{kafka.ErrUnknown, false, 504, `"retriable":true}`, "unknown"},
		{errors.New("a new one"), false, 504, `nobody knows whether Kafka has it: a new one`, "unknown"},
	} {
		f := &fake{}
		if row.err != nil {
			f.answer = func(kafka.Record) (kafka.Produced, error) { return kafka.Produced{}, row.err }
		}
		p := newTest(f)
		w := ask(p, "POST /topics/orders", "", "v")
		if w.Code != row.status || !strings.Contains(w.Body.String(), row.want) || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%v: %d %s, want %d %s", row.err, w.Code, w.Body, row.status, row.want)
		}
		c := p.Counts()
		if row.word != "" && (c.Failed[row.word] != 1 || c.Sent != 0) || row.word == "" && c.Sent != 1 || c.Requests[Request{"sync", row.status}] != 1 || c.Duration["sync"].Count != 1 {
			t.Errorf("%v is counted as %+v", row.err, c)
		}
		many := ask(p, "POST /topics/orders", asText, `{"records":[{"value":"a"},{"value":"b"}]}`)
		if many.Code != row.status || strings.Count(many.Body.String(), `"error":`)+strings.Count(many.Body.String(), `"offset":`) != 2 {
			t.Errorf("%v: many are answered %d %s", row.err, many.Code, many.Body)
		}
	}
	f := &fake{refuse: kafka.ErrQueueFull}
	for _, path := range []string{"/topics/orders", "/topics/orders?async=true"} {
		if w := ask(newTest(f), "POST "+path, "", "v"); w.Code != 429 || w.Header().Get("Retry-After") != "1" {
			t.Errorf("%s with a full queue: %d %s", path, w.Code, w.Header())
		}
	}
	f = &fake{answer: func(r kafka.Record) (kafka.Produced, error) {
		if string(r.Value) == "b" {
			return kafka.Produced{}, kafka.ErrTooLarge
		}
		return kafka.Produced{Position: kafka.Position{Offset: 7}}, nil
	}}
	w := ask(newTest(f), "POST /topics/orders", asText, `{"records":[{"value":"a"},{"value":"b"}]}`)
	const want = `{"offsets":[{"offset":7,"partition":0},{"error":"the record is larger than the broker or topic allows","error_code":413,"retriable":false}]}`
	if w.Code != 207 || strings.TrimSpace(w.Body.String()) != want {
		t.Errorf("mixed: %d %s", w.Code, w.Body)
	}
}

// Nobody waits beyond the delivery timeout, and a topic that nobody can ask for is 503 within 2 s; 202 is at once.
func TestNobodyWaitsLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{hold: make(chan struct{})}
		p := newTest(f)
		begin := time.Now()
		if w := ask(p, "POST /topics/orders?async=true", "", "v"); w.Code != 202 || time.Since(begin) > 0 {
			t.Errorf("async: %d after %v", w.Code, time.Since(begin))
		}
		if w := ask(p, "POST /topics/orders", "", "v"); w.Code != 504 || time.Since(begin) != 10*time.Second {
			t.Errorf("no answer: %d after %v", w.Code, time.Since(begin))
		}
		if notes := p.Notes(); len(notes) != 1 || !strings.Contains(notes[0], "no acknowledgement from Kafka for 10s; queued: 2") || !p.Counts().Silent.Equal(begin) {
			t.Errorf("the notes are %q, silent since %v", notes, p.Counts().Silent)
		}
		f.mu.Lock()
		f.dead = true
		f.mu.Unlock()
		begin = time.Now()
		if w := ask(p, "POST /topics/billing-x", "", "v"); w.Code != 503 || time.Since(begin) > 2*time.Second {
			t.Errorf("an unknown topic, and no broker: %d after %v", w.Code, time.Since(begin))
		}
		if w := ask(p, "POST /topics/orders?async=true", "", "v"); w.Code != 202 { // is known, and taken for there
			t.Errorf("a known topic: %d", w.Code)
		}
		close(f.hold)
		synctest.Wait()
		if len(p.Notes()) != 0 || p.Counts().Queued != 0 || !p.Counts().Silent.IsZero() {
			t.Errorf("the notes are %q", p.Notes())
		}
		time.Sleep(askTime) // the question beside the last caller
	})
}

// A record that Kafka has refused is no outage, and one of the spool's that it has taken ends one.
func TestARefusalIsAnAnswer(t *testing.T) {
	for _, row := range []struct {
		err  error
		then func(p *Publisher)
		said bool
	}{
		{kafka.ErrTooLarge, nil, false}, {kafka.ErrInvalid, nil, false}, {kafka.ErrForbidden, nil, false}, {kafka.ErrNoTopic, nil, false},
		{kafka.ErrNoBroker, nil, true}, {kafka.ErrUnknown, nil, true},
		{kafka.ErrUnknown, func(p *Publisher) { p.Spooled(nil) }, false}, {kafka.ErrUnknown, func(p *Publisher) { p.Spooled(kafka.ErrNoBroker) }, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newTest(&fake{answer: func(kafka.Record) (kafka.Produced, error) { return kafka.Produced{}, row.err }})
			ask(p, "POST /topics/orders", "", "v")
			if row.then != nil {
				row.then(p)
			}
			time.Sleep(2 * quiet)
			if notes := p.Notes(); len(notes) > 0 != row.said || p.Counts().Silent.IsZero() == row.said {
				t.Errorf("%v: %q", row.err, notes)
			}
		})
	}
}

// A record says what its topic takes at once, as far as Kafka says it: asked for at first, every ten minutes, and behind a refusal for size.
func TestRecordsKnowTheirTopicsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{most: 20_000}
		p := newTest(f)
		for i, row := range []struct {
			after       time.Duration
			most        int   // Kafka says
			came        error // of the record
			want, asked int
		}{
			{0, 20_000, nil, 20_000, 1},
			{5 * time.Minute, 500, nil, 20_000, 1},
			{6 * time.Minute, 500, nil, 20_000, 2}, // asked beside this one
			{time.Second, 900, kafka.ErrTooLarge, 500, 2},
			{11 * time.Second, 900, nil, 500, 3},
			{time.Second, 0, nil, 900, 3},
			{11 * time.Minute, 0, nil, 900, 4},
			{30 * time.Second, 700, nil, 900, 4},
			{31 * time.Second, 700, nil, 900, 5},
			{time.Second, 700, nil, 700, 5},
		} {
			time.Sleep(row.after)
			f.mu.Lock()
			f.most = row.most
			f.mu.Unlock()
			f.answer = func(kafka.Record) (kafka.Produced, error) { return kafka.Produced{}, row.came }
			if row.came == nil {
				f.answer = nil
			}
			ask(p, "POST /topics/orders", "", "v")
			synctest.Wait()
			if got := f.got[len(f.got)-1].Batch; got != row.want || f.bounds != row.asked {
				t.Errorf("%d: a record knows of %d, asked %d times; want %d, %d", i, got, f.bounds, row.want, row.asked)
			}
		}
		unknown := &fake{}
		ask(newTest(unknown), "POST /topics/orders", "", "v")
		if unknown.got[0].Batch != 0 {
			t.Errorf("who is not told makes up %d", unknown.got[0].Batch)
		}
	})
}

// The bound of how long a body may come is none of how long Kafka may take.
func TestKafkaMayTakeLongerThanTheBody(t *testing.T) {
	defer func(was time.Duration) { readTime = was }(readTime)
	readTime = 100 * time.Millisecond
	f := &fake{hold: make(chan struct{})}
	server := httptest.NewServer(newTest(f))
	defer server.Close()
	time.AfterFunc(500*time.Millisecond, func() { close(f.hold) })
	w, err := http.Post(server.URL+"/topics/orders", "", strings.NewReader("v"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	if text, err := io.ReadAll(w.Body); err != nil || w.StatusCode != 200 || !strings.Contains(string(text), `"offset":0`) {
		t.Error(w.StatusCode, string(text), err)
	}
}

// Who is not waited for to the end has no 2xx, should anybody still read it.
func TestACallerWhoHasGone(t *testing.T) {
	f := &fake{hold: make(chan struct{})}
	defer close(f.hold)
	ctx, end := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, end)
	w := httptest.NewRecorder()
	newTest(f).ServeHTTP(w, httptest.NewRequest("POST", "/topics/orders", strings.NewReader("v")).WithContext(ctx))
	if w.Code != 504 {
		t.Error(w.Code, w.Body)
	}
}

// A stop takes nothing new, waits for what is under way, and counts what is not acknowledged.
func TestClose(t *testing.T) {
	for _, row := range []struct {
		comes bool
		fault error
		want  string
	}{
		{true, nil, ""},
		{true, kafka.ErrUnknown, "1 published records were not acknowledged"}, // whoever waits was told
		{false, nil, "2 published records were not acknowledged"},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{hold: make(chan struct{}), answer: func(kafka.Record) (kafka.Produced, error) { return kafka.Produced{}, row.fault }}
			p := newTest(f)
			ask(p, "POST /topics/orders?async=true", "", "v")
			waits := make(chan int)
			go func() { waits <- ask(p, "POST /topics/orders", "", "v").Code }()
			synctest.Wait()
			ended := make(chan error)
			ctx, end := context.WithTimeout(t.Context(), time.Second)
			defer end()
			go func() { ended <- p.Close(ctx) }()
			synctest.Wait()
			if w := ask(p, "POST /topics/orders", "", "v"); w.Code != 503 || w.Header().Get("Connection") != "close" {
				t.Errorf("a stopping door answers %d %v", w.Code, w.Header())
			}
			if row.comes {
				close(f.hold)
			}
			go func() { <-waits }()
			err := <-ended
			if (row.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), row.want) {
				t.Errorf("%+v: %v", row, err)
			}
			if !row.comes {
				close(f.hold)
			}
		})
	}
}

// Bodies that come slowly hold what has come, and no more than there is.
func TestBodiesAreBounded(t *testing.T) {
	f := &fake{}
	p := newTest(f)
	server := httptest.NewServer(p)
	defer server.Close()
	var pipes []*io.PipeWriter
	var all sync.WaitGroup
	codes := make(chan int, 20)
	for range 20 {
		r, w := io.Pipe()
		pipes = append(pipes, w)
		all.Go(func() {
			answer, err := http.Post(server.URL+"/topics/orders", "", r)
			if err == nil {
				codes <- answer.StatusCode
				answer.Body.Close()
			}
		})
	}
	for _, w := range pipes {
		go w.Write(make([]byte, 1000))
	}
	for range 4 { // 16 of 64 KiB are in 1 MiB
		if code := <-codes; code != 429 {
			t.Errorf("one too many is answered %d", code)
		}
	}
	for _, w := range pipes {
		w.Close()
	}
	for range 16 {
		if code := <-codes; code != 200 {
			t.Errorf("a slow one is answered %d", code)
		}
	}
	all.Wait()
	if p.bodies.left != 1<<20 {
		t.Errorf("%d bytes of the budget are left", p.bodies.left)
	}
}
