package simulation

import (
	"sort"

	"github.com/kpush/kpush/kafka"
)

// record is one of a partition's log.
type record struct {
	offset int64
	key    string
}

// plog is a partition's log: offsets ascend, with gaps where markers are, or what was compacted.
type plog struct {
	oldest  int64
	next    int64
	records []record
}

// append adds a record behind a gap.
func (l *plog) append(key string, gap int64) record {
	r := record{l.next + gap, key}
	l.records, l.next = append(l.records, r), r.offset+1
	return r
}

// from is the first record at or above an offset.
func (l *plog) from(offset int64) (record, bool) {
	i := sort.Search(len(l.records), func(i int) bool { return l.records[i].offset >= offset })
	if i == len(l.records) {
		return record{}, false
	}
	return l.records[i], true
}

// message is a record as a client hands it over.
func (r record) message(p kafka.Partition, topicID string) *kafka.Message {
	return &kafka.Message{Partition: p, Offset: r.offset, Timestamp: 1, Key: []byte(r.key), Value: []byte(topicID)}
}
