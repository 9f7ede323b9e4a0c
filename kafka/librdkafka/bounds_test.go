package librdkafka

import (
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kpush/kpush/kafka"
)

// A partition that its topic does not have any more leaves out only itself, whoever led it; of one without records no newest is told.
func TestBoundsBesideAPartitionThatIsGone(t *testing.T) {
	r := newRealRig(t)
	c, err := NewCluster(r.config())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	at := func(number int32) kafka.Partition { return kafka.Partition{Topic: "orders", Number: number} }
	if topics, err := c.Topics(t.Context(), []string{"orders"}, kafka.Read); err != nil || topics["orders"].Partitions != 3 {
		t.Fatal(topics, err)
	}
	c.leaders[at(7)] = c.leaders[at(1)]
	newest := time.UnixMilli(1795000000000)
	r.produce(&kgo.Record{Topic: "orders", Partition: 1, Timestamp: newest}, &kgo.Record{Topic: "orders", Partition: 1, Timestamp: newest.Add(-time.Second)})
	got, err := c.Bounds(t.Context(), []kafka.Partition{at(1), at(7)})
	if len(got) != 1 || got[at(1)] != (kafka.Bounds{End: 2, High: 2}) || !errors.Is(err, kafka.ErrNoTopic) {
		t.Errorf("%v, %v", got, err)
	}
	if times, err := c.Newest(t.Context(), []kafka.Partition{at(0), at(1)}); err != nil || len(times) != 1 || !times[at(1)].Equal(newest) {
		t.Errorf("%v, %v", times, err)
	}
}
