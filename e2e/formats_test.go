package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kpush/kpush/e2e/rig"
)

// kinds are records of which some are events in Kafka's binding, in either mode, and what of each an event is about.
func kinds(count int) (records, about []rig.Record) {
	records = mixed(count)
	for i := range records {
		r := &records[i]
		add := func(name, value string) { r.Headers = append(r.Headers, rig.Header{Name: name, Value: []byte(value)}) }
		of := *r
		switch i % 10 {
		case 0:
			add("content-type", "application/json")
			of.Headers = r.Headers
		case 7:
			r.Headers = nil
			for name, value := range map[string]string{"specversion": "1.0", "id": fmt.Sprint("e-", i), "source": "/shop", "type": "order.placed", "subject": "Bücher, 100%", "partitionkey": "p"} {
				add("ce_"+name, value)
			}
			add("content-type", "application/json; charset=utf-8")
			of.Headers = r.Headers
		case 8:
			r.Headers = nil
			add("content-type", "application/cloudevents+json")
			of.Headers = r.Headers
			r.Value = fmt.Appendf(nil, `{"specversion":"1.0","id":"e-%d","source":"/shop","type":"order.placed","number":5,"data":%s}`, i, r.Value)
			of.Value = bytes.Clone(of.Value)
		}
		about = append(about, of)
	}
	return records, about
}

// TestFormats: in each format, alone and in batches, every record arrives once, in its order and as it was, through failures and a kill -9.
func TestFormats(t *testing.T) {
	t.Parallel()
	const count = 2_000
	for _, row := range []struct{ format, ack, batch string }{{"json", "status", "1"}, {"cloudevents", "status", "1"}, {"cloudevents-structured", "dapr", "1"}, {"cloudevents-structured", "dapr", "50"}} {
		t.Run(row.format+" "+row.batch, func(t *testing.T) {
			t.Parallel()
			k, svc := kafka(t), service(t)
			svc.JSON = row.format == "json"
			fault, bound := rig.Action{Status: 500}, concurrency
			if row.ack == "dapr" {
				fault = rig.Action{Named: true}
			}
			if row.batch != "1" {
				bound *= 50
			}
			svc.Rule(rig.Every(10, fault, rig.Every(97, rig.Action{Break: rig.AfterRead}, rig.Slow(2*time.Millisecond))))
			topic := k.Topic(t, 4)
			records, about := kinds(count)
			produced := k.Produce(t, topic, records...)
			for i := range produced {
				if !svc.JSON {
					produced[i].Value = about[i].Value
				}
			}
			sc := sidecar(t, k, topic, svc, "KPUSH_FORMAT="+row.format, "KPUSH_ACK="+row.ack, "KPUSH_BATCH_SIZE="+row.batch, "KPUSH_RETRY_INTERVAL=10ms")
			svc.Await(t, count/3, patience)
			sc.Kill()
			svc.Orphaned(t)
			sc.Start(t)
			svc.Await(t, count, patience)
			sc.Shut(t, 10*time.Second)
			svc.Judge(produced).Kept(t, bound)
			committedIsEnd(t, k, topic)
		})
	}
}

// TestWhatDaprsSubscribersSay: an app that was written for Dapr drops what it does not want, and has the rest again as often as it says so.
func TestWhatDaprsSubscribersSay(t *testing.T) {
	t.Parallel()
	const count = 100
	k, svc := kafka(t), service(t)
	svc.Rule(func(r *rig.Request) rig.Action {
		switch {
		case r.Offset%10 == 3:
			return rig.Action{Body: `{"status":"DROP"}`}
		case r.Offset%10 == 7 && r.Attempt < 3:
			return rig.Action{Body: `{"status":"RETRY"}`}
		case r.Offset%2 == 0:
			return rig.Action{Body: `{"status":"SUCCESS"}`}
		}
		return rig.Action{}
	})
	topic, dir := k.Topic(t, 1), t.TempDir()
	k.Produce(t, topic, keyed(count)...)
	sc := rig.StartSidecarOn(t, dir, wiring(k, topic, svc, "KPUSH_FORMAT=cloudevents-structured", "KPUSH_ACK=dapr", "KPUSH_CONTENT_TYPE=application/json", "KPUSH_RETRY_INTERVAL=10ms")...)
	noLag(t, k, topic)
	sc.Shut(t, 10*time.Second)
	committedIsEnd(t, k, topic)
	log, err := os.ReadFile(filepath.Join(dir, "skipped.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if dropped := strings.Count(string(log), "\n"); dropped != count/10 || svc.Attempts() != count+2*count/10 {
		t.Errorf("Of %d messages %d were dropped, after %d requests.", count, dropped, svc.Attempts())
	}
}
