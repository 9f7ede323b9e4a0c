package librdkafka

import (
	"testing"
	"time"

	client "github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// A record without a timestamp is told from one of the first millisecond of 1970.
func TestTimestampOfARecord(t *testing.T) {
	topic := "t"
	for _, row := range []struct {
		kind client.TimestampType
		at   time.Time
		want int64
	}{
		{client.TimestampNotAvailable, time.Time{}, -1},
		{client.TimestampCreateTime, time.UnixMilli(-1), -1}, // as the log has it
		{client.TimestampCreateTime, time.UnixMilli(0), 0},
		{client.TimestampCreateTime, time.UnixMilli(1795000000007), 1795000000007},
		{client.TimestampLogAppendTime, time.UnixMilli(1795000000008), 1795000000008},
	} {
		m := message(&client.Message{TopicPartition: client.TopicPartition{Topic: &topic}, TimestampType: row.kind, Timestamp: row.at})
		if m.Timestamp != row.want {
			t.Errorf("%v %v became %d, want %d", row.kind, row.at, m.Timestamp, row.want)
		}
	}
}
