package rig

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	eventType  = "application/cloudevents+json"
	eventsType = "application/cloudevents-batch+json"
)

// unwrap takes the value out of a body: of an envelope, or of an event in JSON, whose data it is. h tells which one it is.
func (r *Request) unwrap(h *http.Request, body []byte) []byte {
	kind, _, _ := strings.Cut(h.Header.Get("Content-Type"), ";")
	switch {
	case strings.EqualFold(kind, eventType):
		return r.event(body).data(r)
	case h.Header.Get("Ce-Specversion") != "":
		for _, name := range []string{"Id", "Source", "Type"} {
			if h.Header.Get("Ce-"+name) == "" {
				r.wrong("the event has no %s: %v", name, h.Header)
			}
		}
	case r.enveloped:
		var e envelope
		if err := json.Unmarshal(body, &e); err != nil || e.ID != r.ID || e.Attempt != r.Attempt || e.InDoubt != r.InDoubt {
			r.wrong("the envelope is %.200s (%v)", body, err)
		}
		return r.value(e)
	}
	return body
}

// event is one in JSON.
type event map[string]json.RawMessage

func (r *Request) event(text []byte) (e event) {
	if err := json.Unmarshal(text, &e); err != nil || e.text("specversion") != "1.0" || e.text("id") == "" || e.text("source") == "" || e.text("type") == "" {
		r.wrong("this is no event: %.200s (%v)", text, err)
	}
	return e
}

// text is an attribute, "" where it is not there.
func (e event) text(name string) string {
	var text string
	if json.Unmarshal(e[name], &text) != nil {
		return string(e[name])
	}
	return text
}

// data is what the event is about, nil where it has none.
func (e event) data(r *Request) []byte {
	switch raw, has := e["data"]; {
	case e["data_base64"] != nil:
		return append([]byte{}, r.base64("data_base64", e.text("data_base64"))...)
	case !has:
		return nil
	case strings.Contains(e.text("datacontenttype"), "json"):
		return raw
	}
	return []byte(e.text("data"))
}

// parseEvents takes a batch of events apart.
func parseEvents(h *http.Request, text []byte) (all []*Request) {
	start := time.Now()
	var elements []json.RawMessage
	bad := json.Unmarshal(text, &elements)
	last := int64(-1)
	for _, element := range elements {
		r := newRequest(h, start)
		if bad != nil || h.Header.Get("Kafka-Batch") != fmt.Sprint(len(elements)) {
			r.wrong("the batch of %d is malformed: %v", len(elements), bad)
		}
		e := r.event(element)
		r.ID, r.Topic = e.text("kafkamessageid"), h.Header.Get("Kafka-Topic")
		parts := strings.Split(r.ID, "/")
		if len(parts) != 4 || parts[0] != r.Topic || parts[1] != h.Header.Get("Kafka-Partition") {
			r.wrong("the id is %q, the headers of the batch are %v", r.ID, h.Header)
			continue
		}
		number := func(text string) int64 {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				r.wrong("%q is no number", text)
			}
			return n
		}
		r.Partition, r.Offset, r.Attempt = int32(number(parts[1])), number(parts[2]), int(number(e.text("kafkaattempt")))
		r.InDoubt, r.Replay = e.text("kafkaindoubt") == "true", e.text("kafkareplay") == "true"
		if e["partitionkey"] != nil {
			r.Key = []byte(e.text("partitionkey"))
		}
		if e["kafkakey"] != nil {
			r.Key = append([]byte{}, r.base64("kafkakey", e.text("kafkakey"))...)
		}
		r.Exact = true
		if e["kafkaheaders"] != nil {
			r.pairsIn(r.base64("kafkaheaders", e.text("kafkaheaders")))
		}
		value := e.data(r)
		r.Tombstone = value == nil
		r.keep(value)
		all, last = append(all, r), max(last, r.Offset)
	}
	for _, r := range all {
		r.last = last
	}
	return all
}
