// A service that acts once, whatever comes again: its work is a line in a ledger, and the message's id is in the same line, so that both are there
// or neither. (With a database: in the same transaction, as ../../python/service.py.) And it publishes what came of it: go run . PORT LEDGER TOPIC
package main

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
)

func main() {
	port, ledger, topic := os.Args[1], os.Args[2], os.Args[3]
	door := "http://" + cmp.Or(os.Getenv("KPUSH_API_ADDR"), "127.0.0.1:9401") + "/topics/" + topic
	file, err := os.OpenFile(ledger, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		log.Fatal(err)
	}
	before, err := io.ReadAll(file)
	if err != nil {
		log.Fatal(err)
	}
	var mu sync.Mutex
	done := map[string]bool{}
	for line := range strings.Lines(string(before)) {
		done[strings.Fields(line)[0]] = true
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:"+port, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		total, err := io.ReadAll(r.Body)
		id, customer := r.Header.Get("Kafka-Message-Id"), "-" // a message may have no key
		if key := r.Header.Values("Kafka-Key"); len(key) > 0 {
			customer = key[0]
		}
		if r.Header.Get("Kafka-Key-Encoding") == "base64" { // what is not visible ASCII
			bytes, _ := base64.StdEncoding.DecodeString(customer) // kpush has written it
			customer = string(bytes)
		}
		mu.Lock()
		if err == nil && !done[id] {
			_, err = fmt.Fprintf(file, "%s %s %s\n", id, customer, total)
			done[id] = err == nil
		}
		mu.Unlock()
		if err == nil {
			err = publish(door, r.Header, id, "invoice of "+string(total))
		}
		if err != nil {
			log.Print(err)
			http.Error(w, err.Error(), http.StatusServiceUnavailable) // again
		}
	})))
}

// publish takes the id along, for whoever reads it has the same question, and the key as it came.
func publish(door string, came http.Header, id, value string) error {
	r, err := http.NewRequest("POST", door, strings.NewReader(value))
	if err != nil {
		return err
	}
	for _, name := range []string{"Kafka-Key", "Kafka-Key-Encoding"} {
		if value, there := came[name]; there {
			r.Header[name] = value
		}
	}
	r.Header.Set("Kafka-Header-Order", id)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if said, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s %w", answer.Status, said, err)
	}
	return nil
}
