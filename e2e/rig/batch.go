package rig

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// member is what a Request has to do with others of the same batch.
type member struct {
	Batch int   // numbers the batches; 0: the request held this message alone
	Named bool  // named in batchItemFailures, or told to be tried again
	last  int64 // the highest offset of its batch
}

// envelope is a message in a batch, as kpush writes it.
type envelope struct {
	ID        string          `json:"id"`
	Topic     string          `json:"topic"`
	Partition int32           `json:"partition"`
	Offset    int64           `json:"offset"`
	Timestamp int64           `json:"timestamp"`
	Attempt   int             `json:"attempt"`
	InDoubt   bool            `json:"inDoubt"`
	Replay    bool            `json:"replay"`
	Key       *string         `json:"key"`
	KeyBase64 []byte          `json:"keyBase64"`
	Headers   [][2]*string    `json:"headers"`
	Value     json.RawMessage `json:"value"`
	Encoding  string          `json:"encoding"`
}

// serveBatch takes a batch apart: each message is a request of its own in the log. The rule is asked for each; those with
// Action.Named go into batchItemFailures, and what else it says of any of them is done to all, after the longest delay.
func (s *Service) serveBatch(w http.ResponseWriter, h *http.Request) {
	text, err := io.ReadAll(h.Body)
	if err != nil {
		return // the batch has not arrived
	}
	parse := parseBatch
	if h.Header.Get("Content-Type") == eventsType {
		parse = parseEvents
	}
	all := parse(h, text)
	if len(all) == 0 {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.batches++
	for _, r := range all {
		r.Batch = s.batches
		if s.done[r.position()] {
			s.repeats++
		}
	}
	s.requests = append(s.requests, all...)
	s.open++
	s.load.change(1, time.Now())
	rule := s.rule
	s.mu.Unlock()

	action := together(all, rule)
	status, done := action.perform(w, h, &Request{}, sync.OnceFunc(func() { s.end(all...) }))

	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range all {
		s.note(r, status, done)
	}
	s.open--
}

// together is what the rule says of a batch.
func together(all []*Request, rule func(*Request) Action) Action {
	var whole Action
	var named []string
	for _, r := range all {
		a := follow(rule, r)
		if r.Named = a.Named; a.Named {
			named = append(named, fmt.Sprintf(`{"itemIdentifier":%q}`, r.ID))
		}
		delay := max(whole.Delay, a.Delay)
		if whole.Status == 0 && whole.Break == Respond && !a.Named {
			whole = a
		}
		whole.Delay = delay
	}
	if len(named) > 0 && whole.Body == "" {
		whole.Body = `{"batchItemFailures":[` + strings.Join(named, ",") + `]}`
	}
	return whole
}

func parseBatch(h *http.Request, text []byte) (all []*Request) {
	start := time.Now()
	var envelopes []envelope
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(&envelopes)
	last := int64(-1)
	for _, e := range envelopes {
		last = max(last, e.Offset)
	}
	for _, e := range envelopes {
		r := newRequest(h, start)
		r.ID, r.Topic, r.Partition, r.Offset, r.Attempt, r.InDoubt, r.Replay = e.ID, e.Topic, e.Partition, e.Offset, e.Attempt, e.InDoubt, e.Replay
		r.Key, r.Exact, r.last = e.KeyBase64, true, last
		if err != nil {
			r.wrong("the batch is malformed: %v", err)
		}
		if e.Key != nil {
			r.Key = []byte(*e.Key)
		}
		if h.Header.Get("Kafka-Batch") != fmt.Sprint(len(envelopes)) || h.Header.Get("Kafka-Topic") != e.Topic || h.Header.Get("Kafka-Partition") != fmt.Sprint(e.Partition) {
			r.wrong("the headers of the batch are %v", h.Header)
		}
		r.pairs(e.Headers)
		body := r.value(e)
		r.Tombstone = body == nil
		r.keep(body)
		all = append(all, r)
	}
	return all
}

// value is the message's value, nil of a tombstone.
func (r *Request) value(e envelope) (body []byte) {
	var text string
	switch e.Encoding {
	case "":
		if string(e.Value) != "null" {
			r.wrong("the value has no encoding")
		}
		return nil
	case "json":
		return e.Value
	}
	err := json.Unmarshal(e.Value, &text)
	if body = []byte(text); err == nil && e.Encoding == "base64" {
		body, err = base64.StdEncoding.DecodeString(text)
	} else if e.Encoding != "text" {
		r.wrong("the encoding is %q", e.Encoding)
	}
	if err != nil {
		r.wrong("the value is no %s: %v", e.Encoding, err)
	}
	return append([]byte{}, body...)
}
