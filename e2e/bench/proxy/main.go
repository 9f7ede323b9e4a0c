// Command proxy is a REST proxy as one writes it in an afternoon: net/http, the records format of Confluent's REST API v2, and franz-go.
// It bounds nothing, looks at no topic, and knows one way to fail. It listens on a free port of loopback and prints the port. Without
// KPUSH_BROKERS it answers at once: what a process in between costs by its being one.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/twmb/franz-go/pkg/kgo"
)

// request is its body; []byte is base64 in JSON.
type request struct {
	Records []struct {
		Key   []byte `json:"key"`
		Value []byte `json:"value"`
	} `json:"records"`
}

type answer struct {
	Offsets []place `json:"offsets"`
}

type place struct {
	Partition int32 `json:"partition"`
	Offset    int64 `json:"offset"`
}

func main() {
	produce := nowhere
	if brokers := os.Getenv("KPUSH_BROKERS"); brokers != "" {
		client, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0),
			kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
		if err != nil {
			log.Fatalf("No producer for %s: %v", brokers, err)
		}
		produce = client.ProduceSync
	}
	http.HandleFunc("POST /topics/{topic}", func(w http.ResponseWriter, r *http.Request) {
		var body request
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), 422)
			return
		}
		var records []*kgo.Record
		for _, one := range body.Records {
			records = append(records, &kgo.Record{Topic: r.PathValue("topic"), Key: one.Key, Value: one.Value})
		}
		var a answer
		for _, result := range produce(r.Context(), records...) {
			if result.Err != nil {
				http.Error(w, result.Err.Error(), 500)
				return
			}
			a.Offsets = append(a.Offsets, place{result.Record.Partition, result.Record.Offset})
		}
		w.Header().Set("Content-Type", "application/vnd.kafka.v2+json")
		_ = json.NewEncoder(w).Encode(a) // an error here means that the caller has gone
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatalf("The proxy cannot listen: %v", err)
	}
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	log.Fatal(http.Serve(l, nil))
}

func nowhere(_ context.Context, records ...*kgo.Record) (all kgo.ProduceResults) {
	for _, r := range records {
		all = append(all, kgo.ProduceResult{Record: r})
	}
	return all
}
