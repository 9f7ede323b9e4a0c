package librdkafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	client "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/kpush/kpush/kafka"
)

// lateTime is how much later than the first one a leader may answer.
const lateTime = 250 * time.Millisecond

var errLate = errors.New("its leader does not answer")

// Bounds asks each leader by itself: librdkafka answers for all partitions of a question at once, when the slowest broker
// has answered or given up, and for none where one of them has no leader. The caller ends ctx, and with it what is late.
func (a *Cluster) Bounds(ctx context.Context, tps []kafka.Partition) (map[kafka.Partition]kafka.Bounds, error) {
	byLeader := map[int][]kafka.Partition{}
	a.mu.Lock()
	for _, t := range tps {
		leader, known := a.leaders[t]
		if !known {
			leader = -1
		}
		byLeader[leader] = append(byLeader[leader], t)
	}
	a.mu.Unlock()
	type answer struct {
		found map[kafka.Partition]kafka.Bounds
		err   error
	}
	answers := make(chan answer, len(byLeader))
	for _, led := range byLeader {
		go func() {
			found, err := a.boundsOf(ctx, led)
			answers <- answer{found, err}
		}()
	}
	var errs []error
	var late <-chan time.Time
	out := make(map[kafka.Partition]kafka.Bounds, len(tps))
	for range byLeader {
		select {
		case got := <-answers:
			maps.Copy(out, got.found)
			errs = append(errs, got.err)
			if late == nil && got.err == nil {
				late = time.After(lateTime)
			}
		case <-late:
			return out, errors.Join(append(errs, errLate)...)
		}
	}
	return out, errors.Join(errs...)
}

// boundsOf is Bounds for partitions that one broker leads. One that is gone leaves out only itself.
func (a *Cluster) boundsOf(ctx context.Context, tps []kafka.Partition) (map[kafka.Partition]kafka.Bounds, error) {
	var errs []error
	ask := func(spec client.OffsetSpec, isolation client.IsolationLevel) map[kafka.Partition]int64 {
		if len(tps) == 0 {
			return nil
		}
		found, err := offsetsOf(a.listOffsets(ctx, tps, spec, isolation))
		errs = append(errs, err)
		tps = slices.Collect(maps.Keys(found)) // of the others it is no use to ask more
		return found
	}
	oldest := ask(client.EarliestOffsetSpec, a.isolation)
	ends := ask(client.LatestOffsetSpec, a.isolation)
	highs := ends
	if a.isolation != client.IsolationLevelReadUncommitted {
		highs = ask(client.LatestOffsetSpec, client.IsolationLevelReadUncommitted)
	}
	out := make(map[kafka.Partition]kafka.Bounds, len(highs))
	for t, high := range highs {
		out[t] = kafka.Bounds{Oldest: oldest[t], End: ends[t], High: high}
	}
	return out, errors.Join(errs...)
}

// Since asks all leaders at once.
func (a *Cluster) Since(ctx context.Context, tps []kafka.Partition, when time.Time) (map[kafka.Partition]int64, error) {
	return offsetsOf(a.listOffsets(ctx, tps, client.NewOffsetSpecForTimestamp(when.UnixMilli()), a.isolation))
}

// Newest needs brokers of Kafka 3.0 or later.
func (a *Cluster) Newest(ctx context.Context, tps []kafka.Partition) (map[kafka.Partition]time.Time, error) {
	if len(tps) == 0 {
		return nil, nil
	}
	found, err := a.listOffsets(ctx, tps, client.MaxTimestampOffsetSpec, client.IsolationLevelReadUncommitted)
	out := make(map[kafka.Partition]time.Time, len(found))
	for t, r := range found {
		if r.Timestamp >= 0 {
			out[t] = time.UnixMilli(r.Timestamp)
		}
	}
	return out, err
}

func offsetsOf(found map[kafka.Partition]client.ListOffsetsResultInfo, err error) (map[kafka.Partition]int64, error) {
	out := make(map[kafka.Partition]int64, len(found))
	for t, r := range found {
		out[t] = int64(r.Offset)
	}
	return out, err
}

// listOffsets are what was learned, also beside an error.
func (a *Cluster) listOffsets(ctx context.Context, tps []kafka.Partition, spec client.OffsetSpec, isolation client.IsolationLevel) (map[kafka.Partition]client.ListOffsetsResultInfo, error) {
	ask := make(map[client.TopicPartition]client.OffsetSpec, len(tps))
	for _, p := range toKafka(tps) {
		ask[p] = spec
	}
	var got client.ListOffsetsResult
	if err := a.ask(func(c *client.AdminClient) (err error) {
		got, err = c.ListOffsets(ctx, ask, client.SetAdminRequestTimeout(kafka.QuestionTime), client.SetAdminIsolationLevel(isolation))
		return err
	}); err != nil {
		return nil, fmt.Errorf("%v: %w", tps, err)
	}
	var errs []error
	out := make(map[kafka.Partition]client.ListOffsetsResultInfo, len(tps))
	for p, r := range got.ResultInfos {
		t := kafka.Partition{Topic: *p.Topic, Number: p.Partition}
		if r.Error.Code() != client.ErrNoError {
			errs = append(errs, fmt.Errorf("%s: %w", t, translate(r.Error)))
			continue
		}
		out[t] = r
	}
	return out, errors.Join(errs...)
}
