package publisher

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kpush/kpush/kafka"
	"github.com/kpush/kpush/publisher/spool"
)

// spooling gives a door a spool.
func spooling(t *testing.T, f *fake, p *Publisher, dir string, limit int64) *spool.Spool {
	t.Helper()
	s, err := spool.Open(spool.Options{Dir: dir, Limit: limit, Buffer: 1 << 20, Producer: f, Came: p.Spooled, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	p.Spool(s)
	return s
}

// What is asked with async is answered when it is on the volume, and comes out as it went in.
func TestSpooledAnswers(t *testing.T) {
	f := &fake{}
	p := newTest(f)
	s := spooling(t, f, p, t.TempDir(), 100<<10)
	const records = "Content-Type: application/vnd.kafka.text.v2+json"
	for _, row := range []struct {
		request, headers, body string
		code                   int
		holds                  string
	}{
		{"POST /topics/orders?async=true&key=k", "Kafka-Header-A: b|Kafka-Timestamp: 7", "v", 202, `{"queued":true,"durable":true}`},
		{"POST /topics/orders", "Prefer: respond-async|Kafka-Tombstone: true", "", 202, `{"queued":true,"durable":true}`},
		{"POST /topics/orders?partition=2", "", "waited for", 200, `"offset":`},
		{"POST /topics/orders?async=true", records, `{"records":[{"key":"k","value":"1"},{"value":"2","partition":1}]}`, 202, `{"queued":true,"durable":true}`},
		{"POST /topics/orders?async=true", records, `{"records":[{"value":"3"},{"value":"4","partition":9}]}`, 207, `{"offsets":[{"queued":true},{"error":"the topic has no such partition","error_code":40402,"retriable":false}]}`},
		{"POST /topics/orders?async=true", records, `{"records":[{"value":"5","partition":9}]}`, 404, `"error_code":40402`},
		{"POST /topics/orders?async=true&partition=3", "", "v", 404, `"error_code":40402`},
		{"POST /topics/nothing?async=true", "", "v", 404, `"error_code":40401`},
		{"POST /topics/orders?async=true", "", strings.Repeat("x", 101<<10), 413, `the record is larger`},
	} {
		if w := ask(p, row.request, row.headers, row.body); w.Code != row.code || !strings.Contains(w.Body.String(), row.holds) {
			t.Errorf("%s %.40s: %d %s", row.request, row.body, w.Code, w.Body)
		}
	}
	s.Drain(t.Context())
	got := map[string]bool{}
	f.mu.Lock()
	for _, r := range f.got {
		if r.Timestamp > 1e12 {
			r.Timestamp = 1 // that of its 202
		}
		got[fmt.Sprintf("%d %d %s", r.Partition, r.Timestamp, shown(r))] = true
	}
	f.mu.Unlock()
	for _, want := range []string{`-1 7 ` + shown(kafka.Record{Topic: "orders", Partition: -1, Timestamp: 7, Key: []byte("k"), Value: []byte("v"), Headers: []kafka.Header{{Name: "a", Value: []byte("b")}}}),
		`-1 1 ` + shown(kafka.Record{Topic: "orders", Partition: -1, Timestamp: 1}), `1 1 ` + shown(kafka.Record{Topic: "orders", Partition: 1, Timestamp: 1, Value: []byte("2")})} {
		if !got[want] {
			t.Errorf("%s is not among %v", want, got)
		}
	}
	if c := p.Counts(); c.Sent != 6 || c.Spooled != 0 || len(got) != 6 {
		t.Errorf("%+v, %d came", c, len(got))
	}
}

// A spool that is full says so, and when to come again; one whose records wait says why, and a stop loses none of them and is no error. A
// topic of a life before is taken without a broker.
func TestSpoolThatFills(t *testing.T) {
	f := &fake{answer: func(kafka.Record) (kafka.Produced, error) { return kafka.Produced{}, kafka.ErrNoBroker }}
	dir, p, taken := t.TempDir(), newTest(f), 0
	spooling(t, f, p, dir, 100<<10)
	for ; ; taken++ {
		w := ask(p, "POST /topics/orders?async=true&key=k", "", strings.Repeat("x", 10<<10))
		if w.Code == 429 && w.Header().Get("Retry-After") == "1" && strings.Contains(w.Body.String(), "the spool is full: it has ") && taken >= 7 {
			break
		}
		if w.Code != 202 {
			t.Fatalf("%d: %d %s", taken, w.Code, w.Body)
		}
	}
	if n := p.Counts().Spooled; n != int64(taken) {
		t.Errorf("%d are in the spool, %d were taken", n, taken)
	}
	begin := time.Now()
	if err := p.Close(t.Context()); err != nil || time.Since(begin) > 5*time.Second {
		t.Errorf("the stop: %v after %v", err, time.Since(begin))
	}
	f = &fake{dead: true}
	p = newTest(f)
	s := spooling(t, f, p, dir, 200<<10)
	begin = time.Now()
	if w := ask(p, "POST /topics/orders?async=true&partition=2", "", "v"); w.Code != 202 || time.Since(begin) > time.Second {
		t.Errorf("without a broker: %d %s after %v", w.Code, w.Body, time.Since(begin))
	}
	if w := ask(p, "POST /topics/orders?async=true&partition=3", "", "v"); w.Code != 503 {
		t.Errorf("a partition that there was not, without a broker: %d %s", w.Code, w.Body)
	}
	if w := ask(p, "POST /topics/billing-x?async=true", "", "v"); w.Code != 503 {
		t.Errorf("a topic that nobody knows, without a broker: %d %s", w.Code, w.Body)
	}
	s.Drain(t.Context())
	if len(f.got) != taken+1 {
		t.Errorf("%d came, %d were taken", len(f.got), taken+1)
	}
}

// Whether a topic lacks a partition is what Kafka has said in the last ten seconds; who asks does not wait for it.
func TestLacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		p := newTest(f)
		lacks := func(topic string, partition int32) bool {
			p.Lacks(topic, partition)
			synctest.Wait()
			return p.Lacks(topic, partition)
		}
		for _, row := range []struct {
			topic     string
			partition int32
			want      bool
		}{{"orders", 2, false}, {"orders", 3, true}, {"nothing", 0, false}, {"billing-secret", 0, false}} {
			if p.Lacks(row.topic, row.partition) && row.topic != "orders" || lacks(row.topic, row.partition) != row.want {
				t.Errorf("%s/%d is lacking: %t", row.topic, row.partition, !row.want)
			}
		}
		time.Sleep(freshTime + time.Second)
		f.mu.Lock()
		f.dead = true
		f.mu.Unlock()
		if lacks("orders", 3) {
			t.Error("of a Kafka that says nothing")
		}
		time.Sleep(askTime)
	})
}
