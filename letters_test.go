package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kpush/kpush/forwarder"
	"github.com/kpush/kpush/forwarder/push"
	"github.com/kpush/kpush/kafka"
)

// writer produces with the rig's client.
type writer struct {
	kafka.Producer // of which nothing else is asked
	client         *kgo.Client
}

func (w writer) Produce(ctx context.Context, r kafka.Record) (kafka.Produced, error) {
	record := &kgo.Record{Topic: r.Topic, Partition: max(0, r.Partition), Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		record.Headers = append(record.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
	}
	err := w.client.ProduceSync(ctx, record).FirstErr()
	at := kafka.Position{Partition: kafka.Partition{Topic: r.Topic, Number: record.Partition}, Offset: record.Offset}
	return kafka.Produced{Position: at}, err
}

// refusing is a Handler that takes what was sent back, and nothing else.
type refusing struct{}

func (refusing) Push(a *push.Attempt) push.Verdict {
	for _, h := range a.Items[0].Headers {
		if h.Name == "kpush-dlq-redrives" {
			return push.Verdict{Class: push.Delivered}
		}
	}
	return push.Verdict{Class: push.MessageFault, Status: 422, Reason: "the service answered 422"}
}

// The client commits for a topic that it does not consume, and another life on another volume goes on there.
func TestLettersGoBackOverTheClient(t *testing.T) {
	r := newRealRig(t)
	if _, err := r.admin.CreateTopic(t.Context(), 2, 1, nil, "dead"); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		r.produce(&kgo.Record{Topic: "orders", Key: fmt.Append(nil, i), Value: []byte("v")})
	}
	cfg := r.config()
	cfg.forward.DeadLetterTopic, cfg.forward.RedriveMax, cfg.forward.RetryNums = "dead", 3, 1
	done := func(n int64) func(*forwarder.Forwarder) bool {
		return func(f *forwarder.Forwarder) bool {
			return f.Counts().Topics["orders"].Done["dead_lettered"]+f.Counts().Topics["orders"].Done["delivered"] >= n
		}
	}
	redriven := func(limit int, want forwarder.Redriven) func(*forwarder.Forwarder) bool {
		return func(f *forwarder.Forwarder) bool {
			got, err := f.Redrive(t.Context(), "op", limit)
			if err != nil && (strings.Contains(err.Error(), forwarder.ErrNotOurs.Error()) || strings.Contains(err.Error(), forwarder.ErrMoves.Error())) {
				time.Sleep(10 * time.Millisecond)
				return false // it has not begun
			}
			if err != nil || got != want {
				t.Errorf("a redrive of %d comes to %+v, %v; want %+v", limit, got, err, want)
			}
			return true
		}
	}
	r.life(cfg, refusing{}, done(5))
	r.life(cfg, refusing{}, redriven(2, forwarder.Redriven{Sent: 2, Left: 3}))
	r.dir = t.TempDir()
	cfg.forward.SkipLog = r.dir + "/skipped.jsonl"
	r.life(cfg, refusing{}, redriven(9, forwarder.Redriven{Sent: 3}))
	r.life(cfg, refusing{}, redriven(9, forwarder.Redriven{}))
	r.life(cfg, refusing{}, func(*forwarder.Forwarder) bool { return r.committed()[0].At == 10 })
	got, err := r.admin.FetchOffsets(t.Context(), "shop")
	if err != nil || got["dead"][0].Offset.At != 5 || !strings.HasPrefix(got["dead"][0].Metadata, "kpush-redrive ") {
		t.Errorf("the group's commit for the dead letters is %+v, %v", got["dead"], err)
	}
}
