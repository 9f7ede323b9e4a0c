package push

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/cloudevents/sdk-go/protocol/kafka_sarama/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	sdk "github.com/cloudevents/sdk-go/v2/event"
	ce "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/cloudevents/sdk-go/v2/types"

	"github.com/kpush/kpush/kafka"
)

// The official SDK is the oracle: what it writes to Kafka, kpush sends, and it reads again over HTTP, is the same event.

// recordOf is the record that the SDK makes of an event, in either mode of Kafka's binding.
func recordOf(t *testing.T, e sdk.Event, structured bool) kafka.Message {
	t.Helper()
	ctx := binding.WithForceBinary(context.Background())
	if structured {
		ctx = binding.WithForceStructured(context.Background())
	}
	var p sarama.ProducerMessage
	if err := kafka_sarama.WriteProducerMessage(ctx, binding.ToMessage(&e), &p); err != nil {
		t.Fatal(err)
	}
	m := kafka.Message{Partition: kafka.Partition{Topic: "t"}}
	for _, h := range p.Headers {
		m.Headers = append(m.Headers, kafka.Header{Name: string(h.Key), Value: h.Value})
	}
	for _, part := range []struct {
		to   *[]byte
		from sarama.Encoder
	}{{&m.Key, p.Key}, {&m.Value, p.Value}} {
		if part.from != nil {
			var err error
			if *part.to, err = part.from.Encode(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return m
}

// receiver is a service that reads events with the SDK. That leaves a line percent-encoded, against the binding: it is decoded before.
func receiver(t *testing.T) (url string, received chan []sdk.Event) {
	t.Helper()
	received = make(chan []sdk.Event, 1)
	far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, values := range r.Header {
			if strings.HasPrefix(name, "Ce-") {
				values[0] = decoded(t, values[0])
			}
		}
		var events []sdk.Event
		var err error
		if ce.IsHTTPBatch(r.Header) {
			events, err = ce.NewEventsFromHTTPRequest(r)
		} else {
			var e *sdk.Event
			if e, err = ce.NewEventFromHTTPRequest(r); err == nil {
				events = []sdk.Event{*e}
			}
		}
		if err != nil {
			t.Errorf("the SDK cannot read it: %v; %v", err, r.Header)
		}
		received <- events
	}))
	t.Cleanup(far.Close)
	return far.URL, received
}

// summary is all that an event says, but for what a batch adds, and for the type of data that is not there: a request has one in any case.
func summary(t *testing.T, e sdk.Event) string {
	t.Helper()
	if err := e.Validate(); err != nil {
		t.Errorf("the SDK does not take it: %v", err)
	}
	var all []string
	for name, value := range e.Extensions() {
		text, err := types.Format(value)
		if err != nil {
			text = fmt.Sprint(value) // a number of JSON
		}
		if !slices.Contains(extensions, name) {
			all = append(all, fmt.Sprintf("%s=%q", name, text))
		}
	}
	slices.Sort(all)
	data := e.Data()
	var compact bytes.Buffer
	if isJSON(e.DataContentType()) && json.Compact(&compact, data) == nil {
		data = compact.Bytes()
	}
	kind := e.DataContentType()
	if e.Data() == nil {
		kind = ""
	}
	return fmt.Sprintf("%s id=%q source=%q type=%q subject=%q schema=%q time=%s kind=%q data=%q %s", e.SpecVersion(), e.ID(), e.Source(), e.Type(), e.Subject(), e.DataSchema(),
		e.Time().UTC().Format(time.RFC3339Nano), kind, data, strings.Join(all, " "))
}

// anyEvent has what events have.
func anyEvent(rng *rand.Rand) sdk.Event {
	words := []string{"a", "Ü ber", `"q"`, "100%", "/x?y=z", "{}", "€\U0001f600", "a,b;c", "%41", "\\"}
	word := func() string { return words[rng.IntN(len(words))] + words[rng.IntN(len(words))] }
	e := sdk.New()
	e.SetID(word())
	e.SetSource("/shop/" + fmt.Sprint(rng.IntN(100)))
	e.SetType(word())
	if rng.IntN(2) == 0 {
		e.SetSubject(word())
	}
	if rng.IntN(2) == 0 {
		e.SetTime(time.Unix(rng.Int64N(4e9), rng.Int64N(1e9)))
	}
	if rng.IntN(4) == 0 {
		e.SetDataSchema("https://schemas.example/order?v=" + fmt.Sprint(rng.IntN(9)))
	}
	for i, value := range []any{word(), rng.Int32(), true, []byte{0xff, byte(rng.IntN(256))}, "\x7e", types.Timestamp{Time: time.Unix(rng.Int64N(4e9), 0)}} {
		if rng.IntN(2) == 0 {
			e.SetExtension(fmt.Sprintf("ext%d", i), value)
		}
	}
	if rng.IntN(2) == 0 {
		e.SetExtension("partitionkey", word())
	}
	var err error
	switch rng.IntN(5) {
	case 0:
		err = e.SetData("application/json", map[string]any{"word": word(), "n": rng.IntN(1000)})
	case 1:
		err = e.SetData("text/plain", word())
	case 2:
		err = e.SetData("application/xml", "<a>"+word()+"</a>")
	case 3:
		err = e.SetData("application/avro", []byte{0xff, 0, byte(rng.IntN(256))})
	}
	if err != nil {
		panic(err)
	}
	return e
}

// An event that the SDK writes to Kafka in either mode arrives over HTTP in either mode as what it was, its partitionkey with it; and the
// SDK's own reader of Kafka says the same of the record.
func TestEventsArriveAsTheSDKWroteThem(t *testing.T) {
	url, received := receiver(t)
	rng := rand.New(rand.NewPCG(5, 6))
	var single []*Service
	for _, format := range []string{"cloudevents", "cloudevents-structured"} {
		cfg := hasty(url)
		cfg.Format, cfg.EventType = format, "kafka.record"
		single = append(single, service(t, cfg))
	}
	cfg := hasty(url)
	cfg.Format, cfg.EventType, cfg.Batch = "cloudevents", "kafka.record", true
	batches := service(t, cfg)
	for range 300 {
		e := anyEvent(rng)
		var items []*Item
		for _, structured := range []bool{false, true} {
			m := recordOf(t, e, structured)
			own, err := binding.ToEvent(context.Background(), kafka_sarama.NewMessage(m.Value, string(last(m.Headers, "content-type", isMediaType)), headerMap(m.Headers)))
			if err != nil {
				t.Fatal(err)
			}
			want := summary(t, *own)
			for _, s := range single {
				if v := try(s, item(m)); v.Class != Delivered {
					t.Fatal(v)
				}
				if got := summary(t, (<-received)[0]); got != want {
					t.Fatalf("in Kafka structured %t, sent as %s:\n%s\nwant\n%s", structured, s.cfg.Format, got, want)
				}
			}
			items = append(items, item(m))
		}
		if v := batches.Push(&Attempt{Items: items, Gate: open{context.Background()}}); v.Class != Delivered {
			t.Fatal(v)
		}
		for i, got := range <-received {
			if got, want := summary(t, got), summary(t, e); got != want {
				t.Fatalf("element %d:\n%s\nwant\n%s", i, got, want)
			}
		}
	}
}

func headerMap(headers []kafka.Header) map[string][]byte {
	all := map[string][]byte{}
	for _, h := range headers {
		all[h.Name] = h.Value
	}
	return all
}

// What kpush makes of other records the SDK takes for events, and writes to Kafka with the key that the record had.
func TestOtherRecordsAreEventsToTheSDK(t *testing.T) {
	url, received := receiver(t)
	for _, format := range []string{"cloudevents", "cloudevents-structured"} {
		cfg := hasty(url)
		cfg.Format, cfg.EventType = format, "com.example.order"
		s := service(t, cfg)
		for offset, row := range []struct{ kind, value string }{{"", "\x00\xff"}, {"application/json", `{"a":1}`}, {"text/plain; charset=utf-8", "grüße"}, {"application/json", "{"}} {
			m := kafka.Message{Partition: kafka.Partition{Topic: "orders", Number: 3}, Offset: int64(offset), Timestamp: 1795000000007, Key: []byte("Bücher 17%"), Value: []byte(row.value)}
			if row.kind != "" {
				m.Headers = []kafka.Header{header("content-type", row.kind)}
			}
			it := item(m)
			it.Cluster = "MkU3OEVBNTcwNTJENDM2Qg"
			if v := try(s, it); v.Class != Delivered {
				t.Fatal(v)
			}
			got := (<-received)[0]
			want := fmt.Sprintf(`1.0 id="orders/3/%d/T" source="kafka://MkU3OEVBNTcwNTJENDM2Qg/orders" type="com.example.order" subject="3/%d" schema="" time=2026-11-18T11:06:40.007Z kind=%q data=%q partitionkey="Bücher 17%%"`,
				offset, offset, cmp.Or(row.kind, "application/octet-stream"), row.value)
			if summary(t, got) != want {
				t.Errorf("%s:\n%s\nwant\n%s", format, summary(t, got), want)
			}
			if back := recordOf(t, got, false); string(back.Key) != "Bücher 17%" || string(back.Value) != row.value {
				t.Errorf("%s: goes back to Kafka as %q %q", format, back.Key, back.Value)
			}
		}
	}
}
