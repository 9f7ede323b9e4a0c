package spool

import (
	"encoding/json"
	"time"
)

// refusedName is the file of what Kafka does not take, beside the topics.
const refusedName = "refused.jsonl"

// refused is a line of it. The door takes it again as application/vnd.kafka.binary.v2+json.
type refused struct {
	Time    time.Time         `json:"time"`
	Topic   string            `json:"topic"`
	Reason  string            `json:"reason"`
	Records []json.RawMessage `json:"records"`
}

// bury puts what Kafka refuses also when it is given alone into a file. It is there before it is done: it may be there twice after a crash.
func (q *queue) bury(segments []*segment, end int64) error {
	for _, e := range q.entries {
		if q.suspects == 0 {
			break
		}
		if e.refused < refusedMost || e.done || e.sent {
			continue
		}
		f, err := q.read(segments, e.position, end)
		if err != nil {
			return err
		}
		line, err := json.Marshal(refused{time.Now().UTC(), q.topic, e.err.Error(), []json.RawMessage{f.text}})
		if err == nil {
			err = q.spool.disk.Append(refusedName, append(line, '\n'))
		}
		if err != nil {
			return err
		}
		q.finish(e)
		n := q.spool.refused.Add(1)
		if now, told := time.Now().UnixNano(), q.spool.told.Load(); now-told > int64(time.Minute) && q.spool.told.CompareAndSwap(told, now) {
			q.spool.o.Log.Error("Kafka refuses records that were answered with 202: they are kept in refused.jsonl", "topic", q.topic, "since_the_start", n, "error", e.err)
		}
	}
	return nil
}
