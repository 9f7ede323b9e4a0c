package spool

import (
	"encoding/json"
	"time"
	"unicode/utf8"

	"github.com/kpush/kpush/kafka"
)

// line is a record that Kafka does not take. Bytes are base64; records is a body that the door takes as
// application/vnd.kafka.binary.v2+json.
type line struct {
	Time      time.Time    `json:"time"`
	Topic     string       `json:"topic"`
	Reason    string       `json:"reason"`
	ValueText string       `json:"value_text,omitempty"`
	Records   []binaryForm `json:"records"`
}

type binaryForm struct {
	Key       []byte       `json:"key"`
	Value     []byte       `json:"value"`
	Partition *int32       `json:"partition,omitempty"`
	Timestamp int64        `json:"timestamp"`
	Headers   []headerForm `json:"headers"`
}

type headerForm struct {
	Key   string `json:"key"`
	Value []byte `json:"value"`
}

func lineOf(r kafka.Record, reason string) ([]byte, error) {
	l := line{Time: time.Now().UTC(), Topic: r.Topic, Reason: reason}
	if utf8.Valid(r.Value) {
		l.ValueText = string(r.Value)
	}
	form := binaryForm{Key: r.Key, Value: r.Value, Timestamp: r.Timestamp, Headers: []headerForm{}}
	if r.Partition >= 0 {
		form.Partition = &r.Partition
	}
	for _, h := range r.Headers {
		form.Headers = append(form.Headers, headerForm{h.Name, h.Value})
	}
	l.Records = []binaryForm{form}
	text, err := json.Marshal(l)
	return append(text, '\n'), err
}

// bury puts what Kafka refuses also when it is given alone into a file. It is there before it is done: it may be there twice after a crash.
func (q *queue) bury(segments []*segment, end int64) error {
	if q.suspects == 0 {
		return nil
	}
	s := q.spool
	for _, e := range q.entries {
		if e.refused < refusedMost || e.done || e.sent {
			continue
		}
		f, err := q.read(segments, e.position, end)
		if err != nil {
			return err
		}
		r, err := f.decode(q.topic)
		if err != nil {
			return err
		}
		text, err := lineOf(r, e.err.Error())
		if err != nil {
			return err
		}
		if err := s.disk.Append(refusedName, text); err != nil {
			return err
		}
		s.refused.Add(int64(len(text)))
		q.finish(e)
		if q.untold++; time.Since(q.told) > time.Minute {
			s.o.Log.Error("Kafka refuses records that were answered with 202: they are kept in refused.jsonl", "topic", q.topic, "records", q.untold, "error", e.err)
			q.told, q.untold = time.Now(), 0
		}
	}
	return nil
}
